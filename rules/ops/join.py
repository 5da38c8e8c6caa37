"""Slice and Concat: parts of a tensor, and tensors side by side at one exponent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.costs.memory import footprint
from onnxdiana.costs.work import Work
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter, Namer
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.add import OPERATOR as ADD
from onnxdiana.rules.ops.base import ACCUMULATOR, DOMAIN, Array, Operator, T
from onnxdiana.rules.ops.conv import geometry


class Concat(Operator):
    """Operands side by side; all of them and the result share one exponent."""

    op_type = "Concat"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Computed operands, off the batch axis."""
        if any(graph.constant(v) is not None for v in node.inputs):
            yield "one operand is a constant; only computed tensors are concatenated"
        axis, shape = graph.attribute(node, "axis"), graph.dims(node.inputs[0])
        if axis == 0 or (shape is not None and axis == -len(shape)):
            yield f"axis {axis} is the batch; concatenate along another"

    def codes(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """Every operand."""
        return tuple(v for v in node.inputs if v is not None)

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """numpy's concatenation."""
        return np.concatenate(inputs, axis=graph.attribute(node, "axis"))

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """HTVM stops at Concat when it partitions for DIANA (docs/htvm-dialect.md, 1); channels have another form."""
        rank = 1 + len(graph.sample_shape(node.outputs[0]))
        if forms.concat == "refuse":
            yield "Concat, at which HTVM stops when it partitions for DIANA; use --concat convs"
        elif graph.attribute(node, "axis") % rank != 1 or rank not in (2, 4):
            yield ("Concat along an axis other than the channels, at which HTVM stops when it partitions for DIANA; "
                   "concatenate channels, or add the branches")

    def prepare_htvm(self, node: ir.Node, unique: Namer, forms: Forms) -> None:
        """``Concat(a, b) -> Add(a', b')``: each operand among zeros in the others' channels, which is exact.

        A layer that nothing else reads gets rows of zeros; behind anything else comes a layer that copies codes.
        """
        assert isinstance(node.graph, ir.Graph)
        joined, first = node.outputs[0], 0
        name, shape, total = graph.name_of(joined), joined.shape, graph.sample_shape(joined)[0]
        result: ir.Value | None = None
        for operand in self.codes(node):
            layer = _own_layer(operand, total) or _copy(operand, node, unique)
            for parameter in layer.inputs[1:]:
                assert parameter is not None
                graph.set_constant(parameter, _among_zeros(graph.required_constant(parameter), first, total))
            first += graph.sample_shape(operand)[0]
            requantizer = graph.sole_consumer(layer.outputs[0])
            assert requantizer is not None
            part = requantizer.outputs[0]
            layer.outputs[0].shape = part.shape = shape
            part.name = unique(f"{name}.part")
            result = part if result is None else _added(result, part, node, unique, forms)
        assert result is not None
        joined.replace_all_uses_with(result)
        node.graph.remove(node, safe=True)
        result.name = name


def _own_layer(value: ir.Value, total: int) -> ir.Node | None:
    """The Conv or Gemm whose codes a tensor has, where rows of zeros in it concern nobody else and give code 0.

    With so many rows, the chip's memories must still hold a tile of it.
    """
    requantizer = value.producer()
    if requantizer is None or requantizer.op_type != "Requantize" or len(value.uses()) != 1 or not (
            graph.attribute(requantizer, "lo") <= 0 <= graph.attribute(requantizer, "hi")):
        return None
    layer = requantizer.inputs[0].producer() if requantizer.inputs[0] is not None else None
    linear = layer is not None and layer.op_type in ("Conv", "Gemm") and graph.attribute(layer, "group", 1) == 1
    return layer if layer is not None and linear and _fits(layer, total) else None


def _fits(layer: ir.Node, rows: int) -> bool:
    """Whether a layer with so many rows can be tiled."""
    if layer.op_type == "Gemm":
        return True  # it is tiled over its rows
    weight, own = graph.required_constant(layer.inputs[1]), geometry(layer)
    given, output = (graph.sample_shape(v)[1:] for v in (layer.inputs[0], layer.outputs[0]) if v is not None)
    work = Work("conv", weight.shape[1], rows, (given[0], given[1]), (output[0], output[1]), weight.shape[2:],
                tuple(own["strides"]), tuple(own["pads"]))
    return footprint(work).feasible


def _among_zeros(rows: Array, first: int, total: int) -> Array:
    """Rows of a weight or bias at their place among so many."""
    found = np.zeros((total, *rows.shape[1:]), rows.dtype)
    found[first:first + len(rows)] = rows
    return found


def _copy(operand: ir.Value, before: ir.Node, unique: Namer) -> ir.Node:
    """A 1x1 Conv, or a Gemm, that copies the channels of its operand."""
    g, channels, *size = before.graph, *graph.sample_shape(operand)
    assert isinstance(g, ir.Graph)
    name = unique(f"{graph.name_of(operand)}.copied")
    weight = np.eye(channels, dtype=np.int8).reshape(channels, channels, *(1 for _ in size))
    parameters = [graph.initializer(g, unique(f"{name}.{role}"), array)
                  for role, array in (("weight", weight), ("bias", np.zeros(channels, np.int32)))]
    return _layer("Conv" if size else "Gemm", [operand, *parameters], name, before,
                  0 if _never_negative(operand) else -128)


def _never_negative(value: ir.Value) -> bool:
    """Whether a tensor's codes start at 0: a mean behind it wants to know. A shift keeps the sign of a sum."""
    waiting, seen = [value], set[ir.Node]()
    while waiting:
        node = waiting.pop().producer()
        assert node is not None
        if node in seen:
            continue
        seen.add(node)
        lo = graph.attribute(node, "lo", 0 if node.op_type == "Relu" else None)
        if lo is None or lo < 0:
            if node.op_type in ("Quantize", "Conv", "Gemm"):
                return False
            waiting += [v for v in node.inputs if v is not None and graph.constant(v) is None]
    return True


def _added(first: ir.Value, second: ir.Value, before: ir.Node, unique: Namer, forms: Forms) -> ir.Value:
    """The sum of codes of which one is 0 at every place."""
    node = _layer("Add", [first, second], unique(f"{graph.name_of(first)}.sum"), before)
    requantizer = graph.sole_consumer(node.outputs[0])
    assert requantizer is not None
    ADD.prepare_htvm(node, unique, forms)
    flat = graph.sole_consumer(requantizer.outputs[0])
    return requantizer.outputs[0] if flat is None else flat.outputs[0]


def _layer(op_type: str, inputs: Sequence[ir.Value], name: str, before: ir.Node, lo: int = -128) -> ir.Node:
    """An accumulating node whose accumulators are codes from ``lo`` on, and its requantizer."""
    assert isinstance(before.graph, ir.Graph)
    node = ir.node(op_type, inputs, domain=DOMAIN, name=name)
    limits = {"shift": 0, "lo": lo, "hi": 127}
    requantizer = ir.node("Requantize", node.outputs, limits, domain=DOMAIN, name=name)
    for value, own in ((node.outputs[0], f"{name}{ACCUMULATOR}"), (requantizer.outputs[0], name)):
        value.name, value.shape = own, inputs[0].shape
    before.graph.insert_before(before, [node, requantizer])
    return node


class Slice(Operator):
    """A constant, strided part."""

    op_type = "Slice"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Constant indices off the batch axis."""
        if any(v is not None and graph.constant(v) is None for v in node.inputs[1:]):
            yield "an index is computed in the graph; make it a constant"
        elif not _is_whole(self._slices(node).get(0, slice(0, None, 1))):
            yield "the batch axis is sliced; slice only the others"

    @staticmethod
    def _slices(node: ir.Node) -> dict[int, slice]:
        given = [None if v is None else graph.required_constant(v).tolist() for v in node.inputs[1:]]
        starts, ends, axes, steps = [*given, None, None][:4]
        assert starts is not None
        assert ends is not None
        shape = graph.dims(node.inputs[0])
        rank = len(shape) if shape is not None else max(axes or [len(starts) - 1]) + 1
        axes = list(range(len(starts))) if axes is None else [a % rank for a in axes]
        steps = [1] * len(starts) if steps is None else steps
        # ONNX clamps a far negative end with a negative step to "past the first element", which is None in Python
        return {a: slice(b, None if s < 0 and e < -(2**30) else e, s)
                for a, b, e, s in zip(axes, starts, ends, steps, strict=True)}

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Python's slice of the same indices."""
        slices = self._slices(node)
        return inputs[0][tuple(slices.get(a, slice(None)) for a in range(inputs[0].ndim))]

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """All five inputs, int64."""
        return self._emit(node, inputs, output, emitter)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """The same: a CPU operator."""
        return self._emit(node, inputs, output, emitter)

    def _emit(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        shape = graph.sample_shape(self.codes(node)[0])
        parts = {axis: part.indices(shape[axis - 1]) for axis, part in self._slices(node).items() if axis}
        columns = {
            "starts": [start for start, _, _ in parts.values()],
            # an end before the first element counts from behind, or it would be the last one
            "ends": [end if end >= 0 else -shape[axis - 1] - 1 for axis, (_, end, _) in parts.items()],
            "axes": list(parts),
            "steps": [step for _, _, step in parts.values()],
        }
        feed = [emitter.constant(f"{output}.{role}", np.array(column, np.int64)) for role, column in columns.items()]
        return emitter.add("Slice", [inputs[0], *feed], output)


def _is_whole(part: slice) -> bool:
    """Whether a slice leaves nothing out, whatever the size."""
    return part.start == 0 and part.step == 1 and (part.stop is None or part.stop >= 2**31 - 1)


OPERATORS = [Concat(), Slice()]
