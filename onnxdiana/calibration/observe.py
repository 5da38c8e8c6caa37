"""One streaming pass over the data: a histogram a tensor, and at most 256 samples kept for the corrections."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from onnxdiana import graph
from onnxdiana.calibration.batches import Array, Arrays, EvenSamples, length, rechunk
from onnxdiana.calibration.histogram import Histogram
from onnxdiana.calibration.sources import DataSource
from onnxdiana.errors import CalibrationError
from onnxdiana.layers import Network
from onnxdiana.runtime import CHUNK, Runner

MAX_KEPT = 256
"""Samples kept for the corrections, at most."""
KEPT_BYTES = 2**26
"""Of the largest tensor over all kept samples, at 4 bytes an element: of large maps, fewer samples are kept."""
_LEAST_KEPT = 16
_TERMINAL = 80, 24
"""Size of a terminal that does not tell its own (a serial line); tqdm by itself would show nothing there."""


@dataclass(frozen=True)
class Calibration:
    """What one pass over the data tells."""

    samples: int
    histograms: Mapping[str, Histogram]
    """By tensor name: every requantized tensor."""
    kept: Arrays
    """Inputs of the kept samples, by input name: (kept, ...)."""
    kept_indices: tuple[int, ...]
    """Which samples of the data were kept: every ``2**k``-th."""
    description: str
    sha256: str | None
    synthetic: bool


def calibrate(network: Network, source: DataSource, batch: int = 64, *, quiet: bool = False) -> Calibration:
    """Run the float model over the data once.

    Args:
        network: the canonical graph.
        source: calibration data.
        batch: samples read at a time. The model runs on :data:`~onnxdiana.runtime.CHUNK` samples whatever this is, so
            results do not depend on it.
        quiet: no progress bar, not even on a terminal.

    Raises:
        CalibrationError: no samples; an activation is NaN or infinite (names tensor and sample).
    """
    names = [v.name for v in network.quantized if v.name]
    inputs = [v.name for v in network.model.graph.inputs if v.name]
    runner = Runner(network.model, [n for n in names if n not in inputs])
    histograms = {name: Histogram() for name in names}
    largest = max(4 * math.prod(graph.sample_shape(v)) for v in network.quantized)
    kept = EvenSamples(max(_LEAST_KEPT, min(MAX_KEPT, KEPT_BYTES // largest)))
    done = 0
    with _progress(source.length, quiet) as bar:
        for chunk in rechunk(source.batches(batch), CHUNK):
            count = length(chunk)
            for i in range(count):
                kept.add(done + i, {k: v[i] for k, v in chunk.items()})
            values = {**chunk, **runner.run(chunk)}
            for name, histogram in histograms.items():
                _observe(name, values[name], histogram, done, source)
            done += count
            bar.update(count)
    if not done:
        raise CalibrationError(f"{source.description}: no samples; calibration needs at least one")
    return Calibration(done, histograms, kept.samples, tuple(kept.indices), source.description, source.sha256(),
                       source.synthetic)


def further_samples(source: DataSource, calibration: Calibration, count: int, batch: int = 64) -> Arrays:
    """Samples that calibration did not keep, in the data's order, until there are so many with those that it did.

    Returns:
        Inputs by name, (found, ...); empty where the kept ones suffice.
    """
    missing, kept, index = count - len(calibration.kept_indices), set(calibration.kept_indices), 0
    found: dict[str, list[Array]] = {}
    for chunk in source.batches(batch) if missing > 0 else ():
        for i in range(length(chunk)):
            if index not in kept and missing > 0:
                missing -= 1
                for name, array in chunk.items():
                    found.setdefault(name, []).append(array[i])
            index += 1
        if missing == 0:
            break
    return {name: np.stack(arrays) for name, arrays in found.items()}


def _progress(total: int | None, quiet: bool) -> tqdm[NoReturn]:
    """A bar with the remaining time on a terminal, nothing elsewhere."""
    shown, columns, rows = not quiet and sys.stderr.isatty(), None, None
    with contextlib.suppress(OSError):
        if shown and 0 in os.get_terminal_size(sys.stderr.fileno()):
            columns, rows = _TERMINAL
    return tqdm(total=total, desc="calibrating", unit=" samples", file=sys.stderr, leave=False, disable=not shown,
                ncols=columns, nrows=rows)


def _observe(name: str, value: Array, histogram: Histogram, done: int, source: DataSource) -> None:
    with np.errstate(invalid="ignore"):
        finite = bool(np.isfinite(value.min(initial=0.0)) and np.isfinite(value.max(initial=0.0)))
    if not finite:
        bad = ~np.isfinite(value)
        sample = int(np.argmax(bad.reshape(len(value), -1).any(axis=1)))
        kind = "NaN" if np.isnan(value[sample]).any() else "infinite"
        raise CalibrationError(f"{source.description}: tensor '{name}' is {kind} for sample {done + sample}; "
                               "check that sample and the model's weights in front of this tensor")
    histogram.update(value)
