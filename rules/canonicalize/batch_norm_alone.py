"""``BatchNormalization(x) -> Conv(x, k, offset)``, one group of size 1 a channel, where no layer in front takes it.

Features (N, C) become a map of one point for it: Reshape to (N, C, 1, 1), Conv, Flatten.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule
from onnxdiana.rules.canonicalize.batch_norm import affine, is_inference


class LowerBatchNorm(PatternRule):
    """On features (N, C), and on maps (N, C, ...) with 1 to 3 spatial axes."""

    def pattern(self, op: Any) -> Any:
        """Any BatchNormalization that is still there."""
        return op.BatchNormalization(_allow_other_inputs=True, _allow_other_attributes=True, _outputs=["out"])

    def check(self, op: Any, out: ir.Value, **_: Any) -> bool:
        """Inference form, known rank."""
        node = self.node(out)
        shape = graph.dims(node.inputs[0])
        return is_inference(node) and shape is not None and 2 <= len(shape) <= 5

    def rewrite(self, op: Any, out: ir.Value, **_: Any) -> ir.Value:
        """A depthwise convolution of size 1."""
        node = self.node(out)
        shape = graph.dims(node.inputs[0])
        assert shape is not None
        features = len(shape) == 2
        ones = [1] * (2 if features else len(shape) - 2)
        factor, offset = affine(node)
        weight = self.constant(out, f"{out.name}.weight", factor.reshape(-1, 1, *ones).astype(np.float32))
        bias = self.constant(out, f"{out.name}.bias", offset.astype(np.float32))
        attributes = {"group": len(factor), "kernel_shape": ones, "strides": ones, "pads": [0, 0] * len(ones),
                      "dilations": ones}
        if not features:
            return self.build(op, "Conv", [node.inputs[0], weight, bias], out, **attributes)
        target = self.constant(out, f"{out.name}.shape", np.array([0, len(factor), 1, 1], dtype=np.int64))
        point, normalized = self.unique(f"{out.name}.point"), self.unique(f"{out.name}.normalized")
        x = op.op("Reshape", node.inputs[0], target, _outputs=[point], _name=point)
        y = op.op("Conv", x, weight, bias, _outputs=[normalized], _name=normalized, **attributes)
        return self.build(op, "Flatten", [y], out, axis=1)


RULE = LowerBatchNorm("batch_norm_alone")
