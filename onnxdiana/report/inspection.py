"""The terminal's and programs' view of an inspection (docs/inspect.md)."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

from onnxdiana.inspection import Advice, Inspection
from onnxdiana.report.tables import counted, grid, share, sizes

FORMAT, VERSION = "onnxdiana.inspection", 1
_WIDTH = 120
"""Columns in which lines with text are kept."""
_MOST_ADVICE = 8
_MOST_NAMES = 3


def table(found: Inspection) -> str:
    """Every layer, the verdict, and what to change."""
    rows = [[line.name, line.form, "?" if line.shape is None else sizes(line.shape), _number(line.macs),
             _number(line.parameters), line.core or ("none" if line.findings else "?")] for line in found.lines]
    head, *body = grid(["tensor", "operator", "shape", "MACs", "parameters", "core"], rows, {3, 4})
    lines = [head]
    for line, row in zip(found.lines, body, strict=True):
        lines += _with_reasons(row, [obstacle.reason for obstacle in line.obstacles])
    return "\n".join([*lines, "", *_verdict(found), *_advice(found)])


def _with_reasons(row: str, reasons: Sequence[str]) -> list[str]:
    """On the same line where they fit, else below, one a line."""
    short = f"{row}  {'; '.join(reasons)}".rstrip()
    if len(short) <= _WIDTH:
        return [short]
    return [row, *(part for reason in reasons for part in _wrapped(reason, "    - "))]


def _wrapped(text: str, lead: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead),
                         break_long_words=False, break_on_hyphens=False)


def _verdict(found: Inspection) -> list[str]:
    inputs = ", ".join(f"'{name}' {sizes(shape)}" for name, shape in found.inputs.items())
    least = "at least " if any(line.macs is None for line in found.lines) else ""
    cores = [f"{macs:,} ({share(macs, found.macs)}) on {core}" for core, macs in found.macs_by_core.items() if macs]
    lines = [f"{found.name}: input {inputs}; {found.parameters:,} parameters, {found.weight_bytes:,} bytes as int8 "
             "weights and int32 biases",
             *found.notes, "; ".join([f"{least}{found.macs:,} MACs", *cores])]
    if found.quantizable:
        return [*lines, "quantizable: yes"]
    groups: dict[str, list[str]] = {}
    for line in found.lines:
        for finding in line.findings:
            groups.setdefault(finding, []).append(f"{line.operator} -> '{line.name}'")
    number = sum(bool(line.findings) for line in found.lines)
    lines.append(f"quantizable: no, {counted(number, 'operator')} in the way")
    return lines + [part for finding, names in groups.items()
                    for part in _wrapped(f"{_listed(_few(names))}: {finding}", "  - ")]


def _advice(found: Inspection) -> list[str]:
    if not found.advice:
        return []
    lines = [f"what to change in the training code, and the MACs that it moves to {found.accelerator}:"]
    for advice in found.advice[:_MOST_ADVICE]:
        lines += _wrapped(f"{advice.remedy}: {_names(advice)}",
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
        } for line in found.lines],
        "totals": {"layers": len(found.lines), "macs": found.macs, "macs_by_core": found.macs_by_core,
                   "parameters": found.parameters, "weight_bytes": found.weight_bytes},
        "advice": [{"remedy": advice.remedy, "layers": list(advice.layers), "macs": advice.macs,
                    "same_for_all": advice.uniform} for advice in found.advice],
    }, indent=1)
