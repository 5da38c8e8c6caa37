"""Errors of a file's frame: opset, IR version, inputs and outputs (E1 to E4 of docs/handoff.md)."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from onnxdiana.handoff.findings import Finding
from onnxdiana.handoff.nodes import Graph
from onnxdiana.handoff.operators import DOMAINS, IR_VERSION, OPSETS


def opset(model: onnx.ModelProto) -> int:
    """As HTVM's importer finds it: that of the first import, whatever its domain; 0 without any."""
    return int(model.opset_import[0].version) if model.opset_import else 0


def frame(graph: Graph) -> Iterator[Finding]:
    """What is wrong around the nodes."""
    model = graph.model
    yield from _versions(model)
    for what, count in (("function", len(model.functions)),
                        ("sparse initializer", len(model.graph.sparse_initializer))):
        if count:
            yield Finding("E4", "graph", f"{count} {what}s", "none",
                          f"write every {what} out with ONNX's own operators")
    if len(graph.outputs) != 1:
        yield Finding("E4", "graph", f"{len(graph.outputs)} outputs", "exactly one",
                      "hand over one model for every output; HTVM's partitioning for DIANA stops at several")
    entries = [finding for value in graph.inputs for finding in _entry(value)]
    yield from entries
    for value in model.graph.output:
        yield from _result(value, usable=all(finding.code != "E2" for finding in entries))


def _versions(model: onnx.ModelProto) -> Iterator[Finding]:
    if not model.opset_import or model.opset_import[0].domain not in DOMAINS:
        domains = [entry.domain for entry in model.opset_import]
        yield Finding("E3", "opset_import", f"the domains {domains}", "the default domain first",
                      "put the default domain first: HTVM takes the opset from the first entry, whatever it is")
    elif opset(model) not in OPSETS:
        yield Finding("E3", "opset_import", f"opset {opset(model)}", f"opset {OPSETS[0]} to {OPSETS[-1]}",
                      "write the model at opset 13; onnx.version_converter does so")
    if model.ir_version > IR_VERSION:
        yield Finding("E3", "ir_version", f"IR version {model.ir_version}", f"at most {IR_VERSION}",
                      f"set ir_version to {IR_VERSION}; the onnx package of HTVM's container reads no newer file")


def _entry(value: onnx.ValueInfoProto) -> Iterator[Finding]:
    form = value.type.tensor_type
    if form.elem_type != TensorProto.FLOAT:
        yield Finding("E1", value.name, f"an input of type {_type(form.elem_type)}", "FLOAT",
                      "declare it float32; the input quantizer makes int8 of it")
    sizes = _sizes(value)
    if not sizes or sizes[0] != 1 or not all(isinstance(size, int) and size > 0 for size in sizes):
        yield Finding("E2", value.name, f"an input of shape {_shape(sizes)}", "a static shape with batch 1",
                      "fix every size and set the batch to 1; HTVM's accelerator code takes the batch for 1 unseen")


def _result(value: onnx.ValueInfoProto, *, usable: bool) -> Iterator[Finding]:
    form = value.type.tensor_type
    if form.elem_type != TensorProto.FLOAT:
        yield Finding("E1", value.name, f"an output of type {_type(form.elem_type)}", "FLOAT",
                      "declare it float32; the Div behind the last requantizer gives floats")
    declared = _sizes(value)
    if usable and not all(isinstance(size, int) and size > 0 for size in declared):
        yield Finding("E2", value.name, f"an output of shape {_shape(declared)}", "a static shape with batch 1",
                      "declare the shape that comes out")


def _sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
            for dim in value.type.tensor_type.shape.dim]


def _shape(sizes: list[int | str] | list[int]) -> str:
    return f"({', '.join(map(str, sizes))})"


def _type(number: int) -> str:
    return TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else f"number {number}"
