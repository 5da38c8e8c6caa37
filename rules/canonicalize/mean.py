"""``ReduceMean(ReduceMean(x, a), b) -> ReduceMean(x, a + b)``, and axes of size 1 join the other spatial ones.

A Reshape behind it where the keepdims differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule, is_operator
from onnxdiana.rules.canonicalize.layout import static
from onnxdiana.rules.canonicalize.reduce_mean import reduced_axes


class MergeMeans(PatternRule):
    """Constant axes off the batch, static shapes."""

    def pattern(self, op: Any) -> Any:
        """Any ReduceMean; what stands in front is looked up in check."""
        return op.ReduceMean(_allow_other_inputs=True, _allow_other_attributes=True, _outputs=["out"])

    @staticmethod
    def _plan(out: ir.Value) -> tuple[ir.Value, list[int], bool, bool] | None:
        """Source, axes, keepdims, and whether a Reshape follows; None where nothing changes."""
        node = PatternRule.node(out)
        axes, x = reduced_axes(node), node.inputs[0]
        shape = static(x)
        if axes is None or x is None or shape is None or static(out) is None:
            return None
        keeps = bool(graph.attribute(node, "keepdims", 1))
        inner = x.producer()
        merges = is_operator(inner, "ReduceMean") and graph.sole_consumer(x) is node
        own = reduced_axes(inner) if inner is not None and merges else None
        if inner is not None and own is not None:
            source = inner.inputs[0]
            assert source is not None
            kept = bool(graph.attribute(inner, "keepdims", 1))
            rest = [i for i in range(len(static(source) or ())) if kept or i not in own]
            outer = [rest[a] for a in axes]
            union = sorted({*own, *outer})
            same = kept == keeps or (kept and set(own) <= set(outer))
            return source, union, keeps if same else True, not same
        spatial = list(range(2, len(shape)))
        if set(axes) < set(spatial) and all(shape[a] == 1 for a in spatial if a not in axes):
            return x, spatial, True, not keeps
        return None

    def check(self, op: Any, out: ir.Value, **_: Any) -> bool:
        """Two means in a row, the first read by nothing else, or spatial axes of size 1 left out."""
        return self._plan(out) is not None

    def rewrite(self, op: Any, out: ir.Value, **_: Any) -> ir.Value:
        """One mean."""
        plan, sizes = self._plan(out), static(out)
        assert plan is not None
        assert sizes is not None
        x, axes, keeps, reshapes = plan
        given = self.constant(out, f"{out.name}.axes", np.array(axes, dtype=np.int64))
        if not reshapes:
            return self.build(op, "ReduceMean", [x, given], out, keepdims=int(keeps))
        name = self.unique(f"{out.name}.mean")
        value = op.op("ReduceMean", x, given, _outputs=[name], _name=name, keepdims=1)
        return self.build(op, "Reshape", [value, self.target(out, f"{out.name}", sizes[1:])], out)


RULE = MergeMeans("mean")
