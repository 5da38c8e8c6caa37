"""Quality of the integer model on data that calibration has not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import padding, reference
from onnxdiana.calibration import DataSource
from onnxdiana.errors import CalibrationError
from onnxdiana.graph import name_of
from onnxdiana.layers import Network
from onnxdiana.runtime import CHUNK, Runner, length
from onnxdiana.tail import Tail


@dataclass(frozen=True)
class Evaluation:
    """Float model beside integer model."""

    description: str
    sha256: str | None
    samples: int
    sqnr: dict[str, float]
    """dB over all samples, by output."""
    agreement: float | None
    """Share of samples on which both models' first output has its maximum at the same place, of all elements where it
    is whole numbers; None for a scalar."""
    errors_float: int | None
    """Wrong answers by labels; None without labels."""
    errors_integer: int | None

    @property
    def accuracy_float(self) -> float | None:
        """Share of right answers of the float model."""
        return None if self.errors_float is None else 1 - self.errors_float / self.samples

    @property
    def accuracy_integer(self) -> float | None:
        """Share of right answers of the integer model."""
        return None if self.errors_integer is None else 1 - self.errors_integer / self.samples


def evaluate(
    view: Network, tail: Tail, integer: ir.Model, source: DataSource, own: Mapping[str, int] = MappingProxyType({})
) -> Evaluation:
    """Run both models over the data, as a stream.

    Args:
        view, tail, integer: the models.
        source: the data.
        own: of tensors with rows that were added, how many are the network's own; the others are left out.

    Raises:
        CalibrationError: no samples, or labels that do not fit the first output.
    """
    outputs = [name_of(v) for v in integer.graph.outputs]
    runner = Runner(view.model, outputs)
    finish = None if tail.model is None else Runner(tail.model).run
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    answers: list[NDArray[Any]] = []
    count = 0
    for batch in source.batches(CHUNK):
        both = [padding.cropped(values, own) for values in (runner.run(batch), reference.run(integer, batch))]
        real, exact = both if finish is None else (values | finish(values) for values in both)
        for name in (name for name, values in real.items() if values.dtype.kind == "f"):
            y = real[name].astype(np.float64)
            signal[name] = signal.get(name, 0.0) + float(np.square(y).sum())
            noise[name] = noise.get(name, 0.0) + float(np.square(y - exact[name]).sum())
        rows = [values[tail.outputs[0]].reshape(length(batch), -1) for values in (real, exact)]
        decided = rows[0].dtype.kind != "f"  # an ArgMax at the end is the answer itself, perhaps one a pixel
        answers.append(np.stack([row if decided else row.argmax(axis=1, keepdims=True) for row in rows]))
        classes = np.iinfo(np.int64).max if decided else rows[0].shape[1]
        count += length(batch)
    if not count:
        raise CalibrationError(f"{source.description}: no samples to evaluate on")
    float_answer, integer_answer = np.concatenate(answers, axis=1)
    wrong: tuple[int | None, int | None] = (None, None)
    if source.labels is not None:
        labels = np.asarray(source.labels).reshape(-1)
        if len(labels) != count or float_answer.shape[1] != 1 or labels.min() < 0 or labels.max() >= classes:
            raise CalibrationError(
                f"{source.description}: labels ({len(labels)}, from {labels.min()} to {labels.max()}) do not fit "
                f"{count} samples with {float_answer.shape[1]} answer(s) of {classes} classes in output "
                f"'{tail.outputs[0]}'")
        wrong = int((float_answer[:, 0] != labels).sum()), int((integer_answer[:, 0] != labels).sum())
    return Evaluation(
        source.description, source.sha256(), count,
        {n: math.inf if noise[n] == 0 else 10 * math.log10(signal[n] / noise[n]) if signal[n] else -math.inf
         for n in signal},
        float((float_answer == integer_answer).mean()) if classes > 1 else None, *wrong)
