"""What follows from the parts, file by file: the models, the vectors and the manifest, written again and compared."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxdiana.check.consistency import first_difference
from onnxdiana.check.folder import FAKE, HTVM, INTEGER, MANIFEST, Damaged, Folder
from onnxdiana.check.parts import Parts
from onnxdiana.exporting.bundle import vector_folder
from onnxdiana.exporting.files import array_like
from onnxdiana.exporting.htvm import INPUT, handed_over, restored
from onnxdiana.exporting.spellings import Spellings


def model_findings(folder: Folder, written: Spellings) -> Iterator[str]:
    """Models for onnxruntime that are not what the parts give; a hand-over graph that there cannot be."""
    for name, expected in ((FAKE, written.fake), (INTEGER, written.integer)):
        yield from _differences(name, expected, folder.model(name))
    if written.htvm is None and HTVM in folder.files:
        yield f"{HTVM} exists, but HTVM cannot express this model: {written.obstacles[0]}"


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


def vector_inputs(folder: Folder, parts: Parts, stored: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The samples with vectors: those that are stored, and further ones as their own ``input.npy`` has them.

    Raises:
        Damaged: one of these has another type or shape than the graph's input.
    """
    name, = stored
    found = list(stored[name][:parts.config.vectors])
    int8 = parts.config.io == "int8"
    like = handed_over(parts.integer, stored[name][:1]).astype(np.int8 if int8 else np.float32)
    for index in range(len(found), parts.config.vectors):
        path = f"{vector_folder(index)}/{INPUT}.npy"
        data = folder.files.get(path)
        if data is None:
            break
        sample = array_like(data, like)
        if sample is None or not np.isfinite(sample).all():
            raise Damaged(f"{path} has another type or shape than the graph's input, or is not finite; quantize again")
        sample = restored(parts.integer, sample)[0]
        found.append(np.ldexp(sample.astype(np.float32), parts.table.exponent(name)) if int8 else sample)
    return {name: np.stack(found)}


def bundle_findings(folder: Folder, expected: Mapping[str, bytes], handed: Sequence[str]) -> Iterator[str]:
    """Files of the hand-over that are not what the parts give.

    Args:
        folder: as it is.
        expected: contents by path.
        handed: tensors with codes, of which the intermediates are.
    """
    for name, data in expected.items():
        found = folder.files.get(name)
        if found == data:
            continue
        if found is None:
            if name not in folder.summary["files"]:  # else it is reported as missing already
                yield f"{name} is missing; quantize again"
        elif name.endswith(".onnx"):
            yield from _differences(name, onnx.ModelProto.FromString(data), folder.model(name))
        elif name.endswith(".npy"):
            file = name.rpartition("/")[2].removesuffix(".npy")
            number = file.removeprefix("intermediate_")
            what = file if number == file else f"tensor '{handed[int(number)]}'"
            yield f"{name} ({what}) {_vector_changed(data, found)}"
        elif name == MANIFEST:
            yield f"{MANIFEST} does not describe the model and the files beside it"
        else:
            yield f"{name} is not what was written"


def _vector_changed(expected: bytes, found: bytes) -> str:
    """How a vector differs."""
    array = np.load(io.BytesIO(expected), allow_pickle=False)
    other = array_like(found, array)
    return "has another type or shape than what was written" if other is None else _at(array, other)
