"""Cycles by both models against numbers worked out by hand, and what an estimate makes of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from onnxdiana import costs
from onnxdiana.costs import Cycles, Estimate, Work, match, odimo

from .shapes import add, conv, dense

EXAMPLE = conv(32, 32, (32, 32))
"""The one in the contract: 45,056, 63,104 and 6,963 cycles."""
ADD = add(16, 32, 32)


def test_work() -> None:
    assert EXAMPLE.macs == 9_437_184
    assert not EXAMPLE.depthwise
    assert not conv(1, 1, (5, 5)).depthwise
    assert conv(64, 64, (25, 5), groups=64).depthwise
    assert conv(64, 64, (25, 5), groups=64).macs == 64 * 9 * 125
    assert not conv(64, 128, (25, 5), groups=64).depthwise
    assert conv(64, 64, (8, 8), groups=2).macs == 32 * 64 * 9 * 64
    assert dense(64, 12).macs == 768
    assert ADD.macs == 0


DIGITAL = {
    "the example": (EXAMPLE, 2 * 32 * 2 * 32 * 9 + 32 * 32 * 64 / 8),
    "17 everywhere": (conv(17, 17, (17, 17), (1, 1)), 2 * 17 * 2 * 17 + 289 * 34 / 8),
    "16 everywhere": (conv(16, 16, (16, 16), (1, 1)), 1 * 16 * 1 * 16 + 256 * 32 / 8),
    "7x5, stride 2": (conv(1, 64, (49, 10), (7, 5), 2), 4 * 1 * 1 * 25 * 35 + 125 * 65 / 8),
    "height and width differ": (conv(1, 16, (5, 25), (1, 1)), 1 * 1 * 2 * 5 + 125 * 17 / 8),
    "depthwise": (conv(64, 64, (25, 5), groups=64), 1 * 64 * 1 * 25 * 9 + 125 * 128 / 8),
    "linear": (dense(64, 12), 64 + 76 / 8),
    "add": (ADD, 0),
}


@pytest.mark.parametrize(("work", "cycles"), DIGITAL.values(), ids=DIGITAL)
def test_odimo_digital(work: Work, cycles: float) -> None:
    assert odimo.digital(work) == cycles


ANALOG = {
    "the example": (EXAMPLE, 1024 / 4, 8 * 32 * 9),  # (4 + 2) * 64 * 3 = 1152
    "eight columns": (conv(64, 64, (8, 8), (1, 1)), 64 / 8, 8 * 64),
    "512 outputs": (conv(64, 512, (8, 8), (1, 1)), 64, 8 * 64),
    "257 outputs": (conv(64, 257, (8, 8), (1, 1)), 64, 8 * 64),
    "256 outputs": (conv(64, 256, (8, 8), (1, 1)), 64 / 2, 8 * 64),
    "513 outputs": (conv(64, 513, (8, 8), (1, 1)), 2 * 64, 8 * 64),
    "129 inputs": (conv(129, 16, (8, 8), (1, 1)), 2 * 64 / 8, 8 * 129),  # 8 * 129 = 1032
    "a high kernel": (conv(64, 16, (8, 8), (7, 1)), 64 / 2, 8 * 64 * 7),  # 2 * 64 * 7 = 896
    "a wide kernel": (conv(64, 16, (8, 8), (1, 7)), 64 / 8, 8 * 64 * 7),  # (8 + 6) * 64 = 896
    "more rows than the array has": (conv(256, 16, (8, 8)), 2 * 64, 8 * 256 * 9),
    "few inputs": (conv(3, 16, (8, 8)), 64 / 4, 8 * 3 * 9),
    "linear": (dense(64, 12), 1 / 8, 8 * 64),
}


@pytest.mark.parametrize(("work", "operations", "load"), ANALOG.values(), ids=ANALOG)
def test_odimo_analog(work: Work, operations: float, load: int) -> None:
    assert odimo.analog(work) == pytest.approx(operations * 18.2 + load, rel=1e-12)


def test_odimo_has_no_add() -> None:
    assert odimo.analog(ADD) == 0


MATCH = {
    "the example": (EXAMPLE, 120 * (288 + 192 + 23) + 8 * (192 + 128 + 23)),
    "stride 2": (conv(16, 32, (32, 32), stride=2), 28 * (16 * 15 + 23) + 4 * (16 * 10 + 23)),
    "1x1, stride 2": (conv(16, 32, (32, 32), (1, 1), 2), 32 * (16 * 3 + 23)),
    "7x5, stride 2": (conv(1, 64, (49, 10), (7, 5), 2), 24 * (49 + 23) + 3 * (42 + 23 + 35 + 23 + 28 + 23)),
    "depthwise": (conv(64, 64, (25, 5), groups=64), 460 * (15 + 23) + 40 * (10 + 23)),
    "rounded up": (conv(1, 16, (3, 17), (1, 1)), 4 * 26),  # 816 values
    "linear": (dense(64, 12), 64 * 3 + 23),
    "one row under 3x3": (conv(8, 16, (1, 16)), 2 * (8 * 2 * 5 + 23)),
    "fewer rows than the padding": (conv(8, 16, (4, 16), (7, 7)),
                                    2 * (8 * 6 * 9 + 23 + 8 * 5 * 9 + 23 + 8 * 4 * 9 + 23)),
    "more padding than kernel": (replace(conv(8, 16, (8, 16), (1, 1)), pads=(1, 0, 1, 0)), 8 * (24 + 23)),
    "add": (ADD, 0),
}


@pytest.mark.parametrize(("work", "cycles"), MATCH.values(), ids=MATCH)
def test_match(work: Work, cycles: int) -> None:
    assert match.compute(work) == cycles


@pytest.mark.parametrize(("work", "cycles"), [
    (EXAMPLE, 3 * 70 + 32_768 // 16 + 9_216 // 16 + 32_768 // 16),
    (dense(64, 12), 3 * 70 + 4 + 48 + 1),
    (ADD, 3 * (70 + 1024)),
    (conv(64, 64, (25, 5), groups=64), 3 * 70 + 500 + 36 + 500),
], ids=["conv", "linear", "add", "depthwise"])
def test_transfers(work: Work, cycles: int) -> None:
    assert match.transfers(work) == cycles


def test_estimate_on_the_digital_core() -> None:
    found = costs.estimate(EXAMPLE, "digital")
    assert found is not None
    assert found.cycles == (Cycles("ODiMO", 45_056.0), Cycles("MATCH", 63_104, 4_882))
    assert [cycles.total for cycles in found.cycles] == [45_056, 67_986]
    assert (found.power, found.clock) == (24.96, 260e6)
    assert found.milliseconds(found.cycles[0]) == pytest.approx(0.1732923, rel=1e-6)
    assert found.microjoule(found.cycles[1]) == pytest.approx(67_986 / 260e6 * 24.96e-3 * 1e6, rel=1e-12)
    assert found.memory is not None
    assert found.memory.tiling == "untiled"


def test_estimate_on_the_analog_core() -> None:
    found = costs.estimate(EXAMPLE, "analog")
    assert found is not None
    (cycles,) = found.cycles
    assert (cycles.model, cycles.transfers, round(cycles.total)) == ("ODiMO", None, 6_963)
    assert found.power == 28.74
    assert found.memory is not None
    assert found.memory.weights == 32 * 32 * 9 // 4
    assert costs.estimate(conv(64, 64, (25, 5), groups=64), "analog") is None


def test_no_model_has_the_cpu() -> None:
    assert costs.estimate(EXAMPLE, "cpu") is None
    assert costs.cpu_floor(1234) == 1234


def test_entry() -> None:
    entry = costs.as_entry(costs.estimate(dense(64, 20), "digital"))
    assert json.loads(json.dumps(entry)) == {
        "models": {
            "ODiMO": {"cycles": 138, "transfer_cycles": None, "milliseconds": 0.000533, "microjoule": 0.013296},
            "MATCH": {"cycles": 215 + 296, "transfer_cycles": 296, "milliseconds": 0.001965, "microjoule": 0.049056}},
        "memory": {"input_bytes": 64, "output_bytes": 20, "weight_bytes": 20 * 80, "tiling": "tiled",
                   "because": ["20 outputs on a map of 1x1, more than 16"]}}
    assert costs.as_entry(None) is None
    entry = costs.as_entry(Estimate("npu", (Cycles("mine", 10, 5),), 1.0, 1e3))
    assert entry == {"memory": None, "models": {"mine": {
        "cycles": 15, "transfer_cycles": 5, "milliseconds": 15.0, "microjoule": 15.0}}}


def test_totals_add_up_before_they_are_rounded() -> None:
    one = Estimate("npu", (Cycles("a", 0.4), Cycles("b", 1, 2)), 2.0, 1e3)
    two = Estimate("npu", (Cycles("a", 0.4, 0.3), Cycles("c", 7)), 10.0, 1e3)
    assert costs.totals([one, None, two, one]) == {
        "a": {"cycles": 2, "transfer_cycles": 0, "milliseconds": 1.5, "microjoule": 8.6},
        "b": {"cycles": 6, "transfer_cycles": 4, "milliseconds": 6.0, "microjoule": 12.0},
        "c": {"cycles": 7, "transfer_cycles": None, "milliseconds": 7.0, "microjoule": 70.0}}
    assert costs.totals([None]) == {}
