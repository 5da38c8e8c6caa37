"""``Conv(Pad(x, zeros)) -> Conv(x)`` with the padding in its pads; every other mode stays an explicit Pad."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule, is_constant, is_operator
from onnxdiana.rules.ops.pad import full_pads


def pads_zeros(node: ir.Node) -> bool:
    """Whether a node is a Pad by constant zeros."""
    if not is_operator(node, "Pad") or graph.attribute(node, "mode", "constant") != "constant":
        return False
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return value is None or (is_constant(value) and not graph.required_constant(value).any())


class PadIntoConv(PatternRule):
    """Zero padding of the spatial axes only."""

    def pattern(self, op: Any) -> Any:
        """Any Conv; the Pad in front is looked up in check, since other nodes may read it too."""
        return op.Conv(_allow_other_inputs=True, _allow_other_attributes=True, _outputs=["out"])

    @staticmethod
    def _pad(out: ir.Value) -> ir.Node | None:
        source = PatternRule.node(out).inputs[0]
        producer = source.producer() if source is not None else None
        return producer if is_operator(producer, "Pad") else None

    def check(self, op: Any, out: ir.Value, **_: Any) -> bool:
        """Constant zeros, nothing but spatial axes, in front of explicit pads."""
        node = self._pad(out)
        if node is None or not pads_zeros(node):
            return False
        if graph.attribute(self.node(out), "auto_pad", "NOTSET") != "NOTSET":
            return False
        if not is_constant(node.inputs[1], *(v for v in node.inputs[3:] if v is not None)):
            return False
        pads = full_pads(node)
        if pads is None or min(pads) < 0:
            return False
        rank = len(pads) // 2
        return not any(pads[i] or pads[rank + i] for i in (0, 1))

    def rewrite(self, op: Any, out: ir.Value, **_: Any) -> ir.Value:
        """Sum of both paddings."""
        pad, conv = self._pad(out), self.node(out)
        assert pad is not None
        full = full_pads(pad)
        assert full is not None
        rank = len(full) // 2
        extra = full[2:rank] + full[rank + 2:]
        own = graph.attribute(conv, "pads", [0] * len(extra))
        attributes = {k: v for k, v in conv.attributes.items() if k != "pads"}
        pads = [a + b for a, b in zip(own, extra, strict=True)]
        return self.build(op, "Conv", [pad.inputs[0], *conv.inputs[1:]], out, pads=pads, **attributes)


RULE = PadIntoConv("pad")
