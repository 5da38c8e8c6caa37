"""``onnxdiana validate DIR``: everything in the folder is computed again from its parts and compared.

The canonical graph, the scale table and the integer parameters determine every other file (:mod:`.parts`). So these are
read back and checked; every model is written again and compared, node by node and constant by constant; every vector
is computed again (:mod:`.models`); all spellings run on samples, compared at every requantizer; and what
``summary.json`` says is worked out again (:mod:`.figures`). What nothing in the folder determines (versions, the
model that was given, the evaluation) is taken as it is. The folder is untrusted: nothing in it is run but models that
are, bit for bit, what we would write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import onnxdiana
from onnxdiana.calibration import DataSource, EvenSamples, InputSpec, open_data
from onnxdiana.check.figures import figure_findings
from onnxdiana.check.folder import PARTS, SAMPLES, Damaged, Folder, read
from onnxdiana.check.models import bundle_findings, model_findings, vector_inputs
from onnxdiana.check.parts import Parts, read_parts
from onnxdiana.errors import CalibrationError
from onnxdiana.exporting.artifacts import SYNTHETIC, check
from onnxdiana.exporting.bundle import STORED_SAMPLES, bundle
from onnxdiana.exporting.htvm import tensor_names
from onnxdiana.exporting.spellings import Spellings, spell
from onnxdiana.graph import name_of, sample_shape
from onnxdiana.integers import code_name
from onnxdiana.padding import cropped
from onnxdiana.runtime import Runner, length
from onnxdiana.validation import Agreement, sqnr

Arrays = Mapping[str, NDArray[Any]]

MOST_SAMPLES = 64
"""Of the user's own data, evenly spread."""


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
    """Empty where the models are not what was written, which are not run."""
    samples: int
    """That the layers' figures are of."""
    files: int
    """That were checked."""

    @property
    def ok(self) -> bool:
        """Whether everything is as it was written, and exact."""
        return not self.findings


def validate(folder: str | Path, data: object = None) -> Report:
    """Recompute everything in an output folder from its parts.

    Args:
        folder: written by ``quantize``; nothing outside it is needed.
        data: samples to run, as for calibration (at most 64 of them, evenly); by default those stored in the folder.

    Raises:
        OutputError: not a folder of ours.
        CalibrationError: the data do not fit the model.
    """
    found = read(Path(folder))
    findings, layers, samples = list(found.absent()), tuple[LayerReport, ...](), 0
    if all(name in found.files for name in PARTS):
        try:
            others, layers, samples = _recomputed(found, data)
            findings += others
        except Damaged as damage:
            findings.append(str(damage))
        except CalibrationError:
            raise
        except Exception as error:  # a damaged model can break anything on the way
            findings.append(f"the folder cannot be recomputed ({type(error).__name__}: {error}); quantize again")
    findings += found.changes()
    writer = found.section("versions").get("onnxdiana")
    if findings and writer != onnxdiana.__version__:
        findings.append(f"onnxdiana {writer} wrote the folder, this is {onnxdiana.__version__}; quantize again with it")
    return Report(tuple(findings), layers, samples, len(found.files))


def _recomputed(found: Folder, data: object) -> tuple[list[str], tuple[LayerReport, ...], int]:
    """Findings, what was measured, and on how many samples."""
    parts, findings = read_parts(found)
    if parts is None:
        return findings, (), 0
    specs = [InputSpec(name_of(v), sample_shape(v)) for v in parts.view.model.graph.inputs]
    stored = _stored_samples(found, specs)
    own = None if data is None else _evenly(open_data(data, specs), MOST_SAMPLES)
    stamp = SYNTHETIC if found.section("calibration").get("synthetic") is True else {}
    written = spell(parts.view, parts.tail, parts.table, parts.integer, parts.parameters, parts.fake, stamp,
                    parts.plan, parts.config.handoff_opset)
    findings, verdict = list(model_findings(found, written)), None
    if written.htvm is not None:
        files, verdict = bundle(parts.integer, parts.tail, parts.table, written, vector_inputs(found, parts, stored),
                                parts.config)
        findings += bundle_findings(found, files, written.handed)
    if findings:
        return findings, (), 0
    agreement = check(parts.view, written, parts.integer, stored, length(stored))
    findings += [str(mismatch) for mismatch in agreement.mismatches]
    findings += figure_findings(found, parts, agreement, written.obstacles, verdict)
    if own is not None:
        agreement = check(parts.view, written, parts.integer, own, length(own))
        findings += [str(mismatch) for mismatch in agreement.mismatches]
    samples = stored if own is None else own
    return findings, _layers(parts, written, agreement, samples), length(samples)


def _stored_samples(found: Folder, specs: list[InputSpec]) -> Arrays:
    try:
        source = open_data(found.root / SAMPLES, specs)
        if source.length is None or source.length > STORED_SAMPLES:
            raise Damaged(f"{SAMPLES} holds {source.length} samples, expected at most {STORED_SAMPLES}")
        return next(iter(source.batches(STORED_SAMPLES)))
    except CalibrationError as error:
        raise Damaged(str(error)) from error


def _evenly(source: DataSource, most: int) -> Arrays:
    """At most so many samples, in one pass."""
    kept, index = EvenSamples(most), 0
    for batch in source.batches(most):
        for i in range(length(batch)):
            kept.add(index, {name: x[i] for name, x in batch.items()})
            index += 1
    return kept.samples


def _layers(parts: Parts, written: Spellings, agreement: Agreement, samples: Arrays) -> tuple[LayerReport, ...]:
    """Both quantized models beside the float model, tensor by tensor."""
    names = {code_name(v): name_of(v) for v in parts.view.quantized}
    inputs = {name_of(v) for v in parts.view.model.graph.inputs}
    made = {name for node in written.fake.graph.node for name in node.output}
    codes = [code for code in tensor_names(parts.integer) if code in made]  # it leaves out an input that nothing reads
    exact = Runner(written.integer, codes).run(samples)
    approximate = Runner(written.fake, codes).run(samples)
    real = Runner(parts.view.model, [n for n in names.values() if n not in inputs]).run(samples) | dict(samples)
    exact, approximate, real = (cropped(values, written.own) for values in (exact, approximate, real))
    return tuple(
        LayerReport(
            names[code], agreement.sqnr[code],
            sqnr(real[names[code]], np.ldexp(approximate[code].astype(np.float64), parts.table.exponent(names[code]))),
            int(np.abs(approximate[code].astype(np.int64) - exact[code]).max(initial=0)))
        for code in codes)
