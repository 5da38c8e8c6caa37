"""``Reshape | Squeeze | Unsqueeze | Flatten (N, ...) -> Flatten`` to (N, rest), else Reshape to (0, sizes)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule, is_constant
from onnxdiana.rules.canonicalize.layout import static

_REST = {"_allow_other_inputs": True, "_allow_other_attributes": True, "_outputs": ["out"]}


class ReshapeKeepsBatch(PatternRule):
    """Static shapes (the batch too, at this stage) whose first axis stays the same."""

    def patterns(self) -> Sequence[Callable[..., Any]]:
        """All four spellings."""
        return [self.pattern, lambda op, x: op.Squeeze(x, **_REST), lambda op, x: op.Unsqueeze(x, **_REST),
                lambda op, x: op.Flatten(x, **_REST)]

    def pattern(self, op: Any, x: Any) -> Any:
        """Any Reshape."""
        return op.Reshape(x, **_REST)

    @staticmethod
    def _shapes(out: ir.Value) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        before, after = static(PatternRule.node(out).inputs[0]), static(out)
        return None if before is None or after is None else (before, after)

    def check(self, op: Any, x: ir.Value, out: ir.Value, **_: Any) -> bool:
        """Known shapes, batch first, and not yet in the wanted form."""
        shapes, node = self._shapes(out), self.node(out)
        if shapes is None or not shapes[0] or not shapes[1] or shapes[0][0] != shapes[1][0]:
            return False
        if node.op_type == "Flatten":
            given = graph.attribute(node, "axis", 1)
            axis = given + len(shapes[0]) if given < 0 else given
            return given != 1 and axis > 0 and set(shapes[0][1:axis]) <= {1}
        if node.op_type != "Reshape":
            return not _moves_batch(node, *shapes)
        target = node.inputs[1]
        if target is None or target.is_graph_input():
            return False
        return (len(shapes[1]) == 2 or not is_constant(target)
                or graph.required_constant(target).tolist() != [0, *shapes[1][1:]])

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value, **_: Any) -> ir.Value:
        """Flatten for two axes, else Reshape to (0, sizes)."""
        shapes = self._shapes(out)
        assert shapes is not None
        if len(shapes[1]) == 2:
            return self.build(op, "Flatten", [x], out, axis=1)
        return self.build(op, "Reshape", [x, self.target(out, f"{out.name}", shapes[1][1:])], out)


def _moves_batch(node: ir.Node, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a Squeeze or Unsqueeze takes away or adds a first axis, which a batch of 1 would hide."""
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is None:
        return False  # then no first axis of size 1 is left that could be taken for the batch
    rank = max(len(before), len(after))
    return not is_constant(axes) or any(int(a) % rank == 0 for a in graph.required_constant(axes))


RULE = ReshapeKeepsBatch("reshape")
