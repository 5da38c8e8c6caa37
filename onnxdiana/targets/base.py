"""What a chip can compute: code ranges, shifts, cores. A frozen value; a new chip is a new file beside this one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onnxdiana import graph
from onnxdiana.costs import Estimate
from onnxdiana.errors import TargetError
from onnxdiana.layers import Layer

Codes = tuple[int, int]


@dataclass(frozen=True)
class Obstacle:
    """Why the accelerator does not take a layer, and what to change in the training code."""

    reason: str
    remedy: str = ""
    """What to change, with the numbers of this layer; empty where nothing can be."""


def _nowhere(layer: Layer) -> list[Obstacle]:
    return [Obstacle("the target has no accelerator")]


def _never(layer: Layer) -> bool:
    return False


def _unknown(layer: Layer, core: str) -> Estimate | None:
    return None


@dataclass(frozen=True)
class Target:
    """A chip.

    Codes are inclusive ranges; shifts are arithmetic right shifts of an int32 accumulator.
    """

    name: str
    signed: Codes = (-128, 127)
    """Activations that can be negative."""
    unsigned: Codes = (0, 127)
    """Activations behind a ReLU."""
    weight: Codes = (-128, 127)
    shift: tuple[int, int] = (0, 31)
    tables: bool = True
    """Whether functions such as Sigmoid may be looked up in a table of 256 codes on the CPU."""
    accelerator: str = "digital"
    """Name of the core that :attr:`obstacles` speaks of."""
    obstacles: Callable[[Layer], list[Obstacle]] = _nowhere
    """Why the accelerator does not take a layer; empty where it does. Ask it through :meth:`judge`."""
    estimate: Callable[[Layer, str], Estimate | None] = _unknown
    """Cycles and energy of a layer on a core, None where no model knows. Ask it through :meth:`estimated`."""
    misplaced: Callable[[Layer], bool] = _never
    """Whether the compiler gives the accelerator a layer, whatever :attr:`obstacles` says. Ask it through
    :meth:`offloaded_anyway`."""
    memory: int | None = None
    """Bytes that the weights and activations of a network share with the code; None where it is not told."""

    def __post_init__(self) -> None:
        """Check the description.

        Raises:
            TargetError: a range that is none or leaves int8, a shift beyond 32 bits.
        """
        for name in ("signed", "unsigned", "weight"):
            lo, hi = getattr(self, name)
            if not -128 <= lo <= 0 < hi <= 127:
                raise TargetError(f"target '{self.name}': {name} codes [{lo}, {hi}]; give a range within [-128, 127] "
                                  "that holds 0 and 1")
        if not 0 <= self.shift[0] <= self.shift[1] <= 31:
            raise TargetError(f"target '{self.name}': shifts {list(self.shift)}; give a range within [0, 31]")

    def judge(self, layer: Layer) -> list[Obstacle]:
        """What :attr:`obstacles` answers, which a user may have written.

        Raises:
            TargetError: it fails, or answers something else than a list of :class:`Obstacle`.
        """
        found = self._answer("obstacles", layer)
        if not isinstance(found, list) or not all(isinstance(obstacle, Obstacle) for obstacle in found):
            raise TargetError(f"target '{self.name}': its obstacles answer {found!r} for {graph.where(layer.node)}; "
                              "give a list of onnxdiana.targets.Obstacle(reason, remedy)")
        return found

    def estimated(self, layer: Layer, core: str) -> Estimate | None:
        """What :attr:`estimate` answers, which a user may have written.

        Raises:
            TargetError: it fails, or answers something else than an :class:`Estimate` or None.
        """
        found = self._answer("estimate", layer, core)
        if not isinstance(found, Estimate | None):
            raise TargetError(f"target '{self.name}': its estimate answers {found!r} for {graph.where(layer.node)}; "
                              "give an onnxdiana.costs.Estimate, or None")
        return found

    def offloaded_anyway(self, layer: Layer) -> bool:
        """Whether the compiler gives the accelerator a layer that it does not take.

        Raises:
            TargetError: a function of the target fails.
        """
        return bool(self.judge(layer)) and bool(self._answer("misplaced", layer))

    def _answer(self, question: str, *given: Any) -> Any:
        """What a function of the target says of a layer; a user may have written it."""
        try:
            return getattr(self, question)(*given)
        except Exception as error:
            raise TargetError(f"target '{self.name}': asking its {question} fails on {graph.where(given[0].node)}: "
                              f"{type(error).__name__}: {error}; repair the target") from error

    def core(self, layer: Layer) -> str:
        """Where a layer runs that nobody sends elsewhere: the accelerator where it takes the layer, else ``cpu``."""
        return "cpu" if self.judge(layer) else self.accelerator

    def codes(self, bounds: tuple[float, float], exponent: int) -> Codes:
        """Code range of a tensor with these real bounds: whole steps inside them, within the target's range."""
        lowest, highest = self.unsigned if bounds[0] >= 0 else self.signed
        lo, hi = (min(max(math.ldexp(bound, -exponent), lowest), highest) for bound in bounds)
        return min(math.ceil(lo), math.floor(hi)), math.floor(hi)
