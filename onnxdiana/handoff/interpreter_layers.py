"""What the interpreter computes of layers: sums of products in float64, exact below 2**53, and their requantizers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from onnxdiana.handoff.constants import INT16, MOST_SHIFT, exponent
from onnxdiana.handoff.interpreter_values import SUMS, Array, Kind, Node, Value, accumulator, codes


def windows(node: Node, x: Array, kernel: Sequence[int], value: float) -> Array:
    """Every window of the map (1, C, H, W), padded with a value: a view (C, OH, OW, KH, KW)."""
    strides, pads, dilations = (node.attributes[name] for name in ("strides", "pads", "dilations"))
    if [len(strides), len(pads), len(dilations), len(kernel)] != [2, 4, 2, 2] or min(pads) < 0 \
            or min(*strides, *dilations, *kernel) < 1 or node.attributes["auto_pad"] != "NOTSET":
        raise node.error(f"kernel {list(kernel)}, {dict(node.attributes)}",
                         "two sizes >= 1 in kernel, strides and dilations, four pads >= 0, auto_pad NOTSET")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    ends = list(pads[2:])
    for i, size in enumerate(x.shape[2:]):
        last = pads[i] + size + ends[i] - spans[i]
        if last < 0:
            raise node.error(f"a window of {spans[i]} on {size} elements with pads {pads}", "a window that fits")
        if node.attributes.get("ceil_mode") and last % strides[i]:
            extra = strides[i] - last % strides[i]
            if last + extra >= pads[i] + size:
                raise node.error("ceil_mode with a last window that starts in the padding",
                                 "none there: HTVM counts it, ONNX does not; use ceil_mode 0")
            ends[i] += extra
    sizes = [size + pads[i] + ends[i] for i, size in enumerate(x.shape[2:])]
    places = [(size - span) // stride + 1 for size, span, stride in zip(sizes, spans, strides, strict=True)]
    node.affordable(x.shape[1] * max(math.prod(sizes), math.prod(places) * math.prod(kernel)))
    padded = np.pad(x[0], ((0, 0), (pads[0], ends[0]), (pads[1], ends[1])), constant_values=value)
    return sliding_window_view(padded, spans, axis=(1, 2))[
        :, ::strides[0], ::strides[1], ::dilations[0], ::dilations[1]]


def conv(node: Node) -> Value:
    """Windows of the map, times the weight, in float64."""
    x, (weight, bias) = codes(node, rank=4), _parameters(node, 4)
    outputs, inputs, *kernel = weight.shape
    group = node.attributes["group"]
    if group < 1 or outputs % group or x.shape[1] != inputs * group:
        raise node.error(f"group {group}, {x.shape[1]} channels, a weight of shape {weight.shape}",
                         "group * weight.shape[1] channels, and weight.shape[0] a multiple of group")
    if node.attributes["kernel_shape"] not in ([], kernel):
        raise node.error(f"kernel_shape {node.attributes['kernel_shape']}", f"that of the weight, {kernel}")
    view = windows(node, x, kernel, 0)
    columns = view.transpose(0, 3, 4, 1, 2).reshape(group, inputs * math.prod(kernel), -1).astype(np.float64)
    products = weight.reshape(group, outputs // group, -1) @ columns
    return accumulator(node, products.reshape(1, outputs, *view.shape[1:3]) + bias.reshape(-1, 1, 1))


def gemm(node: Node) -> Value:
    """With alpha and beta 1; the weight may be transposed."""
    form = dict(node.attributes)
    transposed = form.pop("transB")
    if form != {"alpha": 1.0, "beta": 1.0, "transA": 0} or transposed not in (0, 1):
        raise node.error(str(dict(node.attributes)), "alpha = beta = 1, transA = 0, transB 0 or 1")
    x, (weight, bias) = codes(node, rank=2), _parameters(node, 2, 1 - transposed)
    return accumulator(node, x.astype(np.float64) @ (weight.T if transposed else weight) + bias)


def mat_mul(node: Node) -> Value:
    """A product, whose bias is an Add behind it."""
    x, weight = codes(node, rank=2), node.whole(1, -128, 127)
    if weight.ndim != 2:
        raise node.error(f"a weight of shape {weight.shape}", "2 axes")
    return accumulator(node, x.astype(np.float64) @ weight.astype(np.float64), Kind.PRODUCT)


def _parameters(node: Node, rank: int, out_axis: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight of int8 and bias (C,) of int32, as float64: sums of their products with int8 stay below 2**53."""
    weight = node.whole(1, -128, 127)
    if weight.ndim != rank:
        raise node.error(f"a weight of shape {weight.shape}", f"{rank} axes")
    channels = weight.shape[out_axis]
    bias = node.whole(2, -(2**31 - 1), 2**31 - 1) if node.has(2) else np.zeros(channels)
    if bias.shape != (channels,):
        raise node.error(f"a bias of shape {bias.shape}", f"shape ({channels},)")
    return weight.astype(np.float64), bias.astype(np.float64)


def _each_channel(node: Node, x: Array) -> NDArray[np.int64]:
    """A constant of the analog core."""
    array = node.whole(1, *INT16)
    if array.size != 1 and (x.ndim != 4 or array.shape != (1, x.shape[1], 1, 1)):
        raise node.error(f"shape {array.shape} of constant '{node.names[1]}'", "(1, C, 1, 1)")
    return array.reshape(1, -1, 1, 1)


def mul(node: Node) -> Value:
    """The analog core's multiplier, on the codes of its converter."""
    x = node.take(0, Kind.CODES).array
    return accumulator(node, x * _each_channel(node, x), Kind.MULTIPLIED, 16)


def add(node: Node) -> Value:
    """A bias behind a product, the analog core's summand, or a sum of two tensors of codes."""
    first = node.inputs[0]
    if first is not None and first.kind is Kind.MULTIPLIED:
        return accumulator(node, first.array + _each_channel(node, first.array), bits=16)
    if first is not None and first.kind is Kind.PRODUCT:
        bias = node.whole(1, -(2**31 - 1), 2**31 - 1)
        if bias.shape != first.array.shape[1:]:
            raise node.error(f"a bias of shape {bias.shape}", f"shape {first.array.shape[1:]}")
        return accumulator(node, first.array + bias)
    a, b = codes(node, 0), codes(node, 1)
    if a.shape != b.shape:
        raise node.error(f"operands of shapes {a.shape} and {b.shape}", "equal shapes")
    return accumulator(node, a.astype(np.int32) + b)


def div(node: Node) -> Value:
    """Of the graph input, in float32; of an accumulator, a shift; of codes, the output's dequantizer."""
    x = node.take(0, Kind.INPUT, *SUMS, Kind.CODES)
    divisor = node.constant(1, np.float32)
    on_accumulator = x.kind in SUMS
    shapes = ((1,),) if on_accumulator else ((), (1,))
    shift = exponent(float(divisor.reshape(-1)[0])) if divisor.shape in shapes else None
    if shift is None or (on_accumulator and not 0 <= shift <= MOST_SHIFT):
        exponents = f"0 <= k <= {MOST_SHIFT}" if on_accumulator else "any integer k"
        raise node.error(f"the divisor {divisor.tolist()} of shape {divisor.shape}",
                         f"2**k, {exponents}, of shape {' or '.join(map(str, shapes))}")
    if on_accumulator:
        return Value(Kind.SHIFTED, x.array >> shift)
    with np.errstate(over="ignore", under="ignore"):
        quotient = x.array.astype(np.float32) / np.float32(divisor.reshape(-1)[0])
    return Value(Kind.SCALED if x.kind is Kind.INPUT else Kind.REAL, quotient)


def floor(node: Node) -> Value:
    """A shift floors already."""
    array = node.take(0, Kind.INPUT, Kind.SCALED, *SUMS, Kind.SHIFTED, Kind.MEAN).array
    return Value(Kind.FLOORED, np.floor(array) if array.dtype == np.float32 else array)


def maximum(node: Node) -> Value:
    """The lower bound."""
    array, lo = node.take(0, Kind.FLOORED).array, node.scalar(1, -128, 127)
    return Value(Kind.BOUNDED, np.maximum(array, lo), lo)


def minimum(node: Node) -> Value:
    """The upper bound; codes leave it."""
    x, hi = node.take(0, Kind.BOUNDED), node.scalar(1, -128, 127)
    if hi <= x.lo:
        raise node.error(f"the bounds {x.lo} and {hi}", "a lower bound below the upper one")
    return Value(Kind.CODES, np.minimum(x.array, hi).astype(np.int8))


def global_average_pool(node: Node) -> Value:
    """A sum in int32, and a division that truncates."""
    x = codes(node, rank=4)
    total = accumulator(node, x.sum(axis=(2, 3), keepdims=True, dtype=np.int64)).array
    # numpy's // floors; HTVM's C truncates (docs/htvm-dialect.md, 2)
    return Value(Kind.POOLED, np.sign(total) * (np.abs(total) // math.prod(x.shape[2:])))
