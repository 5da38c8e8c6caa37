"""``alpha * x @ op(w) + beta * c -> x @ w'.T + b`` with w' (M, K) and b (M,); transA = 0, constants folded in.

transA undoes a Transpose in front, which alone would move the batch: ``(x.T).T @ op(w) -> x @ op(w)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import (
    CANONICAL_GEMM,
    PatternRule,
    gemm_form,
    is_constant,
    is_operator,
    optional_bias,
)


class NormalizeGemm(PatternRule):
    """Every Gemm with constant weights that is not yet in this form."""

    def pattern(self, op: Any) -> Any:
        """Any Gemm."""
        return op.Gemm(_allow_other_inputs=True, _allow_other_attributes=True, _outputs=["out"])

    def check(self, op: Any, out: ir.Value, **_: Any) -> bool:
        """Not canonical yet, weights constant, bias (if any) a constant per output."""
        node = self.node(out)
        _alpha, _beta, trans_a, trans_b = gemm_form(node)
        weight, bias = node.inputs[1], optional_bias(node)
        if trans_a and self._turned(node) is None:
            return False
        if not is_constant(weight) or (bias is not None and not is_constant(bias)):
            return False
        if graph.required_constant(weight).ndim != 2:
            return False
        shape = () if bias is None else graph.required_constant(bias).shape
        outputs = graph.required_constant(weight).shape[0 if trans_b else 1]
        if any(d != 1 for d in shape[:-1]) or (shape and shape[-1] not in (1, outputs)):
            return False
        return gemm_form(node) != CANONICAL_GEMM or (bias is not None and shape != (outputs,))

    @staticmethod
    def _turned(node: ir.Node) -> ir.Value | None:
        """What a Transpose of two axes in front of a node reads."""
        front = node.inputs[0].producer() if node.inputs[0] is not None else None
        if front is None or not is_operator(front, "Transpose") or graph.attribute(front, "perm", [1, 0]) != [1, 0]:
            return None
        return front.inputs[0]

    def rewrite(self, op: Any, out: ir.Value, **_: Any) -> ir.Value:
        """Fold the factors and the transposition into the constants."""
        node = self.node(out)
        alpha, beta, trans_a, trans_b = gemm_form(node)
        weight, bias = node.inputs[1], optional_bias(node)
        assert weight is not None
        w = graph.required_constant(weight).astype(np.float64) * alpha
        w = w if trans_b else w.T
        inputs = [self._turned(node) if trans_a else node.inputs[0], self.changed(out, weight, w)]
        if bias is not None:
            b = np.broadcast_to(graph.required_constant(bias).reshape(-1) * beta, w.shape[:1])
            inputs.append(self.changed(out, bias, b))
        return self.build(op, "Gemm", inputs, out, alpha=1.0, beta=1.0, transA=0, transB=1)


RULE = NormalizeGemm("gemm")
