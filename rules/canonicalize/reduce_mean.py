"""``ReduceMean(x, axes = all spatial) -> GlobalAveragePool(x)``, followed by Flatten where keepdims = 0."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule, is_constant


class ReduceMeanToPool(PatternRule):
    """On (N, C, ...) over every axis behind the channels."""

    def pattern(self, op: Any, x: Any) -> Any:
        """Any ReduceMean."""
        return op.ReduceMean(x, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["out"])

    def check(self, op: Any, x: ir.Value, out: ir.Value, **_: Any) -> bool:
        """Constant axes that are exactly the spatial ones."""
        node, shape = self.node(out), graph.dims(x)
        axes = node.inputs[1] if len(node.inputs) > 1 else None
        if not is_constant(axes) or shape is None or len(shape) < 3:
            return False
        return sorted(int(a) % len(shape) for a in graph.required_constant(axes)) == list(range(2, len(shape)))

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value, **_: Any) -> ir.Value:
        """The pool, and what keepdims asks for."""
        if graph.attribute(self.node(out), "keepdims", 1):
            return self.build(op, "GlobalAveragePool", [x], out)
        name = self.unique(f"{out.name}.pooled")
        pooled = op.op("GlobalAveragePool", x, _outputs=[name], _name=name)
        return self.build(op, "Flatten", [pooled], out, axis=1)


RULE = ReduceMeanToPool("reduce_mean")
