"""``x - c -> x + (-c)``, ``x / c -> x * (1 / c)``, ``c - x -> x * -1 + c``, ``-x -> x * -1``, and sums of many as Adds.

Likewise ``a - b -> a + b * -1``, a Mean of many as a sum times 1 / n, and a BatchNormalization that no layer in front
takes as ``x * k + o``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.expressions import table_nodes
from onnxdiana.rules.canonicalize.base import Array, is_constant, is_operator
from onnxdiana.rules.canonicalize.batch_norm import affine, is_inference
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.tail import tail_nodes


class NormalizeArithmetic:
    """A plain loop over float operators; Mul and Add by constants are what is left, and sums of two tensors."""

    name = "arithmetic"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        edits = Edits(model.graph)
        nodes = [node for node in model.graph
                 if is_operator(node, "Sub", "Div", "Neg", "Sum", "Mean", "BatchNormalization") and _is_float(node)]
        apart: set[ir.Node] = set()
        if any(_is_difference(node) for node in nodes):
            apart = table_nodes(model.graph) | tail_nodes(model.graph)
        return sum(_rewrite(node, edits) for node in nodes if not (_is_difference(node) and node in apart))


def _is_float(node: ir.Node) -> bool:
    """Whether it computes float32 from what is all there."""
    known = (*node.outputs[:1], *(v for v in node.inputs[:1] if v is not None))
    return None not in node.inputs and all(v.dtype == ir.DataType.FLOAT for v in known)


def _is_difference(node: ir.Node) -> bool:
    """Whether it is a Sub of two computed tensors."""
    return is_operator(node, "Sub") and not any(is_constant(v) for v in node.inputs)


def _rewrite(node: ir.Node, edits: Edits) -> bool:
    if node.op_type == "BatchNormalization":
        return _normalization(node, edits)
    if node.op_type in ("Sum", "Mean"):
        return _sum(node, edits)
    if node.op_type == "Neg":
        edits.become(node, "Mul", [node.inputs[0], _scalar(node, "factor", -1.0, edits)])
        return True
    a, b = node.inputs
    assert a is not None
    assert b is not None
    if node.op_type == "Div":
        return _quotient(node, a, b, edits)
    if is_constant(b):
        edits.become(node, "Add", [a, edits.constant(graph.name_of(b), -graph.required_constant(b))])
        return True
    negative = edits.in_front(node, "Mul", [b, _scalar(node, "factor", -1.0, edits)], "negative", graph.dims(b))
    edits.become(node, "Add", [negative, a] if is_constant(a) else [a, negative])
    return True


def _scalar(node: ir.Node, role: str, value: float, edits: Edits) -> ir.Value:
    return edits.constant(f"{node.outputs[0].name}.{role}", np.array(value, np.float32))


def _quotient(node: ir.Node, a: ir.Value, b: ir.Value, edits: Edits) -> bool:
    """By a constant whose reciprocal float32 has."""
    if is_constant(a) or not is_constant(b):
        return False
    with np.errstate(divide="ignore", over="ignore", invalid="ignore", under="ignore"):
        inverse = (1.0 / graph.required_constant(b).astype(np.float64)).astype(np.float32)
    if not (np.abs(inverse) >= np.finfo(np.float32).tiny).all() or not np.isfinite(inverse).all():
        return False
    edits.become(node, "Mul", [a, edits.constant(graph.name_of(b), inverse)])
    return True


def _sum(node: ir.Node, edits: Edits) -> bool:
    """Computed tensors first, then constants; one node a term, the last one in the old place."""
    terms = sorted((v for v in node.inputs if v is not None), key=is_constant)
    if len(terms) > 1:
        total = _added(node, terms[:-1], edits)
        last = [total, terms[-1]]
    else:
        last = terms
    if node.op_type == "Mean" and len(terms) > 1:
        total = edits.in_front(node, "Add", last, "sum", graph.dims(node.outputs[0]))
        edits.become(node, "Mul", [total, _scalar(node, "factor", 1.0 / len(terms), edits)])
    else:
        edits.become(node, "Add" if len(terms) > 1 else "Identity", last)
    return True


def _added(node: ir.Node, terms: Sequence[ir.Value], edits: Edits) -> ir.Value:
    total, shape = terms[0], graph.dims(terms[0])
    for term in terms[1:]:
        other = graph.dims(term)
        shape = (None if shape is None or other is None or None in (*shape, *other)
                 else np.broadcast_shapes(shape, other))  # type: ignore[arg-type]
        total = edits.in_front(node, "Add", [total, term], "sum", shape)
    return total


def _normalization(node: ir.Node, edits: Edits) -> bool:
    x, shape, result = node.inputs[0], graph.dims(node.inputs[0]), node.outputs[0]
    if shape is None or len(shape) < 2 or not is_inference(node) or any(v.uses() or v.is_graph_output()
                                                                       for v in node.outputs[1:]):
        return False
    factor, offset = affine(node)

    def along(vector: Array) -> Array:
        with np.errstate(over="ignore"):
            return vector.reshape(-1, *(1,) * (len(shape) - 2)).astype(np.float32)

    scaled = edits.in_front(node, "Mul", [x, edits.constant(f"{result.name}.factor", along(factor))], "scaled", shape)
    edits.become(node, "Add", [scaled, edits.constant(f"{result.name}.offset", along(offset))])
    return True


RULE = NormalizeArithmetic()
