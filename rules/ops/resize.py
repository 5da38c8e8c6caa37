"""Resize to the nearest element, by whole factors: every code of the map is repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Operator, T

FORM = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""Attributes of the canonical form."""


class Resize(Operator):
    """``y[n,c,i,j] = x[n,c,i div s,j div t]``; canonical: nearest, asymmetric, floor, constant scales."""

    op_type = "Resize"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """The canonical form, to which every nearest Resize of a static map comes."""
        mode = graph.attribute(node, "mode", "nearest")
        if mode != "nearest":
            yield f"{mode} interpolation; use mode='nearest', or a depthwise Conv behind it"
            return
        form = [graph.attribute(node, "coordinate_transformation_mode", "half_pixel"),
                graph.attribute(node, "nearest_mode", "round_prefer_floor")]
        scales = graph.constant(node.inputs[2]) if len(node.inputs) == 3 and node.inputs[1] is None else None
        if scales is None or form != ["asymmetric", "floor"] or "axes" in node.attributes:
            yield "its sizes are computed in the graph, crop, or resize the batch; scale the map by a constant factor"
        elif not ((scales >= 1.0) & (scales == np.rint(scales))).all() or (scales[:2] != 1.0).any():
            yield f"scales {scales.tolist()}; use whole factors, and 1 for batch and channels"

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """numpy's repeat, axis by axis."""
        result = inputs[0]
        for axis, factor in enumerate(_factors(node)):
            result = np.repeat(result, factor, axis=axis)
        return result

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Resize on int8."""
        empty = emitter.constant(f"{output}.roi", np.zeros(0, np.float32))
        scales = emitter.constant(f"{output}.scales", np.array(_factors(node), np.float32))
        return emitter.add("Resize", [inputs[0], empty, scales], output, **FORM)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Resize of opset 13 to constant sizes: a CPU operator."""
        empty = [emitter.constant(f"{output}.{role}", np.zeros(0, np.float32)) for role in ("roi", "scales")]
        sizes = np.array([1, *graph.sample_shape(node.outputs[0])], np.int64)
        return emitter.add("Resize", [inputs[0], *empty, emitter.constant(f"{output}.sizes", sizes)], output, **FORM)

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """TVM's resize2d."""
        if len(graph.sample_shape(self.codes(node)[0])) != 3:
            yield "HTVM resizes 2-d maps only; write it as a 2-d map with an axis of size 1"


def _factors(node: ir.Node) -> list[int]:
    """Of every axis."""
    return [int(scale) for scale in graph.required_constant(node.inputs[2])]


OPERATOR = Resize()
