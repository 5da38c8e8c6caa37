"""Cycles of a layer by the analytical model of MATCH, for DIANA's digital core.

Source: eml-eda/match 9815d02, match/target/diana/digital/cost_model.py; bandwidths of digital_accelerator.py.
"""

from __future__ import annotations

import math

from onnxdiana.costs.memory import LANES
from onnxdiana.costs.work import Work

_START = 23  # cycles before the first product of every block of output values
_BANDWIDTH = 16  # bytes a cycle between L2 and L1, and into the weight memory
_CALL = 70  # cycles of one call of the DMA


def compute(work: Work) -> int:
    """Cycles of the digital core, the transfers left out; the rows that the padding shortens are counted apart.

    Sum over ``p = 0 .. pad`` of ``ceil(N_p / 256) * (C * (ky - p) * kx + 2 * C * (ky - p) + 23)`` with
    ``N_0 = K * (OY - 2 * pad) * OX`` and ``N_p = 2 * K * OX``, pad being that above: the layer as one tile. Depthwise
    layers have C = 1 and use one lane of channels: 16 instead of 256. An add is not in the model: 0.
    """
    if work.kind == "add":
        return 0
    (height, width), (rows, columns) = work.output_size, work.kernel
    pad = min(work.pads[0], rows - 1)
    channels = work.inputs // work.groups
    lanes = LANES if work.depthwise else LANES * LANES
    total = 0
    for p in range(pad + 1):
        values = work.outputs * width * (max(height - 2 * pad, 0) if p == 0 else 2)
        total += -(-values // lanes) * (channels * (rows - p) * (columns + 2) + _START)
    return total


def transfers(work: Work) -> int:
    """Cycles between L2 and L1: every byte once at 16 a cycle, and 70 cycles for each of input(s), weights, output.

    For a layer that is tiled this is a lower bound: tiles overlap, and each has calls of its own.
    """
    given = work.inputs * math.prod(work.input_size)
    out = work.outputs * math.prod(work.output_size)
    weights = work.inputs // work.groups * work.outputs * math.prod(work.kernel)
    moved = (given, given, out) if work.kind == "add" else (given, weights, out)
    return sum(-(-size // _BANDWIDTH) + _CALL for size in moved)
