"""Every opset becomes ours: functions inlined, float types declared as float32, older operators converted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import onnx
import onnx.inliner
import onnx.version_converter
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from onnxdiana.errors import ModelError, UnsupportedOpError
from onnxdiana.loading.adapters import constants, foreign, opset_of, repair_resizes, resizes
from onnxdiana.loading.checks import LARGEST_TENSOR, NARROWED, OPSET, check_sources
from onnxdiana.loading.files import LIMIT
from onnxdiana.loading.walk import bodies, gist, subgraphs, where

_MAX_NODES = 1_000_000
"""After inlining: functions that call functions grow exponentially."""
_MAX_DEPTH = 50
"""Of functions that call functions."""
_TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype"}


def set_apart(proto: ModelProto, opset: int) -> None:
    """Operators that our opset lacks, or that others define otherwise, get a domain of their own: ``opset-<n>``.

    The stage that judges operators can then report them with all others. Domains that are not imported, which would
    keep it from that as well, are.

    Args:
        proto: changed in place.
        opset: that the model was made for.
    """
    functions = {function.name for function in proto.functions if not function.domain}
    for body in bodies(proto):
        version = opset_of(body, opset)
        known = constants(body) if isinstance(body, onnx.GraphProto) else None
        for node in body.node:
            if node.domain or node.op_type in functions:
                continue
            if not _known(node.op_type, min(opset, version, OPSET)) or foreign(node, version, known):
                node.domain = f"opset-{version}"
    used = {node.domain for body in bodies(proto) for node in body.node}
    for entries in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        for domain in sorted(used - {entry.domain for entry in entries}):
            entries.add(domain=domain, version=1)


def _known(op_type: str, opset: int) -> bool:
    try:
        return not onnx.defs.get_schema(op_type, opset, "").deprecated
    except onnx.defs.SchemaError:
        return False


def relabel(proto: ModelProto) -> None:
    """A newer opset read as ours; the checker finds attributes that ours does not know."""
    for entries in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        for entry in entries:
            if not entry.domain and entry.version > OPSET:
                entry.version = OPSET


def check_structure(proto: ModelProto) -> None:
    """onnx's own checker.

    Raises:
        ModelError: what it says.
    """
    try:
        onnx.checker.check_model(proto)
    except Exception as error:
        raise ModelError(f"not a valid ONNX model of opset {_opset(proto)}: {gist(error)}; export it again, best at "
                         f"opset {OPSET}") from error


def _opset(proto: ModelProto) -> int:
    version: int = next(entry.version for entry in proto.opset_import if not entry.domain)
    return version


def give_outputs_types(proto: ModelProto) -> set[str]:
    """Outputs without a type get the inferred one, which the checker and the converter want to see.

    Returns:
        Names of those whose shape is a mere placeholder, since it could not be inferred.
    """
    bare = [value for value in proto.graph.output
            if not value.type.tensor_type.elem_type or not value.type.tensor_type.HasField("shape")]
    if not bare:
        return set()
    try:
        inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(proto).graph.output}
    except Exception:  # the checker, which is next, says it better
        inferred = {}
    shapeless = set()
    for value in bare:
        found = inferred.get(value.name)
        if found is not None and found.type.tensor_type.elem_type:
            value.type.CopyFrom(found.type)
        if not value.type.tensor_type.elem_type:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        if not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.dim.add()
            shapeless.add(value.name)
    return shapeless


def check_functions(proto: ModelProto) -> None:
    """Inlining ends, and gives a model of bearable size.

    Raises:
        ModelError: a function calls itself or too deep, or the result would be huge.
    """
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}

    def total(nodes: Iterable[NodeProto], above: tuple[tuple[str, str, str], ...]) -> tuple[int, int]:
        """Nodes and bytes once everything is inlined."""
        count = volume = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            parts = [total(graph.node, above) for graph in subgraphs(node)]
            parts.append(size(key, above) if key in functions else (1, node.ByteSize()))
            count, volume = count + sum(n for n, _ in parts), volume + sum(b for _, b in parts)
            if count > _MAX_NODES or volume > LIMIT:
                raise ModelError(f"the model has more than {_MAX_NODES} nodes or 2 GiB once its functions are inlined: "
                                 "export a smaller one, without functions")
        return count, volume

    def size(key: tuple[str, str, str], above: tuple[tuple[str, str, str], ...]) -> tuple[int, int]:
        if key in above:
            raise ModelError(f"function '{key[1]}' calls itself: export the model again")
        if len(above) == _MAX_DEPTH:
            raise ModelError(f"function '{key[1]}' is called through more than {_MAX_DEPTH} others: export the model "
                             "without functions")
        if key not in sizes:
            sizes[key] = total(functions[key].node, (*above, key))
        return sizes[key]

    total(proto.graph.node, ())
    for key in functions:  # those that the graph does not call, too
        size(key, ())


def inlined(proto: ModelProto) -> ModelProto:
    """Functions replaced by their bodies.

    Raises:
        ModelError: onnx's inliner fails, or a body returns what it does not compute.
    """
    opset = _opset(proto)
    try:
        if any(opset_of(function, opset) != opset for function in proto.functions):
            proto = onnx.shape_inference.infer_shapes(proto)  # to convert a body, the inliner wants to know types
        result: ModelProto = onnx.inliner.inline_local_functions(proto, convert_version=True)
    except Exception as error:
        raise ModelError(f"the model's functions cannot be inlined: {gist(error)}; export it without "
                         "functions") from error
    check_sources(result.graph, [])
    return result


def declare_float32(proto: ModelProto) -> set[str]:
    """Declared types and casts of other float types become float32; the names of the types that were found."""
    found: set[str] = set()

    def declare(value: ValueInfoProto) -> None:
        kind = value.type.tensor_type
        if kind.elem_type in NARROWED:
            found.add(NARROWED[kind.elem_type])
            kind.elem_type = TensorProto.FLOAT

    for body in bodies(proto):
        for value in body.value_info:
            declare(value)
        if isinstance(body, onnx.GraphProto):
            for value in (*body.input, *body.output):
                declare(value)
        for node in body.node:
            for attribute in node.attribute:
                if attribute.name in _TYPE_ATTRIBUTES and attribute.i in NARROWED:
                    found.add(NARROWED[attribute.i])
                    attribute.i = TensorProto.FLOAT
    return found


def raised(proto: ModelProto) -> ModelProto:
    """The same model at our opset.

    Raises:
        UnsupportedOpError: the converter fails where control flow or custom operators stand.
        ModelError: it fails elsewhere.
    """
    rounding = resizes(proto.graph, _opset(proto))
    try:
        result: ModelProto = onnx.version_converter.convert_version(proto, OPSET)
        repair_resizes(result.graph, rounding)
        onnx.checker.check_model(result)
    except Exception as error:
        if blocking := _blocking(proto):
            raise UnsupportedOpError([f"{where(node)}: custom and control-flow operators have no quantized form; "
                                      "export a traced model of standard operators" for node in blocking]) from error
        raise ModelError(f"the model cannot be converted to opset {OPSET}: {gist(error)}; export it at that "
                         "opset") from error
    return result


def _blocking(proto: ModelProto) -> list[NodeProto]:
    """Custom and control-flow operators, which are refused by name later and may break anything before."""
    return [node for node in proto.graph.node if node.domain or subgraphs(node)]


def check_shapes(proto: ModelProto) -> None:
    """Types and sizes fit together at every operator, whatever the file declares of tensors in between.

    Where operators stand that are refused by name later, only the sizes that can be told are looked at.

    Raises:
        ModelError: names the first node where they do not, or whose result is huge.
    """
    strict = not _blocking(proto)
    bare = ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = _inferred(bare, strict)
    except Exception as error:
        if not strict:
            return
        found = _inferred(bare, strict=False)
        culprit = next((node for node in proto.graph.node if not any(name in found for name in node.output)), None)
        reason = re.sub(r".*?Inference error\(s\): \(op_type:\w+\): | \(op_type:.*", "", gist(error))
        raise ModelError(f"{where(culprit) if culprit else 'the model'}: types or sizes do not fit together: {reason}; "
                         "export the model again") from error
    for node in proto.graph.node:
        for name in node.output:
            shape = inferred.get(name, [])
            if math.prod(shape) > LARGEST_TENSOR:
                raise ModelError(f"{where(node)}: shape {shape} has more than {LARGEST_TENSOR} elements: export the "
                                 "model for smaller inputs")


def _inferred(proto: ModelProto, strict: bool) -> dict[str, list[int]]:
    """Shapes that onnx can tell, by tensor name; an open axis counts 1."""
    graph = onnx.shape_inference.infer_shapes(proto, strict_mode=strict).graph
    kinds = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
    return {name: [dim.dim_value or 1 for dim in kind.shape.dim] for name, kind in kinds.items()
            if kind.HasField("shape")}
