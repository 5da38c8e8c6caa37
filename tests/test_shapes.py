"""Shape inference fills in what can be known, changes nothing else, and leaves weights where they are."""

from __future__ import annotations

import logging

import onnx.parser
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import ShapeInferencePass

from onnxdiana.shapes import infer_shapes

HEADER = '<ir_version: 10, opset_import: ["" : 20, "custom" : 1]> g '


def parse(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(HEADER + text))


def shapes(model: ir.Model) -> dict[str, str]:
    return {v.name or "": f"{v.dtype} {v.shape}" for node in model.graph for v in node.outputs}


KNOWN = {
    "a layer": (
        "(float[2,3,5,5] x) => (y) <float[1,3,3,3] w = {" + ",".join("1" * 27) + "}> { y = Conv(x, w) }",
        {"y": "FLOAT [2,1,3,3]"}),
    "a target from an initializer": (
        "(float[2,3,4] x) => (y) <int64[2] s = {2,-1}> { y = Reshape(x, s) }", {"y": "FLOAT [2,12]"}),
    "a target computed from shapes": (
        "(float[2,3,4] x) => (y) <int64[1] r = {-1}> "
        "{ n = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(n, r) y = Reshape(x, t) }",
        {"n": "INT64 [1]", "t": "INT64 [2]", "y": "FLOAT [2,12]"}),
    "several outputs": (
        "(float[2,4] x) => (y, z) { y, z = Split<axis = 1, num_outputs = 2>(x) }",
        {"y": "FLOAT [2,2]", "z": "FLOAT [2,2]"}),
    "a count that fits no memory": (
        "(float[2,4] x) => (y) <int64 a = {0}, int64 s = {400000000000}, int64 d = {1}> { y = Range(a, s, d) }",
        {"y": "INT64 [400000000000]"}),
    "another type": ("(float[2,4] x) => (y) { y = Cast<to = 6>(x) }", {"y": "INT32 [2,4]"}),
    "an unknown operator stops its readers alone": (
        "(float[2,4] x) => (y, z) { a = custom.F(x) y = Relu(a) z = Relu(x) }",
        {"a": "None None", "y": "None None", "z": "FLOAT [2,4]"}),
    "a failing operator stops its readers alone": (
        "(float[2,4] x, float[3,5] w) => (y, z) { a = MatMul(x, w) y = Relu(a) z = Relu(x) }",
        {"a": "None None", "y": "None None", "z": "FLOAT [2,4]"}),
    "types that do not fit": (
        "(float[2,4] x, int64[2,4] w) => (y, z) { y = Concat<axis = 0>(x, w) z = Relu(x) }",
        {"y": "FLOAT [4,4]", "z": "FLOAT [2,4]"}),
    "an open size": ("(float[2,N] x) => (y) { y = Relu(x) }", {"y": "FLOAT [2,None]"}),
}


@pytest.mark.parametrize(("text", "expected"), KNOWN.values(), ids=KNOWN)
def test_what_can_be_known(text: str, expected: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    model = parse(text)
    with caplog.at_level(logging.WARNING):
        infer_shapes(model)
    assert shapes(model) == expected
    assert not caplog.records


def test_the_same_as_onnx_irs_pass() -> None:
    text, _ = KNOWN["a target computed from shapes"]
    ours, theirs = parse(text), parse(text)
    infer_shapes(ours)
    ShapeInferencePass()(theirs)
    assert ir.to_proto(ours) == ir.to_proto(theirs)


def test_stale_sizes_give_way() -> None:
    model = parse("(float[2,N] x) => (y) { a = Relu(x) y = Relu(a) }")
    infer_shapes(model)
    model.graph.inputs[0].shape = ir.Shape([2, 7])
    infer_shapes(model)
    assert shapes(model) == {"a": "FLOAT [2,7]", "y": "FLOAT [2,7]"}


def test_nothing_but_shapes_changes() -> None:
    text, _ = KNOWN["a target computed from shapes"]
    model = parse(text)
    infer_shapes(model)
    found = ir.to_proto(model)
    del found.graph.value_info[:]
    original = ir.to_proto(parse(text))
    del original.graph.value_info[:]
    original.graph.output[0].CopyFrom(found.graph.output[0])
    assert found == original


def test_tensors_that_carry_another_name_than_their_value() -> None:
    model = parse("(float[2,3,4] x) => (y) <int64[1] i = {0}, int64[1] r = {-1}> "
                  "{ s = Shape(x) n = Gather(s, i) t = Concat<axis = 0>(n, r) y = Reshape(x, t) }")
    for value in model.graph.initializers.values():  # as constants that were lifted out of nodes
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy(), name="")
    infer_shapes(model)
    infer_shapes(model)
    assert shapes(model)["y"] == "FLOAT [2,12]"


def test_weights_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse("(float[2,300] x) => (y) <int64[2] s = {2,-1}> { a = Reshape(x, s) y = Add(a, w) }".replace(
        "<", "<float[300] w = {" + ",".join(["1"] * 300) + "}, "))
    copied: list[str | None] = []
    serialize = ir.serde.serialize_tensor
    monkeypatch.setattr(ir.serde, "serialize_tensor", lambda tensor: copied.append(tensor.name) or serialize(tensor))
    infer_shapes(model)
    assert copied == ["s"]
    assert shapes(model) == {"a": "FLOAT [2,300]", "y": "FLOAT [2,300]"}
