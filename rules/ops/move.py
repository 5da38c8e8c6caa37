"""Operators that move codes and change none: Flatten, Reshape, Transpose, Identity of shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Operator, T


class Flatten(Operator):
    """(N, ...) to (N, rest); canonical axis 1."""

    op_type = "Flatten"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """The batch axis stays alone."""
        if graph.attribute(node, "axis", 1) != 1:
            yield "axis is not 1, which mixes the batch with the rest; flatten with axis=1"

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Row-major reshape."""
        return inputs[0].reshape(inputs[0].shape[0], -1)


class Reshape(Operator):
    """(N, ...) to (N, any); canonical target starts with 0, which keeps the batch axis."""

    op_type = "Reshape"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """A constant target that keeps the batch axis."""
        target = graph.constant(node.inputs[1])
        if target is None:
            yield "the target shape is computed in the graph; reshape to constant sizes"
        elif target.size == 0 or target[0] != 0 or graph.attribute(node, "allowzero", 0):
            yield f"the target shape {target.tolist()} does not keep the batch as first axis; reshape only the others"

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Row-major reshape; 0 copies an axis, -1 takes what is left."""
        x = inputs[0]
        target = graph.required_constant(node.inputs[1]).tolist()
        return x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(target)])

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Batch 1 written out."""
        target = graph.required_constant(node.inputs[1]).copy()
        target[0] = 1
        return emitter.add("Reshape", [inputs[0], emitter.constant(f"{output}.shape", target.astype(np.int64))], output)


class Transpose(Operator):
    """Permutes axes; the batch stays first."""

    op_type = "Transpose"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """The batch axis stays first."""
        perm = graph.attribute(node, "perm")
        if perm is None or perm[0] != 0:
            yield f"perm {perm} moves the batch axis; keep it first"

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """A copy in the new order."""
        return np.ascontiguousarray(inputs[0].transpose(graph.attribute(node, "perm")))


OPERATORS = [Flatten(), Reshape(), Transpose()]
