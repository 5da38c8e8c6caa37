"""One streaming pass over the data: a histogram a tensor, and at most 256 samples kept for the corrections."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from onnxdiana.calibration.data import DataSource
from onnxdiana.calibration.histogram import Histogram
from onnxdiana.errors import CalibrationError
from onnxdiana.layers import Network
from onnxdiana.runtime import CHUNK, Runner, length

MAX_KEPT = 256


@dataclass(frozen=True)
class Calibration:
    """What one pass over the data tells."""

    samples: int
    histograms: Mapping[str, Histogram]
    """By tensor name: every requantized tensor."""
    kept: Mapping[str, NDArray[Any]]
    """Inputs of the kept samples, by input name: (kept, ...)."""
    kept_indices: tuple[int, ...]
    """Which samples of the data were kept: every ``2**k``-th."""
    description: str
    sha256: str | None
    synthetic: bool


class _Kept:
    """Every ``stride``-th sample; when more than the limit are held, every second one goes and the stride doubles.

    One pass, bounded memory, evenly spread whatever the (unknown) length, the same for any batch size.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.stride = 1
        self.indices: list[int] = []
        self.samples: list[dict[str, NDArray[Any]]] = []

    def add(self, index: int, sample: dict[str, NDArray[Any]]) -> None:
        if index % self.stride:
            return
        if len(self.indices) == self._limit:
            self.indices, self.samples = self.indices[::2], self.samples[::2]
            self.stride *= 2
            if index % self.stride:
                return
        self.indices.append(index)
        self.samples.append({k: v.copy() for k, v in sample.items()})


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
    kept = _Kept(MAX_KEPT)
    done = 0
    with tqdm(total=source.length, desc="calibrating", unit=" samples", file=sys.stderr, leave=False,
              disable=quiet or not sys.stderr.isatty()) as bar:
        for chunk in _rechunk(source, batch):
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
    stacked = {name: np.stack([s[name] for s in kept.samples]) for name in inputs}
    return Calibration(done, histograms, stacked, tuple(kept.indices), source.description, source.sha256(),
                       source.synthetic)


def _observe(name: str, value: NDArray[Any], histogram: Histogram, done: int, source: DataSource) -> None:
    with np.errstate(invalid="ignore"):
        finite = bool(np.isfinite(value.min(initial=0.0)) and np.isfinite(value.max(initial=0.0)))
    if not finite:
        bad = ~np.isfinite(value)
        sample = int(np.argmax(bad.reshape(len(value), -1).any(axis=1)))
        kind = "NaN" if np.isnan(value).any() else "infinite"
        raise CalibrationError(f"{source.description}: tensor '{name}' is {kind} for sample {done + sample}; "
                               "check that sample and the model's weights in front of this tensor")
    histogram.update(value)


def _rechunk(source: DataSource, batch: int) -> Any:
    """The stream in pieces of exactly CHUNK samples (the last may be shorter), whatever size it is read in."""
    held: list[dict[str, NDArray[Any]]] = []
    count = 0
    for piece in source.batches(batch):
        held.append(dict(piece))
        count += length(piece)
        if count < CHUNK:
            continue
        joined = _join(held)
        whole = count - count % CHUNK
        for start in range(0, whole, CHUNK):
            yield {k: v[start:start + CHUNK] for k, v in joined.items()}
        held = [{k: v[whole:] for k, v in joined.items()}] if count % CHUNK else []
        count %= CHUNK
    if count:
        yield _join(held)


def _join(pieces: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return dict(pieces[0]) if len(pieces) == 1 else {k: np.concatenate([p[k] for p in pieces]) for k in pieces[0]}
