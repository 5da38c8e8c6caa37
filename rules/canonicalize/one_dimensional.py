"""``f(x) -> Reshape(f'(Reshape(x)))``: convolution and pooling of (N, C, L) as those of (N, C, 1, L)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import PatternRule, is_constant
from onnxdiana.rules.canonicalize.layout import static

_REST = {"_allow_other_inputs": True, "_allow_other_attributes": True, "_outputs": ["out"]}
_WINDOW = {"kernel_shape": 1, "strides": 1, "dilations": 1}
"""Attributes with one value a spatial axis, and the value that does nothing."""


class RaiseToTwoDimensions(PatternRule):
    """With explicit pads and constant weights."""

    def patterns(self) -> Sequence[Callable[..., Any]]:
        """The four operators that work on maps."""
        return [self.pattern, lambda op: op.MaxPool(**_REST), lambda op: op.AveragePool(**_REST),
                lambda op: op.GlobalAveragePool(**_REST)]

    def pattern(self, op: Any) -> Any:
        """Any Conv."""
        return op.Conv(**_REST)

    def check(self, op: Any, out: ir.Value, **_: Any) -> bool:
        """One spatial axis; auto_pad is resolved, and indices of a MaxPool are not read."""
        node = self.node(out)
        before, after = static(node.inputs[0]), static(out)
        if before is None or after is None or len(before) != 3:
            return False
        if graph.attribute(node, "auto_pad", "NOTSET") != "NOTSET" or any(v.uses() for v in node.outputs[1:]):
            return False
        return len(node.outputs) == 1 and (node.op_type != "Conv" or is_constant(node.inputs[1]))

    def rewrite(self, op: Any, out: ir.Value, **_: Any) -> ir.Value:
        """The same with a second axis of size 1 in front of the spatial one."""
        node = self.node(out)
        before, after = static(node.inputs[0]), static(out)
        assert before is not None
        assert after is not None
        inputs = list(node.inputs)
        attributes: dict[str, Any] = dict(node.attributes)
        for name, neutral in _WINDOW.items():
            if name in attributes:
                attributes[name] = [neutral, *graph.attribute(node, name)]
        if "pads" in attributes:
            begin, end = graph.attribute(node, "pads")
            attributes["pads"] = [0, begin, 0, end]
        if node.op_type == "Conv":
            weight = inputs[1]
            assert weight is not None
            inputs[1] = self.changed(out, weight, graph.required_constant(weight)[:, :, None])
        inputs[0] = self._reshape(op, inputs[0], [before[1], 1, before[2]], f"{out.name}.map", out)
        inner = self.unique(f"{out.name}.mapped")
        value = op.op(node.op_type, *inputs, _outputs=[inner], _name=inner, **attributes)
        return self.build(op, "Reshape", [value, self.target(out, f"{out.name}", after[1:])], out)

    def _reshape(self, op: Any, x: ir.Value | None, sizes: list[int], name: str, out: ir.Value) -> ir.Value:
        target = self.target(out, name, sizes)
        name = self.unique(name)
        value: ir.Value = op.op("Reshape", x, target, _outputs=[name], _name=name)
        return value


RULE = RaiseToTwoDimensions("one_dimensional")
