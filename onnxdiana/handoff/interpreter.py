"""An int32 interpreter of HTVM's dialect: what its compiler makes of ``htvm/model.onnx``, exact for every accumulator.

The file types every tensor float32; which integers a tensor holds follows from its place in a pattern
(docs/htvm-dialect.md, 2). Here each tensor carries that place as a :class:`Kind`, each operator says which kinds it
takes, and anything else is refused:

=============  ====================================================================================================
input          Div (optional) -> Floor -> Max -> Min, directly on the graph input, in float32; then int8
requantizer    the same behind Conv, Gemm, MatMul, Add: Div by 2**k is an arithmetic shift right of the int32
               accumulator, on which a Relu or Identity may work first
analog core    behind a requantizer Mul and Add of constants in int16, then a requantizer again
mean           GlobalAveragePool -> Flatten -> Floor -> Max -> Min: int32 sum, division that truncates as C's does
int8           MaxPool, Relu, Flatten, Reshape, Transpose, Pad, Slice, Resize, Identity, Concat
output         Div directly behind a Min: HTVM casts to float32 only there (``DianaOnnxCorrectDequant``)
float32        behind that Div, the operators on int8 again, Concat apart: they move values and keep them exact
=============  ====================================================================================================

This module judges the exporter and so shares no code with it.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from onnxdiana.errors import CalibrationError, HandoffError

Array = NDArray[Any]

_OPSETS = range(10, 14)
_IR_VERSION = 8
_INT16 = (-(2**15), 2**15 - 1)
_INT32 = (-(2**31), 2**31 - 1)
_MOST_ELEMENTS = 2**26
"""Of one step: the columns of a convolution are the largest. A layer for a chip with 512 kB has far fewer."""
_TYPES = {int: AttributeProto.INT, float: AttributeProto.FLOAT, str: AttributeProto.STRING, list: AttributeProto.INTS}


class Refusal(HandoffError):
    """One node that the interpreter does not take."""

    def __init__(self, code: str, node: str, found: str, needed: str) -> None:
        """Args: those of a finding."""
        super().__init__(f"{node}: found {found}; needed: {needed}")
        self.code, self.node, self.found, self.needed = code, node, found, needed


class Kind(Enum):
    """What a float-typed tensor holds, and so what may come next."""

    CONSTANT = "a constant"
    INPUT = "a float graph input"
    SCALED = "a divided graph input without its Floor"
    ACCUMULATOR = "an int32 accumulator"
    PRODUCT = "an int32 product without its bias"
    MULTIPLIED = "multiplied codes without their Add"
    SHIFTED = "a divided accumulator without its Floor"
    POOLED = "a pooled mean without its Flatten"
    MEAN = "a flattened mean without its Floor"
    FLOORED = "floored integers without their Max"
    BOUNDED = "integers without their Min"
    CODES = "int8 codes behind a Min"
    MOVED = "int8 codes"
    REAL = "a dequantized float"


_INT8 = (Kind.CODES, Kind.MOVED)
_SUMS = (Kind.ACCUMULATOR, Kind.PRODUCT)
_SHARED = (Kind.INPUT, *_INT8)
"""Kinds that several nodes may read: HTVM's patterns match only where nothing outside reads their inside."""


@dataclass(frozen=True)
class _Value:
    kind: Kind
    array: Array
    lo: int = 0
    """Lower bound, where the kind is BOUNDED."""


@dataclass(frozen=True)
class _Node:
    """A node with its inputs and attributes, defaults filled in."""

    op_type: str
    output: str
    names: tuple[str, ...]
    inputs: tuple[_Value | None, ...]
    attributes: Mapping[str, Any]

    def error(self, found: str, needed: str, code: str = "E4") -> Refusal:
        """Names the node, what was found and what is needed."""
        return Refusal(code, f"{self.op_type} -> '{self.output}'", found, needed)

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def take(self, index: int, *kinds: Kind) -> _Value:
        """An input of one of these kinds."""
        value = self.inputs[index]
        if value is None or value.kind not in kinds:
            found = "nothing" if value is None else value.kind.value
            raise self.error(f"{found} as input {index} ('{self.names[index]}')", " or ".join(k.value for k in kinds))
        return value

    def constant(self, index: int, dtype: type[np.generic]) -> Array:
        """A constant input of exactly this type."""
        array = self.take(index, Kind.CONSTANT).array
        if array.dtype != dtype:
            raise self.error(f"{array.dtype} in constant '{self.names[index]}'", np.dtype(dtype).name)
        return array

    def whole(self, index: int, lo: int, hi: int) -> NDArray[np.int64]:
        """A float32 constant of whole numbers in [lo, hi]."""
        array = self.constant(index, np.float32).astype(np.float64)  # float32 has no 2**31 - 1 to compare with
        bad = array[~((array == np.rint(array)) & (array >= lo) & (array <= hi))]
        if bad.size:
            raise self.error(f"{bad[0]} in constant '{self.names[index]}'", f"whole numbers in [{lo}, {hi}]")
        return array.astype(np.int64)

    def scalar(self, index: int, lo: int, hi: int) -> int:
        """A whole number in [lo, hi] of shape () or (1,)."""
        array = self.whole(index, lo, hi)
        if array.shape not in ((), (1,)):
            raise self.error(f"shape {array.shape} of constant '{self.names[index]}'", "shape () or (1,)")
        return int(array.reshape(-1)[0])

    def affordable(self, elements: int) -> None:
        """Refuses what would take memory without end, before it is taken."""
        if elements > _MOST_ELEMENTS:
            raise self.error(f"{elements:,} elements", f"at most {_MOST_ELEMENTS:,}")

    def indices(self, index: int) -> list[int]:
        """An int64 constant of one axis: a shape, axes or positions."""
        array = self.constant(index, np.int64)
        if array.ndim != 1:
            raise self.error(f"shape {array.shape} of constant '{self.names[index]}'", "one axis")
        return [int(i) for i in array]


def _codes(node: _Node, index: int = 0, rank: int | None = None) -> Array:
    return _ranked(node, index, rank, _INT8)


def _movable(node: _Node, rank: int | None = None) -> Array:
    """What an operator takes that moves values: int8 codes, or the floats behind the last Div."""
    return _ranked(node, 0, rank, (*_INT8, Kind.REAL))


def _ranked(node: _Node, index: int, rank: int | None, kinds: Sequence[Kind]) -> Array:
    array = node.take(index, *kinds).array
    if rank is not None and array.ndim != rank:
        raise node.error(f"shape {array.shape} of input {index} ('{node.names[index]}')", f"{rank} axes")
    return array


def _moved(array: Array) -> _Value:
    return _Value(Kind.REAL if array.dtype == np.float32 else Kind.MOVED, array)


def _accumulator(node: _Node, exact: Array, kind: Kind = Kind.ACCUMULATOR, bits: int = 32) -> _Value:
    """Whole numbers as int32; hardware would wrap those of more bits, which is never meant."""
    for extreme in (exact.min(), exact.max()):
        if not -(2**(bits - 1)) <= extreme < 2**(bits - 1):
            raise node.error(f"an accumulator of {int(extreme)}", f"accumulators that fit in int{bits}", "E16")
    return _Value(kind, exact.astype(np.int32))


def _windows(node: _Node, x: Array, kernel: Sequence[int], value: float) -> Array:
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


def _parameters(node: _Node, rank: int, out_axis: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight of int8 and bias (C,) of int32, as float64: sums of their products with int8 stay below 2**53."""
    weight = node.whole(1, -128, 127)
    if weight.ndim != rank:
        raise node.error(f"a weight of shape {weight.shape}", f"{rank} axes")
    channels = weight.shape[out_axis]
    bias = node.whole(2, -(2**31 - 1), 2**31 - 1) if node.has(2) else np.zeros(channels)
    if bias.shape != (channels,):
        raise node.error(f"a bias of shape {bias.shape}", f"shape ({channels},)")
    return weight.astype(np.float64), bias.astype(np.float64)


def _conv(node: _Node) -> _Value:
    x, (weight, bias) = _codes(node, rank=4), _parameters(node, 4)
    outputs, inputs, *kernel = weight.shape
    group = node.attributes["group"]
    if group < 1 or outputs % group or x.shape[1] != inputs * group:
        raise node.error(f"group {group}, {x.shape[1]} channels, a weight of shape {weight.shape}",
                         "group * weight.shape[1] channels, and weight.shape[0] a multiple of group")
    if node.attributes["kernel_shape"] not in ([], kernel):
        raise node.error(f"kernel_shape {node.attributes['kernel_shape']}", f"that of the weight, {kernel}")
    windows = _windows(node, x, kernel, 0)
    columns = windows.transpose(0, 3, 4, 1, 2).reshape(group, inputs * math.prod(kernel), -1).astype(np.float64)
    products = weight.reshape(group, outputs // group, -1) @ columns
    return _accumulator(node, products.reshape(1, outputs, *windows.shape[1:3]) + bias.reshape(-1, 1, 1))


def _gemm(node: _Node) -> _Value:
    form = dict(node.attributes)
    transposed = form.pop("transB")
    if form != {"alpha": 1.0, "beta": 1.0, "transA": 0} or transposed not in (0, 1):
        raise node.error(str(dict(node.attributes)), "alpha = beta = 1, transA = 0, transB 0 or 1")
    x, (weight, bias) = _codes(node, rank=2), _parameters(node, 2, 1 - transposed)
    return _accumulator(node, x.astype(np.float64) @ (weight.T if transposed else weight) + bias)


def _mat_mul(node: _Node) -> _Value:
    x, weight = _codes(node, rank=2), node.whole(1, -128, 127)
    if weight.ndim != 2:
        raise node.error(f"a weight of shape {weight.shape}", "2 axes")
    return _accumulator(node, x.astype(np.float64) @ weight.astype(np.float64), Kind.PRODUCT)


def _each_channel(node: _Node, x: Array) -> NDArray[np.int64]:
    """A constant of the analog core."""
    array = node.whole(1, *_INT16)
    if array.size != 1 and (x.ndim != 4 or array.shape != (1, x.shape[1], 1, 1)):
        raise node.error(f"shape {array.shape} of constant '{node.names[1]}'", "(1, C, 1, 1)")
    return array.reshape(1, -1, 1, 1)


def _mul(node: _Node) -> _Value:
    x = node.take(0, Kind.CODES).array
    return _accumulator(node, x * _each_channel(node, x), Kind.MULTIPLIED, 16)


def _add(node: _Node) -> _Value:
    first = node.inputs[0]
    if first is not None and first.kind is Kind.MULTIPLIED:
        return _accumulator(node, first.array + _each_channel(node, first.array), bits=16)
    if first is not None and first.kind is Kind.PRODUCT:
        bias = node.whole(1, -(2**31 - 1), 2**31 - 1)
        if bias.shape != first.array.shape[1:]:
            raise node.error(f"a bias of shape {bias.shape}", f"shape {first.array.shape[1:]}")
        return _accumulator(node, first.array + bias)
    a, b = _codes(node, 0), _codes(node, 1)
    if a.shape != b.shape:
        raise node.error(f"operands of shapes {a.shape} and {b.shape}", "equal shapes")
    return _accumulator(node, a.astype(np.int32) + b)


def _div(node: _Node) -> _Value:
    x = node.take(0, Kind.INPUT, *_SUMS, Kind.CODES)
    divisor = node.constant(1, np.float32)
    on_accumulator = x.kind in _SUMS
    shapes = ((1,),) if on_accumulator else ((), (1,))
    mantissa, exponent = math.frexp(float(divisor.reshape(-1)[0])) if divisor.shape in shapes else (0.0, 0)
    shift = exponent - 1
    if mantissa != 0.5 or (on_accumulator and not 0 <= shift <= 31):
        exponents = "0 <= k <= 31" if on_accumulator else "any integer k"
        raise node.error(f"the divisor {divisor.tolist()} of shape {divisor.shape}",
                         f"2**k, {exponents}, of shape {' or '.join(map(str, shapes))}")
    if on_accumulator:
        return _Value(Kind.SHIFTED, x.array >> shift)
    with np.errstate(over="ignore", under="ignore"):
        quotient = x.array.astype(np.float32) / np.float32(divisor.reshape(-1)[0])
    return _Value(Kind.SCALED if x.kind is Kind.INPUT else Kind.REAL, quotient)


def _floor(node: _Node) -> _Value:
    array = node.take(0, Kind.INPUT, Kind.SCALED, *_SUMS, Kind.SHIFTED, Kind.MEAN).array
    return _Value(Kind.FLOORED, np.floor(array) if array.dtype == np.float32 else array)


def _max(node: _Node) -> _Value:
    array, lo = node.take(0, Kind.FLOORED).array, node.scalar(1, -128, 127)
    return _Value(Kind.BOUNDED, np.maximum(array, lo), lo)


def _min(node: _Node) -> _Value:
    x, hi = node.take(0, Kind.BOUNDED), node.scalar(1, -128, 127)
    if hi <= x.lo:
        raise node.error(f"the bounds {x.lo} and {hi}", "a lower bound below the upper one")
    return _Value(Kind.CODES, np.minimum(x.array, hi).astype(np.int8))


def _global_average_pool(node: _Node) -> _Value:
    x = _codes(node, rank=4)
    total = _accumulator(node, x.sum(axis=(2, 3), keepdims=True, dtype=np.int64)).array
    # numpy's // floors; HTVM's C truncates (docs/htvm-dialect.md, 2)
    return _Value(Kind.POOLED, np.sign(total) * (np.abs(total) // math.prod(x.shape[2:])))


def _flatten(node: _Node) -> _Value:
    x = node.take(0, Kind.POOLED, *_INT8, Kind.REAL)
    if node.attributes["axis"] != 1:
        raise node.error(f"axis {node.attributes['axis']}", "axis 1")
    flat = x.array.reshape(1, -1)
    return _Value(Kind.MEAN, flat) if x.kind is Kind.POOLED else _moved(flat)


def _max_pool(node: _Node) -> _Value:
    kernel, pads = node.attributes["kernel_shape"], node.attributes["pads"]
    if any(p >= k for p, k in zip(pads, 2 * kernel, strict=False)) or node.attributes["storage_order"]:
        raise node.error(f"pads {pads}, kernel {kernel}, storage_order {node.attributes['storage_order']}",
                         "pads below the kernel, storage_order 0")
    x = _movable(node, rank=4)
    least = np.finfo(x.dtype).min if x.dtype == np.float32 else np.iinfo(x.dtype).min  # TVM's padding, never wins
    return _moved(_windows(node, x, kernel, least).max(axis=(3, 4))[None])


def _relu(node: _Node) -> _Value:
    x = node.take(0, *_INT8, Kind.REAL, *_SUMS)
    return _kept(x, np.maximum(x.array, x.array.dtype.type(0)))


def _identity(node: _Node) -> _Value:
    x = node.take(0, *_INT8, Kind.REAL, *_SUMS)
    return _kept(x, x.array)


def _kept(x: _Value, array: Array) -> _Value:
    """What stands where x stood; a product behind that has no bias any more."""
    return _Value(Kind.ACCUMULATOR, array) if x.kind in _SUMS else _moved(array)


def _reshape(node: _Node) -> _Value:
    x, target = _movable(node), node.indices(1)
    if min(target, default=0) < -1 or 0 in target[x.ndim:]:
        raise node.error(f"the target {target}", f"sizes, 0 for one of {x.ndim} axes, -1 for the rest")
    return _moved(x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(target)]))


def _transpose(node: _Node) -> _Value:
    x, perm = _movable(node), node.attributes["perm"]
    if sorted(perm) != list(range(x.ndim)):
        raise node.error(f"perm {perm}", f"a permutation of {x.ndim} axes")
    return _moved(x.transpose(perm))


def _pad(node: _Node) -> _Value:
    if node.has(2):
        node.scalar(2, 0, 0)
    return _padded(node, node.indices(1))


def _pad_10(node: _Node) -> _Value:
    """Before opset 11 pads and value were attributes."""
    if node.attributes["value"] != 0.0:
        raise node.error(f"value {node.attributes['value']}", "value 0")
    return _padded(node, node.attributes["pads"])


def _padded(node: _Node, pads: Sequence[int]) -> _Value:
    x, mode = _movable(node), node.attributes["mode"]
    limits = [size - 1 if mode == "reflect" else sys.maxsize for size in 2 * x.shape]
    if mode not in ("constant", "reflect", "edge") or len(pads) != len(limits) \
            or not all(0 <= pad <= limit for pad, limit in zip(pads, limits, strict=True)):
        raise node.error(f"mode '{mode}', pads {pads} of shape {x.shape}",
                         f"constant, edge or reflect (pads below the size) with {len(limits)} pads >= 0")
    node.affordable(math.prod(size + pads[i] + pads[x.ndim + i] for i, size in enumerate(x.shape)))
    return _moved(np.pad(x, list(zip(pads[:x.ndim], pads[x.ndim:], strict=True)), mode=mode))


def _slice(node: _Node) -> _Value:
    x, starts, ends = _movable(node), node.indices(1), node.indices(2)
    axes = node.indices(3) if node.has(3) else list(range(len(starts)))
    steps = node.indices(4) if node.has(4) else [1] * len(starts)
    if len({axis % x.ndim for axis in axes}) < len(axes):
        raise node.error(f"axes {axes}", "each axis once")
    parts = [slice(None)] * x.ndim
    for axis, *part in zip(axes, starts, ends, steps, strict=True):
        parts[axis] = slice(*part)
    return _moved(x[tuple(parts)])


def _resize(node: _Node) -> _Value:
    """TVM's resize2d to a nearest neighbour; by whole factors, where its float coordinates cannot be off by one."""
    x, form = _movable(node, rank=4), dict(node.attributes)
    if form != {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} \
            or any(node.constant(index, np.float32).size for index in (1, 2)):
        raise node.error(f"{form}, and a region or scales", "nearest, asymmetric, floor, to sizes alone")
    return _repeated(node, x, node.indices(3))


def _resize_10(node: _Node) -> _Value:
    """Before opset 11 it took scales alone and was asymmetric, and TVM's nearest neighbour is the floor there."""
    x, scales = _movable(node, rank=4), node.constant(1, np.float32).astype(np.float64)
    if node.attributes["mode"] != "nearest" or scales.shape != (4,) or not (scales == np.rint(scales)).all() \
            or not ((scales >= 1.0) & (scales <= _INT32[1])).all():
        raise node.error(f"{dict(node.attributes)}, scales {scales.tolist()}", "nearest, four whole factors")
    return _repeated(node, x, [int(scale) * size for scale, size in zip(scales, x.shape, strict=True)])


def _repeated(node: _Node, x: Array, sizes: Sequence[int]) -> _Value:
    if len(sizes) != x.ndim or sizes[:2] != list(x.shape[:2]) or min(sizes) < 1 \
            or any(size % old for size, old in zip(sizes, x.shape, strict=True)):
        raise node.error(f"the sizes {list(sizes)} for shape {x.shape}", "whole multiples of height and width")
    node.affordable(math.prod(sizes))
    return _moved(x.repeat(sizes[2] // x.shape[2], axis=2).repeat(sizes[3] // x.shape[3], axis=3))


def _concat(node: _Node) -> _Value:
    parts, axis = [_codes(node, i) for i in range(len(node.inputs))], node.attributes["axis"]
    if axis == 0:
        raise node.error("axis 0 or none", "an axis other than the batch")
    return _moved(np.concatenate(parts, axis=axis))


@dataclass(frozen=True)
class _Operator:
    compute: Callable[[_Node], _Value]
    least: int
    most: int
    attributes: Mapping[str, Any]
    """Every attribute that HTVM's importer takes, with the default, whose type is the attribute's."""


_GEOMETRY = {"auto_pad": "NOTSET", "kernel_shape": [], "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1]}
_OPERATORS = {
    "Conv": _Operator(_conv, 2, 3, {**_GEOMETRY, "group": 1}),
    "Gemm": _Operator(_gemm, 2, 3, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}),
    "MatMul": _Operator(_mat_mul, 2, 2, {}),
    "Add": _Operator(_add, 2, 2, {}),
    "Mul": _Operator(_mul, 2, 2, {}),
    "Div": _Operator(_div, 2, 2, {}),
    "Floor": _Operator(_floor, 1, 1, {}),
    "Max": _Operator(_max, 2, 2, {}),
    "Min": _Operator(_min, 2, 2, {}),
    "GlobalAveragePool": _Operator(_global_average_pool, 1, 1, {}),
    "Flatten": _Operator(_flatten, 1, 1, {"axis": 1}),
    "MaxPool": _Operator(_max_pool, 1, 1, {**_GEOMETRY, "ceil_mode": 0, "storage_order": 0}),
    "Relu": _Operator(_relu, 1, 1, {}),
    "Reshape": _Operator(_reshape, 2, 2, {}),
    "Transpose": _Operator(_transpose, 1, 1, {"perm": []}),
    "Pad": _Operator(_pad, 2, 3, {"mode": "constant"}),
    "Slice": _Operator(_slice, 3, 5, {}),
    "Resize": _Operator(_resize, 4, 4, {"mode": "nearest", "coordinate_transformation_mode": "half_pixel",
                                        "nearest_mode": "round_prefer_floor"}),
    "Concat": _Operator(_concat, 1, sys.maxsize, {"axis": 0}),
    "Identity": _Operator(_identity, 1, 1, {}),
}
_OPERATORS_10 = _OPERATORS | {
    "Pad": _Operator(_pad_10, 1, 1, {"mode": "constant", "pads": [], "value": 0.0}),
    "Resize": _Operator(_resize_10, 2, 2, {"mode": "nearest"}),
}
"""At opset 10, where two of them had other forms."""


def run(model: onnx.ModelProto, feed: Mapping[str, NDArray[Any]], fetch: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Compute one sample as HTVM's program does.

    Args:
        model: the hand-over graph.
        feed: float32 arrays of the inputs' shapes (batch 1), by name.
        fetch: further tensors to return.

    Returns:
        The output (float32), and the fetched tensors as the integers that they are: int8 codes, int32 accumulators.

    Raises:
        HandoffError: the graph is outside the dialect, an accumulator leaves int32, or a fetched tensor is not in it.
        CalibrationError: the feed does not fit the inputs.
    """
    opset, graph = _opset(model), model.graph
    values = _constants(graph)
    values |= _inputs(graph, feed)
    if len(values) != len(graph.initializer) + len(graph.input):
        raise HandoffError("graph: an initializer and an input share a name; needed: one definition a name")
    readers = Counter([name for node in graph.node for name in node.input] + [v.name for v in graph.output])
    for proto in graph.node:
        node, operator = _bind(proto, values, opset)
        try:
            value = operator.compute(node)
        except (IndexError, MemoryError, ValueError) as error:  # numpy's, about shapes and axes
            shapes = [None if v is None else v.array.shape for v in node.inputs]
            raise node.error(f"shapes {shapes} ({error})", "operands that fit each other") from error
        if value.array.shape[:1] != (1,) or not value.array.size:
            raise node.error(f"a result of shape {value.array.shape}", "batch 1 as first axis, at least one element",
                             "E2")
        if value.kind not in _SHARED and readers[node.output] != 1:
            raise node.error(f"{readers[node.output]} readers of {value.kind.value}", "exactly one")
        values[node.output] = value
    for name in fetch:
        if name not in values:
            raise HandoffError(f"graph: tensor '{name}' was asked for but is not in it; ask for one that is")
    result = graph.output[0]
    value = values[_output(result, values)]
    return {result.name: value.array} | {name: values[name].array for name in fetch}


def _opset(model: onnx.ModelProto) -> int:
    """Opset as HTVM's importer finds it: that of the first import, whatever its domain."""
    if not model.opset_import or model.opset_import[0].domain not in ("", "ai.onnx"):
        raise HandoffError(f"graph: found opset imports {[o.domain for o in model.opset_import]}; "
                           "needed: the default domain first, from which HTVM takes the version")
    version = model.opset_import[0].version
    if version not in _OPSETS or model.ir_version > _IR_VERSION:
        raise HandoffError(f"graph: found opset {version}, IR version {model.ir_version}; "
                           f"needed: opset {_OPSETS[0]} to {_OPSETS[-1]}, IR version at most {_IR_VERSION}")
    if model.functions or model.graph.sparse_initializer or len(model.graph.output) != 1:
        raise HandoffError(f"graph: found {len(model.graph.output)} outputs, {len(model.functions)} functions, "
                           f"{len(model.graph.sparse_initializer)} sparse initializers; needed: one output, no others")
    return int(version)


def _constants(graph: onnx.GraphProto) -> dict[str, _Value]:
    values: dict[str, _Value] = {}
    for tensor in graph.initializer:
        if tensor.name in values or tensor.data_location == TensorProto.EXTERNAL:
            raise HandoffError(f"graph: initializer '{tensor.name}' is defined twice or lies in another file; "
                               "needed: one definition, inside the file")
        try:
            values[tensor.name] = _Value(Kind.CONSTANT, numpy_helper.to_array(tensor))
        except (KeyError, TypeError, ValueError) as error:
            raise HandoffError(f"graph: initializer '{tensor.name}' cannot be read: {error}; write it again") from error
    return values


def _inputs(graph: onnx.GraphProto, feed: Mapping[str, Array]) -> dict[str, _Value]:
    values: dict[str, _Value] = {}
    for entry in graph.input:
        form = entry.type.tensor_type
        shape = tuple(d.dim_value for d in form.shape.dim)
        if form.elem_type != TensorProto.FLOAT or shape[:1] != (1,) or min(shape) < 1:
            raise HandoffError(f"graph: input '{entry.name}' has element type {form.elem_type}, shape {shape}; "
                               "needed: float32, a static shape with batch 1")
        array = feed.get(entry.name)
        if array is None or array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
            found = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise CalibrationError(f"input '{entry.name}': found {found}; give finite float32 of shape {shape}")
        values[entry.name] = _Value(Kind.INPUT, array)
    if set(feed) != set(values):
        raise CalibrationError(f"the feed names {sorted(feed)}, the graph's inputs are {sorted(values)}; give these")
    return values


def _bind(proto: onnx.NodeProto, values: Mapping[str, _Value], opset: int) -> tuple[_Node, _Operator]:
    """A node whose operator, inputs, output and attributes have the dialect's form."""
    names, output = tuple(proto.input), ", ".join(proto.output)
    node = _Node(proto.op_type, output, names, tuple(values.get(name) if name else None for name in names), {})
    operator = (_OPERATORS_10 if opset == 10 else _OPERATORS).get(proto.op_type)
    if operator is None or proto.domain not in ("", "ai.onnx"):
        raise node.error(f"this operator (domain '{proto.domain}', opset {opset})", f"one of {', '.join(_OPERATORS)}")
    if len(proto.output) != 1 or not output or output in values:
        raise node.error(f"the outputs {list(proto.output)}", "one, of a name that nothing else has")
    if not operator.least <= len(names) <= operator.most:
        raise node.error(f"{len(names)} inputs", f"{operator.least} to {operator.most}")
    for name in names:
        if name and name not in values:
            raise node.error(f"the input '{name}', which nothing before it defines", "nodes in order of execution")
    attributes = dict(operator.attributes)
    for given in proto.attribute:
        default = operator.attributes.get(given.name)
        if default is None or given.type != _TYPES[type(default)] or given.ref_attr_name:
            raise node.error(f"attribute '{given.name}' of type {given.type}",
                             f"none but {list(operator.attributes)}, of their types in ONNX")
        value = helper.get_attribute_value(given)
        attributes[given.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return _Node(node.op_type, output, names, node.inputs, attributes), operator


def _output(result: onnx.ValueInfoProto, values: Mapping[str, _Value]) -> str:
    """Name of the output, which leaves through a dequantizer in the shape that it declares."""
    value, form = values.get(result.name), result.type.tensor_type
    shape = tuple(d.dim_value for d in form.shape.dim)
    if value is None or value.kind is not Kind.REAL:
        found = "nothing" if value is None else value.kind.value
        raise HandoffError(f"graph: output '{result.name}' is {found}; needed: a Div directly behind a Min, without "
                           "which HTVM does not compile the graph")
    if form.elem_type != TensorProto.FLOAT or shape != value.array.shape:
        raise Refusal("E2", "graph", f"that output '{result.name}' declares element type {form.elem_type}, "
                      f"shape {shape}", f"float32, shape {value.array.shape}")
    return result.name
