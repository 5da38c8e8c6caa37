"""``inspect``: the table, its reasons, the advice, and that it needs neither data nor a model without flaws."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from command_line import run
from tiny import CONV, model

import onnxdiana
from onnxdiana import Config, Inspection, costs, inspect
from onnxdiana.errors import ConfigError, ModelError, TargetError
from onnxdiana.report import inspection as report

ROOT = Path(__file__).parents[1]

# kernel 2x2, unequal pads (twice, with other numbers), a head of 10
CHANGES = """(float[N,3,16,16] x) => (float[N,10] y) <float[8,3,3,3] a, float[8,8,2,2] b, float[16,8,3,3] c,
float[16,16,3,3] d, float[10,1024] v, float[10] u> {
    p = Conv<pads = [1,1,1,1]>(x, a)  p1 = Relu(p)
    q = Conv<pads = [0,0,1,1]>(p1, b)  q1 = Relu(q)
    r = Conv<pads = [0,0,1,1], strides = [2,2]>(q1, c)  r1 = Relu(r)
    s = Conv<pads = [0,0,2,2]>(r1, d)  s1 = Relu(s)
    f = Flatten(s1)  y = Gemm<transB = 1>(f, v, u) }"""
NEVER = Config(zero_taps="never")
MACS = {"p1": 3 * 9 * 8 * 256, "q1": 8 * 4 * 8 * 256, "r1": 8 * 9 * 16 * 64, "s1": 16 * 9 * 16 * 64, "f": 0, "y": 10240}
KERNEL = ("use a 3x3 kernel instead of 2x2; pad 1 on every side instead of [0, 0, 1, 1] "
          "(in Keras: ZeroPadding2D(1) and padding='valid')")

BROKEN = """(float[N,3,8,8] x) => (float[N,5] y) <float[4,3,3,3] w, float[4] b, float[4] g, float[5,64] v> {
    a = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w, b)  r = Relu(a)  i = InstanceNormalization(r, g, b)
    h = mine.Twist(i)  k = Conv<pads = [1,1,1,1]>(h, n)  z = Relu(k)  f = Flatten(z)  y = Gemm<transB = 1>(f, v) }"""
BROKEN = BROKEN.replace("float[5,64] v>", "float[5,64] v, float[4,4,3,3] n>")


def broken() -> onnx.ModelProto:
    return model(BROKEN, more='"mine": 1')


def save(folder: Path, proto: onnx.ModelProto) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


# -- lines ------------------------------------------------------------------------------------------------------------


def test_lines() -> None:
    found = inspect(model(CHANGES), NEVER)
    assert found.quantizable
    assert [(line.name, line.form, line.shape, line.macs, line.core) for line in found.lines] == [
        ("p1", "Conv 3x3 + Relu", (8, 16, 16), MACS["p1"], "digital"),
        ("q1", "Conv 2x2 + Relu", (8, 16, 16), MACS["q1"], "cpu"),
        ("r1", "Conv 3x3 s2 + Relu", (16, 8, 8), MACS["r1"], "cpu"),
        ("s1", "Conv 3x3 + Relu", (16, 8, 8), MACS["s1"], "cpu"),
        ("f", "Flatten", (1024,), 0, "cpu"),
        ("y", "Gemm", (10,), 10240, "cpu"),
    ]
    assert [line.parameters for line in found.lines] == [216, 256, 1152, 2304, 0, 10250]
    assert [line.weight_bytes for line in found.lines] == [216 + 32, 256 + 32, 1152 + 64, 2304 + 64, 0, 10240 + 40]
    assert found.macs == sum(MACS.values())
    assert found.macs_by_core == {"digital": MACS["p1"], "cpu": found.macs - MACS["p1"]}
    assert (found.inputs, found.target, found.accelerator) == ({"x": (3, 16, 16)}, "diana", "digital")


FORMS = {
    "depthwise": ("(float[N,8,6,6] x) => (y) <float[8,1,3,5] w> { y = Conv<group = 8>(x, w) }", "depthwise 3x5"),
    "groups": ("(float[N,8,6,6] x) => (y) <float[8,4,1,1] w> { y = Conv<group = 2>(x, w) }", "Conv 1x1 2 groups"),
    "strides": ("(float[N,8,6,6] x) => (y) <float[8,8,1,1] w> { y = Conv<strides = [2,1]>(x, w) }", "Conv 1x1 s2x1"),
    "dilation": ("(float[N,8,9,9] x) => (y) <float[8,8,3,3] w> { y = Conv<dilations = [2,2]>(x, w) }",
                 "Conv 3x3 d2"),
    "pool": ("(float[N,8,6,6] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x) }", "MaxPool 2x2 s2"),
    "sum": ("(float[N,8] x, float[N,8] z) => (y) { a = Add(x, z) y = Relu(a) }", "Add + Relu"),
    "clip": ("(float[N,8] x) => (y) <float[4,8] w, float lo = {0}, float hi = {6}> "
             "{ a = Gemm<transB = 1>(x, w) y = Clip(a, lo, hi) }", "Gemm + Clip"),
    "two bounds": ("(float[N,8] x) => (y) <float[4,8] w, float lo = {1}, float hi = {6}> "
                   "{ a = Gemm<transB = 1>(x, w) r = Relu(a) y = Clip(r, lo, hi) }", "Gemm + Clip"),
}


@pytest.mark.parametrize(("text", "form"), FORMS.values(), ids=FORMS)
def test_short_forms(text: str, form: str) -> None:
    assert inspect(model(text)).lines[-1].form == form


def test_reasons_are_those_of_the_target() -> None:
    """As ``quantize`` tells them, in the same order."""
    summary = onnxdiana.quantize(model(CHANGES)).summary
    told = {layer["output"]: (layer["core"], layer["not_accelerated_because"], layer["macs"], layer["parameters"],
                              tuple(layer["output_shape"])) for layer in summary["layers"]}
    found = {line.name: (line.core, [o.reason for o in line.obstacles], line.macs, line.parameters, line.shape)
             for line in inspect(model(CHANGES)).lines if line.operator != "Flatten"}
    assert found == told


def test_the_model_is_not_changed() -> None:
    proto = model(CHANGES)
    before, graph = proto.SerializeToString(), ir.from_proto(proto)
    text = str(graph)
    assert inspect(proto).lines == inspect(graph).lines
    assert proto.SerializeToString() == before
    assert str(graph) == text


# -- estimates --------------------------------------------------------------------------------------------------------


ESTIMATED = """(float[N,8,10,16] x) => (float[N,10] y) <float[8,8,3,3] a, float[400,1280] v, float[10,400] u> {
    p = Conv<pads = [1,1,1,1]>(x, a)  s = Add(x, p)  f = Flatten(s)  q = Gemm<transB = 1>(f, v)
    y = Gemm<transB = 1>(q, u) }"""


def test_estimates_of_what_runs_on_the_accelerator() -> None:
    found = inspect(model(ESTIMATED))
    assert [line.core for line in found.lines] == ["digital", "digital", "cpu", "digital", "cpu"]
    assert [line.estimate is not None for line in found.lines] == [True, True, False, True, False]
    assert found.lines[0].estimate == costs.estimate(
        costs.Work("conv", 8, 8, (10, 16), (10, 16), (3, 3), (1, 1), (1, 1, 1, 1)), "digital")
    assert found.cpu_cycles == 4000
    assert found.activation_bytes == 3 * 1280
    assert found.memory_bytes == found.weight_bytes + 3 * 1280
    assert found.memory == 512_000


def test_the_table_tells_estimates_and_memory(tmp_path: Path) -> None:
    lines = run("inspect", save(tmp_path, model(ESTIMATED))).out.splitlines()
    assert lines[0].split() == ["tensor", "operator", "shape", "MACs", "parameters", "ODiMO", "MATCH", "core"]
    # 8 * 10 * 9 + 160 * 16 / 8; 4 * (120 + 23) + (80 + 23) and transfers of 160 + 576 / 16 + 210
    assert lines[1].split() == ["p", "Conv", "3x3", "8x10x16", "92,160", "576", "1,040", "1,081", "digital"]
    assert lines[2].split()[-3:] == ["0", "450", "digital"]
    assert lines[3].split()[2:7] == ["1280", "0", "0", "-", "-"]
    row, reason = lines[4:6]
    assert row.split()[-1] == "digital"
    assert reason == "    - tiled: weights are 518,400 bytes of 64,000; 400 outputs on a map of 1x1, more than 16"
    assert "MATCH estimates 41,572 cycles (33,171 of transfers), 0.160 ms, 4.0 uJ on digital" in lines
    assert "ODiMO estimates 33,250 cycles, 0.128 ms, 3.2 uJ on digital" in lines
    assert "besides, at least 4,000 cycles on cpu (one a MAC), which no model has" in lines
    assert "memory: weights and live activations 522,088 of 512,000 bytes: TOO MUCH" in lines
    assert all(len(line) <= 120 for line in lines)


def test_the_best_case_says_nothing_of_the_cpu(tmp_path: Path) -> None:
    text = "(float[N,64] x) => (float[N,12] y) <float[12,64] v> { y = Gemm<transB = 1>(x, v) }"
    out = run("inspect", save(tmp_path, model(text))).out
    assert "on cpu" not in out
    assert "memory: weights and live activations 892 of 512,000 bytes\n" in out


def test_no_estimate_of_a_chip_that_has_none(tmp_path: Path) -> None:
    chip = tmp_path / "chip.py"
    chip.write_text("from onnxdiana.targets import Target\nTARGET = Target('chip', obstacles=lambda layer: [])\n")
    found = inspect(model(), Config(target=str(chip)))
    assert [line.estimate for line in found.lines] == [None] * len(found.lines)
    assert found.memory is None
    shown = run("inspect", save(tmp_path, model()), "--target", chip).out
    assert "estimate" not in shown
    assert "memory" not in shown
    assert json.loads(report.as_json(found))["totals"]["estimates"] == {}


def test_estimates_of_another_chip(tmp_path: Path) -> None:
    chip = tmp_path / "chip.py"
    head = ("from onnxdiana.costs import Cycles, Estimate\nfrom onnxdiana.targets import Target\n"
            "TARGET = Target('chip', accelerator='npu', obstacles=lambda layer: [], memory=100, estimate=")
    chip.write_text(f"{head}lambda layer, core: Estimate(core, (Cycles('mine', 7),), 2.0, 1e3))\n")
    shown = run("inspect", save(tmp_path, model()), "--target", chip)
    assert shown.out.splitlines()[0].split()[-2:] == ["mine", "core"]
    assert "mine estimates 14 cycles, 14.000 ms, 28.0 uJ on npu\n" in shown.out
    assert "of 100 bytes: TOO MUCH\n" in shown.out
    chip.write_text(f"{head}lambda layer, core: 7)\n")
    with pytest.raises(TargetError, match=r"its estimate answers 7 for Conv -> 'a'; give an onnxdiana\.costs\.Estim"):
        inspect(model(), Config(target=str(chip)))
    chip.write_text(f"{head}lambda layer, core: layer.nothing)\n")
    with pytest.raises(TargetError, match=r"target 'chip': asking its estimate fails on Conv -> 'a': AttributeError: "):
        inspect(model(), Config(target=str(chip)))


def test_no_sum_of_memory_where_something_has_no_form() -> None:
    found = inspect(broken())
    assert (found.activation_bytes, found.memory_bytes) == (None, None)
    assert found.lines[0].estimate is not None


def test_zero_taps() -> None:
    """Where they pay, as ``quantize`` adds them; what is estimated is the larger kernel."""
    lines = {line.name: line for line in inspect(model(CHANGES)).lines}
    assert {name: line.zero_taps for name, line in lines.items() if line.core == "digital"} == {
        "p1": None, "q1": (3, 3), "r1": (5, 5), "s1": (5, 5)}
    assert lines["r1"].obstacles == ()
    assert lines["r1"].macs == MACS["r1"]
    assert lines["r1"].estimate == costs.estimate(
        costs.Work("conv", 8, 16, (16, 16), (8, 8), (5, 5), (2, 2), (2, 2, 2, 2)), "digital")
    for line in inspect(model(CHANGES), NEVER).lines:
        assert line.zero_taps is None


def test_cores_are_those_of_auto() -> None:
    for core in ("digital", "cpu"):
        assert inspect(model(CHANGES), Config(core=core)).lines == inspect(model(CHANGES)).lines


def test_inspecting_with_zero_taps_leaves_the_model_alone() -> None:
    graph = ir.from_proto(model(CHANGES))
    assert inspect(graph).lines == inspect(graph).lines


# -- advice -----------------------------------------------------------------------------------------------------------


def test_advice_names_layers_and_gains_the_most_first() -> None:
    found = inspect(model(CHANGES), NEVER)
    assert [(advice.remedy, advice.layers, advice.macs, advice.uniform) for advice in found.advice] == [
        ("pad 1 on every side instead of [0, 0, 2, 2] (in Keras: ZeroPadding2D(1) and padding='valid')", ("s1", "r1"),
         MACS["r1"] + MACS["s1"], False),
        (KERNEL, ("q1",), MACS["q1"], True),
        ("give the head 12 outputs (10 is no multiple of 4; leave 2 unused)", ("y",), MACS["y"], True),
    ]


def test_advice_that_is_followed_moves_the_layers() -> None:
    """Each piece alone moves what it promises; all of them, everything that has MACs."""
    found = inspect(model(CHANGES), NEVER)
    followed = {
        0: [("[0,0,1,1], strides", "[1,1,1,1], strides"), ("[0,0,2,2]", "[1,1,1,1]")],
        1: [("float[8,8,2,2] b", "float[8,8,3,3] b"), ("pads = [0,0,1,1]>(p1", "pads = [1,1,1,1]>(p1")],
        2: [("float[10,1024] v, float[10] u", "float[12,1024] v, float[12] u"), ("float[N,10] y", "float[N,12] y")],
    }
    everything = CHANGES
    for index, changes in followed.items():
        text = CHANGES
        for old, new in changes:
            assert old in text
            text, everything = text.replace(old, new), everything.replace(old, new)
        moved = {line.name for line in inspect(model(text), NEVER).lines if line.core == "digital"}
        assert moved == {"p1", *found.advice[index].layers}
    best = inspect(model(everything))
    assert best.macs_by_core["cpu"] == 0
    assert best.advice == ()


def test_one_advice_for_many_layers(tmp_path: Path) -> None:
    """Few are named on a terminal, all in the document; those with other numbers are said to have them."""
    layers = " ".join(f"a{i + 1} = Conv(a{i}, w)" for i in range(5))
    text = f"(float[N,4,16,16] a0) => (a5) <float[4,4,3,3] w> {{ {layers} }}"
    path = save(tmp_path, model(text))
    shown = run("inspect", path).out
    assert "  100%  pad 1 on every side instead of nothing: 'a1', 'a2', 'a3' and 2 more" in shown.splitlines()
    assert run("inspect", path, "--json").json["advice"][0]["layers"] == ["a1", "a2", "a3", "a4", "a5"]
    mixed = model("(float[N,4,16,16] x) => (y) <float[4,4,3,3] w, float[4,4,5,5] v> { a = Conv(x, w) y = Conv(a, v) }")
    assert "pad 2 on every side instead of nothing: 'y'; likewise, with numbers of its own each, 'a'" in run(
        "inspect", save(tmp_path, mixed)).out


def test_at_most_eight_lines_of_advice(tmp_path: Path) -> None:
    pads = ["0,0,0,0", "0,1,0,1", "0,0,2,2"]
    weights, nodes, last = [], [], "x"
    for i in range(12):
        kernel = ("2,2", "3,3", "9,9", "1,1")[i % 4]
        attributes = f"pads = [{pads[i % 3]}], dilations = [{1 + (i > 5)},1], strides = [{1 + (i % 5 == 0)},1]"
        weights.append(f"float[4,4,{kernel}] w{i}")
        nodes.append(f"y{i} = Conv<{attributes}>({last}, w{i})")
        last = f"y{i}"
    text = f"(float[N,4,200,200] x) => ({last}) <{', '.join(weights)}> {{ {' '.join(nodes)} }}"
    found = inspect(model(text))
    assert len(found.advice) > 8
    assert [a.macs for a in found.advice] == sorted((a.macs for a in found.advice), reverse=True)
    shown = report.table(found).splitlines()
    assert shown[-1] == f"  and {len(found.advice) - 8} more; --json tells all"
    assert sum(bool(re.match(r" *[<>]?\d+%  ", line)) for line in shown) == 8


def test_no_advice_where_nothing_helps() -> None:
    """A layer that would stay on the CPU all the same is not advised on."""
    lonely = inspect(model("(float[N,3,4,6,6] x) => (y) <float[3,3,2,2,2] w> { y = Conv(x, w) }"))
    assert lonely.lines[-1].obstacles
    assert lonely.advice == ()


def test_no_advice_where_a_part_of_it_does_not_help(tmp_path: Path) -> None:
    chip = tmp_path / "chip.py"
    chip.write_text("from onnxdiana.targets import Obstacle, Target\n"
                    "TARGET = Target('chip', obstacles=lambda layer: [Obstacle('a', 'do this'), Obstacle('b')])\n")
    assert inspect(model(), Config(target=str(chip))).advice == ()


def test_a_remedy_for_two_reasons_is_told_once() -> None:
    found = inspect(model("(float[N,1,5,5] x, float[N,1,5,5] z) => (y) { y = Add(x, z) }"))
    assert len(found.lines[0].obstacles) == 2
    assert [advice.remedy for advice in found.advice] == ["give both operands 4 channels instead of 1"]


# -- models that cannot be quantized ----------------------------------------------------------------------------------


def test_every_node_is_shown_and_every_finding_told() -> None:
    found = inspect(broken())
    assert not found.quantizable
    lines = {line.name: line for line in found.lines}
    assert list(lines) == ["r", "i", "h", "z", "f", "y"]
    assert (lines["r"].form, lines["r"].core, lines["r"].macs) == ("Conv 3x3 s2 + Relu", "digital", 1728)
    assert lines["i"].findings == ("train with BatchNormalization",)
    assert (lines["h"].operator, lines["h"].core, lines["h"].macs) == ("mine::Twist", None, None)
    assert (lines["z"].shape, lines["z"].macs, lines["z"].core) == (None, None, None)
    assert lines["z"].form == "Conv 3x3 + Relu"
    assert found.macs_by_core == {"digital": 1728, "cpu": 0}
    with pytest.raises(onnxdiana.UnsupportedOpError) as refused:
        onnxdiana.prepare(broken())
    assert list(refused.value.findings) == [f"{line.operator} -> '{line.name}': {finding}" for line in found.lines
                                            for finding in line.findings]


def test_an_operator_without_its_first_output() -> None:
    proto = model("(float[N,4] x) => (float[N,4] y) { t, y = mine.Twist(x) }", more='"mine": 1')
    proto.graph.node[0].output[0] = ""
    (line,) = inspect(proto).lines
    assert (line.name, line.shape, line.core) == ("y", None, None)


def test_what_cannot_be_quantized_on_the_terminal(tmp_path: Path) -> None:
    outcome = run("inspect", save(tmp_path, broken()))
    assert (outcome.status, outcome.err) == (1, "")
    assert "quantizable: no, 2 operators in the way\n" in outcome.out
    assert "\n  - InstanceNormalization -> 'i': train with BatchNormalization\n" in outcome.out
    assert "\nat least 1,728 MACs; 1,728 (100%) on digital\n" in outcome.out
    assert re.search(r"^h +mine::Twist +\? +- +- +- +- +none$", outcome.out, re.MULTILINE)
    assert re.search(r"^z +Conv 3x3 \+ Relu +\? +- +144 +- +- +\?$", outcome.out, re.MULTILINE)


def test_alike_findings_are_told_once(tmp_path: Path) -> None:
    nodes = " ".join(f"a{i + 1} = mine.Twist(a{i})" for i in range(5))
    outcome = run("inspect", save(tmp_path, model(f"(float[N,4] a0) => (float[N,4] a5) {{ {nodes} }}",
                                                  more='"mine": 1')))
    assert outcome.status == 1
    assert "  - mine::Twist -> 'a1', mine::Twist -> 'a2', mine::Twist -> 'a3' and 2 more: known" in outcome.out
    assert outcome.out.count("known operators are") == 1


# -- the command ------------------------------------------------------------------------------------------------------


KEYWORDS = """(float[N,1,49,10] x) => (float[N,10] y) <float[8,1,10,4] a, float[8,8,3,3] b, float[10,8] v> {
    p = Conv<pads = [5,1,5,1], strides = [2,2]>(x, a)  p1 = Relu(p)  q = Conv<pads = [0,0,2,2]>(p1, b)  q1 = Relu(q)
    m = GlobalAveragePool(q1)  f = Flatten(m)  y = Gemm<transB = 1>(f, v) }"""


def test_the_table_on_the_terminal(tmp_path: Path) -> None:
    """All of it, as docs/inspect.md shows it."""
    outcome = run("inspect", save(tmp_path, model(KEYWORDS)))
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == (ROOT / "docs" / "inspect.md").read_text("utf-8").split("```\n")[1]
    assert all(len(line) <= 120 for line in outcome.out.splitlines())


def described(value: Any, path: str = "") -> Iterator[str]:
    """Every key of a document, those of free names left out."""
    if isinstance(value, list):
        for item in value:
            yield from described(item, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            if path not in (".inputs", ".totals.macs_by_core", ".totals.estimates", ".layers.estimate.models"):
                yield key
            yield from described(item, f"{path}.{key}")


@pytest.mark.parametrize("proto", [model(CHANGES), broken()], ids=["good", "broken"])
def test_the_document_says_what_the_inspection_says(tmp_path: Path, proto: onnx.ModelProto) -> None:
    path = save(tmp_path, proto)
    outcome, found = run("inspect", path, "--json"), inspect(path)
    document = outcome.json
    assert (outcome.status, outcome.err) == (0 if found.quantizable else 1, "")
    assert (document["format"], document["version"]) == ("onnxdiana.inspection", 1)
    assert document["quantizable"] == found.quantizable
    assert document["model"]["name"] == "net.onnx"
    assert document["model"]["sha256"] == found.sha256
    assert document["inputs"] == {name: list(shape) for name, shape in found.inputs.items()}
    for entry, line in zip(document["layers"], found.lines, strict=True):
        assert [entry[key] for key in ("name", "operator", "form", "macs", "parameters", "weight_bytes", "core")] == [
            line.name, line.operator, line.form, line.macs, line.parameters, line.weight_bytes, line.core]
        assert entry["output_shape"] == (None if line.shape is None else list(line.shape))
        assert entry["not_accelerated_because"] == [{"reason": o.reason, "remedy": o.remedy} for o in line.obstacles]
        assert entry["not_quantizable_because"] == list(line.findings)
        assert entry["estimate"] == costs.as_entry(line.estimate)
        assert entry["zero_taps"] == (None if line.zero_taps is None else list(line.zero_taps))
    assert document["totals"] == {
        "layers": len(found.lines), "macs": found.macs, "macs_by_core": found.macs_by_core,
        "parameters": found.parameters, "weight_bytes": found.weight_bytes,
        "activation_bytes": found.activation_bytes, "memory_bytes": found.memory_bytes, "memory_limit": 512_000,
        "estimates": costs.totals(line.estimate for line in found.lines), "cpu_cycles_at_least": found.cpu_cycles}
    assert document["advice"] == [{"remedy": a.remedy, "layers": list(a.layers), "macs": a.macs,
                                   "same_for_all": a.uniform} for a in found.advice]
    shown = run("inspect", path).out
    for line in found.lines:
        assert f"\n{line.name}" in shown
        assert all(o.reason in shown for o in line.obstacles)


def test_every_key_of_the_document_is_documented() -> None:
    text = (ROOT / "docs" / "inspect.md").read_text("utf-8").split("## `--json`")[1]
    keys = set(described(json.loads(report.as_json(inspect(model(CHANGES))))))
    assert keys <= set(re.findall(r"`([^`]+)`", text)), keys
    assert {"remedy", "weight_bytes", "same_for_all", "not_quantizable_because", "transfer_cycles", "tiling"} <= keys


def test_the_same_bytes_every_time() -> None:
    assert report.as_json(inspect(model(CHANGES))) == report.as_json(inspect(model(CHANGES)))


@pytest.mark.parametrize(("content", "message"), [
    (b"hello", "is not an ONNX model"),
    (b"", "net.onnx"),
    (model("(float[4,4] x) => (y) { y = Transpose(x) }").SerializeToString()[:-9], "net.onnx"),
])
def test_files_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    outcome = run("inspect", tmp_path / "net.onnx")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("onnxdiana: error: ")
    assert message in outcome.err


def test_paths_that_are_none(tmp_path: Path) -> None:
    assert run("inspect", tmp_path).status == 2
    assert run("inspect", tmp_path / "none.onnx").status == 2
    assert run("inspect", save(tmp_path, model()), "--target", "dianna").err == (
        "onnxdiana: error: unknown target 'dianna'; did you mean diana?\n")


def test_an_interface_that_cannot_be_quantized() -> None:
    """As ``quantize`` refuses it."""
    two = model("(float[2,4] x, float[3,4] z) => (float[2,4] y, float[3,4] w) { y = Relu(x) w = Relu(z) }")
    with pytest.raises(ModelError, match="differ in their first axis"):
        inspect(two)


def test_another_target(tmp_path: Path) -> None:
    chip = tmp_path / "chip.py"
    chip.write_text("from onnxdiana.targets import Obstacle, Target\n"
                    "TARGET = Target('chip', accelerator='npu', obstacles=lambda layer: [] if layer.node.op_type == "
                    "'Gemm' else [Obstacle('only linear layers', 'use linear layers')])\n")
    found = inspect(model(), Config(target=str(chip)))
    assert {line.operator: line.core for line in found.lines} == {"Conv": "cpu", "Flatten": "cpu", "Gemm": "npu"}
    assert [(a.remedy, a.layers) for a in found.advice] == [("use linear layers", ("r",))]
    assert "320 (16%) on npu; 1,728 (84%) on cpu" in run("inspect", save(tmp_path, model()), "--target", chip).out
    chip.write_text("from onnxdiana.targets import Target\nTARGET = Target('chip', obstacles=lambda layer: ['no'])\n")
    with pytest.raises(TargetError, match=r"answer \['no'\] for Conv -> 'a'"):
        inspect(model(), Config(target=str(chip)))


def test_config_of_another_type() -> None:
    with pytest.raises(ConfigError, match="config is a dict; give"):
        inspect(model(), {"target": "diana"})  # type: ignore[arg-type]


def test_it_is_public_and_frozen() -> None:
    assert {"inspect", "Inspection", "Obstacle"} <= set(onnxdiana.__all__)
    found = inspect(model(CONV))
    assert isinstance(found, Inspection)
    with pytest.raises(AttributeError):
        found.target = "other"  # type: ignore[misc]


def test_nothing_is_run(tmp_path: Path) -> None:
    """onnxruntime, which takes long to import, is not even loaded."""
    code = ("import sys\nfrom onnxdiana.cli import main\nstatus = main(sys.argv[1:])\n"
            "sys.exit(status or 9 * ('onnxruntime' in sys.modules or 'torch' in sys.modules))")
    done = subprocess.run([sys.executable, "-c", code, "inspect", str(save(tmp_path, model()))], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_who_has_seen_enough(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", "onnxdiana", "inspect", str(save(tmp_path, model()))],
                              stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


OPEN = "(float[N,C,H,W] x) => (float[N,4,H,W] y) <float[4,3,3,3] w> { y = Conv<pads = [1,1,1,1]>(x, w) }"


@pytest.mark.parametrize("option", ["1,3,8,8", "x=1,3,8,8", "x=5,3,8,8"])
def test_sizes_left_open(tmp_path: Path, option: str) -> None:
    path = save(tmp_path, model(OPEN))
    refused = run("inspect", path)
    assert (refused.status, refused.out) == (2, "")
    assert "--input-shape x=1,C,H,W" in refused.err
    outcome = run("inspect", path, "--input-shape", option, "--json")
    assert outcome.status == 0
    assert outcome.json["inputs"] == {"x": [3, 8, 8]}
    assert outcome.json["totals"]["macs"] == 3 * 9 * 4 * 64


def test_sizes_of_one_of_two_inputs(tmp_path: Path) -> None:
    two = "(float[N,4] x, float[N,K] z) => (float[N,K] y) { y = Add(x, z) }"
    path = save(tmp_path, model(two))
    assert run("inspect", path, "--input-shape", "z=1,4", "--json").json["inputs"] == {"x": [4], "z": [4]}
    assert "the inputs are 'x', 'z'" in run("inspect", path, "--input-shape", "1,4").err
    assert run("inspect", path, "--input-shape", "z=1,4", "--input-shape", "z=1,4").status == 2


def test_rules_run_before_ours(tmp_path: Path) -> None:
    path = save(tmp_path, model("(float[N,3,8,8] x) => (float[N,4,8,8] y) <float[4,3,3,3] w> "
                                "{ t = mine.Twist(x)  y = Conv<pads = [1,1,1,1]>(t, w) }", more='"mine": 1'))
    rules = tmp_path / "rules.py"
    rules.write_text("def drop(graph):\n    for node in graph.nodes:\n        if node.op == 'Twist':\n"
                     "            for reader in list(node.outputs[0].outputs):\n"
                     "                reader.inputs[0] = node.inputs[0]\n\nRULES = [drop]\n")
    assert run("inspect", path).status == 1
    outcome = run("inspect", path, "--rules", rules)
    assert (outcome.status, outcome.err) == (0, "")
    assert "rule 'drop' applied at 1 place(s)\n" in outcome.out
    missing = run("inspect", path, "--rules", tmp_path / "none.py")
    assert (missing.status, missing.out) == (2, "")
    assert "none.py: no such file" in missing.err


TAIL = """(float[N,3,8,8] x) => (float[N,5] y) <float[4,3,3,3] w, float[5,256] v> {
    a = Conv<pads = [1,1,1,1]>(x, w)  h = HardSwish(a)  f = Flatten(h)  z = Gemm<transB = 1>(f, v)  y = Softmax(z) }"""


def test_tables_and_the_float_tail() -> None:
    found = inspect(model(TAIL))
    assert [(line.name, line.operator, line.form, line.macs, line.core) for line in found.lines] == [
        ("a", "Conv", "Conv 3x3", 3 * 9 * 256, "digital"), ("h", "HardSwish", "table of HardSwish", 0, "cpu"),
        ("f", "Flatten", "Flatten", 0, "cpu"), ("z", "Gemm", "Gemm", 5 * 256, "cpu"),
        ("y", "Softmax", "Softmax", 0, "cpu")]
    assert [o.reason for o in found.lines[-1].obstacles] == ["in float, behind the last layer; not handed over"]
    assert [(advice.remedy, advice.layers) for advice in found.advice] == [
        ("give the head 8 outputs (5 is no multiple of 4; leave 3 unused)", ("z",)),
        ("train with ReLU instead of HardSwish: it needs no table", ("h",))]


def test_the_float_tail_of_a_model_that_cannot_be_quantized() -> None:
    found = inspect(model(TAIL.replace("HardSwish(a)", "mine.Twist(a)"), more='"mine": 1'))
    assert [line.core for line in found.lines] == ["digital", None, "cpu", None, "cpu"]
    assert [bool(line.findings) for line in found.lines] == [False, True, False, False, False]
    assert (found.lines[-1].operator, found.lines[-1].macs) == ("Softmax", 0)


# -- the zoo ----------------------------------------------------------------------------------------------------------

ZOO = os.environ.get("ONNXDIANA_ZOO")
SHARES = {"dae": 1.0, "dscnn": 0.87, "resnet8": 0.99}
"""Least share of the MACs on the accelerator."""


@pytest.mark.skipif(ZOO is None, reason="ONNXDIANA_ZOO names no folder of models")
@pytest.mark.parametrize("suffix", ["", "_bn"])
@pytest.mark.parametrize("name", SHARES)
def test_zoo(name: str, suffix: str) -> None:
    found = inspect(Path(ZOO or "") / f"{name}{suffix}.onnx")
    assert found.quantizable
    assert found.macs_by_core["digital"] / found.macs >= SHARES[name]
    plain = inspect(Path(ZOO or "") / f"{name}.onnx")
    assert [(line.form, line.shape, line.macs) for line in found.lines] == [
        (line.form, line.shape, line.macs) for line in plain.lines]


@pytest.mark.skipif(ZOO is None, reason="ONNXDIANA_ZOO names no folder of models")
def test_zoo_advice() -> None:
    """An input of 490 values, an even kernel and its padding keep one layer from the accelerator."""
    (advice,) = inspect(Path(ZOO or "") / "dscnn.onnx").advice
    assert len(advice.layers) == 1
    for part in ("feed 2 channels instead of 1", "use a 7x5 kernel instead of 10x4", "pad 3 above and below, 2 left"):
        assert part in advice.remedy
