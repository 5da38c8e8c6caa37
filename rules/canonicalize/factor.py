"""``k * layer(x, w, b) + o -> layer(x, w * k, b * k + o)`` for constants, or one a channel: a chain of Mul and Add.

A (positive) factor alone also where between both stand operators that it passes: ``k * relu(x) = relu(k * x)``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.affine import Affine, chain, keeps_channels
from onnxdiana.rules.canonicalize.base import is_operator, layer_in_front, optional_bias
from onnxdiana.rules.canonicalize.edits import Edits


class FoldFactor:
    """A plain loop; nothing else reads what lies between the layer and the factor."""

    name = "factor"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of factors that went away."""
        edits, count = Edits(model.graph), 0
        for node in list(model.graph):
            found = chain(node) if is_operator(node, "Mul", "Add") else None
            layer = None if found is None else _layer(found)
            if found is None or layer is None:
                continue
            _scale(layer, found, edits)
            edits.give_way(node, found.source)
            for inner in found.nodes[1:]:
                edits.graph.remove(inner, safe=True)
            count += 1
        return count


def _layer(affine: Affine) -> ir.Node | None:
    """The layer in front, behind operators that keep the channels and let the factor pass."""
    positive, shifted = bool((affine.factor > 0.0).all()), bool(affine.offset.any())
    reader, value = affine.nodes[-1], affine.source
    while graph.sole_consumer(value) is reader:
        layer, front = layer_in_front(reader, value), value.producer()
        if layer is not None or front is None or shifted:
            return layer
        if not keeps_channels(front, positive=positive, shifted=shifted) or front.inputs[0] is None:
            return None
        reader, value = front, front.inputs[0]
    return None


def _scale(layer: ir.Node, affine: Affine, edits: Edits) -> None:
    """Change a layer's constants such that it gives the affine's result."""
    w, bias = graph.required_constant(layer.inputs[1]).astype(np.float64), optional_bias(layer)
    edits.set_constant(layer, 1, "", w * affine.factor.reshape(-1, *(1,) * (w.ndim - 1)))
    if bias is not None or affine.offset.any():
        b = 0.0 if bias is None else graph.required_constant(bias).astype(np.float64)
        name = f"{layer.inputs[1].name}.bias" if layer.inputs[1] is not None else ""
        edits.set_constant(layer, 2, name, b * affine.factor + affine.offset)


RULE = FoldFactor()
