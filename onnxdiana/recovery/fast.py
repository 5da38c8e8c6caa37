"""``--recover fast`` and ``none``: parameters of both quantized models, and the form of the global average pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana.calibration import Calibration
from onnxdiana.graph import name_of
from onnxdiana.integers import Parameters, integerize, round_parameters
from onnxdiana.layers import Network, network
from onnxdiana.numerics import Rounding
from onnxdiana.recovery import bias, pooling
from onnxdiana.rules.ops.base import ACCUMULATOR
from onnxdiana.runtime import Runner, few
from onnxdiana.scales import ScaleTable

_FAKE_SAMPLES = 64
"""Kept samples that the fake-quantized model's biases are measured on, at most; rounding to nearest has little bias."""

Means = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Recovered:
    """A float graph, its exponents and the parameters of both quantized models."""

    view: Network
    table: ScaleTable
    parameters: Mapping[str, Parameters]
    """Of the integer model: biases with halves and corrections."""
    fake: Mapping[str, Parameters]
    """Of the fake-quantized model: biases with the corrections of rounding to nearest, without half and floor."""
    pooling: Mapping[str, str]
    """Form of every global average pool, ``conv`` or ``pool``, by output tensor."""


@dataclass
class _Candidate:
    """One way to write the pools, on its way to a corrected integer model."""

    view: Network
    table: ScaleTable
    convolved: frozenset[str]

    def integer(self, halves: bool) -> ir.Model:
        return integerize(self.view, self.table, round_parameters(self.view, self.table, halves=halves))


def recover(
    model: ir.Model, calibration: Calibration, convolved: Network,
    place: Callable[[Network, Mapping[str, int] | None], ScaleTable], *, corrections: bool,
) -> Recovered:
    """Place the scales, choose the pools' form by the integer model's error, correct the biases.

    Args:
        model: the canonical graph, pools as pools.
        calibration: taken on ``convolved``.
        convolved: the same graph with every pool as a convolution.
        place: exponents of a graph, some of them pinned.
        corrections: measure and correct biases (``fast``), or leave them rounded (``none``).
    """
    names = frozenset(name_of(n.outputs[0]) for n in pooling.pools(model))
    forced = frozenset(pooling.must_convolve(model))
    base = _Candidate(convolved, place(convolved, None), names)
    candidates = [base]
    if names - forced:
        view = network(pooling.as_convolution(model, set(forced)))
        pinned = {n: s.scalar for n, s in base.table.tensors.items() if s.role != "weight" and n not in names - forced}
        candidates.append(_Candidate(view, place(view, pinned), forced))
    means = bias.target_means(base.view, base.table, calibration.kept) if corrections else None
    chosen, biases = _choose(candidates, calibration.kept, means, names - forced)
    parameters = _with(round_parameters(chosen.view, chosen.table, halves=True), biases)
    fake = round_parameters(chosen.view, chosen.table, halves=False)
    if means is not None:
        some = few(calibration.kept, _FAKE_SAMPLES)
        targets = bias.target_means(chosen.view, chosen.table, some)
        fake = _with(fake, _corrected(chosen, some, targets, "half_even", halves=False).biases)
    form = {name: "conv" if name in chosen.convolved else "pool" for name in sorted(names)}
    return Recovered(chosen.view, chosen.table, parameters, fake, form)


def _choose(
    candidates: list[_Candidate], kept: Mapping[str, NDArray[Any]], means: Means | None, free: frozenset[str]
) -> tuple[_Candidate, Mapping[str, NDArray[np.int32]]]:
    """The candidate whose integer model is nearer to the float outputs; both share the walk up to the first pool."""
    if len(candidates) == 1:
        only = candidates[0]
        return only, {} if means is None else _corrected(only, kept, means, "floor", halves=True).biases
    first, second = candidates
    graphs = [candidate.integer(halves=True) for candidate in candidates]
    stop = {f"{name}{ACCUMULATOR}" for name in free}
    targets = means if means is not None else {}
    beginning = bias.start(graphs[0], kept, "floor", measure=means is not None)
    bias.correct(graphs[0], targets, beginning, stop)
    same = _agree(first.table, second.table, {name.removesuffix(ACCUMULATOR) for name in beginning.names})
    ends = [beginning.fork(graphs[0]),
            beginning.fork(graphs[1]) if same else bias.start(graphs[1], kept, "floor", measure=means is not None)]
    reference = Runner(first.view.model).run(kept)
    errors = []
    for integer, end in zip(graphs, ends, strict=True):
        bias.correct(integer, targets, end)
        errors.append(sum(float(np.square(end.walk.codes[name] - y, dtype=np.float64).sum())
                          for name, y in reference.items()))
    best = int(np.argmin(errors))
    return candidates[best], ends[best].biases


def _agree(first: ScaleTable, second: ScaleTable, names: set[str]) -> bool:
    """Whether two tables treat these tensors and layers alike."""
    tensors = all(first.tensors[n] == scale for n, scale in second.tensors.items() if n in names)
    return tensors and all(first.layers[n].shift == own.shift for n, own in second.layers.items() if n in names)


def _corrected(
    candidate: _Candidate, kept: Mapping[str, NDArray[Any]], means: Means, rounding: Rounding, *, halves: bool
) -> bias.Progress:
    integer = candidate.integer(halves)
    progress = bias.start(integer, kept, rounding)
    bias.correct(integer, means, progress)
    return progress


def _with(parameters: Mapping[str, Parameters], biases: Mapping[str, NDArray[np.int32]]) -> dict[str, Parameters]:
    return {name: Parameters(own.weight, biases.get(name, own.bias)) for name, own in parameters.items()}
