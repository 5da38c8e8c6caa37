"""Targets: what DIANA's digital core takes and what not, code ranges, and how a target is named or brought along."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx_ir as ir
import pytest
from tiny import model

from onnxdiana import pipeline, quantize, targets
from onnxdiana.config import Config
from onnxdiana.errors import TargetError
from onnxdiana.layers import Layer, network
from onnxdiana.shapes import infer_shapes
from onnxdiana.targets import Obstacle, Target

DIANA = targets.load("diana")


def last_layer(text: str) -> Layer:
    """Of ONNX text with a batch of one."""
    graph = ir.from_proto(model(text))
    infer_shapes(graph)
    return network(graph).layers[-1]


def conv(shape: str, weight: str, attributes: str = "", before: str = "") -> str:
    """One Conv on an input."""
    value = "p" if before else "x"
    attributes = f"<{attributes}>" if attributes else ""
    return f"(float[1,{shape}] x) => (y) <float[{weight}] w> {{ {before} y = Conv{attributes}({value}, w) }}"


SAME3 = "pads = [1,1,1,1]"

TAKEN = {
    "1x1": conv("8,6,6", "4,8,1,1"),
    "3x3": conv("8,6,6", "4,8,3,3", SAME3),
    "5x5": conv("8,6,6", "4,8,5,5", "pads = [2,2,2,2]"),
    "7x7": conv("8,8,8", "4,8,7,7", "pads = [3,3,3,3]"),
    "1x3": conv("8,6,6", "4,8,1,3", "pads = [0,1,0,1]"),
    "7x5": conv("8,8,8", "4,8,7,5", "pads = [3,2,3,2]"),
    "stride 2": conv("8,8,8", "4,8,3,3", f"{SAME3}, strides = [2,2]"),
    "1x1, stride 2": conv("8,8,8", "4,8,1,1", "strides = [2,2]"),
    "depthwise": conv("8,6,6", "8,1,3,3", f"{SAME3}, group = 8"),
    "one channel": conv("1,6,6", "1,1,3,3", SAME3),
    "odd map of four channels": conv("4,5,7", "4,4,3,3", SAME3),
    "linear": "(float[1,64] x) => (y) <float[12,64] w> { y = Gemm<transB = 1>(x, w) }",
    "add": "(float[1,4,5,5] x, float[1,4,5,5] z) => (y) { y = Add(x, z) }",
    "add with relu": "(float[1,4,5,5] x, float[1,4,5,5] z) => (y) { a = Add(x, z) y = Relu(a) }",
}

LEFT = {
    "kernel 2": (conv("8,6,6", "4,8,2,2", "pads = [0,0,1,1]"), ["kernel [2, 2]", "pads [0, 0, 1, 1]"]),
    "kernel 9": (conv("8,12,12", "4,8,9,9", "pads = [4,4,4,4]"), ["kernel [9, 9]; only 1, 3, 5, 7 in each direction"]),
    "kernel 10x4": (conv("8,12,12", "4,8,10,4", "pads = [5,1,5,1], strides = [2,2]"),
                    ["kernel [10, 4]", "pads [5, 1, 5, 1]"]),
    "strides 3": (conv("8,6,6", "4,8,3,3", f"{SAME3}, strides = [3,3]"), ["strides [3, 3]; only [1, 1] or [2, 2]"]),
    "strides differ": (conv("8,6,6", "4,8,3,3", f"{SAME3}, strides = [1,2]"), ["strides [1, 2]"]),
    "dilation": (conv("8,6,6", "4,8,3,3", "pads = [2,2,2,2], dilations = [2,2]"),
                 ["dilations [2, 2]; only [1, 1]", "pads [2, 2, 2, 2]"]),
    "dilation of one axis": (conv("8,6,6", "4,8,3,1", "pads = [1,0,1,0], dilations = [2,1]"), ["dilations [2, 1]"]),
    "no pads": (conv("8,6,6", "4,8,3,3"), ["pads [0, 0, 0, 0]; only 'same' padding, (kernel - 1) / 2 on every side"]),
    "pads too wide": (conv("8,6,6", "4,8,1,1", SAME3), ["pads [1, 1, 1, 1]"]),
    "same in one axis only": (conv("8,6,6", "4,8,3,3", "pads = [1,0,1,0]"), ["pads [1, 0, 1, 0]"]),
    "pads at the end": (conv("8,6,6", "4,8,3,3", "pads = [0,0,2,2]"), ["pads [0, 0, 2, 2]"]),
    "pads at the beginning": (conv("8,6,6", "4,8,3,3", "pads = [1,1,0,0]"), ["pads [1, 1, 0, 0]"]),
    "two groups": (conv("8,6,6", "4,4,3,3", f"{SAME3}, group = 2"),
                   ["2 groups; only 1, or as many as input and output channels"]),
    "depthwise with a multiplier": (conv("8,6,6", "16,1,3,3", f"{SAME3}, group = 8"), ["8 groups"]),
    "groups of two": (conv("8,6,6", "4,2,3,3", f"{SAME3}, group = 4"), ["4 groups"]),  # as many as outputs only
    "input of 25": (conv("1,5,5", "4,1,3,3", SAME3), ["input has 25 elements, not a multiple of 4"]),
    "output of 27": (conv("4,3,3", "3,4,3,3", SAME3), ["output has 27 elements, not a multiple of 4"]),
    "explicit pad": (conv("8,6,6", "4,8,3,3", SAME3, 'p = Pad<mode = "reflect">(x, q)').replace(
        "w>", "w, int64[8] q = {0,0,1,1,0,0,1,1}>"), ["an explicit Pad in front of it"]),
    "1-d": (conv("8,6", "4,8,3", "pads = [1,1]"), ["no accelerator form of Conv"]),
    "3-d": (conv("8,4,4,4", "4,8,1,1,1"), ["no accelerator form of Conv"]),
    "everything at once": (conv("3,5,5", "3,1,2,2", "group = 3, strides = [3,3], dilations = [2,2]"), [
        "input has 75 elements", "output has 3 elements", "kernel [2, 2]", "strides [3, 3]", "dilations [2, 2]",
        "pads [0, 0, 0, 0]"]),
    "10 classes": ("(float[1,64] x) => (y) <float[10,64] w> { y = Gemm<transB = 1>(x, w) }",
                   ["output has 10 elements, not a multiple of 4"]),
    "odd features": ("(float[1,63] x) => (y) <float[12,63] w> { y = Gemm<transB = 1>(x, w) }",
                     ["input has 63 elements, not a multiple of 4"]),
    "odd sum": ("(float[1,1,5,5] x, float[1,1,5,5] z) => (y) { y = Add(x, z) }",
                ["input has 25 elements", "output has 25 elements"]),
    "mean": ("(float[1,8,6,6] x) => (y) { y = GlobalAveragePool(x) }", ["no accelerator form of GlobalAveragePool"]),
}


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_the_accelerator_takes(text: str) -> None:
    assert DIANA.obstacles(last_layer(text)) == []


@pytest.mark.parametrize(("text", "reasons"), LEFT.values(), ids=LEFT)
def test_the_cpu_runs(text: str, reasons: list[str]) -> None:
    """Every reason, and no other."""
    found = DIANA.obstacles(last_layer(text))
    assert len(found) == len(reasons), found
    for reason, obstacle in zip(reasons, found, strict=True):
        assert obstacle.reason.startswith(reason)


REMEDIES = {
    "kernel 2": ["use a 3x3 kernel instead of 2x2",
                 "pad 1 on every side instead of [0, 0, 1, 1] (in Keras: ZeroPadding2D(1) and padding='valid')"],
    "kernel 9": ["use a 7x7 kernel instead of 9x9, padded by 3"],
    "kernel 10x4": ["use a 7x5 kernel instead of 10x4",
                    "pad 3 above and below, 2 left and right instead of [5, 1, 5, 1]"],
    "strides 3": ["stride 2 instead of 3"],
    "strides differ": ["stride 2 instead of (1, 2)"],
    "dilation": ["dilation 1 instead of 2", "pad 1 on every side instead of [2, 2, 2, 2]"],
    "dilation of one axis": ["dilation 1 instead of (2, 1)"],
    "no pads": ["pad 1 on every side instead of nothing"],
    "pads too wide": ["no padding instead of [1, 1, 1, 1]"],
    "same in one axis only": ["pad 1 on every side instead of [1, 0, 1, 0]"],
    "two groups": ["1 group instead of 2, or 8 groups and as many output channels"],
    "groups of two": ["1 group instead of 4, or 8 groups and as many output channels"],
    "input of 25": ["feed 4 channels instead of 1 (3 of zeros), or a map of a multiple of 4 pixels"],
    "output of 27": ["give the head 4 channels (3 is no multiple of 4; leave 1 unused)"],
    "explicit pad": ["leave out the Pad in front: zeros, 1 on every side, in the convolution"],
    "3-d": [""],
    "10 classes": ["give the head 12 outputs (10 is no multiple of 4; leave 2 unused)"],
    "odd features": ["feed 64 features instead of 63 (1 of zeros)"],
    "odd sum": ["give both operands 4 channels instead of 1"] * 2,
    "mean": [""],
}


@pytest.mark.parametrize(("name", "remedies"), REMEDIES.items(), ids=REMEDIES)
def test_what_to_change(name: str, remedies: list[str]) -> None:
    """With the numbers of the layer at hand."""
    assert [obstacle.remedy for obstacle in DIANA.obstacles(last_layer(LEFT[name][0]))] == remedies


INNER = {
    "channels in front": (
        "(float[1,8,5,5] x) => (y) <float[6,8,1,1] v, float[4,6,1,1] w> { a = Conv(x, v) y = Conv(a, w) }",
        ["give the layer in front 8 channels instead of 6"]),
    "channels before a flatten": (
        "(float[1,8,5,5] x) => (y) <float[6,8,1,1] v, float[12,150] w> "
        "{ a = Conv(x, v) f = Flatten(a) y = Gemm<transB = 1>(f, w) }",
        ["give the layer in front 8 channels instead of 6"]),
    "features in front": (
        "(float[1,8] x) => (y) <float[6,8] v, float[12,6] w> { a = Gemm<transB=1>(x, v) y = Gemm<transB=1>(a, w) }",
        ["give the layer in front 8 outputs instead of 6"]),
    "two channels are enough": (
        "(float[1,8,5,6] x) => (y) <float[5,8,1,1] v> { y = Conv(x, v) }",
        ["give the head 6 channels (5 is no multiple of 2; leave 1 unused)"]),
    "as many groups": (
        "(float[1,8,6,6] x) => (y) <float[8,4,1,1] v> { y = Conv<group=2>(x, v) }", ["1 or 8 groups instead of 2"]),
}


@pytest.mark.parametrize(("text", "remedies"), INNER.values(), ids=INNER)
def test_whom_to_change(text: str, remedies: list[str]) -> None:
    assert [obstacle.remedy for obstacle in DIANA.obstacles(last_layer(text))] == remedies


def test_an_inner_output_is_not_the_head() -> None:
    graph = ir.from_proto(model("(float[1,8] x) => (y) <float[6,8] v, float[12,6] w> "
                                "{ a = Gemm<transB=1>(x, v) y = Gemm<transB=1>(a, w) }"))
    infer_shapes(graph)
    assert DIANA.obstacles(network(graph).layers[0]) == [
        Obstacle("output has 6 elements, not a multiple of 4", "give it 8 outputs instead of 6")]


@pytest.mark.parametrize("name", [name for name in LEFT if name not in ("3-d", "1-d", "mean")])
def test_every_remedy_is_one(name: str) -> None:
    """Nothing is left without, where it is a matter of numbers."""
    assert all(obstacle.remedy for obstacle in DIANA.obstacles(last_layer(LEFT[name][0])))


# -- code ranges ------------------------------------------------------------------------------------------------------

INF = math.inf


@pytest.mark.parametrize(("bounds", "exponent", "codes"), [
    ((-INF, INF), -3, (-128, 127)),
    ((0.0, INF), -3, (0, 127)),
    ((0.0, 6.0), -4, (0, 96)),
    ((0.0, 6.0), -5, (0, 127)),
    ((0.0, 6.1), -4, (0, 97)),
    ((-1.0, 1.0), -5, (-32, 32)),
    ((-1.01, 0.99), -5, (-32, 31)),
    ((-INF, 2.0), -2, (-128, 8)),
    ((-2.0, INF), -2, (-8, 127)),
    ((0.5, INF), -2, (2, 127)),
    ((-INF, -0.5), -2, (-128, -2)),
    ((0.0, 6.0), 3, (0, 0)),  # less than one step
    ((5.0, 6.0), 3, (0, 0)),
    ((200.0, 300.0), 0, (127, 127)),
    ((-300.0, -200.0), 0, (-128, -128)),
    ((-3.0, 0.0), -60, (-128, 0)),
    ((-3.0, -1.0), -60, (-128, -128)),
], ids=str)
def test_codes_are_whole_steps_inside_the_bounds(
    bounds: tuple[float, float], exponent: int, codes: tuple[int, int]
) -> None:
    assert DIANA.codes(bounds, exponent) == codes


def test_codes_of_another_target() -> None:
    seven = Target("seven", signed=(-64, 63), unsigned=(0, 63))
    assert seven.codes((-INF, INF), 0) == (-64, 63)
    assert seven.codes((0.0, 100.0), 0) == (0, 63)


# -- loading ----------------------------------------------------------------------------------------------------------


def test_diana() -> None:
    assert targets.names() == ["diana"]
    assert (DIANA.name, DIANA.accelerator, DIANA.shift) == ("diana", "digital", (0, 31))
    assert targets.load(DIANA) is DIANA
    with pytest.raises(dataclasses.FrozenInstanceError):
        DIANA.name = "other"  # type: ignore[misc]


def test_a_target_without_an_accelerator() -> None:
    assert Target("plain").judge(last_layer(TAKEN["3x3"])) == [Obstacle("the target has no accelerator")]


@pytest.mark.parametrize(("name", "message"), [
    ("dianna", "unknown target 'dianna'; did you mean diana"),
    ("gap8", "unknown target 'gap8'; there are: diana"),
    ("base", "unknown target 'base'"),
    ("", "unknown target ''"),
    ("../targets/diana", "unknown target '../targets/diana'"),
    ("nowhere/chip.py", r"nowhere/chip\.py: no such file; --target takes a name \(diana\) or a \.py file"),
])
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        targets.load(name)


FILES = {
    "raises": ("raise ValueError('no')", r"chip\.py: running it failed: ValueError: no"),
    "syntax": ("def", r"chip\.py: running it failed: SyntaxError"),
    "imports": ("import not_there", r"chip\.py: running it failed: ModuleNotFoundError"),
    "no target": ("target = 3", r"chip\.py: defines no TARGET; write TARGET = onnxdiana"),
    "another type": ("TARGET = 3", r"chip\.py: defines no TARGET"),
}


@pytest.mark.parametrize(("text", "message"), FILES.values(), ids=FILES)
def test_files_that_define_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "chip.py"
    path.write_text(text)
    with pytest.raises(TargetError, match=message):
        targets.load(str(path))


CHIP = """
from onnxdiana.targets import Obstacle, Target

def obstacles(layer):
    return [] if layer.node.op_type == "Gemm" else [Obstacle("only linear layers", "use a linear layer")]

TARGET = Target("chip", signed=(-64, 63), unsigned=(0, 63), weight=(-8, 7), shift=(1, 15), accelerator="npu",
                obstacles=obstacles)
"""


def test_a_users_file_is_a_target(tmp_path: Path) -> None:
    """From end to end: codes, shifts and cores are its own."""
    path = tmp_path / "chip.py"
    path.write_text(CHIP)
    assert targets.load(str(path)).accelerator == "npu"
    run = quantize(model(), config=Config(target=str(path)))
    cores = {layer["operator"]: layer["core"] for layer in run.summary["layers"]}
    assert cores == {"Conv": "cpu", "Gemm": "npu"}
    assert all(1 <= layer["shift"] <= 15 for layer in run.summary["layers"])
    assert run.summary["agreement"]["exact"]


@pytest.mark.parametrize(("answer", "message"), [
    ("['no']", r"target 'chip': its obstacles answer \['no'\] for Conv -> 'y'; give a list of onnxdiana\.targets"),
    ("None", "its obstacles answer None"),
    ("layer.nothing", "target 'chip': asking its obstacles fails on Conv -> 'y': AttributeError: .*; repair"),
])
def test_a_users_file_that_answers_nonsense(tmp_path: Path, answer: str, message: str) -> None:
    path = tmp_path / "chip.py"
    path.write_text("from onnxdiana.targets import Target\n"
                    f"TARGET = Target('chip', obstacles=lambda layer: {answer})\n")
    with pytest.raises(TargetError, match=message):
        targets.load(str(path)).judge(last_layer(TAKEN["3x3"]))


@pytest.mark.parametrize(("change", "message"), [
    ({"signed": (7, -8)}, r"signed codes \[7, -8\]"),
    ({"unsigned": (1, 7)}, r"unsigned codes \[1, 7\]"),
    ({"weight": (-129, 7)}, r"weight codes \[-129, 7\]"),
    ({"shift": (3, 2)}, r"shifts \[3, 2\]"),
    ({"shift": (0, 32)}, r"shifts \[0, 32\]"),
], ids=str)
def test_a_description_that_contradicts_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        Target("chip", **change)


def test_a_target_without_tables_refuses_functions() -> None:
    text = "(float[N,4] x) => (y) <float[3,4] w, float[2,3] v> { a = Gemm<transB = 1>(x, w) s = Sigmoid(a) " \
           "y = Gemm<transB = 1>(s, v) }"
    prepared = pipeline.prepare(model(text))
    data = np.ones((2, 4), np.float32)
    pipeline.fake_quantize(prepared, data)
    plain = dataclasses.replace(targets.load("diana"), name="plain", tables=False)
    with mock.patch.object(targets, "load", return_value=plain), \
            pytest.raises(TargetError, match=r"target plain looks nothing up .*\n  - Sigmoid -> 's'\n"):
        pipeline.fake_quantize(prepared, data)
