"""Errors of single constants: divisors, bounds, weights, biases (E6 to E8 of docs/handoff.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana.handoff.findings import Finding

Array = NDArray[Any]

INT8 = (-128, 127)
INT16 = (-(2**15), 2**15 - 1)
_MULTIPLIER = (-(2**10) + 1, 2**10 - 1)  # its product with the converter's codes, -32 to 31, fits in int16
_INT32 = (-(2**31 - 1), 2**31 - 1)
_LIMITS = {"weight": INT8, "bias": _INT32, "multiplier": _MULTIPLIER, "summand": INT16}
MOST_SHIFT = 31
_SCALAR = ((), (1,))


def exponent(value: float) -> int | None:
    """k where a number is 2**k exactly, or None."""
    mantissa, power = math.frexp(value)
    return power - 1 if mantissa == 0.5 else None


def divisor(where: str, array: Array, role: str) -> Iterator[Finding]:
    """Args: where: the Div; array: float64; role: ``input``, ``requantizer``, ``gain`` (analog) or ``output``."""
    if role == "requantizer":
        shift = exponent(float(array.reshape(-1)[0])) if array.shape == (1,) else None
        if array.shape != (1,):
            yield Finding("E6", where, f"a divisor of shape {array.shape}", "shape (1,)",
                          "write the divisor as one element of shape (1,): HTVM indexes it")
        elif shift is None or not 0 <= shift <= MOST_SHIFT:
            yield Finding("E6", where, _value(array), f"2**k with 0 <= k <= {MOST_SHIFT}",
                          "choose power-of-two scales that make this a shift to the right; any other division stays in "
                          "float and does not compile")
    elif not array.size or not np.isfinite(array).all() or array.min() <= 0:
        yield Finding("E6", where, _value(array), "finite scales above 0", "divide by the scale")
    elif role != "output" and any(exponent(float(value)) is None for value in array.reshape(-1)):
        yield Finding("E6", where, _value(array), "powers of two",
                      "round the scale to a power of two: HTVM's x86 program floors any other quotient in extended "
                      "precision, which can differ in the last digit")


def bound(where: str, array: Array) -> Iterator[Finding]:
    """Args: where: the Max or Min; array: float64."""
    if array.shape not in _SCALAR:
        yield Finding("E7", where, f"a bound of shape {array.shape}", "shape () or (1,)",
                      "use one bound for all channels")
    elif (bad := first_outside(array, INT8)) is not None:
        yield Finding("E7", where, f"the bound {bad:g}", "a whole number in [-128, 127]",
                      "bounds are int8 codes: HTVM cuts fractions and wraps what does not fit")


def parameter(where: str, array: Array, what: str, shapes: Sequence[tuple[int, ...]] | int) -> Iterator[Finding]:
    """A weight, a bias, or the analog core's multiplier and summand.

    Args:
        where: the node.
        array: float64.
        what: ``weight``, ``bias``, ``multiplier`` or ``summand``.
        shapes: those allowed, or a number of axes.
    """
    fits = array.ndim == shapes if isinstance(shapes, int) else array.shape in shapes
    if not fits:
        needed = f"{shapes} axes" if isinstance(shapes, int) else f"shape {shapes[0]}"
        yield Finding("E8", where, f"a {what} of shape {array.shape}", needed, f"write the {what} with {needed}")
    limits = _LIMITS[what]
    if (bad := first_outside(array, limits)) is not None:
        yield Finding("E8", where, f"{bad!r} in the {what}", f"whole numbers in [{limits[0]}, {limits[1]}]",
                      f"round and clamp the {what} before writing it: HTVM cuts fractions and wraps what does not fit")


def first_outside(array: Array, limits: tuple[int, int]) -> float | None:
    """First value that is no whole number in [lo, hi], or None."""
    if not array.size:
        return None
    lo, hi = array.min(), array.max()
    if limits[0] <= lo and hi <= limits[1] and (array == np.rint(array)).all():  # false for nan
        return None
    bad = array[~((array == np.rint(array)) & (array >= limits[0]) & (array <= limits[1]))]
    return float(bad[0])


def _value(array: Array) -> str:
    return f"the divisor {float(array.reshape(-1)[0])!r}" if array.size == 1 else f"divisors of shape {array.shape}"
