"""``k * x + o -> Conv(x, k, o)``, one group of size 1 a channel: a chain of factors and offsets that no layer takes.

Features (N, C) become a map of one point for it: Reshape to (N, C, 1, 1), Conv, Flatten. So does a tensor of any shape
whose elements have constants of their own. What is part of a table of codes, or stands in the float tail, stays.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.expressions import table_nodes
from onnxdiana.rules.canonicalize.affine import chain, step
from onnxdiana.rules.canonicalize.base import Array, is_constant, is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static
from onnxdiana.tail import tail_nodes

_LARGEST = 2**16
"""Elements of a sample with constants of their own, at most: each becomes a channel."""


class LowerAffine:
    """On features (N, C), and on maps (N, C, ...) with 1 to 3 spatial axes."""

    name = "affine_alone"
    last_resort = True
    """Applied in rounds in which no other rule finds anything to do."""

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of chains."""
        nodes = [node for node in model.graph if is_operator(node, "Mul", "Add")]
        ends = [node for node in nodes if step(node) is not None]
        others = {node: varying for node in nodes if (varying := _varying(node)) is not None}
        if not ends and not others:
            return 0
        tables, tail = table_nodes(model.graph), tail_nodes(model.graph, {*ends, *others})
        edits, count = Edits(model.graph), 0
        for node in ends:
            found = chain(node, tables)
            if found is None or found.source.producer() in tail:
                continue
            shape = static(found.source)
            if shape is not None and len(shape) <= 5:
                _lower(node, found.source, found.factor, found.offset, edits, features=len(shape) == 2)
                count += 1
        for node, (x, values) in others.items():
            if node not in tables and node not in tail:
                one, zero = np.ones_like(values), np.zeros_like(values)
                factor, offset = (values, zero) if node.op_type == "Mul" else (one, values)
                _lower(node, x, factor, offset, edits, features=True)
                count += 1
        return count


def _varying(node: ir.Node) -> tuple[ir.Value, Array] | None:
    """The tensor, and the constant of each of its elements in one sample, where these are no constants a channel."""
    if step(node) is not None:
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        shape = static(x)
        if x is None or shape is None or is_constant(x) or not is_constant(other):
            continue
        array = graph.required_constant(other)
        sample = (1, *shape[1:])
        if (len(shape) > 1 and array.dtype == np.float32 and np.isfinite(array).all() and math.prod(sample) <= _LARGEST
                and array.ndim <= len(sample) and np.broadcast_shapes(array.shape, shape) == shape
                and (array.ndim < len(sample) or array.shape[0] == 1)):
            return x, np.broadcast_to(array, sample).reshape(-1).astype(np.float64)
    return None


def _lower(node: ir.Node, x: ir.Value, factor: Array, offset: Array, edits: Edits, *, features: bool) -> None:
    """A depthwise convolution of size 1 in the place of a node, of its source's channels or of all its elements.

    Args:
        factor, offset: one a channel.
        features: the elements of a sample are the channels, on a map of one point.
    """
    shape, name = static(x), node.outputs[0].name
    assert shape is not None
    ones = [1] * (2 if features else len(shape) - 2)
    with np.errstate(over="ignore"):
        weight = edits.constant(f"{name}.weight", factor.reshape(-1, 1, *ones).astype(np.float32))
        bias = edits.constant(f"{name}.bias", offset.astype(np.float32))
    attributes = {"group": len(factor), "kernel_shape": ones, "strides": ones, "pads": [0, 0] * len(ones),
                  "dilations": ones}
    if not features:
        edits.become(node, "Conv", [x, weight, bias], **attributes)
        return
    point = (shape[0], len(factor), 1, 1)
    # the way back is a Flatten, without a target, or has the plain name
    target = edits.target(f"{name}" if len(shape) == 2 else f"{name}.point", point)
    x = edits.in_front(node, "Reshape", [x, target], "point", point)
    y = edits.in_front(node, "Conv", [x, weight, bias], "affine", point, **attributes)
    edits.become_reshape(node, y, shape)


RULE = LowerAffine()
