"""``auto_pad -> pads`` on Conv, MaxPool and AveragePool: SAME_UPPER, SAME_LOWER and VALID for the static map."""

from __future__ import annotations

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_constant, is_operator


class ExplicitPads:
    """A plain loop over nodes with the attribute."""

    name = "auto_pad"

    def apply(self, model: ir.Model) -> int:
        """Replace the attribute in place."""
        count = 0
        for node in model.graph:
            if "auto_pad" not in node.attributes or not is_operator(node, "Conv", "MaxPool", "AveragePool"):
                continue
            pads = None
            if graph.attribute(node, "auto_pad") != "NOTSET":
                pads = _pads(node)
                if pads is None:
                    continue
                node.attributes["pads"] = ir.AttrInt64s("pads", pads)
            del node.attributes["auto_pad"]
            count += 1
        return count


def _pads(node: ir.Node) -> list[int] | None:
    """Begins, then ends, of every spatial axis; None where they are not known."""
    mode, kernel = graph.attribute(node, "auto_pad"), graph.attribute(node, "kernel_shape")
    if kernel is None and len(node.inputs) > 1 and is_constant(node.inputs[1]):
        kernel = list(graph.required_constant(node.inputs[1]).shape[2:])
    if kernel is None:
        return None
    if mode == "VALID":
        return [0] * 2 * len(kernel)
    shape = graph.dims(node.inputs[0])
    strides = graph.attribute(node, "strides", [1] * len(kernel))
    dilations = graph.attribute(node, "dilations", [1] * len(kernel))
    if shape is None or mode not in ("SAME_UPPER", "SAME_LOWER") or len(shape) != len(kernel) + 2:
        return None
    begins, ends = [], []
    for size, k, stride, dilation in zip(shape[2:], kernel, strides, dilations, strict=True):
        if size is None:
            return None
        total = (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size
        if node.op_type != "Conv" and (dilation != 1 or total < 0):
            return None  # onnxruntime departs from the standard there
        total = max(0, total)
        begins.append(total // 2 if mode == "SAME_UPPER" else -(-total // 2))
        ends.append(total - begins[-1])
    return begins + ends


RULE = ExplicitPads()
