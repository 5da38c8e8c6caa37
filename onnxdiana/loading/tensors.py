"""Tensors of an untrusted model: sizes compared before anything is allocated, inline, finite, at most float32."""

from __future__ import annotations

import math
import ntpath
import os
from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, TensorProto, numpy_helper

from onnxdiana.errors import ModelError
from onnxdiana.loading.checks import NARROWED
from onnxdiana.loading.files import LIMIT
from onnxdiana.loading.walk import subgraphs, type_name, where

_INTEGERS = {TensorProto.BOOL} | {getattr(TensorProto, f"{u}INT{bits}") for u in ("", "U") for bits in (8, 16, 32, 64)}
_INLINE_BYTES = 1024
"""Larger weights stay out of the copies that onnx's C++ functions take and give."""


class Tensors:
    """Makes tensors whole, inline, finite and at most float32; remembers which float types it met."""

    def __init__(self, folder: str | None) -> None:
        """Args: folder: where the model's file lies, None for a model in memory."""
        self.narrowed: set[str] = set()
        self._folder = folder
        self._budget = LIMIT

    def own_all(self, proto: ModelProto) -> dict[str, NDArray[np.generic]]:
        """Treat every tensor of a model; returns the graph's initializers by name.

        Raises:
            ModelError: names the tensor that is missing, cut short, oversized, outside the folder or not finite.
        """
        weights: dict[str, NDArray[np.generic]] = {}
        for tensor in proto.graph.initializer:
            if not tensor.name or tensor.name in weights:
                raise ModelError(f"two initializers are called '{tensor.name}', or one has no name: export again")
            weights[tensor.name] = self._own(tensor, f"initializer '{tensor.name}'")
        nested = [graph for node in proto.graph.node for graph in subgraphs(node)]
        nested += [graph for function in proto.functions for node in function.node for graph in subgraphs(node)]
        for body in (proto.graph, *proto.functions, *(inner for graph in nested for inner in _deep(graph))):
            if isinstance(body, FunctionProto):
                self._own_attributes(body.attribute_proto, f"function '{body.name}'")
            elif body is not proto.graph:
                for tensor in body.initializer:
                    self._own(tensor, f"initializer '{tensor.name}'")
            for node in body.node:
                self._own_attributes(node.attribute, where(node))
        return weights

    def _own_attributes(self, attributes: Iterable[AttributeProto], place: str) -> None:
        for attribute in attributes:
            for tensor in ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors):
                self._own(tensor, f"{place}, attribute '{attribute.name}'")

    def _own(self, tensor: TensorProto, place: str) -> NDArray[np.generic]:
        """The values of one tensor, which afterwards holds them itself."""
        kind = tensor.data_type
        if kind not in {TensorProto.FLOAT, *NARROWED, *_INTEGERS}:
            raise ModelError(f"{place} is {type_name(kind)}: export the model with float32 weights")
        if any(d < 0 for d in tensor.dims):
            raise ModelError(f"{place} has the impossible shape {list(tensor.dims)}: export the model again")
        size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
        self._budget -= size
        if self._budget < 0:
            raise ModelError(f"{place} of shape {list(tensor.dims)} takes the weights beyond 2 GiB, which one ONNX file "
                             "cannot hold: quantize a smaller model")
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = self._external(tensor, size, place)
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
        elif tensor.HasField("raw_data") and len(tensor.raw_data) != size:
            raise ModelError(f"{place} of shape {list(tensor.dims)} needs {size} bytes and has {len(tensor.raw_data)}: "
                             "the file is damaged, export the model again")
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:
            raise ModelError(f"{place} of shape {list(tensor.dims)} holds too few or too many values: the file is "
                             "damaged, export the model again") from error
        return self._finite(tensor, array, place) if kind not in _INTEGERS else array

    def _finite(self, tensor: TensorProto, array: NDArray[np.generic], place: str) -> NDArray[np.generic]:
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
        root = os.path.realpath(self._folder)
        path = os.path.realpath(os.path.join(root, location))
        outside = os.path.isabs(location) or ntpath.isabs(location) or ntpath.splitdrive(location)[0] or "\0" in location
        if not location or outside or os.path.commonpath([root, path]) != root:
            raise ModelError(f"{place} lies in '{location}', outside the model's folder: external data are read from "
                             "that folder only; move the file there and export the model again")
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        except ValueError as error:
            raise ModelError(f"{place} has an external offset or length that is no number: export again") from error
        if offset < 0 or length != size:
            raise ModelError(f"{place} of shape {list(tensor.dims)} needs {size} bytes, its entry says {length} bytes at "
                             f"{offset}: export the model again")
        try:
            if not os.path.isfile(path):
                raise FileNotFoundError(2, "no such file")
            with open(path, "rb") as stream:
                stream.seek(offset)
                data = stream.read(size) if os.path.getsize(path) >= offset + size else b""
        except OSError as error:
            raise ModelError(f"{place} lies in '{location}', which cannot be read ({error.strerror}): put that file "
                             "beside the model") from error
        if len(data) != size:
            raise ModelError(f"{place} needs {size} bytes at {offset} of '{location}', which is shorter: the file is "
                             "damaged, copy or export it again")
        return data


def _deep(graph: GraphProto) -> Iterable[GraphProto]:
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _deep(inner)


def take_from_inputs(proto: ModelProto, weights: Iterable[str]) -> bool:
    """Initializers that are inputs too (IR version 3) stay initializers only; whether there were any."""
    names = set(weights)
    kept = [value for value in proto.graph.input if value.name not in names]
    if len(kept) == len(proto.graph.input):
        return False
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    return True


def detach(proto: ModelProto, weights: dict[str, NDArray[np.generic]]) -> None:
    """Large initializers become inputs for now: copies of the model stay small until they are put back."""
    small = []
    for tensor in proto.graph.initializer:
        array = weights[tensor.name]
        if array.nbytes <= _INLINE_BYTES:
            small.append(tensor)
            continue
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, kind, array.shape))
    kept = [TensorProto.FromString(tensor.SerializeToString()) for tensor in small]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
