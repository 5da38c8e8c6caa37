"""Opening calibration and evaluation data: which file, folder, function or array a user means, and what feeds what."""

from __future__ import annotations

import importlib
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from onnxdiana.calibration.batches import Batch, InputSpec
from onnxdiana.calibration.checks import (
    LABELS,
    as_array,
    described,
    input_array,
    listed,
    nearest,
    reading,
    require_names,
    require_one,
)
from onnxdiana.calibration.columns import ArrayColumn, FileColumn, FolderColumn
from onnxdiana.calibration.npy import read_whole
from onnxdiana.calibration.sources import CallableSource, DataSource, StoredSource, SyntheticSource
from onnxdiana.errors import CalibrationError

__all__ = ["LABELS", "Batch", "DataSource", "InputSpec", "open_data", "synthetic_data"]

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
        require_names([key for key in data if key != LABELS], inputs, "data")
        arrays = [input_array(data[spec.name], spec, f"data, input {spec.name!r}") for spec in inputs]
        labels = as_array(data[LABELS], f"data, {LABELS!r}") if LABELS in data else None
        return StoredSource("arrays", inputs, [ArrayColumn(array) for array in arrays], "data", labels)
    if hasattr(data, "__array__"):
        require_one(inputs, "data: one array", "pass a dict of arrays by input name")
        return StoredSource("array", inputs, [ArrayColumn(input_array(data, inputs[0], "data"))], "data")
    if isinstance(data, Iterable):
        return CallableSource("iterable", inputs, lambda: data, one_shot=isinstance(data, Iterator))
    if callable(data):
        return CallableSource("callable", inputs, data)
    raise CalibrationError(
        f"data: not a {type(data).__name__}: pass a file, a folder, module:function, an array, a dict of arrays, or a "
        "function that returns batches"
    )


def synthetic_data(inputs: Sequence[InputSpec], samples: int = 64, seed: int = 0) -> DataSource:
    """Random samples, uniform in [-1, 1]: the same for the same seed, whatever the batch size."""
    if samples < 1:
        raise CalibrationError(f"synthetic data: {samples} samples asked for: ask for at least 1")
    return SyntheticSource(inputs, samples, seed)


def _open_text(text: str, inputs: Sequence[InputSpec]) -> DataSource:
    """A path or ``module:function``; what exists wins over every other reading of the text."""
    path = Path(text)
    if os.path.isdir(text):
        require_one(inputs, f"{text}: a folder", "save all inputs in one .npz, each array named after its input")
        column, file = FolderColumn(path, inputs[0], text), path / f"{LABELS}.npy"
        labels = read_whole(file, None, str(file)) if file.exists() else None
        return StoredSource(path.resolve().name, inputs, [column], text, labels, path)
    if os.path.exists(text):
        return _open_file(path, None, inputs, text)
    splits = [(text[: at.end() - 1], text[at.end() :]) for at in re.finditer(r"\.npz:", text, re.IGNORECASE)]
    for name, key in splits:
        if os.path.isfile(name):
            return _open_file(Path(name), key, inputs, text)
    if not splits and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", text):
        return CallableSource(text, inputs, _import_function(text))
    path = Path(splits[0][0]) if splits else path
    if not path.parent.is_dir():
        raise CalibrationError(f"{text}: no such file, nor a folder {str(path.parent)!r}: check the path")
    with reading(str(path.parent)):
        near = nearest(path.name, os.listdir(path.parent))
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
        require_one(inputs, f"{where}: one array", "save all inputs in one .npz, each array named after its input")
        return StoredSource(path.name, inputs, [FileColumn(path, None, inputs[0], where)], where, path=path)
    with reading(where), zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    labels = read_whole(path, f"{LABELS}.npy", f"{where}: {LABELS!r}") if LABELS in keys else None
    columns = [
        FileColumn(path, f"{k}.npy", spec, f"{where}: array {k!r}")
        for k, spec in zip(_choose_keys(keys, key, inputs, path.name, where), inputs, strict=True)
    ]
    return StoredSource(path.name if key is None else f"{path.name}:{key}", inputs, columns, where, labels, path)


def _choose_keys(keys: list[str], key: str | None, inputs: Sequence[InputSpec], file: str, where: str) -> list[str]:
    """Which array of an ``.npz`` feeds which input; arrays that no input needs are left alone."""
    names, arrays = [spec.name for spec in inputs], [k for k in keys if k != LABELS]
    if key is not None:
        require_one(
            inputs, f"{where}: one array", "name the arrays in the .npz after the inputs and leave out the key"
        )
        if key not in arrays:
            raise CalibrationError(f"{where}: no input array {key!r}{nearest(key, arrays)}: there are {listed(keys)}")
        return [key]
    if len(names) == 1 and names[0] not in arrays and arrays:
        if len(arrays) > 1:
            raise CalibrationError(f"{where}: which array is input {names[0]!r}: {listed(arrays)}? Say {file}:KEY")
        return arrays
    require_names(arrays, inputs, where, exact=False)
    return names


def _import_function(text: str) -> Callable[[], object]:
    """The function that ``module:function`` names; the current folder is on the path while it is imported."""
    module_name, name = text.split(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise CalibrationError(
            f"{text}: cannot import {module_name!r} ({type(error).__name__}: {error}): repair it, install it, or run "
            "from the folder it lies in"
        ) from error
    finally:
        sys.path.remove(here)
    function = getattr(module, name, None)
    if not callable(function):
        missing = f"has no {name!r}{nearest(name, dir(module))}"
        found = missing if function is None else f"has {described(function)} {name!r}"
        raise CalibrationError(f"{text}: module {module_name!r} {found}: name a function that returns batches")
    return cast(Callable[[], object], function)
