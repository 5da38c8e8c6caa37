"""What a batch is, and the one place where a stream of samples is cut into batches of another size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
"""By input name; the first axis is the samples, equally many for every input."""
Batch = dict[str, npt.NDArray[np.float32]]
"""C-contiguous float32 by input name; the first axis is the samples, equally many for every input."""
Convert = Callable[[str, Array, int], Array]


@dataclass(frozen=True)
class InputSpec:
    """One input of the model; ``shape`` is that of ONE sample, without the batch axis."""

    name: str
    shape: tuple[int, ...]


def length(arrays: Arrays) -> int:
    """Number of samples."""
    return len(next(iter(arrays.values())))


def rechunk(chunks: Iterable[Arrays], size: int, convert: Convert | None = None) -> Iterator[dict[str, Array]]:
    """Cut chunks of any length into batches of exactly ``size`` samples; only the last may be shorter.

    Args:
        chunks: the samples, in order.
        size: samples in a batch.
        convert: gives what is kept of a part of a chunk, from the input's name, the part and the number of its first
            sample. Where it copies, no chunk outlives its own turn; by default parts are views.
    """
    held: list[dict[str, Array]] = []
    count = position = 0  # samples held; samples seen
    for chunk in chunks:
        start, stop = 0, length(chunk)
        while start < stop:
            end = min(start + size - count, stop)
            part = {name: array[start:end] for name, array in chunk.items()}
            held.append(part if convert is None else {k: convert(k, v, position) for k, v in part.items()})
            count, position, start = count + end - start, position + end - start, end
            del part  # or it would keep the chunk alive
            if count == size:
                yield _join(held)
                held, count = [], 0
        del chunk  # or it would live on while the next one is made
    if held:
        yield _join(held)


def _join(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class EvenSamples:
    """Every ``stride``-th sample; when more than the limit are held, every second one goes and the stride doubles.

    One pass, bounded memory, evenly spread whatever the (unknown) length, the same for any batch size.
    """

    def __init__(self, limit: int) -> None:
        """Args: limit: most samples held."""
        self._limit = limit
        self.stride = 1
        self.indices: list[int] = []
        self._rows: dict[str, Array] = {}

    def add(self, index: int, sample: Arrays) -> None:
        """See one more sample; ``index`` counts them."""
        if index % self.stride:
            return
        if len(self.indices) == self._limit:
            self.indices = self.indices[::2]
            for rows in self._rows.values():
                rows[:len(self.indices)] = rows[::2]
            self.stride *= 2
            if index % self.stride:
                return
        for name, x in sample.items():
            if name not in self._rows:  # pages that are never written take no memory
                self._rows[name] = np.empty((self._limit, *x.shape), x.dtype)
            self._rows[name][len(self.indices)] = x
        self.indices.append(index)

    @property
    def samples(self) -> dict[str, Array]:
        """By input name: (kept, ...)."""
        return {name: rows[:len(self.indices)] for name, rows in self._rows.items()}
