"""The hand-over graph at opset 10: valid there, and the same numbers in onnxruntime and in the interpreter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from integer_graphs import RELU, Case, GraphBuilder, agree_on_floats, extremes, networks
from onnx import helper, numpy_helper

from onnxdiana.errors import ConfigError, HandoffError
from onnxdiana.exporting.htvm import INPUT, handed_over
from onnxdiana.exporting.opset10 import at_opset
from onnxdiana.handoff import interpreter
from onnxdiana.numerics import FLOAT32_EXACT
from onnxdiana.runtime import Runner

Model = onnx.ModelProto


def every_operator() -> Case:
    """One of each that can be handed over, and every form of those that were another at opset 10."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-128, 128, shape)

    build = GraphBuilder(3, 8, 8)
    padded = build.move("Pad", "x", "reflected", np.array([0, 0, 1, 2, 0, 0, 1, 0]), mode="reflect")
    padded = build.move("Pad", padded, "edged", np.array([0, 0, 0, 0, 0, 0, 1, 1]), mode="edge")
    a = build.conv(padded, "a", weights(4, 3, 3, 3), 5, shift=9, codes=RELU, half=True)
    b = build.conv(a, "b", weights(4, 1, 3, 3), -9, shift=8, codes=(0, 96), group=4, pads=[1] * 4)
    c = build.conv(b, "c", weights(4, 4, 1, 1), shift=0, weight_exponent=build.exponent(a) - build.exponent(b))
    total = build.add(a, c, "sum", shift=1, codes=RELU)
    padded = build.move("Pad", total, "zeros", np.array([0, 1, 1, 0, 0, 0, 0, 2]), mode="constant")
    larger = build.move("Resize", padded, "larger", None, np.array([1, 1, 3, 2], np.float32), mode="nearest",
                        coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    pooled = build.move("MaxPool", larger, "pooled", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    turned = build.move("Transpose", pooled, "turned", perm=[0, 1, 3, 2])
    part = build.move("Slice", turned, "part", np.array([-1]), np.array([-100]), np.array([2]), np.array([-2]))
    relu = build.move("Relu", part, "relu")
    flat = build.move("Flatten", build.mean(relu, "mean"), "flat", axis=1)
    first = build.gemm(flat, "first", weights(6, 5), shift=8)
    square = build.move("Reshape", first, "square", np.array([0, 6, 1, 1]))
    return build.build(build.conv(square, "y", weights(2, 6, 1, 1), shift=8))


@pytest.fixture(scope="module")
def case() -> Case:
    return every_operator()


def handed(case: Case) -> Model:
    assert case.spellings.htvm is not None, case.spellings.obstacles
    return case.spellings.htvm


@pytest.fixture(scope="module")
def model(case: Case) -> Model:
    return handed(case)


def same(case: Case) -> None:
    """Every tensor of codes and the output, at both opsets, by both judges; accumulators allowing."""
    newer = handed(case)
    older = at_opset(newer, 10)
    onnx.checker.check_model(older, full_check=True)
    assert [(o.domain, o.version) for o in older.opset_import] == [("", 10)]
    names = [*case.spellings.handed, older.graph.output[0].name]
    runners = [Runner(m, names) for m in (newer, older)] if case.bound < FLOAT32_EXACT else []
    floats = next(iter(case.floats(extremes(case)).values()))
    for x in handed_over(case.integer, floats)[:, None]:
        expected = interpreter.run(newer, {INPUT: x}, names)
        found = [interpreter.run(older, {INPUT: x}, names), *(runner.run({INPUT: x}) for runner in runners)]
        for values in found:
            for name in names:
                np.testing.assert_array_equal(values[name], expected[name], err_msg=name)


def test_every_operator(case: Case, model: Model) -> None:
    agree_on_floats(case, case.floats(extremes(case)))
    assert {node.op_type for node in model.graph.node} == {
        "Add", "Conv", "Div", "Flatten", "Floor", "Gemm", "GlobalAveragePool", "Max", "MaxPool", "Min", "Pad", "Relu",
        "Reshape", "Resize", "Slice", "Transpose"}
    same(case)


@given(networks())
@settings(max_examples=max(1, settings.default.max_examples // 5))
def test_random_networks(case: Case) -> None:
    same(case)


def test_forms(model: Model) -> None:
    """Pad and Resize as they were; all else as it is, and nothing left behind."""
    older = at_opset(model, 10)
    nodes = {node.output[0]: node for node in older.graph.node}
    for name, attributes in {
        "reflected": {"mode": b"reflect", "pads": [0, 0, 1, 2, 0, 0, 1, 0]},
        "edged": {"mode": b"edge", "pads": [0, 0, 0, 0, 0, 0, 1, 1]},
        "zeros": {"mode": b"constant", "pads": [0, 1, 1, 0, 0, 0, 0, 2], "value": 0.0},
    }.items():
        assert len(nodes[name].input) == 1
        assert {a.name: helper.get_attribute_value(a) for a in nodes[name].attribute} == attributes
    larger = nodes["larger"]
    assert {a.name: helper.get_attribute_value(a) for a in larger.attribute} == {"mode": b"nearest"}
    known = {t.name: numpy_helper.to_array(t) for t in older.graph.initializer}
    assert known[larger.input[1]].tolist() == [1, 1, 3, 2]
    assert known[larger.input[1]].dtype == np.float32
    read = {name for node in older.graph.node for name in node.input}
    assert set(known) <= read
    for node in model.graph.node:
        if node.op_type not in ("Pad", "Resize"):
            assert nodes[node.output[0]] == node


def test_the_argument_stays_and_bytes_repeat(model: Model) -> None:
    before = model.SerializeToString(deterministic=True)
    first, second = (at_opset(model, 10).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second != before
    assert at_opset(model, 13).SerializeToString(deterministic=True) == before
    assert at_opset(model, 13) is not model
    assert model.SerializeToString(deterministic=True) == before


def test_the_file(model: Model) -> None:
    older = at_opset(model, 10)
    assert older.ir_version == 8
    assert not older.metadata_props
    assert (older.producer_name, older.producer_version, older.doc_string) == ("", "", "")
    assert older.graph.input == model.graph.input
    assert older.graph.output == model.graph.output


def test_concat_along_the_last_axis() -> None:
    """Its axis was not counted from behind."""
    entry, result = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
                     for name, shape in (("input", (1, 2, 3)), ("y", (1, 2, 6))))
    proto = helper.make_model(
        helper.make_graph([helper.make_node("Concat", ["input", "input"], ["y"], axis=-1)], "g", [entry], [result]),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    older = at_opset(proto, 10)
    assert helper.get_attribute_value(older.graph.node[0].attribute[0]) == 2
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.testing.assert_array_equal(Runner(older).run({"input": x})["y"], np.concatenate([x, x], axis=2))


@pytest.mark.parametrize("opset", [9, 11, 12, 14, 0])
def test_other_opsets(model: Model, opset: int) -> None:
    with pytest.raises(ConfigError, match=f"handoff_opset: {opset}; it takes 10 or 13"):
        at_opset(model, opset)


def node_of(model: Model, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if output in node.output)


def shorten(model: Model, output: str, count: int) -> None:
    del node_of(model, output).input[count:]


def attribute(model: Model, output: str, **values: object) -> None:
    node = node_of(model, output)
    kept = [a for a in node.attribute if a.name not in values]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])


def sizes(model: Model, *values: int) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == node_of(model, "larger").input[3])
    tensor.CopyFrom(numpy_helper.from_array(np.array(values, np.int64), tensor.name))


FORMLESS: dict[str, tuple[Callable[[Model], object], str]] = {
    "an operator outside the dialect": (lambda m: setattr(node_of(m, "relu"), "op_type", "Celu"), "Celu -> 'relu'"),
    "Gemm without a bias": (lambda m: shorten(m, "first.accumulator", 2), "Gemm -> 'first.accumulator'"),
    "Pad by what is computed": (lambda m: node_of(m, "zeros").input.__setitem__(1, "sum"), "Pad -> 'zeros'"),
    "Pad with a value that is computed": (lambda m: node_of(m, "zeros").input.__setitem__(2, "sum"), "Pad -> 'zeros'"),
    "Pad of some axes": (lambda m: node_of(m, "zeros").input.append("part.axes"), "Pad -> 'zeros'"),
    "Resize by half pixels": (lambda m: attribute(m, "larger", coordinate_transformation_mode="half_pixel"),
                              "Resize -> 'larger'"),
    "Resize by scales": (lambda m: shorten(m, "larger", 3), "Resize -> 'larger'"),
    "Resize by one and a half": (lambda m: sizes(m, 1, 5, 27, 23), "Resize -> 'larger'"),
    "Resize to sizes that are computed": (lambda m: node_of(m, "larger").input.__setitem__(3, "sum"),
                                          "Resize -> 'larger'"),
}


@pytest.mark.parametrize("name", FORMLESS)
def test_without_a_form(model: Model, name: str) -> None:
    change, where = FORMLESS[name]
    changed = Model()
    changed.CopyFrom(model)
    change(changed)
    with pytest.raises(HandoffError, match=f"{where}: it has no form at opset 10; .* at opset 13"):
        at_opset(changed, 10)


# -- the interpreter at opset 10 --------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[Model], object], str]] = {
    "pad value": (lambda m: attribute(m, "zeros", value=1.0), r"Pad -> 'zeros': found value 1.0; needed: value 0"),
    "negative pads": (lambda m: attribute(m, "zeros", pads=[0, 0, 0, 0, 0, 0, 0, -1]), r"Pad -> 'zeros': .*-1"),
    "no pads": (lambda m: node_of(m, "zeros").ClearField("attribute"),
                r"Pad -> 'zeros': found mode 'constant', pads \[\]"),
    "too many inputs": (lambda m: node_of(m, "zeros").input.append("sum.lo"), r"Pad -> 'zeros': found 2 inputs"),
    "linear": (lambda m: attribute(m, "larger", mode="linear"), r"Resize -> 'larger': found .*linear"),
    "the later attributes": (lambda m: attribute(m, "larger", nearest_mode="floor"),
                             r"Resize -> 'larger': found attribute 'nearest_mode'"),
    "fractions": (lambda m: scales(m, [1, 1, 1.5, 2]), r"Resize -> 'larger': found .*1.5.*whole factors"),
    "three scales": (lambda m: scales(m, [1, 1, 2]), r"Resize -> 'larger': .*four whole factors"),
    "nothing": (lambda m: scales(m, [1, 1, 0, 1]), r"Resize -> 'larger': .*four whole factors"),
    "nan": (lambda m: scales(m, [1, 1, np.nan, 1]), r"Resize -> 'larger': .*four whole factors"),
    "channels": (lambda m: scales(m, [1, 2, 1, 1]), r"Resize -> 'larger': found the sizes"),
}


def scales(model: Model, values: list[float]) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == node_of(model, "larger").input[1])
    tensor.CopyFrom(numpy_helper.from_array(np.array(values, np.float32), tensor.name))


@pytest.mark.parametrize("name", REFUSED)
def test_the_interpreter_refuses(model: Model, name: str) -> None:
    change, message = REFUSED[name]
    older = at_opset(model, 10)
    change(older)
    with pytest.raises(HandoffError, match=message):
        interpreter.run(older, {INPUT: np.zeros((1, 3, 8, 8), np.float32)})
