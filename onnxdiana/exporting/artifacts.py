"""All files of the output folder as bytes, every spelling checked against the reference before one is written."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import reference
from onnxdiana.errors import SpecViolation
from onnxdiana.exporting import folder as output_folder
from onnxdiana.exporting.htvm import (
    INPUT,
    handed_over,
    handoff_obstacles,
    htvm_model,
    input_permutation,
    tensor_names,
)
from onnxdiana.exporting.integer import INTEGER_OPSET, integer_model
from onnxdiana.exporting.qdq import fake_quantize
from onnxdiana.graph import name_of
from onnxdiana.integers import Parameters
from onnxdiana.layers import Network
from onnxdiana.report.summary import Facts, summarize
from onnxdiana.runtime import few, take
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail
from onnxdiana.validation import Agreement, agree

STORED_SAMPLES = 16
"""Calibration samples in ``samples.npz``, for ``validate`` without data."""
SYNTHETIC = {"onnxdiana.synthetic_calibration": "true"}
"""Stamp on the two models for onnxruntime where no calibration data were given."""
_JUDGED_SAMPLES = 4
"""Of these, how many the reference judges in every run; ``validate`` judges all."""


@dataclass(frozen=True)
class Artifacts:
    """The files of one run."""

    files: Mapping[str, bytes]
    """By path relative to the output folder."""
    summary: Mapping[str, Any]
    agreement: Agreement
    folder: Path | None = None
    """Where they were written, if they were."""
    moved: Path | None = field(default=None)
    """Where a folder that was not ours was moved to."""


@dataclass(frozen=True)
class Spellings:
    """The models of one quantized network, as they go to disk."""

    model_float: bytes
    table: ScaleTable
    fake: onnx.ModelProto
    integer: onnx.ModelProto
    htvm: onnx.ModelProto | None
    obstacles: tuple[str, ...]


def npy(array: NDArray[Any]) -> bytes:
    """An array in numpy's file format."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def sha256(data: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()


def document(value: Mapping[str, Any]) -> bytes:
    """JSON, readable, the same bytes for equal values."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # a file name need not be text; this way it is a JSON escape


def spell(
    view: Network, tail: Tail, table: ScaleTable, integer: ir.Model, parameters: Mapping[str, Parameters],
    fake: Mapping[str, Parameters], metadata: dict[str, str],
) -> Spellings:
    """Write every model: a function of the canonical graph, the table and the parameters alone."""
    model_float = serialize(ir.to_proto(tail.behind(view.model)))
    obstacles = tuple(handoff_obstacles(integer))
    return Spellings(
        model_float, table.replace(model_sha256=sha256(model_float)),
        ir.to_proto(tail.behind(fake_quantize(view, table, fake, metadata))),
        ir.to_proto(tail.behind(integer_model(integer, metadata, tail.opset(INTEGER_OPSET)))),
        None if obstacles else htvm_model(integer), obstacles,
    )


def vectors(integer: ir.Model, sample: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """``input.npy``, ``intermediate_<i>.npy`` (0 = the quantized input) and ``output.npy`` for one sample, float32."""
    names, result = tensor_names(integer), name_of(integer.graph.outputs[0])
    values = reference.run(integer, sample, [*names, result])
    found = {f"{INPUT}.npy": handed_over(integer, next(iter(sample.values()))), "output.npy": values[result]}
    values[names[0]] = handed_over(integer, values[names[0]])
    found.update({f"intermediate_{i}.npy": values[name] for i, name in enumerate(names)})
    return {name: npy(np.asarray(array, dtype=np.float32)) for name, array in found.items()}


def manifest(integer: ir.Model, tail: Tail, table: ScaleTable, files: Mapping[str, bytes]) -> bytes:
    """``htvm/manifest.json``: how the hand-over graph's interface is related to the float model's."""
    source = integer.graph
    names = tensor_names(integer)
    return document({
        "format": "onnxdiana.handoff", "version": 1,
        "input_tensor": name_of(source.inputs[0]), "input_permutation": input_permutation(integer),
        "input_exponent": table.exponent(name_of(source.inputs[0])),
        "output_tensor": name_of(source.outputs[0]), "tail": tail.operators,
        "intermediates": {f"intermediate_{i}.npy": name for i, name in enumerate(names)},
        "sha256": {name: sha256(data) for name, data in sorted(files.items())},
    })


def sample_archive(samples: Mapping[str, NDArray[Any]]) -> bytes:
    """``samples.npz``; numpy writes no time stamps into it."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **dict(samples))
    return stream.getvalue()


def write_artifacts(
    folder: Path | None, view: Network, tail: Tail, table: ScaleTable, integer: ir.Model,
    parameters: Mapping[str, Parameters], fake: Mapping[str, Parameters], facts: Facts, *, force: bool,
) -> Artifacts:
    """Spell, check, summarize and (with a folder) write.

    Raises:
        SpecViolation: two spellings disagree.
        OutputError: the folder cannot be written.
    """
    metadata = SYNTHETIC if facts.calibration.synthetic else {}
    written = spell(view, tail, table, integer, parameters, fake, metadata)
    samples = few(facts.calibration.kept, STORED_SAMPLES)
    agreement = check(view, written, integer, samples, _JUDGED_SAMPLES)
    if agreement.mismatches:
        raise SpecViolation("; ".join(str(m) for m in agreement.mismatches))
    files = {
        "model.float.onnx": written.model_float,
        "model.qdq.onnx": serialize(written.fake),
        "model.int.onnx": serialize(written.integer),
        "scales.json": written.table.to_json().encode(),
        "samples.npz": sample_archive(samples),
    }
    if written.htvm is not None:
        handed = {"model.onnx": serialize(written.htvm), **vectors(integer, take(samples, 0, 1))}
        files.update({f"htvm/{name}": data for name, data in handed.items()})
        files["htvm/manifest.json"] = manifest(integer, tail, table, handed)
    summary = summarize(view, tail, table, parameters, fake, facts, agreement, list(written.obstacles),
                        {name: sha256(data) for name, data in files.items()})
    files[output_folder.SUMMARY] = document(summary)
    moved = None if folder is None else output_folder.write(folder, files, force=force)
    return Artifacts(files, summary, agreement, folder, moved)


def serialize(proto: onnx.ModelProto) -> bytes:
    """The same bytes for equal models."""
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def check(
    view: Network, written: Spellings, integer: ir.Model, samples: Mapping[str, NDArray[Any]], judged: int
) -> Agreement:
    """Run all spellings on some samples; the reference judges at most ``judged`` of them."""
    return agree(view, written.table, integer, samples,
                 integer_model=written.integer, fake=written.fake, htvm=written.htvm, judged=judged)
