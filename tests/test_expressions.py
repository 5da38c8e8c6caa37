"""Which nodes are one function of one tensor, and such functions on the whole way from model to folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny import model

from onnxdiana import Artifacts, quantize, validate
from onnxdiana.canonical import canonicalize, rewritten
from onnxdiana.expressions import table_nodes, tables
from onnxdiana.graph import name_of
from onnxdiana.layers import network
from onnxdiana.loading import load
from onnxdiana.runtime import Runner
from onnxdiana.scales import ScaleTable

WEIGHTS = "float[4,3,3,3] w0, float[4] b0, float[4,4,1,1] w1, float[4,4,1,1] w2, float[4,4,1,1] w3"
CONSTANTS = ("float zero = {0}, float one = {1}, float two = {2}, float three = {3}, float six = {6}, "
             "float half = {0.5}, float sixth = {0.16666667}, float root = {0.70710678}")


def text(body: str, more: str = "", output: str = "y", shape: str = "[N,4,4,4]") -> str:
    """A convolution ``a``, some nodes from it to ``m``, and a convolution behind these, if they have such an ``m``."""
    end = "y = Conv(m, w1)" if "m = " in body else ""
    outputs = ", ".join(f"float{shape} {name}" for name in output.split())
    return (f"(float[N,3,6,6] x) => ({outputs}) <{WEIGHTS}, {CONSTANTS}{', ' + more if more else ''}> "
            f"{{ a = Conv(x, w0, b0) {body} {end} }}")


def network_of(body: str, **options: str) -> list[tuple[str, str]]:
    """What each layer computes, and of what; canonical form and its layers."""
    found = network(canonicalize(load(scaled(text(body, **options))).model).model)
    return [(layer.operation, " ".join(name_of(v) for v in layer.inputs)) for layer in found.layers]


def scaled(source: str) -> onnx.ModelProto:
    """The model, its activations of size one or so."""
    proto = model(source)
    for tensor in proto.graph.initializer:
        if tensor.name[0] in "wv" and tensor.name[1:].isdigit():
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(
                (array * np.sqrt(2.0 / array[0].size)).astype(np.float32), tensor.name))
    return proto


ONE = {
    "x * sigmoid(x)": "s = Sigmoid(a) m = Mul(a, s)",
    "sigmoid(x) * x": "s = Sigmoid(a) m = Mul(s, a)",
    "hard swish, divided": "s = Add(a, three) c = Clip(s, zero, six) p = Mul(a, c) m = Div(p, six)",
    "hard swish, divided first": "s = Add(a, three) c = Clip(s, zero, six) d = Div(c, six) m = Mul(d, a)",
    "hard swish by hard sigmoid": "s = HardSigmoid<alpha=0.16666667, beta=0.5>(a) m = Mul(a, s)",
    "hard swish by Min and Max": "s = Add(three, a) c = Max(s, zero) d = Min(c, six) e = Mul(d, sixth) m = Mul(a, e)",
    "gelu": "d = Mul(a, root) e = Erf(d) f = Add(e, one) g = Mul(a, f) m = Mul(g, half)",
    "mish": "s = Softplus(a) t = Tanh(s) m = Mul(a, t)",
    "mish by Exp and Log": "e = Exp(a) f = Add(e, one) s = Log(f) t = Tanh(s) m = Mul(a, t)",
    "affine and bound behind": "s = Sigmoid(a) t = Mul(s, two) u = Sub(t, one) m = Relu(u)",
    "shared inside": "s = Sigmoid(a) t = Mul(s, a) u = Mul(s, t) m = Add(u, s)",
    "a square": "m = Mul(a, a)",
    "a power": "m = Pow(a, two)",
    "a constant minuend": "s = Sigmoid(a) m = Sub(one, s)",
    "a reciprocal": "e = Exp(a) f = Add(e, one) m = Div(one, f)",
    "quotient": "s = Abs(a) t = Add(s, one) m = Div(a, t)",
    "per channel": "p = PRelu(a, slope) m = Add(p, offset)",
}
CHANNELS = "float[4,1,1] slope = {0.1, -1.0, 2.0, 0.0}, float[1,4,1,1] offset = {0.0, 1.0, -2.0, 3.0}"


@pytest.mark.parametrize("name", ONE)
def test_one_table(name: str) -> None:
    """Of the first convolution's output, in one layer."""
    more = CHANNELS if name == "per channel" else ""
    found = network_of(ONE[name], more=more)
    assert [operation == "Conv" for operation, _ in found] == [True, False, True]
    assert found[1][1] == "a"


MANY = {
    "a value that a layer reads too": (
        "s = Sigmoid(a) p = Mul(a, s) c = Conv(s, w2) d = Add(p, c) m = Relu(d)",
        [("Conv", "x"), ("Sigmoid", "a"), ("Sigmoid Mul", "a"), ("Conv", "s"), ("Add", "p c"), ("Conv", "m")]),
    "a gate of another tensor": (
        "g = Conv(x, w4, b0) s = Sigmoid(g) t = Tanh(a) m = Mul(s, t)",
        [("Conv", "x"), ("Conv", "x"), ("Sigmoid", "g"), ("Tanh", "a"), ("Mul", "s t"), ("Conv", "m")]),
    "squeeze and excitation": (
        "p = GlobalAveragePool(a) q = Conv(p, w2) r = Relu(q) e = Conv(r, w3) g = Sigmoid(e) m = Mul(a, g)",
        [("Conv", "x"), ("GlobalAveragePool", "a"), ("Conv", "p"), ("Conv", "r"), ("Sigmoid", "e"), ("Mul", "a g"),
         ("Conv", "m")]),
    "a sum with itself": ("m = Add(a, a)", [("Conv", "x"), ("Add", "a a"), ("Conv", "m")]),
    "a function of a sum with itself": (
        "s = Add(a, a) t = Sigmoid(s) c = Conv(s, w2) d = Conv(t, w3) m = Add(c, d)",
        [("Conv", "x"), ("Add", "a a"), ("Sigmoid", "s"), ("Conv", "s"), ("Conv", "t"), ("Add", "c d"),
         ("Conv", "m")]),
    "a table of bounded codes": (
        "r = Relu(a) m = Sqrt(r)", [("Conv", "x"), ("Sqrt", "r"), ("Conv", "m")]),
    "a bound on codes": (
        "p = MaxPool<kernel_shape=[1,1]>(a) q = Relu(p) c = Conv(p, w2) d = Conv(q, w3) m = Add(c, d)",
        [("Conv", "x"), ("Conv", "p"), ("Conv", "q"), ("Add", "c d"), ("Conv", "m")]),
    "two tables of one tensor": (
        "s = Sigmoid(a) t = Tanh(a) c = Conv(s, w2) d = Conv(t, w3) m = Add(c, d)",
        [("Conv", "x"), ("Sigmoid", "a"), ("Tanh", "a"), ("Conv", "s"), ("Conv", "t"), ("Add", "c d"),
         ("Conv", "m")]),
}


@pytest.mark.parametrize("name", MANY)
def test_more_than_one_layer(name: str) -> None:
    body, expected = MANY[name]
    assert network_of(body, more="float[4,3,3,3] w4") == expected


def test_a_value_that_is_returned_too() -> None:
    found = network_of("s = Sigmoid(a) m = Mul(a, s)", output="y s")
    assert found == [("Conv", "x"), ("Sigmoid", "a"), ("Sigmoid Mul", "a"), ("Conv", "m")]


def test_an_offset_that_is_returned_too() -> None:
    """It is the convolution's; the table starts there."""
    found = network_of("s = Add(a, three) m = Sigmoid(s)", output="y s")
    assert found == [("Conv", "x"), ("Sigmoid", "s"), ("Conv", "m")]


def test_an_offset_that_a_layer_reads_too() -> None:
    """It becomes part of layers; the rest stays an activation."""
    found = network_of("s = Add(a, three) c = Clip(s, zero, six) p = Mul(a, c) d = Conv(s, w2) m = Add(p, d)")
    assert {"Conv", "Add", "Mul"} == {operation for operation, _ in found}


@pytest.mark.parametrize("body", [
    "s = PRelu(a, slope)  m = Relu(s)", "s = Sigmoid(a) t = Mul(s, slope) m = Relu(t)"])
def test_constants_along_another_axis(body: str) -> None:
    """No function of one element."""
    inside = table_nodes(graph_of(body, "float[1,1,1,4] slope = {1.0, 2.0, 3.0, 4.0}"))
    assert {node.op_type for node in inside} <= {"Sigmoid"}


def graph_of(body: str, more: str = "") -> ir.Graph:
    """The graph with its shapes, none of its nodes rewritten."""
    return rewritten(load(scaled(text(body, more=more))).model, rules=())[0].graph


def test_members_in_execution_order() -> None:
    g = graph_of("t = Tanh(a) s = Sigmoid(a) m = Mul(t, s)")
    (top, found), = tables(g).items()
    assert [node.op_type for node in found.nodes] == ["Tanh", "Sigmoid", "Mul"]
    assert top is found.nodes[-1]
    assert name_of(found.root) == "a"
    assert found.operators == "Tanh Sigmoid Mul"
    assert [node in table_nodes(g) for node in g] == [False, True, True, True, False]


def test_a_long_chain() -> None:
    """One table, without recursion."""
    chain = " ".join(f"s{i + 1} = Sigmoid(s{i})" for i in range(1000))
    body = f"s0 = Tanh(a) {chain} m = Relu(s1000)"
    (_, found), = tables(graph_of(body)).items()
    assert len(found.nodes) == 1002
    np.testing.assert_allclose(found.real(np.array([-3.0, 0.0, 5.0])), 0.659046, atol=1e-6)


# -- on the whole way -------------------------------------------------------------------------------------------------

NETWORKS = {
    **ONE,
    "hard swish": "m = HardSwish(a)", "gelu at once": "m = Gelu(a)", "leaky": "m = LeakyRelu<alpha=0.1>(a)",
    "elu": "m = Elu(a)", "mish at once": "m = Mish(a)", "sigmoid": "m = Sigmoid(a)",
    "log": "s = Abs(a) t = Add(s, half) m = Log(t)",
    **{name: body for name, (body, _) in MANY.items()},
}


def samples(count: int = 32) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((count, 3, 6, 6)).astype(np.float32)


def run(name: str, folder: Path | None = None) -> Artifacts:
    source = text(NETWORKS[name], more=f"{CHANNELS}, float[4,3,3,3] w4")
    return quantize(scaled(source), samples(), folder, evaluation={"x": samples(8), "labels": np.zeros(8, int)})


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, tmp_path: Path) -> None:
    """The spellings agree (or nothing is written), close to the float model; the folder is found right."""
    result = run(name, tmp_path / "out")
    assert result.agreement.mismatches == ()
    assert result.summary["agreement"]["sqnr_db"]["y"] > 25
    report = validate(tmp_path / "out")
    assert report.ok, report.findings
    view = network(canonicalize(load(onnx.load_from_string(result.files["model.float.onnx"])).model).model)
    functions = [layer.operation for layer in view.layers if layer.function is not None]
    products = any(layer.operation == "Mul" and layer.function is None for layer in view.layers)
    obstacles = " ".join(result.summary["handoff"]["obstacles"])
    assert result.summary["handoff"]["written"] == (not functions and not products)
    assert all(f"{operation} is looked up in a table of codes" in obstacles for operation in functions)
    assert ("no product of two tensors" in obstacles) == products


def test_a_changed_entry_is_found(tmp_path: Path) -> None:
    run("x * sigmoid(x)", tmp_path / "out")
    path = tmp_path / "out" / "model.int.onnx"
    proto = onnx.load(path)
    tensor = next(t for t in proto.graph.initializer if t.name.endswith(".table"))
    entries = numpy_helper.to_array(tensor).copy()
    entries[200] += 1
    tensor.CopyFrom(numpy_helper.from_array(entries, tensor.name))
    onnx.save(proto, path)
    findings = validate(tmp_path / "out").findings
    assert any("model.int.onnx: constant 'm.table'" in f and f"at [200] is {entries[200]}, expected {entries[200] - 1}"
               in f for f in findings), findings


def test_the_table_is_the_function() -> None:
    """Entry by entry, rounded to nearest."""
    result = run("x * sigmoid(x)")
    proto = onnx.load_from_string(result.files["model.int.onnx"])
    entries = numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name.endswith(".table")))
    table = ScaleTable.from_json(result.files["scales.json"].decode())
    real = np.ldexp(np.arange(-128.0, 128.0), table.exponent("a"))
    expected = np.clip(np.rint(np.ldexp(real / (1 + np.exp(-real)), -table.exponent("m"))), -128, 127)
    np.testing.assert_array_equal(entries, expected)


@pytest.mark.parametrize(("body", "least"), [
    ("m = Sigmoid(a)", 0), ("s = Tanh(a) m = Relu(s)", 0), ("m = Tanh(a)", -128), ("m = HardSwish(a)", -128),
    ("s = Sigmoid(a) m = Sub(s, half)", -128)])
def test_values_that_a_function_never_has_get_no_codes(body: str, least: int) -> None:
    files = quantize(scaled(text(body)), samples()).files
    assert ScaleTable.from_json(files["scales.json"].decode()).tensors["m"].codes[0] == least


def test_the_same_bytes_twice() -> None:
    assert run("gelu").files == run("gelu").files


@pytest.mark.parametrize("name", ["x * sigmoid(x)", "squeeze and excitation"])
def test_the_fake_quantized_model_is_close(name: str) -> None:
    result = run(name)
    found = [Runner(onnx.load_from_string(result.files[f"model.{kind}.onnx"])).run({"x": samples()})["y"]
             for kind in ("qdq", "int", "float")]
    noise = [float(np.square(values - found[2]).mean()) for values in found[:2]]
    assert noise[0] < 2 * noise[1] < 4 * noise[0]
