"""Exponents by what they do to the network's output, not by the tensor's own error.

A tensor's rare large values are often best clipped: what they lose hardly reaches the output, and every other value
gains a bit. So each exponent around the tensor-wise best is tried where it counts: the float model runs with that one
tensor (or group of tied tensors) quantized, and the exponent of least squared output error wins
(docs/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph, numerics
from onnxdiana.calibration import Calibration
from onnxdiana.graph import Namer, name_of
from onnxdiana.layers import Network
from onnxdiana.numerics import Rounding
from onnxdiana.placement import Group, Placement
from onnxdiana.rules.ops import operator
from onnxdiana.runtime import Runner, length
from onnxdiana.targets import Target

ROUND = 8
"""Kept samples a round; candidates that are clearly beaten drop out after each."""
_BEATEN = 2.0
"""A candidate with this many times the error of the tensor-wise best drops out."""
_GAIN = 0.9
"""The tensor-wise best exponent stays unless another one brings the output's error below this share."""
_HOPELESS = 100.0
"""Candidates whose own error is this many times the best one's are not tried: they clip nearly everything."""
_WORK = 2e10
"""Multiply-accumulates of all trials together; in a large network only the first tensors are tried."""
_NODE = 2e5
"""What running a node costs besides, in multiply-accumulates."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass
class _Trial:
    """A group of tied tensors, and what the exponents that are still in the race have cost at the output."""

    members: tuple[str, ...]
    best: int
    """The tensor-wise best exponent."""
    errors: dict[int, float]

    def drop_beaten(self) -> None:
        """Forget what is clearly worse than the tensor-wise best, which stays: rare clipping shows in later rounds."""
        base = self.errors[self.best]
        self.errors = {e: error for e, error in self.errors.items() if error <= _BEATEN * base or e == self.best}

    @property
    def choice(self) -> int:
        """The exponent of least error; the tensor-wise best where the gain is small."""
        leader = min(self.errors, key=lambda e: (self.errors[e], -e))
        return self.best if self.errors[leader] > _GAIN * self.errors[self.best] else leader


def output_exponents(network: Network, calibration: Calibration, target: Target) -> dict[str, int]:
    """Preferred exponents by tensor name, where a finer one than the tensor-wise best came into question.

    Args:
        network: the canonical float graph.
        calibration: histograms, and the kept samples that the float model runs on.
        target: code ranges.
    """
    placement = Placement(network, calibration, target)
    trials = [_Trial(tuple(group.members), candidates[0], dict.fromkeys(candidates, 0.0))
              for group in placement.groups() if len(candidates := _candidates(placement, group)) > 1]
    rounds = _rounds(calibration.kept)
    macs = sum(layer.operator.macs(layer.node) for layer in network.layers)
    run = length(rounds[0]) * macs + len(network.model.graph) * _NODE
    racing = _affordable(trials, run)
    if not racing:
        return {}
    bench = _Bench(network, placement, [name for trial in racing for name in trial.members])
    for number, samples in enumerate(rounds):
        values = bench.values(samples, [name for trial in racing for name in trial.members])
        for trial in racing:
            for exponent in trial.errors:
                trial.errors[exponent] += bench.error(values, trial.members, exponent)
            trial.drop_beaten()
        racing = [trial for trial in racing if len(trial.errors) > 1]
        if number == 0:
            racing = _affordable(racing, run * (len(rounds) - 1))
        if not racing:
            break
    return {name: trial.choice for trial in racing for name in trial.members}


def _rounds(kept: Arrays) -> list[dict[str, NDArray[Any]]]:
    """All kept samples, a few at a time, each round spread evenly over them."""
    count = -(-length(kept) // ROUND)
    return [{name: x[start::count] for name, x in kept.items()} for start in range(count)]


def _affordable(trials: Sequence[_Trial], run: float) -> list[_Trial]:
    """The first trials whose candidates can all run in half the budget; the others keep their tensor-wise best."""
    total = np.cumsum([run * len(trial.errors) for trial in trials])
    return list(trials[:int(np.searchsorted(total, _WORK / 2, side="right"))])


def _candidates(placement: Placement, group: Group) -> tuple[int, ...]:
    """The tensor-wise best exponent and the finer ones that are not hopeless."""
    best = placement.best(group)
    least = placement.cost(group, best)
    finer = [e for e in (best - 1, best - 2) if 0.0 < placement.cost(group, e) < _HOPELESS * least]
    return best, *finer


class _Bench:
    """The float model with an adjustable error at every tensor that is tried: one session for all trials."""

    def __init__(self, network: Network, placement: Placement, tried: Sequence[str]) -> None:
        self._network, self._placement = network, placement
        self._inputs = {name_of(v) for v in network.model.graph.inputs}
        self._outputs = [name_of(v) for v in network.model.graph.outputs]
        clone = network.model.clone()
        self._errors: dict[str, tuple[str, int]] = {}
        """Input that carries the error of a tensor, and its rank, by the tensor's name."""
        self._absorbing: dict[str, list[tuple[str, NDArray[Any]]]] = {}
        """Layers behind a graph input: names of their outputs, and their weights' sums (1, C, 1, ...)."""
        self._rounding: dict[str, Rounding] = {}
        """Of the trials of a graph input."""
        unique = Namer(graph.all_names(clone.graph))
        values = {v.name: v for v in (*clone.graph.inputs, *(v for node in clone.graph for v in node.outputs))}
        for name in tried:
            if name in self._inputs:
                later = _absorbed_later(values[name])
                self._rounding[name] = "half_even" if later else "floor"
                layers = [] if later else [(node.outputs[0], _sums(node)) for node in _layers_behind(values[name])]
                self._absorbing[name] = [(name_of(value), sums) for value, sums in layers]
                for value, _ in layers:
                    self._adjustable(clone.graph, value, unique)
            self._adjustable(clone.graph, values[name], unique)
        self._runner = Runner(clone, self._outputs)
        self._float = Runner(network.model, self._fetch(tried))

    def _adjustable(self, g: ir.Graph, value: ir.Value, unique: Namer) -> None:
        """``value + error`` for all that read the value; the error is a new input and broadcasts."""
        if name_of(value) in self._errors:
            return
        name, rank = unique(f"{value.name}.error"), len(value.shape or ())
        error = graph.typed_input(name, ir.DataType.FLOAT, [graph.BATCH, *(f"{name}.{i}" for i in range(1, rank))])
        self._errors[name_of(value)] = name, rank
        add = ir.node("Add", [value, error])
        adjusted, tensor = add.outputs[0], name_of(value)
        for use in list(value.uses()):
            if use.node is not add:
                use.node.replace_input_with(use.idx, adjusted)
        graph.replace_graph_output(g, value, adjusted)
        if value.is_graph_input():
            adjusted.name = unique(f"{tensor}.adjusted")
        else:  # outputs are fetched by their names
            value.name = unique(f"{tensor}.exact")
            adjusted.name = tensor
        g.inputs.append(error)
        producer = value.producer()
        if producer is None:
            g.insert_before(g[0], [add])
        else:
            g.insert_after(producer, [add])

    def values(self, samples: Arrays, tried: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Inputs, outputs and some tensors of the float model on a few samples, by name."""
        fetch = self._fetch(tried)
        if self._float.fetch != fetch:  # fewer are tried than in the round before
            self._float = Runner(self._network.model, fetch)
        return self._float.run(samples) | dict(samples)

    def _fetch(self, tried: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(name for name in tried if name not in self._inputs), *self._outputs]))

    def error(self, values: Arrays, members: Sequence[str], exponent: int) -> float:
        """Squared error at the outputs with these tensors, and no others, quantized at an exponent."""
        feed = {name: values[name] for name in self._inputs}
        count = length(feed)
        feed |= {name: np.zeros((count, *(1,) * (rank - 1)), np.float32) for name, rank in self._errors.values()}
        for name in members:
            codes = numerics.quantize(values[name], exponent, *self._placement.codes(name, exponent),
                                      self._rounding.get(name, "half_even"))
            error = numerics.dequantize(codes, exponent) - values[name]
            feed[self._errors[name][0]] = error
            # Floor takes half a step from every value, and the next layer's bias gives it back: too much so at
            # zero-padded borders, where there is nothing to make up for. That harm is part of the error.
            for layer, sums in self._absorbing.get(name, []):
                offset = np.repeat(sums * (0.5 * 2.0**exponent), count, axis=0)
                feed[self._errors[layer][0]] = offset.astype(np.float32)
        found = self._runner.run(feed)
        return sum(float(np.square(found[k] - values[k], dtype=np.float64).sum()) for k in self._outputs)


def _layers_behind(value: ir.Value) -> Iterator[ir.Node]:
    """The linear layers that read a tensor, perhaps behind operators that move it alone."""
    for node in dict.fromkeys(use.node for use in value.uses()):
        op = operator(node)
        if op.weight(node) is not None:
            yield node
        elif not op.requantizes and op.bounds(node) is None and len(op.codes(node)) == 1:
            yield from _layers_behind(node.outputs[0])


def _absorbed_later(value: ir.Value) -> bool:
    """Whether biases give an input's half step back on every way, on some of them only behind an Add or a clip.

    What is lost in between is then no loss at the output, and which bias makes up for it is not followed here.
    """
    behind, directly, stack = set[ir.Value](), True, [value]
    while stack:
        source = stack.pop()
        if source.is_graph_output():
            return False
        for node in dict.fromkeys(use.node for use in source.uses()):
            op = operator(node)
            if op.weight(node) is not None or node.outputs[0] in behind:
                continue
            directly &= not op.requantizes and op.bounds(node) is None and len(op.codes(node)) == 1
            behind.add(node.outputs[0])
            stack.append(node.outputs[0])
    return not directly


def _sums(layer: ir.Node) -> NDArray[Any]:
    """Sum of the weights of every output channel, as the output broadcasts: (1, C, 1, ...)."""
    weight = graph.required_constant(operator(layer).weight(layer))
    sums = weight.astype(np.float64).sum(axis=tuple(range(1, weight.ndim)))
    return np.asarray(sums).reshape(1, -1, *(1,) * (weight.ndim - 2))
