"""KU Leuven's DIANA: a digital core of 16x16 processing elements, RISC-V for the rest (docs/htvm-dialect.md, 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from onnxdiana import costs, graph
from onnxdiana.costs.layers import work_of
from onnxdiana.costs.memory import L2
from onnxdiana.layers import Layer
from onnxdiana.rules.ops.conv import geometry
from onnxdiana.targets.base import Obstacle, Target

KERNELS = (1, 3, 5, 7)
"""Kernel sizes in each direction."""
_WORD = 4  # input and output have a multiple of so many elements


def _divisible(layer: Layer, kind: str) -> list[Obstacle]:
    found = []
    for role, value in (("input", layer.inputs[0]), ("output", layer.output)):
        count = math.prod(graph.sample_shape(value))
        if count % _WORD:
            remedy = "" if 0 in graph.sample_shape(value) else _more(layer, kind, role, value)
            found.append(Obstacle(f"{role} has {count} elements, not a multiple of {_WORD}", remedy))
    return found


def _more(layer: Layer, kind: str, role: str, value: ir.Value) -> str:
    """The next number of channels or features with which a tensor has a multiple of four elements."""
    value = _unflattened(value) if role == "input" else value
    channels, *size = graph.sample_shape(value)
    step = _WORD // math.gcd(_WORD, math.prod(size))
    more = -(-channels // step) * step
    if kind == "add":
        return f"give both operands {more} channels instead of {channels}"
    noun = "channels" if size else "features" if role == "input" else "outputs"
    if role == "output":
        unused = f"{channels} is no multiple of {step}; leave {more - channels} unused"
        if layer.output.is_graph_output():
            return f"give the head {more} {noun} ({unused})"
        return f"give it {more} {noun if noun == 'outputs' else 'output channels'} instead of {channels}"
    if value.is_graph_input():
        map_size = f", or a map of a multiple of {_WORD} pixels" if size else ""
        return f"feed {more} {noun} instead of {channels} ({more - channels} of zeros){map_size}"
    return f"give the layer in front {more} {noun if size else 'outputs'} instead of {channels}"


def _unflattened(value: ir.Value) -> ir.Value:
    """The map behind a flattened or reshaped tensor: its channels are what a person can choose."""
    while (node := value.producer()) is not None and node.op_type in ("Flatten", "Reshape"):
        assert node.inputs[0] is not None
        value = node.inputs[0]
    return value


def _conv(layer: Layer) -> list[Obstacle]:
    weight = graph.required_constant(layer.node.inputs[1])
    shape = geometry(layer.node)
    kernel, pads, strides, dilations, group = (
        list(weight.shape[2:]), shape["pads"], shape["strides"], shape["dilations"], shape["group"])
    half = len(pads) // 2
    allowed = [min(KERNELS, key=lambda size: (abs(size - k), -size)) for k in kernel]  # the larger of two as near
    same = [(k - 1) // 2 for k in allowed]
    found = []
    unequal = pads[:half] != pads[half:] or any(2 * p != k - 1 for p, k in zip(pads, kernel, strict=False))
    if allowed != kernel:
        padded = "" if unequal else f", padded by {_each(same)}"
        found.append(Obstacle(f"kernel {kernel}; only 1, 3, 5, 7 in each direction",
                              f"use a {_by(allowed)} kernel instead of {_by(kernel)}{padded}"))
    if strides not in ([1, 1], [2, 2]):
        found.append(Obstacle(f"strides {strides}; only [1, 1] or [2, 2]",
                              f"stride {min(max(strides), 2)} instead of {_each(strides)}"))
    if any(d != 1 for d in dilations):
        found.append(Obstacle(f"dilations {dilations}; only [1, 1]", f"dilation 1 instead of {_each(dilations)}"))
    if unequal:
        found.append(Obstacle(f"pads {pads}; only 'same' padding, (kernel - 1) / 2 on every side", _pad(same, pads)))
    inputs, outputs = graph.sample_shape(layer.inputs[0])[0], weight.shape[0]
    if group not in (1, outputs) or (group > 1 and outputs != inputs):
        found.append(Obstacle(f"{group} groups; only 1, or as many as input and output channels",
                              f"1 or {inputs} groups instead of {group}" if inputs == outputs else
                              f"1 group instead of {group}, or {inputs} groups and as many output channels"))
    producer = layer.inputs[0].producer()
    if producer is not None and producer.op_type == "Pad":
        found.append(Obstacle("an explicit Pad in front of it",
                              f"leave out the Pad in front: zeros, {_each(same)} on every side, in the convolution"))
    return found


def _pad(same: Sequence[int], pads: Sequence[int]) -> str:
    """How to pad evenly; TensorFlow's SAME pads more at the end where the stride is 2."""
    half = len(pads) // 2
    if not any(same):
        return f"no padding instead of {list(pads)}"
    wanted = "{0} on every side" if len(set(same)) == 1 else "{0} above and below, {1} left and right"
    tensorflow = any(begin != end for begin, end in zip(pads[:half], pads[half:], strict=True))
    keras = f" (in Keras: ZeroPadding2D({_each(same)}) and padding='valid')" if tensorflow else ""
    return f"pad {wanted.format(*same)} instead of {list(pads) if any(pads) else 'nothing'}{keras}"


def _each(sizes: Sequence[int]) -> str:
    """One number where all are the same."""
    return str(sizes[0]) if len(set(sizes)) == 1 else f"({', '.join(map(str, sizes))})"


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def digital_obstacles(layer: Layer) -> list[Obstacle]:
    """Why a layer stays on the RISC-V core: the conditions of HTVM's partitioner, and SAME padding in both axes."""
    kind = layer.operator.core(layer.node)
    if kind is None:
        remedy = "" if layer.function is None else f"train with ReLU instead of {layer.operation}: it needs no table"
        return [Obstacle(f"no accelerator form of {layer.operation}", remedy)]
    return _divisible(layer, kind) + (_conv(layer) if kind == "conv" else [])


def estimate(layer: Layer, core: str) -> costs.Estimate | None:
    """By the public models of the chip (docs/estimates.md); None on the RISC-V core, which neither has."""
    work = work_of(layer)
    return None if work is None else costs.estimate(work, core)


def misplaced(layer: Layer) -> bool:
    """Whether HTVM offloads a convolution that the core computes otherwise (docs/handoff.md, H6 and H7).

    HTVM asks for 'same' padding in one direction only, and takes as many groups as outputs for depthwise.
    Source: ``soma_dory.py``, ``is_filter_and_padding_supported``.
    """
    if layer.operator.core(layer.node) != "conv" or _divisible(layer, "conv"):
        return False
    weight, shape = graph.required_constant(layer.node.inputs[1]), geometry(layer.node)
    kernel, pads, producer = weight.shape[2:], shape["pads"], layer.inputs[0].producer()
    taken = (set(kernel) <= set(KERNELS) and pads[:2] == pads[2:] and shape["dilations"] == [1, 1]
             and shape["strides"] in ([1, 1], [2, 2]) and shape["group"] in (1, weight.shape[0])
             and any(2 * p == k - 1 for p, k in zip(pads, kernel, strict=False))
             and (producer is None or producer.op_type != "Pad"))
    return taken and bool(_conv(layer))


TARGET = Target(name="diana", obstacles=digital_obstacles, estimate=estimate, misplaced=misplaced, memory=L2)
