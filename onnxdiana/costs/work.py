"""One layer as the estimates see it: shapes alone, batch 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

KINDS = ("conv", "dense", "add")


@dataclass(frozen=True)
class Work:
    """Shapes of one accelerator layer for one sample.

    A linear layer is a 1x1 convolution of a 1x1 map; an add has as many outputs as inputs.
    """

    kind: str
    """``conv`` (depthwise ones too), ``dense`` or ``add``."""
    inputs: int
    """Input channels or features."""
    outputs: int
    """Output channels or features."""
    input_size: tuple[int, int] = (1, 1)
    """Height and width of the input map."""
    output_size: tuple[int, int] = (1, 1)
    """Height and width of the output map."""
    kernel: tuple[int, int] = (1, 1)
    """Height and width."""
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Above, left, below, right: ONNX's order."""
    groups: int = 1

    @property
    def depthwise(self) -> bool:
        """Whether every output channel reads one input channel of its own."""
        return self.groups > 1 and self.groups == self.inputs == self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates; an add has none."""
        if self.kind == "add":
            return 0
        return self.inputs // self.groups * self.outputs * math.prod(self.kernel) * math.prod(self.output_size)
