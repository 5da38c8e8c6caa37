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
from onnxdiana.loading import OPSET
from onnxdiana.rules import ops
from onnxdiana.rules.ops.base import DOMAIN

_INTERNAL = ("Quantize", "Requantize", "Dequantize")
"""Operators of the integer graph alone."""

SPELLINGS = {
    "AveragePool": "pool over the whole map (AdaptiveAvgPool2d(1)) or use a strided convolution",
    "BatchNormalization": "export it in inference mode (model.eval()), with constant parameters",
    "ConvTranspose": "use a Resize to the larger map in front of the network, or a convolution",
    "Div": "fold the factor into the weights of a layer",
    "Elu": "train with ReLU",
    "Gelu": "train with ReLU",
    "HardSigmoid": "train with ReLU6",
    "HardSwish": "train with ReLU6",
    "Identity": "it returns the input or a constant as it is, so there is nothing to quantize: leave out that output",
    "If": "export a traced model without control flow",
    "InstanceNormalization": "train with BatchNormalization",
    "LayerNormalization": "train with BatchNormalization",
    "LeakyRelu": "train with ReLU",
    "Loop": "export a traced model without control flow",
    "MatMul": "multiply (batch, features) by a constant weight: a Linear layer on flattened features",
    "Mul": "fold the factor into the weights of a layer; products of two activations have no integer form",
    "PRelu": "train with ReLU",
    "Scan": "export a traced model without control flow",
    "Sigmoid": "end the model before it and apply it to the dequantized output",
    "Softmax": "end the model before it and apply it to the dequantized output",
    "Sub": "fold a constant into the bias of a layer; of two tensors, negate the weights in front of one and add",
    "Tanh": "train with ReLU",
}


def quantizable(model: ir.Model) -> None:
    """Every node has a quantized form.

    Raises:
        UnsupportedOpError: with all nodes that have none, each with the nearest supported spelling.
    """
    findings = []
    for node in model.graph:
        operator = _canonical_operator(node)
        if operator is None:
            known = ", ".join(sorted(name for name in ops.REGISTRY if name not in _INTERNAL))
            advice = SPELLINGS.get(node.op_type) if graph.is_default_domain(node.domain) else None
            findings.append(f"{graph.where(node)}: {advice or f'known operators are {known}'}")
        else:
            findings.extend(f"{graph.where(node)}: {reason}" for reason in operator.obstacles(node))
    if findings:
        raise UnsupportedOpError(findings)


def _canonical_operator(node: ir.Node) -> ops.Operator | None:
    """The operator of a float node, or None where we have none."""
    known = graph.is_default_domain(node.domain) and node.op_type not in _INTERNAL
    return ops.find(node) if known else None


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
        operator = _canonical_operator(node)
        if operator is None or list(operator.obstacles(node)):
            _fail(stage, node, "no quantized form")
        for value in node.outputs[:1]:
            shape = graph.dims(value)
            if shape is None or shape[0] is not None or None in shape[1:]:
                _fail(stage, node, f"shape {shape}, expected an open batch and static sizes")
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
