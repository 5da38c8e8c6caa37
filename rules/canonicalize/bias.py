"""``Add(layer(x, w, b), c) -> layer(x, w, b + c)`` for a constant per output channel, operands either way."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Array, PatternRule, is_constant, layer_in_front, optional_bias


class FoldBias(PatternRule):
    """A linear layer directly in front, read by nothing else."""

    def pattern(self, op: Any) -> Any:
        """Any Add."""
        return op.Add(_allow_other_inputs=True, _outputs=["out"])

    @staticmethod
    def _parts(out: ir.Value) -> tuple[ir.Node, Array] | None:
        """The layer and the constant as a vector over its output channels."""
        add = PatternRule.node(out)
        for inner, other in (add.inputs, add.inputs[::-1]):
            layer = layer_in_front(add, inner)
            if layer is None or not is_constant(other):
                continue
            weight, offset = graph.required_constant(layer.inputs[1]), graph.required_constant(other)
            channels, rank = weight.shape[0], weight.ndim
            shape = (1,) * (rank - offset.ndim) + offset.shape  # aligned to the output's axes, channels second
            if len(shape) == rank and all(d == 1 or (i == 1 and d == channels) for i, d in enumerate(shape)):
                return layer, np.broadcast_to(offset.reshape(-1), (channels,)).astype(np.float64)
        return None

    def check(self, op: Any, out: ir.Value, **_: Any) -> bool:
        """The constant lies along the channels."""
        return self._parts(out) is not None

    def rewrite(self, op: Any, out: ir.Value, **_: Any) -> ir.Value:
        """The same layer with another bias."""
        parts = self._parts(out)
        assert parts is not None
        layer, offset = parts
        bias, weight = optional_bias(layer), layer.inputs[1]
        assert weight is not None
        if bias is None:
            value = self.constant(out, f"{weight.name}.bias", offset.astype(np.float32))
        else:
            value = self.changed(out, bias, graph.required_constant(bias) + offset)
        return self.build(op, layer.op_type, [layer.inputs[0], weight, value], out, **layer.attributes)


RULE = FoldBias("bias")
