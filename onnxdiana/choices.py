"""Which form every layer takes in the hand-over graph, and why: chosen before anything is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from onnxdiana import costs, graph, padding
from onnxdiana.config import Config
from onnxdiana.forms import Forms, Kernel, with_zero_taps
from onnxdiana.graph import name_of
from onnxdiana.layers import Layer, Network
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
    """Of the command line, without its dashes."""
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
    """The forms of a network's layers, and what was decided at convolutions that the accelerator does not take."""

    forms: Forms
    kernels: tuple[Choice, ...]


def choose(view: Network, target: Target, config: Config) -> Plan:
    """The forms of a network's layers.

    Args:
        view: the float network.
        target: what the accelerator takes, and estimates.
        config: the options.
    """
    found: dict[str, Kernel] = {}
    choices: list[Choice] = []
    for layer in view.layers if config.core != "cpu" else ():
        if layer.operator.core(layer.node) != "conv" or not target.judge(layer):
            continue
        own = geometry(layer.node)
        size = graph.required_constant(layer.operator.weight(layer.node)).shape[2:]
        given, output = (graph.sample_shape(value)[1:] for value in (layer.inputs[0], layer.output))
        wider = with_zero_taps(size, own["pads"], own["strides"], own["dilations"], given, output, _ODD)
        before = f"{_by(size)} pads {own['pads']}"
        if list(size) == list(given) and not any(own["pads"]):
            continue  # a mean over the whole map has no other form
        if wider is None:
            applied, reason = False, f"{_reasons(layer, target)}; zero taps do not help"
        elif (wider.size, wider.pads, wider.dilations) == (tuple(size), own["pads"], (1, 1)):
            continue  # something else is in the way
        else:
            applied, reason = _pays(layer, wider, target, config.zero_taps)
        what = f"{before}, kept"
        if applied and wider is not None:
            found[layer.name] = wider
            what = f"{before} as {_by(wider.size)} pads {wider.pads}"
        choices.append(Choice("zero-taps", config.zero_taps, graph.where(layer.node), applied, what, reason))
    return Plan(Forms(found, config.silicon, config.concat, config.zero_bias), tuple(choices))


@contextlib.contextmanager
def written(layer: Layer, kernel: Kernel | None) -> Iterator[Layer]:
    """A layer as the hand-over graph has it; its node lives as long as the context."""
    if kernel is None:
        yield layer
        return
    weight = layer.operator.weight(layer.node)
    assert weight is not None
    wider = ir.Value(name=weight.name, const_value=ir.Tensor(kernel.embed(graph.required_constant(weight))))
    attributes = graph.attributes(layer.node) | {
        "pads": kernel.pads, "dilations": [1, 1], "kernel_shape": list(kernel.size)}
    output = ir.Value(name=layer.name, type=layer.output.type, shape=layer.output.shape)
    node = ir.node("Conv", [layer.node.inputs[0], wider, *layer.node.inputs[2:]], attributes, outputs=[output])
    try:
        yield Layer(layer.name, node, layer.operator, output, layer.bounds)
    finally:
        for index in range(len(node.inputs)):  # or the network's tensors would keep it as a reader
            node.replace_input_with(index, None)


def _pays(layer: Layer, kernel: Kernel, target: Target, setting: str) -> tuple[bool, str]:
    """Whether a convolution gets a kernel with zero taps, and why, or why not."""
    form = f"{_by(kernel.size)} pads {kernel.pads}"
    with written(layer, kernel) as wider:
        if left := target.judge(wider):
            return False, f"not taken as {form} either: {'; '.join(obstacle.reason for obstacle in left)}"
        estimate = target.estimated(wider, target.accelerator)
    floor = costs.cpu_floor(layer.operator.macs(layer.node))
    slowest = None if estimate is None else max((cycles.total for cycles in estimate.cycles), default=None)
    compared = "no estimate for this target" if slowest is None else (
        f"as {form} estimated {slowest:,.0f} cycles on the {target.accelerator} core, at least {floor:,} on the CPU")
    more = kernel.size != tuple(graph.required_constant(layer.operator.weight(layer.node)).shape[2:])
    if setting == "never" or (setting == "auto" and more and (slowest is None or slowest >= floor)):
        return False, f"left on the CPU ({_reasons(layer, target)}); {compared}"
    return True, f"{_reasons(layer, target)}; {compared}"


def _reasons(layer: Layer, target: Target) -> str:
    return "; ".join(obstacle.reason for obstacle in target.judge(layer))


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def explain(
    view: Network, tail: Tail, table: ScaleTable, target: Target, config: Config, plan: Plan
) -> list[Choice]:
    """All choices: those of :func:`choose`, and what follows from the graph and the options alone."""
    found = list(plan.kernels)
    for layer in view.layers:
        place = graph.where(layer.node)
        kind = layer.operator.core(layer.node)
        if kind == "add" and layer.bounds[0] == 0.0:
            safe = config.silicon == "safe"
            found.append(Choice(
                "silicon", config.silicon, place, safe,
                "requantized to [-128, 127], then Relu on the CPU" if safe else "Relu as the requantizer's lower bound",
                "the accelerator's sum has no ReLU" if safe else "faster, but no ReLU for the accelerator (H4)"))
        if kind == "conv" and layer.operator.bias(layer.node) is None:
            found.append(Choice(
                "zero-bias", _flag(config.zero_bias), place, config.zero_bias,
                "a bias, which holds half a step", "HTVM accelerates no convolution without one (W3)"))
    for node in view.movers():
        if node.op_type == "Concat":
            found.append(Choice("concat", config.concat, graph.where(node), config.concat == "convs",
                                "the Add of layers with rows of zeros for the others' channels",
                                "HTVM stops at Concat when it partitions for DIANA"))
    found += _padding(view, tail, table, target, config)
    if tail.operators:
        found.append(Choice("tail", "cut", f"behind '{name_of(view.model.graph.outputs[0])}'", True,
                            f"{', '.join(tail.operators)} in tail.onnx, for the host",
                            "float operators cannot be compared exactly, and HTVM takes one requantized output"))
    return found


def _padding(view: Network, tail: Tail, table: ScaleTable, target: Target, config: Config) -> Iterator[Choice]:
    """Of a classifier that the accelerator does not take as the float model has it."""
    layer = padding.head(view)
    if layer is None:
        return
    place, rows = graph.where(layer.node), graph.sample_shape(layer.output)[0]
    own = padding.own_rows(view, table).get(name_of(layer.output), rows)
    if config.pad_outputs and own < rows:
        yield Choice("pad-outputs", "true", place, True, f"{own} outputs as {rows}",
                     f"the accelerator does not take {own}; the others are always the least code")
        return
    more = padding.missing_rows(view, tail, table, target)
    if isinstance(more, int):
        yield Choice("pad-outputs", _flag(config.pad_outputs), place, False, f"{rows} outputs, kept",
                     f"not asked for: --pad-outputs makes them {rows + more}, which the accelerator takes")
    elif config.pad_outputs:
        yield Choice("pad-outputs", "true", place, False, f"{rows} outputs, kept", more)


def _flag(value: bool) -> str:
    return str(value).lower()
