"""The catalogue of device faults: from a layer's exact integers to what a device with the fault would give.

Each fault is a function of a :class:`~onnxdiana.compare.layer.Layer` that yields what such devices give, in
:mod:`.arithmetic` or :mod:`.memory`; adding one is adding the function and its line here (and in docs/compare.md).
"""

from __future__ import annotations

from onnxdiana.compare import arithmetic, memory
from onnxdiana.compare.layer import Fault

CATALOGUE: tuple[Fault, ...] = (
    Fault("nothing-written", memory.nothing_written, common=True),
    Fault("other-vectors", memory.other_vectors),
    Fault("floor", arithmetic.floored, common=True),
    Fault("half-up", arithmetic.halved, common=True),
    Fault("missing-relu", arithmetic.relu_missing, common=True),
    Fault("extra-relu", arithmetic.relu_extra, common=True),
    Fault("saturation", arithmetic.saturation, common=True),
    Fault("rounding", arithmetic.rounded, common=True),
    Fault("byte-order", memory.byte_order, common=True),
    Fault("layout", memory.layout, common=True),
    Fault("shift", arithmetic.shifted, common=True),
    Fault("bias", arithmetic.bias, common=True),
    Fault("operand", arithmetic.operand, common=True),
    Fault("padding-to-16", memory.padded),
    Fault("border", arithmetic.border),
    Fault("misread-input", memory.misread),
    Fault("misplaced", memory.misplaced),
    Fault("channel-order", memory.channels),
    Fault("offset", arithmetic.offset),
    Fault("unwritten", memory.unwritten),
    Fault("at-border", arithmetic.at_border),
)
"""The simplest and likeliest first; the order decides between explanations that fit equally well."""
