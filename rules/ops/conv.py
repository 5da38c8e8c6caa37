"""Conv: integer convolution; 1-d, 2-d or 3-d kernels, any stride, zero padding, dilation and group count."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph, numerics
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter, Namer
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import ACCUMULATOR, Array, Linear, T, bias_shape, window


def geometry(node: ir.Node) -> dict[str, Any]:
    """Strides, pads, dilations and group of a node, with ONNX's defaults filled in."""
    rank = graph.required_constant(node.inputs[1]).ndim - 2
    return {**window(node, rank), "group": graph.attribute(node, "group", 1)}


class Conv(Linear):
    """``y[n,m] = sum over c, k of w[m,c,k] * x[n,c,s*p+d*k] + b[m]``."""

    op_type = "Conv"

    def macs(self, node: ir.Node) -> int:
        """Kernel size times output elements."""
        weight = graph.required_constant(node.inputs[1])
        return int(weight[0].size) * math.prod(graph.sample_shape(node.outputs[0]))

    def core(self, node: ir.Node) -> str | None:
        """The accelerator has 2-d convolutions."""
        return "conv" if graph.required_constant(node.inputs[1]).ndim == 4 else None

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Kernels of 1 to 3 dimensions, explicit pads."""
        yield from super().obstacles(node)
        weight = graph.constant(node.inputs[1])
        if weight is not None and not 3 <= weight.ndim <= 5:
            yield f"the weight has {weight.ndim} dimensions; use a 1-d, 2-d or 3-d convolution"
        if graph.attribute(node, "auto_pad", "NOTSET") != "NOTSET":
            yield "auto_pad could not be resolved; export with explicit pads"

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Exact accumulators, bias included."""
        (_, weight), (_, bias) = self.parameters(node)
        bound = int(numerics.weight_bound(weight, -128, 127).max(initial=0))
        acc = numerics.convolve(inputs[0], weight, bound=bound, **geometry(node))
        acc += bias.reshape(bias_shape(weight.ndim))
        return acc

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """ConvInteger on int8 without zero points, then Add of the int32 bias."""
        (name, weight), (bias_name, bias) = self.parameters(node)
        product = emitter.add("ConvInteger", [inputs[0], emitter.constant(name, weight)], f"{output}.product",
                              kernel_shape=list(weight.shape[2:]), **geometry(node))
        return emitter.add("Add", [product, emitter.constant(bias_name, bias.reshape(bias_shape(weight.ndim)))], output)

    def prepare_htvm(self, node: ir.Node, unique: Namer, forms: Forms) -> None:
        """Zero taps, where they were chosen; a bias of zeros goes, where it was chosen."""
        weight = node.inputs[1]
        assert weight is not None
        layer = graph.name_of(node.outputs[0]).removesuffix(ACCUMULATOR)
        kernel = forms.kernels.get(layer)
        if kernel is not None:
            graph.set_constant(weight, kernel.embed(graph.required_constant(weight)))
            node.attributes["pads"] = ir.AttrInt64s("pads", kernel.pads)
            node.attributes["dilations"] = ir.AttrInt64s("dilations", [1, 1])
        if layer in forms.unbiased:
            node.attributes["unbiased"] = ir.AttrInt64("unbiased", 1)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Conv with an explicit bias: without one it would not be accelerated."""
        parameters = [emitter.constant(name, array.astype(np.float32)) for name, array in self.parameters(node)]
        if graph.attribute(node, "unbiased", 0):
            del parameters[1]
        kernel = list(graph.required_constant(node.inputs[1]).shape[2:])
        return emitter.add("Conv", [inputs[0], *parameters], output, kernel_shape=kernel, **geometry(node))

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """HTVM makes integers of 2-d convolutions only."""
        if graph.required_constant(node.inputs[1]).ndim != 4:
            yield "HTVM takes 2-d convolutions only; write it as a 2-d convolution with an axis of size 1"


OPERATOR = Conv()
