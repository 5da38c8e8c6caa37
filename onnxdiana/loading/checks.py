"""What makes a model impossible to quantize before one looks at its operators: versions, interface, missing sources."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from onnxdiana.errors import ModelError
from onnxdiana.loading.given_shapes import example
from onnxdiana.loading.walk import bodies, subgraphs, type_name, where

OPSET = 20
"""Opset of the canonical float graph."""
OLDEST_OPSET = 7
"""The oldest opset that is raised to ours."""
IR_VERSION = 10
"""Of the file format that a loaded model is in; the oldest that knows all of our opset."""
NARROWED: Mapping[int, str] = {
    TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16", TensorProto.DOUBLE: "float64",
}
"""Float types that are read as float32."""
_POSITIVE = {"kernel_shape", "strides", "dilations"}
LARGEST_TENSOR = 2**26
"""Elements of one sample, 256 MiB: all tensors of a few samples are held in memory, and the file may say anything."""


def check_text(proto: ModelProto) -> None:
    """Names are text: protobuf gives what is not UTF-8 as bytes, its older versions raise the error themselves.

    Raises:
        UnicodeDecodeError: one is not.
    """
    names: list[str | bytes] = [entry.domain for entry in proto.opset_import]
    for body in bodies(proto):
        values = list(body.value_info)
        if isinstance(body, GraphProto):
            values += [*body.input, *body.output]
            names += [tensor.name for tensor in body.initializer]
        else:
            names += [body.domain, *body.input, *body.output, *(entry.domain for entry in body.opset_import)]
        names += [body.name, *(value.name for value in values)]
        names += [dim.dim_param for value in values for dim in value.type.tensor_type.shape.dim]
        for node in body.node:
            names += [node.op_type, node.domain, node.name, node.overload, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
    for name in names:
        if isinstance(name, bytes):
            name.decode()


def check_versions(proto: ModelProto) -> int:
    """The default domain's opset; that domain is spelled '' everywhere from here on, and placement is forgotten.

    Raises:
        ModelError: a version is too old, too new or missing.
    """
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"the file has ONNX IR version {proto.ir_version}; the installed onnx {onnx.__version__} reads up to "
            f"{onnx.IR_VERSION}: upgrade onnx, or export the model with an older version of it"
        )
    for entries in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        versions = {(_domain(entry.domain), entry.version) for entry in entries}
        if len({domain for domain, _ in versions}) < len(versions):
            raise ModelError("the model imports a domain in two versions: export it again")
        del entries[:]
        entries.extend(onnx.helper.make_opsetid(*version) for version in sorted(versions))
    for function in proto.functions:
        function.domain = _domain(function.domain)
    for body in bodies(proto):
        for node in body.node:
            node.domain = _domain(node.domain)
            node.ClearField("device_configurations")
    opset: int | None = next((entry.version for entry in proto.opset_import if not entry.domain), None)
    if opset is None:
        raise ModelError("the model imports no ONNX opset (default domain): export it again")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        age, remedy = ("old", "export it again") if opset < OLDEST_OPSET else ("new", "upgrade onnx, or export it")
        raise ModelError(
            f"opset {opset} is too {age}: opsets {OLDEST_OPSET} to {newest} are supported; {remedy} at opset {OPSET}"
        )
    return opset


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def refuse_exotic(proto: ModelProto) -> None:
    """Training information and sparse tensors are not read.

    Raises:
        ModelError: names the tensor or node.
    """
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
    """Inputs and outputs are those that a quantized model can have; unknown batch sizes are left open.

    Raises:
        ModelError: names the input or output.
    """
    if not graph.input:
        raise ModelError("the model has no inputs: export it with its data as a graph input")
    if not graph.output:
        raise ModelError("the model has no outputs: export it with its result as a graph output")
    for role, values in (("input", graph.input), ("output", graph.output)):
        name, count = Counter(value.name for value in values).most_common(1)[0]
        if count > 1:
            raise ModelError(f"{role} '{name}' is listed {count} times: export the model again")
        for value in values:
            if (kind := value.type.WhichOneof("value")) not in (None, "tensor_type"):
                found = str(kind).removesuffix("_type").replace("_", " ")
                raise ModelError(f"{role} '{value.name}' is a {found}: export the model with plain tensors")
    for value in graph.input:
        _check_input(value)
    inputs, constants = {value.name for value in graph.input}, set(weights)
    for value in graph.output:
        if value.name in inputs:
            raise ModelError(f"output '{value.name}' is the input of the same name: there is nothing to quantize; "
                             "leave it out of the outputs")
        if value.name in constants:
            raise ModelError(f"output '{value.name}' is a constant: leave it out of the outputs")


def _check_input(value: ValueInfoProto) -> None:
    kind = value.type.tensor_type
    if kind.elem_type not in {TensorProto.FLOAT, *NARROWED}:
        raise ModelError(
            f"input '{value.name}' is {type_name(kind.elem_type)}, not float: export the model with a float input and "
            "convert and normalize the data outside it"
        )
    if not kind.HasField("shape"):
        raise ModelError(f"input '{value.name}' has no shape: export the model with fixed sizes, or give them like "
                         f"{example(value)}")
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
            f"axis {axis} of input '{value.name}' has {size}: export the model with fixed sizes on all axes but the "
            f"first, or give numbers for them: {example(value)}"
        )
    shape = [dim.dim_value or 1 for dim in kind.shape.dim]
    if math.prod(shape) > LARGEST_TENSOR:
        raise ModelError(f"input '{value.name}': shape {shape} has more than {LARGEST_TENSOR} elements: export the "
                         "model for smaller inputs")


def check_sources(graph: GraphProto, scopes: list[set[str]]) -> None:
    """Everything that a node reads or the graph returns is computed before, or stored.

    Args:
        graph: to check, with the graphs nested in it.
        scopes: names known outside of it.

    Raises:
        ModelError: names the tensor and its reader.
    """
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    scopes = [*scopes, known]
    for node in graph.node:
        for name in node.input:
            if name and not any(name in scope for scope in scopes):
                if any(name in other.output for other in graph.node):
                    raise ModelError(f"{where(node)} reads '{name}' before it is computed: sort the graph's nodes")
                raise ModelError(
                    f"{where(node)} reads '{name}', which no node computes and no initializer holds: the weights may "
                    "be missing, export the model again"
                )
        for subgraph in subgraphs(node):
            check_sources(subgraph, scopes)
        known.update(node.output)
    for value in graph.output:
        if not any(value.name in scope for scope in scopes):
            raise ModelError(f"output '{value.name}' is computed by no node: export the model again")


def check_attributes(proto: ModelProto) -> None:
    """No attribute refers to a parameter of a function that is not there, no window has a size or stride below 1.

    Releases of onnx before 1.22 divide by the stride, and the process dies.

    Raises:
        ModelError: names the node and the attribute.
    """
    for body in bodies(proto):
        for node in body.node:
            for attribute in node.attribute:
                place = f"{where(node)}, attribute '{attribute.name}'"
                if attribute.ref_attr_name:
                    raise ModelError(f"{place}, refers to a parameter of a function that does not stand around it: "
                                     "export the model again")
                if attribute.name in _POSITIVE and min(attribute.ints, default=1) < 1:
                    raise ModelError(f"{place}, is {list(attribute.ints)}, and no entry may be below 1: export the "
                                     "model again")
