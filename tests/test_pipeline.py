"""The Python API: five steps and one call, what they take, what they leave alone, and what a folder holds."""

from __future__ import annotations

import ast
import copy
import dataclasses
import hashlib
import importlib
import importlib.metadata
import inspect
import io
import json
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import small_networks
import tiny

import onnxdiana
from onnxdiana import (
    Artifacts,
    CalibrationError,
    Config,
    TargetError,
    export,
    fake_quantize,
    integerize,
    map_to_hardware,
    prepare,
    quantize,
    with_evaluation,
)
from onnxdiana.report import text
from onnxdiana.runtime import Runner

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return small_networks.model("residual")


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return small_networks.samples("residual")


@pytest.fixture(scope="module")
def result(model: onnx.ModelProto, data: np.ndarray) -> Artifacts:
    return quantize(model, data)


def steps(model: Any, data: Any, config: Config | None = None) -> onnxdiana.Quantized:
    return integerize(map_to_hardware(fake_quantize(prepare(model), data, config)))


def folder_contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without(files: Mapping[str, bytes], *paths: str) -> dict[str, Any]:
    """The files, summary.json as a document that lacks some ``section.key``."""
    summary = json.loads(files["summary.json"])
    for path in paths:
        section, key = path.split(".")
        del summary[section][key]
    return {**files, "summary.json": summary}


# -- steps and call ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", small_networks.NETWORKS)
def test_the_steps_write_what_the_call_writes(name: str, tmp_path: Path) -> None:
    proto, samples = small_networks.model(name), small_networks.samples(name)
    test = {"x": small_networks.samples(name, 20, seed=5), "labels": np.arange(20) % 6}
    called = quantize(proto, samples, tmp_path / "call", evaluation=test)
    stepped = export(with_evaluation(steps(proto, samples), test), tmp_path / "steps")
    assert called.files == stepped.files == folder_contents(tmp_path / "call") == folder_contents(tmp_path / "steps")
    assert called.summary == stepped.summary == json.loads(called.files["summary.json"])
    assert (called.folder, stepped.folder) == (tmp_path / "call", tmp_path / "steps")
    assert called.agreement.mismatches == ()


def test_nothing_is_written_without_a_folder(model: onnx.ModelProto, data: np.ndarray, result: Artifacts,
                                             tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    again = quantize(model, data, output=None)
    assert again.folder is None
    assert again.files == result.files
    assert list(tmp_path.iterdir()) == []


def test_arguments_are_left_as_they_are(tmp_path: Path) -> None:
    proto, array = small_networks.model("residual"), small_networks.samples("residual")
    before, samples = proto.SerializeToString(deterministic=True), array.copy()
    arrays, labelled = {"x": array}, {"x": array, "labels": np.zeros(len(array), int)}
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    intermediate = ir.from_proto(proto)
    written = path.read_bytes()
    files = [quantize(source, arrays, evaluation=labelled).files for source in (proto, intermediate, path)]
    assert proto.SerializeToString(deterministic=True) == before
    assert ir.to_proto(intermediate).SerializeToString(deterministic=True) == ir.to_proto(
        ir.from_proto(proto)).SerializeToString(deterministic=True)
    assert path.read_bytes() == written
    assert set(arrays) == {"x"}
    assert set(labelled) == {"x", "labels"}
    np.testing.assert_array_equal(array, samples)
    for other in files[1:]:
        different = {name for name in files[0] if other[name] != files[0][name]}
        assert different == {"summary.json"}  # the model's name and hash


def snapshot(value: Any) -> Any:
    """Everything in a step's value, models serialized."""
    if isinstance(value, ir.Model):
        return ir.to_proto(value).SerializeToString(deterministic=True)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [snapshot(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: snapshot(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return repr(value) if isinstance(value, str | int | float | type(None)) else None


def test_no_step_changes_the_value_of_the_step_before(data: np.ndarray) -> None:
    """Whatever is done later, and twice, with other options in between."""
    prepared = prepare(small_networks.model("residual"))
    first = snapshot(prepared)
    fake = fake_quantize(prepared, data)
    second = snapshot(fake)
    fake_quantize(prepared, data[:3], Config(recover="none"))
    mapped = map_to_hardware(fake)
    on_cpu = integerize(map_to_hardware(fake, "cpu"))
    quantized = integerize(mapped)
    third = snapshot(quantized)
    files = export(quantized, None).files
    export(with_evaluation(on_cpu, data), None)
    assert snapshot(prepared) == first
    assert snapshot(fake) == second
    assert snapshot(quantized) == third
    assert export(quantized, None).files == files
    assert snapshot(fake_quantize(prepared, data)) == second


def test_the_value_of_every_step_is_frozen(data: np.ndarray) -> None:
    prepared = prepare(small_networks.model("residual"))
    fake = fake_quantize(prepared, data)
    mapped = map_to_hardware(fake)
    quantized = integerize(mapped)
    for value in (prepared, fake, mapped, quantized, export(quantized, None), fake.table, mapped.target, fake.config,
                  fake.calibration, fake.view):
        field = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, None)
    with pytest.raises(TypeError):
        fake.table.tensors["x"] = None  # type: ignore[index]


# -- what data may be -------------------------------------------------------------------------------------------------


def batches(data: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(data), 7):
        yield data[start:start + 7]


def data_in_every_form(data: np.ndarray, folder: Path) -> dict[str, Any]:
    np.save(folder / "data.npy", data)
    np.savez(folder / "data.npz", x=data)
    np.savez(folder / "more.npz", other=data, x=data[:1])
    (folder / "stack").mkdir()
    for i, sample in enumerate(data):
        np.save(folder / "stack" / f"{i:03}.npy", sample)
    return {
        ".npy": folder / "data.npy", ".npz": str(folder / "data.npz"), ".npz:KEY": f"{folder / 'more.npz'}:other",
        "folder": folder / "stack", "array": data, "dict": {"x": data}, "float64": data.astype(np.float64),
        "generator function": lambda: batches(data), "function of lists": lambda: [[part] for part in batches(data)],
        "function of dicts": lambda: ({"x": part} for part in batches(data)), "batches": list(batches(data)),
    }


def test_data_in_every_form_give_the_same_integers(model: onnx.ModelProto, data: np.ndarray, result: Artifacts,
                                                   tmp_path: Path) -> None:
    origin = ("calibration.source", "calibration.sha256")
    for name, form in data_in_every_form(data, tmp_path).items():
        found = quantize(model, form)
        assert without(found.files, *origin) == without(result.files, *origin), name
        hashed = found.summary["calibration"]["sha256"]
        assert (hashed is None) == (name in ("array", "dict", "float64", "batches") or "function" in name), name


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_batch_changes_nothing(model: onnx.ModelProto, data: np.ndarray, result: Artifacts, batch: int) -> None:
    found = quantize(model, data, config=Config(batch=batch))
    assert without(found.files, "options.batch") == without(result.files, "options.batch")


def test_the_call_looks_for_data_beside_the_model() -> None:
    found = quantize(DIGITS / "resnet8.onnx").summary["calibration"]
    assert (found["source"], found["synthetic"]) == ("resnet8.calib.npz", False)


def test_the_core_asked_for_between_the_steps_counts(model: onnx.ModelProto, data: np.ndarray, tmp_path: Path) -> None:
    mapped = map_to_hardware(fake_quantize(prepare(model), data), core="cpu")
    artifacts = export(integerize(mapped), tmp_path / "out")
    assert artifacts.summary["options"]["core"] == "cpu"
    assert set(artifacts.summary["totals"]["macs_by_core"]) == {"cpu"}
    assert onnxdiana.validate(tmp_path / "out").ok


def test_an_output_unlike_the_float_one_is_warned_of(data: np.ndarray, result: Artifacts) -> None:
    poor = {**result.summary["agreement"], "sqnr_db": dict.fromkeys(result.summary["agreement"]["sqnr_db"], 3.0)}
    layers = [{**entry, "sqnr_db": 4.0} for entry in result.summary["layers"]]
    notes = text.notes(dataclasses.replace(result, summary={**result.summary, "agreement": poor, "layers": layers}))
    assert any("WARNING: the integer model answers little like the float one" in line for line in notes)
    assert any(f"-> '{layers[0]['output']}'" in line and "first layer below" in line for line in notes)
    assert not any("answers little" in line for line in text.notes(result))


def test_no_data_draws_synthetic_inputs_and_says_so(model: onnx.ModelProto) -> None:
    with pytest.warns(onnxdiana.SyntheticDataWarning, match="SYNTHETIC"):
        fake_quantize(prepare(model))
    found = quantize(model)
    assert found.summary["calibration"] | {"correction_samples": None} == {
        "source": "synthetic", "sha256": None, "synthetic": True, "samples": 64, "correction_samples": None}
    for name in ("model.qdq.onnx", "model.int.onnx"):
        stamps = {p.key: p.value for p in onnx.load_from_string(found.files[name]).metadata_props}
        assert stamps == {"onnxdiana.synthetic_calibration": "true"}, name
    again, other = quantize(model), quantize(model, config=Config(seed=1))
    assert again.files == found.files
    assert other.files["scales.json"] != found.files["scales.json"] or (
        other.files["model.int.onnx"] != found.files["model.int.onnx"])


def test_data_with_a_stamp_of_synthetic_inputs_have_none(result: Artifacts) -> None:
    for name in ("model.qdq.onnx", "model.int.onnx", "htvm/model.onnx"):
        assert not onnx.load_from_string(result.files[name]).metadata_props


# -- determinism ------------------------------------------------------------------------------------------------------

_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import small_networks, onnxdiana
data = small_networks.samples("residual")
onnxdiana.quantize(small_networks.model("residual"), data, sys.argv[2], evaluation=data[:9])
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    runs = []
    for seed in ("1", "2"):
        folder = tmp_path / f"in_{seed}"
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": seed, "TZ": f"UTC{seed}"}
        runs.append(subprocess.Popen([sys.executable, "-c", _RUN, str(Path(__file__).parent), "out"], cwd=folder,
                                     env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for run in runs:
        out, err = run.communicate()
        assert (run.returncode, out, err) == (0, "", "")
    first, second = (folder_contents(tmp_path / f"in_{seed}" / "out") for seed in ("1", "2"))
    assert first == second
    assert len(first) > 10


# -- options ----------------------------------------------------------------------------------------------------------


def cores(found: Artifacts) -> dict[str, str]:
    return {entry["output"]: entry["core"] for entry in found.summary["layers"]}


def test_cores(model: onnx.ModelProto, data: np.ndarray, result: Artifacts) -> None:
    """The model has 6 answers and an average pool, which the digital core does not take."""
    assert cores(result) == {"r0": "digital", "c1": "digital", "r1": "digital", "g": "cpu", "y": "cpu"}
    assert {entry["output"] for entry in result.summary["layers"] if entry["not_accelerated_because"]} == {"g", "y"}
    on_cpu = quantize(model, data, config=Config(core="cpu"))
    assert set(cores(on_cpu).values()) == {"cpu"}
    same = [name for name in result.files if name.endswith((".onnx", ".npy"))]
    assert [on_cpu.files[name] for name in same] == [result.files[name] for name in same]
    assert on_cpu.summary["totals"]["macs_by_core"] == {"cpu": result.summary["totals"]["macs"]}


def test_core_digital_lists_every_layer_that_it_does_not_take(data: np.ndarray) -> None:
    fake = fake_quantize(prepare(small_networks.model("residual")), data)
    with pytest.raises(TargetError) as raised:
        map_to_hardware(fake, "digital")
    message = str(raised.value)
    assert "Gemm -> 'y': output has 6 elements, not a multiple of 4" in message
    assert "use --core auto to leave them to the CPU" in message
    with pytest.raises(TargetError, match="Gemm -> 'y'"):
        quantize(small_networks.model("residual"), data, config=Config(core="digital"))


def test_core_digital_where_it_takes_every_layer() -> None:
    proto = tiny.model("""(float[N,4,8,8] x) => (float[N,8] y) <float[4,4,3,3] w, float[8,256] v> {
        c = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(c)  f = Flatten(r)  y = Gemm<transB=1>(f, v) }""")
    found = quantize(proto, config=Config(core="digital"))
    assert cores(found) == {"r": "digital", "y": "digital"}
    assert found.files["model.int.onnx"] == quantize(proto).files["model.int.onnx"]


def parameters(found: Artifacts, name: str) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(found.files[name]).graph.initializer}


@pytest.mark.parametrize("name", small_networks.NETWORKS)
def test_recover_none_rounds_biases_and_adds_the_half(name: str) -> None:
    found = quantize(small_networks.model(name), small_networks.samples(name), config=Config(recover="none"))
    scales = json.loads(found.files["scales.json"])
    real, exact, fake = (parameters(found, f"model.{kind}.onnx") for kind in ("float", "int", "qdq"))
    graph = onnx.load_from_string(found.files["model.float.onnx"]).graph
    linear = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(linear) >= 3
    for node in linear:
        layer, (_, weight, bias) = node.output[0], node.input
        shift = scales["layers"][layer]["shift"]
        output = next(e["output"] for e in found.summary["layers"] if e["name"] == layer)
        exponent = scales["tensors"][output]["exponent"] - shift
        plain = np.rint(real[bias].astype(np.float64) / 2.0**exponent)
        half = 2 ** (shift - 1) if shift else 0
        np.testing.assert_array_equal(exact[f"{layer}.bias"].reshape(-1), plain + half)
        np.testing.assert_array_equal(fake[f"{layer}.bias.quantized"], plain)
        codes = np.clip(np.rint(real[weight] / 2.0 ** scales["tensors"][weight]["exponent"]), -128, 127)
        np.testing.assert_array_equal(fake[f"{weight}.quantized"], codes)
    corrected = parameters(quantize(small_networks.model(name), small_networks.samples(name)), "model.int.onnx")
    assert any((corrected[f"{n.output[0]}.bias"] != exact[f"{n.output[0]}.bias"]).any() for n in linear)


@pytest.fixture(scope="module")
def digits() -> dict[str, Artifacts]:
    """The carried trained model on its held-out images, with and without corrections."""
    return {recover: quantize(DIGITS / "resnet8.onnx", DIGITS / "resnet8.calib.npz",
                              evaluation=DIGITS / "resnet8.test.npz", config=Config(recover=recover))
            for recover in ("none", "fast")}


def test_corrections_bring_a_trained_model_nearer(digits: dict[str, Artifacts]) -> None:
    """On images that nothing was measured on."""
    plain, corrected = (digits[recover].summary["evaluation"]["sqnr_db"]["logits"] for recover in ("none", "fast"))
    assert corrected > plain + 1


# -- evaluation -------------------------------------------------------------------------------------------------------


def answers(found: Artifacts, name: str, x: np.ndarray) -> np.ndarray:
    return next(iter(Runner(onnx.load_from_string(found.files[name])).run({"input": x}).values()))


def test_evaluation_with_labels(digits: dict[str, Artifacts]) -> None:
    found, path = digits["fast"], DIGITS / "resnet8.test.npz"
    with np.load(path) as archive:
        images, labels = archive["input"], archive["labels"]
    real, exact = (answers(found, f"model.{kind}.onnx", images) for kind in ("float", "int"))
    wrong = [int((y.argmax(axis=1) != labels).sum()) for y in (real, exact)]
    noise = np.square(real.astype(np.float64) - exact).sum()
    evaluation = dict(found.summary["evaluation"])
    assert evaluation.pop("sqnr_db") == {
        "logits": pytest.approx(10 * np.log10(np.square(real.astype(np.float64)).sum() / noise), abs=0.0006)}
    assert evaluation == {
        "source": "resnet8.test.npz", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "samples": 599,
        "agreement": float((real.argmax(axis=1) == exact.argmax(axis=1)).mean()),
        "errors_float": wrong[0], "errors_integer": wrong[1],
        "accuracy_float": 1 - wrong[0] / 599, "accuracy_integer": 1 - wrong[1] / 599}
    assert wrong[1] <= wrong[0] + 2


def test_evaluation_without_labels(model: onnx.ModelProto, data: np.ndarray) -> None:
    evaluation = quantize(model, data, evaluation=lambda: batches(data)).summary["evaluation"]
    assert (evaluation["source"], evaluation["sha256"], evaluation["samples"]) == ("callable", None, 40)
    assert 0.8 < evaluation["agreement"] <= 1
    assert [evaluation[key] for key in ("errors_float", "errors_integer", "accuracy_float", "accuracy_integer")] == [
        None] * 4


@pytest.mark.parametrize("labels", [np.arange(40), np.arange(40) - 1, np.zeros((40, 2))], ids=["large", "-1", "2-d"])
def test_labels_that_do_not_fit(model: onnx.ModelProto, data: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(CalibrationError, match="labels"):
        quantize(model, data, evaluation={"x": data, "labels": labels})


# -- summary.json -----------------------------------------------------------------------------------------------------

NUMBER = (int, float)
SQNR = {str: (float, type(None))}
FIGURES = {"cycles": int, "transfer_cycles": (int, type(None)), "milliseconds": float, "microjoule": float}
LAYER = {
    "name": str, "operator": str, "output": str, "output_shape": [int], "core": str, "not_accelerated_because": [str],
    "shift": int, "rounding": str, "exponent": int, "codes": [int], "accumulator_bound": int,
    "sqnr_db": (float, type(None)), "macs": int, "parameters": int,
    "estimate": ({"models": {str: FIGURES}, "memory": ({
        "input_bytes": int, "output_bytes": int, "weight_bytes": int, "tiling": str, "because": [str]}, None)}, None),
    "sha256": {str: (str, type(None))},
}
SCHEMA: dict[str, Any] = {
    "format": str, "version": int, "versions": {str: str},
    "model": {"name": str, "sha256": str, "external": {str: str}, "opset": int, "producer": str, "notes": [str]},
    "options": {"recover": str, "core": str, "target": str, "batch": int, "seed": int,
                "input_shape": {str: [int]}, "rules": (str, type(None)), "silicon": str, "zero_taps": str,
                "concat": str, "zero_bias": bool, "pad_outputs": bool, "handoff_opset": int, "io": str,
                "annotate": str, "vectors": int}, "target": str,
    "calibration": {"source": str, "sha256": (str, type(None)), "synthetic": bool, "samples": int,
                    "correction_samples": [int]},
    "canonicalization": {"user_rules": [{"rule": str, "places": int}],
                         "user_rules_relative_difference": (float, type(None)),
                         "rules": [{"rule": str, "places": int}], "largest_relative_difference": float},
    "pooling": {str: str}, "layers": [LAYER], "tail": [str],
    "totals": {"layers": int, "macs": int, "parameters": int, "macs_by_core": {str: int},
               "largest_accumulator_bound": int, "estimate": {str: FIGURES}, "weight_bytes": int,
               "activation_bytes": int, "memory_bytes": int, "memory_limit": (int, type(None))},
    "agreement": {"samples": int, "exact": bool, "htvm_judge": (str, type(None)), "sqnr_db": SQNR,
                  "sqnr_fake_quantized_db": SQNR},
    "handoff": {"written": bool, "obstacles": [str],
                "choices": [{"option": str, "setting": str, "place": str, "applied": bool, "what": str, "reason": str}],
                "findings": [{"code": str, "level": str, "node": str, "found": str, "needed": str, "remedy": str}],
                "own_outputs": (int, type(None)), "offloaded": {str: int},
                "estimate": {str: FIGURES}, "regions": [{"name": str, "kind": str, "core": str, "because": [str]}]},
    "evaluation": {"source": str, "sha256": (str, type(None)), "samples": int, "sqnr_db": SQNR,
                   "agreement": (float, type(None)), "errors_float": (int, type(None)),
                   "errors_integer": (int, type(None)), "accuracy_float": (float, type(None)),
                   "accuracy_integer": (float, type(None))},
    "files": {str: str},
}


def fits(value: Any, schema: Any, path: str = "summary") -> Iterator[str]:
    """Where a document does not have the types, or exactly the keys, of a schema; ``(schema, None)``: or null."""
    if isinstance(schema, tuple) and schema[-1] is None:
        if value is not None:
            yield from fits(value, schema[0], path)
        return
    if isinstance(schema, dict) and str in schema:
        for key, item in value.items():
            yield from fits(item, schema[str], f"{path}.{key}")
    elif isinstance(schema, dict):
        if not isinstance(value, dict) or list(value) != list(schema):
            yield f"{path}: {list(value)} instead of {list(schema)}"
            return
        for key, item in value.items():
            yield from fits(item, schema[key], f"{path}.{key}")
    elif isinstance(schema, list):
        for i, item in enumerate(value):
            yield from fits(item, schema[0], f"{path}[{i}]")
    elif not isinstance(value, schema) or (isinstance(value, bool) and schema is not bool):
        yield f"{path}: {value!r} is no {schema}"


@pytest.mark.parametrize("name", small_networks.NETWORKS)
def test_the_summary_has_exactly_these_keys(name: str) -> None:
    data = small_networks.samples(name)
    summary = json.loads(quantize(small_networks.model(name), data, evaluation=data).files["summary.json"])
    assert list(fits(summary, SCHEMA)) == []
    summary["evaluation"] = None
    bare = json.loads(quantize(small_networks.model(name), data).files["summary.json"])
    assert bare == summary


def test_every_key_of_the_summary_is_documented() -> None:
    told = set(re.findall(r"`([^`]+)`", (ROOT / "docs" / "output.md").read_text("utf-8").split("## `summary.json`")[1]))

    def keys(schema: Any) -> Iterator[str]:
        for item in schema if isinstance(schema, list | tuple) else []:
            yield from keys(item)
        for key, item in schema.items() if isinstance(schema, dict) else []:
            if isinstance(key, str):
                yield key
            yield from keys(item)

    assert set(keys({k: v for k, v in SCHEMA.items() if k != "options"})) <= told


def test_what_the_summary_says_is_so(result: Artifacts, model: onnx.ModelProto, data: np.ndarray) -> None:
    summary, files = result.summary, result.files
    assert summary["versions"] == {"onnxdiana": onnxdiana.__version__} | {
        name: importlib.metadata.version(name)
        for name in ("numpy", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnx-graphsurgeon")}
    assert summary["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())
                                if name != "summary.json"}
    assert summary["model"]["sha256"] == hashlib.sha256(model.SerializeToString()).hexdigest()
    assert summary["calibration"]["samples"] == len(data)
    assert summary["calibration"]["correction_samples"] == list(range(len(data)))
    scales, layers = json.loads(files["scales.json"]), summary["layers"]
    assert scales["model"]["sha256"] == summary["files"]["model.float.onnx"]
    assert [entry["name"] for entry in layers] == list(scales["layers"])
    for entry in layers:
        own, tensor = scales["layers"][entry["name"]], scales["tensors"][entry["output"]]
        assert {key: entry[key] for key in own} == own
        assert (entry["exponent"], entry["codes"]) == (tensor["exponent"], tensor["codes"])
    assert {entry["output"]: (entry["macs"], entry["output_shape"]) for entry in layers if entry["name"] != "g"} == {
        "r0": (3 * 9 * 8 * 64, [8, 8, 8]), "c1": (8 * 9 * 8 * 64, [8, 8, 8]), "r1": (0, [8, 8, 8]), "y": (48, [6])}
    totals = summary["totals"]
    assert totals["macs"] == sum(entry["macs"] for entry in layers) == sum(totals["macs_by_core"].values())
    assert totals["largest_accumulator_bound"] == max(entry["accumulator_bound"] for entry in layers)
    manifest = json.loads(files["htvm/manifest.json"])
    assert {f"htvm/{name}": digest for name, digest in manifest["sha256"].items()} == {
        name: digest for name, digest in summary["files"].items()
        if name.startswith("htvm/") and name != "htvm/manifest.json"}


def test_sqnr_of_a_layer_is_measured_on_the_stored_samples(result: Artifacts) -> None:
    with np.load(io.BytesIO(result.files["samples.npz"])) as archive:
        samples = dict(archive)
    assert len(samples["x"]) == 14  # every third of 40
    for entry in result.summary["layers"]:
        name = entry["output"]
        code = f"{name}.quantized" if name == "y" else name
        real = Runner(onnx.load_from_string(result.files["model.float.onnx"]), [name]).run(samples)[name]
        codes = Runner(onnx.load_from_string(result.files["model.int.onnx"]), [code]).run(samples)[code]
        y = real.astype(np.float64)
        noise = np.square(y - codes * 2.0 ** entry["exponent"]).sum()
        assert entry["sqnr_db"] == pytest.approx(10 * np.log10(np.square(y).sum() / noise), abs=0.0006)


# -- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", small_networks.NETWORKS)
def test_vectors_are_what_the_integer_model_computes_on_the_first_sample(name: str) -> None:
    data = small_networks.samples(name)
    found = quantize(small_networks.model(name), data)
    vectors = {file.removeprefix("htvm/"): np.load(io.BytesIO(content))
               for file, content in found.files.items() if file.endswith(".npy")}
    proto = onnx.load_from_string(found.files["model.int.onnx"])
    manifest = json.loads(found.files["htvm/manifest.json"])
    names = manifest["intermediates"]
    assert list(names) == [f"intermediate_{i}.npy" for i in range(len(names))]
    assert set(vectors) == {"input.npy", "output.npy", *names}
    assert len(names) == 1 + len(found.summary["layers"])
    order = [node.output[0] for node in proto.graph.node]
    assert [order.index(tensor) for tensor in names.values()] == sorted(order.index(t) for t in names.values())
    assert names["intermediate_0.npy"] == "x.quantized"
    fresh = Runner(proto, [*names.values(), "y"]).run({"x": data[:1]})
    for file, tensor in [*names.items(), ("output.npy", "y")]:
        np.testing.assert_array_equal(vectors[file].reshape(-1), fresh[tensor].reshape(-1), err_msg=file)
    np.testing.assert_array_equal(vectors["input.npy"], data[:1], strict=True)
    assert {array.dtype for array in vectors.values()} == {np.dtype(np.float32)}
    assert {array.shape[0] for array in vectors.values()} == {1}


# -- public names -----------------------------------------------------------------------------------------------------


def test_public_names() -> None:
    assert dir(onnxdiana) == sorted(onnxdiana.__all__)
    for name in onnxdiana.__all__:
        assert getattr(onnxdiana, name) is not None
    assert {"prepare", "fake_quantize", "map_to_hardware", "integerize", "export", "quantize", "validate"} <= {
        *onnxdiana.__all__}
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = onnxdiana.quantise


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(onnxdiana.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {(node.module, alias.name, alias.asname) for node in block.body if isinstance(node, ast.ImportFrom)
             for alias in node.names}
    assert {name for _, name, alias in shown if name == alias} == {*onnxdiana.__all__} - {"__version__"}
    for module, name, _ in shown:
        assert getattr(importlib.import_module(module or ""), name) is getattr(onnxdiana, name)


def annotated(function: Any, where: str) -> None:
    hints = typing.get_type_hints(function)
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    assert set(names) <= set(hints), where
    assert "return" in hints, where


@pytest.mark.parametrize("name", [name for name in onnxdiana.__all__ if name != "__version__"])
def test_a_public_name_is_documented_and_typed(name: str) -> None:
    value = getattr(onnxdiana, name)
    assert inspect.getdoc(value), name
    if not inspect.isclass(value):
        annotated(value, name)
        assert "Args:" in inspect.getdoc(value) or len(inspect.signature(value).parameters) <= 2
        return
    for key, member in vars(value).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if key.startswith("_") or not inspect.isfunction(function) or function.__name__ != key:  # a default of a field
            continue
        assert inspect.getdoc(function), f"{name}.{key}"
        annotated(function, f"{name}.{key}")


def test_importing_loads_nothing_heavy() -> None:
    code = ("import sys, onnxdiana, onnxdiana.cli; onnxdiana.cli.parser().format_help(); "
            "print({'torch', 'onnxruntime', 'onnx', 'onnx_ir', 'onnxscript', 'numpy'} & set(sys.modules))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# -- what is printed --------------------------------------------------------------------------------------------------


def test_the_table_says_what_the_summary_says(digits: dict[str, Artifacts]) -> None:
    found = dataclasses.replace(digits["fast"], folder=Path("a folder"))
    lines = text.table(found).splitlines()
    layers = found.summary["layers"]
    for entry, line in zip(layers, lines[1:], strict=False):
        assert line.split() == [
            entry["output"], entry["operator"], "x".join(map(str, entry["output_shape"])), entry["core"],
            str(entry["shift"]), f"2^{entry['exponent']}", f"<2^{entry['accumulator_bound'].bit_length()}",
            f"{entry['sqnr_db']:.2f}"]
    rest = "\n".join(lines[1 + len(layers):])
    assert "13 on digital (>99% of MACs), 1 on cpu (<1% of MACs)" in rest
    assert re.search(r"^exact: at every requantizer, bit for bit, on \d+ calibration samples", rest, re.MULTILINE)
    assert re.search(r"^accuracy on resnet8\.test\.npz \(599 samples\): float [\d.]+% \(2 errors\), integer", rest,
                     re.MULTILINE)
    assert "written: a folder (check it with: onnxdiana validate a folder)" in rest
    assert str(Path("a folder", "htvm", "model.onnx")) in rest
    assert json.loads(text.as_json(found)) == {**found.summary, "folder": "a folder"}


def test_the_notes_say_why_a_layer_is_on_the_cpu(result: Artifacts, model: onnx.ModelProto, data: np.ndarray) -> None:
    notes = text.notes(result)
    start = notes.index("2 layers on the CPU:")
    assert notes[start + 2] == "  - Gemm -> 'y': output has 6 elements, not a multiple of 4"
    asked = text.notes(quantize(model, data, config=Config(core="cpu")))
    assert any(line.startswith("every layer is on the CPU, as asked for") for line in asked)


def test_the_notes_say_what_was_chosen_and_what_is_doubtful(result: Artifacts) -> None:
    notes = text.notes(result)
    assert ("--silicon: Add -> 's': requantized to [-128, 127], then Relu on the CPU (the accelerator's sum has no "
            "ReLU)") in notes
    assert ("--pad-outputs: Gemm -> 'y': 6 outputs, kept (not asked for: --pad-outputs makes them 8, which the "
            "accelerator takes)") in notes
    start = notes.index("doubtful on silicon ('onnxdiana handoff' tells all, and what to do):")
    assert {line.split()[1] for line in notes[start + 1:]} == {
        finding["code"] for finding in result.summary["handoff"]["findings"] if finding["code"].startswith("H")}


def test_the_notes_warn_of_evaluation_on_calibration_data(model: onnx.ModelProto, data: np.ndarray,
                                                          tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", data)
    np.save(tmp_path / "other.npy", data[:5])
    warned = [any("evaluation data are the calibration data" in note for note in text.notes(
        quantize(model, tmp_path / "data.npy", evaluation=tmp_path / name))) for name in ("data.npy", "other.npy")]
    assert warned == [True, False]


def test_the_notes_say_why_there_is_no_hand_over() -> None:
    found = quantize(tiny.model("""(float[N,8] x) => (float[N,4] y, float[N,4] z) <float[4,8] v, float[4,8] w> {
        y = Gemm<transB=1>(x, v)  z = Gemm<transB=1>(x, w) }"""))
    assert not any(name.startswith("htvm/") for name in found.files)
    notes = text.notes(found)
    assert "htvm/ is not written; HTVM cannot express:" in notes
    assert any("2 outputs" in note for note in notes)
    assert "for HTVM" not in text.table(dataclasses.replace(copy.copy(found), folder=Path("x")))
