"""Reading ``.npy`` files and members of ``.npz`` archives a piece at a time; nothing is unpickled, nothing extracted.

Memory maps would not do: touched pages count as resident.
"""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from onnxdiana.calibration.batches import Array
from onnxdiana.calibration.checks import reading, require_real
from onnxdiana.errors import CalibrationError

PIECE = 1 << 20
"""Bytes a read: a zip member copies what it hands out, so a whole chunk would be held twice."""


class Stream(Protocol):
    """What is read from: an unbuffered file, or a member of an archive."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill (part of) a buffer; the number of bytes read."""

    def seek(self, offset: int, /) -> int:
        """Go to a byte."""


@dataclass(frozen=True)
class Header:
    """What the head of an ``.npy`` says; ``offset`` is the byte of the first value."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int


@contextmanager
def opened(path: Path, member: str | None, where: str) -> Iterator[tuple[Stream, Header]]:
    """An ``.npy`` file, or a member of an ``.npz``, at its first value; all errors of reading are reported."""
    with reading(where), ExitStack() as stack:
        stream: Any
        if member is None:
            stream, size = stack.enter_context(open(path, "rb", buffering=0)), path.stat().st_size
        else:
            archive = stack.enter_context(zipfile.ZipFile(path))
            stream, size = stack.enter_context(archive.open(member)), archive.getinfo(member).file_size
        version = np.lib.format.read_magic(stream)
        old = version == (1, 0)  # 2.0 has a longer header; 3.0 is for structured arrays only
        shape, fortran, dtype = (
            np.lib.format.read_array_header_1_0(stream) if old else np.lib.format.read_array_header_2_0(stream)
        )
        require_real(dtype, where)
        need, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
        if not 0 <= need <= there or min(shape, default=0) < 0:
            raise CalibrationError(
                f"{where}: cut short: shape {shape} of {dtype} takes {need} bytes, there are {there}: save it again"
            )
        yield stream, Header(tuple(shape), dtype, fortran, stream.tell())


def fill(stream: Stream, chunk: Array) -> None:
    """Read a contiguous array's bytes.

    Raises: EOFError: the data end early.
    """
    view = memoryview(cast(Any, chunk.reshape(-1).view(np.uint8)))
    done = 0
    while done < len(view):
        got = stream.readinto(view[done : done + PIECE])
        if not got:
            raise EOFError("the data end early")
        done += got


def read_whole(path: Path, member: str | None, where: str) -> Array:
    """An array at once."""
    with opened(path, member, where) as (stream, header):
        flat = np.empty(math.prod(header.shape), header.dtype)
        fill(stream, flat)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def npy_names(folder: Path) -> list[str]:
    """Sorted names of the ``.npy`` files, hidden ones left out."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name.endswith(".npy") and e.name[0] != "." and e.is_file())


def digest(path: Path) -> str:
    """Hexadecimal sha256 of a file, or of a folder's sorted names and contents."""
    if path.is_file():
        return _file_digest(path).hex()
    whole = hashlib.sha256()
    for name in npy_names(path):  # NUL ends a name, digests have one length: no two folders look alike
        whole.update(os.fsencode(name) + b"\0" + _file_digest(path / name))
    return whole.hexdigest()


def _file_digest(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
