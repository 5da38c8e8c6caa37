"""Values and nodes of the interpreter: what a float-typed tensor holds, and what a node may take of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana.errors import HandoffError

Array = NDArray[Any]

_MOST_ELEMENTS = 2**26
"""Of one step: the columns of a convolution are the largest. A layer for a chip with 512 kB has far fewer."""


class Refusal(HandoffError):
    """One node that the interpreter does not take."""

    def __init__(self, code: str, node: str, found: str, needed: str) -> None:
        """Args: those of a finding."""
        super().__init__(f"{node}: found {found}; needed: {needed}")
        self.code, self.node, self.found, self.needed = code, node, found, needed


class Kind(Enum):
    """What a float-typed tensor holds, and so what may come next."""

    CONSTANT = "a constant"
    INPUT = "a float graph input"
    SCALED = "a divided graph input without its Floor"
    ACCUMULATOR = "an int32 accumulator"
    PRODUCT = "an int32 product without its bias"
    MULTIPLIED = "multiplied codes without their Add"
    SHIFTED = "a divided accumulator without its Floor"
    POOLED = "a pooled mean without its Flatten"
    MEAN = "a flattened mean without its Floor"
    FLOORED = "floored integers without their Max"
    BOUNDED = "integers without their Min"
    CODES = "int8 codes behind a Min"
    MOVED = "int8 codes"
    REAL = "a dequantized float"


INT8 = (Kind.CODES, Kind.MOVED)
SUMS = (Kind.ACCUMULATOR, Kind.PRODUCT)
SHARED = (Kind.INPUT, *INT8)
"""Kinds that several nodes may read: HTVM's patterns match only where nothing outside reads their inside."""


@dataclass(frozen=True)
class Value:
    """A tensor."""

    kind: Kind
    array: Array
    lo: int = 0
    """Lower bound, where the kind is BOUNDED."""


@dataclass(frozen=True)
class Node:
    """A node with its inputs and attributes, defaults filled in."""

    op_type: str
    output: str
    names: tuple[str, ...]
    inputs: tuple[Value | None, ...]
    attributes: Mapping[str, Any]

    def error(self, found: str, needed: str, code: str = "E4") -> Refusal:
        """Names the node, what was found and what is needed."""
        return Refusal(code, f"{self.op_type} -> '{self.output}'", found, needed)

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def take(self, index: int, *kinds: Kind) -> Value:
        """An input of one of these kinds."""
        value = self.inputs[index]
        if value is None or value.kind not in kinds:
            found = "nothing" if value is None else value.kind.value
            raise self.error(f"{found} as input {index} ('{self.names[index]}')", " or ".join(k.value for k in kinds))
        return value

    def constant(self, index: int, dtype: type[np.generic]) -> Array:
        """A constant input of exactly this type."""
        array = self.take(index, Kind.CONSTANT).array
        if array.dtype != dtype:
            raise self.error(f"{array.dtype} in constant '{self.names[index]}'", np.dtype(dtype).name)
        return array

    def whole(self, index: int, lo: int, hi: int) -> NDArray[np.int64]:
        """A float32 constant of whole numbers in [lo, hi]."""
        with np.errstate(invalid="ignore"):  # of a signalling nan
            array = self.constant(index, np.float32).astype(np.float64)  # float32 has no 2**31 - 1 to compare with
        bad = array[~((array == np.rint(array)) & (array >= lo) & (array <= hi))]
        if bad.size:
            raise self.error(f"{bad[0]} in constant '{self.names[index]}'", f"whole numbers in [{lo}, {hi}]")
        return array.astype(np.int64)

    def scalar(self, index: int, lo: int, hi: int) -> int:
        """A whole number in [lo, hi] of shape () or (1,)."""
        array = self.whole(index, lo, hi)
        if array.shape not in ((), (1,)):
            raise self.error(f"shape {array.shape} of constant '{self.names[index]}'", "shape () or (1,)")
        return int(array.reshape(-1)[0])

    def affordable(self, elements: int) -> None:
        """Refuses what would take memory without end, before it is taken."""
        if elements > _MOST_ELEMENTS:
            raise self.error(f"{elements:,} elements", f"at most {_MOST_ELEMENTS:,}")

    def indices(self, index: int) -> list[int]:
        """An int64 constant of one axis: a shape, axes or positions."""
        array = self.constant(index, np.int64)
        if array.ndim != 1:
            raise self.error(f"shape {array.shape} of constant '{self.names[index]}'", "one axis")
        return [int(i) for i in array]


def codes(node: Node, index: int = 0, rank: int | None = None) -> Array:
    """An input of int8 codes, of so many axes where that matters."""
    return _ranked(node, index, rank, INT8)


def movable(node: Node, rank: int | None = None) -> Array:
    """What an operator takes that moves values: int8 codes, or the floats behind the last Div."""
    return _ranked(node, 0, rank, (*INT8, Kind.REAL))


def _ranked(node: Node, index: int, rank: int | None, kinds: Sequence[Kind]) -> Array:
    array = node.take(index, *kinds).array
    if rank is not None and array.ndim != rank:
        raise node.error(f"shape {array.shape} of input {index} ('{node.names[index]}')", f"{rank} axes")
    return array


def moved(array: Array) -> Value:
    """What an operator gives that moves values."""
    return Value(Kind.REAL if array.dtype == np.float32 else Kind.MOVED, array)


def accumulator(node: Node, exact: Array, kind: Kind = Kind.ACCUMULATOR, bits: int = 32) -> Value:
    """Whole numbers as int32; hardware would wrap those of more bits, which is never meant."""
    for extreme in (exact.min(), exact.max()):
        if not -(2**(bits - 1)) <= extreme < 2**(bits - 1):
            raise node.error(f"an accumulator of {int(extreme)}", f"accumulators that fit in int{bits}", "E16")
    return Value(kind, exact.astype(np.int32))
