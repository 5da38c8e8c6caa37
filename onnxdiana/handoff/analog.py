"""What the analog core's array, converters and tables take, which nobody checks: finding H9.

Source: HTVM 132018d, ``soma_dory.py`` and ``codegen.py``; DORY 8a0fe7b, ``Diana_TVM``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnxdiana.costs import memory
from onnxdiana.handoff import patterns
from onnxdiana.handoff.constants import INT8
from onnxdiana.handoff.findings import Finding
from onnxdiana.handoff.offloaded import Layer

_SEVEN_BITS = ((0.0, 127.0), (-64.0, 63.0))


def analog(layer: Layer) -> Iterator[Finding]:
    """H9: the array's size and the widths of its converters and tables."""
    if layer.region.core != "analog":
        return
    work, found, needed, remedies = layer.work, [], [], []
    rows = work.inputs * math.prod(work.kernel)
    if rows > memory.ROWS:
        most = memory.ROWS // math.prod(work.kernel)
        found.append(f"{rows:,} rows")
        needed.append(f"at most {memory.ROWS:,} rows")
        remedies.append(f"Slice the input into {-(-work.inputs // most)} parts of at most {most} channels, one layer "
                        "each, and add their codes")
    if work.outputs > memory.COLUMNS:
        found.append(f"{work.outputs} outputs")
        needed.append(f"at most {memory.COLUMNS} columns")
        parts = -(-work.outputs // memory.COLUMNS)
        remedies.append(f"split it into {parts} layers of at most {memory.COLUMNS} outputs")
    codes = patterns.code_range(layer.graph, layer.first.inputs[0])
    if codes is not None and not any(lo <= codes[0] and codes[1] <= hi for lo, hi in _SEVEN_BITS):
        found.append(f"input codes in [{codes[0]:g}, {codes[1]:g}]")
        needed.append("7 bits: [0, 127] or [-64, 63]")
        remedies.append("put a ReLU in front, or halve the input's range")
    for op_type in ("Mul", "Add"):
        array = layer.table(op_type)
        if array is None:
            continue
        if array.size != work.outputs:
            found.append(f"{array.size} elements in the constant of the {op_type}")
            needed.append(f"shape (1, {work.outputs}, 1, 1)")
            remedies.append(f"repeat it for each of the {work.outputs} channels")
        if array.size and not (INT8[0] <= array.min() and array.max() <= INT8[1]):
            found.append(f"constants in [{array.min():g}, {array.max():g}] in the {op_type}")
            needed.append("8 bits: [-128, 127]")
            remedies.append("use a smaller exponent for the layer's multiplier and offset")
    if found:
        yield layer.finding("H9", "; ".join(found), "; ".join(dict.fromkeys(needed)), "; ".join(remedies))
