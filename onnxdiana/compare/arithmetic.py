"""Faults of what a layer computes: rounding, bounds, shift, bias, operands, borders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana import graph, numerics
from onnxdiana.compare.layer import Layer, Outcome, wrapped
from onnxdiana.compare.memory import UNLIKELY, reversed_words
from onnxdiana.costs.memory import LANES, padded
from onnxdiana.rules.ops import operator
from onnxdiana.rules.ops.base import Linear, bias_shape
from onnxdiana.rules.ops.conv import geometry

Array = NDArray[Any]

_LARGEST_SHIFT = 31
_LARGEST_OFFSET = 255
_OFFSETS = 3
"""The most frequent differences, of which one may be a constant offset."""


def floored(layer: Layer) -> Iterator[Outcome]:
    """The half step is missing, so that a floor stays a floor."""
    if layer.accumulator is not None and layer.half:
        yield Outcome(f"floor instead of half-up: the half step of {layer.half} is missing from the accumulator "
                      "(it is part of the bias)", layer.codes(layer.accumulator - layer.half))


def halved(layer: Layer) -> Iterator[Outcome]:
    """A half step where there is none to add."""
    if layer.accumulator is not None and layer.shift:
        half = numerics.half(layer.shift)
        told = f": a half step of {half} is added before the shift" if layer.node is not None else ""
        twice = ", which the bias has already" if layer.half else ""
        yield Outcome(f"half-up instead of floor{told}{twice}", layer.codes(layer.accumulator + half))


def rounded(layer: Layer) -> Iterator[Outcome]:
    """Other ways to round."""
    if layer.accumulator is None or layer.shift == 0:
        return
    for text, rounded in (
        ("rounded to nearest, ties to even, as float code does",
         numerics.shift_right(layer.accumulator - layer.half, layer.shift, "half_even")),
        ("a division that truncates toward zero, as C's does, instead of an arithmetic shift",
         np.sign(layer.accumulator) * (np.abs(layer.accumulator) >> layer.shift)),
    ):
        yield Outcome(text, layer.finish(np.clip(rounded, layer.lo, layer.hi)))


def relu_missing(layer: Layer) -> Iterator[Outcome]:
    """The lower bound is that of int8."""
    if layer.accumulator is not None and layer.lo > -128:
        yield Outcome(f"missing ReLU: the lower bound is -128 instead of {layer.lo}",
                      layer.codes(layer.accumulator, lo=-128))


def relu_extra(layer: Layer) -> Iterator[Outcome]:
    """A lower bound of 0."""
    if layer.accumulator is not None and layer.lo < 0:
        yield Outcome(f"a ReLU that should not be there: the lower bound is 0 instead of {layer.lo}",
                      np.maximum(layer.expected, 0))


def saturation(layer: Layer) -> Iterator[Outcome]:
    """Bounds that are not there, or others."""
    if layer.accumulator is None:
        return
    shifted = layer.accumulator >> layer.shift
    yield Outcome("no saturation: results wrap modulo 256 instead of being clipped", layer.finish(wrapped(shifted)))
    yield Outcome(f"no saturation above: results wrap modulo 256 behind the lower bound of {layer.lo}",
                  layer.finish(wrapped(np.maximum(shifted, layer.lo))))
    if layer.hi < 127:
        yield Outcome(f"the upper bound of {layer.hi} is not applied: clipped at 127",
                      layer.codes(layer.accumulator, hi=127))
    yield Outcome(f"clipped at 255 instead of {layer.hi}: saturation of unsigned bytes",
                  layer.codes(layer.accumulator, hi=255))
    yield Outcome("not clipped at all", layer.finish(shifted))
    if layer.lo == -128:
        yield Outcome("clipped at -127 instead of -128", layer.codes(layer.accumulator, lo=-127))
    if layer.node is not None:
        yield Outcome("the accumulator wraps modulo 2**16",
                      layer.codes(layer.accumulator.astype(np.int16).astype(np.int64)))


def shifted(layer: Layer) -> Iterator[Outcome]:
    """Another shift; in sum mode a kernel library of the chip sets it to 0."""
    if layer.accumulator is None or layer.shift == 0:
        return
    if layer.node is None:  # the input's quantizer divides by its scale
        yield Outcome("divided by half the scale", layer.codes(layer.accumulator, shift=layer.shift - 1))
        yield Outcome("divided by twice the scale", layer.codes(layer.accumulator, shift=layer.shift + 1))
        return
    for shift, why in ((layer.shift - 1, "one too few"), (layer.shift + 1, "one too many"), (0, "not applied")):
        if shift <= _LARGEST_SHIFT:
            yield Outcome(f"shifted by {shift} instead of {layer.shift}: {why}",
                          layer.codes(layer.accumulator, shift=shift))


def bias(layer: Layer) -> Iterator[Outcome]:
    """Biases missing, or packed otherwise than the kernel reads them."""
    accumulator = layer.accumulator
    if layer.node is None or accumulator is None or not isinstance(operator(layer.node), Linear):
        return
    _, (_, own) = Linear.parameters(layer.node)
    bias = own.astype(np.int64).reshape(bias_shape(accumulator.ndim))
    bare, channels = accumulator - bias, bias.size
    yield Outcome("the bias is missing", layer.codes(bare))
    if layer.half:
        yield Outcome("the bias is missing, its half step is not", layer.codes(bare + layer.half))
    flat = bias.reshape(-1)
    first = np.where(np.arange(channels) < LANES, flat, 0)
    for text, other in (
        ("the bytes of every bias are in reverse order", flat.astype(np.int32).byteswap().astype(np.int64)),
        ("the biases of every four channels are in reverse order", reversed_words(flat)),
        (f"only the first {LANES} channels have their bias", first),
        ("every channel has the bias of the next one", np.roll(flat, -1)),
        ("every channel has the bias of the one before", np.roll(flat, 1)),
        (f"the planes of their bytes are those of all channels, not of {LANES}", _planes(flat, channels)),
        (f"the planes of their bytes are shorter in the last, incomplete group of {LANES}", _planes(flat, LANES)),
    ):
        yield Outcome(f"bias packed otherwise: {text}", layer.codes(bare + other.reshape(bias.shape)))


def _planes(bias: Array, group: int) -> Array:
    """What the kernel reads where biases are packed in four planes of bytes for so many channels each.

    It takes four planes of 16 bytes for every 16 channels.
    """
    data = bias.astype("<i4").view(np.uint8).reshape(-1, 4)
    stream = np.concatenate([data[first:first + group].T.reshape(-1) for first in range(0, len(data), group)])
    stream = np.pad(stream, (0, 4 * padded(len(data)) - stream.size))
    read = np.ascontiguousarray(stream.reshape(-1, 4, LANES).transpose(0, 2, 1))
    return read.view("<i4").reshape(-1)[:bias.size].astype(np.int64)


def operand(layer: Layer) -> Iterator[Outcome]:
    """Of a sum."""
    if layer.node is None or layer.node.op_type != "Add" or layer.accumulator is None:
        return
    first, second = (a.astype(np.int64) for a in layer.inputs)
    yield Outcome("the second operand of the sum is missing", layer.codes(first))
    yield Outcome("the first operand of the sum is missing", layer.codes(second))
    yield Outcome("the first operand is added twice", layer.codes(2 * first))
    yield Outcome("the second operand is added twice", layer.codes(2 * second))
    yield Outcome("the second operand is subtracted", layer.codes(first - second))


def border(layer: Layer) -> Iterator[Outcome]:
    """Something else than zeros around a convolution's map."""
    if layer.node is None or layer.node.op_type != "Conv" or layer.accumulator is None:
        return
    where = geometry(layer.node)
    pads, x = where.pop("pads"), layer.inputs[0]
    axes = len(pads) // 2
    if not any(pads):
        return
    sides = list(zip(pads[:axes], pads[axes:], strict=True))
    (_, weight), (_, bias) = Linear.parameters(layer.node)
    for text, filled in (
        ("the map's edges are repeated instead of zeros", np.pad(x, [(0, 0), (0, 0), *sides], mode="edge")),
        ("all zeros are behind the map, none before it",
         np.pad(x, [(0, 0), (0, 0), *((0, begin + end) for begin, end in sides)])),
        ("all zeros are before the map, none behind it",
         np.pad(x, [(0, 0), (0, 0), *((begin + end, 0) for begin, end in sides)])),
    ):
        bound = int(numerics.weight_bound(weight, -128, 127).max(initial=0))
        accumulator = numerics.convolve(filled, weight, pads=[0] * len(pads), bound=bound, **where)
        yield Outcome(f"zero padding: {text}",
                      layer.codes(accumulator + bias.astype(np.int64).reshape(bias_shape(weight.ndim))))


def at_border(layer: Layer) -> Iterator[Outcome]:
    """Whatever the values: they differ only where the window reaches beyond the map."""
    if layer.found is None or layer.node is None or layer.node.op_type != "Conv" or layer.accumulator is None:
        return
    where = geometry(layer.node)
    weight = graph.required_constant(layer.node.inputs[1])
    ones = np.ones((1, 1, *layer.inputs[0].shape[2:]), np.int8)
    kernel = np.ones((1, 1, *weight.shape[2:]), np.int8)
    taps = numerics.convolve(ones, kernel, bound=kernel.size, **{**where, "group": 1})
    border = layer.finish(np.broadcast_to(taps < kernel.size, layer.accumulator.shape))
    wrong = layer.found != layer.expected
    if border.mean() ** np.count_nonzero(wrong & border) < UNLIKELY:
        yield Outcome("zero padding: the elements that differ are those whose window reaches beyond the map",
                      np.where(border, layer.found, layer.expected))


def offset(layer: Layer) -> Iterator[Outcome]:
    """The most frequent differences, added everywhere."""
    if layer.found is None or layer.accumulator is None:
        return
    differences = (layer.found - layer.expected)[layer.found != layer.expected]
    values, counts = np.unique(differences[np.abs(differences) <= _LARGEST_OFFSET], return_counts=True)
    for constant in values[np.argsort(-counts, kind="stable")][:_OFFSETS].astype(np.int64):
        text = f"a constant offset of {constant:+d}"
        yield Outcome(f"{text} in front of the bounds", layer.codes(layer.accumulator + (constant << layer.shift)))
        yield Outcome(f"{text} behind the bounds", np.clip(layer.expected + constant, -128, 127))
