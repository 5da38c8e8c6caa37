"""What the estimates ask of a quantized network: shapes of a layer, bytes of the activations alive at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxdiana import graph
from onnxdiana.costs.memory import live_bytes
from onnxdiana.costs.work import Work
from onnxdiana.graph import name_of
from onnxdiana.layers import Layer, Network
from onnxdiana.rules.ops import operator
from onnxdiana.rules.ops.conv import geometry


def work_of(layer: Layer) -> Work | None:
    """Shapes of a layer, whichever core takes it; None for one of no kind that an accelerator has."""
    kind = layer.operator.core(layer.node)
    if kind is None:
        return None
    given, out = (graph.sample_shape(value) for value in (layer.inputs[0], layer.output))
    if kind != "conv":
        return Work(kind, _channels(given), _channels(out), _map(given[1:]), _map(out[1:]))
    window = geometry(layer.node)
    kernel = graph.required_constant(layer.node.inputs[1]).shape[2:]
    above, left, below, right = window["pads"]
    return Work(kind, given[0], out[0], _map(given[1:]), _map(out[1:]), _map(kernel), _map(window["strides"]),
                (above, left, below, right), window["group"])


def weight_bytes(view: Network) -> int:
    """Weights as int8, and an int32 bias for every channel, whether the float layer has one or not."""
    weights = [graph.constant(layer.operator.weight(layer.node)) for layer in view.layers]
    return sum(weight.size + 4 * len(weight) for weight in weights if weight is not None)


def activation_bytes(view: Network) -> int:
    """Most bytes of int8 activations alive at once for one sample, each operator writing a buffer of its own.

    Every tensor must have a shape.
    """
    layers = {layer.node: layer for layer in view.layers}
    steps, sizes = [], {}
    for node in view.model.graph:
        if node in view.fused:
            continue
        layer = layers.get(node)
        reads, output = ((operator(node).codes(node), node.outputs[0]) if layer is None else
                         (layer.inputs, layer.output))
        steps.append(([name_of(value) for value in reads], name_of(output)))
        sizes.update({name_of(value): math.prod(graph.sample_shape(value)) for value in (*reads, output)})
    return max(live_bytes(steps, sizes), default=0)


def _channels(shape: Sequence[int]) -> int:
    return shape[0] if shape else 1


def _map(sizes: Sequence[int]) -> tuple[int, int]:
    """Height and width; axes beyond two are rows, too."""
    return math.prod(sizes[:-1]), sizes[-1] if sizes else 1
