"""``Clip(x, 0, inf) -> Relu(x)``; Max and Min with numbers, bounds of bounds, LeakyRelu and PRelu of 0 or 1 likewise.

A bound that is infinite, or float32's largest number, is none. One slope for all channels is a LeakyRelu's.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import is_constant, is_operator
from onnxdiana.rules.canonicalize.edits import Edits

_NONE = 3e38  # exporters write float32's largest number for no bound
_Bounds = tuple[float, float]


class NormalizeBounds:
    """A plain loop; a bound read by another one alone is part of it."""

    name = "clip"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of nodes that became another one."""
        edits, count = Edits(model.graph), 0
        for node in list(model.graph):
            if is_operator(node, "Clip", "Relu", "Max", "Min"):
                count += _bound(node, edits)
            elif is_operator(node, "LeakyRelu", "PRelu"):
                count += _slope(node, edits)
        return count


def _bounds(node: ir.Node | None) -> tuple[ir.Value, _Bounds] | None:
    """What is clipped, and its bounds; None where they are not two numbers."""
    if node is None or not is_operator(node, "Clip", "Relu", "Max", "Min") or node.inputs[0] is None:
        return None
    if node.op_type == "Relu":
        return node.inputs[0], (0.0, math.inf)
    if node.op_type == "Clip":
        lower, upper = [*node.inputs, None, None][1:3]
        lo, hi = _number(lower, -math.inf), _number(upper, math.inf)
        return None if lo is None or hi is None else (node.inputs[0], (lo, hi))
    active = [v for v in node.inputs if not is_constant(v)]
    limits = [_number(v, math.nan) for v in node.inputs if is_constant(v)]
    if len(active) != 1 or active[0] is None or None in limits:
        return None
    ranks = [graph.dims(v) for v in (active[0], node.outputs[0])]
    if ranks[0] is None or ranks[0] != ranks[1]:
        return None  # a constant of more axes, which the result would have
    given = [limit for limit in limits if limit is not None]
    return active[0], ((max(given, default=-math.inf), math.inf) if node.op_type == "Max"
                       else (-math.inf, min(given, default=math.inf)))


def _number(value: ir.Value | None, absent: float) -> float | None:
    """A constant float of size 1; infinite where it is as good as that."""
    if value is None:
        return absent
    if not is_constant(value):
        return None
    array = graph.required_constant(value)
    if array.size != 1 or array.dtype != np.float32 or np.isnan(array).any():
        return None
    number = float(array.item())
    return math.copysign(math.inf, number) if abs(number) >= _NONE else number


def _bound(node: ir.Node, edits: Edits) -> bool:
    own = _bounds(node)
    if own is None:
        return False
    x, (lo, hi) = own
    inner = _bounds(x.producer()) if graph.sole_consumer(x) is node else None
    if inner is not None:  # as ONNX: the upper bound wins
        x, limits = inner
        lo, hi = (min(max(bound, lo), hi) for bound in limits)
    form = "Relu" if (lo, hi) == (0.0, math.inf) else "Identity" if (lo, hi) == (-math.inf, math.inf) else "Clip"
    if lo == math.inf or hi == -math.inf or (inner is None and form == node.op_type and (
            form == "Relu" or _is_written(node, lo, hi))):
        return False
    if form != "Clip":
        edits.become(node, form, [x])
        return True
    name = node.outputs[0].name
    ends = [None if math.isinf(bound) else edits.constant(f"{name}.{role}", np.array(bound, np.float32))
            for bound, role in ((lo, "lo"), (hi, "hi"))]
    edits.become(node, "Clip", [x, *ends])
    return True


def _is_written(node: ir.Node, lo: float, hi: float) -> bool:
    """Whether a Clip has no bound that is none."""
    lower, upper = [*node.inputs, None, None][1:3]
    return (lower is None) == (lo == -math.inf) and (upper is None) == (hi == math.inf)


def _slope(node: ir.Node, edits: Edits) -> bool:
    if node.op_type == "LeakyRelu":
        alpha = graph.attribute(node, "alpha", 0.01)
        if alpha not in (0.0, 1.0):
            return False
        edits.become(node, "Relu" if alpha == 0.0 else "Identity", node.inputs)
        return True
    slope = node.inputs[1]
    values = np.unique(graph.required_constant(slope)) if is_constant(slope) else np.zeros(0)
    if len(values) != 1 or values.dtype != np.float32 or np.isnan(values).any():
        return False
    alpha = float(values[0])
    form = {0.0: "Relu", 1.0: "Identity"}.get(alpha, "LeakyRelu")
    edits.become(node, form, node.inputs[:1], **({"alpha": alpha} if form == "LeakyRelu" else {}))
    return True


RULE = NormalizeBounds()
