"""The samples of one input, in memory or in files, in order and a chunk at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from onnxdiana.calibration import npy
from onnxdiana.calibration.batches import Array, InputSpec
from onnxdiana.calibration.checks import LABELS, reading, require_shape
from onnxdiana.errors import CalibrationError


class Column(Protocol):
    """The samples of one input; can be read again and again."""

    length: int

    def read(self, size: int) -> Iterator[Array]:
        """All samples in order, of checked type and shape, ``size`` at a time (a lone column: any number)."""
        ...


class ArrayColumn:
    """An array in memory."""

    def __init__(self, array: Array) -> None:
        self.length, self._array = len(array), array

    def read(self, size: int) -> Iterator[Array]:
        """Views."""
        return (self._array[start : start + size] for start in range(0, self.length, size))


class FileColumn:
    """An ``.npy`` file, or a member of an ``.npz``; ``one`` allows a single sample without the axis of samples."""

    def __init__(self, path: Path, member: str | None, spec: InputSpec, where: str, one: bool = False) -> None:
        self._path, self._member, self._where = path, member, where
        with npy.opened(path, member, where) as (_, header):
            if one and len(header.shape) == len(spec.shape):
                header = replace(header, shape=(1, *header.shape))
            require_shape(header.shape, spec, where)
            if header.fortran and member is not None:
                raise CalibrationError(f"{where}: Fortran order cannot be streamed: save it with np.ascontiguousarray")
        self.length, self._header = header.shape[0], header

    def read(self, size: int) -> Iterator[Array]:
        """``size`` at a time; more where the file is in Fortran order and the samples are small."""
        shape, dtype = self._header.shape, self._header.dtype
        with npy.opened(self._path, self._member, self._where) as (stream, header):
            if header.fortran:  # the values at one place of all samples lie side by side: few, longer reads
                size = max(size, npy.PIECE // (math.prod(shape[1:]) * dtype.itemsize))
            for start in range(0, self.length, size):
                take = min(size, self.length - start)
                if header.fortran:
                    chunk = np.empty((*shape[:0:-1], take), dtype)
                    for row, values in enumerate(chunk.reshape(-1, take)):
                        stream.seek(header.offset + (row * self.length + start) * dtype.itemsize)
                        npy.fill(stream, values)
                    yield chunk.T
                else:
                    chunk = np.empty((take, *shape[1:]), dtype)
                    npy.fill(stream, chunk)
                    yield chunk


class FolderColumn:
    """``.npy`` files in the order of their names; only names are kept, headers are read again when needed."""

    def __init__(self, folder: Path, spec: InputSpec, where: str) -> None:
        self._folder, self._spec, self._where = folder, spec, where
        with reading(where):
            self._names = [name for name in npy.npy_names(folder) if name != f"{LABELS}.npy"]
        if not self._names:
            raise CalibrationError(f"{where}: no samples: put .npy files there, each one sample or a stack of them")
        self.length = sum(self._file(name).length for name in self._names)

    def _file(self, name: str) -> FileColumn:
        return FileColumn(self._folder / name, None, self._spec, os.path.join(self._where, name), one=True)

    def read(self, size: int) -> Iterator[Array]:
        """At most ``size`` at a time, never across two files."""
        for name in self._names:
            yield from self._file(name).read(size)
