"""``AveragePool(x, kernel = the whole map) -> GlobalAveragePool(x)``; any other -> ``Conv(x, 1 / kernel size)``.

One group a channel; where every window counts all of its places. The others (padding that does not count) stay.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static
from onnxdiana.rules.canonicalize.pooling import Window

_LARGEST = 2**22
"""Weights that the convolution may have."""


class LowerAveragePool:
    """A plain loop over the nodes."""

    name = "average_pool"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        edits = Edits(model.graph)
        return sum(_rewrite(node, edits) for node in list(model.graph) if is_operator(node, "AveragePool"))


def _rewrite(node: ir.Node, edits: Edits) -> bool:
    x, shape, window = node.inputs[0], static(node.inputs[0]), Window.of(node)
    if shape is None or window is None or len(shape) != len(window.kernel) + 2:
        return False
    if window.kernel == list(shape[2:]) and not any(window.pads):
        edits.become(node, "GlobalAveragePool", [x])  # one window, whatever strides and ceil_mode
        return True
    counted = not any(window.pads) or graph.attribute(node, "count_include_pad", 0)
    if graph.attribute(node, "ceil_mode", 0) or not counted or len(window.kernel) > 3:
        return False
    size = math.prod(window.kernel)
    if size * shape[1] > _LARGEST:
        return False  # a kernel of any size can be written down, weights have to be made
    weight = np.full((shape[1], 1, *window.kernel), 1.0 / size, np.float32)
    edits.become(node, "Conv", [x, edits.constant(f"{node.outputs[0].name}.weight", weight)], group=shape[1],
                 kernel_shape=window.kernel, strides=window.strides, pads=window.pads, dilations=window.dilations)
    return True


RULE = LowerAveragePool()
