"""The terminal's and programs' view of the hand-over checker's verdict (docs/handoff.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from onnxdiana.costs import as_entry, totals
from onnxdiana.handoff.findings import LEVELS, Finding, Handoff, Region
from onnxdiana.report.tables import counted, grid, wrapped

FORMAT, VERSION = "onnxdiana.handoff_check", 1
_MOST_FINDINGS = 40
"""On a terminal; ``--json`` tells all."""


def table(found: Handoff) -> str:
    """Every layer and its core, the findings by level, the verdict."""
    models = list(totals(region.estimate for region in found.regions))
    rows = [[region.name, region.kind, *_cycles(region, models), region.core, ", ".join(region.because)]
            for region in found.regions]
    head = ["tensor", "layer", *models, "core", "because"]
    lines = [*grid(head, rows, set(range(2, 2 + len(models)))), ""] if rows else []
    shown = 0
    for level, meaning in LEVELS.items():
        group = [finding for finding in found.findings if finding.code.startswith(level)]
        if not group:
            continue
        lines.append(f"{counted(len(group), 'finding')}: {meaning}")
        room = max(_MOST_FINDINGS - shown, 0)
        for finding in group[:room]:
            lines += wrapped(str(finding).removeprefix(f"{finding.code} "), f"  {finding.code:<5}")
        shown += min(room, len(group))
        if len(group) > room:
            lines.append(f"  and {len(group) - room} more; --json tells all")
        lines.append("")
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes), verdict(found)])


def _cycles(region: Region, models: list[str]) -> list[str]:
    """Of every model, transfers included."""
    told = region.estimate
    known = {cycles.model: f"{round(cycles.total):,}" for cycles in told.cycles} if told else {}
    return [known.get(model, "-") for model in models]


def verdict(found: Handoff) -> str:
    """One line."""
    counts = ", ".join(f"{number} {kind}" for kind, number in found.offloaded.items()) or "nothing"
    if found.ok:
        return f"ok: HTVM takes {found.file}; predicted on the accelerator: {counts}"
    return f"FAILED: {counted(len(found.errors), 'error')}: HTVM does not take {found.file}, or computes something else"


def as_json(found: Handoff) -> str:
    """The same for programs."""
    return json.dumps({
        "format": FORMAT, "version": VERSION, "file": found.file, "ok": found.ok,
        "findings": [finding_json(finding) for finding in found.findings],
        "offloaded": found.offloaded, "estimates": totals(region.estimate for region in found.regions),
        "regions": [_region(region) for region in found.regions],
        "notes": list(found.notes),
    }, indent=1)


def finding_json(finding: Finding) -> dict[str, str]:
    """One finding, as ``summary.json`` has it too."""
    return {"code": finding.code, "level": finding.level, "node": finding.node, "found": finding.found,
            "needed": finding.needed, "remedy": finding.remedy}


def _region(region: Region) -> Mapping[str, Any]:
    return {"name": region.name, "kind": region.kind, "core": region.core, "nodes": list(region.nodes),
            "macs": None if region.work is None else region.work.macs, "because": list(region.because),
            "estimate": as_entry(region.estimate)}
