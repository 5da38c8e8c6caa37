"""Gather: elements along one axis in any order; codes are moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.forms import Forms
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Operator


class Gather(Operator):
    """``y = x`` at constant places along one axis."""

    op_type = "Gather"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Constant indices, in canonical form, off the batch axis."""
        indices, axis = graph.constant(node.inputs[1]), graph.attribute(node, "axis", 0)
        if graph.constant(node.inputs[0]) is not None:
            yield "a table of constants is looked up by computed indices, which are not codes; feed what it gives"
        elif indices is None:
            yield "the indices are computed in the graph; make them constants"
        elif axis <= 0:
            yield f"axis {axis} is the batch, or counted from behind a rank that is not known; take from the others"
        elif indices.ndim != 1 or indices.min(initial=0) < 0:
            yield "the indices are not one axis of non-negative numbers, or out of range"

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """numpy's take."""
        return np.take(inputs[0], graph.required_constant(node.inputs[1]), axis=graph.attribute(node, "axis"))

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """None of the dialect's operators."""
        yield ("Gather in an order that no slice has is not in HTVM's dialect; take a range of channels, or permute "
               "them by Reshape, Transpose and Reshape")


OPERATOR = Gather()
