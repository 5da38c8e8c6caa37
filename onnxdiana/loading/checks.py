"""What makes a model impossible to quantize before one looks at its operators: versions, interface, missing sources."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from onnxdiana.errors import ModelError
from onnxdiana.loading.walk import bodies, gist, subgraphs, type_name, where

OPSET = 20
"""Opset of the canonical float graph."""
OLDEST_OPSET = 7
"""The oldest opset that is raised to ours."""
NARROWED = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16", TensorProto.DOUBLE: "float64"}
"""Float types that are read as float32."""


def check_versions(proto: ModelProto) -> int:
    """The default domain's opset; that domain is spelled '' everywhere from here on."""
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"the file has ONNX IR version {proto.ir_version}; the installed onnx {onnx.__version__} reads up to "
            f"{onnx.IR_VERSION}: upgrade onnx, or export for an older version"
        )
    for entries in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        versions = {(entry.domain if entry.domain != "ai.onnx" else "", entry.version) for entry in entries}
        if len({domain for domain, _ in versions}) < len(versions):
            raise ModelError("the model imports a domain in two versions: export it again")
        del entries[:]
        entries.extend(onnx.helper.make_opsetid(*version) for version in sorted(versions))
    for body in bodies(proto):
        for node in body.node:
            if node.domain == "ai.onnx":
                node.domain = ""
    opset = next((entry.version for entry in proto.opset_import if not entry.domain), None)
    if opset is None:
        raise ModelError("the model imports no ONNX opset (default domain): export it again")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        age, remedy = ("old", "export it again") if opset < OLDEST_OPSET else ("new", "upgrade onnx, or export it")
        raise ModelError(
            f"opset {opset} is too {age}: opsets {OLDEST_OPSET} to {newest} are supported; {remedy} at opset {OPSET}"
        )
    return opset


def refuse_exotic(proto: ModelProto) -> None:
    """Training information and sparse tensors."""
    if proto.training_info:
        raise ModelError("the model holds training information: export it for inference")
    for body in bodies(proto):
        if isinstance(body, GraphProto) and body.sparse_initializer:
            name = body.sparse_initializer[0].values.name
            raise ModelError(f"initializer '{name}' is sparse: store it as a dense tensor")
        for node in body.node:
            if any(a.HasField("sparse_tensor") or a.sparse_tensors for a in node.attribute):
                raise ModelError(f"{where(node)} holds a sparse tensor: store it as a dense tensor")


def check_interface(graph: GraphProto, weights: Iterable[str]) -> None:
    """Inputs and outputs that a quantized model can have."""
    if not graph.input:
        raise ModelError("the model has no inputs: export it with its data as a graph input")
    if not graph.output:
        raise ModelError("the model has no outputs: export it with its result as a graph output")
    for role, values in (("input", graph.input), ("output", graph.output)):
        names = [value.name for value in values]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ModelError(f"{role} '{twice}' is listed twice: export the model again")
        for value in values:
            if (kind := value.type.WhichOneof("value")) not in (None, "tensor_type"):
                found = str(kind).removesuffix("_type").replace("_", " ")
                raise ModelError(f"{role} '{value.name}' is a {found}: export the model with plain tensors")
    for value in graph.input:
        _check_input(value)
    inputs = {value.name for value in graph.input}
    for name in [value.name for value in graph.output]:
        if name in inputs:
            raise ModelError(f"output '{name}' is the input of the same name: there is nothing to quantize")
        if name in weights:
            raise ModelError(f"output '{name}' is a constant: leave it out of the outputs")


def _check_input(value: ValueInfoProto) -> None:
    kind = value.type.tensor_type
    if kind.elem_type not in {TensorProto.FLOAT, *NARROWED}:
        raise ModelError(
            f"input '{value.name}' is {type_name(kind.elem_type)}, not float: export the model with a float input and "
            "convert and normalize the data outside it"
        )
    if not kind.HasField("shape"):
        raise ModelError(f"input '{value.name}' has no shape: export the model with fixed sizes")
    if not kind.shape.dim:
        raise ModelError(f"input '{value.name}' is a scalar: export it with a first axis that counts samples")
    for axis, dim in enumerate(kind.shape.dim):
        if dim.dim_value > 0:
            continue
        if axis == 0:  # the batch; some exporters write "unknown" as 0 or -1
            if dim.HasField("dim_value"):
                dim.Clear()
            continue
        size = f"symbolic size '{dim.dim_param}'" if dim.dim_param else "unknown size"
        raise ModelError(
            f"axis {axis} of input '{value.name}' has {size}: export the model with fixed sizes on all axes but the first"
        )


def check_sources(graph: GraphProto, scopes: list[set[str]]) -> None:
    """Everything that a node reads or the graph returns is computed before, or stored."""
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    scopes = [*scopes, known]
    for node in graph.node:
        for name in node.input:
            if name and not any(name in scope for scope in scopes):
                if any(name in other.output for other in graph.node):
                    raise ModelError(f"{where(node)} reads '{name}' before it is computed: sort the graph's nodes")
                raise ModelError(
                    f"{where(node)} reads '{name}', which no node computes and no initializer holds: the weights may be "
                    "missing, export the model again"
                )
        for subgraph in subgraphs(node):
            check_sources(subgraph, scopes)
        known.update(node.output)
    for value in graph.output:
        if not any(value.name in scope for scope in scopes):
            raise ModelError(f"output '{value.name}' is computed by no node: export the model again")
