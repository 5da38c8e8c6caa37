"""``Gemm(Flatten(Transpose(x)), w) -> Gemm(Flatten(x), w')`` with the columns of w in the order of x.

And ``Transpose(Reshape(Gemm(x, w, b))) -> Reshape(Gemm(x, w', b'))`` with the rows of w and b in the result's order.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import (
    CANONICAL_GEMM,
    Array,
    gemm_form,
    is_constant,
    is_operator,
    layer_in_front,
    optional_bias,
)
from onnxdiana.rules.canonicalize.layout import Permutation, Regrouping, is_unary, move_of
from onnxdiana.rules.canonicalize.moves import Editor


class AbsorbTransposes:
    """A plain loop; Transposes that keep the batch first."""

    name = "absorb"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of Transposes that went away."""
        editor = Editor(model.graph)
        return sum(_in_front(node, editor) if node.op_type == "Transpose" else _behind(node, editor)
                   for node in list(model.graph) if is_operator(node, "Flatten", "Transpose"))


def _permutation(node: ir.Node | None) -> Permutation | None:
    move = move_of(node)
    return move if isinstance(move, Permutation) and move.perm[0] == 0 else None


def _order(move: Permutation) -> Array:
    """Place in the source of every element of the result, within one sample."""
    places = np.arange(math.prod(move.before[1:])).reshape(move.before[1:])
    return places.transpose([p - 1 for p in move.perm[1:]]).reshape(-1)


def _behind(node: ir.Node, editor: Editor) -> bool:
    """Node is a Flatten of a Transpose, and nothing but layers reads it."""
    front = node.inputs[0].producer() if node.inputs[0] is not None else None
    move, result = _permutation(front), node.outputs[0]
    uses = list(result.uses())
    if front is None or move is None or move_of(node) is None or result.is_graph_output() or not uses:
        return False
    if not all(use.idx == 0 and is_operator(use.node, "Gemm") and is_constant(use.node.inputs[1])
               and gemm_form(use.node) == CANONICAL_GEMM for use in uses):
        return False
    order = np.argsort(_order(move))
    for use in uses:
        editor.set_input(use.node, 1, graph.required_constant(use.node.inputs[1])[:, order])
    node.replace_input_with(0, front.inputs[0])
    return True


def _in_front(node: ir.Node, editor: Editor) -> bool:
    """Node is a Transpose of a Reshape of features that a Gemm makes, with or without an activation."""
    move, value = _permutation(node), node.inputs[0]
    if move is None or value is None or graph.sole_consumer(value) is not node:
        return False
    shaper = value.producer()
    if shaper is None or not isinstance(split := move_of(shaper), Regrouping) or len(split.before) != 2:
        return False
    reader, value = shaper, shaper.inputs[0]
    while value is not None and graph.sole_consumer(value) is reader and is_unary(front := value.producer()):
        assert front is not None
        reader, value = front, front.inputs[0]
    layer = layer_in_front(reader, value)
    if layer is None or layer.op_type != "Gemm":
        return False
    order, bias = _order(move), optional_bias(layer)
    editor.set_input(layer, 1, graph.required_constant(layer.inputs[1])[order])
    if bias is not None:
        editor.set_input(layer, 2, graph.required_constant(bias)[order])
    editor.become_reshape(node, shaper.inputs[0], move.after)
    return True


RULE = AbsorbTransposes()
