"""Tensors of an untrusted model: sizes compared before anything is allocated, inline, finite, at most float32."""

from __future__ import annotations

import hashlib
import math
import ntpath
import os
from collections import Counter
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
_READ_BYTES = 2**28
"""So much of external data is read into memory; what is beyond is mapped, and stays in its file."""
_FILE_BYTES = 2**36
"""Sizes of all external files together."""
_SHARED_BYTES = 2**28
"""Tensors that point at the same bytes may claim so much in one file, or as much as it has."""
_CHUNK = 2**20
"""Elements that are checked at a time."""

Array = NDArray[np.generic]


class Tensors:
    """Makes tensors whole, inline, finite and at most float32; remembers which float types it met.

    What bounds memory: everything held in it, :data:`~onnxdiana.loading.files.LIMIT` together. The graph's own large
    external initializers are mapped instead once :data:`_READ_BYTES` were read. Mapped bytes are bounded by the sizes
    of the files that were found, :data:`_FILE_BYTES` together, which a sparse file reaches on an empty disk: later
    stages may copy weights layer by layer, never all of them at once.
    """

    def __init__(self, folder: str | None) -> None:
        """Args: folder: where the model's file lies, None for a model in memory."""
        self.narrowed: set[str] = set()
        self._folder = folder
        self._held = self._found = 0
        self._unread = _READ_BYTES
        self._files: dict[str, NDArray[np.uint8]] = {}
        self._claims: Counter[str] = Counter()

    def own_all(self, proto: ModelProto) -> dict[str, Array]:
        """Treat every tensor of a model; returns the graph's initializers by name.

        Those that are larger than :data:`_INLINE_BYTES` may hold no data afterwards: :func:`detach` removes them.

        Raises:
            ModelError: names the tensor that is missing, cut short, oversized, outside the folder or not finite.
        """
        weights: dict[str, Array] = {}
        for body in bodies(proto):
            if isinstance(body, FunctionProto):
                self._own_attributes(body.attribute_proto, f"function '{body.name}'")
            else:
                for tensor in body.initializer:
                    array = self._own(tensor, f"initializer '{tensor.name}'", body is proto.graph)
                    if body is not proto.graph:
                        continue
                    if not tensor.name or tensor.name in weights:
                        raise ModelError(f"two initializers are called '{tensor.name}', or one has no name: export the "
                                         "model again")
                    weights[tensor.name] = array
            for node in body.node:
                self._own_attributes(node.attribute, where(node))
        return weights

    def digests(self) -> dict[str, str]:
        """sha256 of every external file that was used, by its path in the model's folder."""
        root = os.path.realpath(self._folder or "")
        named = {os.path.relpath(path, root).replace(os.sep, "/"): content for path, content in self._files.items()}
        return {name: hashlib.sha256(named[name].data).hexdigest() for name in sorted(named)}

    def _own_attributes(self, attributes: Iterable[AttributeProto], place: str) -> None:
        for attribute in attributes:
            for tensor in ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors):
                self._own(tensor, f"{place}, attribute '{attribute.name}'", False)

    def _own(self, tensor: TensorProto, place: str, detachable: bool) -> Array:
        """The values of one tensor, which afterwards holds them itself, and nothing else; or not, if detachable."""
        kind, shape = tensor.data_type, list(tensor.dims)
        if kind not in _BYTES:
            raise ModelError(f"{place} is {type_name(kind)}: export the model with float32 weights")
        if any(d < 0 for d in shape):
            raise ModelError(f"{place} has the impossible shape {shape}: export the model again")
        size, place_and_shape = math.prod(shape) * _BYTES[kind], f"{place} of shape {shape}"
        external = tensor.data_location == TensorProto.EXTERNAL
        mapped = external and detachable and size > max(self._unread, _INLINE_BYTES)
        if not mapped:
            self._hold(size, place_and_shape)
        if external:
            data = self._external(tensor, size, place)
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
            if not mapped:
                self._unread -= size
                tensor.raw_data = data.tobytes()
        elif tensor.HasField("raw_data") and len(tensor.raw_data) != size:
            raise ModelError(f"{place_and_shape} needs {size} bytes and has {len(tensor.raw_data)}: the file is "
                             "damaged, export the model again")
        tensor.ClearField("doc_string")
        tensor.ClearField("metadata_props")
        if mapped:
            array: Array = data.view(onnx.helper.tensor_dtype_to_np_dtype(kind).newbyteorder("<")).reshape(shape)
            if not array.flags.aligned:  # of no use to onnxruntime
                self._hold(size, place_and_shape)
                array = array.copy()
        else:
            try:
                array = numpy_helper.to_array(tensor)
            except Exception as error:
                raise ModelError(f"{place_and_shape} holds too few or too many values: the file is damaged, export "
                                 "the model again") from error
        if kind in _INTEGER_BYTES:
            return array
        if kind in NARROWED:
            self._hold(4 * array.size, place_and_shape)
            self.narrowed.add(NARROWED[kind])
        narrow = _finite(array, place)
        if kind in NARROWED and not (detachable and narrow.nbytes > _INLINE_BYTES):
            tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
        return narrow

    def _hold(self, size: int, place: str) -> None:
        """Count bytes that are held in memory."""
        self._held += size
        if self._held > LIMIT:
            raise ModelError(f"{place} takes the weights beyond 2 GiB, which one ONNX file cannot hold: quantize a "
                             "smaller model")

    def _external(self, tensor: TensorProto, size: int, place: str) -> NDArray[np.uint8]:
        """Bytes of a file in the model's folder, nowhere else; they are mapped, not read."""
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
            content = self._content(path)
        except OSError as error:
            raise ModelError(f"{place} lies in '{location}', which cannot be read ({error.strerror}): put that file "
                             "beside the model") from error
        if self._found > _FILE_BYTES:
            raise ModelError(f"{place} lies in '{location}', which takes the model's external files beyond "
                             f"{_FILE_BYTES // 2**30} GiB: quantize a smaller model")
        if len(content) < offset + size:
            raise ModelError(f"{place} needs {size} bytes at {offset} of '{location}', which is shorter: the file "
                             "is damaged, copy or export it again")
        self._claims[path] += size
        if self._claims[path] > max(len(content), _SHARED_BYTES):
            raise ModelError(f"{place} shares its bytes in '{location}' with other tensors, which together claim more "
                             f"than the {len(content)} bytes that are there: save the model with separate tensors")
        return content[offset:offset + size]

    def _content(self, path: str) -> NDArray[np.uint8]:
        """A regular file, mapped once: a map keeps its file open."""
        if path not in self._files:
            if not os.path.isfile(path):  # a pipe would wait for its writer
                raise FileNotFoundError(2, "not a regular file" if os.path.exists(path) else "no such file")
            empty = not os.path.getsize(path)  # which cannot be mapped
            self._files[path] = np.empty(0, np.uint8) if empty else np.asarray(np.memmap(path, np.uint8, "r"))
            self._found += len(self._files[path])
        return self._files[path]


def _finite(array: Array, place: str) -> NDArray[np.float32]:
    """As float32, checked in pieces; a lone infinity is how exporters write a missing bound."""
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32, copy=False)
    flat = narrow.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        piece = flat[start:start + _CHUNK]
        bad = np.isnan(piece) if flat.size == 1 else ~np.isfinite(piece)
        if bad.any():
            at = np.unravel_index(start + int(bad.argmax()), array.shape)
            raise ModelError(f"{place} holds {array[at]} at {[int(i) for i in at]}: train or export the model again, "
                             "its weights must be finite float32 numbers")
    return narrow


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
