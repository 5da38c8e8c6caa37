"""``GlobalMaxPool(x) -> MaxPool(x)`` with the map's size, and ``ReduceMax`` over the map, with a Flatten if it asks."""

from __future__ import annotations

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static
from onnxdiana.rules.canonicalize.reduce_mean import reduced_axes


class LowerGlobalMaxPool:
    """A plain loop over the nodes."""

    name = "global_max_pool"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        edits = Edits(model.graph)
        nodes = [node for node in model.graph if is_operator(node, "GlobalMaxPool", "ReduceMax")]
        return sum(_rewrite(node, edits) for node in nodes)


def _rewrite(node: ir.Node, edits: Edits) -> bool:
    shape = static(node.inputs[0])
    if shape is None or not 3 <= len(shape) <= 5 or node.inputs[0] is None or node.inputs[0].dtype != ir.DataType.FLOAT:
        return False
    kernel = list(shape[2:])
    geometry = {"kernel_shape": kernel, "strides": [1] * len(kernel), "pads": [0, 0] * len(kernel),
                "dilations": [1] * len(kernel)}
    if node.op_type == "ReduceMax":
        if reduced_axes(node) != list(range(2, len(shape))):
            return False
        if not graph.attribute(node, "keepdims", 1):
            flat = edits.in_front(node, "MaxPool", node.inputs[:1], "pooled", (*shape[:2], *(1 for _ in kernel)),
                                  **geometry)
            edits.become(node, "Flatten", [flat], axis=1)
            return True
    edits.become(node, "MaxPool", node.inputs[:1], **geometry)
    return True


RULE = LowerGlobalMaxPool()
