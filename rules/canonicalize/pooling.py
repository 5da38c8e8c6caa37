"""The geometry of a pooling node, and the depthwise convolution that an average is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxdiana import graph


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
        n = len(kernel)
        return cls(kernel, graph.attribute(node, "strides", [1] * n), graph.attribute(node, "pads", [0] * 2 * n),
                   graph.attribute(node, "dilations", [1] * n))

    def sizes(self, spatial: Sequence[int], pads: Sequence[int]) -> list[int]:
        """Sizes of the output, under these pads."""
        n = len(self.kernel)
        return [(size + pads[i] + pads[n + i] - (self.kernel[i] - 1) * self.dilations[i] - 1) // self.strides[i] + 1
                for i, size in enumerate(spatial)]
