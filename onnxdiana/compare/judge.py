"""Which faults of the catalogue explain what a device gave, and how well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana.compare.faults import CATALOGUE
from onnxdiana.compare.layer import Fault, Layer, Outcome, wrapped

Array = NDArray[Any]

CLAIMED, MENTIONED = 0.9, 0.5
"""Least share of the different elements that a cause explains, and that a further candidate does."""
FEW = 8
"""Different elements below which an explanation may fit by chance."""
_DETERMINED = 0.25
"""Least share of the different elements about which a fault must say something."""


@dataclass(frozen=True)
class Explanation:
    """A fault beside what was found."""

    fault: str
    """Its name in the catalogue."""
    text: str
    explained: int
    """Of the different elements, those that the fault gives as found."""
    different: int
    """Elements that are not as expected, of those about which the fault says something."""
    contradicted: int
    """Elements that are as expected, where the fault gives something else."""
    partial: bool = False
    """Whether there are different elements about which the fault says nothing."""

    @property
    def exact(self) -> bool:
        """Whether it explains everything, and nothing too much."""
        return self.explained == self.different and self.contradicted == 0

    @property
    def few(self) -> bool:
        """Whether so few elements differ that it may fit by chance."""
        return self.different < FEW

    @property
    def share(self) -> float:
        """What it explains, less what it contradicts, of the different elements."""
        return (self.explained - self.contradicted) / self.different


def weigh(fault: Fault, outcome: Outcome, expected: Array, found: Array, eight_bits: bool) -> Explanation | None:
    """A fault's outcome beside what was found; None where it changes nothing or says too little.

    Args:
        fault, outcome: of the catalogue.
        expected, found: of one shape.
        eight_bits: whether ``found`` was stored in bytes, to which the outcome is cut then.
    """
    codes = outcome.codes.reshape(expected.shape)
    if eight_bits:
        codes = wrapped(codes)
    wrong = found != expected
    known = np.ones_like(wrong) if outcome.known is None else outcome.known.reshape(expected.shape)
    different = int(np.count_nonzero(wrong & known))
    whole = int(np.count_nonzero(wrong))
    if different == 0 or different < _DETERMINED * whole:
        return None
    alike = codes == found
    return Explanation(fault.name, outcome.text, int(np.count_nonzero(wrong & known & alike)), different,
                       int(np.count_nonzero(~wrong & known & ~alike)), different < whole)


def explain(layer: Layer, eight_bits: bool, catalogue: Sequence[Fault] = CATALOGUE) -> tuple[Explanation, ...]:
    """Faults that explain at least half of what differs, the best first; of every kind of fault the best form.

    The catalogue's order decides between equals (:func:`best`).
    """
    assert layer.found is not None
    found = []
    for fault in catalogue:
        weighed = (weigh(fault, outcome, layer.expected, layer.found, eight_bits) for outcome in fault.simulate(layer))
        found += best(entry for entry in weighed if entry is not None)[:1]
    return tuple(entry for entry in best(found) if entry.share >= MENTIONED)


def best(entries: Iterable[Explanation]) -> list[Explanation]:
    """The largest share first, of equal ones those that speak of every element; other equals keep their order."""
    return sorted(entries, key=lambda entry: (-entry.share, entry.partial))


def cause(entries: Sequence[Explanation]) -> Explanation | None:
    """The first, if it explains enough to be claimed."""
    return entries[0] if entries and entries[0].share >= CLAIMED else None
