"""Gemm in canonical form: ``y = x @ w.T + b`` with w (M, K) constant; alpha = beta = 1, transA = 0, transB = 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph, numerics
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Linear, T


class Gemm(Linear):
    """``y[n,m] = sum over k of x[n,k] * w[m,k] + b[m]``."""

    op_type = "Gemm"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Only the canonical form is quantized; canonicalization brings the others into it where it can."""
        yield from super().obstacles(node)
        form = {name: graph.attribute(node, name, default) for name, default in
                {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}.items()}
        if form != {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}:
            yield "only x @ w.T + b with a constant 2-d weight; use a Linear layer on (batch, features)"

    def macs(self, node: ir.Node) -> int:
        """One a weight."""
        return int(graph.required_constant(node.inputs[1]).size)

    def core(self, node: ir.Node) -> str | None:
        """The accelerator's fully connected layer."""
        return "dense"

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Exact accumulators, bias included."""
        (_, weight), (_, bias) = self.parameters(node)
        bound = int(numerics.weight_bound(weight, -128, 127).max(initial=0))
        return np.asarray(numerics.multiply(inputs[0], weight, bound=bound) + bias)

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """MatMulInteger with the transposed weight, then Add of the int32 bias."""
        (name, weight), (bias_name, bias) = self.parameters(node)
        product = emitter.add("MatMulInteger", [inputs[0], emitter.constant(name, weight.T)], f"{output}.product")
        return emitter.add("Add", [product, emitter.constant(bias_name, bias)], output)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Gemm, transB = 1, bias of shape (M,)."""
        parameters = [emitter.constant(name, array.astype(np.float32)) for name, array in self.parameters(node)]
        return emitter.add("Gemm", [inputs[0], *parameters], output, alpha=1.0, beta=1.0, transA=0, transB=1)


OPERATOR = Gemm()
