"""The files of one run: vectors, manifest, hashes, the same bytes every time; nothing is written that disagrees."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from integer_graphs import RELU, Case, GraphBuilder, extremes, networks
from numpy.typing import NDArray
from tiny import model

from onnxdiana import numerics, quantize, validate, validation
from onnxdiana.config import Config
from onnxdiana.errors import SpecViolation
from onnxdiana.exporting import artifacts, files, spellings
from onnxdiana.exporting.artifacts import Artifacts
from onnxdiana.exporting.bundle import manifest, vectors
from onnxdiana.exporting.htvm import INPUT
from onnxdiana.graph import name_of
from onnxdiana.handoff import interpreter
from onnxdiana.runtime import Runner
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail

NETWORK = """(float[N,3,8,8] image) => (float[N,5] answer)
    <float[4,3,3,3] w, float[4] b, float[4,4,3,3] v, float[5,4] u> {
    a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w, b)  r = Relu(a)  c = Conv<pads=[1,1,1,1]>(r, v)
    s = Add(r, c)  q = Relu(s)  p = GlobalAveragePool(q)  f = Flatten(p)  answer = Gemm<transB=1>(f, u) }"""


def samples() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((20, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def run() -> Artifacts:
    return quantize(model(NETWORK), {"image": samples()})


def array(run: Artifacts, name: str) -> NDArray[np.float32]:
    loaded: NDArray[np.float32] = np.load(io.BytesIO(run.files[name]), allow_pickle=False)
    return loaded


# -- vectors ----------------------------------------------------------------------------------------------------------


def test_the_files(run: Artifacts) -> None:
    vectors_ = [f"htvm/intermediate_{i}.npy" for i in range(6)]
    assert set(run.files) == {
        "model.float.onnx", "model.qdq.onnx", "model.int.onnx", "scales.json", "summary.json", "samples.npz",
        "htvm/model.onnx", "htvm/manifest.json", "htvm/README.md", "htvm/input.npy", "htvm/output.npy", *vectors_}


def test_vectors_are_the_first_samples(run: Artifacts) -> None:
    """float32, batch 1, in execution order, 0 the quantized input; an npy holds nothing but numbers."""
    integer = onnx.load_from_string(run.files["model.int.onnx"])
    quantized = [node.output[0] for node in onnx.load_from_string(run.files["model.qdq.onnx"]).graph.node
                 if node.op_type == "QuantizeLinear"]
    assert quantized == ["image.quantized", "r", "c", "q", "p", "answer.quantized"]
    expected = Runner(integer, [*quantized, "answer"]).run({"image": samples()[:1]})
    np.testing.assert_array_equal(array(run, "htvm/input.npy"), samples()[:1])
    np.testing.assert_array_equal(array(run, "htvm/output.npy"), expected["answer"])
    for i, name in enumerate(quantized):
        found = array(run, f"htvm/intermediate_{i}.npy")
        np.testing.assert_array_equal(found, expected[name])
        assert found.shape[0] == 1
    assert {array(run, name).dtype for name in run.files if name.endswith(".npy")} == {np.dtype(np.float32)}


def test_the_hand_over_graph_computes_the_vectors(run: Artifacts) -> None:
    handed = onnx.load_from_string(run.files["htvm/model.onnx"])
    described = json.loads(run.files["htvm/manifest.json"])
    names = described["intermediates"]
    found = Runner(handed, [*names.values(), handed.graph.output[0].name]).run(
        {INPUT: array(run, "htvm/input.npy")})
    for file, tensor in names.items():
        np.testing.assert_array_equal(array(run, f"htvm/{file}").reshape(-1), found[tensor].reshape(-1))
    np.testing.assert_array_equal(array(run, "htvm/output.npy"), found["answer"])


@given(networks())
@settings(max_examples=max(1, settings.default.max_examples // 10))
def test_vectors_of_random_networks(case: Case) -> None:
    """One a tensor with codes that both graphs have, and its values those of the interpreter."""
    sample = {name: values[:1] for name, values in case.floats(extremes(case)).items()}
    names = case.spellings.handed
    files = vectors(case.integer, names, sample, "float")
    assert list(files) == ["input.npy", "output.npy", *(f"intermediate_{i}.npy" for i in range(len(names)))]
    expected = interpreter.run(case.spellings.htvm, {INPUT: np.load(io.BytesIO(files["input.npy"]))}, names)
    for i, name in enumerate(names):
        found = np.load(io.BytesIO(files[f"intermediate_{i}.npy"]))
        np.testing.assert_array_equal(found.reshape(-1), expected[name].reshape(-1))


# -- the documents ----------------------------------------------------------------------------------------------------


def test_the_manifest(run: Artifacts) -> None:
    described = json.loads(run.files["htvm/manifest.json"])
    table = ScaleTable.from_json(run.files["scales.json"].decode())
    hashes = described.pop("sha256")
    assert described == {
        "format": "onnxdiana.handoff", "version": 1, "htvm": "132018d", "dory": "8a0fe7b", "opset": 13, "io": "float",
        "input_tensor": "image", "input_permutation": None, "input_exponent": table.exponent("image"),
        "input_scale": 2.0 ** table.exponent("image"), "input_codes": [-128, 127], "output_tensor": "answer",
        "output_exponent": table.exponent("answer"), "output_scale": 2.0 ** table.exponent("answer"), "tail": [],
        "intermediates": {f"intermediate_{i}.npy": name for i, name in enumerate(
            ["image.quantized", "r", "c", "q", "p", "answer.quantized"])},
    }
    beside = {name.removeprefix("htvm/") for name in run.files if name.startswith("htvm/")} - {"manifest.json"}
    assert set(hashes) == beside
    for name, digest in hashes.items():
        assert digest == hashlib.sha256(run.files[f"htvm/{name}"]).hexdigest()


CHANNELS_LAST = """(float[N,8,6,3] image) => (float[N,5] answer)
    <float[4,3,3,3] w, float[4] b, float[5,4] u> {
    t = Transpose<perm=[0,3,1,2]>(image)  a = Conv<pads=[1,1,1,1]>(t, w, b)  r = Relu(a)  p = GlobalAveragePool(r)
    f = Flatten(p)  logits = Gemm<transB=1>(f, u)  answer = Softmax(logits) }"""


def test_channels_last_and_a_tail(tmp_path: Path) -> None:
    """Input and its codes come permuted, the logits are the output; what the manifest says of both."""
    images = np.random.default_rng(1).standard_normal((20, 8, 6, 3)).astype(np.float32)
    result = quantize(model(CHANNELS_LAST), {"image": images}, tmp_path / "out",
                      evaluation={"image": images, "labels": np.zeros(20, int)})
    described = json.loads(result.files["htvm/manifest.json"])
    assert (described["input_tensor"], described["input_permutation"]) == ("image", [0, 3, 1, 2])
    assert (described["output_tensor"], described["tail"]) == ("logits", ["Softmax"])
    np.testing.assert_array_equal(array(result, "htvm/input.npy"), images[:1].transpose(0, 3, 1, 2))
    integer = Runner(onnx.load_from_string(result.files["model.int.onnx"]), ["image.quantized", "logits"])
    found = integer.run({"image": images[:1]})
    np.testing.assert_array_equal(array(result, "htvm/intermediate_0.npy"),
                                  found["image.quantized"].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(array(result, "htvm/output.npy"), found["logits"])
    handed = onnx.load_from_string(result.files["htvm/model.onnx"])
    names = described["intermediates"]
    values = Runner(handed, [*names.values(), "logits"]).run({INPUT: array(result, "htvm/input.npy")})
    for file, tensor in {**names, "output.npy": "logits"}.items():
        np.testing.assert_array_equal(array(result, f"htvm/{file}").reshape(-1), values[tensor].reshape(-1))
    assert validate(tmp_path / "out").ok


def test_the_table_belongs_to_the_float_model(run: Artifacts) -> None:
    table = ScaleTable.from_json(run.files["scales.json"].decode())
    assert table.model_sha256 == hashlib.sha256(run.files["model.float.onnx"]).hexdigest()


def test_the_stored_samples(run: Artifacts) -> None:
    """At most 16, evenly, the first among them."""
    with np.load(io.BytesIO(run.files["samples.npz"]), allow_pickle=False) as archive:
        stored = archive["image"]
        assert archive.files == ["image"]
    np.testing.assert_array_equal(stored, samples()[::2])
    assert artifacts.STORED_SAMPLES == 16


def test_metadata_says_what_the_calibration_was(run: Artifacts) -> None:
    drawn = quantize(model(NETWORK))
    for artifact, expected in ((run, {}), (drawn, {"onnxdiana.synthetic_calibration": "true"})):
        for name in ("model.qdq.onnx", "model.int.onnx"):
            proto = onnx.load_from_string(artifact.files[name])
            assert {p.key: p.value for p in proto.metadata_props} == expected
        for name in ("model.float.onnx", "htvm/model.onnx"):
            assert not onnx.load_from_string(artifact.files[name]).metadata_props


def test_npy_and_documents() -> None:
    written = files.npy(np.arange(6, dtype=np.float32).reshape(2, 3).T)
    np.testing.assert_array_equal(np.load(io.BytesIO(written)), np.arange(6).reshape(2, 3).T)
    assert files.document({"b": 1, "ü": [2]}) == '{\n "b": 1,\n "ü": [\n  2\n ]\n}\n'.encode()
    with pytest.raises(ValueError, match="Object arrays"):
        files.npy(np.array([{}]))


# -- determinism ------------------------------------------------------------------------------------------------------

PROGRAM = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_artifacts import NETWORK, model, samples
from onnxdiana import quantize
files = quantize(model(NETWORK), {"image": samples()}).files
for name in sorted(files):
    print(name, hashlib.sha256(files[name]).hexdigest())
"""


def test_another_process_writes_the_same_bytes(run: Artifacts) -> None:
    """Whatever the order of its sets."""
    here = Path(__file__).parent
    lines = {f"{name} {hashlib.sha256(run.files[name]).hexdigest()}" for name in run.files}
    path = os.pathsep.join([str(here.parent), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(here)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": path})
    assert set(result.stdout.splitlines()) == lines


# -- agreement --------------------------------------------------------------------------------------------------------


def test_nothing_is_written_that_disagrees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bias of the integer model one too large."""
    original = spellings.integer_model

    def broken(*given: Any) -> ir.Model:
        result = original(*given)
        bias = next(v for name, v in result.graph.initializers.items() if name.startswith("c.bias"))
        assert bias.const_value is not None
        bias.const_value = ir.tensor(bias.const_value.numpy() + np.int32(1 << 20), name=bias.name)
        return result

    monkeypatch.setattr(spellings, "integer_model", broken)
    with pytest.raises(SpecViolation, match=r"model\.int\.onnx departs from the reference at tensor 'c', index \["):
        quantize(model(NETWORK), {"image": samples()}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("bound", "judge"), [(2**24 - 1, "onnxruntime"), (2**24, "int32 interpreter")])
def test_who_judges_the_hand_over_graph(bound: int, judge: str) -> None:
    """From 2**24 on, onnxruntime's float32 would be inexact."""
    build = GraphBuilder(4, exponent=0, codes=RELU)
    bias = np.array([bound - 4 * 127, 0])
    case = build.build(build.gemm("x", "y", np.ones((2, 4)), bias, weight_exponent=0, shift=17))
    assert case.bound == bound
    written = case.spellings
    agreement = validation.agree(case.view, written.table, case.integer, case.floats(extremes(case)),
                                 integer_model=written.integer, fake=written.fake, htvm=written.htvm,
                                 handed=written.handed, judged=8)
    assert agreement.judge == judge
    assert not agreement.mismatches


def test_vectors_carry_the_names_of_the_interface() -> None:
    build = GraphBuilder(2, exponent=0)
    case = build.build(build.gemm("x", "y", np.eye(2), weight_exponent=0))
    sample = {"x": np.array([[1.5, -1.5]], np.float32)}
    files = vectors(case.integer, case.spellings.handed, sample, "float")
    found = {name: np.load(io.BytesIO(data)).tolist() for name, data in files.items()}
    assert found == {"input.npy": [[1.5, -1.5]], "output.npy": [[1, -2]], "intermediate_0.npy": [[1, -2]],
                     "intermediate_1.npy": [[1, -2]]}
    described = manifest(case.integer, Tail(None, ("y",)), case.table, case.spellings, Config(), files)
    assert json.loads(described)["input_tensor"] == "x"
    assert name_of(case.integer.graph.outputs[0]) == "y"
    assert numerics.FLOAT32_EXACT == 2**24
