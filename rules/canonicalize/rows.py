"""``Reshape(f(Reshape(x, (rows, K)))) -> Reshape(f(x))`` for layers that work on each row of (N, ..., K) alone.

Dense layers on sequences as TensorFlow's tensordot writes them: batch and positions become rows, and come apart again.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Array, gemm_form, is_constant, is_operator, optional_bias
from onnxdiana.rules.canonicalize.layout import is_unary, operands, static
from onnxdiana.rules.canonicalize.moves import Editor


class LiftRows:
    """A plain loop over Reshapes that mix the batch with other axes."""

    name = "rows"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of chains of layers that read (N, ..., K) now."""
        editor = Editor(model.graph)
        return sum(_lift(node, editor) for node in list(model.graph) if is_operator(node, "Flatten", "Reshape"))


def _lift(first: ir.Node, editor: Editor) -> bool:
    x, rows = static(first.inputs[0]), static(first.outputs[0])
    if x is None or rows is None or len(x) < 3 or rows != (math.prod(x[:-1]), x[-1]) or math.prod(x[1:-1]) == 1:
        return False
    chain: list[ir.Node] = []
    value = first.outputs[0]
    while (node := graph.sole_consumer(value)) is not None and _is_row_wise(node, value):
        chain.append(node)
        value = node.outputs[0]
    last = node
    if last is None or not chain or not is_operator(last, "Reshape") or last.inputs[0] is not value:
        return False
    after = static(last.outputs[0])
    if after is None or after[0] != x[0] or not is_constant(last.inputs[1]):
        return False
    chain[0].replace_input_with(operands(chain[0])[0], first.inputs[0])
    for node in chain:
        size = static(node.outputs[0])
        assert size is not None
        node.outputs[0].shape = ir.Shape([*x[:-1], size[-1]])
        if node.op_type == "Gemm":
            _split_gemm(node, editor)
    editor.become_reshape(last, last.inputs[0], after)
    return True


def _is_row_wise(node: ir.Node, value: ir.Value) -> bool:
    """Whether a node makes (rows, M) of (rows, K), each row of one row; every other operand is a constant."""
    if [node.inputs[p] for p in operands(node)] != [value] or static(node.outputs[0]) is None:
        return False
    others = [graph.required_constant(v) for v in node.inputs if v is not None and v is not value]
    if is_operator(node, "MatMul"):
        return node.inputs[0] is value and others[0].ndim == 2
    if is_operator(node, "Gemm"):
        return node.inputs[0] is value and not gemm_form(node)[2] and all(_is_row(c) for c in others[1:])
    return is_unary(node) or (is_operator(node, "Add", "Sub", "Mul", "Div") and all(_is_row(c) for c in others))


def _is_row(array: Array) -> bool:
    return array.ndim <= 2 and all(d == 1 for d in array.shape[:-1])


def _split_gemm(node: ir.Node, editor: Editor) -> None:
    """A Gemm as MatMul and Add, which take any number of axes."""
    alpha, beta, _, transposed = gemm_form(node)
    weight, bias = graph.required_constant(node.inputs[1]), optional_bias(node)
    editor.set_input(node, 1, (weight.T if transposed else weight) * np.float32(alpha))
    node.op_type = "MatMul"
    node.attributes.clear()
    node.resize_inputs(2)
    if bias is None:
        return
    offset = editor.constant(graph.name_of(bias), graph.required_constant(bias) * np.float32(beta))
    result = node.outputs[0]
    biased = ir.Value(name=editor.unique(f"{result.name}.biased"), shape=result.shape, type=result.type)
    result.replace_all_uses_with(biased)
    editor.graph.insert_after(node, ir.node("Add", [result, offset], outputs=[biased], name=biased.name))


RULE = LiftRows()
