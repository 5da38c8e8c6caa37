"""Small networks with hand-made integers, and the question whether all spellings of them agree bit for bit."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnxdiana import graph, numerics, reference, spec, targets
from onnxdiana.choices import Plan
from onnxdiana.exporting.htvm import INPUT, handed_over, tensor_names
from onnxdiana.exporting.spellings import Spellings, spell
from onnxdiana.forms import Forms, Kernel, with_zero_taps
from onnxdiana.graph import name_of
from onnxdiana.handoff import interpreter
from onnxdiana.handoff.check import check_model
from onnxdiana.integers import Parameters, complete_table, integerize
from onnxdiana.layers import Network, network
from onnxdiana.loading import OPSET
from onnxdiana.rules.ops.conv import geometry
from onnxdiana.runtime import Runner
from onnxdiana.scales import LayerScale, ScaleTable, TensorScale
from onnxdiana.tail import split

Array = NDArray[Any]
Codes = tuple[int, int]

SIGNED: Codes = (-128, 127)
RELU: Codes = (0, 127)


@dataclass(frozen=True)
class Case:
    """A quantized network."""

    view: Network
    table: ScaleTable
    """Complete: accumulator bounds and cores are in it."""
    parameters: Mapping[str, Parameters]
    fake: Mapping[str, Parameters]
    """Of the fake-quantized model: biases without the half."""
    integer: ir.Model
    forms: Forms = field(default_factory=Forms)
    """Of layers in the hand-over graph."""

    @functools.cached_property
    def spellings(self) -> Spellings:
        """What goes to disk."""
        _, tail = split(self.view.model)
        return spell(self.view, tail, self.table, self.integer, self.parameters, self.fake, {}, Plan(self.forms))

    @property
    def inputs(self) -> list[tuple[str, tuple[int, ...], int]]:
        """Name, sample shape and exponent of each input."""
        return [(name_of(v), graph.sample_shape(v), self.table.exponent(name_of(v)))
                for v in self.view.model.graph.inputs]

    @property
    def accumulators(self) -> list[str]:
        """Names of every int32 tensor in front of a requantizer."""
        return [name_of(node.inputs[0]) for node in self.integer.graph
                if node.op_type == "Requantize" and node.inputs[0] is not None]

    @property
    def bound(self) -> int:
        """Largest proven accumulator."""
        return max(layer.accumulator_bound for layer in self.table.layers.values()) if self.table.layers else 0

    def floats(self, codes: Sequence[Array]) -> dict[str, Array]:
        """Inputs that quantize to these codes, (N, ...) each."""
        return {name: np.ldexp(q.reshape(-1, *shape).astype(np.float32), exponent)
                for (name, shape, exponent), q in zip(self.inputs, codes, strict=True)}


class GraphBuilder:
    """Writes a canonical float graph, and beside it the exponents, shifts and integers of its layers.

    Every method that adds a tensor returns its name. A layer's output has the exponent of its accumulator plus the
    shift.
    """

    def __init__(self, *shape: int, exponent: int = -3, codes: Codes = SIGNED) -> None:
        """Args: shape: of one sample of the first input; exponent, codes: of it."""
        self._inputs: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._tensors: dict[str, TensorScale] = {}
        self._layers: dict[str, LayerScale] = {}
        self._parameters: dict[str, Parameters] = {}
        self._fake: dict[str, Parameters] = {}
        self._exponents: dict[str, int] = {}
        if shape:
            self.input("x", *shape, exponent=exponent, codes=codes)

    def input(self, name: str, *shape: int, exponent: int = -3, codes: Codes = SIGNED) -> str:
        """A further input."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, *shape)))
        self._tensors[name] = TensorScale(exponent, codes, None, "input")
        self._exponents[name] = exponent
        return name

    def exponent(self, name: str) -> int:
        """Exponent of a tensor's codes."""
        return self._exponents[name]

    def codes(self, name: str) -> Codes:
        """Code range of a requantized tensor."""
        return self._tensors[name].codes

    def constant(self, name: str, array: Array) -> str:
        """An initializer."""
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def move(self, op_type: str, inputs: str | Sequence[str], name: str, *constants: Array | None,
             **attributes: Any) -> str:
        """An operator that moves or clips codes; constant inputs (None: left out) come last."""
        values = [inputs] if isinstance(inputs, str) else list(inputs)
        extra = ["" if array is None else self.constant(f"{name}.constant_{i}", array)
                 for i, array in enumerate(constants)]
        self._nodes.append(helper.make_node(op_type, [*values, *extra], [name], **attributes))
        self._exponents[name] = self._exponents[values[0]]
        return name

    def linear(self, op_type: str, value: str, name: str, weight: Array, bias: Array | int = 0, *, shift: int = 0,
               codes: Codes = SIGNED, weight_exponent: int = -7, half: bool = False, **attributes: Any) -> str:
        """Conv or Gemm with these integers, requantized; ``half``: the bias gets half a step more."""
        channels = weight.shape[0]
        plain = np.broadcast_to(np.asarray(bias, np.int64), (channels,))
        exact = plain + (numerics.half(shift) if half else 0)
        exponent = self._exponents[value] + weight_exponent
        attributes |= {"transB": 1} if op_type == "Gemm" else {}
        feed = [value, self.constant(f"{name}.weight", np.ldexp(weight.astype(np.float32), weight_exponent)),
                self.constant(f"{name}.real_bias", np.ldexp(plain.astype(np.float32), exponent))]
        layer = self._requantized(op_type, feed, name, exponent, shift, codes, attributes)
        self._tensors[f"{name}.weight"] = TensorScale(weight_exponent, SIGNED, None, "weight")
        self._parameters[layer] = Parameters(weight.astype(np.int8), exact.astype(np.int32))
        self._fake[layer] = Parameters(weight.astype(np.int8), plain.astype(np.int32))
        assert (self._parameters[layer].bias == exact).all(), "a bias beyond int32"
        return name

    def conv(self, value: str, name: str, weight: Array, bias: Array | int = 0, **options: Any) -> str:
        """A Conv; options as for :meth:`linear`, and attributes."""
        return self.linear("Conv", value, name, weight, bias, **options)

    def gemm(self, value: str, name: str, weight: Array, bias: Array | int = 0, **options: Any) -> str:
        """A Gemm with weight (M, K)."""
        return self.linear("Gemm", value, name, weight, bias, **options)

    def add(self, a: str, b: str, name: str, *, shift: int = 0, codes: Codes = SIGNED) -> str:
        """A requantized sum of two tensors of one exponent."""
        assert self._exponents[a] == self._exponents[b]
        self._requantized("Add", [a, b], name, self._exponents[a], shift, codes, {})
        return name

    def multiply(self, a: str, b: str, name: str, *, shift: int = 0, codes: Codes = SIGNED) -> str:
        """A requantized product of two tensors."""
        self._requantized("Mul", [a, b], name, self._exponents[a] + self._exponents[b], shift, codes, {})
        return name

    def function(self, value: str, name: str, *nodes: str, exponent: int, codes: Codes = SIGNED,
                 **constants: Array) -> str:
        """A table: nodes in ONNX text, with ``x`` and ``y`` for the tensor and its value, and names for constants."""
        parsed = onnx.parser.parse_graph(f"g (float x) => (float y) {{ {' '.join(nodes)} }}")
        named = {"x": value, "y": name, **{k: self.constant(f"{name}.{k}", v) for k, v in constants.items()}}
        for node in parsed.node:
            for side in (node.input, node.output):
                side[:] = [named.setdefault(v, f"{name}.{v}") if v else v for v in side]
            self._nodes.append(node)
        self._exponents[name] = exponent
        self._tensors[name] = TensorScale(exponent, codes, None, "activation")
        self._layers[name] = LayerScale("", 0, "floor", 0)
        return name

    def average(self, value: str, name: str, *, shift: int = 0, codes: Codes = SIGNED, **attributes: Any) -> str:
        """A requantized AveragePool of which padding is no part; its accumulator is 16 bits finer than the input."""
        self._requantized("AveragePool", [value], name, self._exponents[value] - 16, shift, codes, attributes)
        return name

    def mean(self, value: str, name: str, *, shift: int = 0, codes: Codes = RELU) -> str:
        """A requantized GlobalAveragePool."""
        self._requantized("GlobalAveragePool", [value], name, self._exponents[value], shift, codes, {})
        return name

    def _requantized(self, op_type: str, feed: list[str], name: str, exponent: int, shift: int, codes: Codes,
                     attributes: dict[str, Any]) -> str:
        """The node and, where the codes are not all of int8, the Relu or Clip that says so; the layer's name."""
        layer = name if codes == SIGNED else f"{name}.unclipped"
        self._nodes.append(helper.make_node(op_type, feed, [layer], **attributes))
        step = 2.0 ** (exponent + shift)
        if codes == RELU:
            self._nodes.append(helper.make_node("Relu", [layer], [name]))
        elif codes != SIGNED:
            bounds = [self.constant(f"{name}.{side}", np.array(code * step, np.float32))
                      for side, code in zip(("lo", "hi"), codes, strict=True)]
            self._nodes.append(helper.make_node("Clip", [layer, *bounds], [name]))
        self._exponents[name] = exponent + shift
        self._tensors[name] = TensorScale(exponent + shift, codes, None, "activation")
        self._layers[layer] = LayerScale("", shift, "floor", 0)
        return layer

    def float_graph(self, *outputs: str) -> ir.Model:
        """The canonical graph: batch open, every shape known."""
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        proto = helper.make_model(
            helper.make_graph(self._nodes, "g", self._inputs, results, self._constants),
            opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))
        for value in (*model.graph.inputs, *(v for node in model.graph for v in node.outputs)):
            value.shape = ir.Shape([graph.BATCH, *graph.sample_shape(value)])
        spec.verify_canonical(model)
        return model

    def build(self, *outputs: str, target: str = "diana", forms: Forms | None = None) -> Case:
        """The quantized network."""
        view = network(self.float_graph(*outputs))
        table = ScaleTable(target, self._tensors, self._layers)
        integer = integerize(view, table, self._parameters)
        table = complete_table(view, table, integer, targets.load(target), "auto")
        return Case(view, table, self._parameters, self._fake, integer, forms or Forms())


def extremes(case: Case, seed: int = 0, random: int = 3) -> list[Array]:
    """Codes for every input: all at either end, alternating, zero, and random ones: (N, ...) each."""
    rng = np.random.default_rng(seed)
    found = []
    for name, shape, _ in case.inputs:
        lo, hi = case.table.tensors[name].codes
        flip = np.indices(shape).sum(axis=0) % 2
        fixed = [np.full(shape, lo), np.full(shape, hi), np.where(flip, lo, hi), np.where(flip, hi, lo),
                 np.full(shape, min(max(0, lo), hi))]
        found.append(np.stack([*fixed, *rng.integers(lo, hi, (random, *shape), endpoint=True)]))
    if len(found) > 1:  # one input at one end, another at the other
        found = [np.concatenate([q, np.roll(q, i, axis=0)]) for i, q in enumerate(found)]
    return found


def assert_equal(expected: Mapping[str, Array], found: Mapping[str, Array], names: Sequence[str], where: str) -> None:
    """The same integers, whatever type carries them; shapes may differ by flattening."""
    for name in names:
        a, b = expected[name], np.asarray(found[name])
        np.testing.assert_array_equal(b.reshape(a.shape), a, err_msg=f"{where}: {name}", strict=False)


def agree(case: Case, codes: Sequence[Array] | None = None, *, obstacle: str | None = None) -> dict[str, Array]:
    """Run every spelling on some codes and compare each requantizer, each accumulator and each output.

    Args:
        case: the network.
        codes: of every input, (N, ...); by default the extremes.
        obstacle: what every reason against a hand-over says; None where there is none.

    Returns:
        The reference's tensors.
    """
    return agree_on_floats(case, case.floats(extremes(case) if codes is None else codes), obstacle=obstacle)


def agree_on_floats(case: Case, inputs: Mapping[str, Array], *, obstacle: str | None = None) -> dict[str, Array]:
    """The same on floats, (N, ...) by input name."""
    tensors, outputs = tensor_names(case.integer), [name_of(v) for v in case.integer.graph.outputs]
    exact = [*tensors, *case.accumulators, *outputs]
    expected = reference.run(case.integer, inputs, exact)
    assert all(expected[name].dtype == np.int8 for name in tensors)
    for name in case.accumulators:
        layer = name.removesuffix(".accumulator")
        assert np.abs(expected[name]).max() <= case.table.layers[layer].accumulator_bound
    found = Runner(case.spellings.integer, exact).run(inputs)
    assert all(found[name].dtype == np.int8 for name in tensors)
    assert all(found[name].dtype == np.int32 for name in case.accumulators)
    assert_equal(expected, found, exact, "model.int.onnx")
    if obstacle is not None:
        assert case.spellings.htvm is None
        assert case.spellings.obstacles
        assert all(obstacle in reason for reason in case.spellings.obstacles), case.spellings.obstacles
        return expected
    assert case.spellings.htvm is not None, case.spellings.obstacles
    _agree_handed_over(case, next(iter(inputs.values())), outputs[0])
    return expected


def _agree_handed_over(case: Case, x: Array, output: str) -> None:
    """The hand-over graph on inputs (N, ...), and the checker's word that HTVM takes it."""
    proto, tensors = case.spellings.htvm, case.spellings.handed
    assert proto is not None
    assert not check_model(proto).errors, check_model(proto).errors
    expected = reference.run(case.integer, {case.inputs[0][0]: x}, [*tensors, output])
    final = proto.graph.output[0].name
    runner = Runner(proto, [*tensors, final]) if case.bound < numerics.FLOAT32_EXACT else None
    x = handed_over(case.integer, x)
    expected[tensors[0]] = handed_over(case.integer, expected[tensors[0]])
    for i in range(len(x)):
        one = {name: expected[name][i:i + 1] for name in (*tensors, output)}
        feed = {INPUT: x[i:i + 1]}
        found = interpreter.run(proto, feed, tensors)
        assert all(found[name].dtype == np.int8 for name in tensors)
        assert_equal(one, found | {output: found[final]}, [*tensors, output], f"the dialect, sample {i}")
        if runner is not None:
            floats = runner.run(feed)
            assert_equal(one, floats | {output: floats[final]}, [*tensors, output], f"htvm/model.onnx, sample {i}")


def edges(shape: Sequence[int], seed: int = 0) -> dict[str, Array]:
    """Weights of a shape: all at either end, zero, alternating, random."""
    rng = np.random.default_rng(seed)
    flip = np.indices(tuple(shape)).sum(axis=0) % 2
    return {"least": np.full(shape, -128), "largest": np.full(shape, 127), "zero": np.zeros(shape, int),
            "alternating": np.where(flip, -128, 127), "random": rng.integers(-128, 127, shape, endpoint=True)}


def float32_below(limit: int) -> int:
    """The largest integer of at most this magnitude that float32 holds, sign kept."""
    size = max(0, abs(limit).bit_length() - 24)
    return (abs(limit) >> size << size) * (1 if limit > 0 else -1)


def ended(build: GraphBuilder, value: str) -> Case:
    """A graph that ends in a layer ``y`` which keeps every code of a tensor, flattened."""
    shape = graph.sample_shape(build.float_graph(value).graph.outputs[0])
    if len(shape) > 1:
        value = build.move("Flatten", value, "y.flat", axis=1)
    return build.build(build.gemm(value, "y", np.eye(math.prod(shape), dtype=int), weight_exponent=0))


class RandomNetwork:
    """Draws a small network of every operator, with integers of every size; see :func:`networks`."""

    def __init__(self, draw: st.DrawFn, limit: int) -> None:
        self.draw = draw
        self.limit = limit
        self.shape = tuple(draw(st.integers(lo, 6)) for lo in (1, 2, 2))
        self.build = GraphBuilder(*self.shape, exponent=draw(st.integers(-9, 3)),
                                  codes=draw(st.sampled_from([SIGNED, SIGNED, RELU, (-100, 90)])))
        self.current = "x"
        self.lowest = {"x": self.build.codes("x")[0]}
        self.seen: list[tuple[str, tuple[int, ...]]] = [("x", self.shape)]
        self.kinds = ["conv", "conv", "depthwise", "add", "pool", "pad", "slice", "transpose", "relu", "concat"]
        self.layers: set[str] = set()

    def integers(self, shape: tuple[int, ...]) -> tuple[Array, int, int]:
        """Weights, a bias that leaves the accumulators below the limit, and a shift that may or may not fit."""
        draw = self.draw
        weight = edges(shape, draw(st.integers(0, 9)))[draw(st.sampled_from(
            ["random"] * 9 + ["least", "largest", "alternating", "zero"]))]
        products = int(numerics.weight_bound(weight, -128, 127).max())
        room = self.limit - 1 - products
        if draw(st.sampled_from([True, True, False])):  # most of the range of the codes is used
            shift = max(0, products.bit_length() - 9)
            bias = draw(st.integers(-min(room, 2**(shift + 6)), min(room, 2**(shift + 6))))
        else:
            shift = draw(st.sampled_from([0, 1, 30, 31]) | st.integers(0, 31))
            bias = draw(st.sampled_from([0, room, -room]) | st.integers(-room, room))
        return weight, float32_below(bias), shift

    def layer(self, op_type: str, value: str, name: str, weight: tuple[int, ...], exponent: int | None = None,
              **attributes: Any) -> str:
        """A Conv or Gemm with random integers, its output at an exponent."""
        draw = self.draw
        own, bias, shift = self.integers(weight)
        exponent = draw(st.integers(-9, 3)) if exponent is None else exponent
        lo = draw(st.integers(-128, 126))
        codes = draw(st.sampled_from([SIGNED, SIGNED, RELU, RELU, (0, 96), (lo, draw(st.integers(lo + 1, 127)))]))
        self.build.linear(op_type, value, name, own, bias, shift=shift, codes=codes,
                          weight_exponent=exponent - shift - self.build.exponent(value),
                          half=self.limit == numerics.FLOAT32_EXACT and bias < self.limit // 4, **attributes)
        self.lowest[name] = codes[0]
        self.layers.add(name)
        return name

    def step(self, name: str) -> None:
        """One more operator on a map."""
        draw, (c, h, w) = self.draw, self.shape
        kind, value = draw(st.sampled_from(self.kinds)), self.current
        lowest = self.lowest[value]
        if kind in ("conv", "depthwise"):
            kernel = [draw(st.integers(1, min(3, size))) for size in (h, w)]
            pads, strides = draw(st.sampled_from([[0] * 4, [1] * 4, [0, 1, 1, 0]])), [draw(st.integers(1, 2))] * 2
            outputs, group = (c, c) if kind == "depthwise" else (draw(st.integers(1, 5)), 1)
            self.layer("Conv", value, name, (outputs, c // group, *kernel), pads=pads, strides=strides, group=group)
            self.shape = (outputs, *((size + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1
                                     for i, size in enumerate((h, w))))
        elif kind == "add":
            other = draw(st.sampled_from([n for n, shape in self.seen if shape == self.shape]))
            same = self.layer("Conv", value, f"{name}.b", (c, c, 1, 1), exponent=self.build.exponent(other))
            codes = draw(st.sampled_from([SIGNED, RELU, (0, 96)]))
            self.layers.add(self.build.add(other, same, name, shift=draw(st.sampled_from([0, 0, 1, 2, 31])),
                                           codes=codes))
            self.lowest[name] = codes[0]
        elif kind == "pool" and min(h, w) > 2:
            self.build.move("MaxPool", value, name, kernel_shape=[2, 2], strides=[2, 1], pads=[0, 1, 0, 0])
            self.shape = (c, (h - 2) // 2 + 1, w)
        elif kind == "pad":
            self.build.move("Pad", value, name, np.array([0, 0, 1, 0, 0, 0, 0, 1]),
                            mode=draw(st.sampled_from(["constant", "edge"] + ["reflect"] * (min(h, w) > 1))))
            self.shape, lowest = (c, h + 1, w + 1), min(lowest, 0)
        elif kind == "slice" and w > 2:
            self.build.move("Slice", value, name, np.array([-1]), np.array([0]), np.array([3]), np.array([-1]))
            self.shape = (c, h, w - 1)
        elif kind == "concat":
            self.build.move("Concat", [value, self.build.move("Relu", value, f"{name}.r")], name, axis=1)
            self.shape = (2 * c, h, w)
        elif kind == "relu" and value not in self.layers:  # behind a layer it would be the layer's own clip
            self.build.move("Relu", value, name)
            lowest = max(lowest, 0)
        else:
            self.build.move("Transpose", value, name, perm=[0, 1, 3, 2])
            self.shape = (c, w, h)
        self.lowest.setdefault(name, lowest)
        self.current = name
        self.seen.append((name, self.shape))

    def head(self) -> str:
        """A mean, a flat layer, both, or nothing at the end."""
        draw, value, (c, h, w) = self.draw, self.current, self.shape
        features = c * h * w
        if self.lowest[value] >= 0 and draw(st.booleans()):
            value, features = self.build.mean(value, "mean", codes=draw(st.sampled_from([RELU, (0, 96)]))), c
            if draw(st.booleans()):
                return self.layer("Conv", value, "y", (draw(st.integers(1, 4)), c, 1, 1))
        if draw(st.booleans()):
            value = self.build.move("Flatten", value, "flat", axis=1)
            if draw(st.booleans()):
                value = self.layer("Gemm", value, "y", (draw(st.integers(1, 4)), features))
        return value


@st.composite
def networks(draw: st.DrawFn, limit: int = numerics.INT32_BOUND) -> Case:
    """A random network whose accumulators stay below a limit, handed over in random forms."""
    network = RandomNetwork(draw, limit)
    for i in range(draw(st.integers(1, 6))):
        network.step(f"t{i}")
    case = network.build.build(network.head())
    wider = kernels(case) if draw(st.booleans()) else {}
    empty = frozenset(name for name, own in case.parameters.items() if not own.bias.any() and draw(st.booleans()))
    forms = Forms(wider, draw(st.sampled_from(["safe", "fast"])), unbiased=empty)
    return dataclasses.replace(case, forms=forms)


def kernels(case: Case) -> dict[str, Kernel]:
    """Zero taps for every 2-d convolution that can have them."""
    found = {}
    for layer in case.view.layers:
        weight = layer.operator.weight(layer.node)
        if layer.node.op_type != "Conv" or weight is None or len(weight.shape or ()) != 4:
            continue
        own = geometry(layer.node)
        sizes = [graph.sample_shape(value)[1:] for value in (layer.inputs[0], layer.output)]
        wider = with_zero_taps(graph.required_constant(weight).shape[2:], own["pads"], own["strides"],
                               own["dilations"], *sizes, range(1, 12, 2))
        if wider is not None:
            found[layer.name] = wider
    return found


def check_interface(case: Case, model: onnx.ModelProto) -> None:
    """Names, float32 and the open batch of the float model."""
    source = case.view.model.graph
    for ours, theirs in ((model.graph.input, source.inputs), (model.graph.output, source.outputs)):
        assert [v.name for v in ours] == [name_of(v) for v in theirs]
        for a, b in zip(ours, theirs, strict=True):
            first, *rest = a.type.tensor_type.shape.dim
            assert a.type.tensor_type.elem_type == TensorProto.FLOAT
            assert first.dim_param == graph.BATCH
            assert tuple(d.dim_value for d in rest) == graph.sample_shape(b)
