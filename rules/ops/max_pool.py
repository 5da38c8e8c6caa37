"""MaxPool on codes: the largest code stands for the largest value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx_ir as ir

from onnxdiana import graph, numerics
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Operator, T, window


class MaxPool(Operator):
    """``max over the window``; padding never wins."""

    op_type = "MaxPool"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """One output, explicit pads."""
        if len(node.outputs) > 1 and node.outputs[1].uses():
            yield "the indices output is used; only the pooled values are quantized"
        if graph.attribute(node, "auto_pad", "NOTSET") != "NOTSET":
            yield "auto_pad could not be resolved; export with explicit pads"

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Maximum over each window."""
        return numerics.max_pool(inputs[0], **_geometry(node))

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Without ceil_mode, which TVM reads in another way: its last windows as padding at the end."""
        form = _floor_form(node)
        return emitter.add("MaxPool", list(inputs), output, kernel_shape=form["kernel"], strides=form["strides"],
                           pads=form["pads"], dilations=form["dilations"])

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """TVM's max_pool2d, with padding below the kernel."""
        form = _floor_form(node)
        if len(form["kernel"]) != 2:
            yield "HTVM takes 2-d pooling only"
        elif any(p >= k for p, k in zip(form["pads"], 2 * form["kernel"], strict=True)):
            yield "ceil_mode makes a dilated window of which less than a kernel lies on the map; use ceil_mode=False"


def _geometry(node: ir.Node) -> dict[str, Any]:
    """Arguments of :func:`numerics.max_pool`, with ONNX's defaults filled in."""
    kernel = graph.attribute(node, "kernel_shape")
    return {"kernel": kernel, **window(node, len(kernel)), "ceil_mode": bool(graph.attribute(node, "ceil_mode", 0))}


def _floor_form(node: ir.Node) -> dict[str, Any]:
    """The same pooling without ceil_mode."""
    form = _geometry(node)
    if form.pop("ceil_mode"):
        size = graph.sample_shape(node.inputs[0])[1:] if node.inputs[0] is not None else ()
        form["pads"] = numerics.ceil_pads(size, **form)
    return form


OPERATOR = MaxPool()
