"""What HTVM's own partitioner offloaded, counted when it was run, from models rebuilt here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hand_made import RELU, SIGNED, Graph, dscnn, mobilenet, resnet8

from onnxdiana.handoff import nodes
from onnxdiana.handoff.findings import Handoff
from onnxdiana.handoff.partition import partition
from onnxdiana.handoff.silicon import silicon


def offloaded(model: onnx.ModelProto) -> dict[str, int]:
    """Layers on an accelerator, those depthwise with the convolutions, as HTVM counts them."""
    counts = Handoff("model.onnx", (), partition(nodes.Graph(model))[0]).offloaded
    depthwise = counts.pop("depthwise", 0)
    if depthwise:
        counts["conv"] = counts.get("conv", 0) + depthwise
    return counts


def codes(model: onnx.ModelProto) -> set[str]:
    graph = nodes.Graph(model)
    regions, findings = partition(graph)
    return {finding.code for finding in (*findings, *silicon(graph, regions))}


def cores(model: onnx.ModelProto) -> list[tuple[str, str]]:
    return [(region.kind, region.core) for region in partition(nodes.Graph(model))[0]]


def concat() -> onnx.ModelProto:
    g = Graph(1, 4, 16, 16)
    x = g.conv(g.quantize(), 16)
    x = g.depthwise(g.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2]))
    both = g.node("Concat", [g.conv(x, 16, 1), x], 32, axis=1)
    return g.model(g.conv(both, 16, 1))


def safe_sum() -> onnx.ModelProto:
    g = Graph(1, 16, 16, 16)
    x = g.quantize()
    x = g.node("Relu", [g.add(g.conv(x, 16), g.conv(x, 16))])
    return g.model(g.conv(x, 16))


def fused_sum() -> onnx.ModelProto:
    g = Graph(1, 16, 16, 16)
    x = g.quantize()
    return g.model(g.add(g.conv(x, 16), g.conv(x, 16), RELU))


def pooled_matmul() -> onnx.ModelProto:
    g = Graph(1, 3, 8, 8)
    return g.model(g.matmul(g.mean(g.conv(g.quantize(), 16)), 16, 12))


def softmax() -> onnx.ModelProto:
    g = Graph(1, 3, 8, 8)
    x = g.gemm(g.mean(g.conv(g.quantize(), 16)), 16, 12)
    return g.model(g.node("Softmax", [g.node("Div", [x, g.constant([16])])], axis=1), scale=None)


def one_conv(**more: object) -> onnx.ModelProto:
    g = Graph(1, 16, 16, 16)
    return g.model(g.conv(g.quantize(), 16, **more))


def analog(gain: float) -> onnx.ModelProto:
    g = Graph(1, 16, 16, 16)
    return g.model(g.analog(g.node("Relu", [g.quantize()]), 16, gain=gain))


RESNET = {"conv": 9, "add": 3, "dense": 1}
TABLE: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, int]]] = {
    "original ResNet8": (resnet8, RESNET),
    "original ResNet8, opset 13": (lambda: resnet8(opset=13), RESNET),
    "original ResNet8, rank-0 bounds": (lambda: resnet8(()), RESNET),
    "original MobileNetV1": (mobilenet, {"conv": 27, "dense": 1}),
    "original DS-CNN": (dscnn, {"conv": 8, "dense": 1}),
    "conv, MaxPool, depthwise, pointwise, Concat": (concat, {"conv": 4}),  # HTVM stops with an exception: E4
    "Add, requantizer (-128, 127), Relu, conv": (safe_sum, {"conv": 3, "add": 1}),
    "Add, requantizer (0, 127)": (fused_sum, {"conv": 2, "add": 1}),
    "pool, MatMul, Add(constant)": (pooled_matmul, {"conv": 1, "dense": 1}),
    "pool, Gemm, Div, Softmax": (softmax, {"conv": 1, "dense": 1}),
    "clip (0, 96)": (lambda: one_conv(clip=(0, 96)), {"conv": 1}),
    "3x3 stride 2, pads (0, 0, 1, 1)": (lambda: one_conv(stride=2, pads=(0, 0, 1, 1)), {}),
    "analog, gain 16": (lambda: analog(16.0), {"analog conv": 1}),
    "analog, gain 13.7": (lambda: analog(13.7), {"analog conv": 1}),
}


@pytest.mark.parametrize("name", TABLE)
def test_as_many_layers_are_offloaded_as_htvm_offloaded(name: str) -> None:
    build, expected = TABLE[name]
    assert offloaded(build()) == expected


def test_remarks_of_the_table() -> None:
    assert {"W1", "W2"} <= codes(dscnn())
    assert "H4" in codes(fused_sum())
    assert "H4" not in codes(safe_sum())
    assert codes(one_conv(clip=(0, 96))) == {"H3"}
    assert codes(one_conv(stride=2, pads=(0, 0, 1, 1))) == {"W2"}


def test_zoo_file_of_the_original_toolkit() -> None:
    folder = os.environ.get("ONNXDIANA_ZOO")
    if not folder:
        pytest.skip("ONNXDIANA_ZOO is not set")
    model = onnx.load(Path(folder) / "original_export" / "resnet8.onnx")
    assert offloaded(model) == RESNET
    assert not any(code.startswith("W") for code in codes(model))


def mean_as_convolution(height: int, width: int) -> onnx.ModelProto:
    g = Graph(1, 16, height, width)
    x = g.conv(g.quantize(), 16, (1, 3) if height == 1 else 3)
    x = g.depthwise(x, (height, width), pads=(0, 0, 0, 0), clip=SIGNED)
    return g.model(g.gemm(g.node("Flatten", [x], axis=1), 16, 12))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 5), (7, 7), (4, 7), (1, 8)])
def test_mean_as_convolution_stays_on_the_cpu(height: int, width: int) -> None:
    assert cores(mean_as_convolution(height, width))[2] == ("depthwise", "cpu")
    assert offloaded(mean_as_convolution(height, width)) == {"conv": 1, "dense": 1}


@pytest.mark.parametrize(("height", "width"), [(1, 7), (5, 1), (1, 3)])
def test_mean_as_convolution_on_a_row_is_offloaded(height: int, width: int) -> None:
    g = Graph(1, 16, height, width)
    x = g.depthwise(g.quantize(), (height, width), pads=(0, 0, 0, 0), clip=SIGNED)
    model = g.model(g.gemm(g.node("Flatten", [x], axis=1), 16, 16))
    assert offloaded(model) == {"conv": 1, "dense": 1}
    graph = nodes.Graph(model)
    said = {finding.code: finding.remedy for finding in silicon(graph, partition(graph)[0])}
    assert said["H6"] == said["H11"] == "write the mean over the row as GlobalAveragePool, which runs on the CPU"


def test_operators_on_codes_run_on_the_cpu() -> None:
    g = Graph(1, 16, 16, 16)
    x = g.node("Transpose", [g.quantize()], perm=[0, 1, 3, 2])
    x = g.conv(x, 16)
    x = g.node("Slice", [x, *(g.constant(v, np.int64) for v in ([0], [8], [2]))])
    x = g.node("Pad", [x, g.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)])
    x = g.conv(x, 16, pads=(0, 0, 0, 0))
    x = g.node("Resize", [x, g.constant([]), g.constant([]), g.constant([1, 16, 16, 32], np.int64)], mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = g.node("Reshape", [g.conv(x, 16), g.constant([1, 16, 32, 16], np.int64)])
    model = g.model(g.conv(x, 16, 1))
    assert cores(model) == [
        ("input quantizer", "cpu"), ("Transpose", "cpu"), ("conv", "digital"), ("Slice", "cpu"), ("Pad", "cpu"),
        ("conv", "cpu"), ("Resize", "cpu"), ("conv", "digital"), ("Reshape", "cpu"), ("conv", "digital"),
        ("Div", "cpu")]
    assert "W2" in codes(model)


def test_concat_as_sum_of_convolutions_is_offloaded() -> None:
    g = Graph(1, 16, 16, 16)
    x = g.quantize()
    halves = []
    for part in range(2):
        weight = np.zeros((32, 16, 1, 1))
        weight[16 * part:16 * part + 16, :, 0, 0] = np.eye(16)
        halves.append(g.conv(x, 32, 1, SIGNED, 0, weights=weight))
    assert offloaded(g.model(g.add(*halves, shift=None))) == {"conv": 2, "add": 1}


def test_more_than_1152_rows_as_slices_are_offloaded() -> None:
    g = Graph(1, 160, 8, 8)
    x = g.node("Relu", [g.quantize()])
    parts = []
    for begin, end in ((0, 80), (80, 160)):
        part = g.node("Slice", [x, *(g.constant(v, np.int64) for v in ([begin], [end], [1]))], end - begin)
        parts.append(g.analog(part, 32, multiplier=np.ones((1, 32, 1, 1)), offset=np.zeros((1, 32, 1, 1)),
                              clip=(-32, 31), shift=None))
    model = g.model(g.depthwise(g.add(*parts, shift=0), 1))
    assert offloaded(model) == {"analog conv": 2, "add": 1, "conv": 1}
    assert "H9" not in codes(model)
    assert "H12" in codes(model)


def test_kernel_with_zero_taps_is_offloaded() -> None:
    weight = np.zeros((16, 16, 5, 5))
    weight[:, :, 2:5, 2:5] = 3
    assert offloaded(one_conv(kernel=5, stride=2, weights=weight)) == {"conv": 1}
    assert codes(one_conv(kernel=5, stride=2, weights=weight)) == {"H1"}
