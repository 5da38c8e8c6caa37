"""What is known of a layer on one sample, and what a device with a fault would give for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana.rules.ops import operator

Array = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """What is known of one tensor and of the layer that makes it, on one sample, batch 1."""

    expected: Array
    """Codes (or real values of an interface) in the layout of the hand-over graph."""
    found: Array | None = None
    """What the device gave, of the same shape; None where it is not known and only simulations are asked for."""
    others: Callable[[], Iterator[tuple[str, Array]]] = lambda: iter(())
    """Other tensors' and samples' values, each with how to call it."""
    node: ir.Node | None = None
    """That gives the accumulators; None for the network's input."""
    inputs: Sequence[Array] = ()
    """Its codes."""
    flattened: Sequence[tuple[int, ...] | None] = ()
    """Of each input, the shape (1, C, ...) that a Flatten in front of the node had."""
    accumulator: Array | None = None
    """int64; None for real values."""
    shift: int = 0
    lo: int = -128
    hi: int = 127
    half: int = 0
    """What the accumulator contains so that its floor rounds half up."""
    finish: Callable[[Array], Array] = lambda codes: codes
    """From requantized codes to the tensor: what only moves them, behind the requantizer."""

    def codes(self, accumulator: Array, *, shift: int | None = None, lo: int | None = None,
              hi: int | None = None) -> Array:
        """Requantized as the layer does it, but for what is given."""
        shifted = accumulator >> (self.shift if shift is None else shift)
        return self.finish(np.clip(shifted, self.lo if lo is None else lo, self.hi if hi is None else hi))

    def evaluate(self, inputs: Sequence[Array]) -> Array:
        """Accumulators for other inputs."""
        assert self.node is not None
        return operator(self.node).evaluate(self.node, inputs, "floor")


@dataclass(frozen=True)
class Outcome:
    """What a device with some fault gives."""

    text: str
    """The fault in words."""
    codes: Array
    """As many elements as the tensor."""
    known: Array | None = None
    """Where the fault determines them; everywhere by default."""


Simulate = Callable[[Layer], Iterator[Outcome]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    """For programs; documented in docs/compare.md."""
    simulate: Simulate
    common: bool = False
    """Whether it is also looked for in layers that were not dumped."""


def wrapped(values: Array) -> Array:
    """The low eight bits, as int8 has them."""
    return ((values.astype(np.int64) + 128) & 255) - 128
