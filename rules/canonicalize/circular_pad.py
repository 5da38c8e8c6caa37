"""``Concat(x[-b:], x, x[:e]) -> Pad(x, b, e, wrap)`` along one axis: circular padding as TorchScript writes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule, is_constant, is_operator


def _part(value: ir.Value | None, whole: ir.Value, axis: int, size: int) -> tuple[int, int] | None:
    """First and past-the-last index, where a value is a contiguous part of another one along this axis alone."""
    node = value.producer() if value is not None else None
    if node is None or not is_operator(node, "Slice") or node.inputs[0] is not whole:
        return None
    starts, ends, axes, steps = [*node.inputs[1:], None, None][:4]
    if not is_constant(starts, ends, axes) or (steps is not None and not is_constant(steps)):
        return None
    if [int(a) % len(whole.shape or ()) for a in graph.required_constant(axes)] != [axis]:
        return None
    step = 1 if steps is None else graph.required_constant(steps).item()
    start, stop = graph.required_constant(starts).item(), graph.required_constant(ends).item()
    return slice(start, stop).indices(size)[:2] if step == 1 else None


class ConcatToPad(PatternRule):
    """A tensor between its own last and first parts; one of the two may be missing."""

    def pattern(self, op: Any) -> Any:
        """Any Concat."""
        return op.Concat(_allow_other_inputs=True, _allow_other_attributes=True, _outputs=["out"])

    @staticmethod
    def _wrapped(out: ir.Value) -> tuple[ir.Value, int, int, int] | None:
        """The tensor, the axis, and how much is repeated in front of it and behind it."""
        node = PatternRule.node(out)
        for position, x in enumerate(node.inputs[:2]):
            shape = graph.dims(x)
            if x is None or not shape or len(node.inputs) < 2:
                continue
            axis = graph.attribute(node, "axis") % len(shape)
            size, before, after = shape[axis], node.inputs[:position], node.inputs[position + 1:]
            if axis == 0 or size is None or len(after) > 1:
                continue
            head = _part(before[0], x, axis, size) if before else (size, size)
            tail = _part(after[0], x, axis, size) if after else (0, 0)
            if head is not None and tail is not None and head[1] == size and tail[0] == 0:
                return x, axis, size - head[0], tail[1]
        return None

    def check(self, op: Any, out: ir.Value, **_: Any) -> bool:
        """Constant parts off the batch axis."""
        return self._wrapped(out) is not None

    def rewrite(self, op: Any, out: ir.Value, **_: Any) -> ir.Value:
        """The Pad."""
        wrapped = self._wrapped(out)
        assert wrapped is not None
        x, axis, begin, end = wrapped
        rank = len(x.shape or ())
        pads = np.zeros(2 * rank, dtype=np.int64)
        pads[axis], pads[rank + axis] = begin, end
        return self.build(op, "Pad", [x, self.constant(out, f"{out.name}.pads", pads)], out, mode="wrap")


RULE = ConcatToPad("circular_pad")
