"""What the interpreter computes of operators that hand values on, reorder, pad and pick them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from onnxdiana.handoff.interpreter_layers import windows
from onnxdiana.handoff.interpreter_values import INT8, SUMS, Array, Kind, Node, Value, codes, movable, moved


def flatten(node: Node) -> Value:
    """From axis 1 on, of a mean too."""
    x = node.take(0, Kind.POOLED, *INT8, Kind.REAL)
    if node.attributes["axis"] != 1:
        raise node.error(f"axis {node.attributes['axis']}", "axis 1")
    flat = x.array.reshape(1, -1)
    return Value(Kind.MEAN, flat) if x.kind is Kind.POOLED else moved(flat)


def max_pool(node: Node) -> Value:
    """Of codes or floats; padding never wins."""
    kernel, pads = node.attributes["kernel_shape"], node.attributes["pads"]
    if any(p >= k for p, k in zip(pads, 2 * kernel, strict=False)) or node.attributes["storage_order"]:
        raise node.error(f"pads {pads}, kernel {kernel}, storage_order {node.attributes['storage_order']}",
                         "pads below the kernel, storage_order 0")
    x = movable(node, rank=4)
    least = np.finfo(x.dtype).min if x.dtype == np.float32 else np.iinfo(x.dtype).min  # TVM's padding, never wins
    return moved(windows(node, x, kernel, least).max(axis=(3, 4))[None])


def relu(node: Node) -> Value:
    """Of codes, floats, or an accumulator in front of its requantizer."""
    x = node.take(0, *INT8, Kind.REAL, *SUMS)
    return _kept(x, np.maximum(x.array, x.array.dtype.type(0)))


def identity(node: Node) -> Value:
    """Of the same."""
    x = node.take(0, *INT8, Kind.REAL, *SUMS)
    return _kept(x, x.array)


def _kept(x: Value, array: Array) -> Value:
    """What stands where x stood; a product behind that has no bias any more."""
    return Value(Kind.ACCUMULATOR, array) if x.kind in SUMS else moved(array)


def reshape(node: Node) -> Value:
    """To a constant shape."""
    x, target = movable(node), node.indices(1)
    if min(target, default=0) < -1 or 0 in target[x.ndim:]:
        raise node.error(f"the target {target}", f"sizes, 0 for one of {x.ndim} axes, -1 for the rest")
    return moved(x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(target)]))


def transpose(node: Node) -> Value:
    """All axes."""
    x, perm = movable(node), node.attributes["perm"]
    if sorted(perm) != list(range(x.ndim)):
        raise node.error(f"perm {perm}", f"a permutation of {x.ndim} axes")
    return moved(x.transpose(perm))


def pad(node: Node) -> Value:
    """With zeros, the edge or its reflection; pads are an input."""
    if node.has(2):
        node.scalar(2, 0, 0)
    return _padded(node, node.indices(1))


def pad_10(node: Node) -> Value:
    """Before opset 11 pads and value were attributes."""
    if node.attributes["value"] != 0.0:
        raise node.error(f"value {node.attributes['value']}", "value 0")
    return _padded(node, node.attributes["pads"])


def _padded(node: Node, pads: Sequence[int]) -> Value:
    x, mode = movable(node), node.attributes["mode"]
    limits = [size - 1 if mode == "reflect" else sys.maxsize for size in 2 * x.shape]
    if mode not in ("constant", "reflect", "edge") or len(pads) != len(limits) \
            or not all(0 <= pad <= limit for pad, limit in zip(pads, limits, strict=True)):
        raise node.error(f"mode '{mode}', pads {pads} of shape {x.shape}",
                         f"constant, edge or reflect (pads below the size) with {len(limits)} pads >= 0")
    node.affordable(math.prod(size + pads[i] + pads[x.ndim + i] for i, size in enumerate(x.shape)))
    return moved(np.pad(x, list(zip(pads[:x.ndim], pads[x.ndim:], strict=True)), mode=mode))


def slice_(node: Node) -> Value:
    """Constant starts, ends, axes and steps."""
    x, starts, ends = movable(node), node.indices(1), node.indices(2)
    axes = node.indices(3) if node.has(3) else list(range(len(starts)))
    steps = node.indices(4) if node.has(4) else [1] * len(starts)
    if len({axis % x.ndim for axis in axes}) < len(axes):
        raise node.error(f"axes {axes}", "each axis once")
    parts = [slice(None)] * x.ndim
    for axis, *part in zip(axes, starts, ends, steps, strict=True):
        parts[axis] = slice(*part)
    return moved(x[tuple(parts)])


def resize(node: Node) -> Value:
    """TVM's resize2d to a nearest neighbour; by whole factors, where its float coordinates cannot be off by one."""
    x, form = movable(node, rank=4), dict(node.attributes)
    if form != {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} \
            or any(node.constant(index, np.float32).size for index in (1, 2)):
        raise node.error(f"{form}, and a region or scales", "nearest, asymmetric, floor, to sizes alone")
    return _repeated(node, x, node.indices(3))


def resize_10(node: Node) -> Value:
    """Before opset 11 it took scales alone and was asymmetric, and TVM's nearest neighbour is the floor there."""
    x = movable(node, rank=4)
    with np.errstate(invalid="ignore"):  # of a signalling nan
        scales = node.constant(1, np.float32).astype(np.float64)
    if node.attributes["mode"] != "nearest" or scales.shape != (4,) or not (scales == np.rint(scales)).all() \
            or not ((scales >= 1.0) & (scales <= 2**31 - 1)).all():
        raise node.error(f"{dict(node.attributes)}, scales {scales.tolist()}", "nearest, four whole factors")
    return _repeated(node, x, [int(scale) * size for scale, size in zip(scales, x.shape, strict=True)])


def _repeated(node: Node, x: Array, sizes: Sequence[int]) -> Value:
    if len(sizes) != x.ndim or sizes[:2] != list(x.shape[:2]) or min(sizes) < 1 \
            or any(size % old for size, old in zip(sizes, x.shape, strict=True)):
        raise node.error(f"the sizes {list(sizes)} for shape {x.shape}", "whole multiples of height and width")
    node.affordable(math.prod(sizes))
    return moved(x.repeat(sizes[2] // x.shape[2], axis=2).repeat(sizes[3] // x.shape[3], axis=3))


def concat(node: Node) -> Value:
    """Of codes, along any axis but the batch."""
    parts, axis = [codes(node, i) for i in range(len(node.inputs))], node.attributes["axis"]
    if axis == 0:
        raise node.error("axis 0 or none", "an axis other than the batch")
    return moved(np.concatenate(parts, axis=axis))
