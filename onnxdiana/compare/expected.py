"""What a device should give: every tensor that it can dump, on every sample of a folder, computed again.

The folder is not trusted: its parts are read and checked as ``validate`` does, and of its vectors only the inputs are
taken. Stored vectors that are not what follows from them are told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana.check.folder import Damaged, Folder, read
from onnxdiana.check.parts import Parts, read_parts
from onnxdiana.compare.samples import Sample
from onnxdiana.compare.tensors import OUTPUT, Tensor, named, tensors_of
from onnxdiana.errors import DumpError, OutputError
from onnxdiana.exporting.bundle import vector_folder
from onnxdiana.exporting.files import array_like, npy
from onnxdiana.exporting.htvm import INPUT

Array = NDArray[Any]

SAMPLES_KEPT = 64
"""Whose tensors are kept: a folder may hold any number of them."""
_SAMPLE = re.compile(r"vectors/([1-9][0-9]{0,8})/input\.npy")


class Vectors:
    """The tensors of a folder, and their values."""

    def __init__(self, root: Path) -> None:
        """Args: root: a folder that ``quantize`` wrote.

        Raises:
            OutputError: it is none, is damaged, or holds no vectors.
        """
        self.folder = read(root)
        self.parts = _checked(self.folder)
        self.inputs = _inputs(self.folder)
        if not self.inputs:
            raise OutputError(f"{root} holds no vectors ({vector_folder(0)}/{INPUT}.npy): HTVM cannot express this "
                              "model; summary.json says why ('handoff')")
        self.tensors = tuple(tensors_of(self.parts))
        self._samples: dict[int, Sample] = {}

    def named(self, label: str) -> Tensor | None:
        """The tensor that a label means."""
        return named(self.tensors, label)

    def sample(self, number: int) -> Sample:
        """A sample's values.

        Raises:
            DumpError: there is no such sample.
            OutputError: its input is damaged.
        """
        if number not in self.inputs:
            have = ", ".join(map(str, self.inputs))
            raise DumpError(f"there are no vectors of sample {number}, only of {have}; write more of them with "
                            "'onnxdiana quantize --vectors N'")
        if number not in self._samples:
            if len(self._samples) == SAMPLES_KEPT:
                del self._samples[next(iter(self._samples))]
            self._samples[number] = Sample(self.parts, self._handed(self.inputs[number]))
        return self._samples[number]

    def _handed(self, name: str) -> Array:
        """A stored input."""
        like = np.zeros(self.tensors[0].shape, np.int8 if self.parts.config.io == "int8" else np.float32)
        x = array_like(self.folder.files[name], like)
        if x is None:
            raise OutputError(f"{self.folder.root / name} has another type or shape than what was written; quantize "
                              "again")
        if not np.isfinite(x).all():
            raise OutputError(f"{self.folder.root / name} holds numbers that are not finite; quantize again")
        return x

    def stored_differently(self, number: int) -> Iterator[str]:
        """Stored vectors of a sample that are not what follows from its input."""
        sample, at = self.sample(number), self.inputs[number].removesuffix(f"{INPUT}.npy")
        for tensor in self.tensors[1:]:
            values = sample.values(tensor).astype(np.float32)
            if tensor.stem == OUTPUT:
                values = np.ldexp(values, tensor.exponent)
            if self.folder.files.get(f"{at}{tensor.stem}.npy") != npy(values):
                yield f"{at}{tensor.stem}.npy ('{tensor.name}') is not what the integer model gives for {at}{INPUT}.npy"


def _checked(folder: Folder) -> Parts:
    missing = [f"{line}" for line in folder.absent()]
    try:
        parts, findings = (None, missing) if missing else read_parts(folder)
    except Damaged as damage:
        parts, findings = None, [str(damage)]
    if parts is None:
        raise OutputError(f"{folder.root} is damaged: {findings[0]} ('onnxdiana validate' tells all)")
    return parts


def _inputs(folder: Folder) -> dict[int, str]:
    """Files with the inputs of samples, by number."""
    first = f"{vector_folder(0)}/{INPUT}.npy"
    numbered = {int(match[1]): name for name in folder.files if (match := _SAMPLE.fullmatch(name))}
    return ({0: first} if first in folder.files else {}) | dict(sorted(numbered.items()))
