"""``Gather(x, start, start + step, ...) -> Slice(x)``; other indices in one form."""

from __future__ import annotations

import numpy as np
import pytest

from onnxdiana.rules.canonicalize import gather

from .graphs import applied, declined

FIRES = {
    "range": (
        "(float[2,5,3] x) => (y) <int64[2] i = {1,2}> { y = Gather<axis = 1>(x, i) }",
        ["y = Slice(x, y.starts, y.ends, y.axes)"], 1),
    "steps": (
        "(float[2,5,3] x) => (y) <int64[3] i = {0,2,4}> { y = Gather<axis = 1>(x, i) }",
        ["y = Slice(x, y.starts, y.ends, y.axes, y.steps)"], 1),
    "reversed": (
        "(float[2,5,3] x) => (y) <int64[5] i = {4,3,2,1,0}> { y = Gather<axis = 1>(x, i) }",
        ["y = Slice(x, y.starts, y.ends, y.axes, y.steps)"], 1),
    "down to 1": (
        "(float[2,5,3] x) => (y) <int64[2] i = {3,1}> { y = Gather<axis = 1>(x, i) }",
        ["y = Slice(x, y.starts, y.ends, y.axes, y.steps)"], 1),
    "one": (
        "(float[2,5,3] x) => (y) <int64[1] i = {3}> { y = Gather<axis = 1>(x, i) }",
        ["y = Slice(x, y.starts, y.ends, y.axes)"], 1),
    "scalar": (
        "(float[2,5,3] x) => (y) <int64 i = {3}> { y = Gather<axis = 1>(x, i) }",
        ["y.taken = Slice(x, y.starts, y.ends, y.axes)", "y = Reshape(y.taken, y.shape)"], 1),
    "scalar negative": (
        "(float[2,5,3] x) => (y) <int64 i = {-1}> { y = Gather<axis = -1>(x, i) }",
        ["y.taken = Slice(x, y.starts, y.ends, y.axes)", "y = Reshape(y.taken, y.shape)"], 1),
    "negative": (
        "(float[2,5,3] x) => (y) <int64[3] i = {-1,0,-3}> { y = Gather<axis = 1>(x, i) }",
        ["y = Gather(x, y.indices)"], 1),
    "negative axis": (
        "(float[2,5,3] x) => (y) <int64[3] i = {2,0,1}> { y = Gather<axis = -1>(x, i) }",
        ["y = Gather(x, y.indices)"], 1),
    "int32": (
        "(float[2,5,3] x) => (y) <int32[3] i = {2,0,1}> { y = Gather<axis = 1>(x, i) }",
        ["y = Gather(x, y.indices)"], 1),
    "two axes": (
        "(float[2,5,3] x) => (y) <int64[2,2] i = {2,0,1,4}> { y = Gather<axis = 1>(x, i) }",
        ["y.taken = Gather(x, y.indices)", "y = Reshape(y.taken, y.shape)"], 1),
    "repeats": (
        "(float[2,5,3] x) => (y) <int64[3] i = {-2,-2,-2}> { y = Gather<axis = 1>(x, i) }",
        ["y = Gather(x, y.indices)"], 1),
    "shared indices": (
        "(float[2,5,3] x, float[2,4,4] u) => (y, z) <int64[3] i = {-1,0,-3}> { y = Gather<axis = 1>(x, i) z = "
        "Gather<axis = 1>(u, i) }",
        ["y = Gather(x, y.indices)", "z = Gather(u, z.indices)"], 2),
}

DECLINES = {
    "canonical": "(float[2,5,3] x) => (y) <int64[3] i = {2,0,1}> { y = Gather<axis = 1>(x, i) }",
    "batch": "(float[2,5,3] x) => (y) <int64[1] i = {1}> { y = Gather<axis = 0>(x, i) }",
    "the batch, by default": "(float[2,5,3] x) => (y) <int64[1] i = {1}> { y = Gather(x, i) }",
    "table of constants": "(float[2,2] x) => (y) <float[5,3] t> { i = Cast<to = 7>(x) y = Gather(t, i) }",
    "computed": "(float[2,5,3] x, float[2] u) => (y) { i = Cast<to = 7>(u) y = Gather<axis = 1>(x, i) }",
    "out of range": "(float[2,5,3] x) => (y) <int64[2] i = {2,5}> { y = Gather<axis = 1>(x, i) }",
    "out of range, counted from the end":
        "(float[2,5,3] x) => (y) <int64[2] i = {2,-6}> { y = Gather<axis = 1>(x, i) }",
    "none": "(float[2,5,3] x) => (y) <int64[0] i = {}> { y = Gather<axis = 1>(x, i) }",
    "unknown size": "(float[2,H,3] x) => (y) <int64[1] i = {-1}> { y = Gather<axis = 1>(x, i) }",
    "another domain": "(float[2,5,3] x) => (y) <int64[2] i = {1,2}> { y = custom.Gather<axis = 1>(x, i) }",
}


@pytest.mark.parametrize(("text", "after", "count"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], count: int) -> None:
    applied(gather.RULE, text, after, count)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(gather.RULE, text)


SLICES = {
    (1, 2): (1, 3, 1), (0, 2, 4): (0, 5, 2), (4, 3): (4, 2, -1), (2, 1, 0): (2, -(2**63) + 1, -1), (3, 1): (3, 0, -2),
    (3,): (3, 4, 1), (0,): (0, 1, 1), (): None, (1, 1): None, (0, 1, 3): None,
}


@pytest.mark.parametrize(("indices", "expected"), SLICES.items(), ids=str)
def test_strided(indices: tuple[int, ...], expected: tuple[int, int, int] | None) -> None:
    assert gather.strided(np.array(indices, np.int64)) == expected
