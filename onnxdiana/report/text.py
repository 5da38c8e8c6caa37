"""The terminal's view of a run: one table, what was found, what to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from onnxdiana.check import Report
from onnxdiana.exporting.artifacts import Artifacts


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Columns as wide as their widest cell; the named ones flush right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return ["  ".join(cell.rjust(w) if i in right else cell.ljust(w)
                      for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in [head, *rows]]


def table(result: Artifacts) -> str:
    """Layers, totals, quality and the folder."""
    summary = result.summary
    rows = [[entry["output"], entry["operator"], "x".join(map(str, entry["output_shape"])), entry["core"],
             str(entry["shift"]), f"2^{entry['exponent']}", _bits(entry["accumulator_bound"]), _db(entry["sqnr_db"])]
            for entry in summary["layers"]]
    head = ["tensor", "operator", "shape", "core", "shift", "scale", "accumulator", "SQNR dB"]
    totals = summary["totals"]
    cores = ", ".join(f"{macs / max(totals['macs'], 1):.0%} of MACs on {core}"
                      for core, macs in totals["macs_by_core"].items())
    lines = [*grid(head, rows, {4, 5, 6, 7}), "",
             f"{summary['model']['name']}: {totals['layers']} layers, {totals['macs'] / 1e6:.2f} MMAC, "
             f"{totals['parameters']} parameters; {cores}", *_quality(summary)]
    if result.folder is not None:
        lines.append(f"written: {result.folder}")
    return "\n".join(lines)


def _quality(summary: Mapping[str, Any]) -> list[str]:
    agreement, evaluation = summary["agreement"], summary["evaluation"]
    judge = f", htvm/model.onnx by {agreement['htvm_judge']}" if agreement["htvm_judge"] else ""
    lines = [f"exact: every requantizer bit for bit on {agreement['samples']} calibration samples "
             f"(reference, model.int.onnx{judge})"]
    for name, value in agreement["sqnr_db"].items():
        lines.append(f"output '{name}': integer {_db(value)} dB, "
                     f"fake-quantized {_db(agreement['sqnr_fake_quantized_db'][name])} dB against float "
                     "(calibration samples)")
    if evaluation is not None:
        for name, value in evaluation["sqnr_db"].items():
            lines.append(f"evaluation on {evaluation['source']} ({evaluation['samples']} samples): "
                         f"output '{name}' {_db(value)} dB against float")
        if evaluation["accuracy_float"] is not None:
            count = evaluation["samples"]
            lines.append(
                f"accuracy: float {evaluation['accuracy_float']:.2%} ({evaluation['errors_float']} errors of {count}), "
                f"integer {evaluation['accuracy_integer']:.2%} ({evaluation['errors_integer']} errors of {count})")
        elif evaluation["agreement"] is not None:
            lines.append(f"same answer as the float model: {evaluation['agreement']:.2%}")
    return lines


def notes(result: Artifacts) -> list[str]:
    """What a person should know besides the table."""
    summary = result.summary
    lines = [*summary["model"]["notes"]]
    if summary["handoff"]["obstacles"]:
        lines.append("htvm/ is not written; HTVM cannot express:")
        lines += [f"  - {reason}" for reason in summary["handoff"]["obstacles"]]
    evaluation, calibration = summary["evaluation"], summary["calibration"]
    if evaluation and evaluation["sha256"] and (evaluation["source"], evaluation["sha256"]) == (
            calibration["source"], calibration["sha256"]):
        lines.append("WARNING: evaluation data are the calibration data; the figures are too good")
    if result.moved is not None:
        lines.append(f"the folder that stood there is now {result.moved}")
    return lines


def as_json(result: Artifacts) -> str:
    """The summary, and where it was written."""
    folder = None if result.folder is None else str(result.folder)
    return json.dumps({**result.summary, "folder": folder}, indent=1, ensure_ascii=False)


def report(found: Report) -> str:
    """Findings of ``validate``, or what was checked."""
    rows = [[layer.tensor, _db(layer.sqnr_fake), _db(layer.sqnr), str(layer.distance)] for layer in found.layers]
    head = ["tensor", "fake-quantized dB", "integer dB", "codes apart"]
    lines = [*grid(head, rows, {1, 2, 3}), ""] if rows else []
    if found.ok:
        lines.append(f"ok: {found.samples} samples, {len(found.layers)} tensors, {found.files} files; "
                     "all spellings agree bit for bit")
    else:
        lines += [f"FAILED: {finding}" for finding in found.findings]
    return "\n".join(lines)


def report_json(found: Report) -> str:
    """The same for programs."""
    return json.dumps({
        "ok": found.ok, "samples": found.samples, "files": found.files, "findings": list(found.findings),
        "layers": [{"tensor": layer.tensor, "sqnr_fake_quantized_db": _finite(layer.sqnr_fake),
                    "sqnr_db": _finite(layer.sqnr), "largest_code_distance": layer.distance}
                   for layer in found.layers],
    }, indent=1, ensure_ascii=False)


def _finite(value: float) -> float | None:
    return round(value, 3) if value not in (float("inf"), float("-inf")) else None


def _db(value: float | None) -> str:
    return "exact" if value is None or value == float("inf") else f"{value:.2f}"


def _bits(bound: int) -> str:
    return f"<2^{bound.bit_length()}"
