"""``ReduceMean(x, axes = some of the map) -> AveragePool(x)`` that long; a Reshape follows where keepdims = 0."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static
from onnxdiana.rules.canonicalize.reduce_mean import spatial_axes


class PartialMeanToPool:
    """A plain loop; (N, C, ...) with two or three spatial axes."""

    name = "partial_mean"
    last_resort = True
    """Means of means, and those of other layouts, become whole ones first."""

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        edits = Edits(model.graph)
        return sum(_rewrite(node, edits) for node in list(model.graph) if is_operator(node, "ReduceMean"))


def _rewrite(node: ir.Node, edits: Edits) -> bool:
    x, axes, shape = node.inputs[0], spatial_axes(node), static(node.inputs[0])
    if axes is None or shape is None or not len(axes) < len(shape) - 2 < 4:
        return False
    geometry = {"kernel_shape": [d if a in axes else 1 for a, d in enumerate(shape) if a > 1],
                "strides": [1] * (len(shape) - 2)}
    if graph.attribute(node, "keepdims", 1):
        edits.become(node, "AveragePool", [x], **geometry)
        return True
    kept = [1 if a in axes else d for a, d in enumerate(shape)]
    pooled = edits.in_front(node, "AveragePool", [x], "pooled", kept, **geometry)
    target = np.array([0, *(d for a, d in enumerate(shape) if a and a not in axes)], np.int64)
    edits.become(node, "Reshape", [pooled, edits.constant(f"{node.outputs[0].name}.shape", target)])
    return True


RULE = PartialMeanToPool()
