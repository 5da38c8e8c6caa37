"""Scales: every exponent by quantization error, aligned where operators tie tensors together, every shift legal.

Exponents of tensors that one operator ties (both operands of an Add, both ends of a pooling) form groups; a group's
exponent minimises the summed squared error of its tensors, since errors of summands add up. Between groups a layer
demands ``shift = e_out - e_acc`` within the target's range. The demands are met together with the choice:

* ``e_out < e_acc``: the finer of the two cannot be had. Either the output gets coarser (no information is lost, since
  the accumulator has no finer step) or, where the accumulator's exponent is an activation's (Add), that activation's
  group gets finer, whichever costs less error.
* the weight's exponent gives way only where nothing else can: output and input tied together, shifts beyond 31, or an
  accumulator that would leave int32 (then it gets coarser).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph, numerics
from onnxdiana.calibration import Calibration
from onnxdiana.errors import TargetError
from onnxdiana.graph import name_of
from onnxdiana.layers import Layer, Network
from onnxdiana.rules.ops import operator
from onnxdiana.scales import LayerScale, ScaleTable, TensorScale
from onnxdiana.targets import Target

FINER = 4
"""How many exponents below the one that clips nothing are tried."""
_DEAD = -7
"""Exponent of a tensor that is zero on all calibration data."""
_HEADROOM = 0.875
"""Share of the int32 range that a layer may use before bias corrections are added."""


@dataclass
class Group:
    """Tensors that share one exponent."""

    members: list[str] = field(default_factory=list)
    exponent: int = 0
    cost: dict[int, float] = field(default_factory=dict)


def weight_error(weight: NDArray[Any], exponent: int, lo: int, hi: int) -> float:
    """Sum of squared errors of rounding a weight to steps of ``2**exponent``."""
    w = weight.astype(np.float64)
    q = np.clip(np.rint(np.ldexp(w, -exponent)), lo, hi)
    return float(np.square(w - np.ldexp(q, exponent)).sum())


def weight_exponent(weight: NDArray[Any], lo: int, hi: int) -> int:
    """Exponent of least squared error; the coarsest of equals, so that a weight of equal powers of two has code 1."""
    peak = float(np.abs(weight).max(initial=0.0))
    if peak == 0.0:
        return _DEAD
    top = no_clip(peak, hi)
    if len(np.unique(np.abs(weight))) == 1 and math.frexp(peak)[0] == 0.5:
        return math.frexp(peak)[1] - 1
    return min(range(top, top - FINER, -1), key=lambda e: (weight_error(weight, e, lo, hi), -e))


def no_clip(peak: float, hi: int) -> int:
    """Smallest exponent at which ``peak`` is at most half a step above code ``hi``."""
    return math.ceil(math.log2(peak / (hi + 0.5))) if peak > 0.0 else _DEAD


class Placement:
    """The exponents of one network, solved together."""

    def __init__(self, network: Network, calibration: Calibration, target: Target) -> None:
        self.network = network
        self.target = target
        self._histograms = calibration.histograms
        self._bounds = {name_of(layer.output): layer.bounds for layer in network.layers}
        self._group: dict[str, Group] = {}
        self._weights: dict[str, int] = {}
        self._preferred: dict[str, int] = {}
        self._fitted: dict[str, tuple[int, int]] = {}
        """Exponents of accumulator and output for which a layer was last found to fit, by its name."""
        self._tie()

    def solve(self, preferred: Mapping[str, int] | None = None) -> ScaleTable:
        """The scale table, accumulator bounds still without the corrections.

        Args:
            preferred: exponents chosen elsewhere (by output error), by tensor name; they give way only where a shift
                would be illegal.

        Raises:
            TargetError: a layer cannot be brought within the target's shifts and its 32-bit accumulator.
        """
        self._preferred = dict(preferred or {})
        for group in self.groups():
            group.exponent = self.best(group)
        for layer in self.network.layers:
            weight = layer.operator.weight(layer.node)
            if weight is not None:
                name = name_of(weight)
                if name not in self._weights:
                    self._weights[name] = weight_exponent(graph.required_constant(weight), *self.target.weight)
        self._legalize()
        return self._table()

    # -- groups -------------------------------------------------------------------------------------------------------

    def _tie(self) -> None:
        parent: dict[str, str] = {}

        def find(name: str) -> str:
            while parent[name] != name:
                parent[name] = parent[parent[name]]
                name = parent[name]
            return name

        for value in self.network.quantized:
            parent[name_of(value)] = name_of(value)
        ties = [[layer.output if v in layer.node.outputs else v for v in layer.operator.ties(layer.node)]
                for layer in self.network.layers]
        ties += [list(operator(node).ties(node)) for node in self.network.movers()]
        for values in ties:
            tied = [name_of(self.network.source(v)) for v in values]
            for other in tied[1:]:
                a, b = find(tied[0]), find(other)
                if a != b:
                    parent[b] = a
        groups: dict[str, Group] = {}
        for name in parent:
            group = groups.setdefault(find(name), Group())
            group.members.append(name)
            self._group[name] = group

    def groups(self) -> list[Group]:
        """Tensors that must share an exponent, in execution order of their first member."""
        return list({id(g): g for g in self._group.values()}.values())

    def codes(self, name: str, exponent: int) -> tuple[int, int]:
        """Code range of a requantized tensor at an exponent."""
        return self.target.codes(self._bounds.get(name, (-math.inf, math.inf)), exponent)

    def cost(self, group: Group, exponent: int) -> float:
        """Summed mean squared error of a group's tensors at an exponent."""
        if exponent not in group.cost:
            group.cost[exponent] = sum(
                self._histograms[m].error(exponent, *self.codes(m, exponent)) for m in group.members
            )
        return group.cost[exponent]

    def best(self, group: Group) -> int:
        """The preferred exponent, else the one of least cost."""
        for member in group.members:
            if member in self._preferred:
                return self._preferred[member]
        peaks = [(self._histograms[m].peak, m) for m in group.members]
        peak, member = max(peaks)
        if peak == 0.0:
            return _DEAD
        lo, hi = self.codes(member, -60)
        if (lo, hi) == (0, 0):
            return _DEAD  # clipped to zero
        top = no_clip(peak, max(hi, -lo - 1))
        return min(range(top, top - FINER - 1, -1), key=lambda e: (self.cost(group, e), -e))

    # -- legality -----------------------------------------------------------------------------------------------------

    def _accumulator(self, layer: Layer) -> int:
        return self.network.accumulator_exponent(layer, self._exponent)

    def _exponent(self, name: str) -> int:
        group = self._group.get(name)
        return self._weights[name] if group is None else group.exponent

    def _of(self, value: ir.Value) -> Group:
        return self._group[name_of(self.network.source(value))]

    def _legalize(self) -> None:
        low, high = self.target.shift
        for attempt in range(64):
            changed = False
            for layer in self.network.layers:
                changed |= self._fit_int32(layer)
                out, source = self._of(layer.output), self._of(layer.inputs[0])
                shift = out.exponent - self._accumulator(layer)
                weight = layer.operator.weight(layer.node)
                if shift < low:
                    self._raise(out, source, low - shift, weight, attempt)
                    changed = True
                elif shift > high and weight is not None:
                    self._weights[name_of(weight)] += shift - high
                    changed = True
                elif shift > high:
                    source.exponent += shift - high
                    changed = True
            if not changed:
                return
        raise TargetError(f"no exponents give every layer a shift between {low} and {high}; "
                          "check the model for weights of extreme size")

    def _raise(self, out: Group, source: Group, missing: int, weight: ir.Value | None, attempt: int) -> None:
        collapsed = any(lo == hi for lo, hi in (self.codes(m, out.exponent + missing) for m in out.members))
        if weight is not None and (out is source or collapsed or attempt > 16):
            self._weights[name_of(weight)] -= missing
            return
        coarser = self.cost(out, out.exponent + missing) - self.cost(out, out.exponent)
        finer = self.cost(source, source.exponent - missing) - self.cost(source, source.exponent)
        if weight is None and finer < coarser and attempt < 8:
            source.exponent -= missing
        else:
            out.exponent += missing

    def _fit_int32(self, layer: Layer) -> bool:
        """Coarsen a weight until the accumulator, bias and half included, is well inside int32; true if it changed."""
        weight, bias = layer.operator.weight(layer.node), layer.operator.bias(layer.node)
        out = self._of(layer.output).exponent
        if weight is None or self._fitted.get(layer.name) == (self._accumulator(layer), out):
            return False
        name = name_of(weight)
        before = self._weights[name]
        w = graph.required_constant(weight)
        b = 0.0 if bias is None else float(np.abs(graph.required_constant(bias)).max(initial=0.0))
        for _ in range(64):
            exponent = self._weights[name]
            codes = numerics.quantize(w, exponent, *self.target.weight, "half_even")
            products = int(numerics.weight_bound(codes, -128, 127).max(initial=0))
            offset = math.ldexp(b, -exponent - self._of(layer.inputs[0]).exponent) if b else 0.0
            half = numerics.half(min(out - self._accumulator(layer), self.target.shift[1]))
            if products + offset + half < _HEADROOM * numerics.INT32_BOUND:
                self._fitted[layer.name] = self._accumulator(layer), out
                return self._weights[name] != before
            self._weights[name] += 1
        raise TargetError(f"{graph.where(layer.node)}: the accumulator leaves 32 bits whatever the weight's scale; "
                          "the bias is extreme next to the input")

    # -- result -------------------------------------------------------------------------------------------------------

    def _table(self) -> ScaleTable:
        tensors: dict[str, TensorScale] = {}
        inputs = set(self.network.model.graph.inputs)
        for value in self.network.quantized:
            name = name_of(value)
            exponent = self._group[name].exponent
            role = "input" if value in inputs else "activation"
            tensors[name] = TensorScale(exponent, self.codes(name, exponent), None, role)
        for name, exponent in self._weights.items():
            tensors[name] = TensorScale(exponent, self.target.weight, None, "weight")
        layers = {
            layer.name: LayerScale("", self._of(layer.output).exponent - self._accumulator(layer), "floor", 0)
            for layer in self.network.layers
        }
        return ScaleTable(self.target.name, tensors, layers)


def place(
    network: Network, calibration: Calibration, target: Target, preferred: Mapping[str, int] | None = None
) -> ScaleTable:
    """Choose every exponent (see the module's text)."""
    return Placement(network, calibration, target).solve(preferred)

