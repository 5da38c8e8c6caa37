"""Slice and Concat: parts of a tensor, and tensors side by side at one exponent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Operator, T


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

    def htvm_obstacles(self, node: ir.Node) -> Iterator[str]:
        """Breaks partitioning for DIANA (docs/htvm-dialect.md0)."""
        yield "Concat, at which HTVM stops when it partitions for DIANA; add the branches instead of concatenating"


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
