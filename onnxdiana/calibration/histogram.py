"""A streaming histogram whose bins are powers of two wide: the same for any split of the data into batches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 4096


class Histogram:
    """Counts over ``[-2**k, 2**k)`` in :data:`BINS` bins, ``k`` growing with the data.

    Doubling the range merges pairs of bins exactly, so the counts depend on the data alone. Exact zeros (half of a
    ReLU's output) are counted apart: they cost nothing to quantize.
    """

    def __init__(self) -> None:
        self.count = 0
        self.zeros = 0
        self.low = math.inf
        self.high = -math.inf
        self._k: int | None = None
        self._bins = np.zeros(BINS, dtype=np.int64)

    def update(self, x: NDArray[Any]) -> None:
        """Count the elements of a finite float array."""
        if not x.size:
            return
        low, high = float(x.min()), float(x.max())
        self.count += x.size
        self.low, self.high = min(self.low, low), max(self.high, high)
        peak = max(-low, high)
        if peak == 0.0:
            self.zeros += x.size
            return
        self._grow(math.frexp(peak)[1])
        assert self._k is not None
        power = 11 - self._k
        if power < 0:  # float32 would flush its smallest negatives to zero, into the wrong bin
            x = x.astype(np.float64)
        flat = np.ldexp(x.ravel(), power)
        np.floor(flat, out=flat)
        index = flat.astype(np.int32)
        self._bins += np.bincount(index + BINS // 2, minlength=BINS)
        zeros = x.size - int(np.count_nonzero(x))
        self.zeros += zeros
        self._bins[BINS // 2] -= zeros

    def _grow(self, k: int) -> None:
        if self._k is None:
            self._k = k
        while self._k < k:
            half = self._bins.reshape(-1, 2).sum(axis=1)
            self._bins = np.zeros(BINS, dtype=np.int64)
            self._bins[BINS // 4: BINS // 4 * 3] = half
            self._k += 1

    @property
    def peak(self) -> float:
        """Largest magnitude seen."""
        return max(-self.low, self.high, 0.0) if self.count else 0.0

    def error(self, exponent: int, lo: int, hi: int) -> float:
        """Mean squared error of rounding to steps of ``2**exponent`` and clipping to codes [lo, hi].

        Within a bin values are taken as uniform; steps finer than a few bins cost their variance ``step**2 / 12``.
        """
        if self._k is None or not self.count:
            return 0.0
        width = math.ldexp(1.0, self._k - 11)
        step = math.ldexp(1.0, exponent)
        centre = (np.arange(BINS) - BINS // 2 + 0.5) * width
        code = np.rint(centre / step)
        clipped = np.clip(code, lo, hi)
        square = (centre - clipped * step) ** 2 + width**2 / 12
        if step <= 4 * width:
            square[code == clipped] = step**2 / 12
        return float(self._bins @ square) / self.count
