"""``Mul(layer(x, w, b), k) -> layer(x, w * k, b * k)`` for one constant, or one a channel.

Also where between both stand operators that a (positive) factor passes: ``k * relu(x) = relu(k * x)``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.affine import step
from onnxdiana.rules.canonicalize.base import Array, is_operator, layer_in_front, optional_bias
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import move_of


class FoldFactor:
    """A plain loop; nothing else reads what lies between the layer and the factor."""

    name = "factor"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of factors that went away."""
        edits, count = Edits(model.graph), 0
        for node in list(model.graph):
            found = step(node) if is_operator(node, "Mul") else None
            layer = None if found is None else _layer(node, found.source, bool((found.factor > 0.0).all()))
            if found is None or layer is None:
                continue
            scale(layer, found.factor, edits)
            edits.give_way(node, found.source)
            count += 1
        return count


def _layer(reader: ir.Node, value: ir.Value | None, positive: bool) -> ir.Node | None:
    """The layer in front, behind operators that keep the channels and let the factor pass."""
    while value is not None and graph.sole_consumer(value) is reader:
        layer, front = layer_in_front(reader, value), value.producer()
        if layer is not None or front is None:
            return layer
        move = move_of(front)
        passes = (move is not None and move.axis(0) == 0 and move.axis(1) == 1 and move.before[1] == move.after[1]
                  ) or is_operator(front, "GlobalAveragePool") or (
                      positive and is_operator(front, "Relu", "MaxPool") and len(front.outputs) == 1)
        if not passes:
            return None
        reader, value = front, front.inputs[0]
    return None


def scale(layer: ir.Node, factor: Array, edits: Edits) -> None:
    """Multiply a layer's outputs, (C,), by changing its constants."""
    w, bias = graph.required_constant(layer.inputs[1]).astype(np.float64), optional_bias(layer)
    edits.set_constant(layer, 1, "", w * factor.reshape(-1, *(1,) * (w.ndim - 1)))
    if bias is not None:
        edits.set_constant(layer, 2, "", graph.required_constant(bias).astype(np.float64) * factor)


RULE = FoldFactor()
