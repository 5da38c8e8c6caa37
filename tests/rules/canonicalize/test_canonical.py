"""canonicalize and prove: all rules together, on graphs with an open batch, and what is said when one is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxdiana import graph
from onnxdiana.canonical import TOLERANCE, Canonical, canonicalize, difference, prove
from onnxdiana.errors import ModelError, SpecViolation, UnsupportedOpError
from onnxdiana.loading import OPSET
from onnxdiana.rules.canonicalize import RULES
from onnxdiana.rules.canonicalize.base import Rule

from .graphs import feed, lines, proto

N3 = "float[3] g, float[3] o, float[3] m, float[3] var"
NORM = "BatchNormalization"

GRAPHS = {
    "residual block": (
        f"(float[N,3,6,6] x) => (y) <float[3,3,3,3] v, float[3,3,3,3] w, {N3}> {{"
        f" a = Conv<pads = [1,1,1,1]>(x, v) b = {NORM}(a, g, o, m, var) r = Relu(b) d = Dropout(r)"
        f" e = Conv<pads = [1,1,1,1]>(d, w) f = {NORM}(e, o, g, m, var) s = Add(f, x) y = Relu(s) }}",
        ["b = Conv(x, v, v.bias)", "r = Relu(b)", "f = Conv(r, w, w.bias)", "s = Add(f, x)", "y = Relu(s)"]),
    "classifier as TorchScript writes it": (
        "(float[N,3,6,6] x) => (y) <float[4,3,3,3] w, float[4] b, float[5,4] v, float[5] c, int64 zero = {0},"
        " int64[1] first = {0}, int64[1] rest = {-1}, int64[2] axes = {2,3}, float lo = {0}, float hi = {6}> {"
        " a = Conv(x, w, b) r = Clip(a, lo, hi) p = ReduceMean<keepdims = 1>(r, axes)"
        " s = Shape(p) n = Gather<axis = 0>(s, zero) u = Unsqueeze(n, first) t = Concat<axis = 0>(u, rest)"
        " f = Reshape(p, t) y = Gemm<transB = 1, alpha = 1.0, beta = 1.0>(f, v, c) }",
        ["a = Conv(x, w, b)", "r = Clip(a, lo, hi)", "p = GlobalAveragePool(r)", "f = Flatten(p)",
         "y = Gemm(f, v, c)"]),
    "classifier as TensorFlow writes it": (
        f"(float[N,3,5,7] x) => (y) <float[3,3,3,3] w, float[3,1,1] c, {N3}, float[3,4] v, float[4] d,"
        " int64[2] axes = {-2,-1}> {"
        f' a = Conv<auto_pad = "SAME_LOWER", strides = [2,2]>(x, w) b = Add(a, c) e = {NORM}(b, g, o, m, var)'
        " p = ReduceMean<keepdims = 0>(e, axes) q = MatMul(p, v) y = Add(q, d) }",
        ["e = Conv(x, w, w.bias)", "p.pooled = GlobalAveragePool(e)", "p = Flatten(p.pooled)",
         "y = Gemm(p, v, v.bias)"]),
    "auto-encoder": (
        f"(float[N,6] x) => (y) <float[6,3] v, float[3] b, {N3}, float[3,6] w> {{"
        f" a = MatMul(x, v) c = Add(b, a) d = {NORM}(c, g, o, m, var) e = Relu(d) y = Gemm<alpha = 0.5>(e, w) }}",
        ["d = Gemm(x, v, v.bias)", "e = Relu(d)", "y = Gemm(e, w)"]),
    "explicit padding and a normalized input": (
        f"(float[N,3,6,6] x) => (y) <{N3}, float[4,3,3,3] w, int64[8] p = {{0,0,1,1,0,0,1,1}}> {{"
        f" a = {NORM}(x, g, o, m, var) b = Pad(a, p) c = Conv(b, w) y = Identity(c) }}",
        ["a = Conv(x, a.weight, a.bias)", "y = Conv(a, w)"]),
    "one weight in three layers": (
        f"(float[N,3,6,6] x) => (y, e) <float[3,3,1,1] w, {N3}> {{ a = Conv(x, w) b = {NORM}(a, g, o, m, var)"
        f" c = Conv(b, w) d = {NORM}(c, o, g, m, var) e = Conv(d, w) y = Relu(e) }}",
        ["b = Conv(x, w_2, w.bias)", "d = Conv(b, w_3, w.bias_2)", "e = Conv(d, w)", "y = Relu(e)"]),
    "padding that TorchScript computes": (
        "(float[N,3,5,5] x) => (y) <float[4,3,3,3] w, int64[1] n = {4}, int64[4] p = {0,0,1,1}> {"
        " z = ConstantOfShape<value = int64[1] {0}>(n) q = Concat<axis = 0>(z, p) a = Pad(x, q)"
        ' b = Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(a, w) y = Relu(b) }',
        ["b = Conv(x, w)", "y = Relu(b)"]),
    "sizes declared wrongly": (
        "(float[N,3] x) => (float[4,3] y) <float[3,3] w, float[7,3] a> { a = Gemm<transB = 1>(x, w) y = Relu(a) }",
        ["a = Gemm(x, w)", "y = Relu(a)"]),
    "nodes and weights that nothing reads": (
        "(float[N,3] x) => (y) <float[3,3] w, float[3,3] v> { a = Gemm<transB = 1>(x, v) y = Gemm<transB = 1>(x, w) }",
        ["y = Gemm(x, w)"]),
    "many folds in one layer": (
        f"(float[N,3] x) => (y) <float[3,3] w, {N3}, float[3] c> {{ a0 = MatMul(x, w)"
        + "".join(f" b{i} = Add(a{i}, c) a{i + 1} = {NORM}(b{i}, g, o, m, var)" for i in range(12))
        + " y = Relu(a12) }",
        ["a12 = Gemm(x, w, w.bias)", "y = Relu(a12)"]),
    "two inputs, two outputs": (
        "(float[N,3] x, float[N,3] z) => (y, u) <float[3,3] w> "
        "{ a = Gemm(x, w) s = Add(a, z) y = Relu(s) u = Flatten(s) }",
        ["a = Gemm(x, w)", "u = Add(a, z)", "y = Relu(u)"]),
}
IDS = list(GRAPHS)


def model_of(text: str) -> ir.Model:
    return ir.from_proto(proto(text))


def batch_of(text: str, seed: int = 1) -> dict[str, Any]:
    return feed(proto(text), seed)


@pytest.mark.parametrize(("text", "after"), GRAPHS.values(), ids=IDS)
def test_canonical_graph(text: str, after: list[str]) -> None:
    model = model_of(text)
    result = canonicalize(model)
    assert lines(result.model) == after
    assert dict(result.model.graph.opset_imports) == {"": OPSET}
    assert [v.name for v in result.model.graph.outputs] == [v.name for v in model.graph.outputs]
    assert all(str(v.shape[0]) == graph.BATCH for v in result.model.graph.inputs if v.shape is not None)
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    assert prove(model, result, [batch_of(text), batch_of(text, seed=2)]) <= 1e-5


@pytest.mark.parametrize(("text", "_after"), GRAPHS.values(), ids=IDS)
def test_the_argument_is_not_changed(text: str, _after: list[str]) -> None:
    model = model_of(text)
    before = ir.to_proto(model)
    result = canonicalize(model)
    assert ir.to_proto(model) == before
    prove(model, result, [batch_of(text)])
    assert ir.to_proto(model) == before


@pytest.mark.parametrize(("text", "_after"), GRAPHS.values(), ids=IDS)
def test_a_canonical_model_stays_as_it_is(text: str, _after: list[str]) -> None:
    once = canonicalize(model_of(text)).model
    twice = canonicalize(once)
    assert twice.applied == ()
    assert ir.to_proto(twice.model) == ir.to_proto(once)


def test_the_same_model_gives_the_same_bytes() -> None:
    text, _ = GRAPHS["residual block"]
    first, second = (ir.to_proto(canonicalize(model_of(text)).model) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_applied_names_rules_in_order_with_their_places() -> None:
    text, _ = GRAPHS["residual block"]
    assert canonicalize(model_of(text)).applied == (("no_op", 1), ("batch_norm", 2))


def test_the_last_rule_waits_for_all_others() -> None:
    text = (f"(float[N,3,5,5] x) => (y) <float[3,3,1,1] w, {N3}, float[3,1,1] c> {{ a = Conv(x, w)"
            f" b = {NORM}(a, g, o, m, var) d = Add(b, c) y = {NORM}(d, g, o, m, var) }}")
    assert lines(canonicalize(model_of(text)).model) == ["y = Conv(x, w, w.bias)"]


def test_what_exporters_leave_behind_is_dropped() -> None:
    text, _ = GRAPHS["residual block"]
    source = proto(text)
    plain = ir.to_proto(canonicalize(ir.from_proto(source)).model)
    source.producer_name, source.doc_string, source.graph.doc_string = "exporter", "a text", "another text"
    for place in (source, source.graph, source.graph.node[0], source.graph.node[1], source.graph.input[0],
                  source.graph.initializer[0]):
        place.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File \"model.py\"")
    for node in source.graph.node:
        node.doc_string = "a text"
    found = ir.to_proto(canonicalize(ir.from_proto(source)).model)
    assert found == plain
    for text_ in ("stack_trace", "rule_name", "a text", "another text"):
        assert text_ not in str(found)


def test_names_of_nodes_survive() -> None:
    text = (f"(float[N,3,5,5] x) => (y) <float[3,3,1,1] w, {N3}, float[3,5] v, int64[2] axes = {{2,3}}> {{"
            f" [first] a = Conv(x, w) [norm] b = {NORM}(a, g, o, m, var) [mean] p = ReduceMean<keepdims = 0>(b, axes)"
            " [last] y = MatMul(p, v) }")
    nodes = canonicalize(model_of(text)).model.graph
    assert [(node.name, node.op_type) for node in nodes] == [
        ("norm", "Conv"), ("p.pooled", "GlobalAveragePool"), ("mean", "Flatten"), ("last", "Gemm")]


def test_a_fixed_batch_is_opened() -> None:
    text = ("(float[4,2,3] x) => (y) <int64[3] s = {4,3,2}, int64[2] t = {4,-1}> "
            "{ a = Reshape(x, s) b = Relu(a) y = Reshape(b, t) }")
    result = canonicalize(model_of(text))
    assert lines(result.model) == ["a.reshaped = Flatten(x)", "y = Relu(a.reshaped)"]
    assert str(result.model.graph.inputs[0].shape) == "[batch,2,3]"
    assert str(result.model.graph.outputs[0].shape) == "[batch,6]"
    assert prove(model_of(text), result, [batch_of(text)]) == 0.0


# --------------------------------------------------------------------------------------------------- what is refused


REFUSED = {
    "batch moved into features": (
        "(float[N,2,4] x) => (y) <int64[2] s = {-1,4}> { a = Relu(x) y = Reshape(a, s) }", UnsupportedOpError,
        "Reshape -> 'y': the target shape [-1, 4] does not keep the batch"),
    "two batches": (
        "(float[N,2] x, float[3,2] z) => (y) { y = Add(x, z) }", ModelError,
        "the inputs differ in their first axis, which counts samples (an open one is taken as 1): 'x' 1, 'z' 3;"),
    "mean over everything": (
        "(float[4,2] x) => (y) { y = ReduceMean<keepdims = 0>(x) }", UnsupportedOpError, "ReduceMean -> 'y'"),
    "training mode": (
        f"(float[N,3,2,2] x) => (y, i) <{N3}> {{ y, i, j = {NORM}<training_mode = 1>(x, g, o, m, var) }}",
        UnsupportedOpError, f"{NORM} -> 'y'"),
    "an output from constants": (
        "(float[N,2] x) => (y, z) <float[1,3] a> { y = Relu(x) z = Neg(a) }", ModelError,
        "output 'z' does not depend on the input: leave it out of the outputs"),
    "an output that is a Constant": (
        "(float[N,2] x) => (y, z) { y = Relu(x) z = Constant<value = float[1,2] {1,2}>() }", ModelError,
        "output 'z' does not depend on the input: leave it out of the outputs"),
}


@pytest.mark.parametrize(("text", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_models_that_cannot_be_quantized(text: str, kind: type[ModelError], message: str) -> None:
    with pytest.raises(ModelError) as error:
        canonicalize(model_of(text))
    assert type(error.value) is kind
    assert message in str(error.value)


def test_operators_without_a_quantized_form_are_named_all_at_once() -> None:
    text = (f"(float[N,3,4,4] x) => (y, d) <{N3}, float[48,5] w, int64[2] s = {{0,-1}}> {{ a = custom.Twist(x)"
            f" b, i, j = {NORM}<training_mode = 1>(x, g, o, m, var) c = Softmax(b) d = Add(a, c) e = Reshape(c, s)"
            " y = MatMul(e, w) }")
    with pytest.raises(UnsupportedOpError) as error:
        canonicalize(model_of(text))
    # an unknown operator does not keep the others from their shapes, nor Reshape and MatMul from their canonical form
    assert [finding.split(": ")[0] for finding in error.value.findings] == [
        "custom::Twist -> 'a'", f"{NORM} -> 'b'", "Softmax -> 'c'"]


class _Flip:
    """Never satisfied: Relu becomes Neg, Neg becomes Relu."""

    name = "flip"

    def apply(self, model: ir.Model) -> int:
        for node in model.graph:
            node.op_type = "Neg" if node.op_type == "Relu" else "Relu"
        return 1


def test_rules_that_do_not_end_are_our_bug() -> None:
    with pytest.raises(SpecViolation, match="does not end: rule 'flip' still changes the model"):
        canonicalize(model_of("(float[N,3] x) => (y) { y = Relu(x) }"), [*RULES, _Flip()])


# --------------------------------------------------------------------------------------------------- the proof


class _WrongClip:
    """Takes every Clip for a Relu."""

    name = "wrong_clip"

    def apply(self, model: ir.Model) -> int:
        clips = [node for node in model.graph if node.op_type == "Clip"]
        for node in clips:
            node.op_type = "Relu"
            node.resize_inputs(1)
        return len(clips)


class _LostFlatten:
    """Drops what it takes for a no-op, and with it an output's shape."""

    name = "lost_flatten"

    def apply(self, model: ir.Model) -> int:
        nodes = [node for node in model.graph if node.op_type == "Flatten"]
        for node in nodes:
            node.op_type = "Relu"
            node.attributes.clear()
            node.outputs[0].shape = node.inputs[0].shape
        return len(nodes)


class _LostName:
    """Renames an output."""

    name = "lost_name"

    def apply(self, model: ir.Model) -> int:
        if model.graph.outputs[0].name != "y":
            return 0
        model.graph.outputs[0].name = "renamed"
        return 1


CLIPS = ("(float[N,3] x) => (y, z) <float[3,3] w, float lo = {0}, float hi = {0.25}> "
         "{ a = Gemm(x, w) y = Relu(a) b = Clip(a, lo, hi) z = Identity(b) }")
FLAT = "(float[N,3,2,2] x) => (y) { a = GlobalAveragePool(x) b = Relu(a) y = Flatten(b) }"

WRONG = {
    "first": (CLIPS, [_WrongClip(), *RULES], "wrong_clip", "output 'z' differs by", "gemm"),
    "in the middle": (CLIPS, [*RULES[:2], _WrongClip(), *RULES[2:]], "wrong_clip", "output 'z' differs by", "gemm"),
    "last": (CLIPS, [*RULES, _WrongClip()], "wrong_clip", "output 'z' differs by", "wrong_clip"),
    "alone": (CLIPS.replace("Gemm", "Gemm<transB = 1>").replace("Identity", "Relu"), [_WrongClip()], "wrong_clip",
              "output 'z' differs by", "wrong_clip"),
    "a shape that numpy would broadcast": (FLAT, [*RULES, _LostFlatten()], "lost_flatten", "output 'y' differs by inf",
                                           "clip"),
    "a name": (CLIPS, [*RULES, _LostName()], "lost_name", "onnxruntime cannot load the model", "lost_name"),
}


@pytest.mark.parametrize(("text", "rules", "culprit", "finding", "last"), WRONG.values(), ids=WRONG)
def test_a_wrong_rule_is_named(text: str, rules: list[Rule], culprit: str, finding: str, last: str) -> None:
    model = model_of(text)
    result = canonicalize(model, rules)
    assert culprit in dict(result.applied)
    with pytest.raises(SpecViolation) as error:
        prove(model, result, [batch_of(text)], rules)
    message = str(error.value)
    assert message.startswith(f"canonicalization changed the model: {finding}")
    assert f"it first shows after rule '{culprit}' (last rule applied: '{last}')" in message


def test_a_difference_in_any_batch_counts() -> None:
    model = model_of(CLIPS)
    rules = [*RULES, _WrongClip()]
    result = canonicalize(model, rules)
    small = {"x": np.zeros((2, 3), np.float32)}
    assert prove(model, result, [small], rules) == 0.0
    for batches in ([small, batch_of(CLIPS)], [batch_of(CLIPS), small], [small, batch_of(CLIPS), small]):
        with pytest.raises(SpecViolation, match="output 'z'"):
            prove(model, result, batches, rules)


def test_a_difference_behind_the_rules() -> None:
    model = model_of(CLIPS)
    result = canonicalize(model)
    later = result.model.clone()
    graph.set_constant(later.graph.initializers["w"], np.eye(3, dtype=np.float32))
    with pytest.raises(SpecViolation, match="it first shows after the rules"):
        prove(model, Canonical(later, result.applied), [batch_of(CLIPS)])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_compared_too(bad: float) -> None:
    text = "(float[N,3] x) => (y, z) <float[3,3] w> { y = Gemm(x, w) z = Relu(x) }"
    model = model_of(text)
    result = canonicalize(model)
    broken = batch_of(text)
    broken["x"][1, 0] = bad
    assert prove(model, result, [batch_of(text), broken]) <= 1e-5
    later = result.model.clone()
    weight = graph.required_constant(later.graph.initializers["w"]).copy()
    weight[0, 0] = bad
    graph.set_constant(later.graph.initializers["w"], weight)
    with pytest.raises(SpecViolation, match="output 'y' differs by inf"):
        prove(model, Canonical(later, result.applied), [batch_of(text), batch_of(text, seed=2)])


MIXED = {
    "batch and axis swapped": "(float[N,1,4] x) => (y) <int64[3] s = {1,-1,4}> { a = Relu(x) y = Reshape(a, s) }",
    "samples strung together inside":
        "(float[N,1,4] x) => (y) <int64[3] s = {1,1,-1}, int64[2] t = {-1,4}> "
        "{ a = Reshape(x, s) b = MaxPool<kernel_shape = [3], pads = [1,1]>(a) y = Reshape(b, t) }",
}


@pytest.mark.parametrize("text", MIXED.values(), ids=MIXED)
def test_a_model_that_mixes_samples_is_the_users(text: str) -> None:
    model = model_of(text)
    with pytest.raises(ModelError, match="the model answers otherwise than on a whole batch: output 'y'"):
        prove(model, canonicalize(model), [batch_of(text)])


def test_an_original_that_cannot_be_run_is_the_users() -> None:
    text = "(float[N,3] x) => (y) <float[3,3] w> { y = Gemm<transB = 1>(x, w) }"
    model = model_of(text)
    result = canonicalize(model)
    with pytest.raises(ModelError, match="onnxruntime failed to run the model"):
        prove(model, result, [{"x": np.zeros((2, 5), np.float32)}])


A = np.array([[1.0, -4.0], [2.0, 0.5]], np.float32)
ZERO = np.zeros((2, 2), np.float32)


def _with(value: float) -> Any:
    array = A.copy()
    array[0, 0] = value
    return array


DIFFERENCES = {
    "equal": ({"y": A}, {"y": A}, (0.0, "")),
    "relative to the largest magnitude": ({"y": A}, {"y": _with(3.0)}, (0.5, "y")),
    "the worst of two outputs": ({"y": A, "z": A}, {"y": _with(1.5), "z": _with(2.0)}, (0.25, "z")),
    "the worst of two outputs, the other way": ({"y": A, "z": A}, {"y": _with(2.0), "z": _with(1.5)}, (0.25, "y")),
    "zeros": ({"y": ZERO}, {"y": ZERO}, (0.0, "")),
    "nearly zeros": ({"y": ZERO}, {"y": ZERO + np.float32(1e-6)}, (pytest.approx(1.0), "y")),
    "no samples": ({"y": A[:0]}, {"y": A[:0]}, (0.0, "")),
    "integers": ({"y": np.array([[4, 2]])}, {"y": np.array([[4, 1]])}, (0.25, "y")),
    "NaN on both sides": ({"y": _with(np.nan)}, {"y": _with(np.nan)}, (0.0, "")),
    "NaN here": ({"y": _with(np.nan)}, {"y": A}, (np.inf, "y")),
    "NaN there": ({"y": A}, {"y": _with(np.nan)}, (np.inf, "y")),
    "NaN beside a difference": ({"y": _with(np.nan)}, {"y": _with(np.nan) + np.float32(1)}, (0.25, "y")),
    "NaN, then an equal output": ({"y": A, "z": A}, {"y": _with(np.nan), "z": A}, (np.inf, "y")),
    "an equal output, then NaN": ({"y": A, "z": A}, {"y": A, "z": _with(np.nan)}, (np.inf, "z")),
    "infinite on both sides": ({"y": _with(np.inf)}, {"y": _with(np.inf)}, (0.0, "")),
    "infinite with the other sign": ({"y": _with(np.inf)}, {"y": _with(-np.inf)}, (np.inf, "y")),
    "infinite there": ({"y": A}, {"y": _with(np.inf)}, (np.inf, "y")),
    "a shape that would broadcast": ({"y": A}, {"y": A[:, :, None, None]}, (np.inf, "y")),
    "one sample for two": ({"y": A}, {"y": A[:1]}, (np.inf, "y")),
}


@pytest.mark.parametrize(("expected", "found", "answer"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_difference(expected: dict[str, Any], found: dict[str, Any], answer: tuple[float, str]) -> None:
    assert difference(expected, found) == answer


def test_the_tolerance_is_what_is_promised() -> None:
    assert TOLERANCE == 1e-4


# --------------------------------------------------------------------------------------------------- its cost


def _chain(kind: str, count: int) -> ir.Model:
    """About ``count`` nodes, one behind the other."""
    blocks = {
        "relu": (2, "c{i} = Conv(r{p}, w{i}) r{i} = Relu(c{i})"),
        "bias": (2, "c{i} = Conv(r{p}, w{i}) r{i} = Add(c{i}, b)"),
        "residual": (2, "c{i} = Conv(r{p}, w{i}) r{i} = Add(c{i}, r{p})"),
        "one weight": (3, f"c{{i}} = Conv(r{{p}}, w) n{{i}} = {NORM}(c{{i}}, g, o, m, var) r{{i}} = Relu(n{{i}})"),
        "norm": (4, f"c{{i}} = Conv(r{{p}}, w{{i}}) n{{i}} = {NORM}(c{{i}}, g, o, m, var) d{{i}} = Dropout(n{{i}})"
                    " r{i} = Relu(d{i})"),
    }
    size, block = blocks[kind]
    number = count // size
    weights = ", ".join(f"float[3,3,1,1] w{i}" for i in range(1, number + 1)) if "w{i}" in block else "float[3,3,1,1] w"
    nodes = " ".join(block.format(i=i, p=i - 1) for i in range(1, number + 1))
    return model_of(f"(float[N,3,2,2] r0) => (r{number}) <{weights}, {N3}, float[3,1,1] b> {{ {nodes} }}")


def _calls(function: Callable[[], object]) -> int:
    """Function calls, those into C included: the same on every machine, as a time is not."""
    count = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("kind", ["relu", "bias", "residual", "one weight", "norm"])
def test_cost_grows_with_the_number_of_nodes(kind: str) -> None:
    small, large = _chain(kind, 240), _chain(kind, 480)
    canonicalize(small)  # what is done once only
    assert _calls(lambda: canonicalize(large)) <= 2.1 * _calls(lambda: canonicalize(small))


@pytest.mark.parametrize("step", [
    "b{i} = Add(a{i}, o) a{j} = Relu(b{i})", f"b{{i}} = Add(a{{i}}, o) a{{j}} = {NORM}(b{{i}}, g, o, m, var)"])
def test_rounds_do_not_grow_with_the_graph(step: str) -> None:
    """Chains of constants with nothing to fold into, and those behind one layer."""
    found = []
    for count in (10, 40):
        nodes = " ".join(step.format(i=i, j=i + 1) for i in range(count))
        text = f"(float[N,3] x) => (y) <float[3,3] w, {N3}> {{ a0 = Gemm(x, w) {nodes} y = Relu(a{count}) }}"
        found.append(len(canonicalize(model_of(text)).applied))
    assert found[0] == found[1]
