"""GlobalAveragePool as a division: the sum over the map, divided by its size, at the input's exponent.

The other form, a depthwise Conv with an exponent of its own, is a float rewrite made before the scales are placed
(:mod:`onnxdiana.recovery.pooling`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph, numerics
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter, Namer
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Codes, Operator, T, insert_behind


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

    def violations(self, node: ir.Node, inputs: Sequence[Codes]) -> Iterator[str]:
        """No negative codes, which HTVM and ONNX round towards zero; no shift, for which the dialect has no place."""
        (lo, _), = inputs
        if lo < 0:
            yield f"a mean of codes down to {lo}, which truncation and floor round differently"
        requantizer = graph.sole_consumer(node.outputs[0])
        if requantizer is not None and graph.attribute(requantizer, "shift") != 0:
            yield f"a mean shifted by {graph.attribute(requantizer, 'shift')}"

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Cast to int32, ReduceSum over the map, Div by its size."""
        size = math.prod(graph.sample_shape(self.codes(node)[0])[1:])
        rank = len(graph.sample_shape(self.codes(node)[0])) + 1
        wide = emitter.add("Cast", [inputs[0]], f"{output}.operand", to=int(ir.DataType.INT32))
        axes = emitter.constant(f"{output}.axes", np.arange(2, rank, dtype=np.int64))
        total = emitter.add("ReduceSum", [wide, axes], f"{output}.sum", keepdims=1)
        return emitter.add("Div", [total, emitter.constant(f"{output}.size", np.array(size, np.int32))], output)

    def prepare_htvm(self, node: ir.Node, unique: Namer, forms: Forms) -> None:
        """The dialect flattens the map before the clip: a Flatten behind it falls away, others read a Reshape of it."""
        requantizer = graph.sole_consumer(node.outputs[0])
        assert requantizer is not None
        assert isinstance(node.graph, ir.Graph)
        mean = requantizer.outputs[0]
        size = graph.sample_shape(mean)
        mean.shape = ir.Shape([graph.BATCH, size[0]])
        readers = {use.node for use in mean.uses()}
        others = {reader for reader in readers if reader.op_type != "Flatten"}
        for flatten in readers - others:
            flatten.outputs[0].replace_all_uses_with(mean)
            node.graph.remove(flatten, safe=True)
        if others:
            name = unique(f"{graph.name_of(mean)}.map")
            target = graph.initializer(node.graph, f"{name}.shape", np.array([0, *size], np.int64))
            insert_behind(mean, "Reshape", name, others, target).shape = ir.Shape([graph.BATCH, *size])

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """GlobalAveragePool and Flatten."""
        pooled = emitter.add("GlobalAveragePool", list(inputs), f"{output}.pooled")
        return emitter.add("Flatten", [pooled], output, axis=1)

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """TVM's global_avg_pool2d."""
        if len(graph.sample_shape(self.codes(node)[0])) != 3:
            yield "HTVM takes 2-d pooling only; write the map as a 2-d one with an axis of size 1"


OPERATOR = GlobalAveragePool()
