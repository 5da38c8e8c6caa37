"""What the checker says: findings by the codes of docs/handoff.md, and where every layer runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from onnxdiana.costs import Estimate, estimate
from onnxdiana.costs.work import Work

LEVELS = {"E": "error", "W": "falls to the CPU", "H": "wrong on silicon"}
"""By the first letter of a code."""


@dataclass(frozen=True, order=True)
class Finding:
    """One remark about one node, or about a file where ``node`` names it."""

    code: str
    """``E1`` to ``E16``: HTVM does not compile it, or computes something else. ``W1`` to ``W5``: it compiles, and the
    layer stays on the RISC-V core. ``H1`` to ``H13``: right on x86, doubtful or wrong on silicon."""
    node: str
    """``Conv -> 'tensor'``: operator type and output tensor; or a file's or tensor's name."""
    found: str
    """The value that is there."""
    needed: str
    """The value that HTVM or the chip wants."""
    remedy: str
    """What to do about it."""

    @property
    def level(self) -> str:
        """What the code's letter means."""
        return LEVELS[self.code[0]]

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.code} {self.node}: found {self.found}; needed: {self.needed}; {self.remedy}"


@dataclass(frozen=True)
class Region:
    """One layer as HTVM's partitioner sees it: what the accelerator would get, or a CPU operator on its own."""

    name: str
    """Tensor that leaves it: the output of the requantizer's Min, or the node's own."""
    kind: str
    """``conv``, ``depthwise``, ``dense``, ``add``, ``analog conv``, which an accelerator could take; ``mean`` and
    ``input quantizer``, which HTVM forms on the CPU; the operator type of anything else."""
    core: str
    """``digital``, ``analog`` or ``cpu``."""
    nodes: tuple[str, ...]
    """Outputs of the nodes that it is made of, in order."""
    work: Work | None = None
    """Shapes, for layers that an accelerator could take."""
    because: tuple[str, ...] = ()
    """Codes of the findings that keep it on the CPU."""

    @property
    def estimate(self) -> Estimate | None:
        """Of cycles and energy on its core; None on the CPU, which no model knows."""
        return None if self.work is None else estimate(self.work, self.core)


@dataclass(frozen=True)
class Handoff:
    """The checker's verdict on one file and what stands beside it."""

    file: str
    findings: tuple[Finding, ...]
    regions: tuple[Region, ...] = ()
    """In execution order; empty where the graph is too broken to be partitioned."""
    notes: tuple[str, ...] = field(default=())

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings because of which HTVM does not compile the file, or computes something else."""
        return tuple(finding for finding in self.findings if finding.code.startswith("E"))

    @property
    def ok(self) -> bool:
        """Whether HTVM takes the file and computes its numbers."""
        return not self.errors

    @property
    def offloaded(self) -> dict[str, int]:
        """Number of layers on an accelerator, by kind."""
        counts: dict[str, int] = {}
        for region in self.regions:
            if region.core != "cpu":
                counts[region.kind] = counts.get(region.kind, 0) + 1
        return counts


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, int]]:
    """The first finding of every code, and how many there are of that code."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.code, finding)
    return [(found, sum(finding.code == code for finding in findings)) for code, found in first.items()]
