"""What it takes to move an operator in front of a Transpose or Reshape: ``f(move(x), c) -> move'(f'(x, c'))``.

A move rearranges one tensor and computes nothing. Shapes are static here, the batch, which a Reshape keeps first, too.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Array, is_constant, is_operator
from onnxdiana.rules.ops.pad import full_pads

Shape = tuple[int, ...]
_LARGE = 2**26  # elements that a constant may grow to: a file of a few bytes can ask for more than there is memory


def static(value: ir.Value | None) -> Shape | None:
    """The shape of a value, or None where a size is unknown or there is nothing to move."""
    shape = graph.dims(value)
    if not shape or None in shape or 0 in shape:
        return None
    return shape  # type: ignore[return-value]


@dataclass(frozen=True)
class Move(abc.ABC):
    """A rearrangement of a tensor of shape ``before`` into one of shape ``after``."""

    before: Shape
    after: Shape

    @abc.abstractmethod
    def axis(self, axis: int) -> int | None:
        """The axis of the source that this axis of the result is, or None where it is none alone."""

    @property
    @abc.abstractmethod
    def is_identity(self) -> bool:
        """Whether the result is the source."""

    @abc.abstractmethod
    def constant(self, array: Array) -> Array | None:
        """A constant that broadcasts to ``after``, as one that broadcasts to ``before``; None where it grows."""

    @abc.abstractmethod
    def inverse(self) -> Move:
        """The move that undoes this one."""

    @abc.abstractmethod
    def resized(self, after: Shape) -> Move | None:
        """The same move of a tensor with other sizes."""

    @abc.abstractmethod
    def without(self, axes: Sequence[int]) -> Move | None:
        """The same move of a tensor without these axes of the result."""

    def axes(self, axes: Iterable[int]) -> list[int] | None:
        """Every one of them by :meth:`axis`, or None where one has no counterpart of its own."""
        found = [self.axis(a) for a in axes]
        return found if None not in found and len(set(found)) == len(found) else None  # type: ignore[return-value]


@dataclass(frozen=True)
class Permutation(Move):
    """Axis i of the result is axis ``perm[i]`` of the source."""

    perm: tuple[int, ...]

    @classmethod
    def of(cls, before: Shape, perm: Sequence[int]) -> Permutation:
        """The permutation of a tensor of this shape."""
        return cls(before, tuple(before[p] for p in perm), tuple(perm))

    @classmethod
    def giving(cls, after: Shape, perm: Sequence[int]) -> Permutation:
        """The permutation that ends in this shape."""
        return cls.of(after, np.argsort(perm).tolist()).inverse()

    @property
    def is_identity(self) -> bool:
        """Axes in their order."""
        return self.perm == tuple(range(len(self.perm)))

    def axis(self, axis: int) -> int | None:
        """Always there."""
        return self.perm[axis]

    def constant(self, array: Array) -> Array | None:
        """Transposed back."""
        rank = len(self.after)
        if array.ndim > rank:
            return None
        if array.size == 1:
            return array
        return array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(np.argsort(self.perm))

    def inverse(self) -> Permutation:
        """The inverse permutation."""
        return Permutation(self.after, self.before, tuple(np.argsort(self.perm).tolist()))

    def resized(self, after: Shape) -> Permutation | None:
        """Any sizes, same rank."""
        return Permutation.giving(after, self.perm) if len(after) == len(self.after) else None

    def without(self, axes: Sequence[int]) -> Permutation | None:
        """The order of the axes that stay."""
        rest = [p for i, p in enumerate(self.perm) if i not in axes]
        order = sorted(rest)
        return Permutation.of(tuple(self.before[p] for p in order), [order.index(p) for p in rest])

    @property
    def moves_data(self) -> bool:
        """Whether an axis passes another one, both larger than 1; the batch counts as larger, whatever its size."""
        kept = [p for p in self.perm if p == 0 or self.before[p] != 1]
        return kept != sorted(kept)


@dataclass(frozen=True)
class Regrouping(Move):
    """A row-major reshape that keeps the first axis."""

    @property
    def is_identity(self) -> bool:
        """Equal shapes."""
        return self.before == self.after

    def axis(self, axis: int) -> int | None:
        """Same size, same number of elements in front; of several, the first one for channels, else the last one."""
        if axis == 0:
            return 0
        inside = math.prod(self.after[1:axis])
        found = [b for b in range(1, len(self.before))
                 if self.before[b] == self.after[axis] and math.prod(self.before[1:b]) == inside]
        return None if not found else found[0] if axis == 1 else found[-1]

    def groups(self) -> list[tuple[range, range]]:
        """The shortest runs of axes, of the source and of the result, that hold the same number of elements."""
        found, i, j = [(range(1), range(1))], 1, 1
        while i < len(self.before) or j < len(self.after):
            start, begin, size, other = i, j, 1, 1
            while True:
                if i < len(self.before) and (size < other or i == start):
                    size, i = size * self.before[i], i + 1
                elif j < len(self.after) and (other < size or j == begin):
                    other, j = other * self.after[j], j + 1
                else:
                    break
            found.append((range(start, i), range(begin, j)))
        return found

    def constant(self, array: Array) -> Array | None:
        """Written out over the parts of an axis that is split; None along axes that are merged, or where too large."""
        if array.ndim > len(self.after):
            return None
        if array.size == 1:
            return array.reshape(()) if array.ndim > len(self.before) else array
        sizes = (1,) * (len(self.after) - array.ndim) + array.shape
        full, result = list(sizes), [1] * len(self.before)
        for sources, targets in self.groups():
            if all(sizes[t] == 1 for t in targets):
                continue
            if targets.start == 0 or sum(self.before[s] != 1 for s in sources) > 1:
                return None
            for t in targets:
                full[t] = self.after[t]
            for s in sources:
                result[s] = self.before[s]
        return np.broadcast_to(array.reshape(sizes), full).reshape(result) if math.prod(full) <= _LARGE else None

    def inverse(self) -> Regrouping:
        """Back to the old shape."""
        return Regrouping(self.after, self.before)

    def resized(self, after: Shape) -> Regrouping | None:
        """Other sizes along axes that both shapes have."""
        if len(after) != len(self.after):
            return None
        changed = [a for a, size in enumerate(after) if size != self.after[a]]
        axes = self.axes(changed)
        if axes is None:
            return None
        before = list(self.before)
        for a, b in zip(changed, axes, strict=True):
            before[b] = after[a]
        return Regrouping(tuple(before), after)

    def without(self, axes: Sequence[int]) -> Regrouping | None:
        """Both shapes without these axes."""
        gone = self.axes(axes)
        if gone is None or 0 in axes:
            return None
        return Regrouping(tuple(d for i, d in enumerate(self.before) if i not in gone),
                          tuple(d for i, d in enumerate(self.after) if i not in axes))


def move_of(node: ir.Node | None) -> Move | None:
    """The move that a node is: a Transpose, or a Flatten or Reshape in canonical form; None where it is none."""
    if node is None or not is_operator(node, "Transpose", "Flatten", "Reshape"):
        return None
    before = static(node.inputs[0])
    if before is None:
        return None
    if node.op_type == "Transpose":
        perm = graph.attribute(node, "perm", list(range(len(before)))[::-1])
        return Permutation.of(before, perm) if len(perm) == len(before) else None
    after = static(node.outputs[0])
    if after is None or after[0] != before[0]:
        return None
    if node.op_type == "Flatten":
        return Regrouping(before, after) if graph.attribute(node, "axis", 1) == 1 else None
    target = node.inputs[1]
    kept = is_constant(target) and graph.required_constant(target).tolist() == [0, *after[1:]]
    return Regrouping(before, after) if kept else None


@dataclass(frozen=True)
class Passed:
    """How a node has to be written in front of a move."""

    moves: tuple[Move, ...]
    """What follows each of its outputs."""
    inputs: Mapping[int, Array | None] = field(default_factory=dict)
    """Constants with other values, by their place; None where there is none any more."""
    attributes: Mapping[str, Any] = field(default_factory=dict)


def passed(node: ir.Node, move: Move) -> Passed | None:
    """How a node whose computed operands are results of ``move`` (of other sizes perhaps) reads their sources.

    Returns:
        None where it cannot: the operator mixes the axes, or is not known.
    """
    handler = _HANDLERS.get(node.op_type) if graph.is_default_domain(node.domain) else None
    shapes = [static(value) for value in node.outputs]
    if handler is None or None in shapes:
        return None
    return handler(node, move, shapes)


def operands(node: ir.Node) -> list[int]:
    """Places of the inputs that are computed, in order."""
    return [i for i, v in enumerate(node.inputs) if v is not None and not is_constant(v)]


_Shapes = Sequence[Shape]


def _resized(move: Move, shapes: _Shapes, **changes: Any) -> Passed | None:
    moves = tuple(m for m in (move.resized(shape) for shape in shapes) if m is not None)
    return Passed(moves, **changes) if len(moves) == len(shapes) else None


def _constants(node: ir.Node, places: Iterable[int]) -> list[Array] | None:
    """The arrays at these places, or None where one is missing or computed."""
    values = [node.inputs[i] if i < len(node.inputs) else None for i in places]
    return [graph.required_constant(v) for v in values] if is_constant(*values) else None


def _unary(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    return Passed((move,)) if operands(node) == [0] else None


def _elementwise(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    changed = {}
    for place, value in enumerate(node.inputs):
        if is_constant(value):
            old = graph.required_constant(value)
            new = move.resized(shapes[0])
            array = new.constant(old) if new is not None else None
            if array is None:
                return None
            if array.shape != old.shape or not np.array_equal(array, old):
                changed[place] = array
    return _resized(move, shapes, inputs=changed)


def _along(node: ir.Node, move: Move, shapes: _Shapes, default: int) -> Passed | None:
    axis = move.axis(graph.attribute(node, "axis", default) % len(move.after))
    return None if axis is None else _resized(move, shapes, attributes={"axis": axis})


def _concat(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    return _along(node, move, shapes, 0) if len(operands(node)) == len(node.inputs) else None


def _split(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    return _along(node, move, shapes, 0) if operands(node) == [0] else None


def _softmax(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    return _along(node, move, shapes, -1) if isinstance(move, Permutation) else None


def _arg(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    if not isinstance(move, Permutation):
        return None
    axis = graph.attribute(node, "axis", 0) % len(move.after)
    rest = move.resized(shapes[0]) if graph.attribute(node, "keepdims", 1) else move.without([axis])
    return None if rest is None else Passed((rest,), attributes={"axis": move.perm[axis]})


def _reduce(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    given = _constants(node, [1])
    if given is None or not given[0].size or operands(node) != [0]:
        return None
    old = [int(a) % len(move.after) for a in given[0]]
    new = move.axes(old)
    rest = move.resized(shapes[0]) if graph.attribute(node, "keepdims", 1) else move.without(old)
    if new is None or rest is None:
        return None
    return Passed((rest,), inputs={1: np.array(sorted(new), np.int64)})


def _pad(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    full = full_pads(node)
    if full is None or operands(node) != [0]:
        return None
    rank = len(full) // 2
    old = [a for a in range(rank) if full[a] or full[rank + a]]
    new = move.axes(old)
    if new is None:
        return None
    pads = np.zeros((2, len(move.before)), np.int64)
    pads[:, new] = np.array(full, np.int64).reshape(2, rank)[:, old]
    return _resized(move, shapes, inputs={1: pads.reshape(-1), 3: None})


def _slice(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    starts, axes = _constants(node, [1]), _constants(node, [3])
    if starts is None or operands(node) != [0]:
        return None
    old = range(len(starts[0])) if axes is None else [int(a) % len(move.after) for a in axes[0]]
    new = move.axes(old)
    return None if new is None else _resized(move, shapes, inputs={3: np.array(new, np.int64)})


def _resize(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    crops = graph.attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    stretches = graph.attribute(node, "keep_aspect_ratio_policy", "stretch") == "stretch"
    if crops or not stretches or operands(node) != [0] or "axes" in node.attributes:
        return None
    scales, sizes = _constants(node, [2]), _constants(node, [3])
    place, given = (3, sizes) if sizes is not None else (2, scales)
    if given is None or len(given[0]) != len(move.after):
        return None
    neutral = move.after if place == 3 else (1.0,) * len(move.after)
    old = [a for a, value in enumerate(given[0]) if value != neutral[a]]
    new = move.axes(old)
    if new is None:
        return None
    array = np.array(move.before if place == 3 else np.ones(len(move.before)), given[0].dtype)
    array[new] = given[0][old]
    return _resized(move, shapes, inputs={1: None, place: array})


def _batch_norm(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    channels = len(move.after) > 1 and move.axis(1) == 1 and len(node.outputs) == 1
    return _resized(move, shapes) if channels and operands(node) == [0] else None


def _transpose(node: ir.Node, move: Move, shapes: _Shapes) -> Passed | None:
    """Behind a Reshape only: blocks of axes that the Reshape merges, or leaves alone, change places as a whole."""
    outer = move_of(node)
    if not isinstance(move, Regrouping) or not isinstance(outer, Permutation) or outer.perm[0] != 0:
        return None
    blocks: dict[int, range] = {}
    rest: list[int] = []
    for sources, targets in move.groups():
        large = [t for t in targets if t == 0 or move.after[t] != 1]
        if len(large) > 1:
            return None
        if large:
            blocks[large[0]] = sources
        else:
            rest.extend(sources)
    perm = [s for t in outer.perm for s in blocks.get(t, ())] + rest
    before = Permutation.of(move.before, perm).after
    return Passed((Regrouping(before, outer.after),), attributes={"perm": perm})


def is_unary(node: ir.Node | None) -> bool:
    """Whether a node works on every element of one tensor alone, by one function for all."""
    return node is not None and is_operator(node, *_UNARY) and operands(node) == [0]


def starts_at_input(node: ir.Node, chain: Container[ir.Value | None]) -> bool:
    """Whether a node stands between a graph input and the first layer: nothing but ``chain`` and constants go in."""
    places = operands(node)
    known = is_operator(node, *_HOISTABLE) and len(node.outputs) == 1
    return known and bool(places) and all(node.inputs[p] in chain for p in places)


_Handler = Callable[[ir.Node, Move, Any], Passed | None]
_UNARY = ("Abs", "Cast", "Ceil", "Celu", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
          "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign",
          "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu")
_ELEMENTWISE = ("Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum")
_HOISTABLE = (*_UNARY, *_ELEMENTWISE, "BatchNormalization", "Concat", "Pad", "Resize", "Slice")
_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"), _reduce),
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Pad": _pad,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
