"""KU Leuven's DIANA: a digital core of 16x16 processing elements, RISC-V for the rest (docs/htvm-dialect.md, 3)."""

from __future__ import annotations

import math

from onnxdiana import graph
from onnxdiana.layers import Layer
from onnxdiana.rules.ops.conv import geometry
from onnxdiana.targets.base import Target


def _divisible(layer: Layer) -> list[str]:
    found = []
    for role, value in (("input", layer.inputs[0]), ("output", layer.output)):
        count = math.prod(graph.sample_shape(value))
        if count % 4:
            found.append(f"{role} has {count} elements, not a multiple of 4")
    return found


def _conv(layer: Layer) -> list[str]:
    weight = graph.required_constant(layer.node.inputs[1])
    shape = geometry(layer.node)
    kernel, pads, group = weight.shape[2:], shape["pads"], shape["group"]
    half = len(pads) // 2
    found = []
    if any(k not in (1, 3, 5, 7) for k in kernel):
        found.append(f"kernel {list(kernel)}; only 1, 3, 5, 7 in each direction")
    if shape["strides"] not in ([1, 1], [2, 2]):
        found.append(f"strides {shape['strides']}; only [1, 1] or [2, 2]")
    if any(d != 1 for d in shape["dilations"]):
        found.append(f"dilations {shape['dilations']}; only [1, 1]")
    if pads[:half] != pads[half:] or any(2 * p != k - 1 for p, k in zip(pads, kernel, strict=False)):
        found.append(f"pads {pads}; only 'same' padding, (kernel - 1) / 2 on every side")
    if group not in (1, weight.shape[0]) or (group > 1 and weight.shape[0] != graph.sample_shape(layer.inputs[0])[0]):
        found.append(f"{group} groups; only 1, or as many as input and output channels")
    producer = layer.inputs[0].producer()
    if producer is not None and producer.op_type == "Pad":
        found.append("an explicit Pad in front of it")
    return found


def digital_obstacles(layer: Layer) -> list[str]:
    """Why a layer stays on the RISC-V core: the conditions of HTVM's partitioner, and SAME padding in both axes."""
    kind = layer.operator.core(layer.node)
    if kind is None:
        return [f"no accelerator form of {layer.node.op_type}"]
    return _divisible(layer) + (_conv(layer) if kind == "conv" else [])


TARGET = Target(name="diana", obstacles=digital_obstacles)
