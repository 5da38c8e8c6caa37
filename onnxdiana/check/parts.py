"""What determines every file of an output folder, read back: canonical graph, scale table, integer parameters.

Nothing is believed before it is checked: types, sizes and names here, values in :mod:`.consistency`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import loading, spec, targets
from onnxdiana.check.consistency import (
    digest_findings,
    place,
    proof_findings,
    roles,
    rounding_findings,
    table_findings,
)
from onnxdiana.check.folder import FAKE, FLOAT, INTEGER, SCALES, Damaged, Folder
from onnxdiana.choices import Plan, choose
from onnxdiana.config import NAMES, Config
from onnxdiana.errors import ConfigError, ModelError, ScaleTableError, SpecViolation, TargetError
from onnxdiana.exporting.files import serialize, sha256
from onnxdiana.graph import name_of, where
from onnxdiana.integers import Parameters, integerize, round_parameters
from onnxdiana.layers import Network, network
from onnxdiana.padding import is_padded
from onnxdiana.rules.ops import operator
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail, split
from onnxdiana.targets import Target

_EXPONENTS = range(-149, 128)
"""Powers of two that float32 holds."""


@dataclass(frozen=True)
class Parts:
    """A quantized network, as its folder has it."""

    view: Network
    tail: Tail
    table: ScaleTable
    target: Target | None
    """None for a target from a user's file: nothing in a folder is trusted enough to be run."""
    parameters: Mapping[str, Parameters]
    fake: Mapping[str, Parameters]
    integer: ir.Model
    config: Config
    """The options on which the files depend."""
    plan: Plan


def canonical_graph(folder: Folder) -> tuple[Network, Tail]:
    """The graph of ``model.float.onnx``, and what of it stays in float.

    Raises:
        Damaged: it cannot be read, breaks the contract of canonical graphs, or is not in the form that we write.
    """
    proto = folder.model(FLOAT)
    try:
        loading.load(proto)  # the gate that every untrusted model goes through
        model = ir.from_proto(proto)
        spec.verify_canonical(model)
    except (ModelError, SpecViolation) as error:
        raise Damaged(f"{FLOAT}: {error}") from error
    if serialize(ir.to_proto(model)) != folder.files[FLOAT]:
        raise Damaged(f"{FLOAT} is not in the form that was written; quantize again")
    body, tail = split(model)
    return network(body), tail


def scale_table(folder: Folder, view: Network) -> ScaleTable:
    """The table of ``scales.json``, of exactly the tensors and layers of the graph.

    Raises:
        Damaged: not a table, or of another graph.
    """
    try:
        table = ScaleTable.from_json(folder.files[SCALES].decode())
    except (ScaleTableError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(str(error) if isinstance(error, ScaleTableError) else f"{SCALES}: not JSON ({error})") from error
    for what, expected, found in (("tensors", set(roles(view)), set(table.tensors)),
                                  ("layers", {layer.name for layer in view.layers}, set(table.layers))):
        if expected != found:
            raise Damaged(f"{SCALES}: {what} do not match {FLOAT}: missing {sorted(expected - found)}, "
                          f"unknown {sorted(found - expected)}")
    for name, scale in table.tensors.items():
        if scale.exponent not in _EXPONENTS:
            raise Damaged(f"{place(view, name)}: {SCALES} has exponent {scale.exponent}, expected one number from "
                          f"{_EXPONENTS[0]} to {_EXPONENTS[-1]}")
    return table


def known_target(table: ScaleTable) -> Target | None:
    """The table's target where it is one of ours."""
    return targets.load(table.target) if table.target in targets.names() else None


def options(folder: Folder) -> Config:
    """The options of the run on which files depend; ``rules``, ``target`` and data are not read again.

    Raises:
        Damaged: one is missing or has an impossible value.
    """
    recorded = folder.section("options")
    try:
        return Config(**{name: recorded[name] for name in NAMES if name not in ("rules", "target", "input_shape")})
    except (KeyError, ConfigError) as error:
        raise Damaged(f"summary.json: options: {error}") from error


def integer_parameters(
    folder: Folder, view: Network, table: ScaleTable, rounded: Mapping[str, Parameters]
) -> dict[str, Parameters]:
    """Weights and biases of ``model.int.onnx``, found behind the accumulators, whose names every spelling keeps.

    Args:
        folder, view, table: where they are.
        rounded: the float parameters on the grid, which have the same types and shapes.

    Raises:
        Damaged: one is missing or has another type or shape than the float one.
    """
    proto = folder.model(INTEGER)
    makers = {output: node for node in proto.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = [node for node in integerize(view, table, rounded).graph if operator(node).weight(node) is not None]
    found = {}
    for (name, like), node in zip(rounded.items(), nodes, strict=True):
        add = makers.get(name_of(node.outputs[0]))
        product = makers.get(add.input[0]) if add is not None and len(add.input) == 2 else None
        if add is None or product is None or len(product.input) < 2:
            raise Damaged(f"layer '{name}': {INTEGER} has no accumulator '{name_of(node.outputs[0])}' with a bias")
        transposed = product.op_type == "MatMulInteger"
        at = f"layer '{name}': {INTEGER}"
        stored = like.weight.T if transposed else like.weight
        weight = _stored(tensors.get(product.input[1]), stored, f"{at}, weight")
        bias = _stored(tensors.get(add.input[1]), like.bias, f"{at}, bias")
        found[name] = Parameters(np.ascontiguousarray(weight.T if transposed else weight), bias)
    return found


def fake_parameters(folder: Folder, view: Network, rounded: Mapping[str, Parameters]) -> dict[str, Parameters]:
    """Codes of weights and biases of ``model.qdq.onnx``, whose linear nodes are the canonical graph's, in its order.

    Raises:
        Damaged: as for :func:`integer_parameters`.
    """
    proto = folder.model(FAKE)
    makers = {output: node for node in proto.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    types = {layer.node.op_type for layer in view.layers if layer.name in rounded}
    nodes = [node for node in proto.graph.node if node.op_type in types]
    if len(nodes) != len(rounded):
        raise Damaged(f"{FAKE} has {len(nodes)} linear layers, {FLOAT} has {len(rounded)}")
    found = {}
    for (name, like), node in zip(rounded.items(), nodes, strict=True):
        values = []
        for role, index, expected in (("weight", 1, like.weight), ("bias", 2, like.bias)):
            at = f"layer '{name}': {FAKE}, {role}"
            dequantizer = makers.get(node.input[index]) if len(node.input) > index else None
            if dequantizer is None or not dequantizer.input:
                raise Damaged(f"{at} has no DequantizeLinear")
            values.append(_stored(tensors.get(dequantizer.input[0]), expected, at))
        found[name] = Parameters(*values)
    return found


def _stored(tensor: onnx.TensorProto | None, like: NDArray[Any], at: str) -> NDArray[Any]:
    """A constant of an untrusted file, of the type and size of another array, in that array's shape."""
    if tensor is None or tensor.data_type != onnx.helper.np_dtype_to_tensor_dtype(like.dtype) \
            or len(tensor.raw_data) != like.nbytes or tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise Damaged(f"{at} is missing or is not {like.dtype} with {like.size} elements")
    return np.frombuffer(tensor.raw_data, like.dtype.newbyteorder("<")).astype(like.dtype).reshape(like.shape)


def read_parts(folder: Folder) -> tuple[Parts | None, list[str]]:
    """The parts, and findings about them; no parts where there are any, since nothing else could be told then.

    Raises:
        Damaged: one cannot be read.
    """
    view, tail = canonical_graph(folder)
    table = scale_table(folder, view)
    target = known_target(table)
    config, findings = options(folder), list[str]()
    if table.model_sha256 != sha256(folder.files[FLOAT]):
        findings.append(f"{SCALES} belongs to another {FLOAT} (its model.sha256 differs)")
    unequal = list(table_findings(view, table, target))
    if unequal:
        return None, [*findings, *unequal]
    try:
        rounded = round_parameters(view, table, halves=False)
        parameters = integer_parameters(folder, view, table, rounded)
        fake = fake_parameters(folder, view, rounded)
        findings += digest_findings(folder, view, parameters, fake)
        # corrections are measured, so that a corrected bias follows from nothing in the folder
        corrected = config.recover != "none"
        checked, halves = (["weight"], rounded) if corrected else (
            ["weight", "bias"], round_parameters(view, table, halves=True))
        findings += rounding_findings(INTEGER, parameters, halves, checked)
        findings += rounding_findings(FAKE, fake, rounded, checked)
        integer = integerize(view, table, parameters)
        plan, unfounded = _plan(folder, view, table, target, config, parameters)
        findings += unfounded
        findings += proof_findings(view, table, target, integer, config, plan)
    except (SpecViolation, TargetError) as error:  # an illegal shift, or an accumulator beyond 32 bits
        findings.append(f"{SCALES}: {error}")
    if findings:
        return None, findings
    return Parts(view, tail, table, target, parameters, fake, integer, config, plan), []


def _plan(
    folder: Folder, view: Network, table: ScaleTable, target: Target | None, config: Config,
    parameters: Mapping[str, Parameters],
) -> tuple[Plan, list[str]]:
    """How the network was handed over; what is recorded of it is believed where nothing else tells it."""
    recorded = folder.section("handoff")
    own, findings = recorded.get("own_outputs"), []
    if own is not None and not (isinstance(own, int) and config.pad_outputs and is_padded(view, table, own)):
        findings.append(f"summary.json says that {own!r} outputs are the classifier's own, and the others are not what "
                        "would have been added")
        own = None
    entries = recorded.get("choices")
    accelerated = {where(layer.node): table.layers[layer.name].core != "cpu" for layer in view.layers}
    applied = {place: accelerated[place] for entry in (entries if isinstance(entries, list) else [])
               if isinstance(entry, dict) and entry.get("option") == "zero-taps" and entry.get("applied") is True
               and (place := entry.get("place")) in accelerated}
    return choose(view, target or Target(table.target), config, parameters, own,
                  applied if target is None else None), findings
