"""The terminal's view of a run: one table, what was found, what to do next."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from onnxdiana.canonical import TOLERANCE
from onnxdiana.check import Report
from onnxdiana.exporting.artifacts import Artifacts
from onnxdiana.handoff.findings import Finding, grouped
from onnxdiana.report.tables import counted, grid, share, sizes
from onnxdiana.rules.ops.base import ACCUMULATOR

_POOR = 10
"""dB below which an output is warned of."""
_MOST_FINDINGS = 20
"""On a terminal; ``--json`` tells all."""


def table(result: Artifacts) -> str:
    """Layers, totals, quality, the folder and what to do with it."""
    summary = result.summary
    rows = [[entry["output"], entry["operator"], sizes(entry["output_shape"]), entry["core"],
             str(entry["shift"]), f"2^{entry['exponent']}", _bits(entry["accumulator_bound"]), _db(entry["sqnr_db"])]
            for entry in summary["layers"]]
    head = ["tensor", "operator", "shape", "core", "shift", "scale", "accumulator", "SQNR dB"]
    totals = summary["totals"]
    lines = [*grid(head, rows, {4, 5, 6, 7}), "",
             f"{summary['model']['name']}: {counted(totals['layers'], 'layer')}, {totals['macs'] / 1e6:.2f} MMAC, "
             f"{totals['parameters']} parameters; {_cores(summary)}", *_quality(summary)]
    if result.folder is not None:
        lines.append(f"written: {result.folder} (check it with: onnxdiana validate {result.folder})")
    if summary["handoff"]["written"]:
        place = "htvm/model.onnx" if result.folder is None else result.folder / "htvm" / "model.onnx"
        lines.append(f"for HTVM: {place}; {_offloaded(summary)}")
    return "\n".join(lines)


def _offloaded(summary: Mapping[str, Any]) -> str:
    """What the accelerator is predicted to get, and how long it is estimated to take."""
    counts = ", ".join(f"{number} {kind}" for kind, number in summary["handoff"]["offloaded"].items())
    times = " or ".join(f"{figures['milliseconds']:.3g} ms ({model})"
                        for model, figures in summary["handoff"]["estimate"].items())
    return f"predicted on the accelerator: {counts or 'nothing'}" + (f"; estimated {times} there" if times else "")


def _cores(summary: Mapping[str, Any]) -> str:
    """Layers and share of the work on each core, the busiest first."""
    totals = summary["totals"]
    names = [entry["core"] for entry in summary["layers"]]
    by_work = sorted(totals["macs_by_core"].items(), key=lambda item: -item[1])
    return ", ".join(f"{names.count(core)} on {core} ({share(macs, totals['macs'])} of MACs)"
                     for core, macs in by_work)


def _quality(summary: Mapping[str, Any]) -> list[str]:
    agreement, evaluation = summary["agreement"], summary["evaluation"]
    judge = f", htvm/model.onnx by {agreement['htvm_judge']}" if agreement["htvm_judge"] else ""
    kind = "SYNTHETIC" if summary["calibration"]["synthetic"] else "calibration"
    lines = [f"exact: at every requantizer, bit for bit, on {counted(agreement['samples'], f'{kind} sample')} "
             f"(numpy reference, model.int.onnx{judge})"]
    for name, value in agreement["sqnr_db"].items():
        lines.append(f"against float, on {kind} samples: output '{name}' {_decibel(value)} "
                     f"(fake-quantized {_decibel(agreement['sqnr_fake_quantized_db'][name])})")
    if evaluation is None:
        return lines
    count, errors = evaluation["samples"], [evaluation["errors_float"], evaluation["errors_integer"]]
    where = f"on {evaluation['source']} ({counted(count, 'sample')})"
    for name, value in evaluation["sqnr_db"].items():
        lines.append(f"against float, {where}: output '{name}' {_decibel(value)}")
    if evaluation["accuracy_float"] is not None:
        told = [f"{name} {accuracy:.2%} ({counted(wrong, 'error')})" for name, accuracy, wrong in zip(
            ("float", "integer"), (evaluation["accuracy_float"], evaluation["accuracy_integer"]), errors, strict=True)]
        lines.append(f"accuracy {where}: {', '.join(told)}")
    elif evaluation["agreement"] is not None:
        lines.append(f"same answer as the float model {where}: {evaluation['agreement']:.2%}")
    return lines


def notes(result: Artifacts) -> list[str]:
    """What a person should know besides the table."""
    summary = result.summary
    lines = [*summary["model"]["notes"], *_by_rules(summary), *_on_cpu(summary), *_poor(summary)]
    if summary["tail"]:
        lines.append(f"in float behind the last layer: {', '.join(summary['tail'])}; the hand-over graph ends before")
    lines += _handed_over(summary)
    evaluation, calibration = summary["evaluation"], summary["calibration"]
    if evaluation and evaluation["sha256"] and (evaluation["source"], evaluation["sha256"]) == (
            calibration["source"], calibration["sha256"]):
        lines.append("WARNING: evaluation data are the calibration data; the figures are too good")
    if result.moved is not None:
        lines.append(f"the folder that stood there is now {result.moved}")
    return lines


def _handed_over(summary: Mapping[str, Any]) -> list[str]:
    """What was chosen for the hand-over graph, and what the checker says of it."""
    handoff = summary["handoff"]
    if handoff["obstacles"]:
        return ["htvm/ is not written; HTVM cannot express:", *(f"  - {reason}" for reason in handoff["obstacles"])]
    by_option: dict[str, list[Mapping[str, Any]]] = {}
    for choice in handoff["choices"]:
        if choice["applied"] or choice["option"] == "pad-outputs":
            by_option.setdefault(choice["option"], []).append(choice)
    lines = [f"--{option}: {_places(found[0]['place'], len(found))}: {found[0]['what']} ({found[0]['reason']})"
             for option, found in by_option.items() if option != "tail"]
    wanted = summary["options"]["vectors"]
    written = 1 + sum(name.startswith("vectors/") and name.endswith("/input.npy") for name in summary["files"])
    if written < wanted:
        lines.append(f"--vectors: {counted(written, 'sample')} with vectors, not {wanted}: the data have no more")
    known = {f"'{entry['name']}{ACCUMULATOR}'" for entry in summary["layers"]}  # told above, by the target's reasons
    findings = [Finding(**{key: value for key, value in found.items() if key != "level"})
                for found in handoff["findings"]
                if not (found["code"].startswith("W") and found["node"].split(" -> ")[-1] in known)]
    told = {level: [f"  - {first.code} at {_places(first.node, count)}: {first.found}; needed: {first.needed}"
                    for first, count in grouped([f for f in findings if f.code.startswith(level)])] for level in "EWH"}
    if told["E"]:
        lines += ["WARNING: HTVM does not take htvm/model.onnx as it is:", *told["E"]]
    if told["W"]:
        lines += ["on the CPU besides, in the hand-over graph:", *told["W"]]
    if told["H"]:
        lines += ["doubtful on silicon ('onnxdiana handoff' tells all, and what to do):", *told["H"]]
    return lines


def _places(first: str, count: int) -> str:
    return first if count == 1 else f"{count} places, the first {first}"


def _by_rules(summary: Mapping[str, Any]) -> list[str]:
    """What the user's rules did."""
    found = summary["canonicalization"]
    if not found["user_rules"]:
        return [] if summary["options"]["rules"] is None else ["WARNING: none of your rules fits anywhere in the model"]
    fired = ", ".join(f"{entry['rule']} ({counted(entry['places'], 'place')})" for entry in found["user_rules"])
    difference = found["user_rules_relative_difference"]
    if difference is None:
        return [f"your rules: {fired}; whether they changed the answers cannot be told, the original does not run in "
                "onnxruntime"]
    if difference > TOLERANCE:
        return [f"WARNING: your rules changed the model's answers by {difference:g} of the largest: {fired}"]
    return [f"your rules: {fired}; the answers stayed"]


def _poor(summary: Mapping[str, Any]) -> list[str]:
    """Outputs that have little to do with the float model's, and where to look first."""
    poor = [f"'{name}' ({_decibel(value)})" for name, value in summary["agreement"]["sqnr_db"].items()
            if value is not None and value < _POOR]
    if not poor:
        return []
    layers = [f"  - the first layer below {_POOR} dB is {entry['operator']} -> '{entry['output']}': look there for "
              "weights or activations of very different size"
              for entry in summary["layers"] if entry["sqnr_db"] is not None and entry["sqnr_db"] < _POOR]
    return [f"WARNING: the integer model answers little like the float one at output {', '.join(poor)}", *layers[:1]]


def _on_cpu(summary: Mapping[str, Any]) -> list[str]:
    """Layers that the accelerator does not take, and why not."""
    if summary["options"]["core"] == "cpu":
        return ["every layer is on the CPU, as asked for (of which HTVM's partitioner knows nothing)"]
    layers = [entry for entry in summary["layers"] if entry["not_accelerated_because"]]
    lines = [f"{counted(len(layers), 'layer')} on the CPU:"] if layers else []
    return lines + [f"  - {entry['operator']} -> '{entry['output']}': {', and '.join(entry['not_accelerated_because'])}"
                    for entry in layers]


def as_json(result: Artifacts) -> str:
    """The summary, and where it was written."""
    folder = None if result.folder is None else str(result.folder)
    return json.dumps({**result.summary, "folder": folder}, indent=1)


def report(found: Report) -> str:
    """Findings of ``validate``, or what was checked."""
    rows = [[layer.tensor, _db(layer.sqnr_fake), _db(layer.sqnr), str(layer.distance)] for layer in found.layers]
    head = ["tensor", "fake-quantized dB", "integer dB", "codes apart at most"]
    lines = [f"SQNR against the float model on {counted(found.samples, 'sample')}",
             *grid(head, rows, {1, 2, 3}), ""] if rows else []
    if found.ok:
        return "\n".join([*lines, f"ok: {found.files} files are what was written, and every spelling agrees, bit for "
                                  f"bit, at {len(found.layers)} tensors"])
    shown = found.findings[:_MOST_FINDINGS]
    rest = len(found.findings) - len(shown)
    return "\n".join([*lines, *(f"FAILED: {finding}" for finding in shown),
                      *([f"and {rest} more; --json tells all"] if rest else [])])


def report_json(found: Report) -> str:
    """The same for programs."""
    return json.dumps({
        "ok": found.ok, "samples": found.samples, "files": found.files, "findings": list(found.findings),
        "layers": [{"tensor": layer.tensor, "sqnr_fake_quantized_db": _finite(layer.sqnr_fake),
                    "sqnr_db": _finite(layer.sqnr), "largest_code_distance": layer.distance}
                   for layer in found.layers],
    }, indent=1)


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def _db(value: float | None) -> str:
    return "exact" if value is None or math.isinf(value) else f"{value:.2f}"


def _decibel(value: float | None) -> str:
    return _db(value) + (" dB" if value is not None else "")


def _bits(bound: int) -> str:
    return f"<2^{bound.bit_length()}"
