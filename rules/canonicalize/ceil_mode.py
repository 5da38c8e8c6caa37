"""``pool(x, ceil_mode = 1) -> pool(x)``, the last windows as padding at the end; those that start there do not count.

ONNX's shape inference counts them, onnxruntime and torch do not: what stands behind such a pool gets its shape here.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxdiana import graph, numerics
from onnxdiana.rules.canonicalize.base import is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static
from onnxdiana.rules.canonicalize.pooling import Window
from onnxdiana.shapes import infer_shapes


class ResolveCeil:
    """The first rule: a wrong shape would go into the constants that exporters compute from it."""

    name = "ceil_mode"

    def apply(self, model: ir.Model) -> int:
        """Replace the attribute in place; the number of pools."""
        count = 0
        if not any(_rounds_up(node) for node in model.graph):
            return count
        edits = Edits(model.graph)
        while True:
            wrong: set[ir.Value | None] = set()  # tensors whose shapes follow from that of a pool with other sizes
            for node in list(model.graph):
                if any(v in wrong for v in node.inputs):
                    wrong.update(node.outputs)
                    continue
                resolved = _resolve(node, edits) if _rounds_up(node) else None
                if resolved is None:
                    continue
                count += 1
                if graph.dims(node.outputs[0]) != resolved:
                    wrong.update(node.outputs)
            if not wrong:
                return count
            for value in wrong:
                if value is not None:
                    value.shape = None
            infer_shapes(model)


def _rounds_up(node: ir.Node) -> bool:
    return is_operator(node, "MaxPool", "AveragePool") and bool(graph.attribute(node, "ceil_mode", 0))


def _resolve(node: ir.Node, edits: Edits) -> tuple[int, ...] | None:
    """The output's shape without ceil_mode; None where it has to stay."""
    shape, window = static(node.inputs[0]), Window.of(node)
    if shape is None or window is None:
        return None
    n, own = len(window.kernel), window.pads
    pads = numerics.ceil_pads(shape[2:], window.kernel, window.strides, own, window.dilations)
    if any(p >= k for p, k in zip(pads, 2 * window.kernel, strict=True)):
        return None  # onnxruntime has no such padding
    if is_operator(node, "AveragePool") and graph.attribute(node, "count_include_pad", 0) and any(own) and pads != own:
        # zeros that count, then a last window of which what is beyond them does not
        full = [0, 0, *own[:n], 0, 0, *own[n:]]
        shape = (*shape[:2], *(size + own[i] + own[n + i] for i, size in enumerate(shape[2:])))
        padded = edits.pad(node, full, shape)
        node.replace_input_with(0, padded)
        pads = [0] * n + [after - before for after, before in zip(pads[n:], own[n:], strict=True)]
        del node.attributes["count_include_pad"]
    elif is_operator(node, "AveragePool") and pads != own:
        node.attributes.pop("count_include_pad", None)
    del node.attributes["ceil_mode"]
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    return (*shape[:2], *window.sizes(shape[2:], pads))


RULE = ResolveCeil()
