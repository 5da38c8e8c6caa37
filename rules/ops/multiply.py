"""Mul of two activations (a gate, squeeze and excitation): the product of codes, requantized."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Codes, HalfUp, T


class Mul(HalfUp):
    """``acc = q_a * q_b + offset`` at exponent ``e_a + e_b``; one operand may have axes of size 1."""

    op_type = "Mul"

    def pointwise(self, node: ir.Node) -> bool:
        """Of one tensor where the other operand is a constant, or a function of the same tensor."""
        return True

    def tabulated(self, node: ir.Node) -> bool:
        """A constant factor can be a layer's; a product of two functions of one tensor cannot."""
        return len(list(graph.activations(node))) > 1

    def real(self, node: ir.Node, inputs: Sequence[Any]) -> Array:
        """The product."""
        return np.asarray(inputs[0] * inputs[1])

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Two activations of one rank, no broadcasting of both."""
        if any(graph.constant(v) is not None for v in node.inputs):
            yield "the constant factor is neither one number nor one a channel; fold it into the weights of a layer"
            return
        shapes, result = [graph.dims(v) for v in node.inputs], graph.dims(node.outputs[0])
        if None not in shapes and result is not None and result not in shapes:
            yield f"shapes {shapes[0]} and {shapes[1]}; one operand must have the product's shape"
        if any(shape is not None and result is not None and len(shape) != len(result) for shape in shapes):
            yield f"shapes {shapes[0]} and {shapes[1]} differ in rank; give both the batch as first axis"

    def codes(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """Both operands."""
        return tuple(v for v in node.inputs if v is not None)

    def factors(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """Both operands."""
        return self.codes(node)

    def macs(self, node: ir.Node) -> int:
        """One an output element."""
        return math.prod(graph.sample_shape(node.outputs[0]))

    def bound(self, node: ir.Node, inputs: Sequence[Codes]) -> int:
        """Product of both magnitudes, and the offset."""
        first, second = (max(abs(lo), abs(hi)) for lo, hi in inputs)
        return first * second + self.offset(node)

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Product in int64; the offset belongs to the floor alone."""
        return np.asarray(inputs[0].astype(np.int64) * inputs[1] + self.offset(node, rounding))

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Both operands to int32, Mul, Add of the offset."""
        wide = [emitter.add("Cast", [x], f"{output}.operand", to=int(ir.DataType.INT32)) for x in inputs]
        return self.emit_product(node, wide, output, emitter)

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """The dialect multiplies tensors by constants only."""
        yield "HTVM's dialect has no product of two tensors; leave out the gate (squeeze and excitation, attention)"


OPERATOR = Mul()
