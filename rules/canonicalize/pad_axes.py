"""``Pad(x, pads, value, axes) -> Pad(x, pads of every axis, value)``."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxdiana.rules.canonicalize.base import is_constant, is_operator
from onnxdiana.rules.canonicalize.moves import Editor
from onnxdiana.rules.ops.pad import full_pads


class PadEveryAxis:
    """A plain loop over Pads that name their axes, and know their rank."""

    name = "pad_axes"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        editor, count = Editor(model.graph), 0
        for node in model.graph:
            if not is_operator(node, "Pad") or len(node.inputs) < 4 or not is_constant(*node.inputs[1::2]):
                continue
            pads = full_pads(node)
            if pads is None:
                continue
            editor.set_input(node, 1, np.array(pads, np.int64))
            node.resize_inputs(3 if node.inputs[2] is not None else 2)
            count += 1
        return count


RULE = PadEveryAxis()
