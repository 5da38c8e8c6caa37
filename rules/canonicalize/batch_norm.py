"""``BatchNormalization(Conv(x, w, b)) -> Conv(x, w * k, (b - mean) * k + beta)``, ``k = gamma / sqrt(var + eps)``.

Likewise behind a Gemm (BatchNorm1d). Inference form only; a training-mode node is left alone and reported later.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Array, PatternRule, is_constant, layer_in_front, optional_bias


def affine(node: ir.Node) -> tuple[Array, Array]:
    """Factor and offset per channel of an inference-mode BatchNormalization, in float64."""
    gamma, beta, mean, var = (graph.required_constant(v).astype(np.float64) for v in node.inputs[1:5])
    factor = gamma / np.sqrt(var + _epsilon(node))
    return factor, beta - mean * factor


def _epsilon(node: ir.Node) -> float:
    return float(graph.attribute(node, "epsilon", 1e-5))


def is_inference(node: ir.Node) -> bool:
    """Constant parameters with a positive variance, no training mode; the engine leaves read statistics alone."""
    if graph.attribute(node, "training_mode", 0) or not is_constant(*node.inputs[1:5]):
        return False
    return bool((graph.required_constant(node.inputs[4]) > -_epsilon(node)).all())


class FoldBatchNorm(PatternRule):
    """A linear layer directly in front, read by nothing else."""

    def pattern(self, op: Any) -> Any:
        """Any BatchNormalization; what stands in front is looked up in check."""
        return op.BatchNormalization(_allow_other_inputs=True, _allow_other_attributes=True, _outputs=["out"])

    @staticmethod
    def _layer(out: ir.Value) -> ir.Node | None:
        norm = PatternRule.node(out)
        return layer_in_front(norm, norm.inputs[0])

    def check(self, op: Any, out: ir.Value, **_: Any) -> bool:
        """Constants everywhere; for Gemm the canonical form (the gemm rule comes first)."""
        return is_inference(self.node(out)) and self._layer(out) is not None

    def rewrite(self, op: Any, out: ir.Value, **_: Any) -> ir.Value:
        """The same layer with other weights, under the name of the normalized tensor."""
        layer = self._layer(out)
        assert layer is not None
        factor, offset = affine(self.node(out))
        weight, bias = layer.inputs[1], optional_bias(layer)
        assert weight is not None
        w = graph.required_constant(weight).astype(np.float64)
        b = 0.0 if bias is None else graph.required_constant(bias).astype(np.float64)
        new_weight = self.changed(out, weight, w * factor.reshape(-1, *(1,) * (w.ndim - 1)))
        new_bias = (b * factor + offset).astype(np.float32)
        bias_value = (self.constant(out, f"{weight.name}.bias", new_bias) if bias is None
                      else self.changed(out, bias, new_bias))
        return self.build(op, layer.op_type, [layer.inputs[0], new_weight, bias_value], out, **layer.attributes)


RULE = FoldBatchNorm("batch_norm")
