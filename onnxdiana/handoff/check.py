"""``onnxdiana handoff``: the verdict on a hand-over file and the vectors beside it (docs/handoff.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import onnx

from onnxdiana.errors import HandoffError
from onnxdiana.handoff import files as reading
from onnxdiana.handoff import vectors
from onnxdiana.handoff.dialect import judge
from onnxdiana.handoff.findings import Finding, Handoff
from onnxdiana.handoff.interface import frame
from onnxdiana.handoff.nodes import Graph, Node
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
    graph, notes = _importable(Graph(model))
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


def _importable(graph: Graph) -> tuple[Graph, list[str]]:
    """The graph as HTVM's importer sees it, and a note on what it leaves out.

    ``Constant`` nodes are initializers, inputs that have an initializer are no inputs, nodes that no output needs are
    not there.
    """
    live, constants = _live(graph), [node for node in graph.nodes if _is_tensor(node)]
    dead = [node for node in graph.nodes if node.index not in live]
    if not live:  # a finding says so
        live, dead = {node.index for node in graph.nodes}, []
    if not dead and not constants and len(graph.inputs) == len(graph.model.graph.input):
        return graph, []
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.node[:], model.graph.input[:]
    model.graph.input.extend(graph.inputs)
    for node in constants:
        model.graph.initializer.add().CopyFrom(node.attributes["value"])
        model.graph.initializer[-1].name = node.output
    live -= {node.index for node in constants}
    model.graph.node.extend(graph.model.graph.node[index] for index in sorted(live))
    return Graph(model), [f"{len(dead)} nodes that no output needs, {node.where} first; HTVM leaves them out"
                          for node in dead[:1]]


def _is_tensor(node: Node) -> bool:
    return node.op_type == "Constant" and len(node.outputs) == 1 and isinstance(
        node.attributes.get("value"), onnx.TensorProto)


def _live(graph: Graph) -> set[int]:
    """Indices of the nodes that an output needs; all of one name, should there be several."""
    makers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for output in node.outputs:
            makers.setdefault(output, []).append(node)
    live: set[int] = set()
    names = list(graph.outputs)
    while names:
        for node in makers.pop(names.pop(), ()):
            if node.index not in live:
                live.add(node.index)
                names += node.inputs
    return live
