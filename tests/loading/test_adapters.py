"""Every spelling that an operator had since opset 7 answers as onnxruntime does on the file as it is."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
from tiny import model

from onnxdiana.canonical import canonicalize
from onnxdiana.errors import ModelError, UnsupportedOpError
from onnxdiana.loading import load

NEWEST = onnx.defs.onnx_opset_version()
IMAGE = "float[2,3,8,8]"
NORM = "float[3] s, float[3] b, float[3] m, float[3] var"
ELEMENTS = ", ".join(f"float[3,8,8] {name}" for name in ("s", "b", "m", "var"))
TWICE = "float[4] k = {1,1,2,2}"
ODD = "float[4] k = {1,1,1.7,2.3}"
HALF = "float[4] k = {1,1,0.6,0.37}"
WINDOWS = ("kernel_shape=[2,2], strides=[2,2]", "kernel_shape=[3,3], pads=[1,1,1,1]",
           'kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER"',
           'kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_LOWER"')
AXES = "int64[2] a = {2,3}"

# first opset, last opset (0: the newest), expression, initializers, input's shape
CASES: list[tuple[int, int, str, str, str]] = [
    (7, 0, "BatchNormalization<epsilon=1e-3, momentum=0.1>(x, s, b, m, var)", NORM, IMAGE),
    (7, 0, "BatchNormalization(x, s, b, m, var)", NORM, "float[2,3]"),
    (7, 8, "BatchNormalization<spatial=1>(x, s, b, m, var)", NORM, IMAGE),
    (7, 8, "BatchNormalization<epsilon=1e-3, spatial=0>(x, s, b, m, var)", NORM, "float[2,3]"),
    (7, 8, "BatchNormalization<epsilon=1e-3, spatial=0>(x, s, b, m, var)", ELEMENTS, IMAGE),
    *((7, 8, f"Upsample<scales=[1.0,1.0,{scales}], mode=\"{mode}\">(x)", "", IMAGE)
      for scales in ("2.0,2.0", "1.7,2.3") for mode in ("nearest", "linear")),
    *((opset, opset, f"{name}<mode=\"{mode}\">(x, k)", scales, IMAGE)
      for opset, name in ((9, "Upsample"), (10, "Resize")) for mode in ("nearest", "linear")
      for scales in (TWICE, ODD)),
    *((10, 10, f"Resize<mode=\"{mode}\">(x, k)", HALF, IMAGE) for mode in ("nearest", "linear")),
    *((11, 0, f"Resize<{attributes}>(x, r, k)", f"float[0] r, {TWICE}", IMAGE) for attributes in (
        'mode="nearest"', 'coordinate_transformation_mode="asymmetric", nearest_mode="floor"', 'mode="linear"')),
    (13, 0, 'Resize<mode="nearest">(x, , k)', TWICE, IMAGE),
    (11, 0, 'Resize<mode="linear">(x, r, r, k)', "float[0] r, int64[4] k = {2,3,16,12}", IMAGE),
    (7, 0, "Dropout(x)", "", IMAGE),
    (7, 11, "Dropout<ratio=0.3>(x)", "", IMAGE),
    (12, 0, "Dropout(x, r, t)", "float r = {0.3}, bool t = {0}", IMAGE),
    (7, 10, "Clip<min=-0.5, max=0.7>(x)", "", IMAGE),
    (7, 10, "Clip<min=-0.5>(x)", "", IMAGE),
    (7, 10, "Clip<max=0.5>(x)", "", IMAGE),
    (7, 0, "Clip(x)", "", IMAGE),
    (11, 0, "Clip(x, lo, hi)", "float lo = {-0.5}, float hi = {0.7}", IMAGE),
    (11, 0, "Clip(x, , hi)", "float hi = {0.7}", IMAGE),
    *((7, 10, f"Pad<mode=\"{mode}\", pads=[0,0,1,2,0,0,2,1]>(x)", "", IMAGE)
      for mode in ("constant", "reflect", "edge")),
    (7, 10, "Pad<pads=[0,0,-1,2,0,0,2,-1], value=1.5>(x)", "", IMAGE),
    *((11, 0, f"Pad<mode=\"{mode}\">(x, p)", "int64[8] p = {0,0,1,2,0,0,2,1}", IMAGE)
      for mode in ("constant", "reflect", "edge")),
    (11, 0, "Pad(x, p, v)", "int64[8] p = {0,0,1,2,0,0,2,1}, float v = {1.5}", IMAGE),
    (18, 0, "Pad(x, p, , a)", f"int64[4] p = {{1,2,2,1}}, {AXES}", IMAGE),
    (7, 12, "Squeeze<axes=[1]>(x)", "", "float[2,1,8]"),
    (11, 12, "Squeeze<axes=[-2]>(x)", "", "float[2,1,8]"),
    (7, 0, "Squeeze(x)", "", "float[2,1,8]"),
    (13, 0, "Squeeze(x, a)", "int64[1] a = {1}", "float[2,1,8]"),
    (7, 12, "Unsqueeze<axes=[4,1]>(x)", "", "float[2,3,8]"),
    (13, 0, "Unsqueeze(x, a)", "int64[2] a = {4,1}", "float[2,3,8]"),
    *((7, last, f"{name}<axes=[2,3], keepdims=0>(x)", "", IMAGE)
      for name, last in (("ReduceMean", 17), ("ReduceMax", 17), ("ReduceSum", 12))),
    *((first, 0, f"{name}<keepdims=0>(x, a)", AXES, IMAGE)
      for name, first in (("ReduceMean", 18), ("ReduceMax", 18), ("ReduceSum", 13))),
    (18, 0, "ReduceMean<noop_with_empty_axes=1>(x)", "", IMAGE),
    (7, 9, "Slice<axes=[2,3], starts=[1,-4], ends=[5,1000]>(x)", "", IMAGE),
    (7, 9, "Slice<starts=[0,1], ends=[9,3]>(x)", "", IMAGE),
    (10, 0, "Slice(x, i, e, a, t)", f"int64[2] i = {{1,-1}}, int64[2] e = {{5,-100}}, {AXES}, int64[2] t = {{2,-1}}",
     IMAGE),
    *((7, 0, f"{name}<axis={axis}>(x)", "", IMAGE) for name in ("Softmax", "LogSoftmax") for axis in (0, 1, 2, 3)),
    *((7, 0, f"{name}(x)", "", shape) for name in ("Softmax", "LogSoftmax") for shape in (IMAGE, "float[2,5]")),
    *((11, 0, f"{name}<axis=-2>(x)", "", IMAGE) for name in ("Softmax", "LogSoftmax")),
    *((7, 0, "Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, c)", f"float[6,5] w, float{shape} c", "float[2,5]")
      for shape in ("[6]", "[1,6]", "", "[2,1]", "[2,6]", "[1]")),
    (11, 0, "Gemm<transB=1>(x, w)", "float[6,5] w", "float[2,5]"),
    (7, 0, "Gemm<transA=1>(x, w, c)", "float[5,6] w, float[6] c", "float[5,2]"),
    (7, 0, "MatMul(x, w)", "float[8,6] w", IMAGE),
    *((7, 0, f"{name}<{window}>(x)", "", IMAGE) for name in ("AveragePool", "MaxPool") for window in WINDOWS),
    (7, 0, "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)", "", IMAGE),
    *((10, 0, f"{name}<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", "", IMAGE)
      for name in ("AveragePool", "MaxPool")),
    (10, 0, "AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1, pads=[1,1,1,1], count_include_pad=1>(x)", "",
     IMAGE),
    (10, 0, "MaxPool<kernel_shape=[3,3], dilations=[2,2]>(x)", "", IMAGE),
    (19, 0, "AveragePool<kernel_shape=[3,3], dilations=[2,2]>(x)", "", IMAGE),
    (8, 0, "MaxPool<kernel_shape=[2,2], storage_order=0>(x)", "", IMAGE),
    (7, 0, "Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, c)", "float[4,3,3,3] w, float[4] c", IMAGE),
    *((7, 0, f"Flatten<axis={axis}>(x)", "", IMAGE) for axis in (0, 1, 2)),
    (11, 0, "Flatten<axis=-1>(x)", "", IMAGE),
    *((7, 0, "PRelu(x, a)", f"float{shape} a", IMAGE) for shape in ("[3,1,1]", "[1]")),
    *((7, 0, f"{name}(x)", "", IMAGE) for name in (
        "LeakyRelu<alpha=0.2>", "HardSigmoid<alpha=0.3, beta=0.4>", "Elu<alpha=0.7>", "Relu", "Sigmoid", "Tanh",
        "GlobalAveragePool", "GlobalMaxPool", "Identity", "Transpose<perm=[0,2,3,1]>", "ArgMax<axis=1>",
        "ArgMax<axis=2, keepdims=0>")),
    (12, 0, "ArgMax<axis=1, select_last_index=1>(x)", "", IMAGE),
    (14, 0, "HardSwish(x)", "", IMAGE),
    *((7, 0, f"{name}(x, c)", "float[3,1,1] c", IMAGE) for name in ("Add", "Sub", "Mul", "Div")),
    *((8, 0, f"{name}(x, x, c)", "float[3,1,1] c", IMAGE) for name in ("Sum", "Max", "Min", "Mean")),
    (7, 0, "Concat<axis=1>(x, x)", "", IMAGE),
    (7, 0, "Reshape(x, k)", "int64[2] k = {0,-1}", IMAGE),
    (14, 0, "Reshape<allowzero=0>(x, k)", "int64[2] k = {0,-1}", IMAGE),
    (8, 0, "Expand(x, k)", "int64[4] k = {2,3,4,4}", "float[2,3,1,1]"),
    (7, 0, "Gather<axis=1>(x, i)", "int64[2] i = {2,0}", IMAGE),
]
GRAPHS: list[tuple[int, int, str, str, str]] = [
    (7, 12, "y, z = Split<axis=2, split=[3,5]>(x)", "", IMAGE),
    (7, 17, "y, z = Split<axis=2>(x)", "", IMAGE),
    (13, 0, "y, z = Split<axis=2>(x, k)", "int64[2] k = {3,5}", IMAGE),
    (18, 0, "y, z = Split<axis=2, num_outputs=2>(x)", "", IMAGE),
    (7, 0, "h = Cast<to=7>(x)  y = Cast<to=1>(h)", "", IMAGE),
    (19, 0, "h = Cast<to=7, saturate=1>(x)  y = Cast<to=1>(h)", "", IMAGE),
    (24, 0, 'h = Cast<to=7, round_mode="up">(x)  y = Cast<to=1>(h)', "", IMAGE),
    (7, 0, "c = Constant<value=float[3,1,1] {1.0,2.0,3.0}>()  y = Add(x, c)", "", IMAGE),
    (12, 0, "c = Constant<value_floats=[1.0,2.0,3.0,4.0]>()  y = Add(x, c)", "", "float[2,4]"),
    (12, 0, "c = Constant<value_ints=[2,-1]>()  y = Reshape(x, c)", "", IMAGE),
    (9, 9, "k = Constant<value=float[4] {1.0,1.0,2.0,2.0}>()  y = Upsample<mode=\"linear\">(x, k)", "", IMAGE),
    (10, 10, "k = Constant<value=float[4] {1.0,1.0,0.6,0.6}>()  y = Resize<mode=\"nearest\">(x, k)", "", IMAGE),
    (9, 0, "c = ConstantOfShape<value=float[1] {2.0}>(k)  y = Add(x, c)", "int64[3] k = {3,1,1}", IMAGE),
    (10, 0, "f = DequantizeLinear(w, s, z)  y = Conv(x, f)", "int8[4,3,3,3] w, float s = {0.02}, int8 z = {3}", IMAGE),
    (13, 0, "f = DequantizeLinear<axis=0>(w, s, z)  y = Conv(x, f)",
     "int8[4,3,3,3] w, float[4] s = {0.02,0.03,0.04,0.05}, int8[4] z = {3,1,2,0}", IMAGE),
    (21, 0, "f = DequantizeLinear<block_size=0>(w, s, z)  y = Conv(x, f)",
     "int8[4,3,3,3] w, float s = {0.02}, int8 z = {3}", IMAGE),
    (23, 0, "f = DequantizeLinear<output_dtype=1>(w, s, z)  y = Conv(x, f)",
     "int8[4,3,3,3] w, float s = {0.02}, int8 z = {3}", IMAGE),
    (24, 0, "y = Swish(x)", "", IMAGE),
    (24, 0, "a = Swish<alpha=1.5>(x)  y = Swish<alpha=-0.5>(a)", "", IMAGE),
]


def answers(proto: ModelProto, x: NDArray[Any]) -> list[NDArray[Any]]:
    """All outputs, from onnxruntime without its own rewriting."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {proto.graph.input[0].name: x}))


def written(text: str, inits: str, shape: str, opset: int) -> ModelProto:
    """The nodes of a text at an opset; outputs ``y`` and ``z``, with no type."""
    proto = model(f"({shape} x) => (float y) {f'<{inits}>' if inits else ''} {{ {text} }}", opset)
    del proto.graph.output[:]
    names = [name for node in proto.graph.node for name in node.output if name in ("y", "z")]
    inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(proto, data_prop=True).graph.value_info}
    proto.graph.output.extend(inferred.get(name, onnx.ValueInfoProto(name=name)) for name in names)
    return proto


def versions(first: int, last: int, text: str) -> list[int]:
    """The ends, and both sides of every change of an operator in the text."""
    names = re.findall(r"\w+(?=[(<])", text)
    changes = {schema.since_version for schema in onnx.defs.get_all_schemas_with_history()
               if schema.name in names and not schema.domain}
    return sorted({first, last} | {v for change in changes for v in (change - 1, change) if first <= v <= last})


def expanded() -> list[tuple[str, str, str, int]]:
    rows = [(first, last or NEWEST, f"y = {text}", inits, shape) for first, last, text, inits, shape in CASES]
    rows += [(first, last or NEWEST, *rest) for first, last, *rest in GRAPHS]
    return [(text, inits, shape, opset) for first, last, text, inits, shape in rows
            for opset in versions(first, last, text)]


@pytest.mark.parametrize(("text", "inits", "shape", "opset"), expanded())
def test_spelling(text: str, inits: str, shape: str, opset: int) -> None:
    sizes = [int(size) for size in shape[6:-1].split(",")]
    x = np.random.default_rng(1).standard_normal(sizes).astype(np.float32)
    for version in (opset, 24, 21):  # onnxruntime has no kernels yet for some of the newest, which mean the same
        try:
            expected = answers(written(text, inits, shape, version), x)
            break
        except NoKernel:
            pass
    found = answers(ir.to_proto(load(written(text, inits, shape, opset)).model), x)
    for one, other in zip(expected, found, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("text", "inits", "opset", "name"), [
    ("Resize(x, k)", "float[4] k = {1,1,2,0.6}", 10, "opset-10::Resize"),
    ("Hardmax(x)", "", 12, "opset-12::Hardmax"),
    ("MeanVarianceNormalization(x)", "", 13, "opset-13::MeanVarianceNormalization"),
    ("DequantizeLinear<axis=0, block_size=2>(x, k)", "float[1,3,8,8] k", 21, "opset-21::DequantizeLinear"),
    ("GroupNormalization<num_groups=3>(x, s, s)", "float[3] s", 21, "opset-21::GroupNormalization"),
    ("RMSNormalization(x, s)", "float[8] s", 23, "opset-23::RMSNormalization"),
    ("TensorScatter(x, x)", "", 24, "opset-24::TensorScatter"),
    ('SpaceToDepth<blocksize=2, mode="CRD">(x)', "", 28, "opset-28::SpaceToDepth"),
])
def test_what_our_opset_cannot_say_is_reported_by_name(text: str, inits: str, opset: int, name: str) -> None:
    proto = model(f"({IMAGE} x) => (float[A,B,C,D] y) {f'<{inits}>' if inits else ''} {{ y = {text} }}", opset)
    with pytest.raises(UnsupportedOpError, match=f"{name} -> 'y': "):
        canonicalize(load(proto).model)


def test_normalization_in_training_mode() -> None:
    proto = model(f"({IMAGE} x) => ({IMAGE} y) <{NORM}> {{ y, e, v, i, j = BatchNormalization(x, s, b, m, var) }}", 9)
    with pytest.raises(ModelError, match=r"BatchNormalization -> 'y' is in training mode.*model\.eval\(\)"):
        load(proto)


@pytest.mark.parametrize(("text", "opset"), [
    ("y = Swish()", 24), ("y = Swish(x, x)", 24), ("y, z = Swish(x)", 24), ("y = Swish<alpha=1>(x)", 24),
    ("y = Swish<alpha=1.0, beta=1.0>(x)", 24), ("y = BatchNormalization<spatial=0>(x)", 7), ("y = Resize(x)", 10),
    ("y = BatchNormalization<spatial=0.5>(x, x, x, x, x)", 7), ("y = Resize()", 10), ("y = Upsample()", 7),
    ("k = Constant<value=1.0>()  y = Resize(x, k)", 10), ("y = DequantizeLinear<block_size=\"a\">(x, x)", 21),
    ("y = SpaceToDepth<mode=3>(x)", 28), ("y = Cast<round_mode=[1]>(x)", 25), ("y = Swish(x)", 23),
])
def test_damaged_operators_are_refused(text: str, opset: int) -> None:
    """With an error of ours, also where a rewriting looks at what is not there."""
    proto = model(f"(float[1,4] x) => (float[1,4] y) {{ {text} }}", opset)
    with pytest.raises(ModelError):
        canonicalize(load(proto).model)


def test_names_of_rewritten_operators_are_free() -> None:
    text = f"({IMAGE} x) => ({IMAGE} y) {{ y.gate = Relu(x)  y.alpha = Swish<alpha=2.0>(y.gate)  y = Swish(y.alpha) }}"
    result = ir.to_proto(load(model(text.replace("y.gate", '"y.gate"').replace("y.alpha", '"y.alpha"'), 24)).model)
    names = [name for node in result.graph.node for name in node.output]
    assert len(set(names)) == len(names)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    relu = np.maximum(x, 0)
    first = relu / (1 + np.exp(-2 * relu))
    np.testing.assert_allclose(answers(result, x)[0], first / (1 + np.exp(-first)), rtol=1e-5, atol=1e-6)


def test_functions_are_of_their_own_opset() -> None:
    """A function may be older or newer than its model, and refer to a parameter in what is rewritten."""
    text = f"""<ir_version: 10, opset_import: ["" : 18, "l" : 1]>
        g (float[N,4] x) => (float[N] y) {{ a = l.new<slope: float = 2.0>(x)  y = l.old(a) }}
        <domain: "l", opset_import: ["" : {NEWEST}]>
        new <slope> (a) => (b) {{ b = Swish<alpha: float = @slope>(a) }}
        <domain: "l", opset_import: ["" : 12]>
        old (a) => (b) {{ c = Unsqueeze<axes=[2]>(a)  d = Squeeze<axes=[2]>(c)
                         b = ReduceSum<axes=[1], keepdims=0>(d) }}
    """
    result = ir.to_proto(load(onnx.parser.parse_model(text)).model)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    expected = (x / (1 + np.exp(-2 * x))).sum(axis=1)
    np.testing.assert_allclose(answers(result, x)[0], expected, rtol=1e-5, atol=1e-6)


TORCH_LIB = """<ir_version: 8, opset_import: ["" : 18, "pkg.onnxscript.torch_lib" : 1,
                                              "pkg.onnxscript.torch_lib.common" : 1]>
g (float[2,3,4,4] x) => (float[2,5] y) <float[4,3,3,3] w, float[4] c, float[5,16] v, float[5] u> {
    a = Conv(x, w, c)
    r = pkg.onnxscript.torch_lib.aten_leaky_relu<negative_slope: float = 0.0>(a)
    f = pkg.onnxscript.torch_lib.aten_flatten<start: int = 1>(r)
    y = Gemm<transB=1>(f, v, u) }
<domain: "pkg.onnxscript.torch_lib", opset_import: ["" : 18, "pkg.onnxscript.torch_lib.common" : 1]>
aten_leaky_relu <negative_slope> (self) => (result) {
    result = LeakyRelu<alpha: float = @negative_slope>(self) }
<domain: "pkg.onnxscript.torch_lib", opset_import: ["" : 18, "pkg.onnxscript.torch_lib.common" : 1]>
aten_flatten <start> (self) => (result) {
    scalar = pkg.onnxscript.torch_lib.common.IsScalar(self)
    result = If(scalar) <
        then_branch = t () => (one) { s = Constant<value_ints=[1]>()  one = Reshape(self, s) },
        else_branch = e () => (flat) { flat = Flatten(self) }> }
<domain: "pkg.onnxscript.torch_lib.common", opset_import: ["" : 18]>
Rank (input) => (rank) { shape = Shape(input)  rank = Size(shape) }
<domain: "pkg.onnxscript.torch_lib.common", opset_import: ["" : 18, "pkg.onnxscript.torch_lib.common" : 1]>
IsScalar (input) => (answer) {
    rank = pkg.onnxscript.torch_lib.common.Rank(input)  zero = Constant<value_int=0>()  answer = Equal(rank, zero) }
"""


def test_functions_as_torch_exports_them() -> None:
    """Nested, of several domains, with references to parameters, and a branch that the rank decides."""
    proto = onnx.parser.parse_model(TORCH_LIB)
    rng = np.random.default_rng(0)
    for value in proto.graph.value_info:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.random(shape, np.float32) - 0.5, value.name))
    del proto.graph.value_info[:]
    x = rng.standard_normal((2, 3, 4, 4)).astype(np.float32)
    loaded = load(proto)
    assert loaded.notes[0] == "4 function(s) inlined"
    canonical = canonicalize(loaded.model).model
    assert "If" not in {node.op_type for node in canonical.graph}
    np.testing.assert_allclose(answers(ir.to_proto(canonical), x)[0], answers(proto, x)[0], rtol=1e-5, atol=1e-5)
