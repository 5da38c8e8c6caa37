"""``Split(x) -> Slice(x), Slice(x), ...``: one node an output that is read."""

from __future__ import annotations

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_constant, is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static


class SplitToSlices:
    """A plain loop; constant sizes, along any axis but the batch."""

    name = "split"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        edits = Edits(model.graph)
        return sum(_rewrite(node, edits) for node in list(model.graph) if is_operator(node, "Split"))


def _sizes(node: ir.Node, size: int) -> list[int] | None:
    """Of the parts along the axis; None where they are not known."""
    given = node.inputs[1] if len(node.inputs) > 1 else None
    count = len(node.outputs)
    if given is not None:
        sizes = graph.required_constant(given).reshape(-1).tolist() if is_constant(given) else []
    else:
        each = -(-size // count)
        sizes = [each] * (count - 1) + [size - each * (count - 1)]
    return sizes if len(sizes) == count and sum(sizes) == size and min(sizes) >= 0 else None


def _rewrite(node: ir.Node, edits: Edits) -> bool:
    shape, axis = static(node.inputs[0]), graph.attribute(node, "axis", 0)
    if shape is None or not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
        return False
    axis %= len(shape)
    sizes = _sizes(node, shape[axis])
    if sizes is None or any(size == 0 for size, v in zip(sizes, node.outputs, strict=True) if v.uses()):
        return False
    start = 0
    for size, old in zip(sizes, list(node.outputs), strict=True):
        if old.uses() or old.is_graph_output():
            name = old.name
            new = ir.Value(name=name, type=old.type, shape=ir.Shape([*shape[:axis], size, *shape[axis + 1:]]))
            constants = edits.cut(f"{name}", [(axis, start, start + size, 1)])
            edits.graph.insert_before(node, ir.node("Slice", [node.inputs[0], *constants], outputs=[new], name=name))
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            old.name = None
        start += size
    edits.graph.remove(node, safe=True)
    return True


RULE = SplitToSlices()
