"""The twins of the hand-over graph and the float tail: exactly the changes that they are for, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from integer_graphs import RELU, Case, GraphBuilder, extremes, networks
from onnx import TensorProto, helper, numpy_helper
from test_tail import ENDS, TEXTS, samples
from tiny import CONV, model

from onnxdiana import prepare, quantize
from onnxdiana.errors import HandoffError
from onnxdiana.exporting.htvm import INPUT, handed_over
from onnxdiana.exporting.opset10 import at_opset
from onnxdiana.exporting.variants import dory_twin, int8_input, tail_model
from onnxdiana.numerics import FLOAT32_EXACT
from onnxdiana.runtime import Runner

Model = onnx.ModelProto
PERM = [0, 3, 1, 2]


def small(*codes: int, perm: bool = False) -> Case:
    """Two convolutions added up, a mean, a linear layer; perhaps channels last at the input."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(*((4, 4, 3) if perm else (3, 4, 4)), codes=(codes[0], codes[1]) if codes else (-128, 127))
    entry = build.move("Transpose", "x", "turned", perm=PERM) if perm else "x"
    a = build.conv(entry, "features.a", rng.integers(-128, 128, (4, 3, 1, 1)), shift=7, codes=RELU)
    b = build.conv(a, "features.b", rng.integers(-128, 128, (4, 4, 3, 3)), pads=[1] * 4, shift=9,
                   weight_exponent=-9)
    mean = build.mean(build.add(a, b, "sum", shift=1, codes=RELU), "mean")
    return build.build(build.gemm(build.move("Flatten", mean, "flat", axis=1), "y", rng.integers(-128, 128, (4, 4)),
                                  shift=8))


def handed(case: Case) -> Model:
    assert case.spellings.htvm is not None, case.spellings.obstacles
    return case.spellings.htvm


@pytest.fixture(scope="module")
def case() -> Case:
    return small()


@pytest.fixture(scope="module")
def htvm(case: Case) -> Model:
    return handed(case)


def data(proto: Model) -> bytes:
    found: bytes = proto.SerializeToString(deterministic=True)
    return found


def copied(proto: Model) -> Model:
    copy = Model()
    copy.CopyFrom(proto)
    return copy


def check_file(proto: Model, opset: int = 13) -> None:
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", opset)]
    assert proto.ir_version == 8
    assert not proto.metadata_props
    assert not proto.graph.metadata_props
    assert not any(node.metadata_props or node.doc_string or node.domain for node in proto.graph.node)
    assert (proto.producer_name, proto.producer_version, proto.domain, proto.model_version) == ("", "", "", 0)
    assert not proto.doc_string + proto.graph.doc_string
    assert not proto.functions
    assert not proto.training_info


VARIANTS: dict[str, tuple[Callable[[Model], Model], int]] = {
    "dory": (dory_twin, 13),
    "int8": (int8_input, 13),
    "opset 10": (lambda m: at_opset(m, 10), 10),
    "int8, opset 10": (lambda m: at_opset(int8_input(m), 10), 10),
    "opset 10, int8": (lambda m: int8_input(at_opset(m, 10)), 10),
    "dory, opset 10": (lambda m: dory_twin(at_opset(m, 10)), 10),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_files_like_the_hand_over(htvm: Model, name: str) -> None:
    """No metadata, one domain, IR 8, the same bytes every time; the argument is not changed."""
    change, opset = VARIANTS[name]
    before = data(htvm)
    found = change(htvm)
    check_file(found, opset)
    assert data(change(handed(small()))) == data(found) != before
    assert data(htvm) == before


def test_the_order_of_changes_is_free(htvm: Model) -> None:
    assert data(int8_input(at_opset(htvm, 10))) == data(at_opset(int8_input(htvm), 10))


# -- the DORY-annotated twin ------------------------------------------------------------------------------------------

CONV_ATTRIBUTES = {"weight_bits": 8, "bias_bits": 32, "weight_data_layout": b"OIHW", "input_data_layout": b"NCHW"}
ATTRIBUTES = {"Conv": CONV_ATTRIBUTES, "Gemm": {"weight_bits": 8, "bias_bits": 32}, "Add": {"add_bits": 8},
              "Mul": {"mult_bits": 8}}


def strip(twin: Model) -> tuple[Model, list[dict[str, object]]]:
    """The file without the attributes that ONNX does not know, and these, node by node."""
    bare, found = copied(twin), []
    for node in bare.graph.node:
        known = set(onnx.defs.get_schema(node.op_type, 13).attributes)
        found.append({a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in known})
        kept = [a for a in node.attribute if a.name in known]
        del node.attribute[:]
        node.attribute.extend(kept)
    return bare, found


def test_annotations(htvm: Model) -> None:
    """Exactly these; without them it is the hand-over file byte for byte."""
    bare, found = strip(dory_twin(htvm))
    assert data(bare) == data(htvm)
    assert {node.op_type for node in htvm.graph.node} >= {"Conv", "Gemm", "Add", "Div", "Max", "Min"}
    assert found == [ATTRIBUTES.get(node.op_type, {}) for node in htvm.graph.node]


@given(networks())
@settings(max_examples=max(1, settings.default.max_examples // 5))
def test_annotations_of_random_networks(case: Case) -> None:
    before = handed(case)
    bare, found = strip(dory_twin(before))
    assert data(bare) == data(before)
    assert found == [ATTRIBUTES.get(node.op_type, {}) for node in before.graph.node]


def test_weights_are_named_after_their_layers(htvm: Model) -> None:
    """The original annotator finds a layer's module by the text before the last dot."""
    weights = [node.input[1] for node in dory_twin(htvm).graph.node if node.op_type in ("Conv", "Gemm")]
    assert weights == ["features.a.weight", "features.b.weight", "y.weight"]


def analog() -> Model:
    """The analog core's pattern, then a digital convolution with the same weights."""
    constants = {"w": np.eye(2).reshape(2, 2, 1, 1), "b": np.zeros(2), "gain": [16.0], "m": np.ones((1, 2, 1, 1)),
                 "a": np.zeros((1, 2, 1, 1)), "lo": -32, "hi": 31, "p": [2.0], "least": -128, "most": 127}
    nodes = [("Conv", "x", "w"), ("Div", 0, "gain"), ("Floor", 1), ("Max", 2, "lo"), ("Min", 3, "hi"), ("Mul", 4, "m"),
             ("Add", 5, "a"), ("Div", 6, "p"), ("Floor", 7), ("Max", 8, "least"), ("Min", 9, "most"),
             ("Conv", 10, "w", "b"), ("Div", 11, "p"), ("Floor", 12), ("Max", 13, "least"), ("Min", 14, "most")]
    entry, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 2, 4, 4)) for name in ("x", "t15"))
    return helper.make_model(helper.make_graph(
        [helper.make_node(op, [f"t{i}" if isinstance(i, int) else i for i in feed], [f"t{k}"])
         for k, (op, *feed) in enumerate(nodes)], "g", [entry], [result],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()]),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_annotations_of_the_analog_core() -> None:
    _, found = strip(dory_twin(analog()))
    assert [given for given in found if given] == [
        {**CONV_ATTRIBUTES, "weight_bits": 2}, {"mult_bits": 8}, {"add_bits": 8}, CONV_ATTRIBUTES]


# -- int8 in ----------------------------------------------------------------------------------------------------------


def check_int8(case: Case) -> None:
    """Codes give what the floats gave from which the quantizer made them: every tensor of codes, and the output."""
    floats = handed(case)
    twin = int8_input(floats)
    onnx.checker.check_model(twin, full_check=True)
    entry = twin.graph.input[0]
    assert entry.type.tensor_type.elem_type == TensorProto.INT8
    assert entry.type.tensor_type.shape == floats.graph.input[0].type.tensor_type.shape
    names = [*case.spellings.handed, floats.graph.output[0].name]
    before = Runner(floats, names)
    after = Runner(twin, names)
    x = handed_over(case.integer, next(iter(case.floats(extremes(case)).values())))
    q = handed_over(case.integer, extremes(case)[0]).astype(np.int8)
    for i in range(len(q)):
        expected, found = before.run({INPUT: x[i:i + 1]}), after.run({INPUT: q[i:i + 1]})
        np.testing.assert_array_equal(found[names[0]], q[i:i + 1])
        for name in names:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("built", [small(), small(0, 127), small(-7, 90), small(perm=True)],
                         ids=["int8", "unsigned", "narrow", "channels last"])
def test_codes_in(built: Case) -> None:
    check_int8(built)


@given(networks(FLOAT32_EXACT))
@settings(max_examples=max(1, settings.default.max_examples // 5))
def test_codes_into_random_networks(case: Case) -> None:
    check_int8(case)


def test_one_cast_stands_for_the_quantizer(htvm: Model) -> None:
    """Nothing else is changed, nothing of the quantizer is left."""
    twin = int8_input(htvm)
    cast = twin.graph.node[0]
    assert (cast.op_type, cast.name, cast.input, cast.output) == ("Cast", "x.quantized", [INPUT], ["x.quantized"])
    assert helper.get_attribute_value(cast.attribute[0]) == TensorProto.FLOAT
    assert [n.op_type for n in htvm.graph.node[:4]] == ["Div", "Floor", "Max", "Min"]
    assert list(twin.graph.node[1:]) == list(htvm.graph.node[4:])
    gone = {t.name for t in htvm.graph.initializer} - {t.name for t in twin.graph.initializer}
    assert gone == {"x.quantized.scale", "x.quantized.lo", "x.quantized.hi"}
    assert {v.name for v in htvm.graph.value_info} - {v.name for v in twin.graph.value_info} == {
        "x.quantized.div", "x.quantized.floor", "x.quantized.max"}
    assert twin.graph.output == htvm.graph.output


def test_an_input_that_is_returned() -> None:
    build = GraphBuilder(3, 4, 4)
    case = build.build(build.move("Flatten", "x", "y", axis=1))
    check_int8(case)
    assert [node.op_type for node in int8_input(handed(case)).graph.node] == ["Cast", "Div", "Flatten"]


@pytest.mark.parametrize("change", [
    lambda m: m.graph.node.remove(m.graph.node[1]),
    lambda m: m.graph.node.add(op_type="Relu", input=[INPUT], output=["other"]),
    lambda m: m.graph.node.add(op_type="Relu", input=["x.quantized.floor"], output=["other"]),
    lambda m: m.CopyFrom(int8_input(m)),
    lambda m: m.graph.node[0].input.reverse(),
], ids=["no Floor", "the input read twice", "inside read", "int8 already", "a quotient of the input"])
def test_no_quantizer(htvm: Model, change: Callable[[Model], object]) -> None:
    other = copied(htvm)
    change(other)
    with pytest.raises(HandoffError, match="graph input 'input': it is not read by Div, Floor, Max, Min alone"):
        int8_input(other)


# -- the float tail ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENDS)
def test_the_tail_finishes_the_body(name: str) -> None:
    """Of the body's outputs it makes the integer model's answers, bit for bit; with the hand-over, those too."""
    given = model(TEXTS[name])
    result = quantize(given, samples())
    tail = tail_model(prepare(given).tail)
    assert tail is not None
    onnx.checker.check_model(tail, full_check=True)
    check_file(tail, tail.opset_import[0].version)
    integer = onnx.load_from_string(result.files["model.int.onnx"])
    assert tail.opset_import == integer.opset_import
    entries = [v.name for v in tail.graph.input]
    assert [v.type.tensor_type.elem_type for v in tail.graph.input] == [TensorProto.FLOAT] * len(entries)
    answers = [v.name for v in tail.graph.output]
    assert set(answers) <= {v.name for v in given.graph.output}
    declared = {v.name: v.type for v in given.graph.output}
    assert all(v.type.tensor_type.elem_type == declared[v.name].tensor_type.elem_type for v in tail.graph.output)
    expected = Runner(integer, [*entries, *answers]).run({"x": samples()})
    found = Runner(tail).run({entry: expected[entry] for entry in entries})
    for answer in answers:
        np.testing.assert_array_equal(found[answer], expected[answer])
    if "htvm/model.onnx" in result.files:
        handed_, (entry,) = onnx.load_from_string(result.files["htvm/model.onnx"]), entries
        assert handed_.graph.output[0].name == entry
        logits = Runner(handed_).run({INPUT: samples(3)})[entry]
        assert Runner(tail).run({entry: logits[:1]})[answers[0]].shape[0] == 1
        for answer, values in Runner(tail).run({entry: logits}).items():
            np.testing.assert_array_equal(values, expected[answer][:3])
    else:
        assert len(prepare(given).body.graph.outputs) > 1


def test_what_the_tail_does_not_read_is_none_of_it() -> None:
    """A body's output that the model returns as it is."""
    text = ("(float[N,6] x) => (float[N,6] y, float[N,6] z) <float[6,6] u, float[6,6] v> "
            "{ l = Gemm(x, u) y = Softmax(l) z = Gemm(x, v) }")
    tail = tail_model(prepare(model(text)).tail)
    assert tail is not None
    assert [[v.name for v in side] for side in (tail.graph.input, tail.graph.output)] == [["l"], ["y"]]
    onnx.checker.check_model(tail, full_check=True)


def test_no_tail() -> None:
    assert tail_model(prepare(model(CONV)).tail) is None


def test_the_same_tail_every_time() -> None:
    given = model(TEXTS["normalized"])
    tail = prepare(given).tail
    first, second = tail_model(tail), tail_model(prepare(given).tail)
    assert first is not None
    assert second is not None
    assert data(first) == data(second)
    assert tail.model is not None
    assert tail.model.opset_imports == prepare(given).tail.model.opset_imports  # type: ignore[union-attr]
