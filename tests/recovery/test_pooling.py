"""The global average pool as a convolution answers as the pool did; when it must be one, and which form is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import small_networks
import tiny
from numpy.typing import NDArray

from onnxdiana import Config, fake_quantize, graph, numerics, prepare, reference
from onnxdiana.graph import name_of
from onnxdiana.integers import Parameters, integerize
from onnxdiana.recovery import fast, pooling
from onnxdiana.runtime import Runner

Arrays = Mapping[str, NDArray[Any]]


def canonical(text: str) -> ir.Model:
    return prepare(tiny.model(text)).canonical.model


def converted(text: str, names: set[str] | None = None) -> tuple[ir.Model, ir.Model]:
    """A canonical model, and the same with these pools (by default all) as convolutions; they answer alike."""
    model = canonical(text)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    every = {name_of(node.outputs[0]) for node in pooling.pools(model)}
    result = pooling.as_convolution(model, every if names is None else names)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    rng = np.random.default_rng(0)
    inputs = {name_of(v): rng.standard_normal((5, *graph.sample_shape(v))).astype(np.float32)
              for v in model.graph.inputs}
    expected, found = Runner(model).run(inputs), Runner(result).run(inputs)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5 * np.abs(values).max())
    return model, result


def weights(model: ir.Model) -> dict[str, NDArray[Any]]:
    return {name: graph.required_constant(value) for name, value in model.graph.initializers.items()}


def kernel(model: ir.Model, name: str = "g") -> NDArray[Any]:
    """Weight of the convolution that a pool became."""
    node = next(node for node in model.graph if node.outputs[0].name == name)
    assert (node.op_type, graph.attribute(node, "group")) == ("Conv", graph.required_constant(node.inputs[1]).shape[0])
    assert not graph.required_constant(node.inputs[2]).any()
    return graph.required_constant(node.inputs[1])


def pooled(size: str, behind: str = "f = Flatten(g)  y = Gemm<transB=1>(f, w, b)") -> str:
    return f"""(float[N,4,{size}] x) => (float[N,4] y) <float[4,4] w, float[4] b> {{
        r = Relu(x)  g = GlobalAveragePool(r)  {behind} }}"""


@pytest.mark.parametrize(("size", "count", "power"), [
    ("4,4", 16, 16), ("2,8", 16, 16), ("1,1", 1, 1), ("7,7", 49, 64), ("3,5", 15, 16), ("5,5", 25, 32),
    ("6,24", 144, 128), ("3,1", 3, 4), ("1,11", 11, 8), ("3,3", 9, 8)])
def test_the_factor_goes_into_the_layer_behind(size: str, count: int, power: int) -> None:
    model, result = converted(pooled(size))
    assert [node.op_type for node in result.graph] == ["Relu", "Conv", "Flatten", "Gemm"]
    np.testing.assert_array_equal(kernel(result), np.float32(1 / power))
    expected = (weights(model)["w"].astype(np.float64) * (power / count)).astype(np.float32)
    np.testing.assert_array_equal(weights(result)["w"], expected, strict=True)
    np.testing.assert_array_equal(weights(result)["b"], weights(model)["b"])


def test_behind_operators_that_only_move() -> None:
    model, result = converted(
        """(float[N,4,3,3] x) => (float[N,2] y) <int64[2] s = {-1, 4}, float[2,4] w> {
            g = GlobalAveragePool(x)  a = Reshape(g, s)  f = Flatten(a)  y = Gemm<transB=1>(f, w) }""")
    np.testing.assert_array_equal(kernel(result), np.float32(1 / 8))
    assert not np.array_equal(weights(result)["w"], weights(model)["w"])


def test_behind_a_convolution() -> None:
    _, result = converted("""(float[N,4,3,3] x) => (float[N,2,1,1] y) <float[2,4,1,1] w> {
        g = GlobalAveragePool(x)  y = Conv(g, w) }""")
    np.testing.assert_array_equal(kernel(result), np.float32(1 / 8))


ALONE = {
    "graph output": """(float[N,4,3,3] x) => (float[N,4,1,1] g) { g = GlobalAveragePool(x) }""",
    "flattened output": """(float[N,4,3,3] x) => (float[N,4] y) { g = GlobalAveragePool(x)  y = Flatten(g) }""",
    "output and layer": """(float[N,4,3,3] x) => (float[N,4,1,1] g, float[N,2] y) <float[2,4] w> {
        g = GlobalAveragePool(x)  f = Flatten(g)  y = Gemm<transB=1>(f, w) }""",
    "two layers": """(float[N,4,3,3] x) => (float[N,2] y, float[N,2] z) <float[2,4] w, float[2,4] v> {
        g = GlobalAveragePool(x)  f = Flatten(g)  y = Gemm<transB=1>(f, w)  z = Gemm<transB=1>(f, v) }""",
    "a Relu between": """(float[N,4,3,3] x) => (float[N,2] y) <float[2,4] w> {
        g = GlobalAveragePool(x)  r = Relu(g)  f = Flatten(r)  y = Gemm<transB=1>(f, w) }""",
    "an Add behind": """(float[N,4,3,3] x) => (float[N,4,1,1] y) {
        r = Relu(x)  g = GlobalAveragePool(x)  h = GlobalAveragePool(r)  y = Add(g, h) }""",
}
"""No layer alone reads the pool: it keeps its scale."""


@pytest.mark.parametrize("case", ALONE)
def test_without_a_layer_behind_the_weight_is_one_over_the_size(case: str) -> None:
    model, result = converted(ALONE[case])
    np.testing.assert_array_equal(kernel(result), np.float32(1 / 9))
    before = weights(model)
    assert {name: array.tobytes() for name, array in weights(result).items() if name in before} == {
        name: array.tobytes() for name, array in before.items()}


def test_a_weight_that_two_layers_share_is_changed_for_one_alone() -> None:
    model, result = converted(
        """(float[N,4,3,3] x) => (float[N,4] y) <float[4,4] w> {
            g = GlobalAveragePool(x)  f = Flatten(g)  a = Gemm<transB=1>(f, w)  y = Gemm<transB=1>(a, w) }""")
    first, second = [node for node in result.graph if node.op_type == "Gemm"]
    plain = weights(model)["w"]
    np.testing.assert_array_equal(graph.required_constant(second.inputs[1]), plain)
    np.testing.assert_array_equal(graph.required_constant(first.inputs[1]),
                                  (plain.astype(np.float64) * (8 / 9)).astype(np.float32))


def test_two_pools_that_share_what_is_behind() -> None:
    """Only the named one becomes a convolution."""
    text = """(float[N,4,3,3] x, float[N,4,5,5] z) => (float[N,2] y, float[N,2] u) <float[2,4] w> {
        g = GlobalAveragePool(x)  f = Flatten(g)  y = Gemm<transB=1>(f, w)
        h = GlobalAveragePool(z)  e = Flatten(h)  u = Gemm<transB=1>(e, w) }"""
    _, both = converted(text)
    assert [node.op_type for node in both.graph].count("Conv") == 2
    np.testing.assert_array_equal(kernel(both, "h"), np.float32(1 / 32))
    _, one = converted(text, {"h"})
    assert [node.op_type for node in one.graph].count("GlobalAveragePool") == 1
    _, none = converted(text, set())
    assert [node.op_type for node in none.graph].count("Conv") == 0


SIGNED = {
    "graph input": ("g = GlobalAveragePool(x)", True),
    "convolution": ("c = Conv(x, w)  g = GlobalAveragePool(c)", True),
    "convolution and Relu": ("c = Conv(x, w)  r = Relu(c)  g = GlobalAveragePool(r)", False),
    "Relu6": ("c = Conv(x, w)  r = Clip(c, zero, six)  g = GlobalAveragePool(r)", False),
    "a clip at -1": ("c = Conv(x, w)  r = Clip(c, minus, six)  g = GlobalAveragePool(r)", True),
    "moved behind Relu": ("c = Conv(x, w)  r = Relu(c)  m = MaxPool<kernel_shape=[2,2]>(r)  g = GlobalAveragePool(m)",
                          False),
    "moved": ("c = Conv(x, w)  m = MaxPool<kernel_shape=[2,2]>(c)  g = GlobalAveragePool(m)", True),
    "Relu on codes": ("c = Conv(x, w)  m = MaxPool<kernel_shape=[2,2]>(c)  r = Relu(m)  g = GlobalAveragePool(r)",
                      False),
    "Relu on codes, moved": ("m = MaxPool<kernel_shape=[2,2]>(x)  r = Relu(m)  p = MaxPool<kernel_shape=[1,2]>(r)  "
                             "g = GlobalAveragePool(p)", False),
    "sum": ("c = Conv(x, w)  s = Add(c, x)  g = GlobalAveragePool(s)", True),
    "sum and Relu": ("c = Conv(x, w)  s = Add(c, x)  r = Relu(s)  g = GlobalAveragePool(r)", False),
    "read before its Relu, too": ("c = Conv(x, w)  r = Relu(c)  s = Add(c, r)  g = GlobalAveragePool(s)", True),
}


@pytest.mark.parametrize("case", SIGNED)
def test_a_pool_must_be_a_convolution_where_its_input_can_be_negative(case: str) -> None:
    nodes, expected = SIGNED[case]
    model = canonical(f"""(float[N,4,4,4] x) => (float[N,4,1,1] g)
        <float[4,4,1,1] w, float zero = {{0.0}}, float six = {{6.0}}, float minus = {{-1.0}}> {{ {nodes} }}""")
    assert pooling.must_convolve(model) == ({"g"} if expected else set())


def test_a_signed_pool_is_written_as_a_convolution() -> None:
    proto = tiny.model("""(float[N,4,4,4] x) => (float[N,4] y) <float[4,4,1,1] w, float[4,4] v> {
        c = Conv(x, w)  g = GlobalAveragePool(c)  f = Flatten(g)  y = Gemm<transB=1>(f, v) }""")
    quantized = fake_quantize(prepare(proto))
    assert quantized.pooling == {"g": "conv"}
    assert not pooling.pools(quantized.view.model)


def error(candidate: Any, biases: Arrays, kept: Arrays, real: Arrays) -> float:
    """Squared error of a candidate's integer model at the outputs."""
    rounded = fast.round_parameters(candidate.view, candidate.table, halves=True)
    parameters = {name: Parameters(own.weight, biases.get(name, own.bias)) for name, own in rounded.items()}
    found = reference.run(integerize(candidate.view, candidate.table, parameters), kept)
    return sum(float(np.square(found[name].astype(np.float64) - y).sum()) for name, y in real.items())


@pytest.mark.parametrize("recover", ["none", "fast"])
def test_the_form_taken_is_the_one_of_less_error(recover: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over some networks, each form being better in some of them; judged by the reference on whole models."""
    choose, forms = fast._choose, set()

    def judged(candidates: list[Any], kept: Arrays, means: Any, free: frozenset[str]) -> Any:
        chosen, biases = choose(candidates, kept, means, free)
        assert len(candidates) == 2
        real = Runner(candidates[0].view.model).run(kept)
        errors = [error(one, choose([one], kept, means, free)[1], kept, real) for one in candidates]
        assert error(chosen, biases, kept, real) == pytest.approx(min(errors), rel=1e-9)
        forms.add("conv" if chosen is candidates[0] else "pool")
        return chosen, biases

    monkeypatch.setattr(fast, "_choose", judged)
    for seed in range(12):
        proto = small_networks.model("residual", seed)
        found = fake_quantize(prepare(proto), small_networks.samples("residual", 16, seed), Config(recover=recover))
        ops = [node.op_type for node in found.view.model.graph]
        assert found.pooling == {"g": "pool" if "GlobalAveragePool" in ops else "conv"}
        if len(forms) == 2:
            break
    assert forms == {"conv", "pool"}


def test_the_convolution_rounds_half_up_on_any_sign() -> None:
    proto = tiny.model("""(float[N,4,4,4] x) => (float[N,4,1,1] g) { g = GlobalAveragePool(x) }""")
    quantized = fake_quantize(prepare(proto))
    own = quantized.view.layers[0]
    shift = quantized.table.layers[own.name].shift
    assert shift > 0
    floored = 16 * 0.5  # what the input quantizer takes from the 16 values of a map
    np.testing.assert_allclose(quantized.parameters[own.name].bias, numerics.half(shift) + floored, atol=1)
