"""``ReduceMean(x, axes = all spatial) -> GlobalAveragePool(x)``, followed by Flatten where keepdims = 0.

``ReduceSum(x) -> ReduceMean(x) * n`` for n elements.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_constant, is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static


class ReduceMeanToPool:
    """A plain loop; on (N, C, ...) over every axis behind the channels."""

    name = "reduce_mean"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        edits = Edits(model.graph)
        return sum(_rewrite(node, edits) for node in list(model.graph) if is_operator(node, "ReduceMean", "ReduceSum"))


def reduced_axes(node: ir.Node) -> list[int] | None:
    """The constant axes of a reduction, counted from the front and sorted, where the batch is not among them."""
    shape = static(node.inputs[0])
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if shape is None or not is_constant(axes) or node.inputs[0] is None or node.inputs[0].dtype != ir.DataType.FLOAT:
        return None
    found = sorted({int(a) % len(shape) for a in graph.required_constant(axes).reshape(-1)})
    return found if found and found[0] > 0 else None


def _rewrite(node: ir.Node, edits: Edits) -> bool:
    axes, shape, result = reduced_axes(node), static(node.inputs[0]), node.outputs[0]
    if axes is None or shape is None or axes[0] == 1:
        return False
    keeps = graph.attribute(node, "keepdims", 1)
    if node.op_type == "ReduceSum":
        mean = edits.in_front(node, "ReduceMean", node.inputs, "mean", graph.dims(result), keepdims=keeps)
        size = np.array(math.prod(shape[a] for a in axes), np.float32)
        edits.become(node, "Mul", [mean, edits.constant(f"{result.name}.size", size)])
        return True
    if axes != list(range(2, len(shape))):
        return False
    if keeps:
        edits.become(node, "GlobalAveragePool", node.inputs[:1])
        return True
    pooled = edits.in_front(node, "GlobalAveragePool", node.inputs[:1], "pooled", (*shape[:2], *(1 for _ in axes)))
    edits.become(node, "Flatten", [pooled], axis=1)
    return True


RULE = ReduceMeanToPool()
