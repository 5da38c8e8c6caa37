"""``Clip(x, 0, inf) -> Relu(x)``, also where the upper bound is absent or float32's largest number."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule, is_constant


class ClipToRelu(PatternRule):
    """A lower bound of zero and no finite upper bound."""

    def pattern(self, op: Any) -> Any:
        """Any Clip."""
        return op.Clip(_allow_other_inputs=True, _outputs=["out"])

    def check(self, op: Any, out: ir.Value, **_: Any) -> bool:
        """Constant bounds, the upper one absent, infinite or about float32's largest, as exporters write it."""
        lo, hi = [*self.node(out).inputs, None, None][1:3]
        if any(v is not None and (not is_constant(v) or graph.required_constant(v).size != 1) for v in (lo, hi)):
            return False
        if lo is None or graph.required_constant(lo).item() != 0.0:
            return False
        return hi is None or graph.required_constant(hi).item() >= 3e38

    def rewrite(self, op: Any, out: ir.Value, **_: Any) -> ir.Value:
        """Relu."""
        return self.build(op, "Relu", [self.node(out).inputs[0]], out)


RULE = ClipToRelu("clip")
