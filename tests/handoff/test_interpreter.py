"""The int32 interpreter against onnxruntime, the original toolkit's vectors and plain numpy; and what it refuses."""

from __future__ import annotations

import ast
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxdiana.errors import CalibrationError, HandoffError
from onnxdiana.handoff import interpreter


class Builder:
    """Writes a hand-over graph; every method returns the name of the tensor that it adds."""

    def __init__(self, *shape: int) -> None:
        self.shape = (1, *shape)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: object, dtype: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def node(self, op_type: str, output: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def moved(self, op_type: str, output: str, value: str, *indices: object, **attributes: object) -> str:
        named = [self.constant(f"{output}.{i}", v, np.int64) for i, v in enumerate(indices)]
        return self.node(op_type, output, value, *named, **attributes)

    def resize(self, output: str, value: str, *sizes: int) -> str:
        empty = [self.constant(f"{output}.{role}", []) for role in ("roi", "scales")]
        return self.node("Resize", output, value, *empty, self.constant(f"{output}.sizes", sizes, np.int64),
                         mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def clip(self, output: str, value: str, divisor: float | None, lo: int = -128, hi: int = 127) -> str:
        if divisor is not None:
            value = self.node("Div", f"{output}.div", value, self.constant(f"{output}.divisor", [divisor]))
        floor = self.node("Floor", f"{output}.floor", value)
        lower = self.node("Max", f"{output}.max", floor, self.constant(f"{output}.lo", lo))
        return self.node("Min", output, lower, self.constant(f"{output}.hi", hi))

    def linear(self, op_type: str, output: str, value: str, w: object, b: object, **attributes: object) -> str:
        return self.node(op_type, output, value, self.constant(f"{output}.w", w), self.constant(f"{output}.b", b),
                         **attributes)

    def mean(self, output: str, value: str) -> str:
        pooled = self.node("GlobalAveragePool", f"{output}.pooled", value)
        return self.clip(output, self.node("Flatten", f"{output}.flat", pooled, axis=1), None)

    def model(
        self, value: str, *shape: int, divisor: float = 1.0, tail: Callable[[Builder, str], object] | None = None
    ) -> onnx.ModelProto:
        """A tail adds nodes behind the dequantizer, the last of which gives ``output``."""
        real = self.node("Div", "output" if tail is None else "real", value, self.constant("output.divisor", [divisor]))
        if tail is not None:
            tail(self, real)
        graph = helper.make_graph(
            self.nodes, "dialect",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, *shape))], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def codes_of(model: onnx.ModelProto) -> list[str]:
    """Every int8 tensor of a graph: what Min gives, and what moves it."""
    pattern = {"Div", "Floor", "Max", "Conv", "Gemm", "Add", "GlobalAveragePool"}
    pooled = {n.input[0] for n in model.graph.node if n.op_type == "Floor"}
    return [n.output[0] for n in model.graph.node if n.op_type not in pattern and n.output[0] not in pooled]


def in_onnxruntime(model: onnx.ModelProto, x: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(["output", *names], session.run(["output", *names], {"input": x}), strict=True))


def same_as_onnxruntime(model: onnx.ModelProto, x: np.ndarray) -> None:
    same_as_onnxruntime_at(model, x, *codes_of(model))


def same_as_onnxruntime_at(model: onnx.ModelProto, x: np.ndarray, *names: str) -> None:
    expected, found = in_onnxruntime(model, x, list(names)), interpreter.run(model, {"input": x}, names)
    for name in names:
        assert found[name].dtype == np.int8, name
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert found["output"].dtype == np.float32
    np.testing.assert_array_equal(found["output"], expected["output"])


def integers(rng: np.random.Generator, lo: int, hi: int, *shape: int) -> np.ndarray:
    return rng.integers(lo, hi, shape, endpoint=True)


# -- against the original toolkit and onnxruntime ---------------------------------------------------------------------


@pytest.mark.skipif("ONNXDIANA_ZOO" not in os.environ, reason="ONNXDIANA_ZOO is unset: it names the zoo's folder")
def test_reproduces_the_original_toolkits_vectors():
    folder = Path(os.environ["ONNXDIANA_ZOO"]) / "original_export"
    model = onnx.load(folder / "resnet8.onnx")
    clipped = [n.output[0] for n in model.graph.node if n.op_type == "Min"]
    found = interpreter.run(model, {"input": np.load(folder / "input.npy")}, clipped)
    vectors = sorted(folder.glob("intermediate_*.npy"))
    assert vectors
    for path in vectors:
        np.testing.assert_array_equal(found[clipped[int(path.stem.split("_")[1])]], np.load(path))
    np.testing.assert_array_equal(found["output"], np.load(folder / "output.npy"))


GEOMETRIES = [
    {"kernel": (3, 3), "pads": [1, 1, 1, 1]},
    {"kernel": (1, 1), "pads": [1, 0, 0, 1]},
    {"kernel": (2, 4), "pads": [0, 1, 1, 2], "strides": [2, 3]},
    {"kernel": (3, 2), "dilations": [2, 3], "pads": [2, 0, 1, 3]},
    {"kernel": (3, 3), "group": 2, "strides": [2, 1]},
    {"kernel": (3, 3), "group": 4, "pads": [1, 1, 1, 1]},
    {"kernel": (9, 7)},
    {"kernel": (3, 3), "auto_pad": "NOTSET", "kernel_shape": [3, 3]},
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_conv_is_onnxruntimes(geometry):
    rng = np.random.default_rng(0)
    attributes = dict(geometry)
    kernel = attributes.pop("kernel")
    build = Builder(4, 9, 7)
    entry = build.clip("entry", "input", 0.0625)
    acc = build.linear("Conv", "acc", entry, integers(rng, -128, 127, 8, 4 // attributes.get("group", 1), *kernel),
                       integers(rng, -2**20, 2**20, 8), **attributes)
    strides, pads, dilations = (attributes.get(k, d) for k, d in
                                (("strides", [1, 1]), ("pads", [0] * 4), ("dilations", [1, 1])))
    sizes = [(size + pads[i] + pads[2 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
             for i, size in enumerate((9, 7))]
    model = build.model(build.clip("y", acc, 2.0**13), 8, *sizes, divisor=32.0)
    same_as_onnxruntime(model, rng.normal(0, 4, (1, 4, 9, 7)).astype(np.float32))


POOLINGS = [
    ({"kernel_shape": [2, 2], "strides": [2, 2]}, (4, 3)),
    ({"kernel_shape": [3, 2], "pads": [1, 0, 2, 1]}, (10, 7)),
    ({"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 1, 0, 2]}, (7, 6)),
    ({"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, (5, 4)),
    ({"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 1, 0, 1], "ceil_mode": 1}, (5, 3)),
    ({"kernel_shape": [2, 2], "strides": [3, 4], "dilations": [2, 2], "ceil_mode": 1, "storage_order": 0}, (3, 2)),
]


@pytest.mark.parametrize(("attributes", "sizes"), POOLINGS, ids=str)
def test_max_pool_is_onnxruntimes(attributes, sizes):
    rng = np.random.default_rng(1)
    build = Builder(2, 9, 7)
    pooled = build.node("MaxPool", "pooled", build.clip("entry", "input", None), **attributes)
    # a requantizer, since HTVM takes the last Div directly behind a Min only
    acc = build.linear("Conv", "acc", pooled, np.eye(2).reshape(2, 2, 1, 1), [0, 0])
    model = build.model(build.clip("y", acc, 1.0), 2, *sizes)
    same_as_onnxruntime(model, integers(rng, -140, -90, 1, 2, 9, 7).astype(np.float32))


class RandomGraph(Builder):
    """Chains of random operators on int8, whose accumulators stay below 2**24."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(*(int(s) for s in rng.integers((1, 6, 6), (5, 12, 12))))
        self.rng = rng
        self.current = self.shape[1:]

    def conv(self, name: str, value: str, channels: int) -> str:
        inputs, rng = self.current[0], self.rng
        assert inputs * 9 * 128 * 128 + 2**18 < 2**24
        acc = self.linear("Conv", f"{name}.acc", value, integers(rng, -128, 127, channels, inputs, 3, 3),
                          integers(rng, -2**18, 2**18, channels), pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        return self.clip(name, acc, float(2.0 ** rng.integers(9, 16)), int(rng.choice([-128, 0])))

    def step(self, name: str, value: str) -> str:
        (c, h, w), rng = self.current, self.rng
        kinds = ["conv", "add", "relu", "transpose", "identity"]
        kinds += ["pool", "pad", "slice"] if min(h, w) > 2 else []
        kinds += ["concat", "reshape"] if max(c, h) < 16 else []
        kinds += ["resize"] if max(h, w) < 8 else []
        kind, channels = rng.choice(kinds), int(rng.integers(1, 9))
        if kind == "conv":
            value, self.current = self.conv(name, value, channels), (channels, h, w)
        elif kind == "add":
            total = self.node("Add", f"{name}.acc", self.conv(f"{name}.a", value, channels),
                              self.conv(f"{name}.b", value, channels))
            value, self.current = self.clip(name, total, [None, 1.0, 2.0][rng.integers(3)]), (channels, h, w)
        elif kind == "pool":
            value, self.current = self.node("MaxPool", name, value, kernel_shape=[2, 2]), (c, h - 1, w - 1)
        elif kind == "pad":
            mode = str(rng.choice(["constant", "reflect", "edge"]))
            value, self.current = self.moved("Pad", name, value, [0, 0, 1, 0, 0, 0, 2, 0], mode=mode), (c, h + 3, w)
        elif kind == "slice":
            value, self.current = self.moved("Slice", name, value, [-1], [0], [3], [-2]), (c, h, w // 2)
        elif kind == "transpose":
            value, self.current = self.node("Transpose", name, value, perm=[0, 1, 3, 2]), (c, w, h)
        elif kind == "concat":
            value = self.node("Concat", name, value, self.node("Relu", f"{name}.relu", value), axis=1)
            self.current = (2 * c, h, w)
        elif kind == "resize":
            by = rng.integers(1, 4, 2)
            self.current = (c, h * int(by[0]), w * int(by[1]))
            value = self.resize(name, value, 1, *self.current)
        elif kind == "reshape":
            value, self.current = self.moved("Reshape", name, value, [1, h, -1, w]), (h, c, w)
        else:
            value = self.node(kind.capitalize(), name, value)
        return value


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_are_onnxruntimes(seed):
    rng = np.random.default_rng(seed)
    build = RandomGraph(rng)
    value = build.clip("entry", "input", float(2.0 ** rng.integers(-6, 2)))
    for i in range(6):
        value = build.step(f"t{i}", value)
    features = build.mean("mean", build.node("Relu", "positive", value))
    acc = build.linear("Gemm", "acc", features, integers(rng, -128, 127, 5, build.current[0]),
                       integers(rng, -999, 999, 5), transB=1, alpha=1.0, beta=1.0, transA=0)
    model = build.model(build.clip("y", acc, 64.0), 5, divisor=0.5)
    same_as_onnxruntime(model, rng.normal(0, 50, build.shape).astype(np.float32))


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), [
    ([1], [2**63 - 1], [1], [1]),
    ([2**63 - 1], [-2**63], [2], [-1]),
    ([-3, 0], [-1, 5], [-1, 1], [1, 2]),
    ([0, 1], [1, 3], None, None),
    ([0, 1], [1, 3], [0, 3], None),
])
def test_slice_is_onnxruntimes(starts, ends, axes, steps):
    x = np.random.default_rng(2).integers(-128, 127, (1, 3, 4, 5))
    expected = x.copy()
    for start, end, axis, step in zip(starts, ends, axes or [0, 1], steps or [1, 1], strict=True):
        kept = range(x.shape[axis])[start:end:step]
        expected = np.take(expected, list(kept), axis)
    build = Builder(3, 4, 5)
    part = build.moved("Slice", "part", build.clip("entry", "input", None),
                       *(v for v in (starts, ends, axes, steps) if v is not None))
    flat = build.moved("Reshape", "flat", part, [0, -1])
    acc = build.linear("Gemm", "acc", flat, np.eye(expected.size), np.zeros(expected.size))
    same_as_onnxruntime(build.model(build.clip("y", acc, None), expected.size), x.astype(np.float32))


TAILS: dict[str, tuple[Callable[[Builder, str], object], tuple[int, ...]]] = {
    "Flatten": (lambda b, v: b.node("Flatten", "output", v), (36,)),
    "Reshape": (lambda b, v: b.moved("Reshape", "output", v, [1, -1, 2]), (18, 2)),
    "Transpose": (lambda b, v: b.node("Transpose", "output", v, perm=[0, 2, 3, 1]), (4, 3, 3)),
    "Relu": (lambda b, v: b.node("Relu", "output", v), (3, 4, 3)),
    "Identity": (lambda b, v: b.node("Identity", "output", v), (3, 4, 3)),
    "Slice": (lambda b, v: b.moved("Slice", "output", v, [1], [3], [2]), (3, 2, 3)),
    "Pad": (lambda b, v: b.moved("Pad", "output", v, [0, 0, 1, 0, 0, 0, 0, 2]), (3, 5, 5)),
    "MaxPool": (lambda b, v: b.node("MaxPool", "output", v, kernel_shape=[3, 2], pads=[2, 1, 2, 1]), (3, 6, 4)),
    "chain": (lambda b, v: b.node("Flatten", "output", b.node("Relu", "relu", v), axis=1), (36,)),
}


@pytest.mark.parametrize(("tail", "shape"), TAILS.values(), ids=TAILS)
def test_floats_move_behind_the_dequantizer(tail, shape):
    build = Builder(3, 4, 3)
    model = build.model(build.clip("y", "input", 0.25), *shape, divisor=2.0**-100, tail=tail)
    x = np.random.default_rng(8).normal(-10, 10, (1, 3, 4, 3)).astype(np.float32)
    found = interpreter.run(model, {"input": x})["output"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, in_onnxruntime(model, x, [])["output"])


# -- arithmetic -------------------------------------------------------------------------------------------------------


def dense(weight: np.ndarray, bias: np.ndarray, shift: int) -> onnx.ModelProto:
    """``clip((w @ x + b) >> shift)`` on codes."""
    build = Builder(weight.shape[1])
    acc = build.linear("Gemm", "acc", build.clip("entry", "input", None), weight, bias, transB=1)
    return build.model(build.clip("y", acc, 2.0**shift), len(weight))


def codes(model: onnx.ModelProto, x: np.ndarray, name: str = "y") -> list[int]:
    return interpreter.run(model, {"input": x.astype(np.float32)}, [name])[name].reshape(-1).tolist()


@pytest.mark.parametrize("op_type", ["Relu", "Identity"])
@pytest.mark.parametrize("layer", ["Gemm", "MatMul"])
def test_an_accumulator_passes_through(op_type, layer):
    rng = np.random.default_rng(8)
    build = Builder(6)
    entry = build.clip("entry", "input", 0.5)
    acc = build.node(layer, "acc", entry, build.constant("w", integers(rng, -128, 127, 6, 4)))
    build.clip("y", build.node(op_type, "passed", acc), 2.0**9)
    same_as_onnxruntime_at(build.model("y", 4), rng.normal(0, 60, (1, 6)).astype(np.float32), "y")


@pytest.mark.parametrize("bias", [True, False])
def test_a_matmul_is_onnxruntimes(bias):
    rng = np.random.default_rng(9)
    build = Builder(6)
    entry = build.clip("entry", "input", 0.5)
    acc = build.node("MatMul", "acc", entry, build.constant("w", integers(rng, -9, 9, 6, 4)))
    if bias:
        acc = build.node("Add", "sum", acc, build.constant("b", integers(rng, -999, 999, 4)))
    build.clip("y", acc, 2.0**5)
    same_as_onnxruntime_at(build.model("y", 4), rng.normal(0, 60, (1, 6)).astype(np.float32), "y")


def analog(*, m: object, a: object, divisor: float | None = 4.0) -> onnx.ModelProto:
    rng = np.random.default_rng(10)
    build = Builder(3, 6, 5)
    entry = build.clip("entry", "input", 0.5, 0)
    acc = build.node("Conv", "acc", entry, build.constant("w", integers(rng, -1, 1, 4, 3, 3, 3)))
    code = build.clip("code", acc, 8.0, -32, 31)
    scaled = build.node("Mul", "scaled", code, build.constant("m", m))
    build.clip("y", build.node("Add", "shifted", scaled, build.constant("a", a)), divisor)
    return build.model("y", 4, 4, 3)


@pytest.mark.parametrize("divisor", [4.0, None])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (), (1,)])
def test_an_analog_layer_is_onnxruntimes(shape, divisor):
    rng = np.random.default_rng(11)
    model = analog(m=integers(rng, -20, 20, *shape), a=integers(rng, -99, 99, *shape), divisor=divisor)
    same_as_onnxruntime_at(model, rng.normal(0, 60, (1, 3, 6, 5)).astype(np.float32), "code", "y")


@pytest.mark.parametrize(("m", "a", "message"), [
    (np.ones((1, 4, 3, 1)), 0, r"Mul -> 'scaled': found shape \(1, 4, 3, 1\)"),
    (1.5, 0, r"Mul -> 'scaled': found 1.5"),
    (1, np.ones((1, 1, 4, 1)), r"Add -> 'shifted': found shape"),
    (1, 0.5, r"Add -> 'shifted': found 0.5"),
    (2000, 0, r"Mul -> 'scaled': found an accumulator of .*int16"),
    (1000, 32000, r"Add -> 'shifted': found an accumulator of .*int16"),
])
def test_analog_constants_that_are_refused(m, a, message):
    with pytest.raises(HandoffError, match=message):
        interpreter.run(analog(m=m, a=a), {"input": np.full((1, 3, 6, 5), 60, np.float32)})


@pytest.mark.parametrize(("b", "message"), [
    (np.zeros((1, 4)), r"Add -> 'sum': found a bias of shape \(1, 4\)"), (np.zeros(1), "Add -> 'sum': found a bias"),
    (np.full(4, 0.5), "Add -> 'sum': found 0.5"),
])
def test_biases_of_a_matmul_that_are_refused(b, message):
    build = Builder(6)
    acc = build.node("MatMul", "acc", build.clip("entry", "input", 0.5), build.constant("w", np.ones((6, 4))))
    build.clip("y", build.node("Add", "sum", acc, build.constant("b", b)), 2.0)
    with pytest.raises(HandoffError, match=message):
        interpreter.run(build.model("y", 4), {"input": np.zeros((1, 6), np.float32)})


def test_beyond_float32_the_sums_stay_exact():
    """Large sums that a bias brings back to a code: onnxruntime's float32 loses their last bits."""
    rng = np.random.default_rng(3)
    x, weight = integers(rng, 100, 127, 1, 4096), integers(rng, 100, 127, 64, 4096)
    total = weight @ x[0]
    assert total.min() > 2**24
    bias = -(total & ~63)  # few enough significant bits for float32
    assert (bias == bias.astype(np.float32)).all()
    expected = np.clip(total + bias, -128, 127)
    assert len(set(expected.tolist())) > 10
    model = dense(weight, bias, 0)
    assert codes(model, x) == expected.tolist()
    assert in_onnxruntime(model, x.astype(np.float32), ["y"])["y"].reshape(-1).tolist() != expected.tolist()


def test_beyond_float32_a_conv_stays_exact():
    rng = np.random.default_rng(4)
    x, weight = integers(rng, 100, 127, 1, 512, 4, 4), integers(rng, 100, 127, 8, 512, 3, 3)
    expected = np.zeros((8, 2, 2), np.int64)
    for i, j in np.ndindex(2, 2):
        expected[:, i, j] = (weight * x[0, :, i:i + 3, j:j + 3]).sum(axis=(1, 2, 3))
    assert expected.min() > 2**24
    build = Builder(512, 4, 4)
    acc = build.linear("Conv", "acc", build.clip("entry", "input", None), weight, np.zeros(8))
    model = build.model(build.clip("y", acc, 2.0**20), 8, 2, 2)
    found = interpreter.run(model, {"input": x.astype(np.float32)}, ["acc", "y"])
    assert found["acc"].dtype == np.int32
    np.testing.assert_array_equal(found["acc"][0], expected)
    np.testing.assert_array_equal(found["y"][0], expected >> 20)


@pytest.mark.parametrize("shift", [0, 1, 7, 24, 31])
def test_shifts_floor(shift):
    """An arithmetic shift right: floor of negative accumulators too."""
    edges = np.array([0, 1, -1, 2, -2, 3, -3, 127, -127, -128, -129, 255, -255, 2**31 - 128, -(2**31 - 128)])
    expected = [max(-128, min(127, math.floor(int(b) / 2**shift))) for b in edges]
    assert codes(dense(np.zeros((len(edges), 1)), edges, shift), np.zeros((1, 1))) == expected


@pytest.mark.parametrize(("divisor", "expected"), [
    (None, [127, -128, -1, 0]), (1.0, [127, -128, -1, 0]), (2.0, [127, -128, -1, 0]), (4.0, [63, -64, -1, 0]),
])
def test_sums_saturate_and_floor(divisor, expected):
    """127 + 127, -128 - 128, -1 + 0 and 0 + 0 in int32, before the shift."""
    build = Builder(4)
    a = build.clip("a", "input", None)
    b = build.clip("b", build.linear("Gemm", "b.acc", a, np.diag([1, 1, 0, 1]), np.zeros(4)), None)
    model = build.model(build.clip("y", build.node("Add", "acc", a, b), divisor), 4)
    x = np.array([[127, -128, -1, 0]])
    assert codes(model, x, "acc") == [254, -256, -1, 0]
    assert codes(model, x) == expected


def test_a_mean_truncates_as_c_does():
    """Sums -5, -4, -3, 3, 4, 5 over four elements: towards zero, where ONNX's Floor rounds down."""
    sums = np.array([-5, -4, -3, 3, 4, 5])
    x = np.zeros((1, 6, 2, 2))
    x[0, :, 1, 0] = sums
    build = Builder(6, 2, 2)
    model = build.model(build.mean("y", build.clip("entry", "input", None)), 6)
    assert codes(model, x) == [-1, -1, 0, 0, 1, 1]
    assert in_onnxruntime(model, x.astype(np.float32), ["y"])["y"].reshape(-1).tolist() == [-2, -1, -1, 0, 1, 1]


@pytest.mark.parametrize(("divisor", "x", "expected"), [
    (0.25, [0.1, -0.1, 0.25, 31.9, -32.1], [0, -1, 1, 127, -128]),
    (2.0**-140, [3e38, -3e38, 1e-45, -1e-45, 0.0], [127, -128, 0, -1, 0]),
    (8.0, [7.9, 8.0, -8.1, 1e9, -1e9], [0, 1, -2, 127, -128]),
])
def test_the_input_is_quantized_in_float(divisor, x, expected):
    build = Builder(5)
    assert codes(build.model(build.clip("y", "input", divisor), 5), np.array([x])) == expected


def test_the_output_is_dequantized():
    build = Builder(2)
    model = build.model(build.clip("y", "input", None), 2, divisor=2.0**6)
    found = interpreter.run(model, {"input": np.array([[-7, 5]], np.float32)})
    assert list(found) == ["output"]
    np.testing.assert_array_equal(found["output"], np.array([[-7 / 64, 5 / 64]], np.float32))


@pytest.mark.parametrize(("bias", "x"), [(2**31 - 128, [127, 0]), (-(2**31 - 128), [-128, 0])])
def test_an_accumulator_may_reach_the_ends_of_int32_and_no_further(bias, x):
    model = dense(np.ones((1, 2)), np.array([bias]), 24)
    assert codes(model, np.array([x]), "acc") == [bias + x[0]]
    sign = 1 if bias > 0 else -1
    with pytest.raises(HandoffError, match=rf"Gemm -> 'acc': found an accumulator of {bias + x[0] + sign};.*int32"):
        codes(model, np.array([[x[0], sign]]))


def test_products_alone_can_leave_int32():
    size = 2**17 + 2**12
    model = dense(np.full((1, size), 127), np.zeros(1), 31)
    with pytest.raises(HandoffError, match="Gemm -> 'acc'"):
        codes(model, np.full((1, size), 127))


def test_only_tensors_of_the_graph_are_fetched():
    model = dense(np.ones((1, 1)), np.zeros(1), 0)
    with pytest.raises(HandoffError, match="'nothing'"):
        interpreter.run(model, {"input": np.zeros((1, 1), np.float32)}, ["nothing"])


@pytest.mark.parametrize("feed", [
    {}, {"x": np.zeros((1, 1), np.float32)}, {"input": np.zeros((2, 1), np.float32)}, {"input": np.zeros((1, 1))},
    {"input": np.full((1, 1), np.nan, np.float32)},
    {"input": np.zeros((1, 1), np.float32), "x": np.zeros((1, 1), np.float32)},
], ids=["nothing", "name", "batch", "float64", "nan", "extra"])
def test_a_feed_that_does_not_fit(feed):
    with pytest.raises(CalibrationError, match="input"):
        interpreter.run(dense(np.ones((1, 1)), np.zeros(1), 0), feed)


PARTS = sorted(Path(interpreter.__file__).parent.glob("interpreter*.py"))


@pytest.mark.parametrize("path", PARTS, ids=[path.stem for path in PARTS])
def test_it_shares_no_code_with_the_exporter(path):
    tree = ast.parse(path.read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    own = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    own -= {f"onnxdiana.handoff.{part.stem}" for part in PARTS} | {"onnxdiana.handoff"}
    assert own <= {"numpy", "numpy.lib.stride_tricks", "numpy.typing", "onnx", "onnxdiana.errors",
                   "onnxdiana.handoff.constants", "onnxdiana.handoff.operators"}


# -- refusals ---------------------------------------------------------------------------------------------------------

Mutation = Callable[[onnx.ModelProto], object]


def base() -> onnx.ModelProto:
    """One of everything, legal."""
    rng = np.random.default_rng(5)
    build = Builder(2, 6, 6)
    entry = build.clip("entry", "input", 0.5)
    geometry = {"pads": [1, 1, 1, 1], "strides": [1, 1], "dilations": [1, 1], "group": 1, "kernel_shape": [3, 3]}
    a = build.clip("a", build.linear("Conv", "a.acc", entry, integers(rng, -128, 127, 4, 2, 3, 3), [5, 6, 7, 8],
                                     **geometry), 2.0**9)
    b = build.clip("b", build.linear("Conv", "b.acc", a, integers(rng, -128, 127, 4, 4, 3, 3), [5, 6, 7, 8],
                                     **geometry), 2.0**10)
    value = build.node("Relu", "relu", build.clip("sum", build.node("Add", "sum.acc", a, b), 2.0))
    value = build.node("MaxPool", "pool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = build.moved("Pad", "pad", value, [0, 0, 1, 1, 0, 0, 1, 1], mode="reflect")
    value = build.node("Transpose", "transpose", value, perm=[0, 1, 3, 2])
    value = build.moved("Slice", "slice", value, [0], [4], [2], [1])
    value = build.moved("Reshape", "reshape", value, [1, 4, 5, 4])
    value = build.resize("resize", value, 1, 4, 5, 4)
    value = build.node("Concat", "concat", value, build.node("Identity", "identity", value), axis=1)
    value = build.mean("mean", value)
    acc = build.linear("Gemm", "acc", value, integers(rng, -128, 127, 3, 8), [5, -6, 7], alpha=1.0, beta=1.0,
                       transA=0, transB=1)
    return build.model(build.clip("y", acc, 2.0**7), 3, divisor=16.0)


def node_of(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.output[0] == output)


def constant(name: str, array: object, dtype: type = np.float32) -> Mutation:
    """Another array behind an initializer; a callable makes it from the old one."""
    def mutate(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        new = array(numpy_helper.to_array(tensor).copy()) if callable(array) else np.asarray(array, dtype)
        tensor.CopyFrom(numpy_helper.from_array(new, name))
    return mutate


def one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """The last element replaced."""
    def change(array: np.ndarray) -> np.ndarray:
        array.reshape(-1)[-1] = value
        return array
    return change


def attribute(output: str, **values: object) -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        node = node_of(model, output)
        kept = [a for a in node.attribute if a.name not in values]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in values.items())])
    return mutate


def operator(output: str, op_type: str, inputs: list[str] | None = None, domain: str = "") -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        node = node_of(model, output)
        node.op_type, node.domain = op_type, domain
        if inputs is not None:
            node.input[:] = inputs
    return mutate


def inputs(output: str, *names: str) -> Mutation:
    return lambda model: node_of(model, output).input.__setitem__(slice(None), names)


def without(output: str) -> Mutation:
    """A node taken out; what read it reads its first input."""
    def mutate(model: onnx.ModelProto) -> None:
        node = node_of(model, output)
        model.graph.node.remove(node)
        for other in model.graph.node:
            other.input[:] = [node.input[0] if name == output else name for name in other.input]
    return mutate


def ahead(output: str, op_type: str, **attributes: object) -> Mutation:
    """A node put in front of the first input of another."""
    def mutate(model: onnx.ModelProto) -> None:
        position = next(i for i, n in enumerate(model.graph.node) if n.output[0] == output)
        node = model.graph.node[position]
        model.graph.node.insert(position, helper.make_node(op_type, [node.input[0]], ["new"], **attributes))
        model.graph.node[position + 1].input[0] = "new"
    return mutate


def swapped(first: str, second: str) -> Mutation:
    """The operators of two nodes exchanged."""
    def mutate(model: onnx.ModelProto) -> None:
        a, b = node_of(model, first), node_of(model, second)
        a.op_type, b.op_type = b.op_type, a.op_type
    return mutate


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere")


REFUSALS: dict[str, tuple[Mutation, str]] = {
    # requantizers
    "divisor of rank 0": (constant("a.divisor", 512.0), r"Div -> 'a.div': .*512.0 of shape \(\)"),
    "divisor of rank 4": (constant("a.divisor", [[[[512.0]]]]), r"Div -> 'a.div': .*shape \(1, 1, 1, 1\)"),
    "divisor per channel": (constant("a.divisor", np.full((1, 4, 1, 1), 512)), r"Div -> 'a.div': .*\(1, 4, 1, 1\)"),
    "empty divisor": (constant("a.divisor", []), r"Div -> 'a.div': .*shape \(0,\)"),
    "divisor 3": (constant("a.divisor", [3.0]), r"Div -> 'a.div': .*3.0.*2\*\*k"),
    "divisor a bit off": (constant("a.divisor", [np.nextafter(np.float32(512), 0)]), r"Div -> 'a.div': .*511.99"),
    "divisor below 1": (constant("a.divisor", [0.5]), r"Div -> 'a.div': .*0.5.*0 <= k <= 31"),
    "divisor 2**32": (constant("a.divisor", [2.0**32]), r"Div -> 'a.div': .*4294967296.0.*0 <= k <= 31"),
    "negative divisor": (constant("a.divisor", [-512.0]), r"Div -> 'a.div': .*-512.0"),
    "divisor 0": (constant("a.divisor", [0.0]), r"Div -> 'a.div': .*0.0"),
    "divisor nan": (constant("a.divisor", [np.nan]), r"Div -> 'a.div': .*nan"),
    "divisor inf": (constant("a.divisor", [np.inf]), r"Div -> 'a.div': .*inf"),
    "float64 divisor": (constant("a.divisor", [512.0], np.float64), r"Div -> 'a.div': .*float64.*float32"),
    "int64 divisor": (constant("a.divisor", [512], np.int64), r"Div -> 'a.div': .*int64.*float32"),
    "constant divided": (inputs("a.div", "a.divisor", "a.acc"), r"Div -> 'a.div': found a constant as input 0"),
    "divisor computed": (inputs("a.div", "a.acc", "entry"), r"Div -> 'a.div': found int8 codes.* as input 1"),
    "no Floor": (without("a.floor"), r"Max -> 'a.max': found a divided accumulator"),
    "no Floor and no Div": (lambda m: (without("a.floor")(m), without("a.div")(m)), r"Max -> 'a.max': .*accumulator"),
    "no Max": (without("a.max"), r"Min -> 'a': found floored integers"),
    "no Min": (without("y"), r"Div -> 'output': found integers without their Min as input 0 \('y.max'\)"),
    "Min before Max": (swapped("a.max", "a"), r"Min -> 'a.max': found floored integers"),
    "Floor before Div": (lambda m: (swapped("a.div", "a.floor")(m), inputs("a.div", "a.acc")(m),
                                    inputs("a.floor", "a.div", "a.divisor")(m)), r"Div -> 'a.floor': found floored"),
    "Div twice": (ahead("a.floor", "Div"), r"Div -> 'new': found 1 inputs"),
    "Clip": (operator("a.max", "Clip", ["a.floor", "a.lo", "a.hi"]), r"Clip -> 'a.max': found this operator"),
    "Floor twice": (ahead("a.max", "Floor"), r"Floor -> 'new': found floored integers"),
    "bounds equal": (constant("a.lo", 127), r"Min -> 'a': found the bounds 127 and 127"),
    "bounds exchanged": (lambda m: (constant("a.lo", 5)(m), constant("a.hi", -5)(m)), r"Min -> 'a': .*5 and -5"),
    "lower bound fractional": (constant("a.lo", -0.5), r"Max -> 'a.max': found -0.5"),
    "lower bound beyond int8": (constant("a.lo", -129), r"Max -> 'a.max': found -129.0"),
    "upper bound beyond int8": (constant("a.hi", 128), r"Min -> 'a': found 128.0.*\[-128, 127\]"),
    "upper bound nan": (constant("a.hi", np.nan), r"Min -> 'a': found nan"),
    "bound per channel": (constant("a.hi", np.full((1, 4, 1, 1), 127)), r"Min -> 'a': found shape \(1, 4, 1, 1\)"),
    "bound first": (inputs("a.max", "a.lo", "a.floor"), r"Max -> 'a.max': found a constant as input 0"),
    "one operand": (inputs("a.max", "a.floor"), r"Max -> 'a.max': found 1 inputs; needed: 2 to 2"),
    "three operands": (inputs("a.max", "a.floor", "a.lo", "a.lo"), r"Max -> 'a.max': found 3 inputs"),
    "empty operand": (inputs("relu", ""), r"Relu -> 'relu': found nothing as input 0"),
    "Relu inside": (ahead("a.floor", "Relu"), r"Relu -> 'new': found a divided accumulator"),
    "Identity inside": (ahead("b.max", "Identity"), r"Identity -> 'new': found floored integers"),
    "MaxPool of an accumulator": (ahead("b.div", "MaxPool", kernel_shape=[1, 1]),
                                  r"MaxPool -> 'new': found an int32 accumulator"),
    "inside of a pattern read": (inputs("b.div", "a.acc", "b.divisor"), r"Conv -> 'a.acc': found 2 readers"),
    "accumulator unread": (lambda m: (without("relu")(m), inputs("pool", "a")(m), without("sum")(m)),
                           r"Max -> 'sum.max': found 0 readers"),
    # linear operators
    "weight fractional": (constant("a.acc.w", one(0.5)), r"Conv -> 'a.acc': found 0.5 in constant 'a.acc.w'"),
    "weight 128": (constant("a.acc.w", one(128)), r"Conv -> 'a.acc': found 128.0.*\[-128, 127\]"),
    "weight -129": (constant("acc.w", one(-129)), r"Gemm -> 'acc': found -129.0"),
    "weight nan": (constant("acc.w", one(np.nan)), r"Gemm -> 'acc': found nan"),
    "weight int8": (constant("acc.w", lambda w: w.astype(np.int8)), r"Gemm -> 'acc': found int8.*float32"),
    "weight of another rank": (constant("a.acc.w", lambda w: w[..., 0]), r"Conv -> 'a.acc': found a weight of shape"),
    "weight computed": (inputs("b.acc", "a", "entry", "b.acc.b"), r"Conv -> 'b.acc': found int8 .* input 1 \('entry'"),
    "bias fractional": (constant("a.acc.b", one(0.25)), r"Conv -> 'a.acc': found 0.25 in constant 'a.acc.b'"),
    "bias 2**31": (constant("acc.b", one(2.0**31)), r"Gemm -> 'acc': found 2147483648.0"),
    "bias -2**31": (constant("acc.b", one(-(2.0**31))), r"Gemm -> 'acc': found -2147483648.0"),
    "bias inf": (constant("acc.b", one(np.inf)), r"Gemm -> 'acc': found inf"),
    "bias float64": (constant("acc.b", [1, 2, 3], np.float64), r"Gemm -> 'acc': found float64"),
    "bias (1, N)": (constant("acc.b", [[1, 2, 3]]), r"Gemm -> 'acc': found a bias of shape \(1, 3\).*\(3,\)"),
    "bias (1,)": (constant("a.acc.b", [1]), r"Conv -> 'a.acc': found a bias of shape \(1,\).*\(4,\)"),
    "conv of the float input": (inputs("a.acc", "input", "a.acc.w", "a.acc.b"), r"Conv -> 'a.acc': found a float"),
    "conv of an accumulator": (inputs("b.acc", "a.acc", "b.acc.w", "b.acc.b"), r"Conv -> '.*': found .*accumulator"),
    "conv of one axis": (inputs("b.acc", "mean", "b.acc.w", "b.acc.b"), r"Conv -> 'b.acc': found the input 'mean'"),
    "channels": (constant("b.acc.w", lambda w: w[:, :3]), r"Conv -> 'b.acc': found group 1, 4 channels"),
    "group": (attribute("a.acc", group=2), r"Conv -> 'a.acc': found group 2, 2 channels"),
    "group 0": (attribute("a.acc", group=0), r"Conv -> 'a.acc': found group 0"),
    "kernel_shape": (attribute("a.acc", kernel_shape=[1, 1]), r"Conv -> 'a.acc': found kernel_shape \[1, 1\]"),
    "auto_pad": (attribute("a.acc", auto_pad="SAME_UPPER"), r"Conv -> 'a.acc': .*SAME_UPPER.*NOTSET"),
    "pads of one axis": (attribute("a.acc", pads=[1, 1]), r"Conv -> 'a.acc': .*'pads': \[1, 1\]"),
    "negative pads": (attribute("a.acc", pads=[1, 1, 1, -1]), r"Conv -> 'a.acc': .*\[1, 1, 1, -1\].*four pads >= 0"),
    "stride 0": (attribute("a.acc", strides=[1, 0]), r"Conv -> 'a.acc': .*'strides': \[1, 0\]"),
    "dilation -1": (attribute("a.acc", dilations=[1, -1]), r"Conv -> 'a.acc': .*'dilations': \[1, -1\]"),
    "window too large": (attribute("a.acc", dilations=[4, 1]), r"Conv -> 'a.acc': found a window of 9 on 6 elements"),
    "annotation": (attribute("a.acc", weight_bits=8), r"Conv -> 'a.acc': found attribute 'weight_bits'"),
    "attribute of another type": (attribute("a.acc", group=1.0), r"Conv -> 'a.acc': found attribute 'group' of type 1"),
    "alpha": (attribute("acc", alpha=0.5), r"Gemm -> 'acc': found .*0.5.*alpha = beta = 1"),
    "beta": (attribute("acc", beta=2.0), r"Gemm -> 'acc': found .*'beta': 2.0"),
    "transA": (attribute("acc", transA=1), r"Gemm -> 'acc': found .*'transA': 1"),
    "transB": (attribute("acc", transB=2), r"Gemm -> 'acc': found .*'transB': 2"),
    "Gemm of a map": (inputs("acc", "concat", "acc.w", "acc.b"), r"Gemm -> 'acc': found shape \(1, 8, 5, 4\) of input"),
    "features": (constant("acc.w", lambda w: w[:, :-1]), r"Gemm -> 'acc': found shapes \[\(1, 8\), \(3, 7\)"),
    "MatMul": (operator("acc", "MatMul", ["mean", "acc.w"]), r"MatMul -> 'acc': found attribute 'alpha'"),
    # sums
    "constant operand": (inputs("sum.acc", "a", "a.acc.b"), r"Add -> 'sum.acc': found a constant as input 1"),
    "sum of an accumulator": (inputs("sum.acc", "a", "b.acc"), r"Conv -> 'b.acc': found 2 readers of an int32"),
    "unequal shapes": (inputs("sum.acc", "a", "entry"), r"Add -> 'sum.acc': found operands of shapes"),
    # means
    "mean without its clip": (lambda m: [without(f"mean{s}")(m) for s in ("", ".max", ".floor")],
                              r"Gemm -> 'acc': found a flattened mean"),
    "mean without Flatten": (without("mean.flat"), r"Floor -> 'mean.floor': found a pooled mean"),
    "mean with Reshape": (lambda m: (operator("mean.flat", "Reshape", ["mean.pooled", "reshape.0"])(m),
                                     node_of(m, "mean.flat").ClearField("attribute")),
                          r"Reshape -> 'mean.flat': found a pooled mean"),
    "mean with Div": (lambda m: (ahead("mean.floor", "Div")(m), node_of(m, "new").input.append("a.divisor")),
                      r"Div -> 'new': found a flattened mean"),
    "AveragePool": (operator("mean.pooled", "AveragePool"), r"AveragePool -> 'mean.pooled': found this operator"),
    # int8
    "Relu of the input": (inputs("relu", "input"), r"Relu -> 'relu': found a float graph input"),
    "Flatten of axis 2": (attribute("mean.flat", axis=2), r"Flatten -> 'mean.flat': found axis 2"),
    "pooling kernel": (attribute("pool", kernel_shape=[2]), r"MaxPool -> 'pool': found kernel \[2\]"),
    "pooling pads": (attribute("pool", pads=[2, 0, 0, 0]), r"MaxPool -> 'pool': found pads \[2, 0, 0, 0\]"),
    "storage_order": (attribute("pool", storage_order=1), r"MaxPool -> 'pool': .*storage_order 1"),
    "window in the padding": (attribute("pool", kernel_shape=[1, 1], strides=[3, 3], ceil_mode=1),
                              r"MaxPool -> 'pool': found ceil_mode with a last window that starts in the padding"),
    "indices": (lambda m: node_of(m, "pool").output.append("indices"), r"MaxPool -> 'pool, indices'"),
    "wrap": (attribute("pad", mode="wrap"), r"Pad -> 'pad': found mode 'wrap'"),
    "negative Pad": (constant("pad.0", [0, 0, 1, 1, 0, 0, -1, 1], np.int64), r"Pad -> 'pad': .*-1"),
    "few pads": (constant("pad.0", [1, 1], np.int64), r"Pad -> 'pad': .*pads \[1, 1\].*8 pads"),
    "reflection too far": (constant("pad.0", [0, 0, 3, 1, 0, 0, 1, 1], np.int64), r"Pad -> 'pad': .*reflect"),
    "float pads": (constant("pad.0", [0, 0, 1, 1, 0, 0, 1, 1]), r"Pad -> 'pad': found float32.*int64"),
    "batch padded": (lambda m: (attribute("pad", mode="edge")(m),
                                constant("pad.0", [1, 0, 1, 1, 0, 0, 1, 1], np.int64)(m)),
                     r"Pad -> 'pad': found a result of shape \(2, .*batch 1"),
    "pad value": (lambda m: (attribute("pad", mode="constant")(m), node_of(m, "pad").input.append("a.hi")),
                  r"Pad -> 'pad': found 127.0 in constant 'a.hi'"),
    "Pad of opset 11 at opset 10": (lambda m: setattr(m.opset_import[0], "version", 10),
                                    r"Pad -> 'pad': found 2 inputs; needed: 1 to 1"),
    "perm": (attribute("transpose", perm=[0, 1, 2]), r"Transpose -> 'transpose': found perm \[0, 1, 2\]"),
    "no perm": (lambda m: node_of(m, "transpose").ClearField("attribute"), r"Transpose -> '.*': found perm \[\]"),
    "batch moved": (attribute("transpose", perm=[1, 0, 3, 2]), r"Transpose -> 'transpose': found a result of shape"),
    "axis sliced twice": (lambda m: [constant(f"slice.{i}", v, np.int64)(m) for i, v in
                                     enumerate(([0, 0], [4, 4], [2, -2], [1, 1]))],
                          r"Slice -> 'slice': found axes \[2, -2\]"),
    "slice of no axis": (constant("slice.2", [4], np.int64), r"Slice -> 'slice': found shapes"),
    "slice step 0": (constant("slice.3", [0], np.int64), r"Slice -> 'slice': found shapes"),
    "slice of nothing": (constant("slice.1", [0], np.int64), r"Slice -> 'slice': found a result of shape"),
    "slice of two ends": (constant("slice.1", [3, 4], np.int64), r"Slice -> 'slice': found shapes"),
    "target of other size": (constant("reshape.0", [1, 4, 5, 5], np.int64), r"Reshape -> 'reshape': found shapes"),
    "target -2": (constant("reshape.0", [1, 4, 5, -2], np.int64), r"Reshape -> 'reshape': found the target"),
    "target twice open": (constant("reshape.0", [1, 4, -1, -1], np.int64), r"Reshape -> 'reshape': found shapes"),
    "target copies too far": (constant("reshape.0", [1, 80, 1, 1, 0], np.int64), r"Reshape -> 'reshape': found the"),
    "target without batch": (constant("reshape.0", [4, 1, 5, 4], np.int64), r"Reshape -> 'reshape': found a result"),
    "target of two axes": (constant("reshape.0", [[1, 4, 5, 4]], np.int64), r"Reshape -> 'reshape': found shape"),
    "Concat of the batch": (attribute("concat", axis=0), r"Concat -> 'concat': found axis 0"),
    "Concat without axis": (lambda m: node_of(m, "concat").ClearField("attribute"), r"Concat -> 'concat': .*or none"),
    "Concat of no axis": (attribute("concat", axis=4), r"Concat -> 'concat': found shapes"),
    "Concat of unequal": (inputs("concat", "reshape", "pad"), r"Concat -> 'concat': found shapes"),
    "Concat with a constant": (inputs("concat", "reshape", "a.acc.w"), r"Concat -> 'concat': found a constant"),
    "Mul": (operator("sum.acc", "Mul"), r"Mul -> 'sum.acc': found int8 codes.* as input 1"),
    "Sigmoid": (operator("identity", "Sigmoid"), r"Sigmoid -> 'identity': found this operator"),
    "Resize by half pixels": (attribute("resize", coordinate_transformation_mode="half_pixel"),
                              r"Resize -> 'resize': found .*half_pixel"),
    "Resize that rounds": (attribute("resize", nearest_mode="ceil"), r"Resize -> 'resize': found .*ceil"),
    "linear Resize": (attribute("resize", mode="linear"), r"Resize -> 'resize': found .*linear"),
    "Resize by defaults": (lambda m: node_of(m, "resize").ClearField("attribute"), r"Resize -> 'resize': .*half_pixel"),
    "Resize with scales": (constant("resize.scales", [1, 1, 1, 2]), r"Resize -> 'resize': found .*scales"),
    "Resize of a region": (constant("resize.roi", np.zeros(8)), r"Resize -> 'resize': found .*region"),
    "Resize by one and a half": (constant("resize.sizes", [1, 4, 5, 6], np.int64), r"Resize -> .*sizes \[1, 4, 5, 6\]"),
    "Resize of channels": (constant("resize.sizes", [1, 8, 5, 4], np.int64), r"Resize -> .*sizes \[1, 8, 5, 4\]"),
    "Resize of three axes": (constant("resize.sizes", [4, 5, 4], np.int64), r"Resize -> .*sizes \[4, 5, 4\]"),
    "Resize to nothing": (constant("resize.sizes", [1, 4, 5, 0], np.int64), r"Resize -> .*sizes \[1, 4, 5, 0\]"),
    "Resize to floats": (constant("resize.sizes", [1, 4, 5, 4]), r"Resize -> 'resize': found float32.*int64"),
    "Resize of opset 11 at opset 10": (lambda m: (setattr(m.opset_import[0], "version", 10),
                                                  m.graph.node.remove(node_of(m, "pad")),
                                                  inputs("transpose", "pool")(m),
                                                  constant("reshape.0", [1, 4, 3, 3], np.int64)(m)),
                                       r"Resize -> 'resize': found 4 inputs; needed: 2 to 2"),
    # borders
    "input scale 0.3": (constant("entry.divisor", [0.3]), r"Div -> 'entry.div': .*0.3"),
    "input scale per channel": (constant("entry.divisor", np.ones((1, 2, 1, 1))), r"Div -> 'entry.div': .*shape"),
    "Transpose before the quantizer": (ahead("entry.div", "Transpose", perm=[0, 1, 3, 2]),
                                       r"Transpose -> 'new': found a float graph input"),
    "output scale 3": (constant("output.divisor", [3.0]), r"Div -> 'output': .*3.0"),
    "dequantizer read twice": (lambda m: (m.graph.node.add(op_type="Relu", input=["output"], output=["other"])),
                               r"Div -> 'output': found 2 readers of a dequantized float"),
    "sum of floats": (lambda m: (m.graph.node.add(op_type="Add", input=["output", "mean"], output=["other"]),
                                 setattr(m.graph.output[0], "name", "other")),
                      r"Add -> 'other': found a dequantized float as input 0"),
    "quantizer of floats": (lambda m: (m.graph.node.add(op_type="Floor", input=["output"], output=["other"]),
                                       setattr(m.graph.output[0], "name", "other")),
                            r"Floor -> 'other': found a dequantized float as input 0"),
    "Softmax": (lambda m: (m.graph.node.add(op_type="Softmax", input=["output"], output=["other"]),
                           setattr(m.graph.output[0], "name", "other")), r"Softmax -> 'other': found this operator"),
    "output scale per channel": (constant("output.divisor", [1.0, 2.0, 4.0]), r"Div -> 'output': .*shape \(3,\)"),
    "Relu behind the last Min": (ahead("output", "Relu"), r"Div -> 'output': found int8 codes as input 0 \('new'\)"),
    "Flatten behind the last Min": (ahead("output", "Flatten"), r"Div -> 'output': found int8 codes as input 0"),
    "codes divided inside": (inputs("a.div", "entry", "a.divisor"), r"Conv -> 'a.acc': found 0 readers"),
    "no dequantizer": (lambda m: (m.graph.node.remove(node_of(m, "output")), setattr(m.graph.output[0], "name", "y")),
                       r"output 'y' is int8 codes"),
    "output of another shape": (lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 4),
                                r"output 'output' declares .*\(1, 4\)"),
    "output of another type": (lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.INT8),
                               r"output 'output' declares element type 3"),
    "output not returned": (lambda m: setattr(m.graph.output[0], "name", "y"), r"Div -> 'output': found 0 readers"),
    "output not computed": (lambda m: (setattr(m.graph.output[0], "name", "nowhere"),
                                       m.graph.node.remove(node_of(m, "output"))), r"output 'nowhere' is nothing"),
    "two outputs": (lambda m: m.graph.output.append(m.graph.output[0]), r"graph: found 2 outputs"),
    "dynamic batch": (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", "N"),
                      r"input 'input' has .*batch 1"),
    "batch 2": (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2),
                r"input 'input' has .*\(2, 2, 6, 6\).*batch 1"),
    "dynamic size": (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[3], "dim_param", "W"),
                     r"input 'input' has .*static"),
    "input of another type": (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.DOUBLE),
                              r"input 'input' has element type 11"),
    # the file
    "no opset": (lambda m: m.ClearField("opset_import"), r"found opset imports \[\]"),
    "opset 9": (lambda m: setattr(m.opset_import[0], "version", 9), r"graph: found opset 9"),
    "opset 14": (lambda m: setattr(m.opset_import[0], "version", 14), r"graph: found opset 14"),
    "IR version 9": (lambda m: setattr(m, "ir_version", 9), r"graph: found opset 13, IR version 9"),
    "another domain first": (lambda m: m.opset_import.insert(0, helper.make_opsetid("com.microsoft", 13)),
                             r"found opset imports \['com.microsoft', ''\]"),
    "another domain": (operator("relu", "Relu", domain="com.microsoft"), r"Relu -> 'relu': .*com.microsoft"),
    "name twice": (lambda m: m.graph.node.append(node_of(m, "relu")), r"Relu -> 'relu': found the outputs"),
    "no name": (lambda m: node_of(m, "relu").output.__setitem__(0, ""), r"Relu -> '': found the outputs \[''\]"),
    "attribute of a function": (lambda m: setattr(node_of(m, "mean.flat").attribute[0], "ref_attr_name", "axis"),
                                r"Flatten -> 'mean.flat': found attribute 'axis'"),
    "initializer twice": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), r"defined twice"),
    "initializer named as the input": (lambda m: m.graph.initializer.append(
        numpy_helper.from_array(np.zeros(1, np.float32), "input")), r"share a name"),
    "nodes out of order": (lambda m: m.graph.node.append(m.graph.node.pop(4)), r"Div -> 'a.div': .*'a.acc', which"),
    "external data": (external, r"initializer '.*' is defined twice or lies in another file"),
    "truncated data": (lambda m: setattr(m.graph.initializer[0], "raw_data", b"\0"), r"initializer .* cannot be read"),
    "unknown type of data": (lambda m: setattr(m.graph.initializer[0], "data_type", 999), r"initializer .* cannot be"),
    "sparse initializer": (lambda m: m.graph.sparse_initializer.add(), r"1 sparse initializers"),
    "function": (lambda m: m.functions.add(), r"1 functions"),
}


def test_the_graph_that_is_broken_below_is_legal():
    same_as_onnxruntime(base(), np.random.default_rng(6).normal(0, 40, (1, 2, 6, 6)).astype(np.float32))


@pytest.mark.parametrize(("mutate", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(mutate, message):
    model = base()
    mutate(model)
    with pytest.raises(HandoffError, match=message):
        interpreter.run(model, {"input": np.zeros((1, 2, 6, 6), np.float32)})


ARITY = {"Conv": (2, 3), "Gemm": (2, 3), "Add": (2, 2), "Div": (2, 2), "Floor": (1, 1), "Max": (2, 2), "Min": (2, 2),
         "GlobalAveragePool": (1, 1), "Flatten": (1, 1), "MaxPool": (1, 1), "Relu": (1, 1), "Reshape": (2, 2),
         "Transpose": (1, 1), "Pad": (2, 3), "Slice": (3, 5), "Resize": (4, 4), "Identity": (1, 1)}


@pytest.mark.parametrize("op_type", ARITY)
def test_too_few_and_too_many_inputs_are_refused(op_type):
    least, most = ARITY[op_type]
    for count in (least - 1, most + 1):
        model = base()
        node = next(n for n in model.graph.node if n.op_type == op_type)
        node.input[:] = [*node.input, *["a.hi"] * most][:count]
        unread = "|found 0 readers" if count == 0 else ""  # what is in front may be refused first
        with pytest.raises(HandoffError, match=f"{op_type} -> '{node.output[0]}': found {count} inputs{unread}"):
            interpreter.run(model, {"input": np.zeros((1, 2, 6, 6), np.float32)})


@pytest.mark.parametrize(("output", "names"), [
    ("b.acc", ["a", "b.acc.w"]), ("b.acc", ["a", "b.acc.w", ""]), ("acc", ["mean", "acc.w"]),
], ids=["Conv", "Conv with an empty name", "Gemm"])
def test_a_bias_may_be_absent(output, names):
    model = base()
    inputs(output, *names)(model)
    same_as_onnxruntime(model, np.random.default_rng(7).normal(0, 40, (1, 2, 6, 6)).astype(np.float32))
