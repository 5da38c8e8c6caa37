"""``onnxdiana compare DIR DUMP``: where a device's dump departs from the vectors, and the likeliest cause.

What the device should give is computed again from the folder's parts (:mod:`.expected`). Each dumped tensor
(:mod:`.dumps`, :mod:`.matching`) is compared with it, in execution order; the first one that departs is explained by
the catalogue of faults (:mod:`.faults`), each applied to the layer's exact integers and weighed against what was found
(:mod:`.judge`). Layers behind it that depart too are computed again from what was dumped (:mod:`.departures`), which
tells whether they only follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxdiana.compare.departures import Departure, departures, readers_right
from onnxdiana.compare.expected import Vectors
from onnxdiana.compare.matching import listed, match
from onnxdiana.errors import DumpError


@dataclass(frozen=True)
class Compared:
    """One sample."""

    sample: int
    tensors: tuple[str, ...]
    """That were dumped, in execution order."""
    departures: tuple[Departure, ...]
    """In execution order."""
    readers_right: bool | None
    """Whether the dumped layers that read the first departing tensor are all right; None where there are none."""


@dataclass(frozen=True)
class Comparison:
    """Outcome of :func:`compare`."""

    samples: tuple[Compared, ...]
    tensors: int
    """Of the network, its input and output among them."""
    ignored: tuple[str, ...]
    """What of the dump is no tensor's."""
    damaged: tuple[str, ...]
    """Stored vectors that are not what the model gives; they were not used."""

    @property
    def ok(self) -> bool:
        """Whether everything that was dumped is as expected."""
        return not any(sample.departures for sample in self.samples)

    @property
    def first(self) -> Departure | None:
        """The first departure of the first sample that has one."""
        return next((sample.departures[0] for sample in self.samples if sample.departures), None)


def compare(
    folder: str | Path, dump: str | Path, *, tensor: str | None = None, sample: int | None = None
) -> Comparison:
    """Compare a device's or simulator's dump with what the integer model gives.

    Args:
        folder: written by ``quantize``.
        dump: a file with one tensor (a text may name several), a folder with a file a tensor, or a folder with such
            folders called 0, 1, 2, one a sample.
        tensor: which one a file holds; by default told by its name, else by its size.
        sample: of which vectors; by default 0, or every folder called by a number.

    Raises:
        OutputError: the folder is none of ours, is damaged, or has no vectors.
        DumpError: the dump cannot be read, or fits no tensor.
    """
    path, vectors = Path(dump), Vectors(Path(folder))
    if tensor is not None and vectors.named(tensor) is None:
        raise DumpError(f"no tensor is called '{tensor}'; there are {listed(vectors.tensors)}")
    compared, ignored = list[Compared](), list[str]()
    for number, place in _samples(path, sample):
        matched = match(vectors, vectors.sample(number), place, tensor)
        found = departures(vectors, number, matched.dumps)
        ignored += matched.ignored
        names = tuple(t.name for t in vectors.tensors if t.stem in matched.dumps)
        compared.append(Compared(number, names, tuple(found), readers_right(vectors, matched.dumps, found)))
    damaged = [line for entry in compared for line in vectors.stored_differently(entry.sample)]
    return Comparison(tuple(compared), len(vectors.tensors), tuple(ignored), tuple(damaged))


def _samples(path: Path, sample: int | None) -> list[tuple[int, Path]]:
    """Numbers of samples, and where the dump of each is."""
    numbered, folders = dict[int, Path](), list[Path]()
    if path.is_dir():
        try:
            folders = sorted(p for p in path.iterdir() if p.name.isascii() and p.name.isdigit() and p.is_dir())
        except OSError as error:
            raise DumpError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    for folder in folders:
        number = int(folder.name)
        if number in numbered:
            raise DumpError(f"{folder} and {numbered[number]} are both sample {number}; give one of them")
        numbered[number] = folder
    if not numbered:
        return [(sample or 0, path)]
    if sample is None:
        return sorted(numbered.items())
    if sample not in numbered:
        raise DumpError(f"{path} has no folder '{sample}'; there are {', '.join(map(str, sorted(numbered)))}")
    return [(sample, numbered[sample])]
