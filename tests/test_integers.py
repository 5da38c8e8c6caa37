"""From exponents and parameters to the integer graph: rounding of parameters, names, and the proof of accumulators."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_graphs import RELU, SIGNED, Case, GraphBuilder, agree

from onnxdiana import graph, integers, numerics, reference, targets
from onnxdiana.errors import TargetError
from onnxdiana.graph import name_of
from onnxdiana.integers import accumulator_bounds, complete_table, integerize, round_parameters
from onnxdiana.layers import network
from onnxdiana.scales import LayerScale, ScaleTable, TensorScale

# -- rounding of parameters -------------------------------------------------------------------------------------------


def rounded(weight: list[float], bias: float | None, *, shift: int, halves: bool, weight_exponent: int = -4,
            exponent: int = -3) -> tuple[list[int], int]:
    """Weights and bias in codes of a Gemm of one output."""
    build = GraphBuilder(len(weight), exponent=exponent)
    build.gemm("x", "y", np.zeros((1, len(weight))), weight_exponent=weight_exponent, shift=shift)
    case = build.build("y")
    node = case.view.layers[0].node
    graph.set_constant(node.inputs[1], np.array([weight], np.float32))  # type: ignore[arg-type]
    if bias is None:
        node.resize_inputs(2)
    else:
        graph.set_constant(node.inputs[2], np.array([bias], np.float32))  # type: ignore[arg-type]
    own = round_parameters(case.view, case.table, halves=halves)["y"]
    assert (own.weight.dtype, own.bias.dtype) == (np.int8, np.int32)
    return own.weight.reshape(-1).tolist(), int(own.bias.item())


def test_weights_round_half_to_even_and_saturate() -> None:
    steps = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 126.5, 127.5, 200.0, -128.5, -129.0]
    codes, _ = rounded([s / 16 for s in steps], 0.0, shift=0, halves=False)
    assert codes == [0, 2, 2, 0, -2, 0, 126, 127, 127, -128, -128]


@given(st.floats(-2000, 2000, width=32), st.integers(0, 31))
def test_biases_round_at_the_accumulators_exponent_then_get_the_half(bias: float, shift: int) -> None:
    code = round(Fraction(bias) * 2**7)
    assert rounded([1.0], bias, shift=shift, halves=False)[1] == code
    exact = code + (2**(shift - 1) if shift else 0)
    assert rounded([1.0], bias, shift=shift, halves=True)[1] == int(np.float32(exact))


def test_a_layer_without_bias_gets_the_half() -> None:
    assert rounded([1.0], None, shift=5, halves=True)[1] == 16
    assert rounded([1.0], None, shift=5, halves=False)[1] == 0


def test_biases_are_such_that_float32_has_them() -> None:
    """The hand-over graph carries them so; the integer model must have the same."""
    code = rounded([1.0], (2**24 + 2**10) / 128, shift=1, halves=True)[1]
    assert code == 2**24 + 2**10  # the half, 1, does not fit beside it


@pytest.mark.parametrize("bias", [2.0**31, -(2.0**31), 2.0**31 - 64, 1e30])
def test_biases_beyond_int32(bias: float) -> None:
    """2**31 - 64 is nearest to 2**31 among the floats."""
    with pytest.raises(TargetError, match="Gemm -> 'y': a bias leaves 32 bits; its values are extreme next to the inp"):
        rounded([1.0], bias, shift=0, halves=False, weight_exponent=0, exponent=0)


def test_the_largest_bias() -> None:
    assert rounded([1.0], 2.0**31 - 128, shift=0, halves=False, weight_exponent=0, exponent=0)[1] == 2**31 - 128


@pytest.mark.parametrize(("exponent", "weight_exponent", "shift", "where"), [
    (-150, 30, 0, "tensor 'x'"), (121, -9, 0, "tensor 'x'"), (0, -127, 0, "tensor 'y'"), (100, 10, 11, "tensor 'y'"),
    (-100, -50, 31, "Gemm -> 'y'"), (100, 28, 0, "tensor 'y'"),
])
def test_scales_that_float32_has_not(exponent: int, weight_exponent: int, shift: int, where: str) -> None:
    build = GraphBuilder(2, exponent=exponent)
    build.gemm("x", "y", np.eye(2), weight_exponent=weight_exponent, shift=shift)
    with pytest.raises(TargetError, match=rf"^{where}: needs a scale of 2\*\*-?\d+, which float32 has not"):
        build.build("y")


@pytest.mark.parametrize(("exponent", "weight_exponent", "shift"), [
    (-149, 30, 0), (120, 0, 0), (0, -126, 0), (100, 20, 0), (-119, -30, 31),
])
def test_the_last_scales_that_float32_has(exponent: int, weight_exponent: int, shift: int) -> None:
    build = GraphBuilder(2, exponent=exponent)
    build.gemm("x", "y", np.eye(2) * 100, weight_exponent=weight_exponent, shift=shift)
    agree(build.build("y"))


# -- names and structure ----------------------------------------------------------------------------------------------


def residual(output: str = "y") -> Case:
    """Two layers, a sum that a ReLU follows, a moved tensor."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(2, 3, 3)
    a = build.conv("x", "a", rng.integers(-128, 128, (2, 2, 1, 1)), 3, shift=7, weight_exponent=-7, codes=RELU)
    b = build.conv(a, "b", rng.integers(-128, 128, (2, 2, 1, 1)), 3, shift=7, weight_exponent=-7)
    total = build.add(a, b, "s", shift=1, codes=RELU)
    moved = build.move("Transpose", total, "t", perm=[0, 2, 3, 1])
    return build.build(build.move("Relu", moved, output))


def test_the_integer_graph() -> None:
    case = residual()
    lines = [f"{name_of(n.outputs[0])} = {n.op_type}({', '.join(name_of(v) for v in n.inputs if v is not None)})"
             for n in case.integer.graph]
    assert lines == [
        "x.quantized = Quantize(x)",
        "a.unclipped.accumulator = Conv(x.quantized, a.weight, a.unclipped.bias)",
        "a = Requantize(a.unclipped.accumulator)",
        "b.accumulator = Conv(a, b.weight, b.bias)",
        "b = Requantize(b.accumulator)",
        "s.unclipped.accumulator = Add(a, b)",
        "s = Requantize(s.unclipped.accumulator)",
        "t = Transpose(s)",
        "y.quantized = Relu(t)",
        "y = Dequantize(y.quantized)",
    ]
    requantize = next(n for n in case.integer.graph if name_of(n.outputs[0]) == "s")
    assert graph.attributes(requantize) == {"shift": 1, "lo": 0, "hi": 127}
    assert {v.const_value.dtype for v in case.integer.graph.initializers.values() if v.const_value is not None} == {
        ir.DataType.INT8, ir.DataType.INT32}


def test_the_arguments_are_not_changed() -> None:
    case = residual()
    before = ir.to_proto(case.view.model).SerializeToString(deterministic=True)
    integerize(case.view, case.table, case.parameters)
    assert ir.to_proto(case.view.model).SerializeToString(deterministic=True) == before


def test_a_shared_weight_has_two_copies() -> None:
    """Of one name in the float graph: each layer has integers of its own."""
    build = GraphBuilder(2)
    build.gemm("x", "a", np.eye(2), shift=1)
    build.gemm("a", "b", np.eye(2) * 3, shift=1)
    case = build.build("b")
    model = case.view.model.clone()
    first, second = (n for n in model.graph if n.op_type == "Gemm")
    second.replace_input_with(1, first.inputs[1])
    view = network(model)
    tensors = {name: scale for name, scale in case.table.tensors.items() if name != "b.weight"}
    integer = integerize(view, case.table.replace(tensors=tensors), case.parameters)
    found = reference.run(integer, {"x": np.array([[1, -2]], np.float32)}, ["b.quantized"])
    assert found["b.quantized"].tolist() == [[6, -12]]  # of codes 8 and -16, halved, tripled, halved


@pytest.mark.parametrize("name", ["input", "output"])
def test_inner_tensors_with_names_that_mean_something_elsewhere(name: str) -> None:
    """Old torch exporters call an inner tensor 'input', which is what the hand-over graph calls its input."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(2, 3, 3)
    first = build.conv("x", name, rng.integers(-128, 128, (2, 2, 1, 1)), shift=7)
    case = build.build(build.conv(first, "y", rng.integers(-128, 128, (2, 2, 1, 1)), shift=7))
    agree(case)
    codes = integers.code_name(case.view.layers[0].output)
    assert codes == ("input.quantized" if name == "input" else name)
    assert codes in {name_of(n.outputs[0]) for n in case.integer.graph}


def test_code_names() -> None:
    case = residual()
    assert [integers.code_name(v) for v in case.view.quantized] == ["x.quantized", "a", "b", "s"]


# -- accumulators -----------------------------------------------------------------------------------------------------


@given(st.data())
def test_no_input_exceeds_the_bounds(data: st.DataObject) -> None:
    """Of two layers and a sum, for every corner of the inputs: brute force."""
    draw = data.draw
    code = st.integers(-128, 127)
    lo = draw(st.integers(-128, 127))
    codes = (lo, draw(st.integers(lo, 127)))
    build = GraphBuilder(3, codes=codes)
    weights = [np.array(draw(st.lists(code, min_size=6, max_size=6))).reshape(2, 3) for _ in range(2)]
    biases = [draw(st.integers(-2**20, 2**20)) for _ in range(2)]
    shift = draw(st.integers(0, 12))
    a, b = (build.gemm("x", n, w, bias, shift=shift) for n, w, bias in zip("ab", weights, biases, strict=True))
    case = build.build(build.add(a, b, "y", shift=draw(st.integers(0, 1))))
    bounds = accumulator_bounds(case.integer)
    assert set(bounds) == {"a", "b", "y"}
    corners = np.array(list(itertools.product(codes, repeat=3)))
    found = reference.run(case.integer, case.floats([corners]), case.accumulators)
    for layer, bound in bounds.items():
        assert np.abs(found[f"{layer}.accumulator"]).max() <= bound == case.table.layers[layer].accumulator_bound
    for layer, weight, bias in zip("ab", weights, biases, strict=True):
        widest = max(abs(c) for c in codes)
        assert bounds[layer] == max(sum(abs(int(w)) * widest for w in row) for row in weight) + abs(bias)
    assert bounds["y"] == 256


def test_bounds_follow_the_codes() -> None:
    """Through a ReLU, a pool and a pad; the bound of a layer is of the codes that reach it."""
    eye = np.eye(2).reshape(2, 2, 1, 1)
    build = GraphBuilder(2, 4, 4, codes=(-100, 90))
    a = build.conv("x", "a", eye, weight_exponent=0, codes=(-30, 50))
    build.move("MaxPool", a, "m", kernel_shape=[2, 2])
    build.move("Relu", "m", "r")
    b = build.conv("r", "b", -eye, weight_exponent=0, codes=(-30, 20))
    c = build.conv("m", "c", eye, 5, weight_exponent=0, codes=(3, 20))
    build.move("Pad", c, "p", np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    d = build.conv("p", "d", np.full((2, 2, 3, 3), -1), weight_exponent=0)
    case = build.build(build.add(b, d, "y"))
    assert accumulator_bounds(case.integer) == {
        "a.unclipped": 100, "b.unclipped": 50, "c.unclipped": 55, "d": 18 * 20, "y": 30 + 128}
    agree(case)


def table_of(case: Case, core: str, target: targets.Target) -> dict[str, LayerScale]:
    return dict(complete_table(case.view, case.table, case.integer, target, core).layers)


def test_the_completed_table() -> None:
    """Cores by the target's word, roundings by what the operator has; the shifts stay."""
    case = residual()
    everything = targets.Target("all", accelerator="fast", obstacles=lambda layer: [])
    auto, cpu = table_of(case, "auto", everything), table_of(case, "cpu", everything)
    assert {layer.core for layer in auto.values()} == {"fast"}
    assert {layer.core for layer in cpu.values()} == {"cpu"}
    assert {layer.core for layer in table_of(case, "auto", targets.Target("none")).values()} == {"cpu"}
    assert {name: (layer.rounding, layer.shift) for name, layer in auto.items()} == {
        "a.unclipped": ("half_up", 7), "b": ("half_up", 7), "s.unclipped": ("floor", 1)}
    assert auto["b"] == dataclasses.replace(cpu["b"], core="fast")
    sums = [np.abs(own.weight.astype(int)).sum(axis=(1, 2, 3)).max() for own in case.parameters.values()]
    assert [auto[name].accumulator_bound for name in auto] == [sums[0] * 128 + 3, sums[1] * 127 + 3, 255]


@pytest.mark.parametrize("name", ["Conv", "Gemm", "GlobalAveragePool"])
def test_accumulators_beyond_int32(name: str) -> None:
    build = GraphBuilder(2, 1, 1)
    if name == "Conv":
        build.conv("x", "y", np.ones((1, 2, 1, 1)), 2**31 - 257)
        good, exceeded = build.build("y"), "accumulator up to 2147483648, beyond 32 bits"
        assert good.bound == 2**31 - 1
        own = dataclasses.replace(good.parameters["y"], bias=np.array([2**31 - 256], np.int32))
    elif name == "Gemm":
        build = GraphBuilder(2)
        build.gemm("x", "y", np.ones((1, 2)), -(2**31 - 257))
        good, exceeded = build.build("y"), "accumulator up to 2147483648, beyond 32 bits"
        own = dataclasses.replace(good.parameters["y"], bias=np.array([-(2**31 - 256)], np.int32))
    else:  # no array of this size is made
        build = GraphBuilder(1, 2**12, 2**12 + 129, codes=RELU)
        build.mean("x", "y", codes=RELU)
        with pytest.raises(TargetError, match=r"GlobalAveragePool -> 'y\.unclipped': accumulator up to 2197811200"):
            build.build("y")
        return
    assert isinstance(good.table.tensors["y"], TensorScale)
    integer = integerize(good.view, good.table, {"y": own})
    with pytest.raises(TargetError, match=f"{name} -> 'y': {exceeded}"):
        complete_table(good.view, good.table, integer, targets.load("diana"), "auto")


def test_the_exponent_of_accumulators() -> None:
    build = GraphBuilder(2, exponent=-5)
    a = build.gemm("x", "a", np.eye(2), weight_exponent=-7, shift=4, codes=SIGNED)
    case = build.build(build.add(a, a, "y", shift=1))
    found = [integers.accumulator_exponent(case.view, case.table, layer) for layer in case.view.layers]
    assert found == [-12, -8]
    assert isinstance(case.table, ScaleTable)
    assert numerics.half(4) == 8
