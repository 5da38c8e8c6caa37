"""``AveragePool(x, kernel = the whole map) -> GlobalAveragePool(x)``."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule


class AveragePoolToGlobal(PatternRule):
    """No padding, one window, whatever the strides."""

    def pattern(self, op: Any, x: Any) -> Any:
        """Any AveragePool."""
        return op.AveragePool(x, _allow_other_attributes=True, _outputs=["out"])

    def check(self, op: Any, x: ir.Value, out: ir.Value, **_: Any) -> bool:
        """The kernel covers the map; SAME padding would give one window a stride."""
        node, shape = self.node(out), graph.dims(x)
        return (shape is not None and graph.attribute(node, "kernel_shape") == list(shape[2:])
                and graph.attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
                and not any(graph.attribute(node, "pads", [0])))

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value, **_: Any) -> ir.Value:
        """The global form."""
        return self.build(op, "GlobalAveragePool", [x], out)


RULE = AveragePoolToGlobal("average_pool")
