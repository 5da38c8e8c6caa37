"""``Identity(x) -> x``, and Dropout in inference, Cast to the type x has, Concat of x alone, Pad by nothing.

Likewise a Slice, Expand or Tile of the size of x, ``x * 1`` and ``x + 0``.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_constant, is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static


def _keeps_all(node: ir.Node) -> bool:
    """Whether a Slice, Expand or Tile gives what it takes."""
    shape, steps = static(node.inputs[0]), node.inputs[4] if len(node.inputs) > 4 else None
    forward = steps is None or (is_constant(steps) and bool((graph.required_constant(steps) > 0).all()))
    return shape is not None and static(node.outputs[0]) == shape and (node.op_type != "Slice" or forward)


def _is_neutral(node: ir.Node) -> bool:
    """Whether the second operand of a Mul or Add is a constant that changes nothing, not even the shape."""
    shape, other = static(node.inputs[0]), node.inputs[1]
    if shape is None or static(node.outputs[0]) != shape or not is_constant(other):
        return False
    return bool((graph.required_constant(other) == (1.0 if node.op_type == "Mul" else 0.0)).all())


def _passes_through(node: ir.Node) -> bool:
    if is_operator(node, "Slice", "Expand", "Tile"):
        return _keeps_all(node)
    if is_operator(node, "Mul", "Add"):
        return _is_neutral(node)
    if not is_operator(node, "Identity", "Dropout", "Cast", "CastLike", "Concat", "Pad") or node.inputs[0] is None:
        return False
    if node.op_type == "Dropout":
        training = node.inputs[2] if len(node.inputs) > 2 else None
        mask_used = any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
        return not mask_used and (training is None or (is_constant(training) and not graph.required_constant(training)))
    if node.op_type == "Cast":
        return node.inputs[0].dtype is not None and int(node.inputs[0].dtype) == graph.attribute(node, "to")
    if node.op_type == "CastLike":
        like = node.inputs[1]
        return node.inputs[0].dtype is not None and like is not None and node.inputs[0].dtype == like.dtype
    if node.op_type == "Concat":
        return len(node.inputs) == 1
    if node.op_type == "Pad":
        return is_constant(node.inputs[1]) and not graph.required_constant(node.inputs[1]).any()
    return True


class DropNoOps:
    """A plain loop: there is nothing to match but one node."""

    name = "no_op"

    def apply(self, model: ir.Model) -> int:
        """Remove in place; a graph output keeps its name."""
        edits, count = Edits(model.graph), 0
        for node in list(model.graph):
            source = node.inputs[0] if _passes_through(node) else None
            if source is not None:
                count += edits.bypass(node, source)
        return count


RULE = DropNoOps()
