"""The global average pool written as a convolution, which rounds half up and has an exponent of its own.

``mean(x) * n / 2**k = sum(x) / 2**k``: a depthwise Conv over the whole map with every weight ``2**-k``, ``2**k`` the
power of two nearest to the map's size n. The factor ``2**k / n`` goes into the float weights of the linear layer
behind it (docs/numerics.md, "mean (conv)"). Where no such layer stands behind it, the weight is ``1 / n`` as it is.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.graph import Namer, name_of
from onnxdiana.rules.ops import operator


def pools(model: ir.Model) -> list[ir.Node]:
    """The global average pools of a canonical graph."""
    return [node for node in model.graph if node.op_type == "GlobalAveragePool"]


def must_convolve(model: ir.Model) -> set[str]:
    """Pools whose input can be negative: truncation and floor differ there, so only the conv form is exact."""
    return {name_of(node.outputs[0]) for node in pools(model) if not _non_negative(node.inputs[0])}


def _non_negative(value: ir.Value | None) -> bool:
    """Whether clips on every way to a tensor keep its codes from being negative."""
    node = value.producer() if value is not None else None
    if node is None:
        return False
    op = operator(node)
    bounds = op.bounds(node)
    if bounds is not None and bounds[0] >= 0:
        return True
    return not op.requantizes and all(_non_negative(source) for source in op.codes(node))


def as_convolution(model: ir.Model, names: set[str]) -> ir.Model:
    """The named pools as convolutions; the float function is the same up to rounding. The argument is not changed."""
    clone = model.clone()
    for node in pools(clone):
        if name_of(node.outputs[0]) in names:
            _convert(clone.graph, node)
    return clone


def _convert(g: ir.Graph, node: ir.Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    channels, *size = graph.sample_shape(source)
    count = math.prod(size)
    power = 2.0 ** round(math.log2(count))
    unique = Namer(graph.all_names(g))
    behind = _linear_behind(result)
    if behind is not None and power != count:
        weight = behind.inputs[1]
        assert weight is not None
        array = (graph.required_constant(weight).astype(np.float64) * (power / count)).astype(np.float32)
        if len(weight.uses()) == 1:
            graph.set_constant(weight, array)
        else:
            behind.replace_input_with(1, graph.initializer(g, unique(name_of(weight)), array))
    value = 1.0 / (power if behind is not None else count)
    kernel = graph.initializer(g, unique(f"{result.name}.weight"), np.full((channels, 1, *size), value, np.float32))
    bias = graph.initializer(g, unique(f"{result.name}.bias"), np.zeros(channels, np.float32))
    rank = len(size)
    conv = ir.node("Conv", [source, kernel, bias], {
        "group": channels, "kernel_shape": size, "strides": [1] * rank, "pads": [0] * 2 * rank, "dilations": [1] * rank,
    }, name=node.name)
    new, name = conv.outputs[0], name_of(result)
    new.shape, new.type = result.shape, result.type
    g.insert_after(node, conv)
    result.replace_all_uses_with(new, replace_graph_outputs=True)
    g.remove(node, safe=True)
    new.name = name


def _linear_behind(value: ir.Value) -> ir.Node | None:
    """The linear layer that alone reads a pooled tensor, perhaps behind operators that only move it."""
    consumer = graph.sole_consumer(value)
    while consumer is not None:
        op = operator(consumer)
        if op.weight(consumer) is not None:
            return consumer
        if op.requantizes or op.bounds(consumer) is not None or len(op.codes(consumer)) != 1:
            return None
        consumer = graph.sole_consumer(consumer.outputs[0])
    return None
