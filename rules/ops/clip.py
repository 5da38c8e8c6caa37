"""Relu and Clip: bounds that the requantizer in front takes over, or a clip of the codes where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Codes, Operator, T


class Clip(Operator):
    """``min(max(x, lo), hi)``; in the integer graph attributes ``lo`` and ``hi`` hold the bounds in codes."""

    op_type = "Clip"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Bounds are constants."""
        for value in node.inputs[1:]:
            if value is not None and graph.constant(value) is None:
                yield "a bound is computed in the graph; make it a constant"
            elif value is not None and graph.required_constant(value).size != 1:
                yield f"a bound has {graph.required_constant(value).size} values; one for all channels is quantized"

    def bounds(self, node: ir.Node) -> tuple[float, float] | None:
        """Second and third input, infinite where absent."""
        lo, hi = (graph.constant(v) for v in [*node.inputs, None, None][1:3])
        return -math.inf if lo is None else float(lo.item()), math.inf if hi is None else float(hi.item())

    def pointwise(self, node: ir.Node) -> bool:
        """With constant bounds."""
        return all(v is None or graph.constant(v) is not None for v in node.inputs[1:])

    def real(self, node: ir.Node, inputs: Sequence[Any]) -> Array:
        """The input between its bounds; the upper one wins, as in ONNX."""
        bounds = self.bounds(node)
        assert bounds is not None
        return np.asarray(np.minimum(np.maximum(inputs[0], bounds[0]), bounds[1]))

    def code_range(self, node: ir.Node, inputs: Sequence[Codes]) -> Codes:
        """The input's range, clipped."""
        lo, hi = graph.attribute(node, "lo"), graph.attribute(node, "hi")
        (a, b), = inputs
        return min(max(a, lo), hi), min(max(b, lo), hi)

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Clip of the codes."""
        return np.clip(inputs[0], graph.attribute(node, "lo"), graph.attribute(node, "hi"))

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Clip on int8."""
        bounds = [emitter.constant(f"{output}.{side}", np.array(graph.attribute(node, side), np.int8))
                  for side in ("lo", "hi")]
        return emitter.add("Clip", [inputs[0], *bounds], output)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Relu on codes, which is all the dialect has."""
        return emitter.add("Relu", list(inputs), output)

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """A bound behind something that is not a layer can only be a Relu."""
        if (graph.attribute(node, "lo"), graph.attribute(node, "hi")) != (0, 127):
            yield "a clip with an upper bound that follows no layer; put it directly behind a Conv, Linear or Add"


class Relu(Clip):
    """``max(x, 0)``."""

    op_type = "Relu"

    def bounds(self, node: ir.Node) -> tuple[float, float] | None:
        """Zero and infinity."""
        return 0.0, math.inf


OPERATORS = [Clip(), Relu()]
