"""Bytes of a model file, and the protobuf message in them."""

from __future__ import annotations

import difflib
import os
import stat

import onnx_ir as ir
from onnx import ModelProto

from onnxdiana.errors import ModelError
from onnxdiana.loading.walk import gist

LIMIT = 2**31 - 1
"""Bytes that one protobuf message can hold; ours must be written as one again."""
_MAGIC = {
    b"version https://git-lfs": "it is a Git LFS pointer: fetch the data with 'git lfs pull'",
    b"PK\x03\x04": "it is a zip archive, perhaps a PyTorch checkpoint: export the model to ONNX first",
}


def read(path: str) -> tuple[bytes, str, str]:
    """Content, file name and folder of a model file.

    Raises:
        ModelError: no such file, not a regular one, too large or not readable.
    """
    folder, name = os.path.split(path)
    folder = folder or "."
    try:
        found = os.stat(path)  # before it is opened: a pipe would wait for its writer
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise ModelError(f"'{path}' is {kind}: give the path of an .onnx file")
        if found.st_size > LIMIT:
            raise ModelError(f"'{path}' has {found.st_size} bytes, more than the 2 GiB that an ONNX file can hold: "
                             "give the .onnx file; large weights belong into external data beside it")
        with open(path, "rb") as file:
            data = file.read(found.st_size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(f"'{path}' does not exist{_nearest(folder, name)}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"'{path}' cannot be read: {reason}; check the path and its permissions") from error
    return data, os.fsencode(name).decode(errors="replace"), folder


def _nearest(folder: str, name: str) -> str:
    """A hint at the file that was perhaps meant."""
    try:
        names = [entry for entry in os.listdir(folder) if os.path.isfile(os.path.join(folder, entry))]
    except OSError:
        return f": there is no folder '{folder}'"
    near = difflib.get_close_matches(name, names, n=1)
    return f": did you mean '{os.path.join(folder, near[0])}'?" if near else f": look in '{folder}'"


def serialized(source: ModelProto | ir.Model) -> tuple[bytes, str | None]:
    """The bytes of a model in memory, and the folder of its external data where it knows one.

    Raises:
        ModelError: it cannot be serialized, or its external data lie in several folders.
    """
    folders: set[str] = set()
    try:
        if isinstance(source, ir.Model):
            tensors = [value.const_value for graph in source.graphs() for value in graph.initializers.values()]
            folders = {os.fspath(t.base_dir) or "." for t in tensors if isinstance(t, ir.ExternalTensor)}
            source = ir.to_proto(source)
        data: bytes = source.SerializeToString(deterministic=True)
    except Exception as error:
        raise ModelError(f"the model in memory cannot be serialized: {gist(error)}; save it and give its "
                         "path") from error
    if len(folders) > 1:
        raise ModelError(f"the model's external data lie in several folders, {', '.join(sorted(folders))}: save it "
                         "with its data in one file")
    return data, next(iter(folders), None)


def parse(data: bytes, name: str) -> ModelProto:
    """The protobuf message in a file's bytes.

    Raises:
        ModelError: it is none, or holds no graph.
    """
    hint = next((hint for magic, hint in _MAGIC.items() if data.startswith(magic)), "download or export it again")
    if not data:
        raise ModelError(f"'{name}' is empty: {hint}")
    try:
        proto: ModelProto = ModelProto.FromString(data)
    except Exception as error:
        raise ModelError(f"'{name}' is not an ONNX model, or was cut short: {hint}") from error
    if not proto.HasField("graph"):
        raise ModelError(f"'{name}' is not an ONNX model (it holds no graph): {hint}")
    return proto
