"""``Gather(x, start, start + step, ...) -> Slice(x)``, a Reshape behind a single index; others 1-d, >= 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Array, is_constant, is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static


class NormalizeGather:
    """A plain loop; constant indices along any axis but the batch."""

    name = "gather"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        edits = Edits(model.graph)
        return sum(_rewrite(node, edits) for node in list(model.graph) if is_operator(node, "Gather"))


def strided(indices: Array) -> tuple[int, int, int] | None:
    """Start, end and step of the slice that takes these elements; None where none does."""
    steps = np.unique(np.diff(indices))
    if len(steps) > 1 or not len(indices) or (len(steps) and steps[0] == 0):
        return None
    step = int(steps[0]) if len(steps) else 1
    start, last = int(indices[0]), int(indices[-1])
    end = last + (1 if step > 0 else -1)
    return start, end if end >= 0 else np.iinfo(np.int64).min + 1, step


def taken(node: ir.Node, x: ir.Value, axis: int, indices: Array, role: str | None, edits: Edits) -> ir.Value | None:
    """Elements of a tensor along one axis, by a Slice or a Gather.

    Args:
        node: whose place the new one takes; in front of which it stands where ``role`` is given.
        indices: not negative.
        role: of the new tensor.

    Returns:
        The new tensor, where ``role`` is given.
    """
    shape, part, name = static(x), strided(indices), node.outputs[0].name
    assert shape is not None
    inputs: list[ir.Value | None]
    attributes: dict[str, Any] = {}
    if part is not None:
        op_type, inputs = "Slice", [x, *edits.cut(f"{name}", [(axis, *part)])]
    else:
        op_type, attributes = "Gather", {"axis": axis}
        inputs = [x, edits.constant(f"{name}.indices", indices.astype(np.int64))]
    if role is None:
        edits.become(node, op_type, inputs, **attributes)
        return None
    return edits.in_front(node, op_type, inputs, role, [*shape[:axis], len(indices), *shape[axis + 1:]], **attributes)


def _rewrite(node: ir.Node, edits: Edits) -> bool:
    x, shape, axis = node.inputs[0], static(node.inputs[0]), graph.attribute(node, "axis", 0)
    if x is None or shape is None or is_constant(x) or not is_constant(node.inputs[1]):
        return False
    if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
        return False
    given, place = graph.required_constant(node.inputs[1]), axis % len(shape)
    indices = given.reshape(-1).astype(np.int64)
    if not indices.size or indices.min() < -shape[place] or indices.max() >= shape[place]:
        return False
    indices %= shape[place]
    if given.ndim == 1:
        if strided(indices) is None and place == axis and given.dtype == np.int64 and np.array_equal(indices, given):
            return False
        taken(node, x, place, indices, None, edits)
        return True
    part = taken(node, x, place, indices, "taken", edits)
    target = [0, *shape[1:place], *given.shape, *shape[place + 1:]]
    edits.become(node, "Reshape", [part, edits.constant(f"{node.outputs[0].name}.shape", np.array(target, np.int64))])
    return True


RULE = NormalizeGather()
