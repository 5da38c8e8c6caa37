"""Table: every code of every channel, at every rank, in every spelling."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from integer_graphs import RELU, SIGNED, Codes, GraphBuilder, agree, ended

from onnxdiana import graph
from onnxdiana.exporting.files import serialize
from onnxdiana.rules.ops import REGISTRY

OBSTACLE = "is looked up in a table of codes"
ALL = np.arange(-128, 128)


def every_code(*shape: int) -> np.ndarray:
    """256 samples; every element meets every code, different ones at a time."""
    return (ALL.reshape(-1, *(1,) * len(shape)) + 37 * np.arange(np.prod(shape, dtype=int)).reshape(shape) + 128
            ) % 256 - 128


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (3, 2, 4), (2, 2, 3, 2)], ids=str)
@pytest.mark.parametrize("codes", [SIGNED, RELU, (-3, 90)], ids=str)
def test_every_code(shape: tuple[int, ...], codes: Codes) -> None:
    build = GraphBuilder(*shape, exponent=-4) if shape else GraphBuilder()
    if not shape:
        build.input("x", exponent=-4)
    case = build.build(build.function("x", "y", "y = Softplus(x)", exponent=-5, codes=codes))
    x = every_code(*shape)
    found = agree(case, [x], obstacle=OBSTACLE)
    expected = np.clip(np.rint(np.logaddexp(x / 16, 0) * 32), *codes)
    np.testing.assert_array_equal(found["y.quantized"], expected)
    assert case.table.layers["y"].accumulator_bound == max(abs(expected.min()), abs(expected.max()))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2), (4, 2, 3, 2)], ids=str)
def test_a_function_a_channel(shape: tuple[int, ...]) -> None:
    build = GraphBuilder(*shape, exponent=-3)
    column = (4, *(1,) * (len(shape) - 1))
    slope = np.array([0.1, -1.0, 2.0, 0.0], np.float32).reshape(column)
    offset = np.array([0.0, 1.5, -2.0, 7.0], np.float32).reshape(column)
    case = build.build(build.function("x", "y", "a = PRelu(x, slope)", "y = Add(a, offset)", exponent=-2, slope=slope,
                                      offset=offset))
    x = every_code(*shape)
    found = agree(case, [x], obstacle=OBSTACLE)
    real = x / 8
    expected = np.where(real > 0, real, real * slope.astype(np.float64)) + offset
    np.testing.assert_array_equal(found["y.quantized"], np.clip(np.rint(expected * 4), -128, 127))
    table = next(node for node in case.integer.graph if node.op_type == "Table")
    assert graph.required_constant(table.inputs[1]).shape == (4, 256)
    assert graph.attribute(table, "function") == "PRelu Add"


@pytest.mark.parametrize(("function", "least", "largest"), [
    ("Log", -128, 127), ("Sqrt", 0, 127), ("Reciprocal", -128, 127), ("Exp", 0, 127)])
@pytest.mark.parametrize("exponent", [-120, -3, 6, 100])
def test_codes_outside_the_domain(function: str, least: int, largest: int, exponent: int) -> None:
    """Infinite values saturate, those that are no numbers are 0; no warning, whatever the scales."""
    build = GraphBuilder(3, exponent=exponent)
    found = agree(build.build(build.function("x", "y", f"y = {function}(x)", exponent=-4)), [every_code(3)],
                  obstacle=OBSTACLE)["y.quantized"]
    assert found.min() >= least
    assert found.max() <= largest
    at = {int(q): int(y) for q, y in zip(every_code(3).ravel(), found.ravel(), strict=True)}
    if function in ("Log", "Sqrt"):
        assert {at[q] for q in range(-128, 0)} == {0}
    assert at[0] == {"Log": -128, "Sqrt": 0, "Reciprocal": 127, "Exp": 16}[function]


def test_overflow_of_a_fine_output() -> None:
    """A quotient beyond float64."""
    build = GraphBuilder(3, exponent=3)
    build.function("x", "y", "y = Exp(x)", exponent=-110)
    assert agree(build.build("y"), [every_code(3)], obstacle=OBSTACLE)["y.quantized"].max() == 127


def test_behind_and_in_front_of_layers() -> None:
    rng = np.random.default_rng(0)
    build = GraphBuilder(3, 4, 4)
    a = build.conv("x", "a", rng.integers(-9, 9, (4, 3, 1, 1)), shift=2)
    t = build.function(a, "t", "s = Sigmoid(x)", "y = Mul(x, s)", exponent=-4)
    agree(ended(build, build.add(t, build.function(a, "u", "y = Tanh(x)", exponent=-4), "s", shift=1)),
          obstacle=OBSTACLE)


def test_the_reference_and_the_bound() -> None:
    table = np.stack([np.arange(256), 300 - np.arange(256)]).astype(np.int32)
    value = ir.Value(name="t", const_value=ir.Tensor(table))
    node = ir.node("Table", [ir.Value(name="x"), value])
    x = np.array([[[-128, 127], [0, 1]]], np.int8)
    np.testing.assert_array_equal(REGISTRY["Table"].evaluate(node, [x], "floor"), [[[0, 255], [172, 171]]])
    assert REGISTRY["Table"].bound(node, [(0, 0)]) == 300


def test_the_same_bytes_twice() -> None:
    def written() -> list[bytes]:
        build = GraphBuilder(3, exponent=-4)
        spelled = build.build(build.function("x", "y", "s = Erf(x)", "y = Mul(s, x)", exponent=-5)).spellings
        return [spelled.model_float, serialize(spelled.integer), serialize(spelled.fake)]

    assert written() == written()
