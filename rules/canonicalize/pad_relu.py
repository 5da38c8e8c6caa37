"""``Relu(Pad(x, zeros)) -> Pad(Relu(x), zeros)``, and a Clip whose bounds hold 0: a layer behind gets the Pad."""

from __future__ import annotations

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_constant, is_operator
from onnxdiana.rules.canonicalize.edits import Edits


class ReluBeforePad:
    """A plain loop; nothing but the bound reads the padded tensor."""

    name = "pad_relu"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of Pads that moved."""
        count = 0
        for node in list(model.graph):
            front = node.inputs[0].producer() if is_operator(node, "Relu", "Clip") and node.inputs[0] else None
            if front is None or not _pads_zeros(front) or not _keeps_zero(node):
                continue
            padded = front.outputs[0]
            if graph.sole_consumer(padded) is not node:
                continue
            bound, pad = (node.op_type, list(node.inputs[1:])), (list(front.inputs[1:]), dict(front.attributes))
            Edits.become(front, bound[0], [front.inputs[0], *bound[1]])
            assert front.inputs[0] is not None
            padded.shape = front.inputs[0].shape
            Edits.become(node, "Pad", [padded, *pad[0]], **pad[1])
            count += 1
        return count


def _pads_zeros(node: ir.Node) -> bool:
    if not is_operator(node, "Pad") or graph.attribute(node, "mode", "constant") != "constant":
        return False
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return value is None or (is_constant(value) and not graph.required_constant(value).any())


def _keeps_zero(node: ir.Node) -> bool:
    """Whether 0 lies between a node's constant bounds."""
    if node.op_type == "Relu":
        return True
    lo, hi = [*node.inputs, None, None][1:3]
    if any(v is not None and not is_constant(v) for v in (lo, hi)):
        return False
    return ((lo is None or bool((graph.required_constant(lo) <= 0).all()))
            and (hi is None or bool((graph.required_constant(hi) >= 0).all())))


RULE = ReluBeforePad()
