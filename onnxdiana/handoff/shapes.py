"""Static shapes of a hand-over graph's tensors. onnx's own inference ends the process on some broken files.

A shape that cannot be computed is left out, whatever the reason; what is wrong with a node others say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana.handoff.operators import DOMAINS

if TYPE_CHECKING:
    from onnxdiana.handoff.nodes import Node

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Place:
    """A node with what is known of its inputs."""

    node: Node
    shapes: Mapping[str, Shape]
    constants: Mapping[str, NDArray[Any]]

    def shape(self, index: int) -> Shape:
        """Of an input.

        Raises:
            KeyError, IndexError: it is unknown, or there is none.
        """
        return self.shapes[self.node.inputs[index]]

    def integers(self, index: int, name: str) -> list[int] | None:
        """A constant input, or before some opset an attribute; None where there is neither."""
        if index < len(self.node.inputs) and self.node.inputs[index]:
            return [int(value) for value in self.constants[self.node.inputs[index]]]
        value = self.node.attributes.get(name)
        return None if value is None else [int(item) for item in value]

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.node.attributes.get(name, default)


def infer(
    nodes: Sequence[Node], constants: Mapping[str, NDArray[Any]], declared: Mapping[str, Shape]
) -> tuple[dict[str, Shape], tuple[Node, ...]]:
    """Shapes by tensor, in execution order, and nodes on whose inputs, though their shapes are known, nothing can run.

    Args:
        nodes: of the graph.
        constants: by name.
        declared: what the file says, which counts for inputs and where nothing can be computed.
    """
    made = {name for node in nodes for name in node.outputs}
    known = {name: shape for name, shape in declared.items() if name not in made}
    known |= {name: np.shape(array) for name, array in constants.items()}
    unfit = []
    for node in nodes:
        shape = _shape(_Place(node, known, constants))
        if shape is not None and min(shape, default=1) < 1:
            shape = None
        if shape is None and _has_rule(node) and all(name in known for name in node.inputs if name):
            unfit.append(node)
        for name, value in zip(node.outputs, (shape, *[None] * len(node.outputs)), strict=False):
            told = declared.get(name) if value is None else value
            if told is not None and min(told, default=1) >= 1:
                known[name] = told
    return known, tuple(unfit)


def _has_rule(node: Node) -> bool:
    return node.op_type in _RULES and node.domain in DOMAINS


def _shape(place: _Place) -> Shape | None:
    if not _has_rule(place.node):
        return None
    try:
        return tuple(_RULES[place.node.op_type](place))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def _windows(place: _Place, kernel: Sequence[int]) -> Shape:
    """Sizes behind windows over all axes but the first two."""
    sizes = place.shape(0)[2:]
    strides, dilations = (place.get(name, [1] * len(sizes)) for name in ("strides", "dilations"))
    pads = place.get("pads", [0] * 2 * len(sizes))
    mode, ceil, found = place.get("auto_pad", "NOTSET"), bool(place.get("ceil_mode", 0)), []
    for i, (size, k, stride, dilation) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            found.append(-(-size // stride))
            continue
        given = 0 if mode == "VALID" else pads[i] + pads[i + len(sizes)]
        room = size + given - (k - 1) * dilation - 1
        found.append((-(-room // stride) if ceil else room // stride) + 1)
    return tuple(found)


def _conv(place: _Place) -> Shape:
    weight = place.shape(1)
    if place.shape(0)[1] != weight[1] * place.get("group", 1):
        raise ValueError
    return (place.shape(0)[0], weight[0], *_windows(place, weight[2:]))


def _pool(place: _Place) -> Shape:
    return (*place.shape(0)[:2], *_windows(place, place.node.attributes["kernel_shape"]))


def _gemm(place: _Place) -> Shape:
    (rows, inner), (other, columns) = place.shape(0), place.shape(1)
    rows, inner = (inner, rows) if place.get("transA", 0) else (rows, inner)
    other, columns = (columns, other) if place.get("transB", 0) else (other, columns)
    if inner != other:
        raise ValueError
    return (rows, columns)


def _matmul(place: _Place) -> Shape:
    a, (inner, outputs) = place.shape(0), place.shape(1)
    if a[-1] != inner:
        raise ValueError
    return (*a[:-1], outputs)


def _elementwise(place: _Place) -> Shape:
    return np.broadcast_shapes(*(place.shape(i) for i in range(len(place.node.inputs))))


def _flatten(place: _Place) -> Shape:
    x, axis = place.shape(0), place.get("axis", 1)
    return (math.prod(x[:axis]), math.prod(x[axis:]))


def _reshape(place: _Place) -> Shape:
    x, target = place.shape(0), place.integers(1, "shape") or []
    sizes = [x[i] if size == 0 else size for i, size in enumerate(target)]
    rest = math.prod(size for size in sizes if size != -1)
    found = tuple(math.prod(x) // rest if size == -1 else size for size in sizes)
    return found if math.prod(found) == math.prod(x) else (0,)


def _transpose(place: _Place) -> Shape:
    x = place.shape(0)
    return tuple(x[axis] for axis in place.get("perm", range(len(x))[::-1]))


def _pad(place: _Place) -> Shape:
    x, pads = place.shape(0), place.integers(1, "pads") or []
    return tuple(size + pads[i] + pads[i + len(x)] for i, size in enumerate(x))


def _slice(place: _Place) -> Shape:
    found, starts, ends = list(place.shape(0)), place.integers(1, "starts") or [], place.integers(2, "ends") or []
    axes, steps = place.integers(3, "axes") or range(len(starts)), place.integers(4, "") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        found[axis] = len(range(found[axis])[slice(start, end, step)])
    return tuple(found)


def _resize(place: _Place) -> Shape:
    inputs, x = place.node.inputs, place.shape(0)
    if len(inputs) > 3 and inputs[3]:
        return tuple(place.integers(3, "") or ())
    scales = place.constants[inputs[1 if len(inputs) == 2 else 2]]
    return tuple(math.floor(size * float(scale)) for size, scale in zip(x, scales, strict=True))


def _concat(place: _Place) -> Shape:
    parts, axis = [place.shape(i) for i in range(len(place.node.inputs))], place.node.attributes["axis"]
    found = list(parts[0])
    found[axis] = sum(part[axis] for part in parts)
    return tuple(found)


def _squeeze(place: _Place) -> Shape:
    x, axes = place.shape(0), place.integers(1, "axes")
    gone = [i for i, size in enumerate(x) if size == 1] if axes is None else [axis % len(x) for axis in axes]
    return tuple(size for i, size in enumerate(x) if i not in gone)


def _unsqueeze(place: _Place) -> Shape:
    x, axes = list(place.shape(0)), place.integers(1, "axes") or []
    for axis in sorted(axis % (len(x) + len(axes)) for axis in axes):
        x.insert(axis, 1)
    return tuple(x)


_SAME = ("BatchNormalization", "Cast", "Ceil", "Clip", "DequantizeLinear", "Dropout", "Floor", "Identity", "LogSoftmax",
         "QuantizeLinear", "Relu", "Round", "Sigmoid", "Softmax", "Tanh")
_RULES: dict[str, Callable[[_Place], Sequence[int]]] = {
    "Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "MaxPool": _pool, "AveragePool": _pool,
    "GlobalAveragePool": lambda place: (*place.shape(0)[:2], *(1 for _ in place.shape(0)[2:])),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min"), _elementwise),
    **dict.fromkeys(_SAME, lambda place: place.shape(0)),
    "Flatten": _flatten, "Reshape": _reshape, "Transpose": _transpose, "Pad": _pad, "Slice": _slice, "Resize": _resize,
    "Concat": _concat, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
}
