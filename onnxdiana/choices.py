"""Which form every layer takes in the hand-over graph, and why: chosen before anything is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxdiana import costs, graph, padding
from onnxdiana.config import Config
from onnxdiana.forms import Forms, Kernel, with_a_row_of_zeros, with_zero_taps
from onnxdiana.graph import name_of
from onnxdiana.integers import Parameters
from onnxdiana.layers import Layer, Network, with_weight
from onnxdiana.rules.ops.conv import geometry
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail
from onnxdiana.targets import Target

_ODD = range(1, 16, 2)
"""Kernel sizes that are tried."""


@dataclass(frozen=True)
class Choice:
    """One place at which the hand-over graph could be written in more than one way."""

    option: str
    """Of the command line, without its dashes; ``tail`` has none: it is always cut off."""
    setting: str
    place: str
    """Operator type and output tensor."""
    applied: bool
    """Whether the graph is written otherwise than the float model has it."""
    what: str
    reason: str

    def entry(self) -> dict[str, Any]:
        """For ``summary.json``."""
        return {"option": self.option, "setting": self.setting, "place": self.place, "applied": self.applied,
                "what": self.what, "reason": self.reason}


@dataclass(frozen=True)
class Plan:
    """How a network is handed over."""

    forms: Forms
    kernels: tuple[Choice, ...] = ()
    """What was decided at convolutions that the accelerator does not take as they are."""
    own: int | None = None
    """Outputs of the classifier that are its own, where more were added."""


def choose(
    view: Network, target: Target, config: Config, parameters: Mapping[str, Parameters] | None = None,
    own: int | None = None, recorded: Mapping[str, bool] | None = None,
) -> Plan:
    """The forms of a network's layers.

    Args:
        view: the float network.
        target: what the accelerator takes, and estimates.
        config: the options.
        parameters: integers of the linear layers, where they are known.
        own: outputs of the classifier that are its own, where more were added.
        recorded: where zero taps were applied (:attr:`Choice.place`), and whether for the accelerator, for a target
            that cannot be asked.
    """
    found: dict[str, Kernel] = {}
    kept: set[str] = set()
    choices: list[Choice] = []
    for layer in view.layers if config.core != "cpu" else ():
        place = graph.where(layer.node)
        if config.zero_taps != "never" and (
                target.offloaded_anyway(layer) if recorded is None else recorded.get(place) is False):
            kept.add(layer.name)
            found[layer.name], what = _refused(layer)
            choices.append(Choice(
                "zero-taps", config.zero_taps, place, True, what,
                "the compiler would offload it, and the accelerator computes it otherwise (H6, H7)"))
            continue
        wider, form = _wider(layer)
        if form is None or (recorded is None and not target.judge(layer)):
            continue
        if wider is None:
            applied, reason = False, f"{_reasons(layer, target)}; zero taps do not help"
        elif recorded is not None:
            applied, reason = recorded.get(place, False), ""
        else:
            applied, reason = _pays(layer, wider, target, config.zero_taps)
        what = f"{form}, kept"
        if applied and wider is not None:
            found[layer.name] = wider
            what = f"{form} as {_form(wider.size, wider.pads)}"
        choices.append(Choice("zero-taps", config.zero_taps, place, applied, what, reason))
    unbiased = [name for name, given in (parameters or {}).items() if not config.zero_bias and not given.bias.any()]
    convolutions = frozenset(layer.name for layer in view.layers if layer.operator.core(layer.node) == "conv")
    forms = Forms(found, frozenset(kept), config.silicon, config.concat, convolutions.intersection(unbiased))
    return Plan(forms, tuple(choices), own)


def _refused(layer: Layer) -> tuple[Kernel, str]:
    """A kernel with which the compiler leaves a convolution on the CPU, and what it is instead of."""
    size, pads = graph.required_constant(layer.operator.weight(layer.node)).shape[2:], geometry(layer.node)["pads"]
    kernel = with_a_row_of_zeros(size, pads)
    return kernel, f"{_form(size, pads)} as {_form(kernel.size, kernel.pads)}, on the CPU"


def _wider(layer: Layer) -> tuple[Kernel | None, str | None]:
    """A larger kernel for a convolution, None where none holds it; its own kernel, None where it is none to ask."""
    if layer.operator.core(layer.node) != "conv":
        return None, None
    own, size = geometry(layer.node), graph.required_constant(layer.operator.weight(layer.node)).shape[2:]
    given, output = (graph.sample_shape(value)[1:] for value in (layer.inputs[0], layer.output))
    if size == given and not any(own["pads"]):
        return None, None  # a mean over the whole map has no other form
    wider = with_zero_taps(size, own["pads"], own["strides"], own["dilations"], given, output, _ODD)
    if wider is not None and (wider.size, wider.pads, wider.dilations) == (size, own["pads"], (1, 1)):
        return None, None  # something else is in the way
    return wider, _form(size, own["pads"])


@contextlib.contextmanager
def written(layer: Layer, kernel: Kernel | None) -> Iterator[Layer]:
    """A layer with the kernel that it has in the hand-over graph; its node lives as long as the context."""
    if kernel is None:
        yield layer
        return
    weight = kernel.embed(graph.required_constant(layer.operator.weight(layer.node)))
    with with_weight(layer, weight, graph.sample_shape(layer.output), pads=kernel.pads, dilations=[1, 1],
                     kernel_shape=list(kernel.size)) as found:
        yield found


def _pays(layer: Layer, kernel: Kernel, target: Target, setting: str) -> tuple[bool, str]:
    """Whether a convolution gets a kernel with zero taps, and why, or why not."""
    form = _form(kernel.size, kernel.pads)
    with written(layer, kernel) as wider:
        if left := target.judge(wider):
            return False, f"not taken as {form} either: {'; '.join(obstacle.reason for obstacle in left)}"
        estimate = target.estimated(wider, target.accelerator)
    if estimate is not None and estimate.memory is not None and not estimate.memory.feasible:
        return False, f"as {form} it has no tiles: {'; '.join(estimate.memory.because)}"
    floor = costs.cpu_floor(layer.operator.macs(layer.node))
    slowest = None if estimate is None else max((cycles.total for cycles in estimate.cycles), default=None)
    compared = "no estimate for this target" if slowest is None else (
        f"as {form} estimated {slowest:,.0f} cycles on the {target.accelerator} core, at least {floor:,} on the CPU")
    more = kernel.size != graph.required_constant(layer.operator.weight(layer.node)).shape[2:]
    if setting == "never" or (setting == "auto" and more and (slowest is None or slowest >= floor)):
        return False, f"left on the CPU ({_reasons(layer, target)}); {compared}"
    return True, f"{_reasons(layer, target)}; {compared}"


def _reasons(layer: Layer, target: Target) -> str:
    return "; ".join(obstacle.reason for obstacle in target.judge(layer))


def _form(kernel: Sequence[int], pads: Sequence[int]) -> str:
    return f"{'x'.join(map(str, kernel))} pads {list(pads)}"


def explain(
    view: Network, tail: Tail, table: ScaleTable, target: Target, config: Config, plan: Plan
) -> list[Choice]:
    """All choices: those of :func:`choose`, and what follows from the graph and the options alone."""
    found = list(plan.kernels)
    for layer in view.layers:
        kind = layer.operator.core(layer.node)
        if kind == "add" and table.tensors[name_of(layer.output)].codes[0] == 0:
            safe = config.silicon == "safe"
            found.append(Choice(
                "silicon", config.silicon, graph.where(layer.node), safe,
                "requantized to [-128, 127], then Relu on the CPU" if safe else "Relu as the requantizer's lower bound",
                "the accelerator's sum has no ReLU" if safe else "faster, but no ReLU for the accelerator (H4)"))
        elif kind == "conv":
            found += _bias(layer, config, plan.forms)
    for node in view.movers():
        if node.op_type == "Concat":
            found.append(Choice("concat", config.concat, graph.where(node), config.concat == "convs",
                                "the Add of layers with rows of zeros for the others' channels",
                                "HTVM stops at Concat when it partitions for DIANA"))
    if config.core != "cpu":
        found += _padding(view, tail, table, target, config, plan)
    if tail.operators:
        found.append(Choice("tail", "cut", f"behind '{name_of(view.model.graph.outputs[0])}'", True,
                            f"{', '.join(tail.operators)} in tail.onnx, for the host",
                            "float operators cannot be compared exactly, and HTVM takes one requantized output"))
    return found


def _bias(layer: Layer, config: Config, forms: Forms) -> Iterator[Choice]:
    """Of a convolution that has a bias in one graph and none in the other."""
    given, dropped = layer.operator.bias(layer.node) is not None, layer.name in forms.unbiased
    place, setting = graph.where(layer.node), _flag(config.zero_bias)
    if dropped:
        yield Choice("zero-bias", setting, place, given, "no bias",
                     "all of it is zero; the convolution stays on the CPU (W3)")
    elif not given:
        yield Choice("zero-bias", setting, place, True, "a bias: half a step where there is a shift, else zeros",
                     "HTVM accelerates no convolution without one (W3)")


def _padding(
    view: Network, tail: Tail, table: ScaleTable, target: Target, config: Config, plan: Plan
) -> Iterator[Choice]:
    """Of a classifier that the accelerator does not take as the float model has it."""
    layer = padding.head(view)
    if layer is None:
        return
    place, rows = graph.where(layer.node), graph.sample_shape(layer.output)[0]
    if plan.own is not None:
        yield Choice("pad-outputs", "true", place, True, f"{plan.own} outputs as {rows}",
                     f"the accelerator does not take {plan.own}; the others are always the least code")
        return
    more = padding.missing_rows(view, tail, table, target)
    if isinstance(more, int):
        yield Choice("pad-outputs", _flag(config.pad_outputs), place, False, f"{rows} outputs, kept",
                     f"not asked for: --pad-outputs makes them {rows + more}, which the accelerator takes")
    elif config.pad_outputs:
        yield Choice("pad-outputs", "true", place, False, f"{rows} outputs, kept", more)


def _flag(value: bool) -> str:
    return str(value).lower()
