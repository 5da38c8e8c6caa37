"""Shapes that the user gives stand where the file leaves sizes open, and never contradict it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import ModelProto
from tiny import model

from onnxdiana.canonical import canonicalize, prove
from onnxdiana.errors import ConfigError, ModelError
from onnxdiana.loading import load, parse_shape

ADD = "({x} x, {z} z) => (float[N,C,H,W] y) {{ y = Add(x, z) }}"


def shapes(proto: ModelProto, **given: tuple[int, ...]) -> dict[str, list[int | str | None]]:
    """Of all inputs, once loaded."""
    values = load(proto, given).model.graph.inputs
    return {value.name or "": [d if isinstance(d, int) else d.value for d in value.shape or ()] for value in values}


@pytest.mark.parametrize(("text", "expected"), [
    ("x=1,3,32,32", ("x", (1, 3, 32, 32))), ("input:0=4", ("input:0", (4,))), ("a=b=1,2", ("a=b", (1, 2))),
    (" x =1,2", (" x ", (1, 2))),
])
def test_text(text: str, expected: tuple[str, tuple[int, ...]]) -> None:
    assert parse_shape(text) == expected


@pytest.mark.parametrize("text", [
    "", "x", "x=", "=1,2", "1,2", "x=1,", "x=,1", "x=0,3", "x=-1,3", "x=N,3", "x=1x3", "x=1.0", "x=1, 3", "x=1,3\n",
    "x=1_0", "x=\u0661", "x=99999999999",
])
def test_text_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a name and its positive sizes: write it like --input-shape input="):
        parse_shape(text)


@pytest.mark.parametrize(("declared", "given"), [
    ("float[N,3,H,W]", (1, 3, 8, 8)), ("float[N,C,H,W]", (2, 3, 8, 9)), ("float[N,3,?,?]", (1, 3, 4, 4)),
    ("float[]", (1, 3, 8, 8)), ("float[4,3,H,H]", (4, 3, 8, 9)), ("float[1,3,8,8]", (1, 3, 8, 8)),
    ("float[0,0,0,0]", (1, 3, 8, 8)),
])
def test_sizes_are_taken(declared: str, given: tuple[int, ...]) -> None:
    proto = model(f"({declared} x) => (float[N,C,H,W] y) {{ y = Relu(x) }}")
    if declared == "float[]":
        proto.graph.input[0].type.tensor_type.ClearField("shape")
    loaded = load(proto, {"x": given})
    assert shapes(proto, x=given) == {"x": list(given)}
    assert f"input 'x' has the given shape {'x'.join(map(str, given))}" in loaded.notes
    assert [d if isinstance(d, int) else None for d in loaded.model.graph.outputs[0].shape or ()] == list(given)


def test_a_symbol_has_one_size_everywhere() -> None:
    proto = model(ADD.format(x="float[N,3,H,W]", z="float[N,3,H,W]"))
    assert shapes(proto, x=(2, 3, 8, 9)) == {"x": [2, 3, 8, 9], "z": [2, 3, 8, 9]}


def test_a_symbol_of_two_sizes_says_nothing_of_other_inputs() -> None:
    """Some exporters call all sizes that they do not know the same."""
    proto = model(ADD.format(x="float[N,3,H,H]", z="float[N,3,H,1]"))
    with pytest.raises(ModelError, match=r"axis 2 of input 'z' has symbolic size 'H'.*: --input-shape z=2,3,H,1$"):
        shapes(proto, x=(2, 3, 8, 9))
    assert shapes(proto, x=(2, 3, 8, 9), z=(2, 3, 8, 1)) == {"x": [2, 3, 8, 9], "z": [2, 3, 8, 1]}


@pytest.mark.parametrize(("declared", "given", "message"), [
    ("float[N,3,H,8]", {"x": (1, 4, 8, 8)}, "shape 1,4,8,8 given for input 'x' contradicts the file's, N,3,H,8: give "
                                            "it as --input-shape x=1,3,H,8"),
    ("float[4,3,H,8]", {"x": (1, 3, 8, 8)}, "contradicts the file's, 4,3,H,8"),
    ("float[N,3,H,8]", {"x": (1, 3, 8)}, "contradicts the file's, N,3,H,8"),
    ("float[N,3,H,8]", {"x": (1, 3, 8, 8, 1)}, "contradicts the file's"),
    ("float[N,3,H,8]", {"x": (1, 3, 0, 8)}, r"shape \[1, 3, 0, 8\] given for input 'x' has sizes that are no positive"),
    ("float[N,3,H,8]", {"x": (1, 3, -8, 8)}, "no positive numbers: give all of them, such as --input-shape x=1,3,H,8"),
    ("float[N,3,H,8]", {"x": ()}, "no positive numbers"),
    ("float[N,3,H,8]", {"x": (1, 3, 8.0, 8)}, "no positive numbers"),
    ("float[N,3,H,8]", {"x": (1, 3, 2**40, 8)}, "no positive numbers"),
    ("float[N,3,H,8]", {"x": (1, 3, 2**30, 8)}, "has more than 67108864 elements"),
    ("float[N,3,H,8]", {"X": (1, 3, 8, 8)}, "given for 'X', which is no input of the model: the inputs are 'x'"),
    ("float[N,3,H,8]", {"w": (1, 3, 8, 8)}, "given for 'w', which is no input"),
    ("float", {"x": (1, 3, 8, 8)}, "input 'x' is a scalar"),
    ("seq(float[N,3])", {"x": (1, 3)}, "input 'x' is a sequence"),
])
def test_refused(declared: str, given: dict[str, tuple[int, ...]], message: str) -> None:
    proto = model(f"({declared} x) => (float[N,C,H,W] y) <float[1] w> {{ y = Add(x, w) }}")
    with pytest.raises(ModelError, match=message):
        load(proto, given)


def test_the_nearest_name_is_offered() -> None:
    proto = model("(float[N,3] images, float[N,3] masks) => (float[N,3] y) { y = Add(images, masks) }")
    with pytest.raises(ModelError, match=r"which is no input of the model: did you mean 'images'\?"):
        load(proto, {"image": (1, 3)})


def test_the_only_input_needs_no_name() -> None:
    proto = model("(float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
    assert shapes(proto, **{"": (1, 3, 8, 9)}) == {"x": [1, 3, 8, 9]}
    two = model(ADD.format(x="float[N,3,H,W]", z="float[N,3,H,W]"))
    for source, given in ((proto, {"": (1, 3, 8, 9), "x": (1, 3, 8, 9)}), (two, {"": (1, 3, 8, 9)})):
        with pytest.raises(ModelError, match=r"given without a name, .*: the inputs are 'x'.*; give it like --input-s"):
            load(source, given)


@pytest.mark.parametrize(("declared", "message"), [
    ("float[N,3,H,8]", "axis 2 of input 'x' has symbolic size 'H': .*: --input-shape x=1,3,H,8$"),
    ("float[5,?,H,8]", r"axis 1 of input 'x' has unknown size: .*: --input-shape x=5,\?,H,8$"),
])
def test_open_sizes_are_asked_for(declared: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(model(f"({declared} x) => (float[N,C,H,W] y) {{ y = Relu(x) }}"))
    proto = model("(float[N,3] x) => (float[N,C] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match=r"input 'x' has no shape: .*like --input-shape x=1,3,32,32$"):
        load(proto)


def test_stale_declarations_do_not_contradict() -> None:
    """Sizes of the exporter's example, in between and at the output, of another shape than the given one."""
    proto = model("(float[N,3,H,W] x) => (float[N,4,6,6] y) <float[4,3,3,3] w> { a = Conv(x, w) y = Relu(a) }")
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("a", 1, [1, 4, 6, 6]))
    result = ir.to_proto(load(proto, {"x": (1, 3, 9, 9)}).model)
    onnx.checker.check_model(result, full_check=True)
    assert [dim.dim_value for dim in result.graph.output[0].type.tensor_type.shape.dim] == [1, 4, 7, 7]


SIZED = """(float[N,3,H,W] x) => (float[N,5] y)
    <float[4,3,3,3] w, float[4] b, float[4,4,3,3] v, float[5,{features}] l, float[5] u, int64 zero = {{0}},
     int64[1] first = {{0}}, int64[1] minus = {{-1}}> {{
    a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)  r = Relu(a)  c = Conv<pads=[1,1,1,1]>(r, v)  q = Relu(c)
    s = Shape(q)  n = Gather(s, zero)  m = {unsqueeze}  k = Concat<axis=0>(m, minus)  f = Reshape(q, k)
    y = Gemm<transB=1>(f, l, u) }}"""


@pytest.mark.parametrize("opset", [9, 13, 20])
@pytest.mark.parametrize(("size", "features"), [(8, 64), (12, 144)])
def test_a_network_whose_sizes_were_open(opset: int, size: int, features: int) -> None:
    unsqueeze = "Unsqueeze<axes=[0]>(n)" if opset < 13 else "Unsqueeze(n, first)"
    text = SIZED.format(features=features, unsqueeze=unsqueeze)
    proto = model(text if opset >= 13 else text.replace("int64[1] first = {0},", ""), opset)
    loaded = load(proto, {"x": (1, 3, size, size)})
    canonical = canonicalize(loaded.model)
    assert [node.op_type for node in canonical.model.graph] == ["Conv", "Relu", "Conv", "Relu", "Flatten", "Gemm"]
    x = np.random.default_rng(0).standard_normal((5, 3, size, size)).astype(np.float32)
    opened = load(proto, {"x": (5, 3, size, size)})
    assert prove(opened.model, canonical, [{"x": x}]) <= 1e-4
