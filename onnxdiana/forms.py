"""How a layer is written in the hand-over graph where that is not as the integer graph has it; codes stay the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Kernel:
    """A larger kernel that computes the same convolution: the taps that it has in addition are zero.

    ``y[i] = sum over k of w[k] * x[s*i + d*k - begin]``, so that with another padding ``pad`` tap k becomes tap
    ``d*k + pad - begin``.
    """

    size: tuple[int, int]
    """Height and width."""
    offset: tuple[int, int]
    """Where the first tap comes to lie."""
    dilations: tuple[int, int]
    """Of the original kernel, whose gaps become taps."""
    padding: tuple[int, ...] = ()
    """Above, left, below, right; empty: (size - 1) / 2 on every side."""

    @property
    def pads(self) -> list[int]:
        """Above, left, below, right: ONNX's order."""
        return list(self.padding) or 2 * [size // 2 for size in self.size]

    def embed(self, weight: NDArray[Any]) -> NDArray[Any]:
        """A weight (M, C, kh, kw) as (M, C, *size)."""
        found = np.zeros((*weight.shape[:2], *self.size), weight.dtype)
        rows, columns = (slice(first, first + (taps - 1) * step + 1, step) for first, taps, step in zip(
            self.offset, weight.shape[2:], self.dilations, strict=True))
        found[:, :, rows, columns] = weight
        return found


def with_zero_taps(
    kernel: Sequence[int], pads: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
    size: Sequence[int], output: Sequence[int], allowed: Sequence[int],
) -> Kernel | None:
    """The smallest kernel with 'same' padding that a 2-d convolution fits into; one that is square stays square.

    Args:
        kernel, pads, strides, dilations: of the convolution, pads in ONNX's order.
        size, output: height and width of its input and output.
        allowed: odd sizes, ascending.

    Returns:
        None where no allowed size holds it, or where 'same' padding gives another output size.
    """
    least = []
    for axis in range(2):
        span, begin = (kernel[axis] - 1) * dilations[axis] + 1, pads[axis]
        fitting = [k for k in allowed if k // 2 >= begin and k // 2 - begin + span <= k]
        if output[axis] != -(-size[axis] // strides[axis]) or not fitting:
            return None
        least.append(fitting[0])
    if kernel[0] == kernel[1]:
        least = 2 * [max(least)]
    return Kernel((least[0], least[1]), (least[0] // 2 - pads[0], least[1] // 2 - pads[1]),
                  (dilations[0], dilations[1]))


def with_a_row_of_zeros(kernel: Sequence[int], pads: Sequence[int]) -> Kernel:
    """One row more, below, and a row of padding for it: the same convolution with a kernel of another height."""
    above, left, below, right = pads
    return Kernel((kernel[0] + 1, kernel[1]), (0, 0), (1, 1), (above, left, below + 1, right))


@dataclass(frozen=True)
class Forms:
    """The choices of one hand-over graph."""

    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    """Convolutions that get zero taps, by layer."""
    kept: frozenset[str] = frozenset()
    """Those among them that stay on the CPU because of it, where the compiler would not leave them."""
    silicon: str = "safe"
    """``safe``: a ReLU behind an Add is a CPU operator. ``fast``: the requantizer's lower bound."""
    concat: str = "convs"
    """``convs``: Concat is the Add of convolutions with zero rows. ``refuse``: it has no form."""
    unbiased: frozenset[str] = frozenset()
    """Convolutions without a bias, since all of it is zero, by layer."""

    def accelerated(self, layer: str) -> Kernel | None:
        """The kernel with which alone the accelerator takes a layer."""
        return None if layer in self.kept else self.kernels.get(layer)
