"""``Relu(Pad(x, zeros)) -> Pad(Relu(x), zeros)``, and a Clip whose bounds hold 0: a layer behind gets the Pad."""

from __future__ import annotations

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_constant, is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.pad import pads_zeros


class ReluBeforePad:
    """A plain loop; nothing but the bound reads the padded tensor."""

    name = "pad_relu"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of Pads that moved."""
        count = 0
        for node in list(model.graph):
            front = node.inputs[0].producer() if is_operator(node, "Relu", "Clip") and node.inputs[0] else None
            if front is None or not pads_zeros(front) or not _keeps_zero(node):
                continue
            padded = front.outputs[0]
            if graph.sole_consumer(padded) is not node:
                continue
            source, pads, attributes = front.inputs[0], list(front.inputs[1:]), dict(front.attributes)
            assert source is not None
            Edits.become(front, node.op_type, [source, *node.inputs[1:]])
            padded.shape = source.shape
            Edits.become(node, "Pad", [padded, *pads], **attributes)
            count += 1
        return count


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
