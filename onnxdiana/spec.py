"""The legal graph of each stage, written down and checked between stages.

``quantizable`` judges the user's model (every finding at once); the ``verify_*`` contracts judge our own stages, and a
violation is our bug.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.errors import SpecViolation, UnsupportedOpError
from onnxdiana.expressions import table_nodes
from onnxdiana.loading import OPSET
from onnxdiana.rules import ops
from onnxdiana.rules.ops.base import DOMAIN
from onnxdiana.tail import tail_nodes

SPELLINGS = {
    "BatchNormalization": "export it in inference mode (model.eval()), with constant parameters",
    "ConvTranspose": "use a Resize to the larger map in front of the network, or a convolution",
    "GroupNormalization": "train with BatchNormalization",
    "Identity": "it returns the input or a constant as it is, so there is nothing to quantize: leave out that output",
    "If": "export a traced model without control flow",
    "InstanceNormalization": "train with BatchNormalization",
    "LayerNormalization": "train with BatchNormalization",
    "Loop": "export a traced model without control flow",
    "LogSoftmax": "end the model with it, or before it: it stays in float only behind the last layer, on axis 1 or "
                  "later",
    "MatMul": "multiply (batch, features) by a constant weight: a Linear layer on flattened features",
    "RMSNormalization": "train with BatchNormalization",
    "QuantizeLinear": "the model is quantized already: export the float model",
    "Scan": "export a traced model without control flow",
    "Softmax": "end the model with it, or before it: it stays in float only behind the last layer, on axis 1 or later",
}


def quantizable(model: ir.Model) -> None:
    """Every node has a quantized form.

    Raises:
        UnsupportedOpError: with all nodes that have none, each with the nearest supported spelling.
    """
    found = [f"{graph.where(node)}: {reason}" for node, reasons in obstacles(model.graph).items() for reason in reasons]
    if found:
        raise UnsupportedOpError(found)


def obstacles(g: ir.Graph) -> dict[ir.Node, list[str]]:
    """Nodes of the float graph without a quantized form, and why, each with the nearest supported spelling.

    Those of a table need none of their own, those of the float tail (:mod:`onnxdiana.tail`) none at all.
    """
    exempt = table_nodes(g) | tail_nodes(g)
    return {node: reasons for node in g if node not in exempt and (reasons := node_obstacles(node))}


def node_obstacles(node: ir.Node) -> list[str]:
    """Why a node, taken by itself, has no quantized form."""
    operator = ops.float_operator(node)
    if operator is not None:
        return list(operator.obstacles(node))
    known = ", ".join(sorted(name for name, operator in ops.REGISTRY.items() if not operator.internal))
    standard = graph.is_default_domain(node.domain) or node.domain.startswith("opset-")  # of a newer opset
    advice = SPELLINGS.get(node.op_type) if standard else None
    return [advice or f"known operators are {known}"]


def _fail(stage: str, node: ir.Node | None, message: str) -> None:
    raise SpecViolation(f"{stage}: {graph.where(node) + ': ' if node is not None else ''}{message}")


def _named(stage: str, values: Iterable[ir.Value]) -> None:
    seen: set[str] = set()
    for value in values:
        if not value.name or value.name in seen:
            _fail(stage, value.producer(), f"tensor name {value.name!r} is missing or used twice")
        seen.add(value.name or "")


def verify_canonical(model: ir.Model) -> None:
    """Float graph: known operators without obstacles, one domain, float32, batch first, static sample shapes.

    Raises:
        SpecViolation: names node and rule.
    """
    stage = "canonical graph"
    if dict(model.graph.opset_imports) != {"": OPSET}:
        _fail(stage, None, f"opset imports {dict(model.graph.opset_imports)}, expected only {OPSET}")
    _named(stage, [*model.graph.inputs, *model.graph.initializers.values(),
                   *(v for node in model.graph for v in node.outputs)])
    for node in model.graph:
        for value in node.outputs[:1]:
            shape = graph.dims(value)
            if shape is None or shape[0] is not None or None in shape[1:]:
                _fail(stage, node, f"shape {shape}, expected an open batch and static sizes")
    for node in obstacles(model.graph):
        _fail(stage, node, "no quantized form")
    for value in model.graph.inputs:
        if value.dtype != ir.DataType.FLOAT:
            _fail(stage, None, f"input '{value.name}' is {value.dtype}")


def verify_integer(model: ir.Model) -> None:
    """Integer graph: codes are int8, every accumulator goes into exactly one requantizer, parameters are integers.

    Raises:
        SpecViolation: names node and rule.
    """
    stage = "integer graph"
    ranges: dict[ir.Value, tuple[int, int]] = {}
    for node in model.graph:
        if node.domain != DOMAIN:
            _fail(stage, node, f"domain '{node.domain}'")
        operator = ops.operator(node)
        accumulates = operator.requantizes
        users = [use.node.op_type for use in node.outputs[0].uses()]
        if accumulates and users != ["Requantize"]:
            _fail(stage, node, f"accumulator read by {users}, expected one Requantize")
        if node.op_type == "Requantize":
            shift, lo, hi = (graph.attribute(node, name) for name in ("shift", "lo", "hi"))
            if not 0 <= shift <= 31 or not -128 <= lo <= hi <= 127:
                _fail(stage, node, f"shift {shift}, codes [{lo}, {hi}]")
        if operator.weight(node) is not None:
            weight, bias = (graph.constant(v) for v in node.inputs[1:3])
            if weight is None or weight.dtype != np.int8 or bias is None or bias.dtype != np.int32:
                _fail(stage, node, "weights must be int8 and biases int32 constants")
        inputs = [ranges[v] for v in operator.codes(node) if v in ranges]
        for violation in operator.violations(node, inputs):
            _fail(stage, node, violation)
        if not accumulates:
            ranges[node.outputs[0]] = operator.code_range(node, inputs)
