"""``k * x + o -> Conv(x, k, o)``, one group of size 1 a channel: a chain of factors and offsets that no layer takes.

Features (N, C) become a map of one point for it: Reshape to (N, C, 1, 1), Conv, Flatten. What is part of a table of
codes, or stands in the float tail, stays as it is.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxdiana.rules.canonicalize.affine import Affine, chain, step
from onnxdiana.rules.canonicalize.base import is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import static


class LowerAffine:
    """On features (N, C), and on maps (N, C, ...) with 1 to 3 spatial axes."""

    name = "affine_alone"
    last_resort = True
    """Applied in rounds in which no other rule finds anything to do."""

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of chains."""
        ends = [node for node in model.graph if is_operator(node, "Mul", "Add") and step(node) is not None]
        if not ends:
            return 0
        from onnxdiana.expressions import table_nodes  # it knows the operators, which know the rules' helpers
        from onnxdiana.tail import tail_nodes

        tables, tail = table_nodes(model.graph), tail_nodes(model.graph)
        edits, count = Edits(model.graph), 0
        for node in ends:
            found = chain(node, tables)
            if found is None or found.source.producer() in tail:
                continue
            shape = static(found.source)
            if shape is not None and len(shape) <= 5:
                _lower(node, found, shape, edits)
                count += 1
        return count


def _lower(node: ir.Node, affine: Affine, shape: tuple[int, ...], edits: Edits) -> None:
    """A depthwise convolution of size 1 in the place of a chain's last node."""
    result, features = node.outputs[0], len(shape) == 2
    ones = [1] * (2 if features else len(shape) - 2)
    with np.errstate(over="ignore"):
        weight = edits.constant(f"{result.name}.weight", affine.factor.reshape(-1, 1, *ones).astype(np.float32))
        bias = edits.constant(f"{result.name}.bias", affine.offset.astype(np.float32))
    attributes = {"group": shape[1], "kernel_shape": ones, "strides": ones, "pads": [0, 0] * len(ones),
                  "dilations": ones}
    if not features:
        edits.become(node, "Conv", [affine.source, weight, bias], **attributes)
        return
    target = edits.constant(f"{result.name}.shape", np.array([0, shape[1], 1, 1], dtype=np.int64))
    point = (*shape, 1, 1)
    x = edits.in_front(node, "Reshape", [affine.source, target], "point", point)
    y = edits.in_front(node, "Conv", [x, weight, bias], "affine", point, **attributes)
    edits.become(node, "Flatten", [y], axis=1)


RULE = LowerAffine()
