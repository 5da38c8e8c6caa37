"""What follows from the parts, file by file: the models, the vectors and the manifest, written again and compared."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxdiana.check.consistency import first_difference
from onnxdiana.check.folder import FAKE, HTVM, INTEGER, MANIFEST, Folder
from onnxdiana.check.parts import Parts
from onnxdiana.exporting.artifacts import Spellings, manifest, vectors
from onnxdiana.exporting.htvm import tensor_names


def model_findings(folder: Folder, written: Spellings) -> Iterator[str]:
    """Models that are not what the parts give."""
    for name, expected in ((FAKE, written.fake), (INTEGER, written.integer), (HTVM, written.htvm)):
        if expected is None:
            if name in folder.files:
                yield f"{name} exists, but HTVM cannot express this model: {written.obstacles[0]}"
        elif name in folder.files:
            yield from _differences(name, expected, folder.model(name))
        elif name not in folder.summary["files"]:  # else it is reported as missing
            yield f"{name} is missing; quantize again"


def _differences(name: str, expected: onnx.ModelProto, found: onnx.ModelProto) -> Iterator[str]:
    """Constants and the first node that differ, each with the tensor that it belongs to; else that anything does."""
    if expected == found:
        return
    others, told = {tensor.name: tensor for tensor in found.graph.initializer}, False
    users = {value: node.output[0] for node in expected.graph.node for value in node.input}
    for tensor in expected.graph.initializer:
        other = others.get(tensor.name)
        if other != tensor:
            told = True
            yield f"{name}: constant '{tensor.name}' of '{users.get(tensor.name, '?')}' {_changed(tensor, other)}"
    for ours, theirs in zip(expected.graph.node, found.graph.node, strict=False):
        if ours != theirs:
            told = True
            yield f"{name}: node '{ours.output[0]}' ({ours.op_type}) is not what was written"
            break
    if not told:
        yield f"{name}: what it declares (inputs, outputs, shapes, metadata) is not what was written"


def _changed(expected: onnx.TensorProto, found: onnx.TensorProto | None) -> str:
    """How a constant differs; the other one is untrusted: its bytes are looked at only where their number is right."""
    if found is None or found.data_type != expected.data_type or found.dims != expected.dims \
            or len(found.raw_data) != len(expected.raw_data):
        return "is missing or has another type or shape"
    array = numpy_helper.to_array(expected)
    return _at(array, np.frombuffer(found.raw_data, array.dtype).reshape(array.shape))


def _at(expected: NDArray[Any], found: NDArray[Any]) -> str:
    at = first_difference(found, expected)
    return "is written otherwise" if at is None else f"at {list(at)} is {found[at]}, expected {expected[at]}"


def vector_findings(folder: Folder, parts: Parts, first: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """Vectors that are not what the integer model computes on the first stored sample; a manifest of other files."""
    names = tensor_names(parts.integer)
    for name, data in vectors(parts.integer, first).items():
        found = folder.files.get(f"htvm/{name}")
        if found == data:
            continue
        what = f"tensor '{names[int(name[13:-4])]}'" if name.startswith("intermediate_") else name.removesuffix(".npy")
        if found is not None:
            yield f"htvm/{name} ({what}) {_vector_changed(data, found)}"
        elif f"htvm/{name}" not in folder.summary["files"]:  # else it is reported as missing already
            yield f"htvm/{name} ({what}) is missing; quantize again"
    handed = {name.removeprefix("htvm/"): data for name, data in folder.files.items()
              if name.startswith("htvm/") and name != MANIFEST}
    if manifest(parts.integer, parts.tail, parts.table, handed) != folder.files.get(MANIFEST, b""):
        yield f"{MANIFEST} does not describe the model and the files beside it"


def _vector_changed(expected: bytes, found: bytes) -> str:
    """How a vector differs. The other file's header is compared, never believed: it may speak of any size, or code."""
    array = np.load(io.BytesIO(expected), allow_pickle=False)
    header = len(expected) - array.nbytes
    if len(found) != len(expected) or found[:header] != expected[:header]:
        return "has another type or shape than what was written"
    return _at(array, np.frombuffer(found, array.dtype, offset=header).reshape(array.shape))
