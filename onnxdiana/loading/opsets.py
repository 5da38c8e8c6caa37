"""Every opset becomes ours: functions inlined, float types declared as float32, older operators converted."""

from __future__ import annotations

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from onnxdiana.errors import ModelError, UnsupportedOpError
from onnxdiana.loading.checks import NARROWED, OPSET
from onnxdiana.loading.walk import bodies, gist, subgraphs, where

_MAX_NODES = 1_000_000
"""After inlining: functions that call functions grow exponentially."""
_TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype"}
_REDEFINED = {"GroupNormalization"}
"""After opset 20: same attributes and inputs, another meaning."""


def relabel(proto: ModelProto) -> None:
    """A newer opset read as ours; what ours does not know is found by the checker afterwards."""
    redefined = [node for body in bodies(proto) for node in body.node if not node.domain and node.op_type in _REDEFINED]
    if redefined:
        raise UnsupportedOpError([f"{where(node)}: means something else since opset 21; export at opset {OPSET}"
                                  for node in redefined])
    for entries in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        for entry in entries:
            if not entry.domain:
                entry.version = OPSET


def check_structure(proto: ModelProto) -> None:
    """onnx's own checker, after the operators that this opset does not know, all at once.

    Raises:
        UnsupportedOpError: operators of the default domain that its opset does not have.
        ModelError: what the checker says.
    """
    opset = next(entry.version for entry in proto.opset_import if not entry.domain)
    unknown = [node for body in bodies(proto) for node in body.node
               if not node.domain and not _known(node.op_type, opset)
               and not any(f.name == node.op_type and not f.domain for f in proto.functions)]
    if unknown:
        raise UnsupportedOpError([f"{where(node)}: ONNX opset {opset} has no such operator" for node in unknown])
    try:
        onnx.checker.check_model(proto)
    except Exception as error:
        raise ModelError(f"not a valid ONNX model: {gist(error)}; export it again") from error


def _known(op_type: str, opset: int) -> bool:
    try:
        return not onnx.defs.get_schema(op_type, opset, "").deprecated
    except onnx.defs.SchemaError:
        return False


def give_outputs_shapes(proto: ModelProto) -> None:
    """Outputs without a type get the inferred one, which the checker and the converter want to see."""
    bare = [value for value in proto.graph.output
            if not value.type.tensor_type.elem_type or not value.type.tensor_type.HasField("shape")]
    if not bare:
        return
    try:
        inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(proto).graph.output}
    except Exception:  # the checker, which is next, says it better
        inferred = {}
    for value in bare:
        found = inferred.get(value.name)
        if found is not None and found.type.tensor_type.elem_type:
            value.type.CopyFrom(found.type)
        if not value.type.tensor_type.elem_type:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        if not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.dim.add()


def inlined(proto: ModelProto) -> ModelProto:
    """Functions replaced by their bodies.

    Raises:
        ModelError: a function calls itself, or the result would be huge.
    """
    functions = {(f.domain, f.name): f for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], above: tuple[tuple[str, str], ...]) -> int:
        if key in above:
            raise ModelError(f"function '{key[1]}' calls itself: export the model again")
        if key not in sizes:
            sizes[key] = total(functions[key].node, (*above, key))
        return sizes[key]

    def total(nodes: object, above: tuple[tuple[str, str], ...]) -> int:
        count = 0
        for node in nodes:  # type: ignore[attr-defined]
            key = (node.domain, node.op_type)
            count += size(key, above) if key in functions else 1
            count += sum(total(graph.node, above) for graph in subgraphs(node))
            if count > _MAX_NODES:
                raise ModelError(f"the model has more than {_MAX_NODES} nodes once its functions are inlined")
        return count

    total(proto.graph.node, ())
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception as error:
        raise ModelError(f"the model's functions cannot be inlined: {gist(error)}; export it without functions") from error


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
    try:
        result = onnx.version_converter.convert_version(proto, OPSET)
        onnx.checker.check_model(result)
    except Exception as error:
        blocking = [node for node in proto.graph.node if node.domain or subgraphs(node)]
        if blocking:
            raise UnsupportedOpError([f"{where(node)}: custom and control-flow operators have no quantized form; "
                                      "export a traced model of standard operators" for node in blocking]) from error
        raise ModelError(f"the model cannot be converted to opset {OPSET}: {gist(error)}; export it at that opset"
                         ) from error
    return result
