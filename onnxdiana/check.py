"""``onnxdiana validate DIR``: everything in the folder is computed again from its parts and compared.

The canonical graph, the scale table and the integer parameters determine every other file. So the integer parameters
are read back, each against its recorded hash; every model is written again and compared, node by node and constant by
constant; every vector is computed again; and all spellings run on samples, compared at every requantizer.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxdiana import loading, reference, spec, targets
from onnxdiana.calibration import InputSpec, open_data
from onnxdiana.errors import OnnxDianaError, OutputError, ScaleTableError, SpecViolation
from onnxdiana.exporting import folder as output_folder
from onnxdiana.exporting.artifacts import Spellings, check, manifest, sha256, spell, vectors
from onnxdiana.exporting.htvm import tensor_names
from onnxdiana.graph import name_of, sample_shape
from onnxdiana.integers import (
    Parameters,
    accumulator_exponent,
    code_name,
    complete_table,
    integerize,
)
from onnxdiana.layers import Network, network
from onnxdiana.report.summary import digests
from onnxdiana.runtime import Runner, length
from onnxdiana.scales import ScaleTable
from onnxdiana.validation import few, sqnr

SAMPLES = 16
MODELS = ("model.float.onnx", "model.qdq.onnx", "model.int.onnx")


@dataclass(frozen=True)
class LayerReport:
    """One requantized tensor, on the samples that were run."""

    tensor: str
    sqnr: float
    """dB of the integer model against the float model."""
    sqnr_fake: float
    """dB of the fake-quantized model against the float model."""
    distance: int
    """Largest difference between the codes of both quantized models, end to end."""


@dataclass(frozen=True)
class Report:
    """Outcome of :func:`validate`."""

    findings: tuple[str, ...]
    """What is not as it was written, the layer named; empty where all is well."""
    layers: tuple[LayerReport, ...]
    samples: int
    files: int

    @property
    def ok(self) -> bool:
        """Whether everything is as it was written, and exact."""
        return not self.findings


def validate(folder: str | Path, data: object = None) -> Report:
    """Recompute everything in an output folder from its parts.

    Args:
        folder: written by ``quantize``.
        data: samples to run, as for calibration; by default those stored in the folder.

    Raises:
        OutputError: not a folder of ours, or a file is missing.
        CalibrationError: the data do not fit the model.
    """
    root = Path(folder)
    files, summary = _read(root)
    findings: list[str] = []
    try:
        loaded = loading.load(onnx.ModelProto.FromString(files["model.float.onnx"])).model
        spec.verify_canonical(loaded)
        view = network(loaded)
        table = ScaleTable.from_json(files["scales.json"].decode())
        findings += _table_findings(view, table)
        if findings:
            return Report((*findings, *_changed_files(files, summary)), (), 0, len(files))
        fake_file, integer_file = (onnx.ModelProto.FromString(files[name]) for name in MODELS[1:])
        parameters, fake = _integer_parameters(view, integer_file), _fake_parameters(view, fake_file)
        findings += _parameter_findings(view, summary, parameters, fake)
        integer = integerize(view, table, parameters)
        findings += _layer_findings(view, table, integer, summary)
        written = spell(view, table, integer, parameters, fake,
                        {p.key: p.value for p in integer_file.metadata_props})
        findings += _model_findings(files, written)
        samples, layers = _run(root, files, data, view, table, integer, findings)
        if written.htvm is not None:
            findings += _vector_findings(files, view, table, integer)
    except (SpecViolation, ScaleTableError) as error:
        findings.append(str(error))
        samples, layers = 0, ()
    except OnnxDianaError:
        raise
    except Exception as error:  # a damaged model can break anything on the way
        findings.append(f"the folder cannot be recomputed: {type(error).__name__}: {error}")
        samples, layers = 0, ()
    return Report((*findings, *_changed_files(files, summary)), layers, samples, len(files))


def _read(root: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    if not root.is_dir():
        raise OutputError(f"{root}: no such folder; give one that 'onnxdiana quantize' wrote")
    try:
        summary = json.loads((root / output_folder.SUMMARY).read_text())
        if summary["format"] != output_folder.FORMAT:
            raise KeyError
        names = sorted(summary["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{root}: no readable {output_folder.SUMMARY}; give a folder that 'onnxdiana quantize' "
                          "wrote") from error
    files = {}
    for name in names:
        path = root / name
        if not path.resolve().is_relative_to(root.resolve()):
            raise OutputError(f"{root}: {output_folder.SUMMARY} names a file outside the folder: {name}")
        try:
            files[name] = path.read_bytes()
        except OSError as error:
            raise OutputError(f"{path} is missing; quantize again") from error
    for name in (*MODELS, "scales.json", "samples.npz"):
        if name not in files:
            raise OutputError(f"{root}: {output_folder.SUMMARY} does not list {name}; quantize again")
    return files, summary


def _changed_files(files: Mapping[str, bytes], summary: Mapping[str, Any]) -> Iterator[str]:
    for name, data in files.items():
        if sha256(data) != summary["files"][name]:
            yield f"{name} is not the file that was written (its sha256 differs)"


def _table_findings(view: Network, table: ScaleTable) -> Iterator[str]:
    """The table against itself and the graph: names, and shifts that follow from the exponents."""
    wanted = {name_of(v) for v in view.quantized}
    wanted |= {name_of(w) for layer in view.layers if (w := layer.operator.weight(layer.node)) is not None}
    for what, expected, found in (("tensors", wanted, set(table.tensors)),
                                  ("layers", {layer.name for layer in view.layers}, set(table.layers))):
        if expected != found:
            yield (f"scales.json: {what} do not match model.float.onnx: missing {sorted(expected - found)}, "
                   f"unknown {sorted(found - expected)}")
            return
    for layer in view.layers:
        exponent = table.exponent(name_of(layer.output))
        shift = exponent - accumulator_exponent(view, table, layer)
        if table.layers[layer.name].shift != shift:
            yield (f"layer '{layer.name}': scales.json has shift {table.layers[layer.name].shift}, but its exponents "
                   f"give {shift}")
        codes = table.tensors[name_of(layer.output)].codes
        try:
            possible = targets.load(table.target).codes(layer.bounds, exponent)
        except OnnxDianaError:
            continue  # a target from a user's file, which is not run here
        if codes != possible:
            yield f"layer '{layer.name}': scales.json has codes {list(codes)}, its bounds give {list(possible)}"


def _producer(proto: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in proto.graph.node for output in node.output}


def _initializers(proto: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def _integer_parameters(view: Network, proto: onnx.ModelProto) -> dict[str, Parameters]:
    """Weights and biases of model.int.onnx, found behind the accumulators' names."""
    producers, constants = _producer(proto), _initializers(proto)
    found = {}
    for layer in view.layers:
        if layer.operator.weight(layer.node) is None:
            continue
        add = producers[f"{layer.name}.accumulator"]
        weight = constants[producers[add.input[0]].input[1]]
        weight = weight.T if producers[add.input[0]].op_type == "MatMulInteger" else weight
        found[layer.name] = Parameters(np.ascontiguousarray(weight), constants[add.input[1]].reshape(-1))
    return found


def _fake_parameters(view: Network, proto: onnx.ModelProto) -> dict[str, Parameters]:
    """Codes of weights and biases of model.qdq.onnx."""
    producers, constants = _producer(proto), _initializers(proto)
    found = {}
    for layer in view.layers:
        if layer.operator.weight(layer.node) is None:
            continue
        node = producers.get(f"{layer.name}.float") or producers[layer.name]
        weight, bias = (constants[producers[name].input[0]] for name in node.input[1:3])
        found[layer.name] = Parameters(weight, bias)
    return found


_FILES = {"float_weight": "model.float.onnx", "float_bias": "model.float.onnx", "weight": "model.int.onnx",
          "bias": "model.int.onnx", "fake_weight": "model.qdq.onnx", "fake_bias": "model.qdq.onnx"}


def _parameter_findings(
    view: Network, summary: Mapping[str, Any], parameters: Mapping[str, Parameters], fake: Mapping[str, Parameters]
) -> Iterator[str]:
    recorded = {entry["name"]: entry["sha256"] for entry in summary["layers"]}
    for layer in view.layers:
        for role, value in digests(view, parameters, fake, layer).items():
            if recorded.get(layer.name, {}).get(role) != value:
                what = role.removeprefix("float_").removeprefix("fake_")
                yield f"layer '{layer.name}': its {what} in {_FILES[role]} is not what was written"


def _layer_findings(
    view: Network, table: ScaleTable, integer: ir.Model, summary: Mapping[str, Any]
) -> Iterator[str]:
    """Accumulator bounds, proven again."""
    try:
        target = targets.load(table.target)
    except OnnxDianaError:
        target = targets.Target(table.target)
    again = complete_table(view, table, integer, target, "auto")
    recorded = {entry["name"]: entry for entry in summary["layers"]}
    for layer in view.layers:
        own, proven = table.layers[layer.name], again.layers[layer.name]
        if own.accumulator_bound != proven.accumulator_bound:
            yield (f"layer '{layer.name}': scales.json has accumulator_bound {own.accumulator_bound}, "
                   f"the parameters give {proven.accumulator_bound}")
        for key in ("shift", "accumulator_bound"):
            if recorded.get(layer.name, {}).get(key) != getattr(own, key):
                yield f"layer '{layer.name}': {key} in summary.json and scales.json differ"


def _model_findings(files: Mapping[str, bytes], written: Spellings) -> Iterator[str]:
    if written.table.model_sha256 != ScaleTable.from_json(files["scales.json"].decode()).model_sha256:
        yield "scales.json belongs to another model.float.onnx (its model.sha256 differs)"
    pairs = [("model.qdq.onnx", written.fake), ("model.int.onnx", written.integer)]
    if written.htvm is not None:
        pairs.append(("htvm/model.onnx", written.htvm))
    for name, expected in pairs:
        if name not in files:
            yield f"{name} is missing"
            continue
        yield from _differences(name, expected, onnx.ModelProto.FromString(files[name]))


def _differences(name: str, expected: onnx.ModelProto, found: onnx.ModelProto) -> Iterator[str]:
    """Constants and nodes of a model that are not what the parts give, each with the tensor that it belongs to."""
    constants, others = _initializers(expected), _initializers(found)
    users = {i: node.output[0] for node in expected.graph.node for i in node.input}
    for key, value in constants.items():
        other = others.get(key)
        at = f"{name}: constant '{key}' of '{users.get(key, '?')}'"
        if other is None or other.shape != value.shape or other.dtype != value.dtype:
            yield f"{at} is missing or has another type or shape"
        elif not np.array_equal(value, other):
            index = np.unravel_index(int(np.flatnonzero((value != other).reshape(-1))[0]), value.shape)
            yield f"{at} at {[int(i) for i in index]}: {other[index]}, expected {value[index]}"
    for ours, theirs in zip(expected.graph.node, found.graph.node, strict=False):
        if ours != theirs:
            yield f"{name}: node '{ours.output[0]}' ({ours.op_type}) is not what was written"
            return
    if len(expected.graph.node) != len(found.graph.node) or set(others) != set(constants):
        yield f"{name}: nodes or constants were added or removed"


def _run(
    root: Path, files: Mapping[str, bytes], data: object, view: Network, table: ScaleTable, integer: ir.Model,
    findings: list[str],
) -> tuple[int, tuple[LayerReport, ...]]:
    """Run the files as they are on disk; mismatches go into ``findings``."""
    specs = [InputSpec(name_of(v), sample_shape(v)) for v in view.model.graph.inputs]
    source = open_data(root / "samples.npz" if data is None else data, specs)
    batches = list(source.batches(SAMPLES))
    samples = batches[0] if data is None else few({k: np.concatenate([b[k] for b in batches]) for k in batches[0]}, 64)
    fake, exact = (onnx.ModelProto.FromString(files[name]) for name in MODELS[1:])
    htvm = onnx.ModelProto.FromString(files["htvm/model.onnx"]) if "htvm/model.onnx" in files else None
    on_disk = Spellings(files["model.float.onnx"], table, fake, exact, htvm, ())
    agreement = check(view, on_disk, integer, samples, length(samples))
    findings += [str(m) for m in agreement.mismatches]
    codes = tensor_names(integer)
    names = {code_name(v): name_of(v) for v in view.quantized}
    ours = reference.run(integer, samples, codes)
    inputs = {name_of(v) for v in view.model.graph.inputs}
    real = Runner(view.model, [n for n in names.values() if n not in inputs]).run(samples) | dict(samples)
    approximate = Runner(fake, codes).run(samples)
    reports = []
    for code in codes:
        exponent = table.exponent(names[code])
        reports.append(LayerReport(
            names[code], agreement.sqnr[code], sqnr(real[names[code]], np.ldexp(approximate[code] * 1.0, exponent)),
            int(np.abs(approximate[code].astype(np.int64) - ours[code]).max(initial=0))))
    return agreement.samples, tuple(reports)


def _vector_findings(
    files: Mapping[str, bytes], view: Network, table: ScaleTable, integer: ir.Model
) -> Iterator[str]:
    """Vectors against the first stored sample, the manifest against the files beside it."""
    with np.load(io.BytesIO(files["samples.npz"]), allow_pickle=False) as archive:
        first = {name: archive[name][:1] for name in archive.files}
    names = tensor_names(integer)
    for name, data in vectors(integer, first).items():
        found = files.get(f"htvm/{name}")
        if found == data:
            continue
        tensor = names[int(name.split("_")[1].split(".")[0])] if name.startswith("intermediate") else name[:-4]
        if found is None:
            yield f"htvm/{name} (tensor '{tensor}') is missing"
            continue
        expected, array = (np.load(io.BytesIO(raw), allow_pickle=False) for raw in (data, found))
        bad = np.argwhere(expected != array) if expected.shape == array.shape else np.zeros((0, 1), int)
        where = ""
        if len(bad):
            at = tuple(bad[0])
            where = f" at {bad[0].tolist()}: {array[at]:g}, expected {expected[at]:g}"
        yield f"htvm/{name} (tensor '{tensor}') is not what the model computes{where}"
    handed = {name.removeprefix("htvm/"): data for name, data in files.items()
              if name.startswith("htvm/") and name != "htvm/manifest.json"}
    if manifest(integer, table, handed) != files.get("htvm/manifest.json"):
        yield "htvm/manifest.json does not describe the files beside it"


