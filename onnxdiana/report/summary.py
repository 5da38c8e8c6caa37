"""``summary.json``: everything a person or a program wants to know about a run, the same bytes for the same run."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import onnxdiana
from onnxdiana import costs, graph
from onnxdiana.calibration import Calibration
from onnxdiana.choices import Choice, Plan, explain, written
from onnxdiana.config import Config
from onnxdiana.costs.layers import activation_bytes, weight_bytes
from onnxdiana.exporting.folder import FORMAT
from onnxdiana.forms import Forms
from onnxdiana.graph import name_of
from onnxdiana.handoff.findings import Handoff
from onnxdiana.integers import Parameters, code_name
from onnxdiana.layers import Layer, Network
from onnxdiana.loading import LoadedModel
from onnxdiana.report.evaluation import Evaluation
from onnxdiana.report.handoff import finding_json
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail
from onnxdiana.targets import Target
from onnxdiana.validation import Agreement

VERSION = 1
LIBRARIES = ("numpy", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnx-graphsurgeon")


@dataclass(frozen=True)
class Facts:
    """What the stages before the export have found out."""

    loaded: LoadedModel
    applied: tuple[tuple[str, int], ...]
    difference: float
    user_rules: tuple[tuple[str, int], ...]
    user_difference: float | None
    calibration: Calibration
    further: Mapping[str, NDArray[Any]]
    pooling: Mapping[str, str]
    target: Target
    config: Config
    plan: Plan
    evaluation: Evaluation | None


def digest(array: NDArray[Any] | None) -> str | None:
    """sha256 of an array's bytes."""
    return None if array is None else hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def decibel(value: float) -> float | None:
    """Rounded for people; None where nothing differs, -300 where there is no signal but an error."""
    return None if value == math.inf else max(round(value, 3), -300.0) if math.isfinite(value) else -300.0


def digests(view: Network, parameters: Mapping[str, Parameters], fake: Mapping[str, Parameters],
            layer: Layer) -> dict[str, str | None]:
    """Hashes of a layer's parameters, which is how ``validate`` names the layer whose values were changed."""
    if layer.name not in parameters:
        return {}
    weight, bias = layer.operator.weight(layer.node), layer.operator.bias(layer.node)
    return {
        "float_weight": digest(graph.constant(weight)), "float_bias": digest(graph.constant(bias)),
        "weight": digest(parameters[layer.name].weight), "bias": digest(parameters[layer.name].bias),
        "fake_weight": digest(fake[layer.name].weight), "fake_bias": digest(fake[layer.name].bias),
    }


def summarize(
    view: Network, tail: Tail, table: ScaleTable, parameters: Mapping[str, Parameters], fake: Mapping[str, Parameters],
    facts: Facts, agreement: Agreement, obstacles: Sequence[str], verdict: Handoff | None, files: Mapping[str, str],
) -> dict[str, Any]:
    """The document.

    Args:
        view, tail, table, parameters, fake: the quantized model.
        facts: of the stages before.
        agreement: of all spellings.
        obstacles: why there is no ``htvm/``; empty where there is.
        verdict: what the checker says of it; None where there is none.
        files: sha256 of every other file, by relative path.
    """
    chips = on_chip(view, table, facts.target, facts.plan.forms)
    layers = layer_entries(view, table, parameters, fake, chips, agreement)
    told = explain(view, tail, table, facts.target, facts.config, facts.plan)
    calibration, evaluation = facts.calibration, facts.evaluation
    return {
        "format": FORMAT,
        "version": VERSION,
        "versions": {"onnxdiana": onnxdiana.__version__,
                     **{name: importlib.metadata.version(name) for name in LIBRARIES}},
        "model": {"name": facts.loaded.name, "sha256": facts.loaded.sha256,
                  "external": dict(facts.loaded.external), "opset": facts.loaded.opset,
                  "producer": facts.loaded.producer, "notes": list(facts.loaded.notes)},
        "options": _options(facts),
        "target": facts.target.name,
        "calibration": {
            "source": calibration.description, "sha256": calibration.sha256, "synthetic": calibration.synthetic,
            "samples": calibration.samples, "correction_samples": list(calibration.kept_indices),
        },
        "canonicalization": {
            "user_rules": [{"rule": rule, "places": places} for rule, places in facts.user_rules],
            "user_rules_relative_difference": None if facts.user_difference is None else _short(facts.user_difference),
            "rules": [{"rule": rule, "places": places} for rule, places in facts.applied],
            "largest_relative_difference": _short(facts.difference)},
        "pooling": dict(facts.pooling),
        "layers": layers,
        "tail": tail.operators,
        "totals": totals(view, layers, chips, facts.target),
        "agreement": agreement_entry(view, agreement),
        "handoff": handoff(obstacles, told, verdict, facts.plan.own),
        "evaluation": None if evaluation is None else {
            "source": evaluation.description, "sha256": evaluation.sha256, "samples": evaluation.samples,
            "sqnr_db": {name: decibel(v) for name, v in evaluation.sqnr.items()},
            "agreement": evaluation.agreement,
            "errors_float": evaluation.errors_float, "errors_integer": evaluation.errors_integer,
            "accuracy_float": evaluation.accuracy_float, "accuracy_integer": evaluation.accuracy_integer,
        },
        "files": dict(sorted(files.items())),
    }


def _short(value: float) -> float:
    return min(float(f"{value:.2g}"), sys.float_info.max)  # JSON has no infinity


def _options(facts: Facts) -> dict[str, Any]:
    """As used; of a user's files the name without the folder, which is another one on every machine."""
    rules = facts.config.rules
    return {**dataclasses.asdict(facts.config), "target": facts.target.name,
            "input_shape": {name: list(shape) for name, shape in facts.config.input_shape.items()},
            "rules": None if rules is None else Path(rules).name}


def layer_entries(
    view: Network, table: ScaleTable, parameters: Mapping[str, Parameters], fake: Mapping[str, Parameters],
    chips: Sequence[OnChip], agreement: Agreement,
) -> list[dict[str, Any]]:
    """One entry a requantizing layer, in execution order."""
    return [_layer(table, chip, agreement, layer) | {"sha256": digests(view, parameters, fake, layer)}
            for layer, chip in zip(view.layers, chips, strict=True)]


@dataclass(frozen=True)
class OnChip:
    """What the target says of a layer as it is handed over."""

    because: list[str]
    """Why not on the accelerator."""
    estimate: costs.Estimate | None
    """On its core."""


def on_chip(view: Network, table: ScaleTable, target: Target, forms: Forms) -> list[OnChip]:
    """What the target says of every layer, in execution order."""
    found = []
    for layer in view.layers:
        with written(layer, forms.accelerated(layer.name)) as handed:
            because = [obstacle.reason for obstacle in target.judge(handed)]
            estimate = target.estimated(handed, table.layers[layer.name].core)
        if layer.name in forms.unbiased:
            because.append("all of its bias is zero and left out")
        found.append(OnChip(because, estimate))
    return found


def totals(
    view: Network, layers: Sequence[Mapping[str, Any]], chips: Sequence[OnChip], target: Target
) -> dict[str, Any]:
    """Sums over the entries of all layers, and over :func:`on_chip`; what the network takes of the chip's memory."""
    weights, activations = weight_bytes(view), activation_bytes(view)
    return {
        "layers": len(layers), "macs": sum(entry["macs"] for entry in layers),
        "parameters": sum(entry["parameters"] for entry in layers),
        "macs_by_core": {core: sum(entry["macs"] for entry in layers if entry["core"] == core)
                         for core in sorted({entry["core"] for entry in layers})},
        "largest_accumulator_bound": max((entry["accumulator_bound"] for entry in layers), default=0),
        "estimate": costs.totals(chip.estimate for chip in chips),
        "weight_bytes": weights, "activation_bytes": activations, "memory_bytes": weights + activations,
        "memory_limit": target.memory,
    }


def agreement_entry(view: Network, agreement: Agreement) -> dict[str, Any]:
    """How near the spellings are to each other and to the float model."""
    return {
        "samples": agreement.samples, "exact": not agreement.mismatches, "htvm_judge": agreement.judge,
        "sqnr_db": {name_of(v): decibel(agreement.sqnr[name_of(v)]) for v in view.model.graph.outputs},
        "sqnr_fake_quantized_db": {name: decibel(v) for name, v in agreement.sqnr_fake.items()},
    }


def handoff(
    obstacles: Sequence[str], choices: Sequence[Choice], verdict: Handoff | None, own: int | None
) -> dict[str, Any]:
    """Whether there is an ``htvm/``, and why not; what was chosen for it, and what the checker says.

    Args:
        obstacles, choices, verdict: as they were found.
        own: outputs of the classifier that are its own, where more were added.
    """
    regions = () if verdict is None else verdict.regions
    return {
        "written": not obstacles, "obstacles": list(obstacles), "choices": [choice.entry() for choice in choices],
        "findings": [] if verdict is None else [finding_json(finding) for finding in verdict.findings],
        "own_outputs": own, "offloaded": {} if verdict is None else verdict.offloaded,
        "estimate": costs.totals(region.estimate for region in regions),
        "regions": [{"name": region.name, "kind": region.kind, "core": region.core, "because": list(region.because)}
                    for region in regions],
    }


def _layer(table: ScaleTable, chip: OnChip, agreement: Agreement, layer: Layer) -> dict[str, Any]:
    scale, own = table.tensors[name_of(layer.output)], table.layers[layer.name]
    arrays = [a for v in (layer.operator.weight(layer.node), layer.operator.bias(layer.node))
              if (a := graph.constant(v)) is not None]
    return {
        "name": layer.name, "operator": layer.operation, "output": name_of(layer.output),
        "output_shape": list(graph.sample_shape(layer.output)),
        "core": own.core, "not_accelerated_because": chip.because,
        "shift": own.shift, "rounding": own.rounding, "exponent": scale.scalar, "codes": list(scale.codes),
        "accumulator_bound": own.accumulator_bound,
        "sqnr_db": decibel(agreement.sqnr[code_name(layer.output)]),
        "macs": layer.operator.macs(layer.node), "parameters": sum(a.size for a in arrays),
        "estimate": costs.as_entry(chip.estimate),
    }
