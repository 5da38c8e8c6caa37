"""``htvm/model.onnx``: the dialect of the hand-over to the letter, in its files and in its order of operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from integer_graphs import RELU, SIGNED, Case, Codes, GraphBuilder, agree, networks
from onnx import TensorProto, numpy_helper

from onnxdiana.exporting.htvm import (
    INPUT,
    arrange,
    handed_over,
    handoff_obstacles,
    htvm_model,
    input_permutation,
    tensor_names,
)
from onnxdiana.forms import Forms
from onnxdiana.handoff import interpreter

OPERATORS = {"Add", "Conv", "Div", "Flatten", "Floor", "Gemm", "GlobalAveragePool", "Max", "MaxPool", "Min", "Pad",
             "Relu", "Reshape", "Slice", "Transpose"}
"""What docs/htvm-dialect.md has."""
ATTRIBUTES = {
    "Conv": {"kernel_shape", "strides", "pads", "dilations", "group"},
    "Gemm": {"alpha", "beta", "transA", "transB"},
    "MaxPool": {"kernel_shape", "strides", "pads", "dilations"},
    "Flatten": {"axis"},
    "Pad": {"mode"},
    "Transpose": {"perm"},
}


def everything() -> Case:
    """One of every operator that can be handed over."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-128, 128, shape)

    build = GraphBuilder(3, 8, 8)
    padded = build.move("Pad", "x", "padded", np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect")
    a = build.conv(padded, "a", weights(4, 3, 3, 3), 5, shift=9, codes=RELU, half=True)
    b = build.conv(a, "b", weights(4, 1, 3, 3), -9, shift=31, codes=(0, 96), group=4, pads=[1] * 4)
    c = build.conv(b, "c", weights(4, 4, 1, 1), shift=0, weight_exponent=build.exponent(a) - build.exponent(b))
    total = build.add(a, c, "sum", shift=1, codes=RELU)
    pooled = build.move("MaxPool", total, "pooled", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    turned = build.move("Transpose", pooled, "turned", perm=[0, 1, 3, 2])
    part = build.move("Slice", turned, "part", np.array([0]), np.array([2]), np.array([-1]))
    relu = build.move("Relu", part, "relu")
    mean = build.mean(relu, "mean")
    flat = build.move("Flatten", mean, "flat", axis=1)
    first = build.gemm(flat, "first", weights(6, 4), shift=8)
    square = build.move("Reshape", first, "square", np.array([0, 6, 1, 1]))
    return build.build(build.conv(square, "y", weights(2, 6, 1, 1), shift=8))


@pytest.fixture(scope="module")
def case() -> Case:
    return everything()


def handed(case: Case) -> onnx.ModelProto:
    proto = case.spellings.htvm
    assert proto is not None, case.spellings.obstacles
    return proto


@pytest.fixture(scope="module")
def model(case: Case) -> onnx.ModelProto:
    return handed(case)


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def lines(model: onnx.ModelProto) -> list[str]:
    """``y = Conv(x)`` a node, constants left out."""
    known = constants(model)
    return [f"{node.output[0]} = {node.op_type}({', '.join(i for i in node.input if i not in known)})"
            for node in model.graph.node]


# -- the file ---------------------------------------------------------------------------------------------------------


def check_file(model: onnx.ModelProto) -> None:
    """Versions, domains, types, shapes: what HTVM's importer reads and what it stumbles over."""
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]
    assert model.ir_version == 8
    assert not model.metadata_props
    assert not model.doc_string
    assert not model.graph.doc_string
    assert not model.functions
    assert not model.training_info
    assert (model.producer_name, model.producer_version, model.domain, model.model_version) == ("", "", "", 0)
    assert len(model.graph.input) == len(model.graph.output) == 1
    assert model.graph.input[0].name == INPUT == "input"
    for value in (model.graph.input[0], model.graph.output[0]):
        first, *rest = value.type.tensor_type.shape.dim
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert first.dim_value == 1
        assert all(d.dim_value > 0 for d in rest)
    for node in model.graph.node:
        assert node.op_type in OPERATORS
        assert node.domain == ""
        assert not node.doc_string
        assert len(node.output) == 1
        assert all(node.input)
        assert {a.name for a in node.attribute} <= ATTRIBUTES.get(node.op_type, set()), node.op_type
    names = [name for node in model.graph.node for name in node.output] + list(constants(model)) + [INPUT]
    assert len(set(names)) == len(names) == len(model.graph.node) + len(model.graph.initializer) + 1
    assert set(constants(model)) <= {name for node in model.graph.node for name in node.input}


def check_constants(model: onnx.ModelProto) -> None:
    """Section 1.4 of the contract: types, ranks and values; the constant operand comes second."""
    known = constants(model)
    computed = {INPUT}
    for node in model.graph.node:
        given = [known.get(name) for name in node.input]
        assert given[0] is None
        if node.op_type == "Div":
            divisor = given[1]
            assert divisor is not None
            assert divisor.shape == (1,)
            assert divisor.dtype == np.float32
            assert np.frexp(divisor.item())[0] == 0.5
            if node.input[0] in computed_accumulators(model):
                assert 1 <= divisor.item() <= 2.0**31
        elif node.op_type in ("Max", "Min"):
            bound = given[1]
            assert bound is not None
            assert bound.shape == ()
            assert bound.dtype == np.float32
            assert bound == np.rint(bound)
            assert -128 <= bound <= 127
        elif node.op_type in ("Conv", "Gemm"):
            weight, bias = given[1], given[-1]
            assert weight is not None
            assert bias is not None
            if len(given) == 2:  # --no-zero-bias
                bias = np.zeros(len(weight), np.float32)
            assert weight.dtype == bias.dtype == np.float32
            assert (weight == weight.astype(np.int8)).all()
            assert (bias.astype(np.float64) == bias.astype(np.int64)).all()
            assert bias.shape == weight.shape[:1]
        elif node.op_type == "Pad":
            assert [None if c is None else c.dtype for c in given[1:]] in ([np.int64], [np.int64, np.float32])
        elif node.op_type in ("Reshape", "Slice"):
            assert {c.dtype for c in given[1:] if c is not None} == {np.dtype(np.int64)}
            assert all(c is not None and c.ndim == 1 for c in given[1:])
        else:
            assert given[1:] == [None] * (len(given) - 1)
        computed.update(node.output)


def computed_accumulators(model: onnx.ModelProto) -> set[str]:
    return {node.output[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm", "Add")}


def test_the_file(model: onnx.ModelProto) -> None:
    check_file(model)
    check_constants(model)
    assert {node.op_type for node in model.graph.node} == OPERATORS


@given(networks())
@settings(max_examples=max(1, settings.default.max_examples // 5))
def test_files_of_random_networks(case: Case) -> None:
    check_file(handed(case))
    check_constants(handed(case))
    assert set(tensor_names(case.integer)) <= {name for node in handed(case).graph.node for name in node.output}


def test_everything_agrees(case: Case) -> None:
    agree(case)


def test_attributes_are_written_out(model: onnx.ModelProto) -> None:
    """HTVM's importer takes other defaults than ONNX for some."""
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MaxPool"):
            assert {a.name for a in node.attribute} == ATTRIBUTES[node.op_type]
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    assert {a.name: onnx.helper.get_attribute_value(a) for a in gemm.attribute} == {
        "alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}


def test_the_same_bytes_every_time(case: Case) -> None:
    first, second = (htvm_model(arrange(c.integer, Forms())).SerializeToString(deterministic=True)
                     for c in (case, everything()))
    assert first == second
    assert first == handed(case).SerializeToString(deterministic=True)


# -- order ------------------------------------------------------------------------------------------------------------


def patterns(value: str, source: str, divided: bool = True) -> list[str]:
    """The tail of every quantizer."""
    before = [f"{value}.div = Div({source})"] if divided else []
    return [*before, f"{value}.floor = Floor({value}.div)" if divided else f"{value}.floor = Floor({source})",
            f"{value}.max = Max({value}.floor)", f"{value} = Min({value}.max)"]


def test_a_layer() -> None:
    build = GraphBuilder(2, 3, 3)
    case = build.build(build.conv("x", "y", np.eye(2).reshape(2, 2, 1, 1), codes=SIGNED))
    assert lines(handed(case)) == [
        *patterns("x.quantized", "input"), "y.accumulator = Conv(x.quantized)",
        *patterns("y.quantized", "y.accumulator"), "y = Div(y.quantized)"]


@pytest.mark.parametrize("codes", [RELU, (0, 96)], ids=str)
def test_a_relu_on_a_sum_stands_apart(codes: Codes) -> None:
    """The accelerator's sum has none; its other bounds stay with it."""
    build = GraphBuilder(2, 3, 3)
    total = build.add("x", "x", "s", shift=1, codes=codes)
    case = build.build(build.conv(total, "y", np.eye(2).reshape(2, 2, 1, 1)))
    found = handed(case)
    assert lines(found)[4:10] == ["s.unclipped.accumulator = Add(x.quantized, x.quantized)",
                                  *patterns("s.signed", "s.unclipped.accumulator"), "s = Relu(s.signed)"]
    bounds = {name: value.item() for name, value in constants(found).items() if name.startswith("s.signed.")}
    assert bounds == {"s.signed.lo": -128, "s.signed.hi": codes[1], "s.signed.divisor": 2}
    agree(case)


def test_a_sum_without_relu_has_none() -> None:
    build = GraphBuilder(4, 1, 1)
    case = build.build(build.add("x", "x", "y", codes=(-5, 9)))
    assert [node.op_type for node in handed(case).graph.node][4:] == ["Add", "Div", "Floor", "Max", "Min", "Div"]


def test_vectors_are_added_as_maps() -> None:
    """HTVM's code generator asks for a third axis from behind."""
    build = GraphBuilder(4, exponent=0)
    a = build.gemm("x", "a", np.eye(4), weight_exponent=0)
    case = build.build(build.gemm(build.add(a, "x", "s", codes=RELU), "y", np.eye(4)))
    found = lines(handed(case))
    assert found[4] == "x.quantized.map = Reshape(x.quantized)"
    assert found[10:] == [
        "a.map = Reshape(a)",
        "s.unclipped.accumulator = Add(a.map, x.quantized.map)",
        *patterns("s.signed", "s.unclipped.accumulator"), "s = Relu(s.signed)", "s.flat = Flatten(s)",
        "y.accumulator = Gemm(s.flat)", *patterns("y.quantized", "y.accumulator"), "y = Div(y.quantized)"]
    agree(case)


def test_a_fast_sum_has_its_relu_in_its_bounds() -> None:
    build = GraphBuilder(2, 3, 3)
    total = build.add("x", "x", "s", shift=1, codes=RELU)
    case = build.build(build.conv(total, "y", np.eye(2).reshape(2, 2, 1, 1)), forms=Forms(silicon="fast"))
    assert lines(handed(case))[4:10] == ["s.unclipped.accumulator = Add(x.quantized, x.quantized)",
                                         *patterns("s", "s.unclipped.accumulator"), "y.accumulator = Conv(s)"]
    agree(case)


def test_a_bias_of_zeros_is_left_out_where_asked() -> None:
    """With a shift of 0 there is no half."""
    build = GraphBuilder(2, 3, 3)
    a = build.conv("x", "a", np.eye(2).reshape(2, 2, 1, 1))
    forms = Forms(unbiased=frozenset("a"))
    case = build.build(build.conv(a, "y", np.eye(2).reshape(2, 2, 1, 1), 3), forms=forms)
    assert [len(node.input) for node in handed(case).graph.node if node.op_type == "Conv"] == [2, 3]
    agree(case)


@pytest.mark.parametrize("behind", ["flatten", "conv", "nothing"])
def test_a_mean_is_flat_before_its_clip(behind: str) -> None:
    build = GraphBuilder(4, 3, 3, codes=RELU)
    mean = build.mean("x", "m")
    reader: dict[str, Callable[[], str]] = {
        "flatten": lambda: build.gemm(build.move("Flatten", mean, "f", axis=1), "y", np.eye(4)),
        "conv": lambda: build.conv(mean, "y", np.eye(4).reshape(4, 4, 1, 1)),
        "nothing": lambda: mean,
    }
    case = build.build(reader[behind]())
    found = lines(handed(case))
    name = "m" if behind != "nothing" else "m.quantized"
    assert found[4:9] == ["m.unclipped.accumulator.pooled = GlobalAveragePool(x.quantized)",
                          "m.unclipped.accumulator = Flatten(m.unclipped.accumulator.pooled)",
                          *patterns(name, "m.unclipped.accumulator", divided=False)]
    assert found[9:11] == {
        "flatten": ["y.accumulator = Gemm(m)", "y.div = Div(y.accumulator)"],
        "conv": ["m.map = Reshape(m)", "y.accumulator = Conv(m.map)"],
        "nothing": ["m.real = Div(m.quantized)", "m = Reshape(m.real)"],
    }[behind][:1] + found[10:11]
    agree(case)


def test_the_output_is_dequantized_behind_a_requantizer() -> None:
    """What moves codes at the end moves floats there, since HTVM casts to float nowhere else."""
    build = GraphBuilder(2, 3, 3)
    value = build.conv("x", "a", np.eye(2).reshape(2, 2, 1, 1), codes=RELU)
    value = build.move("MaxPool", value, "p", kernel_shape=[2, 2])
    case = build.build(build.move("Flatten", value, "y", axis=1))
    assert lines(handed(case))[-3:] == ["y.real = Div(a)", "y.moved = MaxPool(y.real)", "y = Flatten(y.moved)"]
    assert [d.dim_value for d in handed(case).graph.output[0].type.tensor_type.shape.dim] == [1, 8]
    agree(case)


def test_a_relu_on_a_last_sum() -> None:
    """Its ReLU is one on floats, and there is no other."""
    build = GraphBuilder(2, 3, 3)
    case = build.build(build.add("x", "x", "y", codes=RELU))
    assert lines(handed(case))[-3:] == ["y.quantized.signed = Min(y.quantized.signed.max)",
                                        "y.real = Div(y.quantized.signed)", "y = Relu(y.real)"]
    agree(case)


# -- what cannot be handed over ---------------------------------------------------------------------------------------


def test_every_obstacle_at_once() -> None:
    build = GraphBuilder(2, 3, 3)
    wrapped = build.move("Pad", "x", "p", np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode="wrap")
    both = build.move("Concat", [wrapped, wrapped], "c", axis=2)
    late = build.move("Clip", both, "l", np.array(0, np.float32), np.array(6, np.float32))
    one = build.conv(late, "y", np.ones((2, 2, 1, 1)), shift=3, codes=(7, 7))
    case = build.build(one, late)
    found = handoff_obstacles(case.integer, Forms())
    assert [line.split(":")[0] if "::" not in line else line.split(": ")[0] for line in found] == [
        "the model has 2 outputs; HTVM takes one", "onnxdiana::Pad -> 'p'", "onnxdiana::Concat -> 'c'",
        "onnxdiana::Clip -> 'l.quantized'", "onnxdiana::Requantize -> 'y.quantized'"]
    assert case.spellings.htvm is None
    assert list(case.spellings.obstacles) == found


def test_the_interpreter_takes_what_is_written(case: Case, model: onnx.ModelProto) -> None:
    """It refuses whatever it does not know."""
    x = np.zeros((1, 3, 8, 8), np.float32)
    found = interpreter.run(model, {INPUT: x}, tensor_names(case.integer))
    assert {array.dtype for name, array in found.items() if name != "y"} == {np.dtype(np.int8)}


# -- a permuted input -------------------------------------------------------------------------------------------------


def permuted(*perms: list[int], beside: bool = False) -> Case:
    """Channels last at the input, a convolution behind each Transpose, all added up; perhaps another reader."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(5, 4, 3)
    parts = []
    for i, perm in enumerate(perms):
        shape = [(5, 4, 3)[axis - 1] for axis in perm[1:]]
        turned = build.move("Transpose", "x", f"t{i}", perm=perm)
        a = build.conv(turned, f"a{i}", rng.integers(-128, 128, (3, shape[0], 1, 1)), shift=7)
        flat = build.move("Flatten", a, f"f{i}", axis=1)
        parts.append(build.gemm(flat, f"g{i}", rng.integers(-128, 128, (4, 3 * shape[1] * shape[2])), shift=9,
                                weight_exponent=-9 - build.exponent(flat)))
    if beside:
        flat = build.move("Flatten", "x", "f", axis=1)
        parts.append(build.gemm(flat, "g", rng.integers(-128, 128, (4, 60)), shift=9,
                                weight_exponent=-9 - build.exponent(flat)))
    total = parts[0]
    for i, part in enumerate(parts[1:]):
        total = build.add(total, part, f"s{i}")
    return build.build(total)


NCHW = [0, 3, 1, 2]


@pytest.mark.parametrize(("case", "perm", "left"), [
    (permuted(NCHW), NCHW, 0),
    (permuted([0, 3, 2, 1]), [0, 3, 2, 1], 0),
    (permuted(NCHW, NCHW), NCHW, 0),
    (permuted(NCHW, [0, 3, 2, 1]), None, 2),
    (permuted(NCHW, beside=True), None, 1),
    (permuted([0, 1, 2, 3], beside=True), None, 1),
], ids=["channels last", "and turned", "twice", "two ways", "beside another reader", "beside another, nothing moved"])
def test_a_transpose_of_the_input_is_cut_off(case: Case, perm: list[int] | None, left: int) -> None:
    """Where nothing else reads the input; everything agrees."""
    before = [node.op_type for node in case.integer.graph]
    proto = handed(case)
    assert input_permutation(case.integer) == perm
    assert [node.op_type for node in proto.graph.node].count("Transpose") == left
    sizes = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [1, *([5, 4, 3] if perm is None else [(5, 4, 3)[axis - 1] for axis in perm[1:]])]
    check_file(proto)
    check_constants(proto)
    agree(case)
    assert [node.op_type for node in case.integer.graph] == before


def test_arrays_in_the_layout_of_the_hand_over() -> None:
    x = np.arange(2 * 60).reshape(2, 5, 4, 3)
    found = handed_over(permuted(NCHW).integer, x)
    np.testing.assert_array_equal(found, x.transpose(NCHW))
    assert found.flags.c_contiguous
    assert handed_over(permuted(NCHW, beside=True).integer, x) is x


def test_a_transpose_is_all_there_is() -> None:
    build = GraphBuilder(5, 4, 3)
    case = build.build(build.move("Transpose", "x", "y", perm=NCHW))
    agree(case)
    assert [node.op_type for node in handed(case).graph.node] == ["Div", "Floor", "Max", "Min", "Div"]


def test_a_transpose_behind_something_else_stays() -> None:
    build = GraphBuilder(5, 4, 3)
    turned = build.move("Transpose", build.move("Relu", "x", "r"), "t", perm=NCHW)
    case = build.build(build.conv(turned, "y", np.ones((2, 3, 1, 1), int), shift=2))
    agree(case)
    assert input_permutation(case.integer) is None
