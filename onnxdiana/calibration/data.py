"""Calibration and evaluation data as a stream of batches, from files or from a callable.

Everything is read in order, a chunk at a time; memory depends on the batch size, not on the amount of data (memory maps
would not do: touched pages count as resident). Files are untrusted: nothing is unpickled, nothing is extracted.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import itertools
import math
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from onnxdiana.errors import CalibrationError

LABELS = "labels"
"""Name of the array (in an ``.npz``, a folder or a dict) that holds the classes; it is never an input."""

Array = npt.NDArray[Any]
Batch = dict[str, npt.NDArray[np.float32]]
"""C-contiguous float32 by input name; the first axis is the samples, equally many for every input."""

_PIECE = 1 << 20  # bytes a read: a zip member copies what it hands out, so a whole chunk would be held twice
_END = object()


@dataclass(frozen=True)
class InputSpec:
    """One input of the model; ``shape`` is that of ONE sample, without the batch axis."""

    name: str
    shape: tuple[int, ...]


class DataSource(Protocol):
    """A stream of samples that can be read again and again."""

    description: str
    """For messages and ``summary.json``: file name, ``module:function``, "callable"...; never an absolute path."""
    length: int | None
    """Number of samples, None where it takes reading them all to know."""
    synthetic: bool
    """True for random samples that stand in for data."""
    labels: Array | None
    """First axis = samples; None where the data bring no array ``labels``."""

    def batches(self, size: int) -> Iterator[Batch]:
        """Every sample from the start, ``size`` at a time; only the last batch may be shorter.

        Raises: CalibrationError: when unreadable, wrongly shaped or not finite data are reached.
        """
        ...

    def sha256(self) -> str | None:
        """Hex digest of the file (of a folder: of its sorted names and contents), None for what is not a file."""
        ...


def open_data(data: object, inputs: Sequence[InputSpec]) -> DataSource:
    """Open ``data`` for a model with these inputs; headers are checked now, samples when they are read.

    Args:
        data: ``FILE.npz`` (arrays named after the inputs; for one input any single array), ``FILE.npz:KEY``,
            ``FILE.npy``, a folder of ``.npy`` (each one sample or a stack of them), ``module:function``, an array, a
            dict of arrays by input name, a callable without arguments that returns an iterable of batches, or such an
            iterable. A batch is an array, a tuple or list in the order of the inputs, or a dict by input name.
            First axis = samples everywhere.
        inputs: the model's inputs, in order.

    Raises: CalibrationError: with what is wrong, where, and what to do.
    """
    if isinstance(data, (str, os.PathLike)):
        return _open_text(os.fsdecode(data), inputs)
    if isinstance(data, Mapping):
        _require_names([key for key in data if key != LABELS], inputs, "data")
        arrays = [_input_array(data[spec.name], spec, f"data, input {spec.name!r}") for spec in inputs]
        labels = _as_array(data[LABELS], f"data, {LABELS!r}") if LABELS in data else None
        return _StoredSource("arrays", inputs, [_ArrayColumn(array) for array in arrays], "data", labels)
    if hasattr(data, "__array__"):
        _require_one(inputs, "data: one array", "pass a dict of arrays by input name")
        return _StoredSource("array", inputs, [_ArrayColumn(_input_array(data, inputs[0], "data"))], "data")
    if isinstance(data, Iterable):
        return _CallableSource("iterable", inputs, lambda: data, one_shot=isinstance(data, Iterator))
    if callable(data):
        return _CallableSource("callable", inputs, data)
    raise CalibrationError(
        f"data: not a {type(data).__name__}: pass a file, a folder, module:function, an array, a dict of arrays, or a "
        "function that returns batches"
    )


def synthetic_data(inputs: Sequence[InputSpec], samples: int = 64, seed: int = 0) -> DataSource:
    """Random samples, uniform in [-1, 1]: the same for the same seed, whatever the batch size."""
    if samples < 1:
        raise CalibrationError(f"synthetic data: {samples} samples asked for: ask for at least 1")
    return _SyntheticSource(inputs, samples, seed)


# ---------------------------------------------------------------- sources


class _Source:
    """What all sources share; ``where`` is how messages name it (the path as the user gave it)."""

    synthetic = False
    length: int | None = None
    labels: Array | None = None

    def __init__(self, description: str, inputs: Sequence[InputSpec], where: str = "") -> None:
        if not inputs:
            raise CalibrationError("the model has no inputs, so there is nothing to feed: give a model with an input")
        self.description, self._inputs, self._where = description, tuple(inputs), where or description

    def batches(self, size: int) -> Iterator[Batch]:
        if size < 1:
            raise CalibrationError(f"{self._where}: batch size {size}: it must be at least 1")
        return _rechunk(self._chunks(size), size, self._where)

    def sha256(self) -> str | None:
        return None

    def _chunks(self, size: int) -> Iterator[dict[str, Array]]:
        """Arrays of checked type and shape, any number of samples at a time (best: ``size``)."""
        raise NotImplementedError


class _StoredSource(_Source):
    """One column an input, in memory or in files; lengths and labels are checked at once."""

    def __init__(
        self,
        description: str,
        inputs: Sequence[InputSpec],
        columns: Sequence[_Column],
        where: str,
        labels: Array | None = None,
        path: Path | None = None,
    ) -> None:
        super().__init__(description, inputs, where)
        self._columns, self._path = tuple(columns), path
        _require_equal({spec.name: column.length for spec, column in zip(inputs, columns, strict=True)}, where)
        self.length, self.labels = columns[0].length, labels
        if self.length == 0:
            raise CalibrationError(f"{where}: no samples (the first axis has length 0): give at least one")
        if labels is not None and (labels.dtype.kind not in "biuf" or labels.shape[:1] != (self.length,)):
            raise CalibrationError(
                f"{where}: {LABELS!r} is {labels.dtype} of shape {labels.shape} for {self.length} samples: give "
                "numbers, first axis = samples"
            )

    def sha256(self) -> str | None:
        if self._path is None:
            return None
        with _reading(self._where):
            if self._path.is_file():
                return _digest(self._path).hex()
            whole = hashlib.sha256()
            for name in _npy_names(self._path):  # NUL ends a name, digests have one length: no two folders look alike
                whole.update(os.fsencode(name) + b"\0" + _digest(self._path / name))
            return whole.hexdigest()

    def _chunks(self, size: int) -> Iterator[dict[str, Array]]:
        names = [spec.name for spec in self._inputs]
        for parts in zip(*(column.read(size) for column in self._columns), strict=True):
            yield dict(zip(names, parts, strict=True))


class _CallableSource(_Source):
    """Batches that a function of the user makes; they are cut anew to the size asked for."""

    def __init__(
        self, description: str, inputs: Sequence[InputSpec], make: Callable[[], object], one_shot: bool = False
    ) -> None:
        super().__init__(description, inputs)
        self._make, self._one_shot, self._spent = make, one_shot, False

    def batches(self, size: int) -> Iterator[Batch]:
        stream = super().batches(size)
        if self._one_shot and self._spent:
            raise CalibrationError(
                f"{self._where}: a generator can be read only once, and the data are needed again: pass the function "
                "that makes it, not what it returned"
            )
        self._spent = True
        return stream

    def _chunks(self, size: int) -> Iterator[dict[str, Array]]:
        samples = 0
        with _user_code(self._where):
            made = self._make()
            if isinstance(made, Mapping) or hasattr(made, "__array__"):
                made = [made]
            iterator = iter(made) if isinstance(made, Iterable) else None
        if iterator is None:
            raise CalibrationError(f"{self._where}: the function returned {_a(made)}: return (or yield) batches")
        for index in itertools.count():
            where = f"{self._where}, batch {index} (from sample {samples})"
            with _user_code(where):
                batch = next(iterator, _END)
            if batch is _END:
                break
            arrays = self._named(batch, where)
            samples += _length(arrays)
            yield arrays
            del batch, arrays  # or two batches of the user would be held while the next one is made
        if not samples:
            raise CalibrationError(f"{self._where}: no samples: yield at least one batch, and anew at every call")

    def _named(self, batch: object, where: str) -> dict[str, Array]:
        """The arrays of a batch by input name, checked."""
        names = [spec.name for spec in self._inputs]
        if isinstance(batch, Mapping):
            _require_names(list(batch), self._inputs, where)
            values = [batch[name] for name in names]
        elif isinstance(batch, (tuple, list)):
            if len(batch) != len(names):
                raise CalibrationError(
                    f"{where}: a {type(batch).__name__} of {len(batch)} for {len(names)} input(s), {_listed(names)}: "
                    "yield only the inputs, as arrays in this order"
                )
            values = list(batch)
        else:
            _require_one(self._inputs, f"{where}: {_a(batch)}", "yield a dict by input name, or a tuple in order")
            values = [batch]
        pairs = zip(self._inputs, values, strict=True)
        arrays = {spec.name: _input_array(value, spec, f"{where}, input {spec.name!r}") for spec, value in pairs}
        _require_equal({name: len(array) for name, array in arrays.items()}, where)
        return arrays


class _SyntheticSource(_Source):
    """Uniform noise, drawn sample by sample so that the batch size cannot change it."""

    synthetic = True

    def __init__(self, inputs: Sequence[InputSpec], samples: int, seed: int) -> None:
        super().__init__("synthetic", inputs)
        self.length, self._samples, self._seed = samples, samples, seed

    def _chunks(self, size: int) -> Iterator[dict[str, Array]]:
        random = np.random.default_rng(self._seed)
        for _ in range(self._samples):
            yield {spec.name: random.uniform(-1, 1, (1, *spec.shape)) for spec in self._inputs}


def _rechunk(chunks: Iterator[dict[str, Array]], size: int, where: str) -> Iterator[Batch]:
    """Cut chunks of any length into batches of ``size``: fresh float32 copies, checked to be finite.

    Holds one chunk and ``size`` samples (these twice where a batch is joined from several chunks).
    """
    held: list[Batch] = []
    count = position = 0  # samples held; samples seen
    for chunk in chunks:
        start, length = 0, _length(chunk)
        while start < length:
            part = slice(start, min(start + size - count, length))
            held.append({k: _to_float32(v[part], f"{where}, input {k!r}", position) for k, v in chunk.items()})
            count, position, start = count + part.stop - start, position + part.stop - start, part.stop
            if count == size:
                yield _join(held)
                held, count = [], 0
        del chunk  # or it would live on while the next one is made
    if held:
        yield _join(held)


def _join(parts: list[Batch]) -> Batch:
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _length(arrays: Mapping[str, Array]) -> int:
    return len(next(iter(arrays.values())))


def _to_float32(values: Array, where: str, position: int) -> npt.NDArray[np.float32]:
    """A copy; ``position`` is the number of the first sample, for the message."""
    with np.errstate(all="ignore"):
        copy = np.array(values, dtype=np.float32, order="C")
    good = np.isfinite(copy)
    if not good.all():
        at = tuple(int(i) for i in np.unravel_index(int(np.argmin(good)), good.shape))
        raise CalibrationError(
            f"{where}: sample {position + at[0]} holds {values[at]} (at {list(at[1:])}), not a finite float32: "
            "repair or remove the sample"
        )
    return copy


# ---------------------------------------------------------------- columns: the samples of one input


class _Column(Protocol):
    length: int

    def read(self, size: int) -> Iterator[Array]:
        """All samples in order, of checked type and shape, ``size`` at a time (a lone column: any number)."""
        ...


class _ArrayColumn:
    """An array in memory."""

    def __init__(self, array: Array) -> None:
        self.length, self._array = len(array), array

    def read(self, size: int) -> Iterator[Array]:
        return (self._array[start : start + size] for start in range(0, self.length, size))


class _FileColumn:
    """An ``.npy`` file, or a member of an ``.npz``; ``one`` allows a single sample without the axis of samples."""

    def __init__(self, path: Path, member: str | None, spec: InputSpec, where: str, one: bool = False) -> None:
        self._path, self._member, self._where = path, member, where
        with _opened(path, member, where) as (_, header):
            if one and len(header.shape) == len(spec.shape):
                header = replace(header, shape=(1, *header.shape))
            _require_shape(header.shape, spec, where)
            if header.fortran and member is not None:
                raise CalibrationError(f"{where}: Fortran order cannot be streamed: save it with np.ascontiguousarray")
        self.length, self._header = header.shape[0], header

    def read(self, size: int) -> Iterator[Array]:
        shape, dtype = self._header.shape, self._header.dtype
        with _opened(self._path, self._member, self._where) as (stream, header):
            if header.fortran:  # the values at one place of all samples lie side by side: few, longer reads
                size = max(size, _PIECE // (math.prod(shape[1:]) * dtype.itemsize))
            for start in range(0, self.length, size):
                take = min(size, self.length - start)
                if header.fortran:
                    chunk = np.empty((*shape[:0:-1], take), dtype)
                    for row, values in enumerate(chunk.reshape(-1, take)):
                        stream.seek(header.offset + (row * self.length + start) * dtype.itemsize)
                        _fill(stream, values)
                    yield chunk.T
                else:
                    chunk = np.empty((take, *shape[1:]), dtype)
                    _fill(stream, chunk)
                    yield chunk


class _FolderColumn:
    """``.npy`` files in the order of their names; only names are kept, headers are read again when needed."""

    def __init__(self, folder: Path, spec: InputSpec, where: str) -> None:
        self._folder, self._spec, self._where = folder, spec, where
        with _reading(where):
            self._names = [name for name in _npy_names(folder) if name != f"{LABELS}.npy"]
        if not self._names:
            raise CalibrationError(f"{where}: no samples: put .npy files there, each one sample or a stack of them")
        self.length = sum(self._file(name).length for name in self._names)

    def _file(self, name: str) -> _FileColumn:
        return _FileColumn(self._folder / name, None, self._spec, os.path.join(self._where, name), one=True)

    def read(self, size: int) -> Iterator[Array]:
        for name in self._names:
            yield from self._file(name).read(size)


# ---------------------------------------------------------------- what a text names


def _open_text(text: str, inputs: Sequence[InputSpec]) -> DataSource:
    """A path or ``module:function``; what exists wins over every other reading of the text."""
    path = Path(text)
    if os.path.isdir(text):
        _require_one(inputs, f"{text}: a folder", "save all inputs in one .npz, each array named after its input")
        column, file = _FolderColumn(path, inputs[0], text), path / f"{LABELS}.npy"
        labels = _read_whole(file, None, str(file)) if file.exists() else None
        return _StoredSource(path.resolve().name, inputs, [column], text, labels, path)
    if os.path.exists(text):
        return _open_file(path, None, inputs, text)
    splits = [(text[: at.end() - 1], text[at.end() :]) for at in re.finditer(r"\.npz:", text, re.IGNORECASE)]
    for name, key in splits:
        if os.path.isfile(name):
            return _open_file(Path(name), key, inputs, text)
    if not splits and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", text):
        return _CallableSource(text, inputs, _import_function(text))
    path = Path(splits[0][0]) if splits else path
    if not path.parent.is_dir():
        raise CalibrationError(f"{text}: no such file, nor a folder {str(path.parent)!r}: check the path")
    with _reading(str(path.parent)):
        near = _nearest(path.name, os.listdir(path.parent))
    raise CalibrationError(
        f"{text}: no such file{near}: give FILE.npz, FILE.npz:KEY, FILE.npy, a folder of .npy, or module:function"
    )


def _open_file(path: Path, key: str | None, inputs: Sequence[InputSpec], where: str) -> DataSource:
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (".npy", ".npz"):
        raise CalibrationError(
            f"{where}: not an .npz or .npy file: write it with np.savez or np.save, or give module:function"
        )
    if suffix == ".npy":
        _require_one(inputs, f"{where}: one array", "save all inputs in one .npz, each array named after its input")
        return _StoredSource(path.name, inputs, [_FileColumn(path, None, inputs[0], where)], where, path=path)
    with _reading(where), zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    labels = _read_whole(path, f"{LABELS}.npy", f"{where}: {LABELS!r}") if LABELS in keys else None
    columns = [
        _FileColumn(path, f"{k}.npy", spec, f"{where}: array {k!r}")
        for k, spec in zip(_choose_keys(keys, key, inputs, path.name, where), inputs, strict=True)
    ]
    return _StoredSource(path.name if key is None else f"{path.name}:{key}", inputs, columns, where, labels, path)


def _choose_keys(keys: list[str], key: str | None, inputs: Sequence[InputSpec], file: str, where: str) -> list[str]:
    """Which array of an ``.npz`` feeds which input; arrays that no input needs are left alone."""
    names, arrays = [spec.name for spec in inputs], [k for k in keys if k != LABELS]
    if key is not None:
        _require_one(
            inputs, f"{where}: one array", "name the arrays in the .npz after the inputs and leave out the key"
        )
        if key not in arrays:
            raise CalibrationError(f"{where}: no input array {key!r}{_nearest(key, arrays)}: there are {_listed(keys)}")
        return [key]
    if len(names) == 1 and names[0] not in arrays and arrays:
        if len(arrays) > 1:
            raise CalibrationError(f"{where}: which array is input {names[0]!r}: {_listed(arrays)}? Say {file}:KEY")
        return arrays
    _require_names(arrays, inputs, where, exact=False)
    return names


def _import_function(text: str) -> Callable[[], object]:
    """The function that ``module:function`` names; the current folder is on the path while it is imported."""
    module_name, name = text.split(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(module_name)
    except Exception as error:
        raise CalibrationError(
            f"{text}: cannot import {module_name!r} ({type(error).__name__}: {error}): repair it, install it, or run "
            "from the folder it lies in"
        ) from error
    finally:
        sys.path.remove(here)
    function = getattr(module, name, None)
    if not callable(function):
        found = f"has no {name!r}{_nearest(name, dir(module))}" if function is None else f"has {_a(function)} {name!r}"
        raise CalibrationError(f"{text}: module {module_name!r} {found}: name a function that returns batches")
    return cast(Callable[[], object], function)


# ---------------------------------------------------------------- reading .npy


class _Stream(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...
    def seek(self, offset: int, /) -> int: ...


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int


@contextmanager
def _opened(path: Path, member: str | None, where: str) -> Iterator[tuple[_Stream, _Header]]:
    """An ``.npy`` file, or a member of an ``.npz``, at its first value; all errors of reading are reported."""
    with _reading(where), ExitStack() as stack:
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
        _require_real(dtype, where)
        need, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
        if not 0 <= need <= there or min(shape, default=0) < 0:
            raise CalibrationError(
                f"{where}: cut short: shape {shape} of {dtype} takes {need} bytes, there are {there}: save it again"
            )
        yield stream, _Header(tuple(shape), dtype, fortran, stream.tell())


def _fill(stream: _Stream, chunk: Array) -> None:
    view = memoryview(cast(Any, chunk.reshape(-1).view(np.uint8)))
    done = 0
    while done < len(view):
        got = stream.readinto(view[done : done + _PIECE])
        if not got:
            raise EOFError("the data end early")
        done += got


def _read_whole(path: Path, member: str | None, where: str) -> Array:
    with _opened(path, member, where) as (stream, header):
        flat = np.empty(math.prod(header.shape), header.dtype)
        _fill(stream, flat)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def _npy_names(folder: Path) -> list[str]:
    """Sorted names of the ``.npy`` files, hidden ones left out."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name.endswith(".npy") and e.name[0] != "." and e.is_file())


def _digest(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Whatever a missing or damaged file makes os, numpy, zipfile or zlib raise becomes a CalibrationError."""
    try:
        yield
    except (CalibrationError, MemoryError):
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise CalibrationError(f"{where}: cannot be read ({reason}): check the file, or write it again") from error


@contextmanager
def _user_code(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise CalibrationError(
            f"{where}: the data function raised {type(error).__name__}: {error}: repair it"
        ) from error


# ---------------------------------------------------------------- checks and words


def _as_array(value: object, where: str) -> Array:
    if not hasattr(value, "__array__"):
        raise CalibrationError(f"{where}: {_a(value)} is not an array: give a numpy array, first axis = samples")
    try:
        return np.asarray(value)
    except Exception as error:
        raise CalibrationError(f"{where}: numpy cannot read {_a(value)} ({error}): give a numpy array") from error


def _input_array(value: object, spec: InputSpec, where: str) -> Array:
    array = _as_array(value, where)
    _require_real(array.dtype, where)
    _require_shape(array.shape, spec, where)
    return array


def _require_one(inputs: Sequence[InputSpec], what: str, advice: str) -> None:
    if len(inputs) != 1:
        names = _listed([spec.name for spec in inputs])
        raise CalibrationError(f"{what} for a model with {len(inputs)} inputs, {names}: {advice}")


def _require_names(keys: Iterable[object], inputs: Sequence[InputSpec], where: str, exact: bool = True) -> None:
    names, found = [spec.name for spec in inputs], [str(key) for key in keys]
    extra = [key for key in found if key not in names]
    for name in names:
        if name not in found:
            raise CalibrationError(
                f"{where}: no array for input {name!r}{_nearest(name, extra)}: there are {_listed(found)}: name the "
                "arrays after the inputs"
            )
    if extra and exact:
        near = " (labels go into an .npz beside the inputs)" if extra[0] == LABELS else _nearest(extra[0], names)
        raise CalibrationError(f"{where}: {extra[0]!r} is not an input{near}: give only {_listed(names)}")


def _require_equal(lengths: Mapping[str, int], where: str) -> None:
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise CalibrationError(f"{where}: unequal numbers of samples: {counts}: give every input as many")


def _require_real(dtype: np.dtype[Any], where: str) -> None:
    if dtype.kind not in "biuf":
        why = "Python objects need pickle, which runs code" if dtype.hasobject else "inputs are real numbers"
        raise CalibrationError(f"{where}: dtype {dtype}: {why}: convert the array to float32")


def _require_shape(found: tuple[int, ...], spec: InputSpec, where: str) -> None:
    """``found`` is (samples, *shape of a sample)."""
    sample, want = found[1:], spec.shape
    if found and sample == want:
        return
    axes = tuple(range(1, len(found)))
    advice = "make the samples as the model wants them"
    if found == want:
        advice = "it is one sample without the axis of samples: x[None] adds it"
    elif len(sample) > 2 and (sample[-1], *sample[:-1]) == want:
        advice = f"it looks like NHWC where the model takes NCHW: x.transpose{(0, axes[-1], *axes[:-1])}"
    elif len(sample) > 2 and (*sample[1:], sample[0]) == want:
        advice = f"it looks like NCHW where the model takes NHWC: x.transpose{(0, *axes[1:], axes[0])}"
    expected = ", ".join(["samples", *map(str, want)])
    raise CalibrationError(
        f"{where}: wrong shape for input {spec.name!r}: expected ({expected}), found {found}: {advice}"
    )


def _a(value: object) -> str:
    return f"an object of type {type(value).__name__}"


def _nearest(name: str, names: Iterable[str]) -> str:
    folded = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""


def _listed(names: Sequence[str], most: int = 10) -> str:
    return (", ".join(map(repr, names[:most])) or "none") + (", ..." if len(names) > most else "")
