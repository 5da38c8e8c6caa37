"""``MatMul(x, w) -> Gemm(x, w.T)`` for x (N, K) and a constant w (K, M); an Add behind it is the bias rule's."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule, is_constant


class MatMulToGemm(PatternRule):
    """Two-dimensional operands, the second one constant."""

    def pattern(self, op: Any, x: Any, w: Any) -> Any:
        """Any MatMul."""
        return op.MatMul(x, w, _outputs=["out"])

    def check(self, op: Any, x: ir.Value, w: ir.Value, **_: Any) -> bool:
        """Known ranks."""
        shape = graph.dims(x)
        return is_constant(w) and graph.required_constant(w).ndim == 2 and shape is not None and len(shape) == 2

    def rewrite(self, op: Any, x: ir.Value, w: ir.Value, out: ir.Value, **_: Any) -> ir.Value:
        """Gemm without bias."""
        weight = self.changed(out, w, graph.required_constant(w).T)
        return self.build(op, "Gemm", [x, weight], out, alpha=1.0, beta=1.0, transA=0, transB=1)


RULE = MatMulToGemm("matmul")
