"""The float tail: what is cut off behind the last layer, and what comes back behind every spelling."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from tiny import model

from onnxdiana import Artifacts, CalibrationError, UnsupportedOpError, prepare, quantize, validate
from onnxdiana.graph import name_of
from onnxdiana.runtime import Runner

WEIGHTS = "float[6,75] w, float[6] b, float[6,75] v, float[6,6] u"
CONSTANTS = ("int64[1] last = {1}, int64[3] square = {0,2,3}, float tiny = {0.000001}, float two = {2}, float half = "
             "{0.5}, float[6] names = {5, 4, 3, 2, 1, 0}, int64[2] parts = {2,4}, int64[1] k = {0}, "
             "int64[1] three = {3}")
HEAD = "f = Flatten(x) l = Gemm<transB=1>(f, w, b)"


def text(body: str, outputs: str = "float[N,6] y", head: str = HEAD) -> str:
    """A linear layer ``l`` of six outputs, and what stands behind it."""
    return f"(float[N,3,5,5] x) => ({outputs}) <{WEIGHTS}, {CONSTANTS}> {{ {head} {body} }}"


ENDS: dict[str, tuple[str, str, list[str]]] = {
    "softmax": ("y = Softmax(l)", "float[N,6] y", ["Softmax"]),
    "log softmax": ("y = LogSoftmax<axis=1>(l)", "float[N,6] y", ["LogSoftmax"]),
    "argmax": ("y = ArgMax<axis=1, keepdims=0>(l)", "int64[N] y", ["ArgMax"]),
    "argmax, axis kept": ("y = ArgMax<axis=-1>(l)", "int64[N,1] y", ["ArgMax"]),
    "softmax and argmax": ("s = Softmax(l) y = ArgMax<axis=1>(s)", "int64[N,1] y", ["Softmax", "ArgMax"]),
    "a name for each class": ("a = ArgMax<axis=1, keepdims=0>(l) y = Gather(names, a)", "float[N] y",
                              ["ArgMax", "Gather"]),
    "sigmoid": ("y = Sigmoid(l)", "float[N,6] y", ["Sigmoid"]),
    "hard sigmoid": ("y = HardSigmoid(l)", "float[N,6] y", ["HardSigmoid"]),
    "tanh": ("y = Tanh(l)", "float[N,6] y", ["Tanh"]),
    "swish": ("s = Sigmoid(l) y = Mul(l, s)", "float[N,6] y", ["Sigmoid", "Mul"]),
    "gelu": ("y = Gelu(l)", "float[N,6] y", ["Gelu"]),
    "sigmoid, reshaped": ("s = Sigmoid(l) y = Reshape(s, square)", "float[N,2,3] y", ["Sigmoid", "Reshape"]),
    "softmax, turned": ("s = Softmax(l) r = Reshape(s, square) y = Transpose<perm=[0,2,1]>(r)", "float[N,3,2] y",
                        ["Softmax", "Reshape", "Transpose"]),
    "softmax of parts": ("r = Reshape(l, square) y = Softmax<axis=2>(r)", "float[N,2,3] y", ["Softmax"]),
    "logits beside": ("y = Softmax(l)", "float[N,6] l, float[N,6] y", ["Softmax"]),
    "logits behind": ("y = Softmax(l)", "float[N,6] y, float[N,6] l", ["Softmax"]),
    "normalized": ("q = Mul(l, l) s = ReduceSum(q, last) r = Sqrt(s) y = Div(l, r)", "float[N,6] y",
                   ["Mul", "ReduceSum", "Sqrt", "Div"]),
    "normalized by Pow": ("q = Pow(l, two) s = ReduceSum(q, last) t = Add(s, tiny) r = Pow(t, half) y = Div(l, r)",
                          "float[N,6] y", ["Pow", "ReduceSum", "Add", "Pow", "Div"]),
    "two heads": ("m = Gemm<transB=1>(f, v) y = Softmax(l) z = Sigmoid(m)", "float[N,6] y, float[N,6] z",
                  ["Softmax", "Sigmoid"]),
    "two tails of one head": ("y = Softmax(l) z = ArgMax<axis=1, keepdims=0>(l)", "int64[N] z, float[N,6] y",
                              ["Softmax", "ArgMax"]),
    "the best three": ("y, z = TopK<axis=1>(l, three)", "float[N,3] y, int64[N,3] z", ["TopK"]),
    "a constant of the body too": (
        'r = Clip(l, "", half) m = Gemm<transB=1>(r, u) s = Softmax(m) y = Mul(s, half)', "float[N,6] y",
        ["Softmax", "Mul"]),
    "a constant twice": ("s = Softmax(l) t = Mul(s, two) y = Pow(t, two)", "float[N,6] y", ["Softmax", "Mul", "Pow"]),
    "softmax by hand": ("m = ReduceMax(l, last) d = Sub(l, m) e = Exp(d) s = ReduceSum(e, last) y = Div(e, s)",
                        "float[N,6] y", ["ReduceMax", "Sub", "Exp", "ReduceSum", "Div"]),
    "a threshold": ("s = Sigmoid(l) y = Greater(s, half)", "bool[N,6] y", ["Sigmoid", "Greater"]),
    "a row for each class": ("a = ArgMax<axis=1, keepdims=0>(l) y = Gather(u, a)", "float[N,6] y",
                             ["ArgMax", "Gather"]),
    "a fork": ("s = Sigmoid(l) t = Exp(s) p = Mul(l, s) y = Concat<axis=1>(p, t)", "float[N,12] y",
               ["Sigmoid", "Exp", "Mul", "Concat"]),
    "two parts": ("s = Softmax(l) y, z = Split<axis=1>(s, parts)", "float[N,2] y, float[N,4] z",
                  ["Softmax", "Slice", "Slice"]),
}
TEXTS = {name: text(body, outputs) for name, (body, outputs, _) in ENDS.items()}
NAMES = {
    "generated names of accumulators": "l__accumulator = Softmax(l) y = Exp(l__accumulator)",
    "generated names of codes": "l__quantized = Softmax(l) y = Exp(l__quantized)",
    "generated names of the fake-quantized model": "l__float = Softmax(l) l__scale = Exp(l__float) y = Neg(l__scale)",
    "the generated bias": "l__bias = Softmax(l) l__product = Exp(l__bias) y = Neg(l__product)",
}


def samples(count: int = 24) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((count, 3, 5, 5)).astype(np.float32) / 4


def run(source: str, folder: Path | None = None, **options: Any) -> Artifacts:
    return quantize(model(source), samples(), folder, **options)


def interface(proto: onnx.ModelProto) -> list[tuple[str, int, list[int | str]]]:
    """Name, type and sizes; an open one is '?'."""
    return [(v.name, v.type.tensor_type.elem_type, [d.dim_value or "?" for d in v.type.tensor_type.shape.dim])
            for v in (*proto.graph.input, *proto.graph.output)]


@pytest.mark.parametrize("name", ENDS)
def test_ends(name: str, tmp_path: Path) -> None:
    """What the tail is; interfaces; answers; the folder is found right."""
    _, _, operators = ENDS[name]
    given = model(TEXTS[name])
    result = quantize(given, samples(), tmp_path / "out", evaluation={"x": samples(10)})
    assert result.summary["tail"] == operators
    assert result.agreement.mismatches == ()
    models = {kind: onnx.load_from_string(result.files[f"model.{kind}.onnx"]) for kind in ("float", "qdq", "int")}
    expected = Runner(given).run({"x": samples()})
    for kind, proto in models.items():
        onnx.checker.check_model(proto, full_check=True)
        assert interface(proto) == interface(given), kind
        found = Runner(proto).run({"x": samples()})
        assert list(found) == list(expected)
        for key, values in expected.items():
            assert found[key].dtype == values.dtype
            assert found[key].shape == values.shape
            if kind == "float":
                np.testing.assert_allclose(found[key], values, rtol=1e-4, atol=1e-5)
            elif values.dtype == np.float32 and name != "a name for each class":
                np.testing.assert_allclose(found[key], values, rtol=0.3, atol=0.3)
            elif values.ndim == 1:
                assert (found[key] == values).mean() > 0.8
    report = validate(tmp_path / "out")
    assert report.ok, report.findings
    report = validate(tmp_path / "out", {"x": samples(5)})
    assert report.ok, report.findings


@pytest.mark.parametrize("name", ["softmax", "argmax", "sigmoid, reshaped", "normalized"])
def test_the_hand_over_ends_before_it(name: str) -> None:
    result = run(TEXTS[name])
    manifest = json.loads(result.files["htvm/manifest.json"])
    assert manifest["output_tensor"] == "l"
    assert manifest["tail"] == ENDS[name][2]
    handed = onnx.load_from_string(result.files["htvm/model.onnx"])
    assert {node.op_type for node in handed.graph.node} <= {"Div", "Floor", "Max", "Min", "Flatten", "Gemm"}
    found = np.load(io.BytesIO(result.files["htvm/output.npy"]))
    expected = Runner(onnx.load_from_string(result.files["model.int.onnx"]), ["l"]).run({"x": samples(1)})["l"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_collide_with_generated_ones(name: str, tmp_path: Path) -> None:
    given = model(text(NAMES[name]))
    for node in given.graph.node:  # names with dots are none of ONNX text
        node.input[:], node.output[:] = ([v.replace("__", ".") for v in side] for side in (node.input, node.output))
    result = quantize(given, samples(), tmp_path / "out")
    for kind in ("qdq", "int"):
        proto = onnx.load_from_string(result.files[f"model.{kind}.onnx"])
        onnx.checker.check_model(proto, full_check=True)
        names = [v for node in proto.graph.node for v in node.output]
        assert len(names) == len(set(names))
        found = Runner(proto).run({"x": samples()})["y"]
        np.testing.assert_allclose(found, Runner(given).run({"x": samples()})["y"], atol=0.5)
    assert validate(tmp_path / "out").ok


def test_the_tail_is_computed_of_the_codes() -> None:
    """Softmax in float of the dequantized logits."""
    integer = onnx.load_from_string(run(TEXTS["softmax"]).files["model.int.onnx"])
    found = Runner(integer, ["l", "y"]).run({"x": samples()})
    e = np.exp(found["l"].astype(np.float64) - found["l"].max(axis=1, keepdims=True))
    np.testing.assert_allclose(found["y"], e / e.sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(("name", "opset"), [("softmax", 18), ("gelu", 20), ("the best three", 18)])
def test_opset_of_the_integer_model(name: str, opset: int) -> None:
    """Newer only where an operator of the tail is."""
    integer = onnx.load_from_string(run(TEXTS[name]).files["model.int.onnx"])
    assert [(entry.domain, entry.version) for entry in integer.opset_import] == [("", opset)]


@pytest.mark.parametrize("name", ["softmax", "argmax", "softmax and argmax"])
def test_labels(name: str) -> None:
    given = model(TEXTS[name])
    x = samples(40)
    answers = Runner(given).run({"x": x})["y"]
    labels = answers.reshape(-1) if answers.dtype == np.int64 else answers.argmax(axis=1)
    labels[:4] = (labels[:4] + 1) % 6
    evaluation = quantize(given, samples(), evaluation={"x": x, "labels": labels}).summary["evaluation"]
    assert evaluation["accuracy_float"] == 0.9
    assert evaluation["accuracy_integer"] > 0.75


BODIES = {
    "a bound is none of it": ("r = Relu(l) y = Softmax(r)", ["Softmax"], ["r"]),
    "a move in front is none of it": ("r = Reshape(l, square) y = Softmax(r)", ["Softmax"], ["r"]),
    "a table behind which a layer stands": (
        "s = Sigmoid(l) t = Gemm<transB=1>(s, u) y = Softmax(t)", ["Softmax"], ["t"]),
    "a table that a layer reads too": (
        "s = Sigmoid(l) t = Gemm<transB=1>(s, u) z = Softmax(t) y = Mul(l, s)", ["Softmax", "Mul"], ["t", "l", "s"]),
    "a table that only the tail reads": ("s = Tanh(l) y = Softmax(s)", ["Tanh", "Softmax"], ["l"]),
    "a reshaped table that only the tail reads": (
        "s = Tanh(l) r = Reshape(s, square) y = Softmax(r)", ["Tanh", "Reshape", "Softmax"], ["l"]),
    "a sum of layers is none of it": ("m = Gemm<transB=1>(f, v) s = Add(l, m) y = Softmax(s)", ["Softmax"], ["s"]),
    "codes side by side are none of it": ("m = Gemm<transB=1>(f, v) y = Concat<axis=1>(l, m)", [], ["y"]),
    "no tail": ("y = Relu(l)", [], ["y"]),
}


@pytest.mark.parametrize("name", BODIES)
def test_where_the_body_ends(name: str) -> None:
    body, operators, borders = BODIES[name]
    outputs = "float y, float z" if "z = " in body else "float y"
    prepared = prepare(model(text(body, outputs)))
    assert prepared.tail.operators == operators
    assert sorted(name_of(v) for v in prepared.body.graph.outputs) == sorted(borders)


def test_functions_of_the_input_are_tables() -> None:
    """The body holds all that they are made of."""
    for body in ("a = Add(x, two) y = Sigmoid(a)", "y = Sigmoid(x)", "s = Sigmoid(x) y = Mul(s, x)",
                 "a = Mul(x, half) s = Tanh(a) y = Exp(s)"):
        prepared = prepare(model(text(body, "float y", head="")))
        assert prepared.tail.operators == []
        assert run(text(body, "float y", head="")).agreement.mismatches == ()


REFUSED = {
    "softmax in the middle": (HEAD, "s = Softmax(l) y = Gemm<transB=1>(s, u)", "Softmax -> 's': end the model with it"),
    "softmax of the input": ("", "y = Softmax(x)", "Softmax -> 'y': end the model with it"),
    "samples compared": (HEAD, "y = Softmax<axis=0>(l)", "Softmax -> 'y'"),
    "samples compared, counted from behind": (HEAD, "y = LogSoftmax<axis=-2>(l)", "LogSoftmax -> 'y'"),
    "the best sample": (HEAD, "y = ArgMax(l)", "ArgMax -> 'y'"),
    "samples added up": (HEAD, "y = ReduceSum<keepdims=1>(l)", "ReduceSum -> 'y'"),
    "samples added up, by axis": (HEAD, "y = ReduceMax(l, k)", "ReduceMax -> 'y'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """Samples stay apart, and nothing quantized stands behind a tail, which stands behind a layer."""
    head, body, message = REFUSED[name]
    with pytest.raises(UnsupportedOpError) as caught:
        prepare(model(text(body, "int64 y" if "ArgMax" in body else "float y", head=head)))
    assert message in str(caught.value)


def test_a_tail_that_reads_the_input() -> None:
    source = ("(float[N,6] x) => (float[N,6] y) <float[6,6] u> "
              "{ l = Gemm(x, u) s = Softmax(l) y = Mul(s, x) }")
    with pytest.raises(UnsupportedOpError, match="Softmax -> 's'"):
        prepare(model(source))


def test_types_of_outputs() -> None:
    proto = onnx.load_from_string(run(TEXTS["the best three"]).files["model.qdq.onnx"])
    assert [v.type.tensor_type.elem_type for v in proto.graph.output] == [TensorProto.FLOAT, TensorProto.INT64]


def test_the_same_bytes_twice() -> None:
    assert run(TEXTS["normalized"]).files == run(TEXTS["normalized"]).files


def test_answers_of_every_pixel_are_compared() -> None:
    """An ArgMax over channels at the end: agreement is of all pixels, and one label a sample does not fit."""
    text = "(float[N,2,4,4] x) => (int64[N,4,4] y) <float[3,2,1,1] w> "\
        "{ a = Conv(x, w) y = ArgMax<axis = 1, keepdims = 0>(a) }"
    proto = model(text)
    x = np.random.default_rng(1).standard_normal((40, 2, 4, 4)).astype(np.float32)
    found = quantize(proto, x[:20], evaluation=x[20:]).summary["evaluation"]
    assert 0.9 < found["agreement"] < 1.0
    assert found["agreement"] * 20 * 16 == pytest.approx(round(found["agreement"] * 20 * 16))
    with pytest.raises(CalibrationError, match="20 samples with 16 answer"):
        quantize(proto, x[:20], evaluation={"x": x[20:], "labels": np.zeros(20, np.int64)})
