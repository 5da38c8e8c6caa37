"""Resize in every spelling: every code of the map repeated by whole factors."""

from __future__ import annotations

import numpy as np
import pytest
from integer_graphs import RELU, GraphBuilder, agree, ended

FORM = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def resized(build: GraphBuilder, value: str, name: str, *factors: int) -> str:
    """Every axis behind the channels by a factor of its own."""
    return build.move("Resize", value, name, None, np.array([1, 1, *factors], np.float32), **FORM)


def repeated(x: np.ndarray, *factors: int) -> np.ndarray:
    return np.kron(x, np.ones((1, 1, *factors), x.dtype))


@pytest.mark.parametrize(("shape", "factors"), [
    ((2, 3, 4), (2, 2)), ((1, 3, 2), (1, 3)), ((3, 2, 2), (5, 1)), ((2, 1, 1), (4, 4)), ((1, 3, 5), (7, 3)),
    ((2, 2, 2), (1, 1)),
], ids=str)
def test_maps(shape: tuple[int, ...], factors: tuple[int, ...]) -> None:
    build = GraphBuilder(*shape)
    found = agree(ended(build, resized(build, "x", "r", *factors)))
    expected = repeated(found["x.quantized"], *factors)
    np.testing.assert_array_equal(found["y.quantized"], expected.reshape(len(expected), -1))


@pytest.mark.parametrize(("shape", "factors"), [((2, 5), (3,)), ((1, 2, 3, 2), (2, 1, 2))], ids=str)
def test_other_dimensions_are_not_handed_over(shape: tuple[int, ...], factors: tuple[int, ...]) -> None:
    build = GraphBuilder(*shape)
    found = agree(ended(build, resized(build, "x", "r", *factors)), obstacle="HTVM resizes 2-d maps only")
    expected = repeated(found["x.quantized"], *factors)
    np.testing.assert_array_equal(found["y.quantized"], expected.reshape(len(expected), -1))


def test_a_decoder() -> None:
    """Of a layer's codes, to a sum with the map that it came from."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(2, 4, 6)
    low = build.conv("x", "low", rng.integers(-128, 128, (2, 2, 2, 2)), shift=9, codes=RELU, strides=[2, 2])
    high = build.conv("x", "high", rng.integers(-128, 128, (2, 2, 1, 1)), shift=9)
    up = resized(build, low, "up", 2, 2)
    found = agree(build.build(build.add(up, high, "y")))
    total = repeated(found["low"].astype(int), 2, 2) + found["high"]
    np.testing.assert_array_equal(found["y.quantized"], np.clip(total, -128, 127))
