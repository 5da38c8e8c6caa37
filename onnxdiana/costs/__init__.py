"""Estimates of cycles, energy and memory of one layer on DIANA, from the public analytical models of the chip.

Models, not measurements: what they leave out is told in docs/estimates.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from onnxdiana.costs import match, odimo
from onnxdiana.costs.memory import Memory, footprint
from onnxdiana.costs.work import Work

__all__ = ["CLOCK", "POWER", "Cycles", "Estimate", "Memory", "Work", "as_entry", "cpu_floor", "estimate", "footprint",
           "totals"]

CLOCK = 260e6
"""Hz, as both models have it (HTVM ``byoc/profiler.py``, ODiMO ``hw_models.py``)."""
POWER = {"digital": 24.96, "analog": 28.74}
"""Average mW of a core (eml-eda/odimo-journal 624f590, ``incomp-data-fmts/models/hw_models.py``)."""


@dataclass(frozen=True)
class Cycles:
    """What one model says of one layer."""

    model: str
    """Its name: ``ODiMO``, ``MATCH``."""
    compute: float
    """Cycles of the core; what the model does not tell apart is in them."""
    transfers: float | None = None
    """Cycles between L2 and L1 besides; None where the model does not tell them apart."""

    @property
    def total(self) -> float:
        """Computing and transfers, one after the other."""
        return self.compute + (self.transfers or 0)


@dataclass(frozen=True)
class Estimate:
    """One layer on one core, by every model that knows the core."""

    core: str
    cycles: tuple[Cycles, ...]
    power: float
    """Average mW."""
    clock: float = CLOCK
    """Hz."""
    memory: Memory | None = None
    """None where the chip's memories are not known."""

    def milliseconds(self, cycles: Cycles) -> float:
        """Time by one of :attr:`cycles`."""
        return cycles.total / self.clock * 1e3

    def microjoule(self, cycles: Cycles) -> float:
        """Time times average power, by one of :attr:`cycles`."""
        return self.milliseconds(cycles) * self.power


def estimate(work: Work, core: str) -> Estimate | None:
    """Cycles by both public models, power and memory of a layer on ``digital`` or ``analog``.

    None for another core: neither model has the RISC-V, nor a depthwise layer on the analog one.
    """
    if core == "digital":
        found = [Cycles("ODiMO", odimo.digital(work)), Cycles("MATCH", match.compute(work), match.transfers(work))]
    elif core == "analog" and work.groups == 1:
        found = [Cycles("ODiMO", odimo.analog(work))]
    else:
        return None
    return Estimate(core, tuple(found), POWER[core], CLOCK, footprint(work, core))


def cpu_floor(macs: int) -> int:
    """Cycles that the RISC-V takes at least for so many multiply-accumulates: one each.

    No public model has the CPU. This is a bound, not an estimate: DIANA's core issues one instruction a cycle, and in
    TVM's C code a product of two bytes is one at least; loading both comes on top. It takes for granted that the
    compiler finds no use in those loops for instructions that multiply several bytes at once.
    """
    return macs


def as_entry(estimate: Estimate | None) -> dict[str, Any] | None:
    """An estimate as JSON has it; None where there is none.

    ``models`` by name, each with ``cycles``, ``transfer_cycles`` (those of them that are transfers between L2 and L1;
    null: not told apart), ``milliseconds`` and ``microjoule``; ``memory`` (null: not known) with ``input_bytes``,
    ``output_bytes``, ``weight_bytes``, ``tiling`` and ``because``.
    """
    if estimate is None:
        return None
    kept = estimate.memory
    return {
        "models": {cycles.model: _figures(cycles.total, cycles.transfers, estimate.milliseconds(cycles),
                                          estimate.microjoule(cycles)) for cycles in estimate.cycles},
        "memory": None if kept is None else {
            "input_bytes": kept.input, "output_bytes": kept.output, "weight_bytes": kept.weights,
            "tiling": kept.tiling, "because": list(kept.because)},
    }


def totals(estimates: Iterable[Estimate | None]) -> dict[str, dict[str, Any]]:
    """Sums over layers by model, with the keys of ``models`` in :func:`as_entry`; layers without an estimate add 0."""
    sums: dict[str, tuple[float, float | None, float, float]] = {}
    for found in estimates:
        if found is None:
            continue
        for cycles in found.cycles:
            total, transfers, time, energy = sums.get(cycles.model, (0.0, None, 0.0, 0.0))
            if cycles.transfers is not None:
                transfers = (transfers or 0) + cycles.transfers
            sums[cycles.model] = (total + cycles.total, transfers, time + found.milliseconds(cycles),
                                  energy + found.microjoule(cycles))
    return {model: _figures(*figures) for model, figures in sums.items()}


def _figures(cycles: float, transfers: float | None, time: float, energy: float) -> dict[str, Any]:
    return {"cycles": round(cycles), "transfer_cycles": None if transfers is None else round(transfers),
            "milliseconds": round(time, 6), "microjoule": round(energy, 6)}
