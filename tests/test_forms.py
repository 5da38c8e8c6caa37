"""Kernels with zero taps: the same convolution, 'same' padding, and every geometry that has one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from onnxdiana import numerics
from onnxdiana.forms import Kernel, with_zero_taps

ODD = (1, 3, 5, 7)


@pytest.mark.parametrize(("kernel", "pads", "strides", "dilations", "size", "expected"), [
    ((3, 3), (0, 0, 1, 1), (2, 2), (1, 1), (8, 8), Kernel((5, 5), (2, 2), (1, 1))),  # TensorFlow's SAME
    ((3, 3), (1, 1, 0, 0), (2, 2), (1, 1), (8, 8), Kernel((3, 3), (0, 0), (1, 1))),  # the end is never read
    ((2, 2), (0, 0, 0, 0), (2, 2), (1, 1), (8, 8), Kernel((3, 3), (1, 1), (1, 1))),
    ((2, 2), (0, 0, 1, 1), (1, 1), (1, 1), (8, 8), Kernel((3, 3), (1, 1), (1, 1))),
    ((4, 4), (1, 1, 2, 2), (1, 1), (1, 1), (8, 8), Kernel((5, 5), (1, 1), (1, 1))),
    ((3, 3), (2, 2, 2, 2), (1, 1), (2, 2), (8, 8), Kernel((5, 5), (0, 0), (2, 2))),  # the gaps become taps
    ((3, 3), (0, 1, 1, 1), (2, 2), (1, 1), (8, 7), Kernel((5, 5), (2, 1), (1, 1))),  # a square kernel stays one
    ((1, 3), (0, 0, 0, 1), (2, 2), (1, 1), (8, 8), Kernel((1, 5), (0, 2), (1, 1))),
    ((3, 3), (1, 1, 1, 1), (1, 1), (1, 1), (8, 8), Kernel((3, 3), (0, 0), (1, 1))),
    ((7, 7), (2, 2, 3, 3), (2, 2), (1, 1), (8, 8), None),  # 9x9 would hold it
    ((10, 4), (5, 1, 4, 2), (1, 1), (1, 1), (49, 10), None),
    ((3, 3), (0, 0, 0, 0), (1, 1), (1, 1), (8, 8), None),  # another output size
    ((3, 3), (4, 4, 0, 0), (2, 2), (1, 1), (8, 8), None),
], ids=str)
def test_the_smallest_kernel(kernel, pads, strides, dilations, size, expected) -> None:
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    output = [(n + pads[i] + pads[2 + i] - spans[i]) // strides[i] + 1 for i, n in enumerate(size)]
    assert with_zero_taps(kernel, pads, strides, dilations, size, output, ODD) == expected


def test_every_one_computes_the_same() -> None:
    """On whole numbers at their limits, for every geometry of two small maps."""
    rng = np.random.default_rng(0)
    count = 0
    for size, kernel, stride, dilation, *pads in itertools.product(
            (5, 6), (1, 2, 3), (1, 2), (1, 2), (0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1)):
        span = (kernel - 1) * dilation + 1
        output = [(size + pads[i] + pads[2 + i] - span) // stride + 1 for i in range(2)]
        if min(output) < 1:
            continue
        found = with_zero_taps([kernel] * 2, pads, [stride] * 2, [dilation] * 2, [size] * 2, output, ODD)
        if found is None:
            continue
        x, w = (rng.integers(-128, 128, shape) for shape in ((1, 2, size, size), (3, 2, kernel, kernel)))
        given = {"strides": [stride] * 2, "group": 1, "bound": 2**31}
        plain = numerics.convolve(x, w, pads=list(pads), dilations=[dilation] * 2, **given)
        wider = numerics.convolve(x, found.embed(w), pads=found.pads, dilations=[1, 1], **given)
        np.testing.assert_array_equal(wider, plain)
        assert found.pads == [k // 2 for k in found.size] * 2
        count += 1
    assert count > 100
