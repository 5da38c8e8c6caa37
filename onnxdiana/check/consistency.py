"""What in the parts of a folder follows from other parts: codes, shifts, rounded weights, proven accumulators.

What follows from nothing (float parameters, corrected biases) is checked against its hash in ``summary.json``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana.check.folder import FAKE, FLOAT, INTEGER, SCALES, Folder
from onnxdiana.choices import Plan
from onnxdiana.config import Config
from onnxdiana.graph import name_of
from onnxdiana.integers import Parameters, accumulator_exponent, complete_table
from onnxdiana.layers import Network
from onnxdiana.report.summary import digests
from onnxdiana.scales import ScaleTable, TensorScale
from onnxdiana.targets import Target

_DIGESTED = {"float_weight": ("weight", FLOAT), "float_bias": ("bias", FLOAT), "weight": ("weight", INTEGER),
             "bias": ("bias", INTEGER), "fake_weight": ("weight", FAKE), "fake_bias": ("bias", FAKE)}


def roles(view: Network) -> dict[str, str]:
    """Role of every tensor of the graph that has a scale."""
    inputs = set(view.model.graph.inputs)
    weights = [layer.operator.weight(layer.node) for layer in view.layers]
    return {**{name_of(v): "input" if v in inputs else "activation" for v in view.quantized},
            **{name_of(v): "weight" for v in weights if v is not None}}


def place(view: Network, tensor: str) -> str:
    """How a finding points at a tensor: by the layer that makes it or reads it as its weight."""
    for layer in view.layers:
        weight = layer.operator.weight(layer.node)
        if tensor == name_of(layer.output) or (weight is not None and tensor == name_of(weight)):
            return f"layer '{layer.name}', tensor '{tensor}'"
    return f"tensor '{tensor}'"


def table_findings(view: Network, table: ScaleTable, target: Target | None) -> Iterator[str]:
    """Entries that do not follow from the exponents, the graph and the target."""
    bounds = {name_of(layer.output): layer.bounds for layer in view.layers}
    unbounded = (-math.inf, math.inf)
    for name, role in roles(view).items():
        scale = table.tensors[name]
        codes = scale.codes
        if target is not None:
            codes = target.weight if role == "weight" else target.codes(bounds.get(name, unbounded), scale.scalar)
        yield from _unequal(place(view, name), scale, TensorScale(scale.exponent, codes, None, role))
    for layer in view.layers:
        own = table.layers[layer.name]
        shift = table.exponent(name_of(layer.output)) - accumulator_exponent(view, table, layer)
        yield from _unequal(f"layer '{layer.name}'", own, dataclasses.replace(own, shift=shift))


def _unequal(where: str, found: Any, expected: Any) -> Iterator[str]:
    """Fields of two entries of the table that differ."""
    for field in dataclasses.fields(found):
        has, gives = getattr(found, field.name), getattr(expected, field.name)
        if has != gives:
            yield f"{where}: {SCALES} has {field.name} {has}, the other files give {gives}"


def digest_findings(
    folder: Folder, view: Network, parameters: Mapping[str, Parameters], fake: Mapping[str, Parameters]
) -> Iterator[str]:
    """Weights and biases that are not what was written."""
    recorded = folder.layers()
    for layer in view.layers:
        hashes = recorded.get(layer.name, {}).get("sha256")
        hashes = hashes if isinstance(hashes, dict) else {}
        for role, value in digests(view, parameters, fake, layer).items():
            what, name = _DIGESTED[role]
            if hashes.get(role) != value:
                yield (f"layer '{layer.name}': its {what} in {name} is not what was written (its sha256 in "
                       "summary.json differs)")


def rounding_findings(
    name: str, found: Mapping[str, Parameters], rounded: Mapping[str, Parameters], roles: Sequence[str]
) -> Iterator[str]:
    """Integers of a model that are not what the float ones round to."""
    for layer, own in found.items():
        for role in roles:
            has, gives = getattr(own, role), getattr(rounded[layer], role)
            if (at := first_difference(has, gives)) is not None:
                yield (f"layer '{layer}': its {role} in {name} at {list(at)} is {has[at]}, the float {role} rounds to "
                       f"{gives[at]}")


def first_difference(found: NDArray[Any], expected: NDArray[Any]) -> tuple[int, ...] | None:
    """Index of the first element in which two arrays of one shape differ."""
    bad = np.argwhere(found != expected)
    return tuple(int(i) for i in bad[0]) if len(bad) else None


def proof_findings(
    view: Network, table: ScaleTable, target: Target | None, integer: ir.Model, config: Config, plan: Plan
) -> Iterator[str]:
    """Cores, roundings and accumulator bounds, proven again."""
    again = complete_table(view, table, integer, target or Target(table.target), config.core, plan.forms)
    for layer in view.layers:
        own, proven = table.layers[layer.name], again.layers[layer.name]
        if target is None:
            proven = dataclasses.replace(proven, core=own.core)
        yield from _unequal(f"layer '{layer.name}'", own, proven)
