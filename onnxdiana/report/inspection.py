"""The terminal's and programs' view of an inspection (docs/inspect.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from onnxdiana.costs import as_entry, totals
from onnxdiana.inspection import Advice, Inspection, Line
from onnxdiana.report.tables import WIDTH, counted, grid, share, sizes, wrapped

FORMAT, VERSION = "onnxdiana.inspection", 1
_MOST_ADVICE = 8
_MOST_NAMES = 3


def table(found: Inspection) -> str:
    """Every layer, the verdict, and what to change."""
    models = list(_totals(found))
    rows = [[line.name, line.form, "?" if line.shape is None else sizes(line.shape), _number(line.macs),
             _number(line.parameters), *_cycles(line, models), line.core or ("none" if line.findings else "?")]
            for line in found.lines]
    right = set(range(3, 5 + len(models)))
    head, *body = grid(["tensor", "operator", "shape", "MACs", "parameters", *models, "core"], rows, right)
    lines = [head]
    for line, row in zip(found.lines, body, strict=True):
        lines += _with_reasons(row, [*(obstacle.reason for obstacle in line.obstacles), *_remarks(line)])
    return "\n".join([*lines, "", *_verdict(found), *_advice(found)])


def _totals(found: Inspection) -> dict[str, dict[str, Any]]:
    return totals(line.estimate for line in found.lines)


def _cycles(line: Line, models: Sequence[str]) -> list[str]:
    """Of every model, transfers included."""
    known = {cycles.model: round(cycles.total) for cycles in line.estimate.cycles} if line.estimate else {}
    return [_number(known.get(model)) for model in models]


def _remarks(line: Line) -> list[str]:
    """What becomes of a layer on the accelerator so that it fits."""
    found = [] if line.zero_taps is None else [f"with zero taps, as {sizes(line.zero_taps)}"]
    kept = None if line.estimate is None else line.estimate.memory
    return found + ([f"{kept.tiling}: {'; '.join(kept.because)}"] if kept is not None and kept.because else [])


def _with_reasons(row: str, reasons: Sequence[str]) -> list[str]:
    """On the same line where they fit, else below, one a line."""
    short = f"{row}  {'; '.join(reasons)}".rstrip()
    if len(short) <= WIDTH:
        return [short]
    return [row, *(part for reason in reasons for part in wrapped(reason, "    - "))]


def _verdict(found: Inspection) -> list[str]:
    inputs = ", ".join(f"'{name}' {sizes(shape)}" for name, shape in found.inputs.items())
    least = "at least " if any(line.macs is None for line in found.lines) else ""
    cores = [f"{macs:,} ({share(macs, found.macs)}) on {core}" for core, macs in found.macs_by_core.items() if macs]
    lines = [f"{found.name}: input {inputs}; {found.parameters:,} parameters, {found.weight_bytes:,} bytes as int8 "
             "weights and int32 biases",
             *found.notes, "; ".join([f"{least}{found.macs:,} MACs", *cores]), *_estimates(found)]
    if found.quantizable:
        return [*lines, "quantizable: yes"]
    groups: dict[str, list[str]] = {}
    for line in found.lines:
        for finding in line.findings:
            groups.setdefault(finding, []).append(f"{line.operator} -> '{line.name}'")
    number = sum(bool(line.findings) for line in found.lines)
    lines.append(f"quantizable: no, {counted(number, 'operator')} in the way")
    return lines + [part for finding, names in groups.items()
                    for part in wrapped(f"{_listed(_few(names))}: {finding}", "  - ")]


def _estimates(found: Inspection) -> list[str]:
    """Sums of the models, what they leave out, and the memory."""
    lines = []
    for model, figures in _totals(found).items():
        moved = figures["transfer_cycles"]
        transfers = "" if moved is None else f" ({moved:,} of transfers)"
        lines.append(f"{model} estimates {figures['cycles']:,} cycles{transfers}, {figures['milliseconds']:.3f} ms, "
                     f"{figures['microjoule']:.1f} uJ on {found.accelerator}")
    if lines and found.cpu_cycles:
        lines.append(f"besides, at least {found.cpu_cycles:,} cycles on cpu (one a MAC), which no model has")
    if found.memory is not None and found.memory_bytes is not None:
        over = "" if found.memory_bytes <= found.memory else ": TOO MUCH"
        lines.append(f"memory: weights and live activations {found.memory_bytes:,} of {found.memory:,} bytes{over}")
    return lines


def _advice(found: Inspection) -> list[str]:
    if not found.advice:
        return []
    lines = [f"what to change in the training code, and the MACs that it moves to {found.accelerator}:"]
    for advice in found.advice[:_MOST_ADVICE]:
        lines += wrapped(f"{advice.remedy}: {_names(advice)}",
                          f"  {share(advice.macs, found.macs):>4}  ")
    rest = len(found.advice) - _MOST_ADVICE
    return lines + ([f"  and {rest} more; --json tells all"] if rest > 0 else [])


def _names(advice: Advice) -> str:
    """Its layers; those whose numbers are others are said to be."""
    first, *others = _few([f"'{name}'" for name in advice.layers])
    if not advice.uniform:
        return f"{first}; likewise, with numbers of its own each, {_listed(others)}"
    return _listed([first, *others])


def _few(words: Sequence[str]) -> list[str]:
    rest = len(words) - _MOST_NAMES
    return [*words[:_MOST_NAMES], *([f"{rest} more"] if rest > 0 else [])]


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def as_json(found: Inspection) -> str:
    """The same for programs."""
    return json.dumps({
        "format": FORMAT, "version": VERSION,
        "model": {"name": found.name, "sha256": found.sha256, "opset": found.opset, "producer": found.producer,
                  "notes": list(found.notes)},
        "inputs": {name: list(shape) for name, shape in found.inputs.items()},
        "target": found.target, "accelerator": found.accelerator, "quantizable": found.quantizable,
        "layers": [{
            "name": line.name, "operator": line.operator, "form": line.form,
            "output_shape": None if line.shape is None else list(line.shape),
            "macs": line.macs, "parameters": line.parameters, "weight_bytes": line.weight_bytes, "core": line.core,
            "not_accelerated_because": [{"reason": o.reason, "remedy": o.remedy} for o in line.obstacles],
            "not_quantizable_because": list(line.findings),
            "zero_taps": None if line.zero_taps is None else list(line.zero_taps),
            "estimate": as_entry(line.estimate),
        } for line in found.lines],
        "totals": {"layers": len(found.lines), "macs": found.macs, "macs_by_core": found.macs_by_core,
                   "parameters": found.parameters, "weight_bytes": found.weight_bytes,
                   "activation_bytes": found.activation_bytes, "memory_bytes": found.memory_bytes,
                   "memory_limit": found.memory, "estimates": _totals(found), "cpu_cycles_at_least": found.cpu_cycles},
        "advice": [{"remedy": advice.remedy, "layers": list(advice.layers), "macs": advice.macs,
                    "same_for_all": advice.uniform} for advice in found.advice],
    }, indent=1)
