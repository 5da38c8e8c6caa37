"""Cycles of a layer by the analytical model of ODiMO and PLiNIO, for DIANA's digital and analog cores.

Source: eml-eda/plinio 6bca25e, plinio/cost/diana_latency.py; the same formulas stand in eml-eda/odimo-journal 624f590,
incomp-data-fmts/models/hw_models.py.
"""

from __future__ import annotations

import math

from onnxdiana.costs.memory import COLUMNS, LANES, ROWS
from onnxdiana.costs.work import Work

_BYTES = 8  # of activations that are loaded and stored in a cycle
_CHANNELS = 128  # input channels in one operation of the array
_LEAST_INPUTS = 64  # input channels that the array books at least
_UNROLL = (8, 4, 2, 1)  # output columns that it may compute at once
_OPERATION = 70e-9 * 260e6  # cycles of one analog operation of 70 ns
_WEIGHT_LOAD = 8  # cycles a row, for all columns


def digital(work: Work) -> float:
    """Cycles of the digital core: 16 output channels by 16 output columns at once, activations loaded and stored.

    ``ceil(Cout/g / 16) * Cin * ceil(OX/16) * OY * kx * ky + OX * OY * (Cout + Cin) / 8``. A depthwise layer uses one
    lane of channels. An add is not in the model: 0.
    """
    if work.kind == "add":
        return 0.0
    (height, width), taps = work.output_size, math.prod(work.kernel)
    compute = -(-work.outputs // (work.groups * LANES)) * work.inputs * -(-width // LANES) * height * taps
    return compute + width * height * (work.outputs + work.inputs) / _BYTES


def analog(work: Work) -> float:
    """Cycles of the analog core, loading the weights included. It has no groups.

    ``ceil(Cout/512) * ceil(Cin/128) * OX * OY / u * 18.2 + 8 * Cin * kx * ky``, u columns at once: the largest of
    1, 2, 4, 8 with ``u * Cout <= 512`` and ``(u + kx - 1) * max(64, Cin) * ky <= 1152``, else 1. An add is not in the
    model: 0.
    """
    if work.kind == "add":
        return 0.0
    (height, width), (rows, columns) = work.output_size, work.kernel
    booked = max(_LEAST_INPUTS, work.inputs) * rows
    unroll = next((u for u in _UNROLL if u * work.outputs <= COLUMNS and (u + columns - 1) * booked <= ROWS), 1)
    operations = -(-work.outputs // COLUMNS) * -(-work.inputs // _CHANNELS) * width * height / unroll
    return operations * _OPERATION + _WEIGHT_LOAD * work.inputs * rows * columns
