"""What ``summary.json`` says that follows from the parts: every layer's entry, the totals, the agreement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnxdiana.check.folder import Folder
from onnxdiana.check.parts import Parts
from onnxdiana.choices import explain
from onnxdiana.handoff.findings import Handoff
from onnxdiana.report import summary
from onnxdiana.targets import Target
from onnxdiana.validation import Agreement

_DECIBEL = 0.05
"""Float models answer a little differently on another processor, and so does the error against them."""
_NEAR_EXACT = 80.0
"""Above this, in dB, the error against the float model is mostly the float model's own."""
_OF_TARGET = ("core", "not_accelerated_because", "macs_by_core", "estimate", "choices", "memory_limit")


def figure_findings(
    folder: Folder, parts: Parts, agreement: Agreement, obstacles: tuple[str, ...], verdict: Handoff | None
) -> Iterator[str]:
    """Entries that are not what the parts give.

    Args:
        folder, parts: the folder.
        agreement: of all spellings on the stored samples.
        obstacles: why there is no ``htvm/``.
        verdict: what the checker says of it.
    """
    target = parts.target or Target(parts.table.target)
    chips = summary.on_chip(parts.view, parts.table, target, parts.plan.forms)
    layers = summary.layer_entries(parts.view, parts.table, parts.parameters, parts.fake, chips, agreement)
    chosen = explain(parts.view, parts.tail, parts.table, target, parts.config, parts.plan)
    sums = summary.totals(parts.view, layers, chips, target)
    expected = {"target": parts.table.target, "tail": parts.tail.operators, "totals": sums,
                "handoff": summary.handoff(obstacles, chosen, verdict, parts.plan.own),
                "agreement": summary.agreement_entry(parts.view, agreement) | {
                    "samples": folder.section("agreement").get("samples")}}
    skipped = () if parts.target is not None else _OF_TARGET
    recorded = folder.layers()
    for entry in layers:
        if entry["name"] in recorded:
            yield from _differences(f"layer '{entry['name']}'", "", recorded[entry["name"]], entry, skipped)
    listed = folder.summary.get("layers")
    names = [e.get("name") if isinstance(e, dict) else e for e in listed] if isinstance(listed, list) else listed
    if names != [entry["name"] for entry in layers]:
        yield f"summary.json lists the layers {names}, expected {[entry['name'] for entry in layers]}"
    for key, value in expected.items():
        yield from _differences("summary.json", key, folder.summary.get(key), value, skipped)


def _differences(
    place: str, path: str, found: Any, expected: Any, skipped: tuple[str, ...]
) -> Iterator[str]:
    """Keys under which two documents differ; decibels within a tolerance."""
    if isinstance(found, dict) and isinstance(expected, Mapping):
        for key in dict.fromkeys([*expected, *found]):
            if key not in skipped:
                decibels = "_db" in f"{path}.{key}"
                has, gives = found.get(key), expected.get(key)
                if not (decibels and _near(has, gives)):
                    yield from _differences(place, f"{path}.{key}" if path else key, has, gives, skipped)
    elif found != expected or isinstance(found, bool) != isinstance(expected, bool):
        yield f"{place}: summary.json has {path} {found!r}, the other files give {expected!r}"


def _near(found: Any, expected: Any) -> bool:
    """Whether two figures in dB are the same for all that matters; None is exact."""
    a, b = (float("inf") if value is None else value for value in (found, expected))
    if not all(isinstance(value, int | float) for value in (a, b)):
        return False
    return bool(abs(a - b) <= _DECIBEL if min(a, b) < _NEAR_EXACT else max(a, b) >= _NEAR_EXACT)
