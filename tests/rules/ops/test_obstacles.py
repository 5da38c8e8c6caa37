"""What has no quantized form, and what every operator says of itself: core, multiplications, tied exponents."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from onnxdiana import graph, spec
from onnxdiana.errors import UnsupportedOpError
from onnxdiana.rules import ops

HEADER = '<ir_version: 10, opset_import: ["" : 20, "custom" : 1]> g '


def model_of(text: str) -> ir.Model:
    """ONNX text; a value declared without numbers becomes an initializer of zeros."""
    proto = parser.parse_model(HEADER + text)
    computed = {name for node in proto.graph.node for name in node.output}
    for value in [v for v in proto.graph.value_info if v.name not in computed]:
        kind = value.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        proto.graph.initializer.append(onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(onnx.helper.make_tensor(value.name, kind.elem_type, shape, [0] * _size(shape))),
            value.name))
        proto.graph.value_info.remove(value)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def _size(shape: list[int]) -> int:
    size = 1
    for d in shape:
        size *= d
    return size


X = "(float[N,4,6,6] x) => (y)"

REFUSED = {
    "weight computed": (f"{X} <float[4,4,1,1] w> {{ v = Relu(w) y = Conv(x, v) }}",
                        "Conv -> 'y': the weight is computed in the graph"),
    "bias computed": (f"{X} <float[4,4,1,1] w, float[4] b> {{ c = Relu(b) y = Conv(x, w, c) }}",
                      "Conv -> 'y': the bias is computed in the graph"),
    "auto_pad": (f'{X} <float[4,4,1,1] w> {{ y = Conv<auto_pad = "SAME_UPPER">(x, w) }}',
                 "Conv -> 'y': auto_pad could not be resolved"),
    "conv of no axis": ("(float[N,4] x) => (y) <float[4,4] w> { y = Conv(x, w) }",
                        "Conv -> 'y': the weight has 2 dimensions; use a 1-d, 2-d or 3-d convolution"),
    "gemm of two activations": ("(float[N,4] x) => (y) { y = Gemm(x, x) }", "Gemm -> 'y': the weight is computed"),
    "gemm, transB": ("(float[N,4] x) => (y) <float[4,3] w> { y = Gemm(x, w) }",
                     "Gemm -> 'y': only x @ w.T + b with a constant 2-d weight"),
    "gemm, alpha": ("(float[N,4] x) => (y) <float[3,4] w> { y = Gemm<alpha = 2.0, transB = 1>(x, w) }",
                    "Gemm -> 'y': only x @ w.T + b"),
    "gemm, transA": ("(float[4,N] x) => (y) <float[3,4] w> { y = Gemm<transA = 1, transB = 1>(x, w) }",
                     "Gemm -> 'y': only x @ w.T + b"),
    "add of a constant": (f"{X} <float[4,1,1] c> {{ y = Add(x, c) }}", "Add -> 'y': one operand is a constant"),
    "add of other shapes": ("(float[N,4,6,6] x, float[N,4,1,1] z) => (y) { y = Add(x, z) }",
                            "Add -> 'y': the operands have different shapes"),
    "add of other ranks": ("(float[N,6] x, float[N,6,6] z) => (y) { y = Add(x, z) }",
                           "Add -> 'y': the operands have different shapes"),
    "clip computed": (f"{X} {{ lo = ReduceMin<keepdims = 0>(x) y = Clip(x, lo) }}",
                      "Clip -> 'y': a bound is computed in the graph"),
    "concat with a constant": (f"{X} <float[1,4,6,6] c> {{ y = Concat<axis = 1>(x, c) }}",
                               "Concat -> 'y': one operand is a constant"),
    "concat of batches": (f"{X} {{ y = Concat<axis = 0>(x, x) }}", "Concat -> 'y': axis 0 is the batch"),
    "concat of batches, from behind": (f"{X} {{ y = Concat<axis = -4>(x, x) }}", "Concat -> 'y': axis -4 is the batch"),
    "slice computed": ("(float[N,4] x, int64[1] n) => (y) <int64[1] s> { y = Slice(x, s, n) }",
                       "Slice -> 'y': an index is computed in the graph"),
    "slice of the batch": (
        f"{X} <int64[1] s = {{1}}, int64[1] e = {{2}}, int64[1] a = {{0}}> {{ y = Slice(x, s, e, a) }}",
        "Slice -> 'y': the batch axis is sliced"),
    "slice of the batch, from behind": (
        f"{X} <int64[1] s = {{0}}, int64[1] e = {{2}}, int64[1] a = {{-4}}> {{ y = Slice(x, s, e, a) }}",
        "Slice -> 'y': the batch axis is sliced"),
    "batch reversed": (
        f"{X} <int64[1] s = {{-1}}, int64[1] e = {{-9999999999}}, int64[1] a = {{0}}, int64[1] t = {{-1}}> "
        "{ y = Slice(x, s, e, a, t) }", "Slice -> 'y': the batch axis is sliced"),
    "max pool indices": (f"{X} {{ p, i = MaxPool<kernel_shape = [2,2]>(x) y = Cast<to = 1>(i) }}",
                         "MaxPool -> 'p': the indices output is used"),
    "max pool, auto_pad": (f'{X} {{ y = MaxPool<kernel_shape = [2,2], auto_pad = "SAME_LOWER">(x) }}',
                           "MaxPool -> 'y': auto_pad could not be resolved"),
    "flatten of the batch": (f"{X} {{ y = Flatten<axis = 2>(x) }}", "Flatten -> 'y': axis is not 1"),
    "reshape computed": ("(float[N,4] x, int64[2] s) => (y) { y = Reshape(x, s) }",
                         "Reshape -> 'y': the target shape is computed"),
    "reshape of the batch": (f"{X} <int64[2] s = {{-1, 4}}> {{ y = Reshape(x, s) }}",
                             "Reshape -> 'y': the target shape [-1, 4] does not keep the batch"),
    "reshape, allowzero": (f"{X} <int64[2] s = {{0, 4}}> {{ y = Reshape<allowzero = 1>(x, s) }}",
                           "Reshape -> 'y': the target shape [0, 4] does not keep the batch"),
    "transpose of the batch": (f"{X} {{ y = Transpose<perm = [1,0,2,3]>(x) }}",
                               "Transpose -> 'y': perm [1, 0, 2, 3] moves the batch axis"),
    "transpose by default": (f"{X} {{ y = Transpose(x) }}", "Transpose -> 'y': perm None moves the batch axis"),
    "pads computed": ("(float[N,4] x, int64[4] p) => (y) { y = Pad(x, p) }",
                      "Pad -> 'y': the pads or their axes are computed"),
    "axes of pads computed": ('(float[N,4] x, int64[1] a) => (y) <int64[2] p = {1,1}> { y = Pad(x, p, "", a) }',
                              "Pad -> 'y': the pads or their axes are computed"),
    "negative pads": (f"{X} <int64[8] p = {{0,0,-1,0,0,0,0,0}}> {{ y = Pad(x, p) }}", "Pad -> 'y': negative pads"),
    "pad of the batch": (f"{X} <int64[8] p = {{0,0,0,0,1,0,0,0}}> {{ y = Pad(x, p) }}",
                         "Pad -> 'y': the batch axis is padded"),
    "pad of ones": (f"{X} <int64[8] p = {{0,0,1,0,0,0,0,0}}, float v = {{1}}> {{ y = Pad(x, p, v) }}",
                    "Pad -> 'y': pads with a value other than 0"),
    "pad with a computed value": ("(float[N,4] x, float v) => (y) <int64[4] p = {0,1,0,0}> { y = Pad(x, p, v) }",
                                  "Pad -> 'y': pads with a value other than 0"),
    "another domain": (f"{X} {{ y = custom.Conv(x) }}", "custom::Conv -> 'y': known operators are Abs, Add, "),
    "not known at all": (f"{X} {{ y = Det(x) }}", "Det -> 'y': known operators are Abs, Add"),
    "slopes of every element": (f"{X} <float[4,6,6] s> {{ y = PRelu(x, s) }}",
                                "PRelu -> 'y': its parameters must be constants of one value, or of one a channel"),
    "quotient": ("(float[N,4] x, float[N,4] z) => (y) { y = Div(x, z) }", "Div -> 'y': quotients of two tensors"),
    "difference": ("(float[N,4] x, float[N,4] z) => (y) { y = Sub(x, z) }", "Sub -> 'y': fold a constant"),
    "product with another factor for every element": (
        f"{X} <float[1,4,6,6] c> {{ y = Mul(x, c) }}", "Mul -> 'y': the constant factor is neither one number"),
    "product that broadcasts both": ("(float[N,4,1] x, float[N,1,6] z) => (y) { y = Mul(x, z) }",
                                     "Mul -> 'y': shapes (None, 4, 1) and (None, 1, 6)"),
    "softmax in front of a layer": (
        "(float[N,4] x) => (y) <float[3,4] w> { a = Softmax(x) y = Gemm<transB = 1>(a, w) }",
        "Softmax -> 'a': end the model with it"),
}


@pytest.mark.parametrize(("text", "finding"), REFUSED.values(), ids=REFUSED)
def test_refused(text: str, finding: str) -> None:
    with pytest.raises(UnsupportedOpError) as error:
        spec.quantizable(model_of(text))
    assert any(finding in line for line in error.value.findings), error.value.findings


def test_all_at_once() -> None:
    text = f"{X} {{ a = Det(x) b = Flatten<axis = 0>(a) y = Inverse(b) }}"
    with pytest.raises(UnsupportedOpError, match=r"3 operator\(s\) have no quantized form:\n"
                       r"  - Det -> 'a': .*\n  - Flatten -> 'b': .*\n  - Inverse -> 'y': ") as error:
        spec.quantizable(model_of(text))
    assert len(error.value.findings) == 3


ACCEPTED = {
    "conv": f"{X} <float[8,2,3,3] w, float[8] b> {{ y = Conv<group = 2, pads = [1,1,1,1]>(x, w, b) }}",
    "conv without bias": f"{X} <float[8,4,3,3] w> {{ y = Conv(x, w) }}",
    "gemm": "(float[N,4] x) => (y) <float[3,4] w> { y = Gemm<transB = 1>(x, w) }",
    "whole batch sliced":
        f"{X} <int64[2] s = {{0, 1}}, int64[2] e = {{9223372036854775807, 3}}> {{ y = Slice(x, s, e) }}",
    "pad, axes": f'{X} <int64[2] p = {{1,1}}, int64[1] a = {{-1}}> {{ y = Pad<mode = "wrap">(x, p, "", a) }}',
    "clip, one bound": f'{X} <float hi> {{ y = Clip(x, "", hi) }}',
    "max pool": f"{X} {{ y = MaxPool<kernel_shape = [2,2], ceil_mode = 1>(x) }}",
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(text: str) -> None:
    spec.quantizable(model_of(text))


def test_every_operator_says_what_it_is() -> None:
    assert all(op.op_type == name for name, op in ops.REGISTRY.items())
    assert {"Add", "Conv", "Gemm", "GlobalAveragePool", "Mul", "Sigmoid", "Table"} <= {
        name for name, op in ops.REGISTRY.items() if op.requantizes}


@pytest.mark.parametrize(("text", "core", "macs", "ties"), [
    (f"{X} <float[8,2,3,3] w> {{ y = Conv<group = 2, strides = [2,2]>(x, w) }}", "conv", 2 * 9 * 8 * 2 * 2, []),
    ("(float[N,4,6] x) => (y) <float[8,4,3] w> { y = Conv(x, w) }", None, 4 * 3 * 8 * 4, []),
    ("(float[N,4] x) => (y) <float[3,4] w> { y = Gemm<transB = 1>(x, w) }", "dense", 12, []),
    ("(float[N,4] x, float[N,4] z) => (y) { y = Add(x, z) }", "add", 0, ["x", "z"]),
    (f"{X} {{ y = GlobalAveragePool(x) }}", None, 144, ["x", "y"]),
    (f"{X} {{ y = MaxPool<kernel_shape = [2,2]>(x) }}", None, 0, ["x", "y"]),
    ("(float[N,4] x, float[N,5] z) => (y) { y = Concat<axis = 1>(x, z) }", None, 0, ["x", "z", "y"]),
    (f"{X} <int64[8] p> {{ y = Pad(x, p) }}", None, 0, ["x", "y"]),
    (f"{X} {{ y = Flatten(x) }}", None, 0, ["x", "y"]),
    (f"{X} {{ y = Relu(x) }}", None, 0, ["x", "y"]),
], ids=["conv", "conv in 1-d", "gemm", "add", "mean", "max pool", "concat", "pad", "flatten", "relu"])
def test_core_macs_ties(text: str, core: str | None, macs: int, ties: list[str]) -> None:
    node = next(iter(model_of(text).graph))
    op = ops.operator(node)
    assert (op.core(node), op.macs(node)) == (core, macs)
    assert [graph.name_of(v) for v in op.ties(node)] == ties
