"""Everything for HTVM: the hand-over graph with what belongs to it, vectors, and a manifest of it all."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph, reference
from onnxdiana.config import Config
from onnxdiana.errors import SpecViolation
from onnxdiana.exporting.files import document, npy, serialize, sha256
from onnxdiana.exporting.htvm import INPUT, handed_over, input_permutation
from onnxdiana.exporting.readme import DORY_COMMIT, HTVM_COMMIT, contents, readme
from onnxdiana.exporting.spellings import Spellings
from onnxdiana.exporting.variants import DORY_FILE, TAIL_FILE, dory_twin, int8_input, tail_model
from onnxdiana.graph import name_of
from onnxdiana.handoff.check import check_model
from onnxdiana.handoff.findings import Finding, Handoff
from onnxdiana.numerics import FLOAT32_EXACT
from onnxdiana.runtime import Runner, few, length, take
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail

MANIFEST = "manifest.json"
STORED_SAMPLES = 16
"""Calibration samples in ``samples.npz``, for ``validate`` without data."""


def vectors(
    integer: ir.Model, handed: Sequence[str], sample: Mapping[str, NDArray[Any]], form: str
) -> dict[str, bytes]:
    """``input.npy``, ``intermediate_<i>.npy`` (0 = the quantized input) and ``output.npy`` for one sample.

    Args:
        integer: the integer graph.
        handed: tensors with codes that the hand-over graph has.
        sample: the input, (1, ...).
        form: ``float``, or ``int8`` where the hand-over graph takes codes.

    Returns:
        float32 arrays in the hand-over graph's layout; the input of an ``int8`` graph is int8.
    """
    result = name_of(integer.graph.outputs[0])
    values = reference.run(integer, sample, [*handed, result])
    values[handed[0]] = handed_over(integer, values[handed[0]])
    entry = handed_over(integer, next(iter(sample.values()))).astype(np.float32)
    found = {f"{INPUT}.npy": values[handed[0]] if form == "int8" else entry, "output.npy": values[result]}
    found.update({f"intermediate_{i}.npy": values[name].astype(np.float32) for i, name in enumerate(handed)})
    return {name: npy(array) for name, array in found.items()}


def vector_samples(
    kept: Mapping[str, NDArray[Any]], further: Mapping[str, NDArray[Any]], count: int
) -> dict[str, NDArray[Any]]:
    """The samples that get vectors: those that are stored, the others that calibration kept, then further ones."""
    number = length(kept)
    stored = few({"": np.arange(number)}, STORED_SAMPLES)[""]
    order = [*stored, *np.setdiff1d(np.arange(number), stored)][:count]
    return {name: np.concatenate([array[order], *([further[name]] if name in further else [])])
            for name, array in kept.items()}


def vector_folder(index: int) -> str:
    """Of a sample's vectors: only the first one's beside the model, where HTVM takes every .npy for its own."""
    return "htvm" if index == 0 else f"vectors/{index}"


def bundle(
    integer: ir.Model, tail: Tail, table: ScaleTable, written: Spellings, samples: Mapping[str, NDArray[Any]],
    config: Config,
) -> tuple[dict[str, bytes], Handoff]:
    """Everything for HTVM, by path relative to the output folder, and what the checker says of it.

    Args:
        integer, tail, table: the quantized network.
        written: its spellings, the hand-over graph among them.
        samples: that get vectors.
        config: the options.
    """
    assert written.htvm is not None
    model = written.htvm if config.io == "float" else int8_input(written.htvm)
    files: dict[str, bytes] = {}
    for i in range(length(samples)):
        found = vectors(integer, written.handed, take(samples, i, i + 1), config.io)
        files |= {f"{vector_folder(i)}/{name}": data for name, data in found.items()}
    handed = {name.removeprefix("htvm/"): data for name, data in files.items() if name.startswith("htvm/")}
    handed["model.onnx"] = serialize(model)
    rest = tail_model(tail)
    if rest is not None:
        handed[TAIL_FILE] = serialize(rest)
    described = manifest(integer, tail, table, written, config, handed)
    verdict = check_model(model, {**handed, MANIFEST: described})
    if config.io == "int8":
        real = {**vectors(integer, written.handed, take(samples, 0, 1), "float"), MANIFEST: described}
        _check_codes(model, handed, real, table)
        verdict = dataclasses.replace(verdict, findings=(*verdict.errors, *check_model(written.htvm, real).findings))
    told = contents(integer, model, tail, len(written.handed), vectors=length(samples),
                    dory=config.annotate == "dory", int8=config.io == "int8")
    handed["README.md"] = readme(told, verdict).encode()
    handed[MANIFEST] = manifest(integer, tail, table, written, config, handed)
    files |= {f"htvm/{name}": data for name, data in handed.items()}
    if config.annotate == "dory":
        files[DORY_FILE] = serialize(dory_twin(model))
    return files, verdict


def manifest(
    integer: ir.Model, tail: Tail, table: ScaleTable, written: Spellings, config: Config, files: Mapping[str, bytes]
) -> bytes:
    """``htvm/manifest.json``: how the hand-over graph's interface is related to the float model's."""
    source = integer.graph
    entry, result = name_of(source.inputs[0]), source.outputs[0]
    dequantizer = result.producer()
    assert dequantizer is not None
    exponents = {"input": table.exponent(entry), "output": int(graph.attribute(dequantizer, "exponent"))}
    return document({
        "format": "onnxdiana.handoff", "version": 1,
        "htvm": HTVM_COMMIT, "dory": DORY_COMMIT, "opset": config.handoff_opset, "io": config.io,
        "input_tensor": entry, "input_permutation": input_permutation(integer),
        "input_exponent": exponents["input"], "input_scale": 2.0 ** exponents["input"],
        "input_codes": list(table.tensors[entry].codes),
        "output_tensor": name_of(result), "output_exponent": exponents["output"],
        "output_scale": 2.0 ** exponents["output"], "tail": tail.operators,
        "intermediates": {f"intermediate_{i}.npy": name for i, name in enumerate(written.handed)},
        "sha256": {name: sha256(data) for name, data in sorted(files.items()) if name != MANIFEST},
    })


def _check_codes(
    model: onnx.ModelProto, codes: Mapping[str, bytes], real: Mapping[str, bytes], table: ScaleTable
) -> None:
    """A graph that takes codes gives on them what the graph with a quantizer gives on floats.

    Raises:
        SpecViolation: it does not.
    """
    if any(layer.accumulator_bound >= FLOAT32_EXACT for layer in table.layers.values()):
        return  # onnxruntime is not exact then
    entry, expected = (np.load(io.BytesIO(data)) for data in (codes[f"{INPUT}.npy"], real["output.npy"]))
    found, = Runner(model).run({INPUT: entry}).values()
    if not np.array_equal(found, expected):
        raise SpecViolation("htvm/model.onnx gives something else on codes than on the floats that they stand for")


def expected_error(finding: Finding, config: Config) -> bool:
    """Whether an E finding is what an option asks for: with ``io`` int8 the input is no float."""
    return config.io == "int8" and (finding.code, finding.node) == ("E1", INPUT)
