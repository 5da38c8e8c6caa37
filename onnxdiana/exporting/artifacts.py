"""All files of the output folder as bytes, every spelling checked against the reference before one is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana.errors import SpecViolation
from onnxdiana.exporting import folder as output_folder
from onnxdiana.exporting.bundle import STORED_SAMPLES, bundle, expected_error, vector_samples
from onnxdiana.exporting.files import document, sample_archive, serialize, sha256
from onnxdiana.exporting.spellings import Spellings, spell
from onnxdiana.integers import Parameters
from onnxdiana.layers import Network
from onnxdiana.report.summary import Facts, summarize
from onnxdiana.runtime import few
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail
from onnxdiana.validation import Agreement, agree

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


def write_artifacts(
    folder: Path | None, view: Network, tail: Tail, table: ScaleTable, integer: ir.Model,
    parameters: Mapping[str, Parameters], fake: Mapping[str, Parameters], facts: Facts, *, force: bool,
) -> Artifacts:
    """Spell, check, summarize and (with a folder) write.

    Raises:
        SpecViolation: two spellings disagree, or HTVM would not take the hand-over graph.
        OutputError: the folder cannot be written.
    """
    config, kept = facts.config, facts.calibration.kept
    metadata = SYNTHETIC if facts.calibration.synthetic else {}
    written = spell(view, tail, table, integer, parameters, fake, metadata, facts.plan, config.handoff_opset)
    samples = few(kept, STORED_SAMPLES)
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
    verdict = None
    if written.htvm is not None:
        vectors = vector_samples(kept, facts.further, config.vectors)
        handed, verdict = bundle(integer, tail, table, written, vectors, config)
        if unexpected := [finding for finding in verdict.errors if not expected_error(finding, config)]:
            raise SpecViolation("HTVM would not take htvm/model.onnx: " + "; ".join(map(str, unexpected)))
        files |= handed
    summary = summarize(view, tail, table, parameters, fake, facts, agreement, list(written.obstacles), verdict,
                        {name: sha256(data) for name, data in files.items()})
    files[output_folder.SUMMARY] = document(summary)
    moved = None if folder is None else output_folder.write(folder, files, force=force)
    return Artifacts(files, summary, agreement, folder, moved)


def check(
    view: Network, written: Spellings, integer: ir.Model, samples: Mapping[str, NDArray[Any]], judged: int
) -> Agreement:
    """Run all spellings on some samples; the reference judges at most ``judged`` of them."""
    return agree(view, written.table, integer, samples, integer_model=written.integer, fake=written.fake,
                 htvm=written.htvm, handed=written.handed, judged=judged, own=written.own)
