"""Faults of where values lie: order of bytes and axes, padding, places, other tensors' buffers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana.compare.layer import Layer, Outcome
from onnxdiana.costs.memory import LANES
from onnxdiana.costs.memory import padded as padded_up

Array = NDArray[Any]

WORD = 4
"""Bytes in a word whose order the chip reverses."""
UNLIKELY = 1e-3
"""Chance below which differences that all lie at one place, or are all zero, are no accident."""
_DISTANCES = (1, 2, 4, 8, 16, 32, 64)


def nothing_written(layer: Layer) -> Iterator[Outcome]:
    """The buffer was not written, or holds one value."""
    yield Outcome("every element is 0: nothing was written", np.zeros_like(layer.expected))
    if layer.found is not None and layer.found.size > 1 and (layer.found == layer.found.flat[0]).all():
        yield Outcome(f"every element is {layer.found.flat[0]}: a constant, or a buffer's initial content",
                      layer.found)


def other_vectors(layer: Layer) -> Iterator[Outcome]:
    """The values of another sample, or of another tensor."""
    for what, values in layer.others():
        if values.size == layer.expected.size:
            yield Outcome(f"these are the codes of {what}", values.reshape(layer.expected.shape))


def byte_order(layer: Layer) -> Iterator[Outcome]:
    """The chip's words are reversed, which HTVM undoes around what it offloads."""
    whole = np.arange(layer.expected.size) < layer.expected.size // WORD * WORD
    yield Outcome("byte order: every word of four bytes is reversed", reversed_words(layer.expected),
                  None if whole.all() else whole)


def reversed_words(values: Array) -> Array:
    """Elements in reverse order within groups of four; what a last, incomplete group would need is taken to be 0."""
    flat = np.zeros(-(-values.size // WORD) * WORD, values.dtype)
    flat[:values.size] = values.reshape(-1)
    return flat.reshape(-1, WORD)[:, ::-1].reshape(-1)[:values.size].reshape(values.shape)


def layout(layer: Layer) -> Iterator[Outcome]:
    """Axes in another order."""
    rank = layer.expected.ndim
    if not 3 <= rank <= 5:
        return
    last = (0, *range(2, rank), 1)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    plain = _axes(range(rank), rank)
    orders = dict.fromkeys([last, swapped, *((0, *rest) for rest in permutations(range(1, rank)))])
    for order in orders:
        yield Outcome(f"transposed layout: {_axes(order, rank)} instead of {plain}", stored(layer.expected, order))
    for order in (last, swapped):
        yield Outcome(f"transposed layout: taken for {_axes(order, rank)}, which it is not, and so made {plain}",
                      taken_for(layer.expected, order))


def stored(values: Array, order: Sequence[int]) -> Array:
    """A tensor that lies in memory with its axes in another order, read as if they were in its own."""
    return np.ascontiguousarray(values.transpose(tuple(order))).reshape(values.shape)


def taken_for(values: Array, order: Sequence[int]) -> Array:
    """A tensor that lies in memory in its own order of axes, read as if they were in another."""
    shape = [values.shape[axis] for axis in order]
    return np.ascontiguousarray(values.reshape(shape).transpose(tuple(np.argsort(order))))


def _axes(order: Sequence[int], rank: int) -> str:
    names = "NCHW" if rank == 4 else "NCL" if rank == 3 else "NCDHW"
    return "".join(names[axis] for axis in order)


def paddings(shape: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """How a device pads a tensor of a shape (1, C, ...): in words, the padded shape, and the order of its axes."""
    rank = len(shape)
    channels, width = padded_up(shape[1]), padded_up(shape[-1])
    plain, found = tuple(range(rank)), []
    found.append((f"channel padding: {channels} channels instead of {shape[1]}", (1, channels, *shape[2:]), plain))
    if rank > 2:
        found.append((f"width padding: rows of {width} instead of {shape[-1]} elements", (*shape[:-1], width), plain))
        found.append((f"channel and width padding: {channels} channels instead of {shape[1]}, and rows of {width} "
                      f"instead of {shape[-1]} elements", (1, channels, *shape[2:-1], width), plain))
        last = (0, *range(2, rank), 1)
        found.append((f"channel padding in {_axes(last, rank)} layout: {channels} channels instead of {shape[1]}",
                      (1, *shape[2:], channels), last))
    for text, padded, order in found:
        if math.prod(padded) != math.prod(shape):
            yield text, padded, order


def unpadded(values: Array, shape: Sequence[int], padded: Sequence[int], order: Sequence[int]) -> Array:
    """The elements of a tensor among those of its padded form (flat)."""
    back = values.reshape(tuple(padded)).transpose(tuple(np.argsort(order)))
    return np.asarray(back[tuple(slice(0, size) for size in shape)])


def padded(layer: Layer) -> Iterator[Outcome]:
    """The beginning of a padded buffer: as many elements as the tensor has, with padding among them."""
    for text, padded, order in paddings(layer.expected.shape):
        buffer = np.zeros(padded, layer.expected.dtype)
        real = np.zeros(padded, bool)
        own = tuple(slice(0, layer.expected.shape[axis]) for axis in order)
        buffer[own], real[own] = layer.expected.transpose(order), True
        size = layer.expected.size
        yield Outcome(f"{text}, of which the dump has the first {size} elements", buffer.reshape(-1)[:size],
                      real.reshape(-1)[:size])


def misread(layer: Layer) -> Iterator[Outcome]:
    """Inputs that the layer reads otherwise than they lie in memory; of several, the same for all."""
    if layer.node is None or layer.accumulator is None or not layer.inputs:
        return
    swapped = layer.codes(layer.evaluate([reversed_words(x) for x in layer.inputs]))
    yield Outcome("input read with every word of four bytes reversed", swapped)
    yield Outcome("input read and output written with every word of four bytes reversed", reversed_words(swapped))
    shapes = [shape or x.shape for x, shape in zip(layer.inputs, layer.flattened, strict=True)]
    rank = len(shapes[0])
    if 3 <= rank <= 5 and all(len(shape) == rank for shape in shapes):
        last, plain = (0, *range(2, rank), 1), _axes(range(rank), rank)
        for text, moved in ((f"input in {_axes(last, rank)} read as {plain}", stored),
                            (f"input in {plain} read as {_axes(last, rank)}", taken_for)):
            read = [moved(x.reshape(shape), last).reshape(x.shape)
                    for x, shape in zip(layer.inputs, shapes, strict=True)]
            yield Outcome(text, layer.codes(layer.evaluate(read)))
    if rank > 2 and any(x.shape[-1] % LANES for x in layer.inputs if x.ndim > 2):
        low, high = (layer.codes(layer.evaluate([_strided(x, fill) for x in layer.inputs])) for fill in (0, 127))
        text = f"input rows read as if padded to {LANES} elements"
        yield Outcome(text, low, low == high)
        yield Outcome(f"{text}, with zeros behind them", low)


def _strided(x: Array, fill: int) -> Array:
    """Rows of a dense tensor read at the distance of padded ones; ``fill`` is what lies behind the tensor."""
    if x.ndim < 3:
        return x
    width = x.shape[-1]
    rows = np.arange(x.size // width) * padded_up(width)
    at = (rows[:, None] + np.arange(width)).reshape(x.shape)
    flat = x.reshape(-1)
    return np.where(at < x.size, flat[np.minimum(at, x.size - 1)], np.asarray(fill, x.dtype))


def misplaced(layer: Layer) -> Iterator[Outcome]:
    """Addresses that are off."""
    flat, index = layer.expected.reshape(-1), np.arange(layer.expected.size)
    for distance in _DISTANCES:
        if distance < flat.size:
            yield Outcome(f"everything lies {distance} elements too far behind", np.roll(flat, distance),
                          index >= distance)
            yield Outcome(f"everything lies {distance} elements too far in front", np.roll(flat, -distance),
                          index < flat.size - distance)


def channels(layer: Layer) -> Iterator[Outcome]:
    """The channels in another order; told by their contents."""
    if layer.found is None or layer.expected.ndim < 3 or math.prod(layer.expected.shape[2:]) < WORD:
        return
    rows, found = (array.reshape(array.shape[1], -1).astype(np.float64) for array in (layer.expected, layer.found))
    places = {row.tobytes(): channel for channel, row in reversed(list(enumerate(rows)))}
    order = [places.get(row.tobytes(), channel) for channel, row in enumerate(found)]
    moved = [channel for channel, place in enumerate(order) if (rows[place] != rows[channel]).any()]
    whole = Counter(rows[place].tobytes() for place in order) == Counter(row.tobytes() for row in rows)
    if moved and whole:  # else channels that hold one value would stand for one that was not written
        yield Outcome(f"channels in another order: channel {moved[0]} holds channel {order[moved[0]]}",
                      layer.expected[:, order])


def unwritten(layer: Layer) -> Iterator[Outcome]:
    """Whatever the rest: what differs is 0."""
    if layer.found is None:
        return
    wrong = layer.found != layer.expected
    zero = wrong & (layer.found == 0)
    share = np.count_nonzero(layer.found == 0) / layer.found.size
    if share ** np.count_nonzero(zero) < UNLIKELY:
        yield Outcome("part of the tensor is 0: not written (or not yet when it was dumped)",
                      np.where(zero, 0, layer.expected))
