"""Flatten, Reshape and Transpose in every spelling: codes moved, none changed; inside the graph and at its end."""

from __future__ import annotations

import numpy as np
import pytest
from integer_graphs import RELU, Codes, GraphBuilder, agree, ended


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 2, 3, 2)], ids=str)
def test_flatten(shape: tuple[int, ...]) -> None:
    build = GraphBuilder(*shape)
    agree(ended(build, build.move("Flatten", "x", "f")))


@pytest.mark.parametrize(("target", "shape"), [
    ([0, 24], (24,)), ([0, -1], (24,)), ([0, 4, -1], (4, 6)), ([0, 0, -1], (2, 12)), ([0, 3, 2, 4], (3, 2, 4)),
    ([0, 0, 0, 4], (2, 3, 4)), ([0, -1, 1, 2, 1], (12, 1, 2, 1)),
], ids=str)
def test_reshape(target: list[int], shape: tuple[int, ...]) -> None:
    build = GraphBuilder(2, 3, 4)
    name = build.move("Reshape", "x", "r", np.array(target, np.int64))
    case = ended(build, name)
    found = agree(case)
    np.testing.assert_array_equal(found["y.quantized"], found["x.quantized"].reshape(-1, 24))


@pytest.mark.parametrize(("shape", "perm"), [
    ((3, 4), [0, 2, 1]), ((2, 3, 4), [0, 2, 3, 1]), ((2, 3, 4), [0, 3, 1, 2]), ((2, 3, 4), [0, 1, 2, 3]),
    ((2, 1, 3, 2), [0, 4, 2, 1, 3]),
], ids=str)
def test_transpose(shape: tuple[int, ...], perm: list[int]) -> None:
    build = GraphBuilder(*shape)
    case = ended(build, build.move("Transpose", "x", "t", perm=perm))
    found = agree(case)
    expected = found["x.quantized"].transpose(perm)
    np.testing.assert_array_equal(found["y.quantized"], expected.reshape(len(expected), -1))


def test_several_readers() -> None:
    """One moved tensor read by two layers, and moved again."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(2, 3, 4)
    moved = build.move("Transpose", "x", "t", perm=[0, 2, 1, 3])
    a = build.conv(moved, "a", rng.integers(-128, 128, (2, 3, 1, 1)), shift=8)
    flat = build.move("Flatten", moved, "f1", axis=1)
    b = build.gemm(flat, "b", rng.integers(-128, 128, (16, 24)), shift=8)
    agree(build.build(build.add(build.move("Flatten", a, "f2", axis=1), b, "y")))


ENDS = {
    "flatten": ("Flatten", (), {"axis": 1}),
    "reshape": ("Reshape", (np.array([0, 3, -1]),), {}),
    "transpose": ("Transpose", (), {"perm": [0, 2, 3, 1]}),
    "max pool": ("MaxPool", (), {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}),
    "slice": ("Slice", (np.array([1]), np.array([3]), np.array([2])), {}),
    "pad": ("Pad", (np.array([0, 0, 1, 0, 0, 0, 0, 2]),), {}),
}


@pytest.mark.parametrize("codes", [(-128, 127), RELU], ids=str)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("layer", ["input", "conv", "add"])
def test_at_the_end_of_the_graph(layer: str, end: str, codes: Codes) -> None:
    """The dialect dequantizes directly behind a requantizer only: what moves codes at the end moves floats there."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(3, 4, 5)
    value = "x"
    if layer != "input":
        value = build.conv("x", "a", rng.integers(-128, 128, (3, 3, 1, 1)), shift=7, weight_exponent=-7, codes=codes)
    if layer == "add":
        value = build.add(value, "x", "b", codes=codes)
    op_type, constants, attributes = ENDS[end]
    value = build.move(op_type, value, "end", *constants, **attributes)
    agree(build.build(value))


def test_a_chain_at_the_end_of_the_graph() -> None:
    rng = np.random.default_rng(0)
    build = GraphBuilder(3, 4, 5)
    value = build.conv("x", "a", rng.integers(-128, 128, (3, 3, 1, 1)), shift=7, codes=RELU)
    value = build.move("Transpose", value, "t", perm=[0, 3, 1, 2])
    value = build.move("MaxPool", value, "m", kernel_shape=[2, 2])
    value = build.move("Flatten", value, "f", axis=1)
    agree(build.build(value))


def test_an_end_that_is_read_inside_too() -> None:
    rng = np.random.default_rng(0)
    build = GraphBuilder(3, 4, 5)
    value = build.conv("x", "a", rng.integers(-128, 128, (3, 3, 1, 1)), shift=7, codes=RELU)
    pooled = build.move("MaxPool", value, "m", kernel_shape=[2, 2])
    other = build.conv(pooled, "b", rng.integers(-128, 128, (3, 3, 1, 1)), shift=7)
    case = build.build(pooled, other)
    agree(case, obstacle="the model has 2 outputs; HTVM takes one")
