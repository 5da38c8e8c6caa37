"""MaxPool on codes: the largest code stands for the largest value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from onnxdiana import graph, numerics
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Operator


class MaxPool(Operator):
    """``max over the window``; padding never wins."""

    op_type = "MaxPool"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """One output, explicit pads."""
        if len(node.outputs) > 1 and node.outputs[1].uses():
            yield "the indices output is used; only the pooled values are quantized"
        if graph.attribute(node, "auto_pad", "NOTSET") != "NOTSET":
            yield "auto_pad could not be resolved; export with explicit pads"

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Maximum over each window."""
        kernel = graph.attribute(node, "kernel_shape")
        n = len(kernel)
        return numerics.max_pool(
            inputs[0], kernel=kernel, strides=graph.attribute(node, "strides", [1] * n),
            pads=graph.attribute(node, "pads", [0] * 2 * n), dilations=graph.attribute(node, "dilations", [1] * n),
            ceil_mode=bool(graph.attribute(node, "ceil_mode", 0)),
        )

    def htvm_obstacles(self, node: ir.Node) -> Iterator[str]:
        """TVM's max_pool2d, unpadded in ceil mode."""
        if len(graph.attribute(node, "kernel_shape")) != 2:
            yield "HTVM takes 2-d pooling only"


OPERATOR = MaxPool()
