"""``MatMul(x, w) -> transpose(Conv(transpose(x), w'))`` for x of three or more axes: a convolution of size 1.

Likewise ``MatMul(w, x)``, which sums over the last axis but one. Maps are made 4-d; what cancels is the sink rule's.
Features with axes of size 1 beside them become ``Reshape(Gemm(Flatten(x), w'))``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule, is_constant
from onnxdiana.rules.canonicalize.layout import static


class MatMulToConv(PatternRule):
    """A constant matrix on either side of a batch of matrices."""

    def pattern(self, op: Any, a: Any, b: Any) -> Any:
        """Any MatMul."""
        return op.MatMul(a, b, _outputs=["out"])

    def check(self, op: Any, a: ir.Value, b: ir.Value, **_: Any) -> bool:
        """One matrix, one computed tensor of three axes or more with known sizes."""
        x, w = (b, a) if is_constant(a) else (a, b)
        shape = static(x)
        return (is_constant(w) and not is_constant(x) and graph.required_constant(w).ndim == 2
                and shape is not None and len(shape) >= 3)

    def rewrite(self, op: Any, a: ir.Value, b: ir.Value, out: ir.Value, **_: Any) -> ir.Value:
        """The summed axis becomes the channels."""
        left = is_constant(a)
        x, w = (b, a) if left else (a, b)
        weight = graph.required_constant(w) if left else graph.required_constant(w).T
        shape = static(x)
        assert shape is not None
        if math.prod(shape[1:]) == shape[-2 if left else -1]:
            flat = self._node(op, "Flatten", [x], out, "flat", axis=1)
            product = self._node(op, "Gemm", [flat, self.changed(out, w, weight)], out, "product", alpha=1.0, beta=1.0,
                                 transA=0, transB=1)
            sizes = [*shape[1:-2], len(weight), 1] if left else [*shape[1:-1], len(weight)]
            return self.build(op, "Reshape", [product, self.target(out, f"{out.name}", sizes)], out)
        rank = len(shape)
        channels = rank - 2 if left else rank - 1
        there = [0, channels, *(i for i in range(1, rank) if i != channels)]
        back = np.argsort(there).tolist()
        size = tuple(shape[p] for p in there[2:])
        value = self._transposed(op, x, there, out)
        if rank != 4:
            value = self._reshaped(op, value, [shape[channels], math.prod(size[:-1]), size[-1]], out)
        value = self._node(op, "Conv", [value, self.changed(out, w, weight[:, :, None, None])], out, "map",
                           kernel_shape=[1, 1], strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1)
        if rank != 4:
            value = self._reshaped(op, value, [len(weight), *size], out)
        return self.build(op, "Transpose", [value], out, perm=back)

    def _node(self, op: Any, op_type: str, inputs: Sequence[ir.Value], out: ir.Value, role: str,
              **attributes: Any) -> ir.Value:
        name = self.unique(f"{out.name}.{role}")
        value: ir.Value = op.op(op_type, *inputs, _outputs=[name], _name=name, **attributes)
        return value

    def _transposed(self, op: Any, x: ir.Value, perm: list[int], out: ir.Value) -> ir.Value:
        return self._node(op, "Transpose", [x], out, "channels_first", perm=perm)

    def _reshaped(self, op: Any, x: ir.Value, sizes: list[int], out: ir.Value) -> ir.Value:
        return self._node(op, "Reshape", [x, self.target(out, f"{out.name}", sizes)], out, "reshaped")


RULE = MatMulToConv("pointwise")
