"""What quantization would make of a model, without data: layers, cores, every reason, and what to change in training.

Nothing is run: the model is loaded and canonicalized, and the target is asked about every layer.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import onnx_ir as ir

from onnxdiana import canonical, graph, loading, spec, tail, targets, user_rules
from onnxdiana.choices import choose, written
from onnxdiana.config import Config, checked
from onnxdiana.costs import Estimate, cpu_floor
from onnxdiana.costs.layers import activation_bytes
from onnxdiana.forms import Forms, Kernel
from onnxdiana.graph import name_of
from onnxdiana.layers import Layer, Network, network
from onnxdiana.rules.ops import Operator, operator
from onnxdiana.targets import Obstacle, Target

CPU = "cpu"


@dataclass(frozen=True)
class Line:
    """One layer, or another node that works on codes."""

    name: str
    """Output tensor, behind the bounds that the requantizer takes over."""
    operator: str
    """ONNX operator type, with its domain where that is not ONNX's own; of a table, all that are in it."""
    form: str
    """The operator as people say it, with kernel, stride and what is fused: ``depthwise 3x3 s2 + Relu``."""
    shape: tuple[int, ...] | None
    """Of one sample; None where it is not known."""
    macs: int | None
    """Multiply-accumulates for one sample; None without a quantized form, or where a shape is not known."""
    parameters: int | None
    weight_bytes: int
    """Weights as int8 and biases as int32."""
    core: str | None
    """Where it would run; None without a quantized form, or where a shape is not known."""
    obstacles: tuple[Obstacle, ...] = ()
    """Every reason why not on the accelerator."""
    findings: tuple[str, ...] = ()
    """Every reason why it has no quantized form, each with what to use instead."""
    estimate: Estimate | None = None
    """Cycles, energy and memory on :attr:`core`; None where no model knows it, such as on the CPU."""
    zero_taps: tuple[int, int] | None = None
    """Height and width of the larger kernel, the taps beyond the model's zero, with which alone the accelerator takes
    the layer; MACs and parameters are those without."""


@dataclass(frozen=True)
class Advice:
    """A change of the training code, and what it moves to the accelerator."""

    remedy: str
    """With the numbers of the first layer."""
    layers: tuple[str, ...]
    """Those that need a change of this kind and no other, the largest first."""
    macs: int
    """Of these layers, for one sample."""
    uniform: bool
    """Whether the numbers are the same for all layers."""


@dataclass(frozen=True)
class Inspection:
    """The answer of :func:`inspect`."""

    name: str
    """Of the model file."""
    sha256: str
    opset: int
    producer: str
    notes: tuple[str, ...]
    """What was converted while loading."""
    inputs: Mapping[str, tuple[int, ...]]
    """Sample shapes."""
    target: str
    accelerator: str
    lines: tuple[Line, ...]
    """In execution order."""
    activation_bytes: int | None
    """Most bytes of int8 activations alive at once; None where something has no quantized form."""
    memory: int | None
    """Bytes that the target has for weights, activations and code; None where it does not tell."""

    @property
    def quantizable(self) -> bool:
        """Whether every node has a quantized form."""
        return not any(line.findings for line in self.lines)

    @property
    def macs(self) -> int:
        """Of all lines where they are known."""
        return sum(line.macs or 0 for line in self.lines)

    @property
    def macs_by_core(self) -> dict[str, int]:
        """The accelerator first."""
        return {core: sum(line.macs or 0 for line in self.lines if line.core == core)
                for core in (self.accelerator, CPU)}

    @property
    def parameters(self) -> int:
        """Weights and biases of all lines where they are known."""
        return sum(line.parameters or 0 for line in self.lines)

    @property
    def weight_bytes(self) -> int:
        """Weights as int8 and biases as int32."""
        return sum(line.weight_bytes for line in self.lines)

    @property
    def memory_bytes(self) -> int | None:
        """Least bytes of :attr:`memory` that the network takes, code left out."""
        return None if self.activation_bytes is None else self.weight_bytes + self.activation_bytes

    @property
    def cpu_cycles(self) -> int:
        """Cycles that the CPU takes at least, which no estimate has: :func:`onnxdiana.costs.cpu_floor`."""
        return cpu_floor(self.macs_by_core[CPU])

    @property
    def advice(self) -> tuple[Advice, ...]:
        """What moves most to the accelerator first; layers whose remedies differ only in numbers are one advice."""
        groups: dict[str, list[tuple[Line, str]]] = {}
        for line in self.lines:
            if line.obstacles and all(obstacle.remedy for obstacle in line.obstacles):
                remedy = "; ".join(dict.fromkeys(obstacle.remedy for obstacle in line.obstacles))
                groups.setdefault(re.sub(r"\d+", "#", remedy), []).append((line, remedy))
        found = []
        for members in groups.values():
            members.sort(key=lambda member: -(member[0].macs or 0))
            found.append(Advice(members[0][1], tuple(line.name for line, _ in members),
                                sum(line.macs or 0 for line, _ in members), len({r for _, r in members}) == 1))
        return tuple(sorted(found, key=lambda advice: -advice.macs))


def inspect(model: Any, config: Config | None = None) -> Inspection:
    """Tell what would become of a model, without data.

    Args:
        model: path of an ONNX file, an ``onnx.ModelProto`` or an ``onnx_ir.Model`` (not changed).
        config: ``target``, ``input_shape``, ``rules`` and ``zero_taps`` of it; cores are those of ``core="auto"``.

    Raises:
        ModelError: the file or its interface is at fault. Operators without a quantized form raise nothing: they are
            lines with findings, unless they keep an old opset from being raised (:class:`UnsupportedOpError`).
        RulesError: the user's rules are none, or fail.
        TargetError: no such target, or one that fails on a layer.
    """
    config = checked(config)
    target = targets.load(config.target)
    loaded = loading.load(model, config.input_shape)
    original, notes = loaded.model, loaded.notes
    if config.rules is not None:
        original, fired = user_rules.load(config.rules).apply(original)
        notes += tuple(f"rule '{rule}' applied at {places} place(s)" for rule, places in fired)
    form, applied = canonical.rewritten(original)
    findings = spec.obstacles(form.graph)
    alive = None
    if findings:
        floating = tail.tail_nodes(form.graph)  # elsewhere it is split off
        lines = _lines(network(form, floating.union(findings)), target, findings, floating)
    else:
        form, rest = tail.split(canonical.accepted(form, applied).model)
        view = network(form)
        alive = activation_bytes(view)
        lines = _lines(view, target, forms=choose(view, target, dataclasses.replace(config, core="auto")).forms)
        lines += [_floating(node) for node in (rest.model.graph if rest.model else ())]
    return Inspection(
        loaded.name, loaded.sha256, loaded.opset, loaded.producer, notes,
        {name_of(v): graph.sample_shape(v) for v in form.graph.inputs}, target.name, target.accelerator, tuple(lines),
        alive, target.memory)


def _lines(view: Network, target: Target, findings: Mapping[ir.Node, Sequence[str]] = MappingProxyType({}),
           floating: Container[ir.Node] = (), forms: Forms | None = None) -> list[Line]:
    layers = {layer.node: layer for layer in view.layers}
    lines = []
    for node in view.model.graph:
        if node in findings:
            lines.append(_other(node, None, findings=tuple(findings[node])))
        elif node in floating:
            lines.append(_floating(node))
        elif node in layers:
            lines.append(_layer(layers[node], target, None if forms is None else forms.accelerated(layers[node].name)))
        elif node not in view.fused:
            lines.append(_other(node, CPU, Obstacle(f"no accelerator form of {node.op_type}")))
    return lines


def _floating(node: ir.Node) -> Line:
    return _other(node, CPU, Obstacle("in float, behind the last layer; not handed over"))


def _other(node: ir.Node, core: str | None, *obstacles: Obstacle, findings: tuple[str, ...] = ()) -> Line:
    """A node that is no layer."""
    output = next(value for value in node.outputs if value.name)  # the first one may be left out
    none = None if findings else 0
    return Line(name_of(output), _type(node), _form(node), _shape(output), none, none, 0, core, obstacles, findings)


def _layer(layer: Layer, target: Target, kernel: Kernel | None) -> Line:
    node, op = layer.node, layer.operator
    shape = _shape(layer.output)
    form = f"table of {layer.operation}" if layer.function is not None else _form(node, op)
    form += "".join(f" + {bound}" for bound in _bounds(layer))
    weight, bias = (graph.constant(value) for value in (op.weight(node), op.bias(node)))
    weights, biases = (0 if array is None else array.size for array in (weight, bias))
    # the integer model has a bias for every channel, whether the float one has or not
    weight_bytes = 0 if weight is None else weights + 4 * len(weight)
    if shape is None or any(_shape(value) is None for value in layer.inputs):  # behind a node that says nothing
        return Line(name_of(layer.output), layer.operation, form, shape, None, weights + biases, weight_bytes, None)
    with written(layer, kernel) as handed:
        obstacles = tuple(target.judge(handed))
        core = CPU if obstacles else target.accelerator
        estimate = target.estimated(handed, core)
    return Line(name_of(layer.output), layer.operation, form, shape, op.macs(node), weights + biases, weight_bytes,
                core, obstacles, estimate=estimate, zero_taps=None if kernel is None else kernel.size)


def _type(node: ir.Node) -> str:
    return node.op_type if graph.is_default_domain(node.domain) else f"{node.domain}::{node.op_type}"


def _shape(value: ir.Value) -> tuple[int, ...] | None:
    dims = graph.dims(value)
    return None if dims is None or None in dims[1:] else graph.sample_shape(value)


def _bounds(layer: Layer) -> list[str]:
    """Operator types of the bounds that the requantizer takes over."""
    found, value = [], layer.output
    while value is not layer.node.outputs[0]:
        node = value.producer()
        assert node is not None
        found.append(node.op_type)
        value = operator(node).codes(node)[0]
    return found[::-1]


def _form(node: ir.Node, op: Operator | None = None) -> str:
    """Operator type, kernel, stride, dilation and groups, where they are not 1."""
    weight = graph.constant(op.weight(node)) if op is not None else None
    kernel = graph.attribute(node, "kernel_shape") or ([] if weight is None else list(weight.shape[2:]))
    group = graph.attribute(node, "group", 1)
    depthwise = group > 1 and weight is not None and weight.shape[1] == 1
    words = ["depthwise" if depthwise else _type(node), "x".join(map(str, kernel))]
    for letter, sizes in (("s", "strides"), ("d", "dilations")):
        steps = graph.attribute(node, sizes, [])
        if any(step != 1 for step in steps):
            words.append(letter + "x".join(map(str, steps if len(set(steps)) > 1 else steps[:1])))
    if group > 1 and not depthwise:
        words.append(f"{group} groups")
    return " ".join(word for word in words if word)
