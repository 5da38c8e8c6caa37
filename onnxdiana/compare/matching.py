"""Which tensor a dump holds, told by its name or its size, and what its numbers are in steps of the tensor's scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana.compare import dumps
from onnxdiana.compare.dumps import Dump
from onnxdiana.compare.expected import Vectors
from onnxdiana.compare.memory import paddings
from onnxdiana.compare.samples import Sample
from onnxdiana.compare.tensors import OUTPUT, Tensor
from onnxdiana.costs.memory import padded
from onnxdiana.errors import DumpError
from onnxdiana.exporting.htvm import INPUT
from onnxdiana.report.tables import sizes

Array = NDArray[Any]

_BYTES_A_NUMBER, _BYTES_BESIDE = 64, 1 << 16
"""At most, in a text; and what a header or a log may have besides."""
_UNSIGNED = 256
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_LARGEST_STEP = 2.0**31
TAILS = (4, 16, 32)
"""Multiples to which the end of a buffer is rounded up; DMA lengths are multiples of 32 bytes."""


@dataclass(frozen=True)
class Found:
    """A dump of a tensor."""

    source: str
    values: Array
    """Flat, of a size that fits the tensor or a padded form of it; in steps of the tensor's scale."""
    eight_bits: bool


@dataclass(frozen=True)
class Matched:
    """The dump of one sample."""

    dumps: Mapping[str, Found]
    """By the stem of the tensor."""
    ignored: Sequence[str]
    """What is no tensor's."""


def match(vectors: Vectors, sample: Sample, place: Path, name: str | None) -> Matched:
    """Read a dump.

    Args:
        vectors: what there can be.
        sample: of which it is.
        place: a file, or a folder of files.
        name: of the tensor that the file holds, where the file does not tell.

    Raises:
        DumpError: it holds no tensor, one twice, or one of another size.
    """
    single = not place.is_dir()
    if name is not None and not single:
        raise DumpError(f"{place} is a folder, whose files say which tensors they hold; give --tensor with a file only")
    limit = _BYTES_BESIDE + _BYTES_A_NUMBER * sum(_largest(t.shape) for t in vectors.tensors)
    found, ignored = dict[str, Found](), list[str]()
    for file in [place] if single else _files(place):
        told = vectors.named(name) if name is not None and single else (
            vectors.named(file.name) or vectors.named(file.stem))
        if told is None and not single and file.suffix.lower() not in dumps.TEXT:
            ignored.append(file.name)
            continue
        for dump in _read(file, limit, told is None and not single):
            tensor = told if dump.name is None or (name is not None and single) else vectors.named(dump.name) or told
            if tensor is None and (not single or dump.name is not None):
                ignored.append(dump.source)
                continue
            tensor = tensor or _guessed(vectors, sample, dump)
            if tensor.stem in found:
                raise DumpError(f"{dump.source} and {found[tensor.stem].source} are both dumps of '{tensor.name}'; "
                                "give one of them")
            found[tensor.stem] = _found(dump, tensor, sample.values(tensor))
    if not found:
        raise DumpError(f"{place} holds no dump of a tensor; call files by the tensors: {listed(vectors.tensors)}")
    return Matched(found, ignored)


def _files(place: Path) -> list[Path]:
    try:
        return sorted(p for p in place.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError as error:
        raise DumpError(f"{place} cannot be read ({error.strerror}); check its permissions") from error


def _read(file: Path, limit: int, doubtful: bool) -> list[Dump]:
    """The dumps of a file; none where it is a text of a name that says nothing and holds something else."""
    try:
        return dumps.read(file, limit)
    except DumpError:
        if doubtful:
            return []
        raise


def _found(dump: Dump, tensor: Tensor, expected: Array) -> Found:
    """A dump that fits its tensor."""
    elements, real = math.prod(tensor.shape), tensor.stem in (INPUT, OUTPUT)
    if dump.raw and dump.values.size == 4 * elements:
        wide = dump.widened()
        if real or not fits(dump.values.size, tensor.shape) or 0 < np.abs(wide.values).max() < _UNSIGNED:
            dump = wide  # bytes of a padded tensor would hardly be small numbers, four by four
    values = in_steps(dump, tensor, expected)
    if not fits(values.size, tensor.shape):
        raise DumpError(f"{dump.source} has {values.size} elements; '{tensor.name}' has {elements} "
                        f"({sizes(tensor.shape[1:])}), which no padding of channels or rows to 16 makes {values.size}; "
                        "give the dump of one sample, and say with --tensor if it is another tensor's")
    return Found(dump.source, values, dump.eight_bits and tensor.maker is not None)


def _guessed(vectors: Vectors, sample: Sample, dump: Dump) -> Tensor:
    """The tensor of a dump whose name tells nothing: one that it equals, else the only one of its size."""
    codes = [tensor for tensor in vectors.tensors if tensor.maker is not None]
    sized = [t for t in codes if math.prod(t.shape) == dump.values.size] or [
        t for t in codes if fits(dump.values.size, t.shape)]
    if not sized:
        raise DumpError(f"{dump.source} has {dump.values.size} elements, which fits no tensor; there are "
                        f"{listed(vectors.tensors)}")
    equal = [t for t in sized if np.array_equal(in_steps(dump, t, sample.values(t)), sample.values(t).reshape(-1))]
    if not equal and len({t.maker for t in sized}) > 1:
        raise DumpError(f"{dump.source} may be any of {listed(sized)}; say which with --tensor")
    return (equal or sized)[0]


def in_steps(dump: Dump, tensor: Tensor, expected: Array) -> Array:
    """A dump's numbers in steps of its tensor's scale; of the input, in float32.

    They are taken for real numbers where one is no whole number and all are multiples of the scale. Whole numbers may
    be the real ones of the output, too: then the reading that fits more elements is right, in doubt the codes.
    """
    values = dump.values
    if tensor.maker is None:
        return np.clip(values.astype(np.float64), -_LARGEST_FLOAT, _LARGEST_FLOAT).astype(np.float32)
    if (dump.eight_bits and tensor.stem != OUTPUT) or tensor.exponent == 0 or values.size == 0:
        return values
    with np.errstate(over="ignore"):
        real = np.ldexp(values.astype(np.float64), -tensor.exponent)
    if np.abs(real).max() >= _LARGEST_STEP or (real != np.rint(real)).any():
        return values
    steps = real.astype(np.int64)
    if values.dtype.kind == "f":
        return steps
    if tensor.stem != OUTPUT or expected.size != values.size:
        return values
    right = [int(np.count_nonzero(reading == expected.reshape(-1))) for reading in (values, steps)]
    return steps if right[1] > right[0] else values


def _largest(shape: Sequence[int]) -> int:
    """Elements with channels and rows padded."""
    return math.prod(padded(size) for size in shape[1:])


def tails(elements: int) -> list[int]:
    """Sizes of a buffer of so many elements whose end is rounded up."""
    return [-(-elements // size) * size for size in TAILS]


def fits(size: int, shape: Sequence[int]) -> bool:
    """Whether a dump of a size may be of a tensor of a shape, padded or not."""
    elements = math.prod(shape)
    return size in (elements, *tails(elements), *(math.prod(padded) for _, padded, _ in paddings(shape)))


def listed(tensors: Sequence[Tensor], most: int = 12) -> str:
    """Stems, names and shapes, for a message."""
    shown = ", ".join(f"{t.stem} ('{t.name}', {sizes(t.shape[1:])})" for t in tensors[:most])
    return shown + (", ..." if len(tensors) > most else "")
