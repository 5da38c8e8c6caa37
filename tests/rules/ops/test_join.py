"""Slice and Concat in every spelling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from integer_graphs import RELU, GraphBuilder, agree, ended

FAR = 2**63 - 1
CONCAT = "Concat, at which HTVM stops when it partitions for DIANA"


def slices(x: np.ndarray, **parts: slice) -> np.ndarray:
    """A part of (N, C, H, W) by axis."""
    return x[tuple(parts.get(axis, slice(None)) for axis in "nchw")]


@pytest.mark.parametrize(("constants", "expected"), [
    (([1], [3], [2]), {"h": slice(1, 3)}),
    (([0, 0, 1, 0], [FAR, 2, 3, FAR]), {"c": slice(2), "h": slice(1, 3)}),
    (([1, -3], [FAR, -1], [1, 3]), {"c": slice(1, None), "w": slice(-3, -1)}),
    (([0, 4], [FAR, 0], [-2, -1], [2, -1]), {"h": slice(None, None, 2), "w": slice(4, 0, -1)}),
    (([-1], [-2**63], [3], [-1]), {"w": slice(None, None, -1)}),
    (([-1], [-100], [3], [-2]), {"w": slice(None, None, -2)}),
    (([FAR], [-2**31], [3], [-3]), {"w": slice(None, None, -3)}),
    (([-100], [100], [2]), {}),
    (([0, 0, 3, 4], [FAR, FAR, 0, 1], None, [1, 1, -1, -2]), {"h": slice(3, 0, -1), "w": slice(4, 1, -2)}),
], ids=str)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_slice(dtype: type, constants: tuple[Any, ...], expected: dict[str, slice]) -> None:
    limits = np.iinfo(dtype)
    given = [None if c is None else np.array([min(max(v, limits.min), limits.max) for v in c], dtype)
             for c in constants]
    build = GraphBuilder(3, 4, 5)
    found = agree(ended(build, build.move("Slice", "x", "s", *given)))
    part = slices(found["x.quantized"], **expected)
    np.testing.assert_array_equal(found["y.quantized"], part.reshape(len(part), -1))


def test_halves() -> None:
    """A tensor split in two, each half with a layer of its own."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(4, 3, 3)
    parts = [build.move("Slice", "x", f"s{i}", *(np.array([n]) for n in (2 * i, 2 * i + 2, 1))) for i in range(2)]
    a, b = (build.conv(part, f"a{i}", rng.integers(-128, 128, (3, 2, 1, 1)), shift=7) for i, part in enumerate(parts))
    agree(build.build(build.add(a, b, "y")))


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -3])
def test_concat(axis: int) -> None:
    """With a tensor of other codes and with itself; the layer behind has the bound of the widest."""
    build = GraphBuilder(3, 4, 4, codes=(-20, 90))
    a = build.conv("x", "a", np.eye(3, dtype=int).reshape(3, 3, 1, 1), weight_exponent=0, codes=RELU)
    case = ended(build, build.move("Concat", ["x", a, "x"], "c", axis=axis))
    found = agree(case, obstacle=CONCAT)
    expected = np.concatenate([found["x.quantized"], found["a"], found["x.quantized"]], axis=axis)
    np.testing.assert_array_equal(found["y.quantized"], expected.reshape(len(expected), -1))
    assert case.table.layers["y"].accumulator_bound == 127
