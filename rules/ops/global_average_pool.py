"""GlobalAveragePool as a division: the sum over the map, divided by its size, at the input's exponent.

The other form, a depthwise Conv with an exponent of its own, is a float rewrite made before the scales are placed
(:mod:`onnxdiana.recovery.pooling`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph, numerics
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Codes, Operator, T


class GlobalAveragePool(Operator):
    """``acc = (sum of q_x) div n``; only for q_x >= 0, where truncation (HTVM, ONNX Div) is floor."""

    op_type = "GlobalAveragePool"
    requantizes = True

    def macs(self, node: ir.Node) -> int:
        """One an input element."""
        return math.prod(graph.sample_shape(self.codes(node)[0]))

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Integer mean."""
        return numerics.mean(inputs[0], rounding)

    def bound(self, node: ir.Node, inputs: Sequence[Codes]) -> int:
        """The sum before the division is what has to fit."""
        return math.prod(graph.sample_shape(self.codes(node)[0])[1:]) * super().bound(node, inputs)

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Cast to int32, ReduceSum over the map, Div by its size."""
        size = math.prod(graph.sample_shape(self.codes(node)[0])[1:])
        rank = len(graph.sample_shape(self.codes(node)[0])) + 1
        wide = emitter.add("Cast", [inputs[0]], f"{output}.operand", to=int(ir.DataType.INT32))
        axes = emitter.constant(f"{output}.axes", np.arange(2, rank, dtype=np.int64))
        total = emitter.add("ReduceSum", [wide, axes], f"{output}.sum", keepdims=1)
        return emitter.add("Div", [total, emitter.constant(f"{output}.size", np.array(size, np.int32))], output)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """GlobalAveragePool and Flatten: the dialect wants the map flattened before the clip."""
        pooled = emitter.add("GlobalAveragePool", list(inputs), f"{output}.pooled")
        return emitter.add("Flatten", [pooled], output, axis=1)


def is_flat_mean(value: ir.Value | None) -> bool:
    """Whether a tensor of the integer graph is a requantized mean, which the dialect has flattened already."""
    requantizer = value.producer() if value is not None else None
    if requantizer is None or requantizer.op_type != "Requantize" or requantizer.inputs[0] is None:
        return False
    pool = requantizer.inputs[0].producer()
    return pool is not None and pool.op_type == "GlobalAveragePool"


OPERATOR = GlobalAveragePool()
