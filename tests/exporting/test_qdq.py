"""``model.qdq.onnx``: valid, scales those of the table, each requantizer within a code of the integer model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from hypothesis import given, settings
from integer_graphs import RELU, SIGNED, Case, GraphBuilder, check_interface, extremes, networks
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnxdiana import Config, quantize, reference
from onnxdiana.exporting.htvm import tensor_names
from onnxdiana.graph import name_of
from onnxdiana.integers import accumulator_exponent, code_name
from onnxdiana.numerics import FLOAT32_EXACT
from onnxdiana.runtime import Runner


def everything() -> Case:
    """Layers with and without half and bounds, a sum, a mean, moved tensors, two outputs."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> NDArray[np.int64]:
        return rng.integers(-128, 128, shape)

    build = GraphBuilder(3, 8, 8, exponent=-5)
    a = build.conv("x", "a", weights(4, 3, 3, 3), rng.integers(-9999, 9999, 4), shift=9, codes=RELU, half=True)
    b = build.conv(a, "b", weights(4, 1, 3, 3), 100, shift=9, codes=(0, 96), group=4, pads=[1] * 4)
    c = build.conv(b, "c", weights(4, 4, 1, 1), shift=8, half=True,
                   weight_exponent=build.exponent(a) - build.exponent(b) - 8)
    total = build.add(a, c, "sum", shift=1, codes=RELU)
    pooled = build.move("MaxPool", total, "pooled", kernel_shape=[2, 2])
    edged = build.move("Pad", pooled, "edged", np.array([0, 0, 1, 0, 0, 0, 0, 0]), mode="reflect")
    mean = build.mean(edged, "mean")
    first = build.gemm(build.move("Flatten", mean, "flat", axis=1), "first", weights(5, 4), shift=8, half=True)
    return build.build(first, build.conv(edged, "second", weights(2, 4, 1, 1), -50, shift=0, codes=SIGNED))


@pytest.fixture(scope="module")
def case() -> Case:
    return everything()


@pytest.fixture(scope="module")
def model(case: Case) -> onnx.ModelProto:
    return case.spellings.fake


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


# -- the file ---------------------------------------------------------------------------------------------------------


def test_it_is_valid(case: Case, model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", case.view.model.graph.opset_imports[""])]
    assert {node.domain for node in model.graph.node} == {""}
    read = {name for node in model.graph.node for name in node.input} | {v.name for v in model.graph.output}
    assert {name for node in model.graph.node for name in node.output} | set(constants(model)) <= read


def test_the_interface_is_the_float_models(case: Case, model: onnx.ModelProto) -> None:
    check_interface(case, model)


def test_it_is_the_float_graph_with_quantizers(case: Case, model: onnx.ModelProto) -> None:
    """In the same order; every requantized tensor once, every weight and bias dequantized."""
    left = [node.op_type for node in model.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    assert left == [node.op_type for node in case.view.model.graph]
    count = {kind: sum(node.op_type == kind for node in model.graph.node)
             for kind in ("QuantizeLinear", "DequantizeLinear")}
    linear = sum(layer.operator.weight(layer.node) is not None for layer in case.view.layers)
    assert count == {"QuantizeLinear": len(case.view.quantized),
                     "DequantizeLinear": len(case.view.quantized) + 2 * linear}


def scales(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, NDArray[np.generic], NDArray[np.generic]]]:
    """Every quantizer and dequantizer with its scale and zero point."""
    known = constants(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not node.attribute
            yield node, known[node.input[1]], known[node.input[2]]


def expected_exponents(case: Case) -> dict[str, int]:
    """By the name of the codes: activations, weights, biases."""
    table = {code_name(v): case.table.exponent(name_of(v)) for v in case.view.quantized}
    for layer in case.view.layers:
        weight = layer.operator.weight(layer.node)
        if weight is not None:
            table[f"{name_of(weight)}.quantized"] = case.table.exponent(name_of(weight))
            table[f"{layer.name}.bias.quantized"] = accumulator_exponent(case.view, case.table, layer)
    return table


def check_scales(case: Case) -> None:
    model, expected, seen = case.spellings.fake, expected_exponents(case), set()
    for node, scale, zero in scales(model):
        codes = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        assert scale.shape == zero.shape == ()
        assert scale.dtype == np.float32
        assert zero == 0
        mantissa, exponent = np.frexp(scale.item())
        assert (mantissa, exponent - 1) == (0.5, expected[codes])
        assert zero.dtype == (np.int32 if ".bias." in codes else np.int8)
        seen.add(codes)
    assert seen == set(expected)


def test_scales_are_the_tables(case: Case) -> None:
    check_scales(case)


def test_weights_are_the_integer_models_and_biases_without_the_half(case: Case, model: onnx.ModelProto) -> None:
    known = constants(model)
    for layer in case.view.layers:
        weight = layer.operator.weight(layer.node)
        if weight is None:
            continue
        np.testing.assert_array_equal(known[f"{name_of(weight)}.quantized"], case.parameters[layer.name].weight)
        np.testing.assert_array_equal(known[f"{layer.name}.bias.quantized"], case.fake[layer.name].bias)
    assert (case.fake["a.unclipped"].bias + 2**8 == case.parameters["a.unclipped"].bias).all()


def test_codes_have_the_names_of_the_other_spellings(case: Case, model: onnx.ModelProto) -> None:
    quantizers = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert quantizers == tensor_names(case.integer)


def test_the_arguments_are_not_changed(case: Case) -> None:
    assert all(node.op_type != "QuantizeLinear" for node in case.view.model.graph)


# -- the codes --------------------------------------------------------------------------------------------------------


def cut(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Every requantizer on its own: what reads one's codes reads codes that are fed, ``<name>.fed``."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for node in copy.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in names:
            copy.graph.input.append(helper.make_tensor_value_info(f"{node.input[0]}.fed", TensorProto.INT8, None))
            node.input[0] = f"{node.input[0]}.fed"
    return copy


def distances(
    case: Case, inputs: dict[str, NDArray[np.float32]], model: onnx.ModelProto | None = None
) -> dict[str, int]:
    """Largest difference of codes of each requantizer, fed with what the integer model's reads."""
    names = tensor_names(case.integer)
    ours = reference.run(case.integer, inputs, names)
    apart = cut(model or case.spellings.fake, names)
    feed = inputs | {f"{name}.fed": codes for name, codes in ours.items()}
    known = {v.name for v in apart.graph.input}
    theirs = Runner(apart, names).run({name: array for name, array in feed.items() if name in known})
    assert all(array.dtype == np.int8 for array in theirs.values())
    return {name: int(np.abs(theirs[name].astype(int) - ours[name]).max()) for name in names}


def test_each_requantizer_is_at_most_one_code_away(case: Case) -> None:
    """Floor against half to even; ties alone where the half is in the bias."""
    rng = np.random.default_rng(0)
    found = distances(case, {"x": rng.normal(0, 2, (64, 3, 8, 8)).astype(np.float32)})
    assert max(found.values()) == 1
    assert found["x.quantized"] == found["sum"] == found["mean"] == 1  # no bias in front of these


@given(networks(limit=FLOAT32_EXACT))
@settings(max_examples=max(1, settings.default.max_examples // 3))
def test_of_random_networks_too(case: Case) -> None:
    """Where float32 holds every accumulator: beyond it the fake-quantized model is as inexact as floats are."""
    onnx.checker.check_model(case.spellings.fake, full_check=True)
    check_scales(case)
    assert max(distances(case, case.floats(extremes(case))).values()) <= 1


def test_a_code_further_away_would_be_found(case: Case) -> None:
    """A scale twice as large."""
    broken = onnx.ModelProto.FromString(case.spellings.fake.SerializeToString())
    scale = next(t for t in broken.graph.initializer if t.name == "c.weight.scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))
    x = np.random.default_rng(0).normal(0, 2, (8, 3, 8, 8)).astype(np.float32)
    found = distances(case, {"x": x}, broken)
    assert found["c"] > 1
    assert max(distance for name, distance in found.items() if name != "c") <= 1


def test_end_to_end_it_drifts_and_only_a_little(case: Case) -> None:
    """The two models compute nearly the same, though not the same."""
    inputs = {"x": np.random.default_rng(0).normal(0, 2, (64, 3, 8, 8)).astype(np.float32)}
    ours = reference.run(case.integer, inputs, ["first", "second"])
    theirs = Runner(case.spellings.fake).run(inputs)
    for name in ours:
        assert not np.array_equal(ours[name], theirs[name])
        assert np.corrcoef(ours[name].reshape(-1), theirs[name].reshape(-1))[0, 1] > 0.98


def test_codes_of_a_narrower_target_are_kept(tmp_path: Path) -> None:
    """QuantizeLinear saturates at int8 alone; a target's own limits need a Clip, a ReLU6's bound must not get one."""
    path = tmp_path / "nibble.py"
    path.write_text("from onnxdiana.targets import Target\n"
                    "TARGET = Target('nibble', signed=(-8, 7), unsigned=(0, 7), weight=(-8, 7))\n")
    proto = tiny.model("""(float[N,2,4,4] x) => (float[N,2,4,4] y)
        <float[2,2,1,1] w, float lo = {0.0}, float hi = {6.0}> {
        a = Conv(x, w)  r = Clip(a, lo, hi)  y = Conv(r, w) }""")
    data = np.random.default_rng(0).standard_normal((40, 2, 4, 4)).astype(np.float32) * 4
    for target in ("diana", str(path)):
        run = quantize(proto, data, config=Config(target=target))
        fake = onnx.load_from_string(run.files["model.qdq.onnx"])
        assert any(node.output[0].endswith(".clipped") for node in fake.graph.node) == (target != "diana")
        names = ["x.quantized", "r", "y.quantized"]
        codes = Runner(fake, names).run({"x": 100 * data})
        for name, layer in zip(names[1:], run.summary["layers"], strict=True):
            lo, hi = layer["codes"]
            assert lo <= codes[name].min(), (target, name)
            assert codes[name].max() == hi, (target, name)
