"""``layer(k * x + o) -> layer'(x)``: what nothing but layers read, and Mul and Add by constants make, goes into these.

Conv: ``w[m,c] * k[c]`` and ``b[m] + sum over c, i of w[m,c,i] * o[c]``; an offset only where no padding would see it.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.expressions import table_nodes
from onnxdiana.rules.canonicalize.base import (
    CANONICAL_GEMM,
    Array,
    gemm_form,
    is_constant,
    is_operator,
    optional_bias,
)
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import move_of, static
from onnxdiana.rules.canonicalize.pad import pads_zeros
from onnxdiana.rules.ops.pad import full_pads


@dataclass(frozen=True)
class Affine:
    """``k * x + o``, computed by nodes that nothing else reads."""

    source: ir.Value
    factor: Array
    """(C,), float64."""
    offset: Array
    """(C,), float64."""
    nodes: tuple[ir.Node, ...]
    """The last one first."""


def per_channel(array: Array, shape: tuple[int, ...]) -> Array | None:
    """A float constant next to a tensor of this shape as (C,) in float64; None where it varies otherwise."""
    rank = len(shape)
    if rank < 2 or array.ndim > rank or array.dtype != np.float32 or not np.isfinite(array).all():
        return None
    sizes = (1,) * (rank - array.ndim) + array.shape
    if any(d != 1 for axis, d in enumerate(sizes) if axis != 1) or sizes[1] not in (1, shape[1]):
        return None
    return np.broadcast_to(array.reshape(-1).astype(np.float64), shape[1:2])


def step(node: ir.Node | None) -> Affine | None:
    """What a Mul or Add by one constant, or by one a channel, computes."""
    if node is None or not is_operator(node, "Mul", "Add"):
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        shape = static(x)
        if x is None or shape is None or is_constant(x) or not is_constant(other):
            continue
        vector = per_channel(graph.required_constant(other), shape)
        if vector is not None:
            one, zero = np.ones_like(vector), np.zeros_like(vector)
            return Affine(x, vector, zero, (node,)) if node.op_type == "Mul" else Affine(x, one, vector, (node,))
    return None


def chain(node: ir.Node, apart: Container[ir.Node] = ()) -> Affine | None:
    """The longest chain of such nodes that ends in this one; None where it goes on behind, or there is none.

    Args:
        apart: nodes that are something else.
    """
    last = step(node) if node not in apart else None
    behind = graph.sole_consumer(node.outputs[0])
    if last is None or (behind is not None and behind not in apart and step(behind) is not None):
        return None
    source, factor, offset, nodes = last.source, last.factor, last.offset, [node]
    while graph.sole_consumer(source) is nodes[-1] and (front := source.producer()) is not None and front not in apart:
        inner = step(front)
        if inner is None:
            break
        factor, offset = factor * inner.factor, offset + factor * inner.offset
        source = inner.source
        nodes.append(front)
    return Affine(source, factor, offset, tuple(nodes))


class FoldAffine:
    """A plain loop over the ends of chains; factors pass what is homogeneous, offsets what is linear."""

    name = "affine"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of chains that went away."""
        ends = [node for node in model.graph if is_operator(node, "Mul", "Add") and step(node) is not None]
        if not ends:
            return 0
        apart, edits, count = table_nodes(model.graph), Edits(model.graph), 0
        for node in ends:
            found = chain(node, apart)
            layers = None if found is None else _layers(node.outputs[0], found)
            if found is None or not layers:
                continue
            for layer, repeat in layers:
                _fold(layer, np.repeat(found.factor, repeat), np.repeat(found.offset, repeat), edits)
            node.outputs[0].replace_all_uses_with(found.source)
            count += 1
        return count


def _layers(value: ir.Value, affine: Affine) -> list[tuple[ir.Node, int]] | None:
    """The layers that read a tensor, and how many of their channels one of its channels is; None for other readers."""
    found: list[tuple[ir.Node, int]] = []
    stack = [(value, 1)]
    while stack:
        value, repeat = stack.pop()
        uses = list(value.uses())
        if value.is_graph_output() or not uses or any(use.idx != 0 for use in uses):
            return None
        for use in uses:
            if is_operator(use.node, "Conv", "Gemm"):
                if not _takes(use.node, bool(affine.offset.any())):
                    return None
                found.append((use.node, repeat))
                continue
            own = _passes(use.node, affine) if repeat == 1 else None
            if own is None:
                return None
            stack.append((use.node.outputs[0], own))
    return found


def _takes(layer: ir.Node, shifted: bool) -> bool:
    """Whether a layer has constants to fold into, and no padding that would see an offset."""
    weight, bias = layer.inputs[1], optional_bias(layer)
    if not is_constant(weight) or (bias is not None and not is_constant(bias)):
        return False
    if layer.op_type == "Gemm":
        flat = bias is None or graph.required_constant(bias).shape == graph.required_constant(weight).shape[:1]
        return flat and gemm_form(layer) == CANONICAL_GEMM
    padded = any(graph.attribute(layer, "pads", [])) or graph.attribute(layer, "auto_pad", "NOTSET") != "NOTSET"
    return not (shifted and padded)


def _passes(node: ir.Node, affine: Affine) -> int | None:
    """How many channels of its output one of its input is, for an operator that may be applied before the affine."""
    shifted, positive = bool(affine.offset.any()), bool((affine.factor > 0.0).all())
    if keeps_channels(node, positive=positive, shifted=shifted):
        return 1
    move = move_of(node)
    if move is not None:
        return math.prod(move.before[2:]) if node.op_type == "Flatten" else None
    return 1 if is_operator(node, "Pad") and _pads_alike(node, shifted) else None


def keeps_channels(node: ir.Node, *, positive: bool, shifted: bool) -> bool:
    """Whether an affine of every channel is the same in front of an operator and behind it.

    Args:
        positive: all factors are.
        shifted: there are offsets.
    """
    move = move_of(node)
    if move is not None:
        return move.axis(0) == 0 and move.axis(1) == 1 and move.before[1] == move.after[1]
    if is_operator(node, "GlobalAveragePool"):
        return True
    bounded = is_operator(node, "MaxPool") or (is_operator(node, "Relu") and not shifted)
    return bounded and positive and len(node.outputs) == 1


def _pads_alike(node: ir.Node, shifted: bool) -> bool:
    """Whether a Pad of the map repeats its values, or adds zeros, which an offset would change."""
    full = full_pads(node)
    if full is None or any(full[axis] or full[len(full) // 2 + axis] for axis in (0, 1)):
        return False
    if graph.attribute(node, "mode", "constant") != "constant":
        return True
    return not shifted and pads_zeros(node)


def _fold(layer: ir.Node, factor: Array, offset: Array, edits: Edits) -> None:
    """Give a layer the weights with which it reads ``x`` instead of ``factor * x + offset``."""
    weight, bias = layer.inputs[1], optional_bias(layer)
    w = graph.required_constant(weight).astype(np.float64)
    groups = graph.attribute(layer, "group", 1) if layer.op_type == "Conv" else 1

    def own(vector: Array) -> Array:
        """Of the input channels that an output channel sees: (M, C / groups, 1, ...)."""
        each = np.repeat(vector.reshape(groups, -1), len(w) // groups, axis=0)
        return each.reshape(*each.shape, *(1,) * (w.ndim - 2))

    shift = (w * own(offset)).reshape(len(w), -1).sum(axis=1)
    edits.set_constant(layer, 1, "", w * own(factor))
    if offset.any():
        b = 0.0 if bias is None else graph.required_constant(bias).astype(np.float64)
        edits.set_constant(layer, 2, f"{graph.name_of(layer.inputs[1])}.bias", b + shift)  # type: ignore[arg-type]


RULE = FoldAffine()
