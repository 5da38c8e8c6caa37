"""Tensors of an untrusted model: sizes compared before anything is allocated, inline, finite, at most float32."""

from __future__ import annotations

import math
import ntpath
import os
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, ModelProto, TensorProto, numpy_helper

from onnxdiana.errors import ModelError
from onnxdiana.loading.checks import NARROWED
from onnxdiana.loading.files import LIMIT
from onnxdiana.loading.walk import bodies, type_name, where

_FLOAT_BYTES: Mapping[int, int] = {
    TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2, TensorProto.DOUBLE: 8,
}
_INTEGER_BYTES: Mapping[int, int] = {
    TensorProto.BOOL: 1, TensorProto.INT8: 1, TensorProto.UINT8: 1, TensorProto.INT16: 2, TensorProto.UINT16: 2,
    TensorProto.INT32: 4, TensorProto.UINT32: 4, TensorProto.INT64: 8, TensorProto.UINT64: 8,
}
_BYTES: Mapping[int, int] = {**_FLOAT_BYTES, **_INTEGER_BYTES}
"""Of one element; tensors of any other type (strings, complex numbers, four-bit integers) are refused."""
_INLINE_BYTES = 1024
"""Larger weights stay out of the copies that onnx's C++ functions take and give."""

Array = NDArray[np.generic]


class Tensors:
    """Makes tensors whole, inline, finite and at most float32; remembers which float types it met."""

    def __init__(self, folder: str | None) -> None:
        """Args: folder: where the model's file lies, None for a model in memory."""
        self.narrowed: set[str] = set()
        self._folder = folder
        self._budget = LIMIT

    def own_all(self, proto: ModelProto) -> dict[str, Array]:
        """Treat every tensor of a model; returns the graph's initializers by name.

        Raises:
            ModelError: names the tensor that is missing, cut short, oversized, outside the folder or not finite.
        """
        weights: dict[str, Array] = {}
        for body in bodies(proto):
            if isinstance(body, FunctionProto):
                self._own_attributes(body.attribute_proto, f"function '{body.name}'")
            else:
                for tensor in body.initializer:
                    array = self._own(tensor, f"initializer '{tensor.name}'")
                    if body is not proto.graph:
                        continue
                    if not tensor.name or tensor.name in weights:
                        raise ModelError(f"two initializers are called '{tensor.name}', or one has no name: export the "
                                         "model again")
                    weights[tensor.name] = array
            for node in body.node:
                self._own_attributes(node.attribute, where(node))
        return weights

    def _own_attributes(self, attributes: Iterable[AttributeProto], place: str) -> None:
        for attribute in attributes:
            for tensor in ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors):
                self._own(tensor, f"{place}, attribute '{attribute.name}'")

    def _own(self, tensor: TensorProto, place: str) -> Array:
        """The values of one tensor, which afterwards holds them itself, and nothing else."""
        kind, shape = tensor.data_type, list(tensor.dims)
        if kind not in _BYTES:
            raise ModelError(f"{place} is {type_name(kind)}: export the model with float32 weights")
        if any(d < 0 for d in shape):
            raise ModelError(f"{place} has the impossible shape {shape}: export the model again")
        size = math.prod(shape) * _BYTES[kind]
        self._budget -= size
        if self._budget < 0:
            raise ModelError(f"{place} of shape {shape} takes the weights beyond 2 GiB, which one ONNX file cannot "
                             "hold: quantize a smaller model")
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = self._external(tensor, size, place)
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
        elif tensor.HasField("raw_data") and len(tensor.raw_data) != size:
            raise ModelError(f"{place} of shape {shape} needs {size} bytes and has {len(tensor.raw_data)}: the file is "
                             "damaged, export the model again")
        tensor.ClearField("doc_string")
        tensor.ClearField("metadata_props")
        try:
            array: Array = numpy_helper.to_array(tensor)
        except Exception as error:
            raise ModelError(f"{place} of shape {shape} holds too few or too many values: the file is damaged, export "
                             "the model again") from error
        return array if kind in _INTEGER_BYTES else self._finite(tensor, array, place)

    def _finite(self, tensor: TensorProto, array: Array, place: str) -> Array:
        """As float32, checked; a lone infinity is how exporters write a missing bound."""
        with np.errstate(over="ignore"):
            narrow = array.astype(np.float32)
        bad = np.isnan(narrow) if narrow.size == 1 else ~np.isfinite(narrow)
        if bad.any():
            at = [int(i) for i in np.argwhere(bad)[0]]
            raise ModelError(f"{place} holds {array[tuple(at)]} at {at}: train or export the model again, its weights "
                             "must be finite float32 numbers")
        if tensor.data_type in NARROWED:
            self.narrowed.add(NARROWED[tensor.data_type])
            tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
        return narrow

    def _external(self, tensor: TensorProto, size: int, place: str) -> bytes:
        """Bytes from a file in the model's folder, nowhere else."""
        if self._folder is None:
            raise ModelError(f"{place} lies in an external file, and a model in memory has no folder: give its path")
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        path = _inside(self._folder, location)
        if path is None:
            raise ModelError(f"{place} lies in '{location}', outside the model's folder: external data are read from "
                             "that folder only; move the file there and export the model again")
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        except ValueError as error:
            raise ModelError(f"{place} has an external offset or length that is no number: export the model "
                             "again") from error
        if offset < 0 or length != size:
            raise ModelError(f"{place} of shape {list(tensor.dims)} needs {size} bytes, its entry says {length} bytes "
                             f"at {offset}: export the model again")
        try:
            if not os.path.isfile(path):  # a pipe would wait for its writer
                raise FileNotFoundError(2, "not a regular file" if os.path.exists(path) else "no such file")
            if os.path.getsize(path) < offset + size:
                raise ModelError(f"{place} needs {size} bytes at {offset} of '{location}', which is shorter: the file "
                                 "is damaged, copy or export it again")
            with open(path, "rb") as stream:
                stream.seek(offset)
                return stream.read(size)
        except OSError as error:
            raise ModelError(f"{place} lies in '{location}', which cannot be read ({error.strerror}): put that file "
                             "beside the model") from error


def _inside(folder: str, location: str) -> str | None:
    """The real path of a location below a folder, links followed; None where it is not below it on any system."""
    windows = ntpath.normpath(location)  # takes both kinds of slashes
    if not location or "\0" in location or os.path.isabs(location) or ntpath.splitdrive(windows)[0]:
        return None
    if windows.startswith("\\") or windows.split("\\")[0] == "..":
        return None
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, location))
    return path if os.path.commonpath([root, path]) == root else None


def take_from_inputs(proto: ModelProto, weights: Iterable[str]) -> bool:
    """Initializers that are inputs too (IR version 3) stay initializers only; whether there were any.

    Raises:
        ModelError: no input would be left.
    """
    names = set(weights)
    kept = [value for value in proto.graph.input if value.name not in names]
    if len(kept) == len(proto.graph.input):
        return False
    if not kept:
        raise ModelError(f"input '{proto.graph.input[0].name}' has a stored value (an initializer of the same name): "
                         "take that initializer out of the model")
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    return True


def detach(proto: ModelProto, weights: Mapping[str, Array]) -> None:
    """Large initializers become inputs for now: copies of the model stay small until they are put back."""
    large = {name: array for name, array in weights.items() if array.nbytes > _INLINE_BYTES}
    small = [tensor for tensor in proto.graph.initializer if tensor.name not in large]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    for name, array in large.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
