"""The tensors of a sample that depart: the first is explained, those behind it follow from what was dumped, or not."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana.compare.expected import SAMPLES_KEPT, Vectors
from onnxdiana.compare.faults import CATALOGUE
from onnxdiana.compare.judge import Explanation, best, cause, explain, weigh
from onnxdiana.compare.layer import Fault, Layer, Outcome, wrapped
from onnxdiana.compare.matching import Found, tails
from onnxdiana.compare.memory import paddings, unpadded
from onnxdiana.compare.samples import Codes, Sample
from onnxdiana.compare.tensors import OUTPUT, Tensor, feeding
from onnxdiana.exporting.htvm import INPUT

Array = NDArray[Any]
Others = Callable[[], Iterator[tuple[str, Array]]]

_MOST_RERUNS = 600
"""Of the network's rest, to look for a fault in layers that were not dumped."""
_MOST_EXACT = 3
"""Explanations that are looked for where few elements differ, so that several may fit by chance."""
_VARIANTS = 2
"""Forms of a fault that are tried in all of them."""


@dataclass(frozen=True)
class Departure:
    """A dumped tensor that is not what it should be."""

    tensor: Tensor
    source: str
    """The file."""
    index: tuple[int, ...] | None
    """Of the first element that differs, in the tensor's layout; None where only what is behind the tensor does."""
    expected: float | None
    found: float | None
    different: int
    elements: int
    """Of the tensor."""
    dumped: int
    """Elements in the dump."""
    largest: float
    """Difference."""
    region: tuple[tuple[int, int], ...]
    """First and last index of different elements, axis by axis."""
    explanations: tuple[Explanation, ...] = ()
    """The best first."""
    follows: bool | None = None
    """Whether it is what the network gives for all that was dumped in front of it; None where that cannot be told."""
    not_dumped: tuple[str, ...] = ()
    """Tensors on the way from the last dumped ones to this one."""

    @property
    def cause(self) -> Explanation | None:
        """The likeliest, if it explains enough to be claimed."""
        return cause(self.explanations)


def departures(vectors: Vectors, number: int, found: Mapping[str, Found]) -> list[Departure]:
    """The dumped tensors of a sample that depart, in execution order.

    Args:
        vectors: what is expected.
        number: of the sample.
        found: what was dumped, by stem.
    """
    sample = vectors.sample(number)
    departing = [_seen(tensor, found[tensor.stem], expected) for tensor in vectors.tensors if tensor.stem in found
                 if not np.array_equal(found[tensor.stem].values, (expected := sample.values(tensor)).reshape(-1))]
    if not departing:
        return []
    first = _first(vectors, number, departing[0], found)
    codes = sample.following({tensor.codes: _usable(sample, tensor, found[tensor.stem]) for tensor in vectors.tensors
                              if tensor.stem in found and tensor.stem not in (INPUT, OUTPUT)})
    return [first, *(_behind(vectors, number, entry, found[entry.tensor.stem], codes, first)
                     for entry in departing[1:])]


def readers_right(vectors: Vectors, found: Mapping[str, Found], departing: Sequence[Departure]) -> bool | None:
    """Whether the dumped layers that read the first departing tensor are all right; None where there are none."""
    if not departing:
        return None
    wrong = {entry.tensor.stem for entry in departing}
    readers = [t.stem for t in vectors.tensors
               if t.stem in found and departing[0].tensor in feeding(t, vectors.tensors)]
    return wrong.isdisjoint(readers) if readers else None


def _usable(sample: Sample, tensor: Tensor, found: Found) -> Array | None:
    """A dump as codes that the layers behind it may have read."""
    values = found.values
    if values.size != math.prod(tensor.shape) or values.dtype != np.int64 or (wrapped(values) != values).any():
        return None
    return sample.as_codes(tensor, values.astype(np.int8).reshape(tensor.shape))


def _seen(tensor: Tensor, found: Found, expected: Array) -> Departure:
    """The dump beside the tensor, element by element."""
    size = min(found.values.size, expected.size)
    values = found.values[:size].astype(np.float64)
    flat = expected.reshape(-1)[:size].astype(np.float64)
    wrong = np.flatnonzero(values != flat)
    places = np.unravel_index(wrong, expected.shape)
    at = int(wrong[0]) if wrong.size else None
    return Departure(
        tensor, found.source, None if at is None else tuple(int(axis[0]) for axis in places),
        None if at is None else float(flat[at]), None if at is None else float(values[at]),
        int(wrong.size), expected.size, found.values.size, float(np.abs(values - flat).max(initial=0)),
        tuple((int(axis.min()), int(axis.max())) for axis in places) if wrong.size else ())


def _first(vectors: Vectors, number: int, entry: Departure, found: Mapping[str, Found]) -> Departure:
    """The first departing tensor, explained from what it should read: everything dumped in front of it is right."""
    sample, own = vectors.sample(number), found[entry.tensor.stem]
    layer = _required(sample.layer(entry.tensor))
    missing = list(_not_dumped(entry.tensor, vectors.tensors, found))
    causes = _causes(layer, own, _others(vectors, number, entry.tensor))
    if own.values.size == layer.expected.size and not any(found.exact for found in causes):
        causes = tuple(best([*causes, *_in_front(sample, entry.tensor, missing, own)]))
    return dataclasses.replace(entry, explanations=causes, not_dumped=tuple(tensor.name for tensor in missing))


def _behind(vectors: Vectors, number: int, entry: Departure, found: Found, codes: Codes, first: Departure) -> Departure:
    """A departing tensor behind the first one: it follows from what was dumped, has the same cause, or one of its own.

    Args:
        vectors, number: what is expected.
        entry, found: the tensor.
        codes: as they follow from what was dumped.
        first: the first departing tensor.
    """
    sample = vectors.sample(number)
    as_expected, layer = _required(sample.layer(entry.tensor)), sample.layer(entry.tensor, codes)
    given = None if layer is None else layer.expected
    if entry.tensor.stem == OUTPUT and codes[entry.tensor.codes] is not None:  # its codes may have been dumped, too
        given = sample.values(entry.tensor, codes)
    if given is not None and np.array_equal(found.values, given.reshape(-1)):
        return dataclasses.replace(entry, follows=True)
    follows, others = None if layer is None else False, _others(vectors, number, entry.tensor)
    same = [cause for cause in _causes(as_expected, found, others)
            if cause.exact and first.cause is not None and cause.fault == first.cause.fault]
    if same or layer is None:
        return dataclasses.replace(entry, explanations=tuple(same), follows=follows)
    return dataclasses.replace(entry, explanations=_causes(layer, found, others), follows=follows)


def _causes(layer: Layer, found: Found, others: Others) -> tuple[Explanation, ...]:
    """Explanations of a dump; of one that is larger than the tensor, its padding is one, and part of every other."""
    expected, values = layer.expected, found.values
    if values.size == expected.size:
        whole = dataclasses.replace(layer, found=values.reshape(expected.shape), others=others)
        return explain(whole, found.eight_bits)
    text, inner = _taken_out(expected, values)
    right = int(np.count_nonzero(inner == expected))
    padding = Explanation("padding-to-16", text, right, expected.size, 0)
    if padding.exact:
        return (padding,)
    within = explain(dataclasses.replace(layer, found=inner, others=others), found.eight_bits)
    return (*(dataclasses.replace(entry, text=f"{text}; and {entry.text}") for entry in within), padding)


def _taken_out(expected: Array, values: Array) -> tuple[str, Array]:
    """How a dump that is larger than the tensor is padded, and the tensor in it."""
    size, shape = expected.size, expected.shape
    forms = [(text, unpadded(values, shape, padded, order)) for text, padded, order in paddings(shape)
             if math.prod(padded) == values.size]
    if values.size in tails(size):
        forms.append((f"{values.size - size} more elements behind the {size} of the tensor: the buffer's end is "
                      "rounded up", values[:size].reshape(shape)))
    return max(forms, key=lambda form: int(np.count_nonzero(form[1] == expected)))  # the first of equals


def _others(vectors: Vectors, number: int, tensor: Tensor) -> Others:
    """The same tensor on (the first ones of) the other samples, then other tensors of this one."""
    def found() -> Iterator[tuple[str, Array]]:
        for other in itertools.islice(vectors.inputs, SAMPLES_KEPT):
            if other != number:
                yield f"sample {other}", vectors.sample(other).values(tensor)
        for further in vectors.tensors:
            if further.stem not in (tensor.stem, OUTPUT) and (further.maker is None) == (tensor.maker is None):
                yield f"'{further.name}' ({further.stem})", vectors.sample(number).values(further)
    return found


def _not_dumped(tensor: Tensor, tensors: Sequence[Tensor], found: Mapping[str, Found]) -> Iterator[Tensor]:
    """Tensors in front of one that were not dumped, back to those that were, in execution order."""
    if tensor.stem == OUTPUT and any(t.maker is tensor.maker and t.stem in found for t in tensors if t is not tensor):
        return  # nothing is in between
    missing, waiting = set[str](), [tensor]
    while waiting:
        for source in feeding(waiting.pop(), tensors):
            if source.stem not in found and source.stem not in missing:
                missing.add(source.stem)
                waiting.append(source)
    yield from (t for t in tensors if t.stem in missing)


def _in_front(sample: Sample, tensor: Tensor, missing: Sequence[Tensor], found: Found) -> Iterator[Explanation]:
    """A fault of layers that were not dumped that explains everything: of all of them, or of one, the nearest first."""
    expected, exact = sample.values(tensor), set[tuple[str, str]]()
    values = found.values.reshape(expected.shape)
    for fault, where, outcome in itertools.islice(_hypotheses(sample, tensor, missing), _MOST_RERUNS):
        entry = weigh(fault, outcome, expected, values, found.eight_bits)
        if entry is not None and entry.exact and (fault.name, where) not in exact:
            yield dataclasses.replace(entry, text=f"{where}: {entry.text}")
            exact.add((fault.name, where))
            if not entry.few or len(exact) == _MOST_EXACT:
                return


def _hypotheses(sample: Sample, tensor: Tensor, missing: Sequence[Tensor]) -> Iterator[tuple[Fault, str, Outcome]]:
    """What becomes of a tensor where layers in front of it have a fault, and which."""
    if not missing:
        return
    common = [fault for fault in CATALOGUE if fault.common]
    layers = [t for t in (*missing, tensor) if t.maker is not None and t.maker.op_type != "Quantize"]
    for fault, variant in itertools.product(common, range(_VARIANTS)):
        told: list[str] = []
        codes = sample.with_fault(layers, functools.partial(_variant, fault, variant, told))
        if told:
            yield fault, "in every layer up to here that was not dumped", Outcome(told[0], codes)
    for source in reversed(missing):
        layer = _required(sample.layer(source))
        for fault in common:
            for outcome in fault.simulate(layer):
                codes = wrapped(outcome.codes)
                if outcome.known is None and not np.array_equal(codes, layer.expected):
                    changed = {source.codes: sample.as_codes(source, codes.astype(np.int8))}
                    yield fault, f"in '{source.name}' ({source.operator}), which was not dumped", Outcome(
                        outcome.text, sample.values(tensor, sample.following(changed, tensor.codes)))


def _variant(fault: Fault, index: int, told: list[str], layer: Layer) -> Array:
    """What a layer gives with one form of a fault, where it can have it; then it is told, too."""
    outcome = next(itertools.islice(fault.simulate(layer), index, None), None)
    if outcome is None or outcome.known is not None:
        return layer.expected
    told.append(outcome.text)
    return outcome.codes


def _required(layer: Layer | None) -> Layer:
    """Of expected codes, which are all known."""
    assert layer is not None
    return layer
