"""Gather in every spelling: elements along an axis, in any order."""

from __future__ import annotations

import numpy as np
import pytest
from integer_graphs import GraphBuilder, agree, ended

OBSTACLE = "Gather in an order that no slice has is not in HTVM's dialect"


@pytest.mark.parametrize(("shape", "axis", "indices"), [
    ((4, 3, 2), 1, [2, 0, 3]), ((4, 3, 2), 1, [1, 1, 0, 3, 3]), ((3, 4, 5), 2, [3, 0, 1]), ((3, 4, 5), 3, [0, 4, 0]),
    ((6,), 1, [5, 0, 3]), ((3, 5), 2, [4, 4, 1]), ((2, 2, 3, 2), 3, [2, 0, 1]), ((4, 3, 2), 1, [3, 0]),
], ids=str)
def test_gather(shape: tuple[int, ...], axis: int, indices: list[int]) -> None:
    build = GraphBuilder(*shape)
    found = agree(ended(build, build.move("Gather", "x", "g", np.array(indices), axis=axis)), obstacle=OBSTACLE)
    expected = np.take(found["x.quantized"], indices, axis=axis)
    np.testing.assert_array_equal(found["y.quantized"], expected.reshape(len(expected), -1))


def test_of_a_layer_and_in_front_of_one() -> None:
    rng = np.random.default_rng(0)
    build = GraphBuilder(3, 4, 4)
    a = build.conv("x", "a", rng.integers(-128, 128, (4, 3, 1, 1)), shift=8)
    g = build.move("Gather", a, "g", np.array([3, 1, 0]), axis=1)
    agree(build.build(build.conv(g, "y", rng.integers(-128, 128, (2, 3, 3, 3)), shift=9, pads=[1, 1, 1, 1])),
          obstacle=OBSTACLE)
