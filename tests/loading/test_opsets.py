"""Every opset, IR version and float type is read, and answers as the same network written at opset 20 does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from tiny import CONV, initializer, model, values, with_values

from onnxdiana.errors import ModelError, UnsupportedOpError
from onnxdiana.loading import OPSET, LoadedModel, load

NEWEST = onnx.defs.onnx_opset_version()
X = np.random.default_rng(1).standard_normal((3, 3, 8, 8)).astype(np.float32)


def network(opset: int) -> ModelProto:
    """Every operator whose spelling has changed between opset 7 and ours, as ``opset`` spells it."""
    pad = "Pad<pads=[0,0,1,1,0,0,1,1]>(x)" if opset < 11 else "Pad(x, pads)"
    clip = "Clip<min=0.0, max=6.0>(c)" if opset < 11 else "Clip(c, zero, six)"
    spatial = ", spatial=1" if opset < 9 else ""
    dropout = "Dropout<ratio=0.5>(n)" if opset < 12 else "Dropout(n, half)"
    unsqueeze, squeeze = (f"{name}<axes=[1]>" if opset < 13 else name for name in ("Unsqueeze", "Squeeze"))
    axis = "" if opset < 13 else ", one"
    mean = "ReduceMean<axes=[2,3], keepdims=0>(s)" if opset < 18 else "ReduceMean<keepdims=0>(s, plane)"
    proto = model(f"""(float[N,3,8,8] x) => (float[N,5] y)
        <float[4,3,3,3] w, float[4] scale, float[4] offset, float[4] mu, float[4] var, float[5,4] v, float[5] bias,
         int64[8] pads = {{0,0,1,1,0,0,1,1}}, float zero = {{0}}, float six = {{6}}, float half = {{0.5}},
         int64[1] one = {{1}}, int64[2] plane = {{2,3}}, int64[2] flat = {{-1, 4}}> {{
        p = {pad}  c = Conv(p, w)  l = {clip}
        n = BatchNormalization<epsilon=1e-5{spatial}>(l, scale, offset, mu, var)  d = {dropout}
        u = {unsqueeze}(d{axis})  s = {squeeze}(u{axis})  m = {mean}  r = Reshape(m, flat)
        y = Gemm<transB=1>(r, v, bias) }}""", opset, ir_version=3 if opset < 9 else 8)
    used = {name for node in proto.graph.node for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return listed(proto) if opset < 9 else proto


def listed(proto: ModelProto) -> ModelProto:
    """The model with its initializers among its inputs, as IR version 3 wants them."""
    for tensor in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return proto


def answers(proto: ModelProto, x: NDArray[Any] = X) -> NDArray[Any]:
    """The first output, from onnxruntime without its own rewriting."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {proto.graph.input[0].name: x})[0])


def read(proto: ModelProto) -> tuple[LoadedModel, ModelProto]:
    """The model loaded, in the form that every later stage expects."""
    loaded = load(proto)
    result = ir.to_proto(loaded.model)
    onnx.checker.check_model(result, full_check=True)
    assert [entry.version for entry in result.opset_import if not entry.domain] == [OPSET]
    assert not result.functions
    kinds = {tensor.data_type for tensor in result.graph.initializer} | {
        value.type.tensor_type.elem_type for value in (*result.graph.input, *result.graph.output)}
    assert not kinds & {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    return loaded, result


@pytest.mark.parametrize("opset", range(7, NEWEST + 1))
def test_every_opset(opset: int) -> None:
    loaded, result = read(network(opset))
    assert loaded.opset == opset
    np.testing.assert_allclose(answers(result), answers(network(OPSET)), rtol=1e-5, atol=1e-5)
    notes = [note for note in loaded.notes if note.startswith("opset")]
    expected = [] if opset == OPSET else [f"opset {opset} {'raised to' if opset < OPSET else 'read as'} {OPSET}"]
    assert notes == expected


@pytest.mark.parametrize("opset", [7, 8, 13])
@pytest.mark.parametrize("names", ["", "w", "wbvu"])
def test_initializers_that_are_no_inputs_in_the_oldest_format(opset: int, names: str) -> None:
    """TorchScript folds weights into new ones and lists only the others, which onnx's checker does not take."""
    proto = model(CONV, opset, ir_version=3)
    proto.graph.input.extend(value for value in listed(model(CONV)).graph.input if value.name in set(names))
    _, result = read(proto)
    np.testing.assert_allclose(answers(result), answers(model()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ir_version", range(3, onnx.IR_VERSION + 1))
def test_every_ir_version(ir_version: int) -> None:
    opset = {3: 8, 4: 9, 5: 10, 6: 11, 7: 12}.get(ir_version, 13)
    proto = model(CONV, opset, ir_version)
    _, result = read(listed(proto) if ir_version == 3 else proto)
    np.testing.assert_allclose(answers(result), answers(model()), rtol=1e-5, atol=1e-5)
    assert [value.name for value in result.graph.input] == ["x"]


def test_initializers_among_the_inputs_are_constants() -> None:
    """Whatever the IR version: a default that a caller could override is quantized as it stands."""
    loaded, result = read(listed(model()))
    assert loaded.notes == ("initializers taken out of the inputs",)
    assert [value.name for value in result.graph.input] == ["x"]
    np.testing.assert_array_equal(answers(result), answers(model()))


@pytest.mark.parametrize(("kind", "name"), [
    (TensorProto.FLOAT16, "float16"), (TensorProto.DOUBLE, "float64"), (TensorProto.BFLOAT16, "bfloat16")])
@pytest.mark.parametrize("opset", [13, 20, NEWEST])
def test_other_float_types(kind: int, name: str, opset: int) -> None:
    """Weights, interface, tensors in between, constants in nodes and casts, inline or typed."""
    word = {"float64": "double"}.get(name, name)
    proto = model(CONV.replace("float[", f"{word}[").replace("r = Relu(a)", f"k = Cast<to={kind}>(a) t = Add(k, h) r = "
                                                             "Relu(t)"), opset)
    half = numpy_helper.from_array(np.array([0.5]).astype(onnx.helper.tensor_dtype_to_np_dtype(kind)))
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["h"], value=half))
    loaded, result = read(proto)
    assert f"{name} model converted to float32" in loaded.notes
    assert result.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    for tensor in "wbvu":
        np.testing.assert_array_equal(values(result, tensor), values(proto, tensor).astype(np.float32))
    same = model(CONV.replace("r = Relu(a)", "h = Constant<value=float[1] {0.5}>() t = Add(a, h) r = Relu(t)"))
    same = with_values(same, **{tensor: values(result, tensor) for tensor in "wbvu"})
    np.testing.assert_allclose(answers(result), answers(same), rtol=1e-5, atol=1e-5)


def test_mixed_float_types_are_all_named() -> None:
    proto = model("""(float16[N,4] x) => (double[N,3] y) <double[4,3] w> { a = Cast<to=11>(x) y = MatMul(a, w) }""")
    loaded, _ = read(proto)
    assert loaded.notes == ("float16 and float64 model converted to float32",)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_bounds_that_other_types_write_as_infinite_stay(kind: type) -> None:
    """A lone scalar may be infinite, or too large for float32: it is how a missing bound is written."""
    word, largest = ("float16", np.inf) if kind is np.float16 else ("double", np.finfo(np.float64).max)
    proto = model(f"({word}[N,4] x) => ({word}[N,4] y) <{word} lo = {{0}}, {word} hi = {{0}}> "
                  "{ y = Clip(x, lo, hi) }")
    _, result = read(with_values(proto, lo=np.array(-1, kind), hi=np.array(largest, kind)))
    assert values(result, "hi") == np.inf
    x = np.array([[-5, 0, 5, 500]], np.float32)
    np.testing.assert_array_equal(answers(result, x), [[-1, 0, 5, 500]])


def test_large_weights_come_back_unchanged() -> None:
    """Those above 1 kB stay out of onnx's functions, at every opset; two layers may share one."""
    text = """(float[N,8,4,4] x) => (float[N,8,4,4] y) <float[8,8,3,3] w, float[8] b> {
        a = Conv<pads=[1,1,1,1]>(x, w, b)  y = Conv<pads=[1,1,1,1]>(a, w, b) }"""
    for opset in (7, 13, 20, NEWEST):
        proto = model(text, opset)
        assert len(initializer(proto, "w").raw_data) > 1024 > len(initializer(proto, "b").raw_data)
        loaded, result = read(proto)
        for name in "wb":
            np.testing.assert_array_equal(values(result, name), values(proto, name))
        assert sorted(loaded.model.graph.initializers) == ["b", "w"]
        assert [node.input[1] for node in result.graph.node] == ["w", "w"]


def test_large_integer_constants() -> None:
    proto = model("(float[N,4] x) => (float[N,200] y) <int64[200] i = {0}> { y = Gather<axis=1>(x, i) }", 13)
    index = np.random.default_rng(0).integers(0, 4, 200)
    _, result = read(with_values(proto, i=index))
    np.testing.assert_array_equal(values(result, "i"), index)


FUNCTIONS = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[N,4] x) => (float[N,4] y) { a = local.twice(x)  y = local.shifted<by: float = 2.0>(a) }
<domain: "local", opset_import: ["" : 17]>
twice (x) => (y) { y = Add(x, x) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
shifted <by> (x) => (y) { c = Constant<value_float: float = @by>()  t = local.twice(x)  y = Sub(t, c) }
"""


def test_functions_are_inlined() -> None:
    loaded, result = read(onnx.parser.parse_model(FUNCTIONS))
    assert loaded.notes == ("2 function(s) inlined", f"opset 17 raised to {OPSET}")
    assert {node.op_type for node in result.graph.node} == {"Add", "Constant", "Sub"}
    x = np.arange(4, dtype=np.float32)[None]
    np.testing.assert_array_equal(answers(result, x), 4 * x - 2)


def test_a_function_can_stand_in_for_a_standard_operator() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) { y = Fancy(x) }
        <domain: "ai.onnx", opset_import: ["" : 17]> Fancy (x) => (y) { y = Relu(x) }"""
    _, result = read(onnx.parser.parse_model(text))
    assert [node.op_type for node in result.graph.node] == ["Relu"]


def doubling(depth: int) -> ModelProto:
    """Each function calls the next one twice."""
    parts = ['<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[N,4] x) => (float[N,4] y) { y = f.f0(x) }']
    for i in range(depth):
        parts.append(f'<domain: "f", opset_import: ["" : 17, "f" : 1]> f{i} (x) => (y) '
                     f"{{ a = f.f{i + 1}(x)  y = f.f{i + 1}(a) }}")
    parts.append(f'<domain: "f", opset_import: ["" : 17]> f{depth} (x) => (y) {{ y = Relu(x) }}')
    return onnx.parser.parse_model("\n".join(parts))


def test_functions_that_grow_exponentially_are_refused() -> None:
    assert len(read(doubling(4))[1].graph.node) == 16
    for depth in (20, 40):  # a million nodes, 10**12
        with pytest.raises(ModelError, match="more than 1000000 nodes or 2 GiB once its functions are inlined"):
            load(doubling(depth))


def test_functions_that_grow_in_bytes_are_refused() -> None:
    """Few nodes, but each carries a megabyte."""
    proto = doubling(12)
    proto.functions[-1].node[0].CopyFrom(onnx.helper.make_node(
        "Constant", [], ["c"], value=numpy_helper.from_array(np.zeros(2**18, np.float32))))
    proto.functions[-1].node.append(onnx.helper.make_node("Add", ["x", "c"], ["y"]))
    with pytest.raises(ModelError, match="or 2 GiB once its functions are inlined"):
        load(proto)


def function(body: str, name: str = "f", called: bool = True) -> ModelProto:
    call = f"y = l.{name}(x)" if called else "y = Relu(x)"
    return onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17, "l" : 1]> g (float[N,4] x) => (float[N,4] y) {{ {call} }}
        <domain: "l", opset_import: ["" : 17, "l" : 1]> f (a) => (b) {{ {body} }}""")


@pytest.mark.parametrize("called", [True, False])
def test_a_function_that_calls_itself(called: bool) -> None:
    with pytest.raises(ModelError, match="function 'f' calls itself"):
        load(function("b = l.f(a)", called=called))


def test_functions_nested_too_deep() -> None:
    with pytest.raises(ModelError, match=r"function 'f50' is called through more than 50 others"):
        load(doubling(5000))


@pytest.mark.parametrize(("body", "message"), [
    ("c = Relu(a)", "output 'y' is computed by no node"),
    ("b = Add(a, nowhere)", "reads '.*nowhere', which no node computes"),
    ("b = Relu<slope=1.0>(a)", "slope"),
])
def test_damaged_functions(body: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(function(body))


def test_a_call_with_too_many_inputs() -> None:
    proto = function("b = Relu(a)")
    proto.graph.node[0].input.extend(["x", "x"])
    with pytest.raises(ModelError, match=r"the model.s functions cannot be inlined: .*; export it without functions"):
        load(proto)


def test_default_parameters_of_functions_are_checked() -> None:
    proto = onnx.parser.parse_model(FUNCTIONS)
    tensor = numpy_helper.from_array(np.array([1, np.nan], np.float32))
    proto.functions[1].attribute_proto.append(onnx.helper.make_attribute("table", tensor))
    with pytest.raises(ModelError, match=r"function 'shifted', attribute 'table' holds nan at \[1\]"):
        load(proto)


def test_a_reference_to_a_parameter_outside_of_a_function() -> None:
    proto = model("(float[N,4] x) => (float[N,4] y) { y = LeakyRelu<alpha: float = @slope>(x) }")
    with pytest.raises(ModelError, match=r"LeakyRelu -> 'y', attribute 'alpha', refers to a parameter"):
        load(proto)


def test_an_attribute_that_no_opset_has_is_refused_by_name() -> None:
    proto = model("(float[N,4] x) => (float[N,4] y) { y = Relu<slope=1.0>(x) }", 25)
    with pytest.raises(ModelError, match=f"slope.*export it again, best at opset {OPSET}"):
        load(proto)


def test_redefined_and_unknown_operators_reach_the_stage_that_judges_them() -> None:
    """They keep a name that says which opset they are of, and the model is read all the same."""
    group = "GroupNormalization<num_groups=2>(x, s, b)"
    proto = model(f"(float[N,4,8] x) => (float[N,4,8] y) <float[4] s, float[4] b> {{ a = {group} y = Fancy(a) }}", 22)
    nodes = [(node.domain, node.op_type) for node in load(proto).model.graph]
    assert nodes == [("opset-22", "GroupNormalization"), ("opset-22", "Fancy")]
    old = model("(float[N,4] x) => (float[N,4] y) { a = Gelu(x) b = acme.Own(a) y = Relu(b) }", 13)
    nodes = [(node.domain, node.op_type) for node in load(old).model.graph]
    assert nodes == [("opset-13", "Gelu"), ("acme", "Own"), ("", "Relu")]
    default = model("(float[N,4] x) => (float[N,4] y) { y = ai.onnx.Relu(x) }", 13)
    assert [(node.domain, node.op_type) for node in load(default).model.graph] == [("", "Relu")]


def test_control_flow_is_read() -> None:
    text = """(float[N,4] x) => (float[N,4] y) { k = Constant<value_float=1.0>() s = ReduceSum<keepdims=0>(x)
        c = Greater(s, k) y = If(c) <then_branch = t () => (float[N,4] p) { p = Relu(x) },
                                     else_branch = e () => (float[N,4] q) { q = Abs(x) }> }"""
    _, result = read(model(text, 13))
    assert [node.op_type for node in result.graph.node][-1] == "If"


def test_outputs_without_type_or_shape() -> None:
    proto = model()
    proto.graph.output[0].ClearField("type")
    _, result = read(proto)
    assert result.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert [dim.dim_value for dim in result.graph.output[0].type.tensor_type.shape.dim] == [0, 5]


def test_an_output_that_cannot_be_inferred_has_no_invented_shape() -> None:
    proto = model("(float[N,4] x) => (float[N,4] y) { y = acme.Own(x) }", more='"acme" : 1')
    proto.graph.output[0].ClearField("type")
    assert load(proto).model.graph.outputs[0].shape is None


@pytest.mark.parametrize(("text", "where"), [
    (CONV.replace("float[4,3,3,3] w", "float[4,3,9] w"), "Conv -> 'a'"),
    (CONV.replace("float[5,64] v", "float[5,63] v"), "Gemm -> 'y'"),
    ("(float[N,4] x) => (float[N,3] y) <float[5,3] w> { a = Relu(x) y = MatMul(a, w) }", "MatMul -> 'y'"),
    ("(float[N,4] x) => (float[N,4] y) <float[3] i> { a = Relu(x) y = Add(a, i) }", "Add -> 'y'"),
])
def test_sizes_or_types_that_do_not_fit_together(text: str, where: str) -> None:
    for opset in (13, 20):
        with pytest.raises(ModelError, match=f"{where}.*export"):
            load(model(text, opset))


@pytest.mark.parametrize("text", [
    "{ a = acme.Own(x)  b = MatMul(x, w)  y = Add(a, b) }",
    """{ c = Cast<to=9>(x)  b = MatMul(x, w)
         y = If(c) <then_branch = t () => (float p) { p = Relu(x) },
                    else_branch = e () => (float q) { q = Abs(x) }> }""",
])
def test_sizes_beside_operators_that_are_refused_by_name_anyway(text: str) -> None:
    assert len(load(model(f"(float[N,4] x) => (float[N,3] y) <float[5,3] w> {text}", 13)).model.graph) == 3


def test_stale_declarations_in_between_do_not_matter() -> None:
    """Exporters leave sizes of the example batch behind."""
    proto = model(CONV.replace("float[N,5] y", "float[1,5] y"))
    for name, shape in (("a", [1, 4, 4, 4]), ("f", [1, 64])):
        proto.graph.value_info.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    read(proto)


def test_domains_that_nothing_uses_are_no_obstacle() -> None:
    proto = model(CONV, 13, more='"com.microsoft" : 1, "ai.onnx.ml" : 2')
    assert load(proto).opset == 13


@pytest.mark.parametrize("opset", [18, 20, NEWEST])
def test_functions_of_an_older_opset_are_converted(opset: int) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}, "l" : 1]>
        g (float[N,3,4] x) => (float[N,3] y) {{ y = l.f(x) }}
        <domain: "l", opset_import: ["" : 13]>
        f (a) => (b) {{ b = ReduceMean<axes=[2], keepdims=0>(a) }}"""
    _, result = read(onnx.parser.parse_model(text))
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    np.testing.assert_array_equal(answers(result, x), x.mean(axis=2))


@pytest.mark.parametrize("text", [
    "(float[N,4] x) => (float[N,9] y) <int64[4] p = {0,1000000000000,0,0}> { a = Pad(x, p) y = Relu(a) }",
    "(float[N,1] x) => (float[N,9] y) <int64[2] s = {1,100000000000}> { a = Expand(x, s) y = Relu(a) }",
])
def test_huge_tensors_are_refused_before_they_are_made(text: str) -> None:
    with pytest.raises(ModelError, match=r"(Pad|Expand) -> 'a': shape \[1, \d+\] has more than 67108864 elements"):
        load(model(text))


def test_huge_tensors_beside_control_flow() -> None:
    """It may turn out to be constant, and go away."""
    branches = "<then_branch = t () => (float r) { r = Relu(a) }, else_branch = e () => (float q) { q = Abs(a) }>"
    text = f"""(float[N,4] x) => (float[N,9] y) <int64[4] p = {{0,1000000000000,0,0}}, bool c = {{1}}> {{
        a = Pad(x, p)  y = If(c) {branches} }}"""
    with pytest.raises(ModelError, match=r"Pad -> 'a': shape \[1, \d+\] has more than 67108864 elements"):
        load(model(text))


FAILS = "(float[N,4] x) => (float[N,4] y) <float[4] s> { a = %s(x) y = BatchNormalization<spatial=2>(a, s, s, s, s) }"


def test_a_failing_conversion_is_an_error() -> None:
    with pytest.raises(ModelError, match=f"cannot be converted to opset {OPSET}: Attribute spatial must have value 1"):
        load(model(FAILS % "Relu", 7))


def test_custom_operators_are_named_where_the_conversion_fails() -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        load(model(FAILS % "acme.Own", 7))
    assert [finding.split(":")[0] for finding in caught.value.findings] == ["acme"]
    assert "acme::Own -> 'a': custom and control-flow operators have no quantized form" in str(caught.value)
