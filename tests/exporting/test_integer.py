"""``model.int.onnx``: valid, standard, integers everywhere between the quantizers, the float model's interface."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from integer_graphs import RELU, SIGNED, Case, GraphBuilder, check_interface, networks
from onnx import TensorProto

from onnxdiana.exporting.htvm import tensor_names
from onnxdiana.exporting.integer import integer_model

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def everything() -> Case:
    """One of every operator, two outputs."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(3, 8, 8)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-128, 128, shape)

    padded = build.move("Pad", "x", "wrapped", np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode="wrap")
    a = build.conv(padded, "a", weights(4, 3, 3, 3), 5, shift=9, codes=RELU, half=True)
    b = build.conv(a, "b", weights(4, 1, 3, 3), -9, shift=31, codes=(0, 96), group=4, pads=[1] * 4)
    c = build.conv(b, "c", weights(4, 4, 1, 1), shift=0, weight_exponent=build.exponent(a) - build.exponent(b))
    total = build.add(a, c, "sum", shift=1, codes=RELU)
    pooled = build.move("MaxPool", total, "pooled", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    edged = build.move("Pad", pooled, "edged", np.array([0, 0, 1, 0, 0, 0, 0, 0]), mode="edge")
    turned = build.move("Transpose", edged, "turned", perm=[0, 1, 3, 2])
    part = build.move("Slice", turned, "part", np.array([0]), np.array([2]), np.array([-1]))
    both = build.move("Concat", [part, build.move("Relu", part, "relu")], "both", axis=1)
    flat = build.move("Reshape", both, "flat", np.array([0, -1]))
    mean = build.mean(both, "mean")
    first = build.gemm(build.move("Flatten", mean, "flattened", axis=1), "first", weights(5, 8), shift=8)
    second = build.gemm(flat, "second", weights(2, 8 * 2 * 4), shift=9, codes=(-100, 100))
    return build.build(first, second)


@pytest.fixture(scope="module")
def case() -> Case:
    return everything()


@pytest.fixture(scope="module")
def model(case: Case) -> onnx.ModelProto:
    return case.spellings.integer


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Of every tensor; a missing one fails."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.output, *inferred.value_info)}
    types |= {t.name: t.data_type for t in inferred.initializer}
    names = {name for node in inferred.node for name in (*node.input, *node.output) if name}
    assert names <= set(types)
    assert 0 not in types.values()
    return types


def floats_between(model: onnx.ModelProto) -> Iterator[str]:
    """Float tensors, constants too, that an integer has been computed from and an integer is computed from."""
    types, constants = element_types(model), {t.name for t in model.graph.initializer}
    behind: set[str] = set()  # some integer that is no constant was needed for it
    for node in model.graph.node:
        activations = [i for i in node.input if i and i not in constants]
        if any(i in behind or types[i] not in FLOATS for i in activations):
            behind.update(node.output)
    ahead: set[str] = set()  # it is needed for some integer
    for node in reversed(model.graph.node):
        if any(o in ahead or types[o] not in FLOATS for o in node.output):
            ahead.update(i for i in node.input if i)
    for node in model.graph.node:
        inside = any(o in behind for o in node.output)
        for name in (*node.input, *node.output):
            if name in types and types[name] in FLOATS and name in ahead and (name in behind or inside):
                yield name


def test_no_float_between_the_quantizers(model: onnx.ModelProto) -> None:
    assert list(floats_between(model)) == []
    types = element_types(model)
    floats = {name for name, kind in types.items() if kind in FLOATS}
    assert {"x", "first", "second"} <= floats
    assert {name.split(".")[0] for name in floats} == {"x", "first", "second"}


@given(networks())
@settings(max_examples=max(1, settings.default.max_examples // 5))
def test_no_float_between_the_quantizers_of_random_networks(case: Case) -> None:
    assert list(floats_between(case.spellings.integer)) == []


def test_a_float_between_would_be_found(model: onnx.ModelProto) -> None:
    broken = onnx.ModelProto.FromString(model.SerializeToString())
    position, node = next((i, n) for i, n in enumerate(broken.graph.node) if n.op_type == "MaxPool")
    node.input[0] = "cast.back"
    broken.graph.node.insert(position, onnx.helper.make_node("Cast", ["cast"], ["cast.back"], to=TensorProto.INT8))
    broken.graph.node.insert(position, onnx.helper.make_node("Cast", ["sum"], ["cast"], to=TensorProto.FLOAT))
    assert set(floats_between(broken)) == {"cast"}


def test_it_is_standard_onnx(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert model.ir_version <= 8  # what came with opset 18
    assert {node.domain for node in model.graph.node} == {""}
    for node in model.graph.node:
        assert not onnx.defs.get_schema(node.op_type, 18).deprecated
    assert not model.functions
    assert not model.graph.sparse_initializer


def test_products_are_of_int8_without_zero_points(model: onnx.ModelProto) -> None:
    """uint8 with int8 saturates on processors without VNNI."""
    types = element_types(model)
    products = [node for node in model.graph.node if node.op_type in ("ConvInteger", "MatMulInteger")]
    assert len(products) == 5
    for node in products:
        assert [types[name] for name in node.input] == [TensorProto.INT8, TensorProto.INT8]
        assert [types[name] for name in node.output] == [TensorProto.INT32]


def test_every_type(case: Case, model: onnx.ModelProto) -> None:
    """Codes int8, accumulators int32; parameters likewise; nothing else but shapes, positions and shifts."""
    types = element_types(model)
    assert {types[name] for name in tensor_names(case.integer)} == {TensorProto.INT8}
    assert {types[name] for name in case.accumulators} == {TensorProto.INT32}
    constants = {t.name: t.data_type for t in model.graph.initializer}
    assert {t for name, t in constants.items() if name.endswith(".weight")} == {TensorProto.INT8}
    assert {t for name, t in constants.items() if name.endswith(".bias")} == {TensorProto.INT32}
    assert set(constants.values()) <= {TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32,
                                       TensorProto.FLOAT}


def test_names_are_unique_and_read(model: onnx.ModelProto) -> None:
    outputs = [name for node in model.graph.node for name in node.output]
    constants = [t.name for t in model.graph.initializer]
    assert len(set(outputs + constants + ["x"])) == len(outputs) + len(constants) + 1
    read = {name for node in model.graph.node for name in node.input} | {v.name for v in model.graph.output}
    assert set(outputs) | set(constants) <= read
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)


def test_the_interface_is_the_float_models(case: Case, model: onnx.ModelProto) -> None:
    check_interface(case, model)


def test_metadata() -> None:
    build = GraphBuilder(2)
    case = build.build(build.gemm("x", "y", np.eye(2), codes=SIGNED))
    proto = ir.to_proto(integer_model(case.integer, {"key": "value"}))
    assert {p.key: p.value for p in proto.metadata_props} == {"key": "value"}
    assert not case.spellings.integer.metadata_props
    assert not case.spellings.integer.doc_string
