"""More rows for a classifier: accelerated, the least code in every spelling, and nobody's answer changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny

from onnxdiana import Config, quantize
from onnxdiana.check import validate
from onnxdiana.exporting.artifacts import Artifacts
from onnxdiana.runtime import Runner

NETWORK = """(float[N,4,4,4] x) => (float[N,10] y) <float[8,4,3,3] w, float[8] b, float[10,8] v{bias}> {{
    a = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(a)  p = GlobalAveragePool(r)  f = Flatten(p)
    {head} }}"""
GEMM = NETWORK.format(bias=", float[10] c", head="y = Gemm<transB=1>(f, v, c)")
WITHOUT_BIAS = NETWORK.format(bias="", head="y = Gemm<transB=1>(f, v)")
SOFTMAX = NETWORK.format(bias=", float[10] c", head="z = Gemm<transB=1>(f, v, c)  y = Softmax(z)")
CONV = """(float[N,4,4,4] x) => (float[N,10] y) <float[8,4,3,3] w, float[8] b, float[10,8,1,1] v, float[10] c> {
    a = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(a)  p = GlobalAveragePool(r)  z = Conv(p, v, c)  y = Flatten(z) }"""
DATA = np.random.default_rng(3).standard_normal((24, 4, 4, 4)).astype(np.float32)
SPELLINGS = ("model.float.onnx", "model.qdq.onnx", "model.int.onnx", "htvm/model.onnx")


def run(text: str, folder: Path | None = None, *, pad: bool = True, **options: Any) -> Artifacts:
    return quantize(tiny.model(text), {"x": DATA[:16]}, folder, config=Config(pad_outputs=pad), **options)


def outputs(result: Artifacts, name: str) -> np.ndarray:
    proto = onnx.load_from_string(result.files[name])
    found = Runner(proto).run({proto.graph.input[0].name: DATA[16:17] if "htvm" in name else DATA[16:]})
    return found[proto.graph.output[0].name]


def choice(result: Artifacts) -> dict[str, Any]:
    found, = (entry for entry in result.summary["handoff"]["choices"] if entry["option"] == "pad-outputs")
    return dict(found)


@pytest.mark.parametrize("text", [GEMM, WITHOUT_BIAS, CONV], ids=["gemm", "no bias", "conv"])
def test_ten_outputs_become_twelve(tmp_path: Path, text: str) -> None:
    """The first ten are what they were, the others the least code; the layer is accelerated."""
    plain, padded = run(text, pad=False), run(text, tmp_path / "out")
    least = -128 * 2.0 ** padded.summary["layers"][-1]["exponent"]
    for name in SPELLINGS:
        before, after = outputs(plain, name), outputs(padded, name)
        np.testing.assert_array_equal(after[:, :10], before)
        np.testing.assert_array_equal(after[:, 10:], np.full((len(before), 2), least))
    assert [result.summary["layers"][-1]["core"] for result in (plain, padded)] == ["cpu", "digital"]
    assert padded.summary["layers"][-1]["not_accelerated_because"] == []
    offloaded = [sum(result.summary["handoff"]["offloaded"].values()) for result in (plain, padded)]
    assert offloaded == [1, 2]
    assert choice(padded)["what"] == "10 outputs as 12"
    assert choice(plain) == choice(plain) | {"applied": False, "setting": "false", "what": "10 outputs, kept"}
    assert "--pad-outputs makes them 12" in choice(plain)["reason"]
    assert validate(tmp_path / "out").ok


def test_the_figures_are_those_of_the_own_outputs() -> None:
    """Twelve outputs of which two are always right would look better than ten."""
    data = {"x": DATA[16:], "labels": np.arange(8) % 10}
    plain, padded = (run(GEMM, pad=pad, evaluation=data).summary for pad in (False, True))
    assert padded["evaluation"] == plain["evaluation"]
    assert padded["handoff"]["own_outputs"] == 10
    assert plain["handoff"]["own_outputs"] is None
    assert padded["agreement"] == plain["agreement"]
    assert [entry["sqnr_db"] for entry in padded["layers"]] == [entry["sqnr_db"] for entry in plain["layers"]]


def test_a_tail_reads_the_own_outputs(tmp_path: Path) -> None:
    """The model has its ten answers; the hand-over graph has a layer of twelve, and a Slice behind it."""
    plain, padded = run(SOFTMAX, pad=False), run(SOFTMAX, tmp_path / "out")
    for name in SPELLINGS[:3]:
        np.testing.assert_array_equal(outputs(padded, name), outputs(plain, name))
    handed = onnx.load_from_string(padded.files["htvm/model.onnx"])
    assert [node.op_type for node in handed.graph.node][-2:] == ["Div", "Slice"]
    np.testing.assert_array_equal(outputs(padded, "htvm/model.onnx"), outputs(plain, "htvm/model.onnx"))
    tail = Runner(onnx.load_from_string(padded.files["htvm/tail.onnx"]))
    entry = json.loads(padded.files["htvm/manifest.json"])["output_tensor"]
    np.testing.assert_array_equal(tail.run({entry: outputs(padded, "htvm/model.onnx")})["y"],
                                  outputs(padded, "model.int.onnx")[:1])
    assert padded.summary["handoff"]["offloaded"] == {"conv": 1, "dense": 1}
    assert validate(tmp_path / "out").ok


REFUSED = {
    "the accelerator takes the classifier as it is": GEMM.replace("10", "12"),
    "more outputs do not help": "(float[N,3] x) => (float[N,10] y) <float[10,3] v> { y = Gemm<transB=1>(x, v) }",
    "returns its logits": NETWORK.format(bias="", head="l = Gemm<transB=1>(f, v)  y = Softmax(l)").replace(
        "(float[N,10] y)", "(float[N,10] y, float[N,10] l)"),
    "no linear layer": "(float[N,4,3,3] x) => (y) <float[6,4,1,1] v> { y = Conv(x, v) }",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_why_none_are_added(tmp_path: Path, reason: str) -> None:
    text = REFUSED[reason]
    shape = {"(float[N,3] x)": (16, 3), "(float[N,4,3,3] x)": (16, 4, 3, 3)}.get(text.split(" =>")[0], (16, 4, 4, 4))
    data = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    result = quantize(tiny.model(text), data, tmp_path / "out", config=Config(pad_outputs=True))
    plain = quantize(tiny.model(text), data)
    assert result.files["model.int.onnx"] == plain.files["model.int.onnx"]
    told = [entry for entry in result.summary["handoff"]["choices"] if entry["option"] == "pad-outputs"]
    if reason.startswith("no linear layer"):
        assert told == []
    else:
        assert [entry["applied"] for entry in told] in ([False], [])
        assert all(reason in entry["reason"] for entry in told)
    assert validate(tmp_path / "out").ok


def test_validate_measures_the_own_outputs(tmp_path: Path) -> None:
    run(GEMM, tmp_path / "plain", pad=False)
    run(GEMM, tmp_path / "padded")
    plain, padded = (validate(tmp_path / name).layers[-1] for name in ("plain", "padded"))
    assert (padded.sqnr, padded.sqnr_fake, padded.distance) == (plain.sqnr, plain.sqnr_fake, plain.distance)


def test_outputs_that_are_constant_by_themselves() -> None:
    """Twelve classes of which two are never seen: all of them are the network's own."""
    proto = tiny.model(GEMM.replace("10", "12"))
    arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
    weight, bias = (onnx.numpy_helper.to_array(arrays[name]).copy() for name in "vc")
    weight[10:], bias[10:] = 0, -64
    for name, array in (("v", weight), ("c", bias)):
        arrays[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    summaries = [quantize(proto, {"x": DATA[:16]}, config=Config(pad_outputs=pad)).summary for pad in (False, True)]
    assert summaries[0]["agreement"] == summaries[1]["agreement"]
    assert summaries[1]["handoff"]["own_outputs"] is None


def test_nothing_is_padded_where_the_cpu_was_asked_for() -> None:
    found = quantize(tiny.model(GEMM), {"x": DATA[:16]}, config=Config(pad_outputs=True, core="cpu"))
    assert found.summary["layers"][-1]["output_shape"] == [10]
    assert not [entry for entry in found.summary["handoff"]["choices"] if entry["option"] == "pad-outputs"]


@pytest.mark.parametrize("own", [9, 11, 12, 0, True, "10"])
def test_a_summary_that_lies_about_the_own_outputs(tmp_path: Path, own: Any) -> None:
    run(GEMM, tmp_path / "out")
    path = tmp_path / "out" / "summary.json"
    summary = json.loads(path.read_text())
    summary["handoff"]["own_outputs"] = own
    path.write_text(json.dumps(summary))
    assert not validate(tmp_path / "out").ok
