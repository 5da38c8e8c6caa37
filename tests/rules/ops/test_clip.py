"""Relu and Clip: taken over by the requantizer in front, or clips of codes where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from integer_graphs import RELU, GraphBuilder, agree, ended

from onnxdiana import graph

LATE = "a clip with an upper bound that follows no layer"


def bounds(lo: float | None, hi: float | None) -> list[np.ndarray | None]:
    return [None if bound is None else np.array(bound, np.float32) for bound in (lo, hi)]


def test_relu_on_the_input() -> None:
    build = GraphBuilder(3, 4)
    found = agree(ended(build, build.move("Relu", "x", "r")))
    np.testing.assert_array_equal(found["y.quantized"], np.maximum(found["x.quantized"], 0).reshape(-1, 12))


def test_relu_behind_a_pool() -> None:
    build = GraphBuilder(3, 4, 4)
    pooled = build.move("MaxPool", "x", "p", kernel_shape=[2, 2])
    agree(ended(build, build.move("Relu", pooled, "r")))


def test_relu_beside_another_reader() -> None:
    build = GraphBuilder(3, 4, 4)
    eye = np.eye(3, dtype=int).reshape(3, 3, 1, 1)
    a = build.conv("x", "a", eye, weight_exponent=0)
    relu = build.move("Relu", a, "r")
    case = build.build(build.add(a, build.conv(relu, "b", eye, weight_exponent=0), "y"))
    assert case.table.tensors["a"].codes == (-128, 127)
    agree(case)


@pytest.mark.parametrize(("lo", "hi", "codes"), [
    (0.0, 6.0, (0, 48)), (-1.0, 1.0, (-8, 8)), (0.0, 6.1, (0, 48)), (-1.01, 0.99, (-8, 7)), (None, 2.0, (-128, 16)),
    (-2.0, None, (-16, 127)), (None, None, (-128, 127)), (0.5, 1e30, (4, 127)), (-1e30, -0.5, (-128, -4)),
    (3.0, 3.0, (24, 24)), (0.01, 0.02, (0, 0)), (100.0, 200.0, (127, 127)), (-200.0, -100.0, (-128, -128)),
    (5.0, -5.0, (-40, -40)),
], ids=str)
def test_clip_of_codes(lo: float | None, hi: float | None, codes: tuple[int, int]) -> None:
    """Whole steps of 2**-3 inside the bounds; where there is none, the one below the upper bound."""
    build = GraphBuilder(300)
    build.move("Clip", "x", "c", *bounds(lo, hi))
    case = ended(build, "c")
    x = np.resize(np.arange(-128, 128), (1, 300))
    node = next(node for node in case.integer.graph if node.op_type == "Clip")
    assert graph.attributes(node) == {"lo": codes[0], "hi": codes[1]}
    found = agree(case, [x], obstacle=LATE)
    assert (found["y.quantized"].min(), found["y.quantized"].max()) == codes
    np.testing.assert_array_equal(found["y.quantized"], np.clip(x, *codes))
    limit = case.table.layers["y"].accumulator_bound
    assert limit == max(abs(code) for code in codes)


def test_a_clip_that_is_a_relu_on_codes_is_handed_over() -> None:
    build = GraphBuilder(20)
    agree(ended(build, build.move("Clip", "x", "c", *bounds(0.0, 127 / 8))))


def test_bounds_of_one_axis() -> None:
    """Which onnxruntime takes for scalars."""
    build = GraphBuilder(20)
    build.move("Clip", "x", "c", np.array([-1], np.float32), np.array([1], np.float32))
    found = agree(ended(build, "c"), obstacle=LATE)
    assert (found["y.quantized"].min(), found["y.quantized"].max()) == (-8, 8)


@pytest.mark.parametrize("hi", [math.inf, 3.4e38])
def test_infinite_bounds(hi: float) -> None:
    build = GraphBuilder(20)
    agree(ended(build, build.move("Clip", "x", "c", *bounds(0.0, hi))))


@pytest.mark.parametrize("codes", [(0, 96), (-9, 9), RELU, (5, 5), (0, 0)], ids=str)
def test_taken_over_by_the_requantizer(codes: tuple[int, int]) -> None:
    """No Clip is left; a requantizer to one code is the one thing that the dialect has not."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(8)
    case = build.build(build.gemm("x", "y", rng.integers(-128, 128, (40, 8)), shift=7, codes=codes))
    assert [node.op_type for node in case.integer.graph] == ["Quantize", "Gemm", "Requantize", "Dequantize"]
    agree(case, obstacle=None if codes[0] < codes[1] else f"Requantize -> 'y.quantized': every code is {codes[0]}")
