"""Bytes of one layer in DIANA's memories, and whether DORY finds tiles for it: a closed form of its search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxdiana.costs.work import Work

L1 = 256_000
"""Bytes for activations (DORY 8a0fe7b, ``Diana_TVM/HW_description.json``, as the three below)."""
L2 = 512_000
"""Bytes for weights, activations and code."""
DIGITAL_WEIGHTS = 64_000
"""Bytes of the digital core's weight memory."""
ANALOG_WEIGHTS = 147_456
"""Bytes of the analog array: 1152 rows of 512 ternary weights, two bits each."""
ROWS, COLUMNS = 1152, 512
"""Of the analog array: products that it adds up (``Cin * kh * kw``) and output channels."""
LANES = 16
"""Output columns, and output channels, that the digital array works on at once; widths are padded to it."""
_ANALOG_CHANNELS = 128  # input channels that DORY's analog kernel takes untiled
_ANALOG_BITS = 7  # of an output activation, as HTVM's codegen.py has it

UNTILED, TILED, IMPOSSIBLE = "untiled", "tiled", "impossible"


@dataclass(frozen=True)
class Memory:
    """What one layer takes in the memories, as DORY books it, and how it fits."""

    input: int
    """Bytes of one input map, the width padded to :data:`LANES` on the digital core."""
    output: int
    weights: int
    """Weights and bias as they lie in the weight memory."""
    tiling: str
    """``untiled``, ``tiled`` or ``impossible``."""
    because: tuple[str, ...] = ()
    """Why it is not untiled: each bound that is broken, with the numbers."""

    @property
    def feasible(self) -> bool:
        """Whether DORY generates code for it; where it does not, it ends HTVM with exit status 0."""
        return self.tiling != IMPOSSIBLE


def padded(width: int) -> int:
    """A width as the digital core has it in memory."""
    return -(-width // LANES) * LANES


def footprint(work: Work, core: str = "digital") -> Memory:
    """How a layer fits the memories of a core (``digital`` or ``analog``).

    DORY takes a layer whole where input and output fit L1 and the weights the weight memory, else it looks for tiles
    with at least the kernel in each direction and all input channels (depthwise: as many as outputs). The smallest
    such tile has one output, and takes the least of every memory: there are tiles where that one fits. DORY does not
    look at :data:`ROWS`, nor does this function.
    Source: DORY, ``Diana_TVM/Tiler/tiler_conv2d.py`` (e6ccbf9), ``tiler_add.py`` (a8e28ec), ``HW_Parser.py`` (c741841).
    """
    if work.kind == "add":
        return _add(work)
    return _conv(work, analog=core == "analog")


def _add(work: Work) -> Memory:
    (height, width), (out_height, out_width) = work.input_size, work.output_size
    row = work.inputs * padded(width)
    given, out = row * height, work.outputs * out_height * padded(out_width)
    total = 2 * given + out
    if total <= L1:
        return Memory(given, out, 0, UNTILED)
    because = [f"two inputs and the output are {total:,} bytes of {L1:,} in L1"]
    least = 2 * 3 * row  # two buffers each of two inputs and an output, one row high
    if least <= L1:
        return Memory(given, out, 0, TILED, tuple(because))
    because.append(f"one row of them in two buffers each is {least:,} bytes of {L1:,}")
    return Memory(given, out, 0, IMPOSSIBLE, tuple(because))


def _conv(work: Work, analog: bool) -> Memory:
    (height, width), (out_height, out_width), (rows, columns) = work.input_size, work.output_size, work.kernel
    if work.kind == "conv" and not analog:
        width, out_width = padded(width), padded(out_width)
    given, out = work.inputs * height * width, work.outputs * out_height * out_width
    if analog:
        out = out * _ANALOG_BITS // 8
    one, weights, room = _weights(work, analog)
    because = []
    if given + out > L1:
        because.append(f"input and output are {given + out:,} bytes of {L1:,} in L1")
    if weights > room:
        because.append(f"weights are {weights:,} bytes of {room:,}")
    if work.outputs > LANES and (height == 1 or width == 1):
        because.append(f"{work.outputs} outputs on a map of {height}x{width}, more than {LANES}")
    if analog and work.outputs > COLUMNS:
        because.append(f"{work.outputs} output channels, the array has {COLUMNS}")
    if analog and work.inputs > _ANALOG_CHANNELS:
        because.append(f"more than {_ANALOG_CHANNELS} input channels")
    if not because:
        return Memory(given, out, weights, UNTILED)
    tile = (1 if work.groups > 1 else work.inputs) * rows * columns + (not analog)
    wrong = []
    if height < rows or width < columns:
        wrong.append(f"no tile: the map of {height}x{width} is smaller than the kernel of {rows}x{columns}")
    if one > room:
        wrong.append(f"no tile: weights of one output channel are {one:,} bytes of {room:,}")
    if tile > L1:
        wrong.append(f"no tile: what one output value needs is {tile:,} bytes of {L1:,} in L1")
    if work.outputs == 1 and (height, width) == (rows, columns):
        wrong.append("no tile: the layer has one output value")
    if wrong:
        return Memory(given, out, weights, IMPOSSIBLE, (*because, *wrong))
    if not analog and work.groups == 1 and (fits := room // one) < min(LANES, work.outputs):
        because.append(f"slow: weights of only {fits} output channels fit at once, the array works on {LANES}")
    return Memory(given, out, weights, TILED, tuple(because))


def _weights(work: Work, analog: bool) -> tuple[int, int, int]:
    """Bytes that a tile of one output channel takes, that all of them take, and of the memory they go to."""
    taps = math.prod(work.kernel)
    if analog:  # no bias, two bits a weight
        return work.inputs * taps * 2 // 8, work.inputs * work.outputs * taps * 2 // 8, ANALOG_WEIGHTS
    bias = 16 if work.kind == "dense" else 4
    if work.groups > 1:  # each channel beside 15 empty ones; the tile rounds down
        return LANES * (taps // work.groups + bias), LANES * (taps + bias) * work.outputs, DIGITAL_WEIGHTS
    one = work.inputs * taps + bias
    return one, one * work.outputs, DIGITAL_WEIGHTS


def live_bytes(steps: Sequence[tuple[Sequence[str], str]], sizes: Mapping[str, int]) -> list[int]:
    """Bytes of the activations that are alive while each step runs.

    Args:
        steps: names of the tensors read and of the one written, in execution order. Nothing is freed that nobody
            reads: it is an output.
        sizes: bytes of every tensor named.
    """
    last: dict[str, int] = {}
    for step, (reads, _) in enumerate(steps):
        last.update(dict.fromkeys(reads, step))
    written = {output for _, output in steps}
    alive = {name for name in last if name not in written}  # inputs of the network
    found = []
    for step, (_, output) in enumerate(steps):
        alive.add(output)
        found.append(sum(sizes[name] for name in alive))
        alive = {name for name in alive if last.get(name, len(steps)) > step}
    return found


def l2_bytes(weights: int, steps: Sequence[tuple[Sequence[str], str]], sizes: Mapping[str, int]) -> int:
    """Least bytes of L2 a network takes, code left out: all weights and the largest sum of live activations."""
    return weights + max(live_bytes(steps, sizes), default=0)
