"""``Add(layer(x, w, b), c) -> layer(x, w, b + c)`` for a constant per output channel, operands either way."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Array, is_constant, is_operator, layer_in_front, optional_bias
from onnxdiana.rules.canonicalize.edits import Edits


class FoldBias:
    """A plain loop; nothing else reads what lies between the layer and the Add."""

    name = "bias"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of Adds that went away."""
        edits, count = Edits(model.graph), 0
        for node in list(model.graph):
            parts = _parts(node) if is_operator(node, "Add") else None
            if parts is None:
                continue
            layer, offset = parts
            bias = optional_bias(layer)
            total = offset if bias is None else graph.required_constant(bias) + offset
            edits.set_constant(layer, 2, f"{graph.name_of(layer.inputs[1])}.bias", total)  # type: ignore[arg-type]
            edits.give_way(node, layer.outputs[0])
            count += 1
        return count


def _parts(add: ir.Node) -> tuple[ir.Node, Array] | None:
    """The layer and the constant as a vector over its output channels."""
    for inner, other in (add.inputs, add.inputs[::-1]):
        layer = layer_in_front(add, inner)
        if layer is None or not is_constant(other):
            continue
        weight, offset = graph.required_constant(layer.inputs[1]), graph.required_constant(other)
        channels, rank = weight.shape[0], weight.ndim
        shape = (1,) * (rank - offset.ndim) + offset.shape  # aligned to the output's axes, channels second
        if len(shape) == rank and all(d == 1 or (i == 1 and d == channels) for i, d in enumerate(shape)):
            return layer, np.broadcast_to(offset.reshape(-1), (channels,)).astype(np.float64)
    return None


RULE = FoldBias()
