"""AveragePool whose padding does not count: one factor a position, the same integers in every spelling."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from integer_graphs import GraphBuilder, agree, ended

from onnxdiana.rules.ops.average_pool import _windows

GEOMETRIES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 5, 6), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ((3, 6, 5), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 0]}),
    ((1, 7, 7), {"kernel_shape": [2, 3], "dilations": [2, 2], "pads": [1, 2, 1, 0]}),
    ((2, 2, 2), {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}),
    ((2, 7), {"kernel_shape": [3], "pads": [1, 1]}),
    ((2, 3, 4, 3), {"kernel_shape": [2, 2, 3], "pads": [1, 0, 1, 0, 1, 1]}),
    ((4, 1, 1), {"kernel_shape": [1, 1], "pads": [0, 0, 0, 0]}),
]


@pytest.mark.parametrize(("shape", "form"), GEOMETRIES, ids=str)
@pytest.mark.parametrize("shift", [0, 15, 16, 17, 31])
def test_geometries(shape: tuple[int, ...], form: dict[str, Any], shift: int) -> None:
    build = GraphBuilder(*shape)
    build.average("x", "p", shift=shift, **form)
    found = agree(ended(build, "p"), obstacle="windows that count only what lies on the map")
    if shift == 16:  # at the input's exponent: the mean itself, rounded, whose factor has 16 bits
        assert np.abs(found["p"] - mean(found["x.quantized"], **form)).max() <= 0.5 + 2.0**-6


def mean(x: np.ndarray, kernel_shape: list[int], pads: list[int], strides: list[int] | None = None,
         dilations: list[int] | None = None) -> np.ndarray:
    """Means of what lies on the map under every window, place by place."""
    n = len(kernel_shape)
    strides, dilations = strides or [1] * n, dilations or [1] * n
    sizes = [(x.shape[2 + i] + pads[i] + pads[n + i] - (kernel_shape[i] - 1) * dilations[i] - 1) // strides[i] + 1
             for i in range(n)]
    result = np.zeros((*x.shape[:2], *sizes))
    for position in np.ndindex(*sizes):
        rows = [[place for k in range(kernel_shape[i])
                 if 0 <= (place := position[i] * strides[i] - pads[i] + k * dilations[i]) < x.shape[2 + i]]
                for i in range(n)]
        window = x[np.ix_(range(x.shape[0]), range(x.shape[1]), *rows)].astype(float)
        result[(slice(None), slice(None), *position)] = window.mean(axis=tuple(range(2, 2 + n)))
    return result


def test_windows_are_counted_without_listing_their_places() -> None:
    """A kernel as large as a long map: what it covers would not fit memory."""
    node = ir.node("AveragePool", [ir.Value(name="x", shape=ir.Shape([1, 1, 1, 60001]))], {
        "kernel_shape": [1, 30000], "pads": [0, 15000, 0, 15000], "strides": [1, 1]})
    count, _ = _windows(node)
    assert count.shape == (1, 1, 1, 60002)
    assert count[0, 0, 0, [0, 1, 15000, 30000, -1]].tolist() == [15000, 15001, 30000, 30000, 15000]
