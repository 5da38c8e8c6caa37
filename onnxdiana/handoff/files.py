"""A hand-over file and what stands beside it, read as untrusted: no pickle, no path outside the folder."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from onnx import TensorProto

from onnxdiana.errors import HandoffError

MODEL = "model.onnx"
FOLDER = "htvm"


def find(path: Path) -> Path:
    """The model that a path means.

    Raises:
        HandoffError: there is none.
    """
    try:
        if path.is_file():
            return path
        if not path.is_dir():
            raise HandoffError(f"{path}: no such file or folder; give the folder that quantize wrote, or an .onnx file")
        if not (path / FOLDER).is_dir() and (path / "summary.json").is_file() and not (path / MODEL).is_file():
            raise HandoffError(f"{path}: there is no {FOLDER} folder in it: the model has no hand-over form, or "
                               "--concat refuse left it out; summary.json says why under 'handoff'")
        folder = path / FOLDER if (path / FOLDER).is_dir() else path
        if (folder / MODEL).is_file():
            return folder / MODEL
        models = sorted(folder.glob("*.onnx"))
    except (OSError, ValueError) as error:
        raise HandoffError(f"{path}: cannot be read ({error}); give a folder or an .onnx file") from error
    if len(models) != 1:
        found = ", ".join(model.name for model in models[:4]) or "no .onnx file"
        raise HandoffError(f"{folder}: found {found}; give the .onnx file to judge by its name")
    return models[0]


def load(file: Path) -> onnx.ModelProto:
    """Parse it, data in other files included.

    Raises:
        HandoffError: it is no ONNX, or its data lie outside its folder or cannot be read.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(_bytes(file))
    except HandoffError:
        raise
    except Exception as error:  # protobuf's own type differs between its implementations
        raise HandoffError(f"{file}: this is no ONNX file ({error}); give the model that HTVM is to compile") from error
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            _fetch(tensor, file)
    return model


def beside(file: Path) -> dict[str, bytes]:
    """Every ``.npy`` in the folder, as HTVM loads them, and the manifest of ours."""
    try:
        names = sorted(path.name for path in file.parent.iterdir() if path.suffix == ".npy" and path.is_file())
    except OSError as error:
        raise HandoffError(f"{file.parent}: cannot be listed ({error.strerror}); make it readable") from error
    if (file.parent / "manifest.json").is_file():
        names.append("manifest.json")
    return {name: _bytes(file.parent / name) for name in names}


def _fetch(tensor: TensorProto, file: Path) -> None:
    """Data of one tensor, from a file of the same folder."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    where, path = f"{file}: tensor '{tensor.name}'", said.get("location", "")
    try:
        source = (file.parent / path).resolve()
        if not source.is_relative_to(file.parent.resolve()) or not source.is_file():
            raise HandoffError(f"{where}: its data are said to be in '{path}', which is no file of the model's folder; "
                               "save the model as one file")
        offset, length = int(said.get("offset", 0)), int(said.get("length", -1))
        size = os.path.getsize(source)
        length = size - offset if length < 0 else length
        if offset < 0 or offset + length > size:
            raise HandoffError(f"{where}: bytes {offset} to {offset + length} of '{path}', which has {size}; save the "
                               "model as one file")
        with open(source, "rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
    except (OSError, ValueError) as error:
        raise HandoffError(f"{where}: its data in '{path}' cannot be read ({error}); save the model as one "
                           "file") from error
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HandoffError(f"{path}: cannot be read ({error.strerror}); make it readable") from error
