"""Bytes in DIANA's memories, both sides of every bound, and the closed form of DORY's search against a search."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from onnxdiana.costs import memory
from onnxdiana.costs.memory import Memory, footprint, l2_bytes, live_bytes
from onnxdiana.costs.work import Work

from .shapes import add, conv, dense


def test_widths_are_padded() -> None:
    found = footprint(conv(3, 16, (10, 17)))
    assert found == Memory(3 * 10 * 32, 16 * 10 * 32, 16 * 3 * 9 + 4 * 16, "untiled")
    assert footprint(conv(3, 16, (10, 17), stride=2)).output == 16 * 5 * 16
    assert footprint(conv(3, 16, (10, 17)), "analog") == Memory(510, 16 * 170 * 7 // 8, 16 * 27 // 4, "untiled")
    assert footprint(add(4, 5, 17)) == Memory(640, 640, 0, "untiled")
    assert footprint(dense(17, 5)) == Memory(17, 5, 5 * (17 + 16), "untiled")


def test_weights() -> None:
    assert footprint(conv(64, 64, (8, 8), groups=64)).weights == 64 * 16 * 9 + 64 * 64
    assert footprint(conv(64, 32, (8, 8), (5, 7))).weights == 32 * 64 * 35 + 4 * 32


BOUNDS = {
    "input and output": (conv(8, 8, (1000, 16)), conv(8, 8, (1001, 16)), "digital",
                         "input and output are 256,256 bytes of 256,000 in L1"),
    "weights": (conv(444, 16, (8, 8)), conv(445, 16, (8, 8)), "digital", "weights are 64,144 bytes of 64,000"),
    "depthwise weights": (conv(304, 304, (8, 8), groups=304), conv(308, 308, (8, 8), groups=308), "digital",
                          "weights are 64,064 bytes of 64,000"),
    "outputs of a linear layer": (dense(64, 16), dense(64, 17), "digital", "17 outputs on a map of 1x1, more than 16"),
    "weights of a linear layer": (dense(3984, 16), dense(3985, 16), "digital", "weights are 64,016 bytes of 64,000"),
    "one row": (conv(8, 16, (1, 16), (1, 3)), conv(8, 17, (1, 16), (1, 3)), "digital",
                "17 outputs on a map of 1x16, more than 16"),
    "add": (add(16, 333), add(16, 334), "digital", "two inputs and the output are 256,512 bytes of 256,000 in L1"),
    "analog input and output": (conv(8, 8, (1066, 16)), conv(8, 8, (1067, 16)), "analog",
                                "input and output are 256,080 bytes of 256,000 in L1"),
    "analog weights": (conv(128, 512, (8, 8)), conv(128, 512, (8, 8), (3, 5)), "analog",
                       "weights are 245,760 bytes of 147,456"),
    "analog outputs": (conv(8, 512, (8, 8)), conv(8, 513, (8, 8)), "analog", "513 output channels, the array has 512"),
    "analog inputs": (conv(128, 8, (8, 8)), conv(129, 8, (8, 8)), "analog", "more than 128 input channels"),
}


@pytest.mark.parametrize(("whole", "split", "core", "why"), BOUNDS.values(), ids=BOUNDS)
def test_what_is_taken_whole(whole: Work, split: Work, core: str, why: str) -> None:
    assert (footprint(whole, core).tiling, footprint(whole, core).because) == ("untiled", ())
    found = footprint(split, core)
    assert (found.tiling, found.feasible) == ("tiled", True)
    assert [reason for reason in found.because if not reason.startswith("slow")] == [why]


IMPOSSIBLE = {
    "weights of one output": (conv(63_996, 2, (8, 8), (1, 1)), conv(63_997, 2, (8, 8), (1, 1)), "digital",
                              "no tile: weights of one output channel are 64,001 bytes of 64,000"),
    "weights of one 3x3": (conv(7_110, 16, (8, 8)), conv(7_111, 16, (8, 8)), "digital",
                           "no tile: weights of one output channel are 64,003 bytes of 64,000"),
    "weights of a linear layer": (dense(63_984, 2), dense(63_985, 2), "digital",
                                  "no tile: weights of one output channel are 64,001 bytes of 64,000"),
    "a map lower than the kernel": (conv(8, 32, (1, 40), (1, 3)), conv(8, 32, (1, 40)), "digital",
                                    "no tile: the map of 1x48 is smaller than the kernel of 3x3"),
    "a row of an add": (add(2_666, 9), add(2_667, 9), "digital",
                        "one row of them in two buffers each is 256,032 bytes of 256,000"),
    "an analog map narrower than the kernel": (
        conv(8, 32, (40, 1), (3, 1)), conv(8, 32, (40, 1)), "analog",
        "no tile: the map of 40x1 is smaller than the kernel of 3x3"),
    "an analog input": (conv(256_000, 2, (8, 8), (1, 1)), conv(256_001, 2, (8, 8), (1, 1)), "analog",
                        "no tile: what one output value needs is 256,001 bytes of 256,000 in L1"),
    "nothing to split": (replace(conv(129, 1, (3, 3)), output_size=(1, 1), pads=(0, 0, 0, 0), outputs=2),
                         replace(conv(129, 1, (3, 3)), output_size=(1, 1), pads=(0, 0, 0, 0)), "analog",
                         "no tile: the layer has one output value"),
}


@pytest.mark.parametrize(("possible", "impossible", "core", "why"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_has_no_tiling(possible: Work, impossible: Work, core: str, why: str) -> None:
    assert footprint(possible, core).tiling == "tiled"
    found = footprint(impossible, core)
    assert (found.tiling, found.feasible, found.because[-1]) == ("impossible", False, why)


def test_a_narrow_map_is_wide_enough_once_padded() -> None:
    assert footprint(conv(8, 32, (40, 1))).tiling == "untiled"


def test_tiles_that_leave_the_array_idle() -> None:
    assert footprint(conv(444, 32, (8, 8))).because == ("weights are 128,000 bytes of 64,000",)
    slow = "slow: weights of only 15 output channels fit at once, the array works on 16"
    assert footprint(conv(445, 32, (8, 8))).because == ("weights are 128,288 bytes of 64,000", slow)
    assert footprint(dense(3985, 32)).because[-1] == slow
    assert footprint(dense(3984, 32)).because == (
        "weights are 128,000 bytes of 64,000", "32 outputs on a map of 1x1, more than 16")
    assert footprint(conv(1_600, 8, (8, 8))).because[-1].startswith("slow: weights of only 4 output")
    assert footprint(conv(799, 8, (20, 16))).because == (  # eight fit, and there are eight
        "input and output are 258,240 bytes of 256,000 in L1",)


def searched(work: Work, analog: bool) -> str:
    """DORY's own conditions, every tile tried."""
    (height, width), (out_height, out_width), (rows, columns) = work.input_size, work.output_size, work.kernel
    if work.kind == "conv" and not analog:
        width, out_width = -(-width // 16) * 16, -(-out_width // 16) * 16
    bits, depthwise, taps = 2 if analog else 8, work.groups > 1, rows * columns
    bias = 0 if analog else 128 if work.kind == "dense" else 32
    weight_room = memory.ANALOG_WEIGHTS if analog else memory.DIGITAL_WEIGHTS

    def activations(inputs: int, outputs: int, size: tuple[int, int], out: tuple[int, int]) -> bool:
        return inputs * math.prod(size) + outputs * math.prod(out) * (7 if analog else 8) // 8 <= memory.L1

    weights = work.inputs * work.outputs * taps // work.groups * (16 if depthwise else 1) * bits // 8
    weights += work.outputs * bias // 8 * (16 if depthwise else 1)
    if (activations(work.inputs, work.outputs, (height, width), (out_height, out_width)) and weights <= weight_room
            and (not analog or (work.outputs <= 512 and work.inputs <= 128))
            and (work.outputs <= 16 or (height > 1 and width > 1))):
        return "untiled"
    for outputs, h, w in itertools.product(range(1, work.outputs + 1), range(rows, height + 1),
                                           range(columns, width + 1)):
        inputs = outputs if depthwise else work.inputs
        if (h - rows) % work.strides[0] or (w - columns) % work.strides[1] or (analog and outputs > 512):
            continue
        out = (h - rows) // work.strides[0] + 1, (w - columns) // work.strides[1] + 1
        if out[0] > out_height or out[1] > out_width or (height == width == 1 and outputs > 16):
            continue
        weights = inputs * outputs * taps * bits // 8 // work.groups * (16 if depthwise else 1)
        weights += outputs * bias // 8 * (16 if depthwise else 1)
        if (inputs * outputs * h * w < work.inputs * work.outputs * height * width and weights <= weight_room
                and activations(inputs, outputs, (h, w), out)):
            return "tiled"
    return "impossible"


def test_sums_against_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds themselves: memories that are filled to the last byte."""
    for channels, height, room in itertools.product(range(1, 4), range(1, 6), range(90, 900, 2)):
        monkeypatch.setattr(memory, "L1", room)
        tiles = [rows for rows in range(1, height + 1) if 2 * 3 * channels * rows * 16 <= room]
        expected = "untiled" if 3 * channels * height * 16 <= room else "tiled" if tiles else "impossible"
        assert footprint(add(channels, height, 9)).tiling == expected


@pytest.mark.parametrize("core", ["digital", "analog"])
def test_against_a_search(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memories so small that every answer is frequent."""
    random = np.random.default_rng(5)
    seen = []
    for _ in range(400):
        monkeypatch.setattr(memory, "L1", int(random.integers(1, 600)))
        monkeypatch.setattr(memory, "DIGITAL_WEIGHTS", int(random.integers(1, 300)))
        monkeypatch.setattr(memory, "ANALOG_WEIGHTS", int(random.integers(1, 60)))
        inputs, outputs, height, width, stride = (int(random.integers(1, n)) for n in (6, 20, 5, 20, 3))
        kernel = tuple(int(k) for k in random.choice([1, 3, 5], 2))
        if core == "digital" and random.random() < 0.3:
            work = Work("dense", inputs * 20, outputs)
        elif core == "digital" and random.random() < 0.3 and outputs > 1:
            work = conv(outputs, outputs, (height, width), (kernel[0], kernel[1]), stride, outputs)
        else:
            work = conv(inputs, outputs, (height, width), (kernel[0], kernel[1]), stride)
        seen.append(footprint(work, core).tiling)
        assert seen[-1] == searched(work, core == "analog"), work
    assert min(seen.count(answer) for answer in ("untiled", "tiled", "impossible")) > 30


RESIDUAL = [(["x"], "a"), (["a"], "b"), (["b"], "c"), (["a", "c"], "d"), (["d"], "y")]


def test_live_bytes() -> None:
    sizes = {"x": 1, "a": 10, "b": 100, "c": 1000, "d": 10_000, "y": 100_000}
    assert live_bytes(RESIDUAL, sizes) == [11, 110, 1110, 11_010, 110_000]
    assert l2_bytes(7, RESIDUAL, sizes) == 110_007
    assert l2_bytes(7, [], {}) == 7


def test_inputs_are_alive_until_read_and_outputs_to_the_end() -> None:
    steps = [(["x"], "y"), (["x"], "a"), (["z", "a"], "b")]
    assert live_bytes(steps, {"x": 1, "z": 10, "y": 100, "a": 1000, "b": 10_000}) == [111, 1111, 11_110]
