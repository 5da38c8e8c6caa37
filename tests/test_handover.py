"""The options of the hand-over, through the public command: what each writes, says and leaves as it was."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import Desk, run
from integer_graphs import RELU, GraphBuilder, agree
from tiny import model

from onnxdiana import Config, quantize
from onnxdiana.errors import TargetError
from onnxdiana.exporting import bundle as exporting_bundle
from onnxdiana.handoff import interpreter
from onnxdiana.handoff.findings import Finding, Handoff
from onnxdiana.runtime import Runner

STRIDED = """(float[N,4,16,16] x) => (float[N,12] y) <float[8,4,3,3] w, float[8] b, float[8,8,2,2] u, float[12,8] v> {
    a = Conv<pads=[0,0,1,1], strides=[2,2]>(x, w, b)  r = Relu(a)
    c = Conv<pads=[0,0,0,0], strides=[2,2]>(r, u)  q = Relu(c)
    p = GlobalAveragePool(q)  f = Flatten(p)  y = Gemm<transB=1>(f, v) }"""
"""TensorFlow's SAME, an even kernel, and no bias in one layer."""
BRANCHES = """(float[N,4,8,8] x) => (float[N,12] y)
    <float[8,4,3,3] w, float[8,4,1,1] u, float[8,8,3,3] t, float[12,16] v> {
    a = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(a)  b = Conv(x, u)  q = Relu(b)
    k = Concat<axis=1>(r, q)  c = Conv<pads=[1,1,1,1]>(r, t)  s = Add(c, q)  z = Relu(s)
    m = Concat<axis=1>(z, q)  g = Add(k, m)  h = Relu(g)
    p = GlobalAveragePool(h)  f = Flatten(p)  y = Gemm<transB=1>(f, v) }"""
ENDED = STRIDED.replace("y = Gemm<transB=1>(f, v)", "l = Gemm<transB=1>(f, v)  y = Softmax(l)")
SHAPES = {STRIDED: (4, 16, 16), BRANCHES: (4, 8, 8), ENDED: (4, 16, 16)}


def desk(folder: Path, text: str = STRIDED, count: int = 40) -> Desk:
    found = Desk(folder, model(text))
    found.save("net.calib.npz", x=np.random.default_rng(5).standard_normal((count, *SHAPES[text])).astype(np.float32))
    return found


def handed(found: Desk, name: str = "htvm/model.onnx") -> onnx.ModelProto:
    return onnx.load(found.out / name)


def geometry(proto: onnx.ModelProto) -> list[tuple[list[int], list[int]]]:
    values = [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in proto.graph.node
              if node.op_type == "Conv"]
    return [(list(v["kernel_shape"]), list(v["pads"])) for v in values]


def choices(summary: dict[str, Any], option: str) -> list[dict[str, Any]]:
    return [entry for entry in summary["handoff"]["choices"] if entry["option"] == option]


def integers(found: Desk) -> bytes:
    return (found.out / "model.int.onnx").read_bytes()


# -- zero taps --------------------------------------------------------------------------------------------------------


def test_zero_taps_where_they_pay(tmp_path: Path) -> None:
    """Both convolutions run on the accelerator; the integers are those of the kernels without them."""
    work = desk(tmp_path)
    never, _ = work.works("--zero-taps", "never")
    before = integers(work)
    assert geometry(handed(work))[:2] == [([3, 3], [0, 0, 1, 1]), ([2, 2], [0, 0, 0, 0])]
    assert [entry["core"] for entry in never["layers"]][:2] == ["cpu", "cpu"]
    assert never["handoff"]["offloaded"] == {"dense": 1}
    assert not any(entry["applied"] for entry in choices(never, "zero-taps"))
    auto, _ = work.works()
    assert integers(work) == before
    assert geometry(handed(work))[:2] == [([5, 5], [2, 2, 2, 2]), ([3, 3], [1, 1, 1, 1])]
    assert [entry["core"] for entry in auto["layers"]][:2] == ["digital", "digital"]
    assert auto["handoff"]["offloaded"] == {"conv": 2, "dense": 1}
    first, second = choices(auto, "zero-taps")
    assert (first["place"], first["setting"], first["applied"]) == ("Conv -> 'a'", "auto", True)
    assert first["what"] == "3x3 pads [0, 0, 1, 1] as 5x5 pads [2, 2, 2, 2]"
    assert "cycles on the digital core, at least 18,432 on the CPU" in first["reason"]
    assert second["what"] == "2x2 pads [0, 0, 0, 0] as 3x3 pads [1, 1, 1, 1]"
    assert auto["layers"][0]["estimate"]["models"]["ODiMO"]["cycles"] > 4 * 25 * 8  # of the larger kernel


@pytest.mark.parametrize("setting", ["auto", "never"])
def test_inspect_tells_what_zero_taps_would_do(tmp_path: Path, setting: str) -> None:
    work = desk(tmp_path)
    told = run("inspect", work.model, "--zero-taps", setting, "--json").json
    summary, _ = work.works("--zero-taps", setting)
    assert [line["core"] for line in told["layers"] if line["operator"] in ("Conv", "Gemm")] == [
        entry["core"] for entry in summary["layers"] if entry["name"] in ("a", "c", "y")]


def test_zero_taps_that_do_not_pay() -> None:
    """One product a value on a map of two by two: the accelerator's start alone takes longer."""
    text = """(float[N,1,4,4] x) => (float[N,4,2,2] y) <float[4,1,2,2] u> {
        y = Conv<pads=[0,0,0,0], strides=[2,2]>(x, u) }"""
    data = np.random.default_rng(0).standard_normal((8, 1, 4, 4)).astype(np.float32)
    auto, always = (quantize(model(text), data, config=Config(zero_taps=setting)) for setting in ("auto", "always"))
    assert [entry["core"] for entry in (auto.summary["layers"][0], always.summary["layers"][0])] == ["cpu", "digital"]
    found, = choices(auto.summary, "zero-taps")
    assert not found["applied"]
    assert "left on the CPU" in found["reason"]
    assert auto.files["model.int.onnx"] == always.files["model.int.onnx"]


def test_core_digital_takes_kernels_with_zero_taps() -> None:
    text = STRIDED.replace("p = GlobalAveragePool(q)  f = Flatten(p)", "f = Flatten(q)").replace("[12,8]", "[12,128]")
    data = np.random.default_rng(0).standard_normal((8, 4, 16, 16)).astype(np.float32)
    found = quantize(model(text), data, config=Config(core="digital"))
    assert {entry["core"] for entry in found.summary["layers"]} == {"digital"}
    with pytest.raises(TargetError, match=r"Conv -> 'a'(.|\n)*Conv -> 'c'(.|\n)*use --core auto"):
        quantize(model(text), data, config=Config(core="digital", zero_taps="never"))


def test_a_kernel_that_nothing_holds_is_kept() -> None:
    text = "(float[N,1,49,10] x) => (y) <float[64,1,10,4] w> { y = Conv<pads=[4,1,5,2]>(x, w) }"
    data = np.random.default_rng(0).standard_normal((4, 1, 49, 10)).astype(np.float32)
    summary = quantize(model(text), data, config=Config(zero_taps="always")).summary
    found, = choices(summary, "zero-taps")
    assert (found["applied"], found["what"]) == (False, "10x4 pads [4, 1, 5, 2], kept")
    assert [finding["code"] for finding in summary["handoff"]["findings"]] == ["W1", "W2"]


# -- sums, concats, biases --------------------------------------------------------------------------------------------


def test_silicon(tmp_path: Path) -> None:
    work = desk(tmp_path, BRANCHES)
    safe, _ = work.works()
    before = integers(work)
    relus = [node.op_type for node in handed(work).graph.node].count("Relu")
    fast, said = work.works("--silicon", "fast")
    assert integers(work) == before
    assert relus == 2
    assert "Relu" not in [node.op_type for node in handed(work).graph.node]
    assert [entry["applied"] for entry in choices(safe, "silicon")] == [True, True]
    assert [entry["applied"] for entry in choices(fast, "silicon")] == [False, False]
    assert not [finding for finding in safe["handoff"]["findings"] if finding["code"] == "H4"]
    assert len([finding for finding in fast["handoff"]["findings"] if finding["code"] == "H4"]) == 2
    assert "H4" in said


def test_concat(tmp_path: Path) -> None:
    """Every convolution and sum is accelerated; without the choice there is no hand-over, and it is said why."""
    work = desk(tmp_path, BRANCHES)
    convs, _ = work.works()
    before = integers(work)
    assert "Concat" not in [node.op_type for node in handed(work).graph.node]
    assert convs["handoff"]["offloaded"] == {"conv": 7, "add": 4, "dense": 1}
    assert [(entry["place"], entry["applied"]) for entry in choices(convs, "concat")] == [
        ("Concat -> 'k'", True), ("Concat -> 'm'", True)]
    refused, said = work.works("--concat", "refuse")
    assert integers(work) == before
    assert not refused["handoff"]["written"]
    assert not (work.out / "htvm").exists()
    assert "use --concat convs" in said
    assert [entry["applied"] for entry in choices(refused, "concat")] == [False, False]


def test_zero_bias(tmp_path: Path) -> None:
    """The layer without a bias gets one, which holds half a step."""
    summary, _ = desk(tmp_path).works()
    assert [(entry["place"], entry["applied"]) for entry in choices(summary, "zero-bias")] == [("Conv -> 'c'", True)]


NEGATED = """(float[N,4,8,8] x) => (float[N,8,8,8] y) <float[4,1,1,1] w, float[8,8,3,3] u> {
    a = Conv<group=4>(x, w)  k = Concat<axis=1>(x, a)  y = Conv<pads=[1,1,1,1]>(k, u) }"""
"""The first layer copies or negates: no shift, and so a bias of zeros."""


@pytest.mark.parametrize("sign", [1, -1])
def test_no_zero_bias(tmp_path: Path, sign: int) -> None:
    """It stays on the CPU, and all that tells of it says so."""
    proto = model(NEGATED)
    first = next(tensor for tensor in proto.graph.initializer if tensor.name == "w")
    first.CopyFrom(onnx.numpy_helper.from_array(np.full((4, 1, 1, 1), sign, np.float32), "w"))
    work = Desk(tmp_path, proto)
    work.save("net.calib.npz", x=np.random.default_rng(5).standard_normal((16, 4, 8, 8)).astype(np.float32))
    plain, _ = work.works("--recover", "none")
    assert plain["layers"][0]["shift"] == 0
    before = integers(work)
    assert plain["layers"][0]["core"] == "digital"
    found, _ = work.works("--recover", "none", "--no-zero-bias")
    assert integers(work) == before
    assert next(len(node.input) for node in handed(work).graph.node if node.op_type == "Conv") == 2
    assert found["layers"][0]["core"] == "cpu"
    assert found["layers"][0]["not_accelerated_because"] == ["all of its bias is zero and left out"]
    assert found["layers"][0]["estimate"] is None
    assert [entry["what"] for entry in choices(found, "zero-bias")] == [
        "no bias", "a bias: half a step where there is a shift, else zeros"]
    assert "W3" in {finding["code"] for finding in found["handoff"]["findings"]}


def test_a_kernel_that_has_no_tiles_is_not_made_larger() -> None:
    """A late stage of a TensorFlow network: 5x5 on a map of 4x4, with weights that have to be tiled."""
    text = """(float[N,64,4,4] x) => (float[N,64,2,2] y) <float[64,64,3,3] w> {
        y = Conv<pads=[0,0,1,1], strides=[2,2]>(x, w) }"""
    data = np.random.default_rng(0).standard_normal((4, 64, 4, 4)).astype(np.float32)
    for setting in ("auto", "always"):
        summary = quantize(model(text), data, config=Config(zero_taps=setting)).summary
        found, = choices(summary, "zero-taps")
        assert not found["applied"]
        assert "as 5x5 pads [2, 2, 2, 2] it has no tiles" in found["reason"]
        assert summary["layers"][0]["core"] == "cpu"
        assert not [finding for finding in summary["handoff"]["findings"] if finding["code"] == "H8"]


def test_rows_of_zeros_leave_tiles() -> None:
    """Twice as many rows would not fit the weight memory at once, and a map of 2x2 has no tiles: they are copied."""
    text = """(float[N,64,2,2] x) => (float[N,128,2,2] y) <float[64,64,3,3] w, float[64,64,3,3] u> {
        a = Conv<pads=[1,1,1,1]>(x, w)  b = Conv<pads=[1,1,1,1]>(x, u)  y = Concat<axis=1>(a, b) }"""
    data = np.random.default_rng(0).standard_normal((4, 64, 2, 2)).astype(np.float32)
    summary = quantize(model(text), data).summary
    assert not [finding for finding in summary["handoff"]["findings"] if finding["code"] == "H8"]
    assert summary["handoff"]["offloaded"] == {"conv": 4, "add": 1}


def test_concats_of_concats_in_front_of_a_mean() -> None:
    """Nothing in it is negative, which the mean wants to see."""
    build = GraphBuilder(4, 4, 4)
    eye = np.eye(4, dtype=int).reshape(4, 4, 1, 1)
    a, b, c = (build.conv("x", name, eye, shift=1, codes=RELU) for name in "abc")
    inner = build.move("Concat", [a, b], "d", axis=1)
    wide = build.move("Concat", [build.move("Concat", [inner, c], "e", axis=1), inner], "f", axis=1)
    agree(build.build(build.mean(wide, "m")))


def test_estimates_are_of_what_is_handed_over(tmp_path: Path) -> None:
    """Copies and sums that a Concat becomes are in them, as `handoff` has them."""
    work = desk(tmp_path, BRANCHES)
    summary, _ = work.works()
    told = run("handoff", work.out, "--json", "-q").json
    macs = sum(region["macs"] or 0 for region in told["regions"] if region["core"] != "cpu")
    assert macs > summary["totals"]["macs"]
    assert summary["handoff"]["estimate"]["ODiMO"]["cycles"] > summary["totals"]["estimate"]["ODiMO"]["cycles"]
    outcome = work.quantize()
    time = summary["handoff"]["estimate"]["ODiMO"]["milliseconds"]
    assert f"estimated {time:.3g} ms (ODiMO)" in outcome.out


def test_a_bound_near_zero_behind_a_sum_is_told() -> None:
    """No code below 0 is left, so that it is a ReLU for the chip."""
    text = """(float[N,4,8,8] x) => (float[N,4,8,8] y) <float[4,4,1,1] w, float lo = {-0.001}, float hi = {1.0}> {
        a = Conv(x, w)  s = Add(a, x)  y = Clip(s, lo, hi) }"""
    data = np.random.default_rng(0).standard_normal((4, 4, 8, 8)).astype(np.float32)
    summary = quantize(model(text), data).summary
    assert summary["layers"][1]["codes"][0] == 0
    assert [entry["place"] for entry in choices(summary, "silicon")] == ["Add -> 's'"]


@pytest.mark.parametrize(("conv", "shape", "before", "after"), [
    ("<float[8,4,1,3] w> { y = Conv<pads=[0,0,0,0]>(x, w) }", (4, 1, 10), "1x3 pads [0, 0, 0, 0]",
     "2x3 pads [0, 0, 1, 0]"),
    ("<float[8,4,3,3] w> { y = Conv<pads=[1,0,1,0]>(x, w) }", (4, 6, 6), "3x3 pads [1, 0, 1, 0]",
     "4x3 pads [1, 0, 2, 0]"),
    ("<float[8,2,3,3] w> { y = Conv<pads=[1,1,1,1], group=8>(x, w) }", (16, 4, 4), "3x3 pads [1, 1, 1, 1]",
     "4x3 pads [1, 1, 2, 1]"),
], ids=["1-d", "one axis", "groups"])
def test_a_layer_that_htvm_would_offload_wrongly_stays_on_the_cpu(
    tmp_path: Path, conv: str, shape: tuple[int, ...], before: str, after: str
) -> None:
    """'Same' in one axis, or as many groups as outputs: HTVM takes it, and the accelerator computes something else."""
    text = f"(float[N,{','.join(map(str, shape))}] x) => (y) {conv}"
    work = Desk(tmp_path, model(text))
    work.save("net.calib.npz", x=np.random.default_rng(5).standard_normal((8, *shape)).astype(np.float32))
    never, _ = work.works("--zero-taps", "never")
    exact = integers(work)
    assert {"H6", "H7"} & {finding["code"] for finding in never["handoff"]["findings"]}
    assert sum(never["handoff"]["offloaded"].values()) == 1
    found, _ = work.works()
    assert integers(work) == exact
    assert found["handoff"]["offloaded"] == {}
    assert {"W2"} == {finding["code"] for finding in found["handoff"]["findings"]}
    assert [(entry["applied"], entry["what"]) for entry in choices(found, "zero-taps")] == [
        (True, f"{before} as {after}, on the CPU")]
    layer, = found["layers"]
    assert layer["core"] == "cpu"
    assert "same' padding" in str(layer["not_accelerated_because"]) or "groups" in str(layer["not_accelerated_because"])


TARGET = """import dataclasses
from onnxdiana.targets import diana
TARGET = dataclasses.replace(diana.TARGET, name="mine"{more})
"""


ONE_AXIS = "(float[N,4,1,10] x) => (y) <float[8,4,1,3] w> { y = Conv<pads=[0,0,0,0]>(x, w) }"


@pytest.mark.parametrize(("more", "core", "offloaded"), [
    ("", "cpu", 0), (", misplaced=lambda layer: False", "cpu", 1), (", obstacles=lambda layer: []", "digital", 1)])
def test_what_a_target_says_of_its_compiler(more: str, core: str, offloaded: int, tmp_path: Path) -> None:
    """A layer is kept from the accelerator where that does not take it, and the compiler would."""
    (tmp_path / "mine.py").write_text(TARGET.format(more=more))
    data = np.random.default_rng(0).standard_normal((4, 4, 1, 10)).astype(np.float32)
    summary = quantize(model(ONE_AXIS), data, config=Config(target=str(tmp_path / "mine.py"))).summary
    assert summary["layers"][0]["core"] == core
    assert sum(summary["handoff"]["offloaded"].values()) == offloaded


@pytest.mark.parametrize("function", ["misplaced", "estimate"])
def test_a_target_whose_functions_fail(tmp_path: Path, function: str) -> None:
    (tmp_path / "mine.py").write_text(TARGET.format(more=f", {function}=lambda *given: 1 / 0"))
    work = Desk(tmp_path, model(ONE_AXIS))
    work.save("net.calib.npz", x=np.random.default_rng(0).standard_normal((4, 4, 1, 10)).astype(np.float32))
    work.refused(f"target 'mine': asking its {function} fails on Conv -> 'y': ZeroDivisionError", "repair the target",
                 options=["--target", tmp_path / "mine.py"])


@pytest.mark.parametrize("more", ["", ", estimate=lambda layer, core: None"])
def test_a_target_of_the_users(tmp_path: Path, more: str) -> None:
    """Its file is not run by ``validate``: what was chosen is believed, and everything else computed again."""
    (tmp_path / "mine.py").write_text(TARGET.format(more=more))
    summary, _ = desk(tmp_path).works("--target", tmp_path / "mine.py")
    assert [entry["applied"] for entry in choices(summary, "zero-taps")] == [not more] * 2


# -- interface --------------------------------------------------------------------------------------------------------


def test_codes_in(tmp_path: Path) -> None:
    """No quantizer, codes as vectors, the scale in the manifest; HTVM's trouble with it is said, and no bug."""
    work = desk(tmp_path)
    work.works()
    entry = np.load(work.out / "htvm/input.npy")
    summary, said = work.works("--io", "int8", "--vectors", "3")
    proto = handed(work)
    assert proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT8
    assert [node.op_type for node in proto.graph.node][:2] == ["Cast", "Conv"]
    described = json.loads((work.out / "htvm/manifest.json").read_text())
    codes = np.load(work.out / "htvm/input.npy")
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(
        codes, np.clip(np.floor(entry / described["input_scale"]), *described["input_codes"]))
    assert described["io"] == "int8"
    runner = Runner(proto)
    for place in ("htvm", "vectors/1", "vectors/2"):
        found = runner.run({"input": np.load(work.out / place / "input.npy")})
        np.testing.assert_array_equal(found[proto.graph.output[0].name], np.load(work.out / place / "output.npy"))
    assert [finding["code"] for finding in summary["handoff"]["findings"] if finding["code"].startswith("E")] == ["E1"]
    assert "E1" in said
    assert "int8" in (work.out / "htvm/README.md").read_text()
    assert work.quantize("--io", "int8", "--require-handoff").status == 1


def test_opset_10(tmp_path: Path) -> None:
    work = desk(tmp_path)
    summary, _ = work.works("--handoff-opset", "10")
    assert [(entry.domain, entry.version) for entry in handed(work).opset_import] == [("", 10)]
    assert not [finding for finding in summary["handoff"]["findings"] if finding["code"].startswith("E")]
    feed = {"input": np.load(work.out / "htvm/input.npy")}
    name = handed(work).graph.output[0].name
    np.testing.assert_array_equal(interpreter.run(handed(work), feed)[name], np.load(work.out / "htvm/output.npy"))


@pytest.mark.parametrize("options", [[], ["--io", "int8", "--handoff-opset", "10"]], ids=["float", "int8"])
def test_annotations_for_dory(tmp_path: Path, options: list[str]) -> None:
    work = desk(tmp_path)
    work.works("--annotate", "dory", *options)
    twin, plain = handed(work, "dory/model.onnx"), handed(work)
    for node in twin.graph.node:
        kept = [a for a in node.attribute if a.name not in ("weight_bits", "bias_bits", "weight_data_layout",
                                                            "input_data_layout", "add_bits", "mult_bits")]
        del node.attribute[:]
        node.attribute.extend(kept)
    assert twin == plain
    twin = handed(work, "dory/model.onnx")
    assert [node.op_type for node in twin.graph.node] == [node.op_type for node in plain.graph.node]
    convs = [{a.name for a in node.attribute} for node in twin.graph.node if node.op_type == "Conv"]
    assert all({"weight_bits", "bias_bits", "weight_data_layout", "input_data_layout"} <= names for names in convs)
    errors = []
    for place in (work.out, work.out / "dory" / "model.onnx"):
        found = run("handoff", place, "--json", "-q").json["findings"]
        errors.append({finding["code"] for finding in found if finding["code"].startswith("E")})
    assert errors == [{"E1"} if options else set(), {"E1", "E13"} if options else {"E13"}]


def test_the_tail_is_for_the_host(tmp_path: Path) -> None:
    work = desk(tmp_path, ENDED)
    summary, _ = work.works()
    found, = choices(summary, "tail")
    assert found["what"] == "Softmax in tail.onnx, for the host"
    handed_over = Runner(handed(work)).run({"input": np.load(work.out / "htvm/input.npy")})
    answers = Runner(onnx.load(work.out / "htvm/tail.onnx")).run(handed_over)
    whole = Runner(onnx.load(work.out / "model.int.onnx")).run({"x": np.load(work.out / "htvm/input.npy")})
    np.testing.assert_array_equal(answers["y"], whole["y"])


# -- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 16, 23, 300])
def test_vectors(tmp_path: Path, count: int) -> None:
    """Different samples, each with every requantizer's codes; only the first one's beside the model."""
    work = desk(tmp_path, count=max(40, count))
    work.works("--vectors", str(count))
    folders = [work.out / "htvm", *(work.out / "vectors" / str(k) for k in range(1, count))]
    described = json.loads((work.out / "htvm/manifest.json").read_text())["intermediates"]
    proto = handed(work)
    runner = Runner(proto, [*described.values(), proto.graph.output[0].name])
    for folder in folders:
        assert {path.name for path in folder.glob("*.npy")} == {"input.npy", "output.npy", *described}
        found = runner.run({"input": np.load(folder / "input.npy")})
        for file, tensor in {**described, "output.npy": proto.graph.output[0].name}.items():
            np.testing.assert_array_equal(np.load(folder / file), found[tensor])
    assert len({(folder / "input.npy").read_bytes() for folder in folders}) == count
    assert sorted(path.name for path in work.out.glob("vectors/*")) == sorted(str(k) for k in range(1, count))


def test_more_vectors_than_samples(tmp_path: Path) -> None:
    work = desk(tmp_path, count=3)
    _, said = work.works("--vectors", "9")
    assert len(list(work.out.glob("vectors/*"))) == 2
    assert "3 samples with vectors, not 9" in said


@pytest.mark.parametrize(("change", "told"), [
    (lambda data: data[:-4] + b"\x00\x00\x80\x3f", "vectors/20/"),
    (lambda data: data[:-4], "vectors/20/input.npy has another type or shape"),
    (lambda data: b"", "vectors/20/input.npy has another type or shape"),
], ids=["value", "short", "empty"])
def test_a_further_sample_that_was_changed(tmp_path: Path, change: Any, told: str) -> None:
    """Beyond those that samples.npz holds, the input itself is what the codes are computed from."""
    work = desk(tmp_path)
    work.works("--vectors", "23")
    path = work.out / "vectors/20/input.npy"
    path.write_bytes(change(path.read_bytes()))
    found = run("validate", work.out)
    assert found.status == 1
    assert told in found.out


def test_a_vector_that_was_changed(tmp_path: Path) -> None:
    work = desk(tmp_path)
    work.works("--vectors", "2")
    values = np.load(work.out / "vectors/1/intermediate_1.npy")
    values.flat[3] += 1
    np.save(work.out / "vectors/1/intermediate_1.npy", values)
    found = run("validate", work.out)
    assert found.status == 1
    assert "vectors/1/intermediate_1.npy (tensor 'r') at [0, 0, 0, 3]" in found.out


# -- what is asked for ------------------------------------------------------------------------------------------------


def test_a_required_hand_over(tmp_path: Path) -> None:
    work = desk(tmp_path, BRANCHES)
    assert work.quantize("--require-handoff").status == 0
    outcome = work.quantize("--require-handoff", "--concat", "refuse")
    assert outcome.status == 1
    assert (work.out / "model.int.onnx").exists()


@pytest.mark.parametrize(("toml", "parts"), [
    ("silicon = 'slow'", ["silicon: 'slow'", "safe, fast"]),
    ("handoff_opset = 12", ["handoff_opset: 12", "13, 10"]),
    ("handoff_opset = true", ["handoff_opset: True"]),
    ("handoff_opset = 10.0", ["handoff_opset: 10.0", "13, 10"]),
    ("vectors = 0", ["vectors: 0", "at least 1"]),
    ("pad_outputs = 'yes'", ["pad_outputs: 'yes'", "true or false"]),
    ("zero_bias = 1", ["zero_bias: 1", "true or false"]),
    ("io = 8", ["io: 8", "float, int8"]),
])
def test_options_that_are_none(tmp_path: Path, toml: str, parts: list[str]) -> None:
    work = desk(tmp_path)
    (tmp_path / "run.toml").write_text(toml)
    work.refused(*parts, options=["--config", tmp_path / "run.toml"])


def test_options_from_a_file(tmp_path: Path) -> None:
    work = desk(tmp_path)
    (tmp_path / "run.toml").write_text("vectors = 3\nhandoff_opset = 10\nzero_taps = 'never'\npad_outputs = true\n")
    summary, _ = work.works("--config", tmp_path / "run.toml", "--zero-taps", "always", "--no-pad-outputs")
    told = summary["options"]
    assert (told["vectors"], told["handoff_opset"], told["zero_taps"], told["pad_outputs"]) == (3, 10, "always", False)


@pytest.mark.parametrize("options", [
    Config(), Config(silicon="fast", zero_taps="never", concat="refuse", vectors=4),
    Config(io="int8", annotate="dory", handoff_opset=10, vectors=20, pad_outputs=True),
], ids=["default", "off", "all"])
def test_two_runs_write_the_same_bytes(options: Config) -> None:
    data = np.random.default_rng(5).standard_normal((24, 4, 8, 8)).astype(np.float32)
    first, second = (quantize(model(BRANCHES), data, config=options) for _ in range(2))
    assert first.files == second.files
    for name in first.files:
        if name.endswith(".npy"):
            assert np.load(io.BytesIO(first.files[name]), allow_pickle=False).size


def test_a_hand_over_with_an_error_is_our_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written, and the status says whose fault it is."""
    bad = Finding("E5", "Conv -> 'a'", "this", "that", "do it")
    monkeypatch.setattr(exporting_bundle, "check_model", lambda model, files: Handoff("model.onnx", (bad,)))
    work = desk(tmp_path)
    outcome = run("quantize", work.model, "-o", work.out, "-q")
    assert outcome.status == 70
    assert "HTVM would not take htvm/model.onnx: E5 Conv -> 'a': found this; needed: that; do it" in outcome.err
    assert not work.out.exists()
