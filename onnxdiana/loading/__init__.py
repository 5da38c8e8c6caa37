"""A model file becomes a float32 :class:`onnx_ir.Model` at our opset, or an error says why not.

The file is untrusted: sizes are compared before anything is allocated, external data stay inside the model's folder,
and nothing in the file is executed. Operators are judged by a later stage; here only what makes a file unreadable, or
its interface impossible to quantize, is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnx import ModelProto

from onnxdiana.errors import ModelError
from onnxdiana.loading import files
from onnxdiana.loading.adapters import adapt
from onnxdiana.loading.checks import (
    IR_VERSION,
    OPSET,
    check_attributes,
    check_interface,
    check_sources,
    check_text,
    check_versions,
    refuse_exotic,
)
from onnxdiana.loading.given_shapes import freeze, parse_shape
from onnxdiana.loading.opsets import (
    check_functions,
    check_shapes,
    check_structure,
    declare_float32,
    give_outputs_types,
    inlined,
    raised,
    relabel,
    set_apart,
)
from onnxdiana.loading.tensors import Tensors, detach, take_from_inputs
from onnxdiana.loading.walk import gist

__all__ = ["OPSET", "LoadedModel", "load", "parse_shape"]


@dataclass(frozen=True)
class LoadedModel:
    """A float model as every later stage expects it, and what was found in the file.

    Attributes:
        model: opset 20, every float tensor float32, functions inlined, weights in memory and not among the inputs.
        name: file name without its folder; the graph's name where the source was not a file.
        sha256: of the file as found, or of the serialized model where the source was not a file.
        external: sha256 of every file of external data, by its path in the model's folder.
        opset: of the default domain, as found.
        producer: name and version of the exporter, or an empty string.
        notes: what was converted, for the user.
    """

    model: ir.Model
    name: str
    sha256: str
    external: Mapping[str, str]
    opset: int
    producer: str
    notes: tuple[str, ...]


def load(
    source: str | os.PathLike[str] | ModelProto | ir.Model, shapes: Mapping[str, Sequence[int]] | None = None
) -> LoadedModel:
    """Read a float ONNX model.

    Args:
        source: path of an ``.onnx`` file, or a model in memory, which is left as it is.
        shapes: all sizes of an input, its samples' axis first, by the input's name: for those that the file leaves
            open. That first axis is opened again by later stages. The only input may have an empty name.

    Raises:
        ModelError: the file cannot be read, is not valid ONNX, or has an interface that cannot be quantized.
        UnsupportedOpError: control flow or custom operators stand in the way of raising the opset.
    """
    folder: str | None
    if isinstance(source, ModelProto | ir.Model):
        name = source.graph.name or "model"
        data, folder = files.serialized(source)
    else:
        data, name, folder = files.read(os.fsdecode(source))
    sha256 = hashlib.sha256(data).hexdigest()
    proto = files.parse(data, name)
    del data
    try:
        producer = f"{proto.producer_name} {proto.producer_version}".strip()
        tensors = Tensors(folder)
        model, opset, notes = _float_model(proto, tensors, shapes or {})
    except UnicodeDecodeError as error:
        raise ModelError(f"'{name}' holds a name that is not UTF-8 text: export the model again") from error
    except (MemoryError, RecursionError) as error:
        raise ModelError(f"'{name}' is too large or too deeply nested to be read here: export a smaller "
                         "model") from error
    return LoadedModel(model, name, sha256, tensors.digests(), opset, producer, tuple(notes))


def _float_model(
    proto: ModelProto, tensors: Tensors, shapes: Mapping[str, Sequence[int]]
) -> tuple[ir.Model, int, list[str]]:
    """The whole way of a parsed model, in order; checks that name the culprit come before onnx's own."""
    notes: list[str] = []
    check_text(proto)
    opset = check_versions(proto)
    refuse_exotic(proto)
    weights = tensors.own_all(proto)
    if take_from_inputs(proto, weights):
        notes.append("initializers taken out of the inputs")
    notes += freeze(proto, shapes)
    check_interface(proto.graph, weights)
    check_sources(proto.graph, [])
    proto.ir_version = IR_VERSION
    detach(proto, weights)
    adapt(proto, opset)
    set_apart(proto, opset)
    relabel(proto)
    if opset > OPSET:
        notes.append(f"opset {opset} read as {OPSET}")
    if proto.functions:
        notes.append(f"{len(proto.functions)} function(s) inlined")
        check_functions(proto)
        proto = inlined(proto)
    check_attributes(proto)
    shapeless = give_outputs_types(proto)
    check_structure(proto)
    narrowed = tensors.narrowed | declare_float32(proto)
    if narrowed:
        notes.append(f"{' and '.join(sorted(narrowed))} model converted to float32")
    if opset < OPSET:
        proto = raised(proto)
        notes.append(f"opset {opset} raised to {OPSET}")
    check_shapes(proto)
    model = _with_weights(proto, weights)
    for value in model.graph.outputs:
        if value.name in shapeless:
            value.shape = None
    return model, opset, notes


def _with_weights(proto: ModelProto, weights: Mapping[str, NDArray[Any]]) -> ir.Model:
    """The model in onnx_ir, with the weights that :func:`~onnxdiana.loading.tensors.detach` took out.

    Raises:
        ModelError: onnx_ir cannot read it.
    """
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # for instance types that no version of ONNX has
        raise ModelError(f"not a valid ONNX model: {gist(error)}; export it again") from error
    graph = model.graph
    inputs = list(graph.inputs)
    graph.inputs.clear()
    for value in inputs:
        array = weights.get(value.name or "")
        if array is None:
            graph.inputs.append(value)
        else:
            value.const_value = ir.Tensor(array, name=value.name)
            graph.register_initializer(value)
    return model
