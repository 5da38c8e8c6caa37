"""The geometry of a pooling node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.ops.base import window


@dataclass(frozen=True)
class Window:
    """Kernel, strides, pads (begins, then ends) and dilations of every spatial axis, ONNX's defaults filled in."""

    kernel: list[int]
    strides: list[int]
    pads: list[int]
    dilations: list[int]

    @classmethod
    def of(cls, node: ir.Node) -> Window | None:
        """Of a pooling node with explicit pads; None of any other."""
        kernel = graph.attribute(node, "kernel_shape")
        if kernel is None or graph.attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return None
        return cls(kernel, **window(node, len(kernel)))

    def sizes(self, spatial: Sequence[int], pads: Sequence[int]) -> list[int]:
        """Sizes of the output, under these pads."""
        n = len(self.kernel)
        return [(size + pads[i] + pads[n + i] - (self.kernel[i] - 1) * self.dilations[i] - 1) // self.strides[i] + 1
                for i, size in enumerate(spatial)]
