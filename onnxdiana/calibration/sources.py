"""Sources: streams of samples from arrays and files, from a function of the user, or drawn at random.

Everything is read in order, a chunk at a time; memory depends on the batch size, not on the amount of data.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from onnxdiana.calibration import npy
from onnxdiana.calibration.batches import Array, Batch, InputSpec, length, rechunk
from onnxdiana.calibration.checks import (
    described,
    input_array,
    listed,
    reading,
    require_equal,
    require_labels,
    require_names,
    require_one,
    to_float32,
    user_code,
)
from onnxdiana.calibration.columns import Column
from onnxdiana.errors import CalibrationError

_END = object()


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
        """Fresh float32 copies, checked to be finite; one chunk and ``size`` samples are held."""
        if size < 1:
            raise CalibrationError(f"{self._where}: batch size {size}: it must be at least 1")

        def convert(name: str, part: Array, position: int) -> Array:
            return to_float32(part, f"{self._where}, input {name!r}", position)

        return rechunk(self._chunks(size), size, convert)

    def sha256(self) -> str | None:
        """None: not a file."""
        return None

    def _chunks(self, size: int) -> Iterator[dict[str, Array]]:
        """Arrays of checked type and shape, any number of samples at a time (best: ``size``)."""
        raise NotImplementedError


class StoredSource(_Source):
    """One column an input, in memory or in files; lengths and labels are checked at once."""

    def __init__(
        self,
        description: str,
        inputs: Sequence[InputSpec],
        columns: Sequence[Column],
        where: str,
        labels: Array | None = None,
        path: Path | None = None,
    ) -> None:
        super().__init__(description, inputs, where)
        self._columns, self._path = tuple(columns), path
        require_equal({spec.name: column.length for spec, column in zip(inputs, columns, strict=True)}, where)
        self.length, self.labels = columns[0].length, labels
        if self.length == 0:
            raise CalibrationError(f"{where}: no samples (the first axis has length 0): give at least one")
        if labels is not None:
            require_labels(labels, self.length, where)

    def sha256(self) -> str | None:
        """Of the file or folder; None for arrays in memory."""
        if self._path is None:
            return None
        with reading(self._where):
            return npy.digest(self._path)

    def _chunks(self, size: int) -> Iterator[dict[str, Array]]:
        names = [spec.name for spec in self._inputs]
        for parts in zip(*(column.read(size) for column in self._columns), strict=True):
            yield dict(zip(names, parts, strict=True))


class CallableSource(_Source):
    """Batches that a function of the user makes; they are cut anew to the size asked for."""

    def __init__(
        self, description: str, inputs: Sequence[InputSpec], make: Callable[[], object], one_shot: bool = False
    ) -> None:
        super().__init__(description, inputs)
        self._make, self._one_shot, self._spent = make, one_shot, False

    def batches(self, size: int) -> Iterator[Batch]:
        """As for every source; a generator that cannot be started anew is refused the second time."""
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
        with user_code(self._where):
            made = self._make()
            if isinstance(made, Mapping) or hasattr(made, "__array__"):
                made = [made]
            iterator = iter(made) if isinstance(made, Iterable) else None
        if iterator is None:
            raise CalibrationError(f"{self._where}: the function returned {described(made)}: return (or yield) batches")
        for index in itertools.count():
            where = f"{self._where}, batch {index} (from sample {samples})"
            with user_code(where):
                batch = next(iterator, _END)
            if batch is _END:
                break
            arrays = self._named(batch, where)
            samples += length(arrays)
            yield arrays
            del batch, arrays  # or two batches of the user would be held while the next one is made
        if not samples:
            raise CalibrationError(f"{self._where}: no samples: yield at least one batch, and anew at every call")

    def _named(self, batch: object, where: str) -> dict[str, Array]:
        """The arrays of a batch by input name, checked."""
        names = [spec.name for spec in self._inputs]
        if isinstance(batch, Mapping):
            require_names(list(batch), self._inputs, where)
            values = [batch[name] for name in names]
        elif isinstance(batch, (tuple, list)):
            if len(batch) != len(names):
                raise CalibrationError(
                    f"{where}: a {type(batch).__name__} of {len(batch)} for {len(names)} input(s), {listed(names)}: "
                    "yield only the inputs, as arrays in this order"
                )
            values = list(batch)
        else:
            require_one(self._inputs, f"{where}: {described(batch)}", "yield a dict by input name, or a tuple in order")
            values = [batch]
        pairs = zip(self._inputs, values, strict=True)
        arrays = {spec.name: input_array(value, spec, f"{where}, input {spec.name!r}") for spec, value in pairs}
        require_equal({name: len(array) for name, array in arrays.items()}, where)
        return arrays


class SyntheticSource(_Source):
    """Uniform noise, drawn sample by sample so that the batch size cannot change it."""

    synthetic = True

    def __init__(self, inputs: Sequence[InputSpec], samples: int, seed: int) -> None:
        super().__init__("synthetic", inputs)
        self.length, self._samples, self._seed = samples, samples, seed

    def _chunks(self, size: int) -> Iterator[dict[str, Array]]:
        random = np.random.default_rng(self._seed)
        for _ in range(self._samples):
            yield {spec.name: random.uniform(-1, 1, (1, *spec.shape)) for spec in self._inputs}
