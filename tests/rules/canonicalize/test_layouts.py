"""Whole networks as TensorFlow and 1-d exporters write them: no Transpose, no Reshape stays between layers."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from onnxdiana import graph, loading
from onnxdiana.canonical import canonicalize, prove

from .graphs import feed, proto

THERE, BACK = "Transpose<perm = [0,3,1,2]>", "Transpose<perm = [0,2,3,1]>"
SAME = 'Conv<auto_pad = "SAME_UPPER", strides = [2,2]>'


def conv(result: str, source: str, weight: str, op: str = "Conv") -> str:
    """A layer on NHWC as a converter writes it that looks at one node alone."""
    return f" {result}_i = {THERE}({source}) {result}_o = {op}({result}_i, {weight}) {result} = {BACK}({result}_o)"


NETWORKS: dict[str, tuple[str, list[str]]] = {
    "one layer": (
        f"(float[N,6,5,3] x) => (y) <float[4,3,3,3] w> {{ {conv('y', 'x', 'w')} }}",
        ["Transpose", "Conv", "Transpose"]),
    "bias, Relu, bias": (
        "(float[N,9,7,3] x) => (y) <float[4,3,3,3] w, float[4] b, float[2,4,3,3] v, float[1,1,1,2] c> {"
        + conv("a", "x", "w", SAME) + " d = Add(a, b) e = Relu(d)" + conv("f", "e", "v", SAME)
        + " g = Add(c, f) y = Relu(g) }",
        ["Transpose", "Conv", "Relu", "Conv", "Relu", "Transpose"]),
    "classifier": (
        "(float[N,8,8,3] x) => (y) <float[4,3,3,3] w, float[4] b, int64[2] axes = {1,2}, float[4,5] v, float[5] c> {"
        + conv("a", "x", "w", SAME) + " d = Add(a, b) e = Relu(d) p = ReduceMean<keepdims = 0>(e, axes)"
        " m = MatMul(p, v) y = Add(m, c) }",
        ["Transpose", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]),
    "mean over H then W": (
        "(float[N,8,6,3] x) => (y) <float[4,3,3,3] w, int64[1] h = {1}, float[4,5] v> {"
        + conv("a", "x", "w") + " e = Relu(a) p = ReduceMean<keepdims = 0>(e, h) q = ReduceMean<keepdims = 0>(p, h)"
        " y = MatMul(q, v) }",
        ["Transpose", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]),
    "mean over H then W, axes kept": (
        "(float[N,8,6,3] x) => (y) <float[4,3,3,3] w, int64[1] h = {1}, int64[1] k = {2}, int64[2] s = {-1,4},"
        " float[4,5] v> {" + conv("a", "x", "w") + " p = ReduceMean(a, h) q = ReduceMean(p, k) r = Reshape(q, s)"
        " y = MatMul(r, v) }",
        ["Transpose", "Conv", "GlobalAveragePool", "Flatten", "Gemm"]),
    "flatten in NHWC order": (
        "(float[N,6,6,3] x) => (y) <float[4,3,3,3] w, int64[2] s = {-1,64}, float[64,5] v, float[5] c> {"
        + conv("a", "x", "w") + " e = Relu(a) f = Reshape(e, s) m = MatMul(f, v) y = Add(m, c) }",
        ["Transpose", "Conv", "Relu", "Flatten", "Gemm"]),
    "flatten in NHWC order, Relu behind it, two heads": (
        "(float[N,6,6,3] x) => (y, z) <float[4,3,3,3] w, int64[2] s = {-1,64}, float[64,5] v, float[64,2] u> {"
        + conv("a", "x", "w") + " f = Reshape(a, s) e = Relu(f) y = MatMul(e, v) z = MatMul(e, u) }",
        ["Transpose", "Conv", "Relu", "Flatten", "Gemm", "Gemm"]),
    "residual block": (
        "(float[N,6,6,3] x) => (y) <float[3,3,3,3] w, float[3] b, float[3,3,3,3] v, float[3,3,1,1] u> {"
        + conv("a", "x", "u") + conv("c", "a", "w", 'Conv<auto_pad = "SAME_UPPER">') + " d = Add(c, b) e = Relu(d)"
        + conv("f", "e", "v", "Conv<pads = [1,1,1,1]>") + " g = Add(f, a) y = Relu(g) }",
        ["Transpose", "Conv", "Conv", "Relu", "Conv", "Add", "Relu", "Transpose"]),
    "residual from the input": (
        "(float[N,6,6,3] x) => (y) <float[3,3,3,3] v> {" + conv("f", "x", "v", "Conv<pads = [1,1,1,1]>")
        + " g = Add(f, x) y = Relu(g) }",
        ["Transpose", "Conv", "Add", "Relu", "Transpose"]),
    "a second input that no Transpose reads": (
        "(float[N,6,6,3] x, float[N,6,6,3] z) => (y) <float[3,3,1,1] v> {" + conv("f", "x", "v")
        + " g = Add(f, z) y = Relu(g) }",
        ["Transpose", "Transpose", "Conv", "Add", "Relu", "Transpose"]),
    "branches side by side": (
        "(float[N,6,6,3] x) => (y) <float[2,3,1,1] v, float[4,3,1,1] w, float[5,6,1,1] u> {"
        + conv("a", "x", "v") + conv("b", "x", "w") + " c = Relu(b) d = Concat<axis = 3>(a, c)"
        + conv("y", "d", "u") + "}",
        ["Transpose", "Conv", "Conv", "Relu", "Concat", "Conv", "Transpose"]),
    "branches side by side, one with one channel": (
        "(float[N,6,6,3] x) => (y) <float[1,3,1,1] v, float[4,3,1,1] w, float[5,5,1,1] u> {"
        + conv("a", "x", "v") + conv("b", "x", "w") + " d = Concat<axis = -1>(a, b)" + conv("y", "d", "u") + "}",
        ["Transpose", "Conv", "Conv", "Concat", "Conv", "Transpose"]),
    "explicit padding": (
        "(float[N,6,6,3] x) => (y) <float[2,3,3,3] v, float[4,2,3,3] w, int64[8] p = {0,1,1,0,0,1,1,0},"
        " int64[8] q = {0,0,0,0,0,1,1,0}> {"
        ' r = Pad(x, p) ' + conv("a", "r", "v") + ' s = Pad(a, q)' + conv("y", "s", "w") + "}",
        ["Transpose", "Conv", "Conv", "Transpose"]),
    "reflected padding": (
        "(float[N,6,6,3] x) => (y) <float[2,3,3,3] v, float[4,2,3,3] w, int64[8] p = {0,1,1,0,0,1,2,0}> {"
        + conv("a", "x", "v") + ' s = Pad<mode = "reflect">(a, p)' + conv("y", "s", "w") + "}",
        ["Transpose", "Conv", "Pad", "Conv", "Transpose"]),
    "pooling and slices": (
        "(float[N,8,8,3] x) => (y) <float[4,3,3,3] w, float[2,2,1,1] v, int64[1] b = {1}, int64[1] e = {3},"
        " int64[1] k = {3}> {" + conv("a", "x", "w")
        + conv("c", "a", "", "MaxPool<kernel_shape = [2,2], strides = [2,2]>").replace(", )", ")")
        + " d = Slice(c, b, e, k)" + conv("y", "d", "v") + "}",
        ["Transpose", "Conv", "MaxPool", "Slice", "Conv", "Transpose"]),
    "a transposed input in front of layers on the last axis": (
        "(float[N,3,5,6] x) => (y) <float[3,4] w, float[4] b, float[4,2] v> {"
        f" a = {BACK}(x) c = MatMul(a, w) d = Add(c, b) e = Relu(d) f = MatMul(e, v) y = {THERE}(f) }}",
        ["Conv", "Relu", "Conv"]),
    "dense layers on a sequence": (
        "(float[N,5,6] x) => (y) <float[6,4] w, float[4] b, float[4,3] v, float[3] c, int64[1] t = {1}> {"
        " a = MatMul(x, w) d = Add(a, b) e = Relu(d) f = MatMul(e, v) g = Add(f, c)"
        " y = ReduceMean<keepdims = 0>(g, t) }",
        ["Transpose", "Reshape", "Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten"]),
    "dense layers on a sequence, through rows": (
        "(float[N,5,6] x) => (y) <float[6,4] w, float[4] b, float[4,3] v, int64[2] r = {-1,6}, int64[2] q = {-1,4},"
        " int64[3] s = {-1,5,4}, int64[3] u = {-1,5,3}> {"
        " i = Reshape(x, r) a = MatMul(i, w) c = Reshape(a, s) d = Add(c, b) e = Relu(d)"
        " j = Reshape(e, q) f = MatMul(j, v) y = Reshape(f, u) }",
        ["Transpose", "Reshape", "Conv", "Relu", "Conv", "Transpose", "Reshape"]),
    "weights on the left": (
        "(float[N,6,5] x) => (y) <float[4,6] w, float[4,1] b, float[3,4] v> {"
        " a = MatMul(w, x) d = Add(a, b) e = Relu(d) y = MatMul(v, e) }",
        ["Reshape", "Conv", "Relu", "Conv", "Reshape"]),
    "softmax over channels": (
        "(float[N,4,4,3] x) => (y) <float[5,3,1,1] w> {" + conv("a", "x", "w") + " y = Softmax(a) }",
        ["Transpose", "Conv", "Softmax", "Transpose"]),
    "1-d residual network": (
        "(float[N,3,16] x) => (y) <float[4,3,3] w, float[4] b, float[4,4,3] v, float[4] g, float[4] o, float[4] m,"
        " float[4] var, float[5,4] u, int64[1] t = {2}, int64[1] k = {-1}> {"
        ' a = Conv<auto_pad = "SAME_UPPER", strides = [2]>(x, w, b) r = Relu(a)'
        " c = Conv<pads = [1,1]>(r, v) n = BatchNormalization(c, g, o, m, var) s = Add(n, r) z = Relu(s)"
        " l = MaxPool<kernel_shape = [2], strides = [2]>(z) q = GlobalAveragePool(l) f = Squeeze(q, k)"
        " y = Gemm<transB = 1>(f, u) }",
        ["Reshape", "Conv", "Relu", "Conv", "Add", "Relu", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"]),
    "1-d branches and a Pad": (
        "(float[N,3,16] x) => (y) <float[4,3,1] w, float[2,3,1] v, float[5,6,3] u, int64[6] p = {0,0,1,0,0,2}> {"
        " a = Conv(x, w) r = Relu(a) c = Conv(x, v) d = Concat<axis = 1>(r, c)"
        ' e = Pad<mode = "edge">(d, p) y = Conv<dilations = [2]>(e, u) }',
        ["Reshape", "Conv", "Relu", "Conv", "Concat", "Pad", "Conv", "Reshape"]),
    "1-d as TensorFlow writes it": (
        "(float[N,16,3] x) => (y) <float[4,3,1,3] w, float[4] b, float[4,4,1,3] v, int64[1] h = {1},"
        " float[4,5] u> {"
        f" xh = Unsqueeze(x, h) xt = {THERE}(xh) a = Conv(xt, w) at = {BACK}(a) ah = Squeeze(at, h) ab = Add(ah, b)"
        f" r = Relu(ab) rh = Unsqueeze(r, h) rt = {THERE}(rh) c = Conv<pads = [0,1,0,1]>(rt, v) ct = {BACK}(c)"
        " ch = Squeeze(ct, h) s = Add(ch, r) z = Relu(s) q = ReduceMean<keepdims = 0>(z, h) y = MatMul(q, u) }",
        ["Transpose", "Reshape", "Conv", "Relu", "Conv", "Add", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]),
    "generator": (
        "(float[N,6] x) => (y) <float[6,48] w, float[48] b, int64[4] s = {-1,4,4,3}, float[2,3,3,3] v> {"
        " a = MatMul(x, w) c = Add(a, b) d = Relu(c) e = Reshape(d, s)" + conv("f", "e", "v") + " y = Relu(f) }",
        ["Gemm", "Relu", "Reshape", "Conv", "Relu", "Transpose"]),
    "bias behind a Reshape": (
        "(float[N,6] x) => (y) <float[6,12] w, int64[3] s = {-1,4,3}, float[3] b> {"
        " a = MatMul(x, w) d = Reshape(a, s) y = Add(d, b) }",
        ["Gemm", "Reshape"]),
}


@pytest.mark.parametrize(("text", "after"), NETWORKS.values(), ids=NETWORKS)
def test_operators(text: str, after: list[str]) -> None:
    source = proto(text)
    model = loading.load(source).model
    result = canonicalize(model)
    assert [node.op_type for node in result.model.graph] == after
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    assert prove(model, result, [feed(source), feed(source, seed=2)]) <= 1e-5
    again = canonicalize(result.model)
    assert again.applied == ()
    assert ir.to_proto(again.model) == ir.to_proto(result.model)


WEIGHTS = "float[4,3,3,3] w, float[4] b, float[4,4,3,3] v, float[4] d, float[5,4] u, float[5] h"
SPELLINGS = {
    "torch": (
        f"(float[N,3,8,8] x) => (y) <{WEIGHTS}> {{"
        " a = Conv<pads = [1,1,1,1]>(x, w, b) r = Relu(a) c = Conv<pads = [1,1,1,1]>(r, v, d) s = Add(c, r)"
        " p = GlobalAveragePool(s) f = Flatten(p) y = Gemm<transB = 1>(f, u, h) }"),
    "TensorFlow": (
        f"(float[N,8,8,3] x) => (y) <{WEIGHTS}, int64[1] one = {{1}}> {{"
        + conv("e", "x", "w", 'Conv<auto_pad = "SAME_UPPER">') + " a = Add(e, b) r = Relu(a)"
        + conv("g", "r", "v", 'Conv<auto_pad = "SAME_LOWER">') + " c = Add(g, d) s = Add(c, r)"
        " p = ReduceMean<keepdims = 0>(s, one) f = ReduceMean<keepdims = 0>(p, one) k = Transpose<perm = [1,0]>(u)"
        " m = MatMul(f, k) y = Add(m, h) }"),
}


def test_two_spellings_of_one_network() -> None:
    """The same layers with the same weights; only the input's Transpose differs."""
    found = []
    for text in SPELLINGS.values():
        model = canonicalize(loading.load(proto(text)).model).model
        nodes = [node for node in model.graph if node.op_type != "Transpose"]
        found.append([
            (node.op_type, graph.attribute(node, "pads"), [v.shape for v in node.outputs],
             [graph.required_constant(v).tolist() for v in node.inputs[1:] if graph.constant(v) is not None])
            for node in nodes])
    assert found[0] == found[1]


def test_the_number_of_rounds_does_not_grow() -> None:
    """Deep networks take no more passes than shallow ones."""
    def network(depth: int) -> str:
        blocks = "".join(
            conv(f"f{i}", f"a{i}", "w") + f" b{i} = Add(f{i}, c) r{i} = Relu(b{i}) a{i + 1} = Add(r{i}, a{i})"
            for i in range(depth))
        return ("(float[N,4,4,3] x) => (y) <float[3,3,1,1] w, float[3] c> "
                f"{{ a0 = Relu(x) {blocks} y = Relu(a{depth}) }}")

    few, many = (canonicalize(loading.load(proto(network(depth))).model) for depth in (3, 40))
    assert [name for name, _ in few.applied] == [name for name, _ in many.applied]
