"""Versions, inputs, outputs and missing tensors: each is refused by name, or understood."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import ModelProto, numpy_helper
from tiny import CONV, model

from onnxdiana.errors import ModelError
from onnxdiana.loading import load

RELU = "(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"


def refused(source: ModelProto | str, *parts: str) -> None:
    """Loading fails, and the message has all parts."""
    with pytest.raises(ModelError) as caught:
        load(model(source) if isinstance(source, str) else source)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(("opset", "message"), [
    (6, "opset 6 is too old: opsets 7 to {newest} are supported; export it again at opset 20"),
    (0, "opset 0 is too old"), (-1, "opset -1 is too old"),
    (10**6, "opset 1000000 is too new: opsets 7 to {newest} are supported; upgrade onnx, or export it at opset 20"),
])
def test_opsets_out_of_range(opset: int, message: str) -> None:
    proto = model(RELU)
    proto.opset_import[0].version = opset
    refused(proto, message.format(newest=onnx.defs.onnx_opset_version()))


def test_opset_imports() -> None:
    proto = model(RELU)
    proto.opset_import.add(domain="", version=13)
    refused(proto, "imports a domain in two versions")
    proto = model(RELU)
    proto.opset_import.add(domain="ai.onnx", version=20)  # the same domain under its other name
    assert load(proto).opset == 20
    del proto.opset_import[:]
    refused(proto, "imports no ONNX opset")


def test_ir_versions() -> None:
    proto = model(RELU)
    proto.ir_version = onnx.IR_VERSION + 1
    refused(proto, f"IR version {proto.ir_version}", f"up to {onnx.IR_VERSION}", "upgrade onnx")
    proto.ir_version = onnx.IR_VERSION
    assert load(proto).model.ir_version == 10


def test_training_information() -> None:
    proto = model(RELU)
    proto.training_info.add()
    refused(proto, "training information", "export it for inference")


@pytest.mark.parametrize(("text", "message"), [
    ("(float x) => (float y) { y = Relu(x) }", "input 'x' is a scalar: export it with a first axis"),
    ("(float[N,C] x) => (float[N,C] y) { y = Relu(x) }", "axis 1 of input 'x' has symbolic size 'C'"),
    ("(float[N,3,?,8] x) => (float[N,3,H,8] y) { y = Relu(x) }", "axis 2 of input 'x' has unknown size"),
    ("(float[N,0] x) => (float[N,0] y) { y = Relu(x) }", "axis 1 of input 'x' has unknown size"),
    ("(float[] x) => (float[N] y) { y = Relu(x) }", "input 'x' has no shape: export the model with fixed sizes"),
    ("(int8[N,4] x) => (float[N,4] y) { y = Cast<to=1>(x) }", "input 'x' is int8, not float"),
    ("(string[N,4] x) => (string[N,4] y) { y = Identity(x) }", "input 'x' is string, not float"),
    ("(seq(float[N,4]) x) => (float[N,4] y) { y = ConcatFromSequence<axis=0>(x) }", "input 'x' is a sequence"),
    ("(optional(float[N,4]) x) => (float[N,4] y) { y = OptionalGetElement(x) }", "input 'x' is a optional"),
    ("(float[N,4] x) => (seq(float[N,4]) y) { y = SequenceConstruct(x) }", "output 'y' is a sequence"),
    ("() => (float[N,4] y) <float[1,4] x> { y = Relu(x) }", "no inputs"),
    ("(float[N,4] x) => () { y = Relu(x) }", "no outputs"),
    ("(float[N,4] x) => (float[N,4] x) { y = Relu(x) }", "output 'x' is the input of the same name"),
    ("(float[N,4] x) => (float[N,4] y, float[N,4] x) { y = Relu(x) }", "output 'x' is the input of the same name"),
    ("(float[N,4] x) => (float[N,4] y, float[2] w) <float[2] w> { y = Relu(x) }", "output 'w' is a constant"),
    ("(float[N,4] x, float[N,4] x) => (float[N,4] y) { y = Relu(x) }", "input 'x' is listed 2 times"),
    ("(float[N,4] x) => (float[N,4] y, float[N,4] y) { y = Relu(x) }", "output 'y' is listed 2 times"),
    ("(float[N,70000000] x) => (float[N,70000000] y) { y = Relu(x) }", "has more than 67108864 elements"),
    ("(float[N,4] x) => (float[N,4] y) { z = Relu(x) }", "output 'y' is computed by no node"),
    ("(float[N,4] x) => (float[N,4] y) { y = Add(x, w) }", "Add -> 'y' reads 'w', which no node computes"),
    ("(float[N,4] x) => (float[N,4] y) { y = Relu(z) z = Relu(x) }", "Relu -> 'y' reads 'z' before it is computed"),
    ("(float[N,4] x) => (float[N,4] y) { y = Relu(y) }", "Relu -> 'y' reads 'y' before it is computed"),
    ("(float[N,4] x) => (float[N,4] y) { y = Relu(x) y = Relu(x) }", "not a valid ONNX model"),
    ("(float[N,4] x) => (float[N,4] y) { y = Relu<slope=1.0>(x) }", "Unrecognized attribute: slope"),
    ("(float[N,4] x) => (float[N,4] y) { y = Relu(x, x) }", "not a valid ONNX model of opset 20"),
])
def test_refused(text: str, message: str) -> None:
    refused(text, message)


@pytest.mark.parametrize("opset", [7, 20])
@pytest.mark.parametrize("attribute", ["strides=[0,2]", "dilations=[1,-1]", "kernel_shape=[0,0]"])
def test_windows_without_size_or_stride(attribute: str, opset: int) -> None:
    """Old releases of onnx divide by them."""
    proto = model(CONV.replace("strides=[2,2]", attribute), opset)
    refused(proto, f"Conv -> 'a', attribute '{attribute.split('=')[0]}', is [", "no entry may be below 1")


def test_missing_tensors_in_subgraphs() -> None:
    branch = "() => (float[N,4] p) { p = Add(x, w) }"
    text = f"(float[N,4] x) => (float[N,4] y) {{ y = If(x) <then_branch = t {branch}, else_branch = e {branch}> }}"
    refused(text, "Add -> 'p' reads 'w', which no node computes")


@pytest.mark.parametrize(("first", "expected"), [("N", "N"), ("4", 4), ("?", None)])
def test_first_axis(first: str, expected: str | int | None) -> None:
    """Open under any name, or fixed."""
    shape = load(model(CONV.replace("N,3", f"{first},3").replace("N,5", f"{first},5"))).model.graph.inputs[0].shape
    assert shape is not None
    found = shape[0]
    assert (found.value if isinstance(found, ir.SymbolicDim) else found) == expected
    assert list(shape)[1:] == [3, 8, 8]


@pytest.mark.parametrize("size", [0, -1])
def test_first_axis_of_impossible_size_is_open(size: int) -> None:
    """How some exporters write "unknown"."""
    proto = model(CONV)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    shape = load(proto).model.graph.inputs[0].shape
    assert shape is not None
    assert not isinstance(shape[0], int)


def test_types_that_no_version_of_onnx_has() -> None:
    proto = model(CONV)
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("a", 100, [1, 4, 4, 4]))
    refused(proto, "not a valid ONNX model: 100 is not a valid DataType; export it again")


def test_models_nested_too_deep_for_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(proto: ModelProto) -> None:
        raise RecursionError

    monkeypatch.setattr("onnxdiana.loading.check_text", fail)
    refused(model(RELU), "'g' is too large or too deeply nested to be read here")


def test_only_inputs_with_stored_values() -> None:
    proto = model(RELU)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 4), np.float32), "x"))
    refused(proto, "input 'x' has a stored value", "take that initializer out")


def test_an_input_with_a_stored_value_beside_another() -> None:
    proto = model("(float[N,4] x, float[N,4] z) => (float[N,4] y) { y = Add(x, z) }")
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((1, 4), np.float32), "z"))
    loaded = load(proto)
    assert [value.name for value in loaded.model.graph.inputs] == ["x"]
    assert loaded.notes == ("initializers taken out of the inputs",)


def test_placement_on_devices_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    proto = model(RELU)
    proto.graph.node[0].device_configurations.add()
    assert [node.op_type for node in ir.to_proto(load(proto).model).graph.node] == ["Relu"]
    assert not caplog.records  # onnx_ir would complain of them
