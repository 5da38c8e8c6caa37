"""``ReduceMean(x, axes = some of the map) -> AveragePool(x)`` that long; a Reshape follows where keepdims = 0.

Over channels, and perhaps others: ``-> Reshape(GlobalAveragePool(Reshape(Transpose(x))))`` with the axes that stay as
channels.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static
from onnxdiana.rules.canonicalize.reduce_mean import reduced_axes
from onnxdiana.tail import tail_nodes


class PartialMeanToPool:
    """A plain loop; (N, C, ...) with two or three spatial axes."""

    name = "partial_mean"
    last_resort = True
    """Means of means, and those of other layouts, become whole ones first."""

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        means = [node for node in model.graph if is_operator(node, "ReduceMean")]
        if not means:
            return 0
        edits, tail = Edits(model.graph), tail_nodes(model.graph)
        return sum(_rewrite(node, edits) for node in means if node not in tail)


def _rewrite(node: ir.Node, edits: Edits) -> bool:
    x, axes, shape = node.inputs[0], reduced_axes(node), static(node.inputs[0])
    if axes is None or shape is None:
        return False
    if axes[0] == 1:
        _over_channels(node, axes, shape, edits)
        return True
    if not len(axes) < len(shape) - 2 < 4:
        return False
    geometry = {"kernel_shape": [d if a in axes else 1 for a, d in enumerate(shape) if a > 1],
                "strides": [1] * (len(shape) - 2)}
    if graph.attribute(node, "keepdims", 1):
        edits.become(node, "AveragePool", [x], **geometry)
        return True
    kept = [1 if a in axes else d for a, d in enumerate(shape)]
    pooled = edits.in_front(node, "AveragePool", [x], "pooled", kept, **geometry)
    edits.become_reshape(node, pooled, [d for a, d in enumerate(shape) if a not in axes])
    return True


def _over_channels(node: ir.Node, axes: list[int], shape: tuple[int, ...], edits: Edits) -> None:
    """Axes that stay become channels, the others a map of one row."""
    x, result = node.inputs[0], node.outputs[0]
    kept = [a for a in range(1, len(shape)) if a not in axes]
    perm = [0, *kept, *axes]
    if perm != sorted(perm):
        x = edits.in_front(node, "Transpose", [x], "channels", [shape[a] for a in perm], perm=perm)
    sizes = [math.prod(shape[a] for a in kept), 1, math.prod(shape[a] for a in axes)]
    target = edits.constant(f"{result.name}.map", np.array([0, *sizes], np.int64))
    x = edits.in_front(node, "Reshape", [x, target], "map", [shape[0], *sizes])
    x = edits.in_front(node, "GlobalAveragePool", [x], "pooled", [shape[0], sizes[0], 1, 1])
    after = ([1 if a in axes else d for a, d in enumerate(shape)] if graph.attribute(node, "keepdims", 1)
             else [shape[0], *(shape[a] for a in kept)])
    edits.become_reshape(node, x, after)


RULE = PartialMeanToPool()
