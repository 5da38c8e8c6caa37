"""``onnxdiana handoff``: the verdict on a hand-over file and the vectors beside it (docs/handoff.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from onnxdiana.errors import HandoffError
from onnxdiana.handoff import files as reading
from onnxdiana.handoff import vectors
from onnxdiana.handoff.dialect import judge
from onnxdiana.handoff.findings import Finding, Handoff
from onnxdiana.handoff.importing import importable
from onnxdiana.handoff.interface import frame
from onnxdiana.handoff.nodes import Graph
from onnxdiana.handoff.partition import partition
from onnxdiana.handoff.silicon import silicon


def check(path: str | os.PathLike[str]) -> Handoff:
    """Judge an output folder of ours, a bare ``htvm`` folder, or any ``.onnx`` file with what stands beside it.

    Raises:
        HandoffError: there is nothing to judge: no such file, no ONNX, an empty graph, data outside the folder.
    """
    file = reading.find(Path(path))
    model = reading.load(file)
    return check_model(model, reading.beside(file), name=str(file))


@np.errstate(invalid="ignore")  # a constant may be a signalling nan, which a finding names
def check_model(
    model: onnx.ModelProto, files: Mapping[str, bytes] | None = None, *, name: str = "model.onnx"
) -> Handoff:
    """Judge a model in memory.

    Args:
        model: not changed.
        files: what stands beside it, by name: ``.npy`` files and, of a folder of ours, ``manifest.json``.
        name: how the verdict calls the file.

    Raises:
        HandoffError: the graph is empty, or a name in it is no text.
    """
    if not model.graph.node:
        raise HandoffError(f"{name}: the graph has no nodes; give the model that HTVM is to compile")
    if not _is_text(model):
        raise HandoffError(f"{name}: a name in it is not UTF-8 text; export the model again")
    given = files or {}
    graph, notes = importable(Graph(model))
    if len(graph.inputs) > 1:
        notes.append(f"{len(graph.inputs)} inputs; HTVM was only seen with one")
    verdict = judge(graph)
    found = vectors.read(graph, given, verdict.scale)
    errors = [*frame(graph), *verdict.findings]
    if not errors:
        differences, remarks = vectors.compare(graph, found, verdict, given.get(vectors.MANIFEST))
        errors += differences
        if remarks and not differences:
            errors += vectors.unfit(graph)
        notes += remarks
    if not any(file.endswith(".npy") for file in given):
        notes.append("no vectors beside the model: nothing to compare")
    regions, cpu = partition(graph)
    findings: list[Finding] = [*errors, *found.findings, *cpu, *silicon(graph, regions)]
    return Handoff(name, tuple(findings), regions, tuple(notes))


def _is_text(model: onnx.ModelProto) -> bool:
    """Whether all names are: protobuf gives what is not UTF-8 as bytes, its older versions raise the error."""
    graph = model.graph
    try:
        names = [entry.domain for entry in model.opset_import]
        names += [entry.name for entries in (graph.initializer, graph.input, graph.output, graph.value_info)
                  for entry in entries]
        for node in graph.node:
            names += [node.op_type, node.domain, *node.input, *node.output]
            names += [name for attribute in node.attribute for name in (attribute.name, attribute.ref_attr_name)]
    except UnicodeDecodeError:
        return False
    return all(isinstance(name, str) for name in names)
