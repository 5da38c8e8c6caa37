"""The arithmetic of the chip in numpy: the one definition that the reference and every search use.

Symbols: ``q`` an integer code, ``e`` an integer exponent, ``s`` an integer shift; a quantized tensor stands for the
real numbers ``q * 2**e``. Rounding is an argument, never implied:

===========  ==========================================  =========================
rounding     requantize(acc, s)                          used by
===========  ==========================================  =========================
floor        ``floor(acc / 2**s)`` (arithmetic shift)    the chip, both integer models
half_even    nearest, ties to even                       QuantizeLinear, weights
===========  ==========================================  =========================

Half-up is not a third mode: ``floor((acc + 2**(s-1)) / 2**s)``, the half being part of the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Rounding = Literal["floor", "half_even"]
Array = NDArray[Any]

FLOAT32_EXACT = 2**24
"""Integers of smaller magnitude are exact in float32, sums in any order included."""
INT32_BOUND = 2**31
"""An accumulator reaches the hardware only if it stays below this magnitude."""


def half(shift: int) -> int:
    """What to add to an accumulator so that a floor shift rounds half up: ``2**(s-1)``, or 0 for no shift."""
    return 1 << (shift - 1) if shift >= 1 else 0


def round_real(x: Array, rounding: Rounding) -> Array:
    """Round real numbers (float in, float out)."""
    return np.floor(x) if rounding == "floor" else np.rint(x)


def quantize(x: Array, exponent: int, lo: int, hi: int, rounding: Rounding) -> Array:
    """``clip(round(x / 2**e), lo, hi)`` as int8; exact, since dividing by a power of two is."""
    with np.errstate(over="ignore", under="ignore"):  # an infinite quotient is clipped
        quotient = np.ldexp(x, -exponent)
    return np.clip(round_real(quotient, rounding), lo, hi).astype(np.int8)


def dequantize(q: Array, exponent: int) -> NDArray[np.float32]:
    """``q * 2**e`` as float32 (exact: codes have at most 24 bits)."""
    return np.ldexp(q.astype(np.float32), exponent)


def shift_right(acc: Array, shift: int, rounding: Rounding) -> Array:
    """``acc / 2**s`` rounded, on integers, without leaving them."""
    if shift == 0:
        return acc
    floored = acc >> shift
    if rounding == "floor":
        return floored
    rest = acc - (floored << shift)
    middle = 1 << (shift - 1)
    return np.asarray(floored + ((rest > middle) | ((rest == middle) & ((floored & 1) == 1))))


def requantize(acc: Array, shift: int, lo: int, hi: int, rounding: Rounding = "floor") -> NDArray[np.int8]:
    """``clip(round(acc / 2**s), lo, hi)`` as int8, for integer accumulators and ``0 <= s <= 31``."""
    codes: NDArray[np.int8] = np.clip(shift_right(acc, shift, rounding), lo, hi).astype(np.int8)
    return codes


def mean(x: Array, rounding: Rounding) -> Array:
    """Mean over all spatial axes of integer codes (N, C, ...), kept as size 1; an int32 division that rounds."""
    axes = tuple(range(2, x.ndim))
    total = x.sum(axis=axes, keepdims=True, dtype=np.int64)
    count = int(np.prod(x.shape[2:]))
    return np.asarray(total // count if rounding == "floor" else np.rint(total / count).astype(np.int64))


def weight_bound(weight: Array, lo: int, hi: int, out_axis: int = 0) -> NDArray[np.int64]:
    """Largest magnitude that ``sum(q_w * q_x)`` reaches for input codes in [lo, hi], per output channel: (C,)."""
    w = np.moveaxis(weight.astype(np.int64), out_axis, 0).reshape(weight.shape[out_axis], -1)
    positive = np.maximum(w, 0).sum(axis=1)
    negative = np.maximum(-w, 0).sum(axis=1)
    return np.asarray((positive + negative) * max(abs(lo), abs(hi)))


def accumulator_bound(weight: Array, bias: Array, lo: int, hi: int) -> int:
    """``A = max over channels of (sum |q_w| * max|q_x| + |q_b|)``: the proof that it fits (docs/numerics.md)."""
    return int((weight_bound(weight, lo, hi) + np.abs(bias.astype(np.int64))).max(initial=0))


def in_float32(integers: Array) -> NDArray[np.int64]:
    """The nearest integers that float32 holds exactly: HTVM's dialect carries biases in it (docs/htvm-dialect.md)."""
    return integers.astype(np.float32).astype(np.int64)


def exact_type(bound: int) -> type[np.floating[Any]] | type[np.int64]:
    """The fastest type in which sums of products below this bound are exact in any order."""
    if bound < FLOAT32_EXACT:
        return np.float32
    return np.float64 if bound < 2**53 else np.int64


def _patches(x: Array, kernel: tuple[int, ...], strides: list[int], dilations: list[int]) -> Array:
    """View of (N, C, *spatial) as (N, C, *kernel, *out): every kernel position over every output position."""
    sizes = zip(x.shape[2:], kernel, strides, dilations, strict=True)
    out = [(size - (k - 1) * dilation - 1) // stride + 1 for size, k, stride, dilation in sizes]
    space = x.strides[2:]
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *kernel, *out),
        (*x.strides[:2], *(st * d for st, d in zip(space, dilations, strict=True)),
         *(st * s for st, s in zip(space, strides, strict=True))),
        writeable=False,
    )


def pad(x: Array, pads: list[int], value: int) -> Array:
    """Pad the spatial axes of (N, C, *spatial) with ONNX pads (all begins, then all ends)."""
    n = x.ndim - 2
    if not any(pads):
        return x
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)], constant_values=value)


def convolve(
    x: Array, w: Array, *, strides: list[int], pads: list[int], dilations: list[int], group: int, bound: int
) -> NDArray[np.int64]:
    """Integer convolution without bias, exact.

    Args:
        x: codes (N, C, *spatial).
        w: codes (M, C/group, *kernel).
        strides, pads, dilations, group: as in ONNX Conv.
        bound: largest magnitude an accumulator can reach (:func:`weight_bound`); picks the type that stays exact.

    Returns:
        int64 accumulators (N, M, *out).
    """
    dtype = exact_type(bound)
    n, c = x.shape[:2]
    m, kernel = w.shape[0], w.shape[2:]
    x = pad(x, pads, 0)
    patches = _patches(x, kernel, strides, dilations)
    out = patches.shape[2 + len(kernel):]
    positions = int(np.prod(out))
    per_group = m // group
    result = np.empty((n, m, positions), dtype=np.int64)
    if c == group:  # depthwise: one multiply-add an offset of the kernel, no copy of the patches
        weights = w.reshape(group, per_group, *kernel).astype(dtype)
        wide = x.astype(dtype)
        patches = _patches(wide, kernel, strides, dilations)
        expand = (slice(None),) * 2 + (None,) * len(kernel)
        for j in range(per_group):
            acc = np.zeros((n, group, *out), dtype=dtype)
            for offset in np.ndindex(*kernel):
                acc += patches[(slice(None), slice(None), *offset)] * weights[(slice(None), j, *offset)][expand[1:]]
            result.reshape(n, group, per_group, positions)[:, :, j] = acc.reshape(n, group, positions)
        return result.reshape(n, m, *out)
    weights = w.reshape(group, per_group, -1).astype(dtype)
    pointwise = all(k == 1 for k in kernel)
    for i in range(n):  # one sample at a time: its patches stay in the cache
        sample = patches[i]
        if pointwise:
            columns = sample.reshape(group, c // group, positions).astype(dtype)
        else:
            columns = sample.astype(dtype).reshape(group, -1, positions)
        np.copyto(result[i].reshape(group, per_group, positions), np.matmul(weights, columns), casting="unsafe")
    return result.reshape(n, m, *out)


def multiply(x: Array, w: Array, *, bound: int) -> NDArray[np.int64]:
    """Integer ``x @ w.T`` for codes x (N, K) and w (M, K), exact; int64 accumulators (N, M)."""
    dtype = exact_type(bound)
    return np.asarray(np.matmul(x.astype(dtype), w.T.astype(dtype))).astype(np.int64)


def ceil_pads(
    size: Sequence[int], kernel: list[int], strides: list[int], pads: list[int], dilations: list[int]
) -> list[int]:
    """Pads under which floor counts the windows of ONNX's ceil_mode: partial ones, unless they start in the padding."""
    n, ends = len(kernel), []
    for i in range(n):
        padded = size[i] + pads[i] + pads[n + i]
        span = (kernel[i] - 1) * dilations[i] + 1
        start = -(-(padded - span) // strides[i]) * strides[i]
        partial = size[i] + pads[i] > start > padded - span
        ends.append(start + span - size[i] - pads[i] if partial else pads[n + i])
    return [*pads[:n], *ends]


def max_pool(
    x: Array, *, kernel: list[int], strides: list[int], pads: list[int], dilations: list[int], ceil_mode: bool
) -> Array:
    """Max pooling of codes (N, C, *spatial), as ONNX MaxPool; padding never wins."""
    n = len(kernel)
    if ceil_mode:
        pads = ceil_pads(x.shape[2:], kernel, strides, pads, dilations)
    lowest = int(np.iinfo(x.dtype).min)
    patches = _patches(pad(x, pads, lowest), tuple(kernel), strides, dilations)
    return np.asarray(patches.max(axis=tuple(range(2, 2 + n))))
