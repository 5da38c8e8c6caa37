"""Each doubt about the silicon is found where it is, and nothing else beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hand_made import RELU, SIGNED, Graph, resnet8

from onnxdiana.handoff import nodes, patterns
from onnxdiana.handoff.findings import Finding
from onnxdiana.handoff.partition import partition
from onnxdiana.handoff.silicon import silicon

Places = list[tuple[str, int]]
"""Codes, each with the number of its layer in execution order."""


def remarks(model: onnx.ModelProto) -> list[Finding]:
    graph = nodes.Graph(model)
    regions, findings = partition(graph)
    return [*findings, *silicon(graph, regions)]


def places(model: onnx.ModelProto) -> Places:
    """Every W and H finding of a model; -1 for a node that is in no layer."""
    graph = nodes.Graph(model)
    firsts = [match.first.where for match in patterns.matches(graph) if match.kind in patterns.LAYERS]
    return sorted((finding.code, firsts.index(finding.node) if finding.node in firsts else -1)
                  for finding in remarks(model))


def digital(size: tuple[int, int] = (16, 16), channels: int = 16, outputs: int = 16, conv: Any = None,
            depthwise: Any = None, pointwise: Any = None, dense: Any = None) -> onnx.ModelProto:
    """Four layers that HTVM offloads and of which nothing is known against the silicon; each may be changed."""
    g = Graph(1, channels, *size)
    x = g.conv(g.quantize(), outputs, **(conv or {}))
    x = g.depthwise(x, **(depthwise or {}))
    x = g.conv(x, 32, **({"kernel": 1} | (pointwise or {})))
    return g.model(g.gemm(g.mean(x), 32, **({"outputs": 16} | (dense or {}))))


def analog(relu: bool = True, channels: int = 16, first: Any = None, second: Any = None) -> onnx.ModelProto:
    """Two layers on the analog core."""
    g = Graph(1, channels, 16, 16)
    x = g.quantize()
    x = g.node("Relu", [x]) if relu else x
    x = g.analog(x, 16, **(first or {}))
    return g.model(g.analog(x, **({"outputs": 32, "kernel": 1} | (second or {}))))


def residual(height: int = 16, channels: int = 16, clip: tuple[float, float] = SIGNED) -> onnx.ModelProto:
    """Two convolutions and their sum."""
    g = Graph(1, channels, height, 16)
    x = g.quantize()
    return g.model(g.add(g.conv(x, channels), g.conv(x, channels), clip))


def test_nothing_is_said_of_what_is_sound() -> None:
    assert places(digital()) == []
    assert places(analog()) == []


DIGITAL: dict[str, tuple[dict[str, Any], Places]] = {
    "width 24": ({"size": (16, 24)}, [("H1", 0), ("H1", 1), ("H1", 2)]),
    "width 8 behind a stride": ({"pointwise": {"stride": 2}}, [("H1", 2)]),
    "3 input channels": ({"channels": 3}, [("H2", 0)]),
    "24 channels": ({"outputs": 24}, [("H13", 0), ("H13", 1), ("H2", 1), ("H2", 2)]),
    "ReLU6": ({"depthwise": {"clip": (0, 96)}}, [("H3", 1)]),
    "bounds of a part": ({"conv": {"clip": (-64, 127)}}, [("H3", 0)]),
    "same padding in width only": ({"conv": {"pads": (0, 1, 0, 1)}}, [("H6", 0)]),
    "same padding in height only": ({"conv": {"pads": (1, 0, 1, 0)}, "size": (16, 18)}, [("H1", 0), ("H6", 0)]),
    "two input channels a group": ({"channels": 32, "conv": {"groups": 16}}, [("H7", 0)]),
    "3x5 kernel": ({"depthwise": {"kernel": (3, 5)}}, [("H11", 1)]),
    "12 classes": ({"dense": {"outputs": 12}}, [("H13", 3), ("H2", 3)]),
    "10 classes": ({"dense": {"outputs": 10}}, [("W5", 3)]),
    "no bias": ({"conv": {"bias": False}}, [("W3", 0)]),
    "no bias of the dense layer": ({"dense": {"bias": False}}, [("W3", 3)]),
    "even kernel": ({"conv": {"kernel": 2, "pads": (0, 0, 1, 1)}}, [("W2", 0)]),
    "kernel 9": ({"depthwise": {"kernel": 9}}, [("W2", 1)]),
    "no padding": ({"conv": {"pads": (0, 0, 0, 0)}, "size": (18, 18)}, [("W2", 0)]),
    "unequal padding": ({"pointwise": {"kernel": 3, "pads": (0, 1, 2, 1)}}, [("W2", 2)]),
    "stride 4": ({"conv": {"stride": 4}, "size": (64, 64)}, [("W2", 0)]),
    "stride of the height only": ({"conv": {"strides": [2, 1]}}, [("W2", 0)]),
    "dilation 2": ({"depthwise": {"dilations": [2, 2], "pads": (2, 2, 2, 2)}}, [("W2", 1)]),
    "2 groups": ({"conv": {"groups": 2}}, [("W2", 0)]),
    "auto_pad": ({"conv": {"auto_pad": "SAME_UPPER"}}, [("W2", 0)]),
    "auto_pad of a pointwise convolution": ({"pointwise": {"auto_pad": "SAME_LOWER"}}, [("W2", 2)]),
    "490 elements": ({"channels": 1, "size": (49, 10), "outputs": 64},
                     [("H1", 1), ("H1", 2), ("W1", 0)]),
    "shift of 31": ({"conv": {"shift": 31}}, []),
}


@pytest.mark.parametrize("name", DIGITAL)
def test_one_change_of_a_sound_model(name: str) -> None:
    change, expected = DIGITAL[name]
    assert places(digital(**change)) == sorted(expected)


ANALOG: dict[str, tuple[dict[str, Any], Places]] = {
    "codes below 0": ({"relu": False}, [("H9", 0)]),
    "1,296 rows": ({"channels": 144}, [("H9", 0)]),
    "1,152 rows": ({"channels": 128}, []),
    "528 columns": ({"second": {"outputs": 528}}, [("H10", -1), ("H9", 1)]),  # its float output fills L2
    "scalar multiplier": ({"first": {"multiplier": [3.0]}}, [("H9", 0)]),
    "scalar offset": ({"second": {"offset": 5.0}}, [("H9", 1)]),
    "multiplier of 9 bits": ({"first": {"multiplier": np.full((1, 16, 1, 1), 128.0)}}, [("H9", 0)]),
    "offset of 9 bits": ({"second": {"offset": np.full((1, 32, 1, 1), -129.0)}}, [("H9", 1)]),
    "signed outputs, read by the next layer": ({"first": {"clip": SIGNED}}, [("H9", 1)]),
    "7 signed bits": ({"first": {"clip": (-64, 63)}}, [("H3", 0)]),
    "3 channels": ({"channels": 3}, [("H2", 0)]),
    "no second Div": ({"first": {"shift": None}}, []),
    "weights of 2": ({"second": {"limit": 2}}, [("W2", 1)]),
    "ADC of 7 bits": ({"first": {"adc": (-64, 63)}}, [("W2", 0)]),
    "two groups": ({"first": {"groups": 2}}, [("W2", 0)]),
    "depthwise": ({"first": {"groups": 16}}, [("W2", 0)]),
    "a bias": ({"first": {"bias": True}}, [("W3", 0)]),
    "even kernel": ({"second": {"kernel": 2, "pads": (0, 0, 1, 1)}}, [("W2", 1)]),
}


@pytest.mark.parametrize("name", ANALOG)
def test_one_change_of_a_sound_analog_model(name: str) -> None:
    change, expected = ANALOG[name]
    assert places(analog(**change)) == expected


@pytest.mark.parametrize(("change", "expected"), [
    ({}, [("H5", 2)]),
    ({"height": 32}, [("H5", 2)]),
    ({"clip": RELU}, [("H4", 2), ("H5", 2)]),
    ({"clip": (0, 96)}, [("H3", 2), ("H4", 2), ("H5", 2)]),
])
def test_sums(change: dict[str, Any], expected: Places) -> None:
    assert places(residual(**change)) == expected


def test_layers_on_the_cpu_raise_no_doubt() -> None:
    changed = digital(size=(16, 24), channels=3, outputs=24, conv={"kernel": 4, "pads": (1, 1, 2, 2), "clip": (0, 96)},
                      depthwise={"bias": False}, pointwise={"bias": False}, dense={"outputs": 10})
    assert places(changed) == [("W2", 0), ("W3", 1), ("W3", 2), ("W5", 3)]


def test_both_cores_in_one_network_are_one_finding() -> None:
    g = Graph(1, 16, 16, 16)
    x = g.conv(g.quantize(), 16)
    for _ in range(2):
        x = g.conv(g.analog(x, 16), 16)
    assert places(g.model(x)) == [("H12", 1)]


def test_a_layer_without_tiles() -> None:
    g = Graph(1, 64000, 1, 1)
    x = g.node("Flatten", [g.quantize()], axis=1)
    model = g.model(g.gemm(x, 64000, 16))
    assert places(model) == [("H10", -1), ("H8", 0)]
    finding = next(finding for finding in remarks(model) if finding.code == "H8")
    assert "64,016 bytes" in finding.found
    assert finding.remedy.startswith("split its 64,000 inputs over 2 layers")


def test_a_map_smaller_than_its_kernel_has_no_tiles() -> None:
    """DORY takes a layer whole only where its map has two axes, or it has at most 16 outputs."""
    for outputs, expected in ((32, [("H8", 0)]), (16, [])):
        g = Graph(1, 16, 1, 16)
        assert places(g.model(g.conv(g.quantize(), outputs))) == expected


def test_a_sum_of_wide_rows_has_no_tiles() -> None:
    g = Graph(1, 5344, 1, 16)
    x = g.quantize()
    assert places(g.model(g.add(x, x))) == [("H5", 0), ("H8", 0)]


def test_int8_input() -> None:
    g = Graph(1, 16, 16, 16)
    model = g.model(g.analog("input", 16))
    assert places(model) == []
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT8
    assert places(model) == [("H9", 0)]


def test_depthwise_channels_that_end_dory() -> None:
    said = [finding for finding in remarks(digital(outputs=18)) if finding.found == "18 depthwise channels"]
    assert said[0].needed == "multiples of 16: DORY ends with a ValueError without one of 4"


@pytest.mark.parametrize(("moves", "expected"), [
    (["Relu"], []), (["MaxPool", "Relu"], []), (["Identity"], [("H9", 0)]), (["Relu", "Pad"], []),
])
def test_codes_are_followed_through_operators_that_move_them(moves: list[str], expected: Places) -> None:
    g = Graph(1, 16, 16, 16)
    x = g.quantize()
    for op_type in moves:
        inputs, attributes = [x], {}
        if op_type == "Pad":
            inputs.append(g.constant([0, 0, 0, 0, 0, 0, 16, 16], np.int64))
        if op_type == "MaxPool":
            attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        x = g.node(op_type, inputs, **attributes)
    x = x if moves[-1] != "Pad" else g.node("Relu", [x])
    assert places(g.model(g.analog(x, 16))) == expected


@pytest.mark.parametrize("bias", [True, False])
def test_l2_counts_weights_and_what_is_alive(bias: bool) -> None:
    def model(outputs: int) -> onnx.ModelProto:
        g = Graph(1, 16, 16, 16)
        x = g.node("Flatten", [g.conv(g.quantize(), 16)], axis=1)
        return g.model(g.gemm(g.gemm(x, 4096, 64, bias=bias), 64, outputs))

    # DORY books 4 bytes for a bias of a convolution and 16 for one of a dense layer; the CPU, without one, has none
    fixed = 16 * 16 * 9 + 4 * 16 + 4096 * 64 + 16 * 64 * bias
    alive = (4 + 1) * 4096  # the float input and its codes
    most = (512_000 - 1 - fixed - alive) // 80 // 16 * 16
    assert "H10" not in [code for code, _ in places(model(most))]
    finding = next(finding for finding in remarks(model(most + 16)) if finding.code == "H10")
    assert finding.found == f"{fixed + 80 * (most + 16):,} bytes of weights and {alive:,} of activations"


def test_a_skip_stays_alive_until_its_sum() -> None:
    g = Graph(1, 16, 64, 128)
    x = g.conv(g.quantize(), 16)
    y = g.conv(g.conv(x, 16), 16)
    model = g.model(g.add(y, x))
    # the float input with its codes is larger than three maps of codes
    finding = next(finding for finding in remarks(model) if finding.code == "H10")
    assert finding.found.endswith(f"and {5 * 16 * 64 * 128:,} of activations")


def test_findings_name_numbers_and_options() -> None:
    said = {finding.code: finding for finding in (*remarks(resnet8(classes=10)), *remarks(digital(
        channels=3, depthwise={"kernel": (3, 5), "clip": (0, 96)})))}
    assert said["W5"].remedy == "give the head 12 outputs instead of 10 (--pad-outputs)"
    assert "--silicon safe" in said["H4"].remedy
    assert "16 input channels instead of 3" in said["H2"].remedy
    assert said["H3"].found == "a clip to [0, 96]"
    assert said["H11"].remedy == "write it as 5x5 with pads 2, its further taps zero"
    assert said["H5"].found == "a sum with 64 channels and a height of 8"
    assert said["H5"].needed == "as many channels as rows, and a sum that was seen right on the chip"
    square, = (finding for finding in remarks(residual(height=16)) if finding.code == "H5")
    assert square.found == "a sum with 16 channels and a height of 16"
    assert square.needed == "a sum that was seen right on the chip"


def test_a_convolution_over_a_whole_row_is_no_mean() -> None:
    g = Graph(1, 16, 1, 3)
    said = {finding.code: finding.remedy for finding in remarks(g.model(
        g.conv(g.quantize(), 16, (1, 3), pads=(0, 0, 0, 0))))}
    assert said["H6"] == "use pads (0, 1, 0, 1)"
    assert said["H11"] == "use a 3x3 kernel with pads 1"
