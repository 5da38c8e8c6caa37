"""Which nodes make a layer, what keeps a layer on the CPU, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hand_made import ADC, RELU, SIGNED, Graph, resnet8
from onnx import TensorProto, helper

from onnxdiana.costs.work import Work
from onnxdiana.handoff import nodes
from onnxdiana.handoff.findings import Finding, Region
from onnxdiana.handoff.partition import partition


def partitioned(model: onnx.ModelProto) -> tuple[tuple[Region, ...], tuple[Finding, ...]]:
    return partition(nodes.Graph(model))


def layers(model: onnx.ModelProto) -> list[tuple[str, str, tuple[str, ...]]]:
    """Kind, core and reasons of everything that an accelerator could take."""
    return [(region.kind, region.core, region.because) for region in partitioned(model)[0] if region.work]


def one(build: Callable[[Graph, str], str], *shape: int) -> onnx.ModelProto:
    """A model of what a function puts behind the input quantizer."""
    g = Graph(*(shape or (1, 16, 16, 16)))
    return g.model(build(g, g.quantize()))


def only(model: onnx.ModelProto) -> Finding:
    (finding,) = partitioned(model)[1]
    return finding


def test_every_node_is_in_one_region_in_execution_order() -> None:
    model = resnet8()
    regions, _ = partitioned(model)
    inside = [name for region in regions for name in region.nodes]
    assert sorted(inside) == sorted(node.output[0] for node in model.graph.node)
    done = {"input"} | {tensor.name for tensor in model.graph.initializer}
    producers = {node.output[0]: node for node in model.graph.node}
    for region in regions:
        assert region.name == region.nodes[-1]
        assert {name for node in region.nodes for name in producers[node].input} <= done | set(region.nodes)
        done |= set(region.nodes)
    assert [region.kind for region in regions] == [
        "input quantizer", "conv", "conv", "conv", "add", "conv", "conv", "conv", "add", "conv", "conv", "conv",
        "add", "mean", "dense", "Div"]


def test_work_has_the_shapes() -> None:
    g = Graph(1, 8, 12, 20)
    x = g.conv(g.quantize(), 16, (3, 5), stride=2)
    x = g.depthwise(g.add(x, g.conv(x, 16, 1)))
    regions, _ = partitioned(g.model(g.gemm(g.node("Flatten", [x], 960), 960, 4)))
    found = [region.work for region in regions if region.work]
    assert found == [
        Work("conv", 8, 16, (12, 20), (6, 10), (3, 5), (2, 2), (1, 2, 1, 2)),
        Work("conv", 16, 16, (6, 10), (6, 10)),
        Work("add", 16, 16, (6, 10), (6, 10)),
        Work("conv", 16, 16, (6, 10), (6, 10), (3, 3), (1, 1), (1, 1, 1, 1), 16),
        Work("dense", 960, 4)]


@pytest.mark.parametrize("op_type", ["Relu", "Identity", "MaxPool"])
def test_operator_in_front_of_the_requantizer_keeps_a_layer_on_the_cpu(op_type: str) -> None:
    attributes: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]} if op_type == "MaxPool" else {}

    def behind(g: Graph, accumulator: str) -> str:
        return g.requantize(g.node(op_type, [accumulator], **attributes))

    model = one(lambda g, x: behind(g, g.accumulate(x, 16)))
    assert layers(model) == [("conv", "cpu", ("W4",))]
    assert only(model).found.startswith(f"{op_type} -> ")
    model = one(lambda g, x: behind(g, g.node("Add", [x, g.conv(x, 16)])))
    assert layers(model) == [("conv", "digital", ()), ("add", "cpu", ("W4",))]
    if op_type != "MaxPool":
        model = one(lambda g, x: behind(g, g.node("Gemm", [x, g.constant(g.weights(8, 8)), g.constant(8 * [1])], 8)),
                    1, 8)
        assert layers(model) == [("dense", "cpu", ("W4",))]


def test_what_the_dialect_lacks_is_no_move() -> None:
    g = Graph(1, 16, 16, 16)
    x = g.node("Squeeze", [g.accumulate(g.quantize(), 1)], axes=[1])
    assert layers(g.model(g.requantize(g.node("Unsqueeze", [x], axes=[1])), opset=11)) == []


def test_relu_of_an_analog_accumulator() -> None:
    def build(g: Graph, x: str) -> str:
        x = g.node("Relu", [g.accumulate(x, 16, bias=False, limit=1)])
        x = g.node("Mul", [g.requantize(x, ADC, 0), g.constant(np.ones((1, 16, 1, 1)))])
        return g.requantize(g.node("Add", [x, g.constant(np.ones((1, 16, 1, 1)))]), RELU)

    assert layers(one(build)) == [("analog conv", "cpu", ("W4",))]


def test_operands_of_mul_and_add_may_be_swapped_and_no_others() -> None:
    def analog(g: Graph, x: str) -> str:
        x = g.requantize(g.accumulate(x, 16, bias=False, limit=1), ADC, 0)
        x = g.node("Mul", [g.constant(np.ones((1, 16, 1, 1))), x], 16)
        return g.requantize(g.node("Add", [g.constant(np.ones((1, 16, 1, 1))), x], 16), RELU, None)

    def swapped(op_type: str) -> Callable[[Graph, str], str]:
        def build(g: Graph, x: str) -> str:
            x = g.conv(x, 16)
            node = next(node for node in reversed(g.nodes) if node.op_type == op_type)
            node.input[:] = reversed(node.input)
            return x
        return build

    assert layers(one(analog)) == [("analog conv", "analog", ())]
    for op_type in ("Div", "Max", "Min"):
        assert layers(one(swapped(op_type))) == []


def test_inside_of_a_pattern_that_is_read_outside() -> None:
    for place in range(5):
        g = Graph(1, 16, 16, 16)
        x = g.quantize()
        before = len(g.nodes)
        y = g.conv(x, 16)
        inside = g.nodes[before + place].output[0]
        model = g.model(g.conv(g.node("Mul", [y, inside]), 16))
        assert [kind for kind, *_ in layers(model)] == (["conv", "conv"] if place == 4 else ["conv"])


def test_matmul_wants_two_axes_and_the_constant_second() -> None:
    def matmul(swap: bool, *shape: int) -> onnx.ModelProto:
        g = Graph(*shape)
        x = g.node("MatMul", [g.quantize(), g.constant(g.weights(8, 8))], 8)
        bias = g.constant(8 * [3])
        return g.model(g.requantize(g.node("Add", [bias, x] if swap else [x, bias], 8)))

    assert layers(matmul(False, 1, 8)) == [("dense", "digital", ())]
    assert layers(matmul(True, 1, 8)) == []
    assert layers(matmul(False, 1, 3, 8)) == []


def test_computed_bias_is_no_layer() -> None:
    def build(g: Graph, x: str) -> str:
        bias = g.node("Reshape", [x, g.constant([16], np.int64)])
        return g.requantize(g.node("Conv", [x, g.constant(g.weights(16, 16, 1, 1)), bias]))

    assert layers(one(build, 1, 16, 1, 1)) == []


def test_operators_of_other_domains_are_in_no_pattern() -> None:
    for op_type in ("Relu", "Floor", "Conv"):
        model = one(lambda g, x: g.requantize(g.node("Relu", [g.accumulate(x, 16)])))
        next(node for node in reversed(model.graph.node) if node.op_type == op_type).domain = "mine"
        assert "conv" not in [region.kind for region in partitioned(model)[0]]


def test_gemm_whose_bias_is_an_add_is_a_matmul() -> None:
    def gemm(g: Graph, x: str) -> str:
        x = g.node("Gemm", [x, g.constant(g.weights(8, 8))], 8)
        return g.requantize(g.node("Add", [x, g.constant(8 * [3])]))

    assert layers(one(gemm, 1, 8)) == [("dense", "digital", ())]


@pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"transA": 1}])
def test_gemm_of_another_form_is_no_layer(attributes: dict[str, Any]) -> None:
    model = one(lambda g, x: g.requantize(g.node(
        "Gemm", [x, g.constant(g.weights(8, 8)), g.constant(8 * [3])], 8, **attributes)), 8, 8)
    assert layers(model) == []


def test_matmul_without_a_bias() -> None:
    model = one(lambda g, x: g.requantize(g.node("MatMul", [x, g.constant(g.weights(8, 12))], 12)), 1, 8)
    assert layers(model) == [("dense", "cpu", ("W3",))]
    assert only(model).remedy == "add a bias of 12 zeros"


@pytest.mark.parametrize(("change", "core", "because"), [
    ({"shift": 31}, "digital", ()), ({"shift": 32}, "cpu", ("E6",)), ({"shift": -1}, "cpu", ("E6",)),
    ({"shift": 0}, "digital", ()), ({"shift": None}, "digital", ()), ({"shift": 1.5}, "cpu", ("E6",))])
def test_shifts(change: dict[str, Any], core: str, because: tuple[str, ...]) -> None:
    assert layers(one(lambda g, x: g.conv(x, 16, **change))) == [("conv", core, because)]


def test_sum_of_unequal_shapes() -> None:
    model = one(lambda g, x: g.add(g.conv(x, 16), g.conv(x, 1)))
    assert layers(model) == [("conv", "digital", ()), ("conv", "digital", ()), ("add", "cpu", ("W2",))]
    assert only(model).found == "operands of shapes (1, 16, 16, 16) and (1, 1, 16, 16)"


def test_sum_of_a_tensor_with_itself() -> None:
    assert layers(one(lambda g, x: g.add(x, x))) == [("add", "digital", ())]


SIZES: dict[str, tuple[tuple[int, ...], Callable[[Graph, str], str], list[tuple[str, ...]], str]] = {
    "sum": ((1, 3, 5, 5), lambda g, x: g.add(x, x), [("W1",)],
            "give the output 4 channels instead of 3, or a width of 8 instead of 5"),
    "input of a convolution": ((1, 1, 49, 10), lambda g, x: g.conv(x, 16, stride=2), [("W1",)],
                               "give the input 2 channels instead of 1, or a width of 12 instead of 10"),
    "input of a dense layer": ((1, 30), lambda g, x: g.gemm(x, 30, 8), [("W1",)],
                               "give it 32 inputs instead of 30"),
    "hidden dense layer": ((1, 8), lambda g, x: g.gemm(g.gemm(x, 8, 18), 18, 4), [("W1",), ("W1",)],
                           "give it 20 outputs instead of 18"),
    "classifier": ((1, 8), lambda g, x: g.gemm(x, 8, 10), [("W5",)],
                   "give the head 12 outputs instead of 10 (--pad-outputs)"),
    "classifier as a convolution": ((1, 8, 1, 1), lambda g, x: g.node("Flatten", [g.conv(x, 2, 1)]), [("W5",)],
                                    "give the head 4 outputs instead of 2 (--pad-outputs)"),
    "map of scores": ((1, 8, 3, 3), lambda g, x: g.conv(x, 2, 1), [("W1",)],
                      "give the output 4 channels instead of 2, or a width of 4 instead of 3"),
}


@pytest.mark.parametrize("name", SIZES)
def test_element_counts(name: str) -> None:
    shape, build, because, remedy = SIZES[name]
    model = one(build, *shape)
    assert [codes for *_, codes in layers(model)] == because
    assert partitioned(model)[1][0].remedy == remedy


def test_head_with_a_softmax_and_without_a_quantized_output() -> None:
    g = Graph(1, 8)
    x = g.node("Div", [g.gemm(g.quantize(), 8, 10), g.constant([16])])
    assert layers(g.model(g.node("Softmax", [x], axis=1), scale=None)) == [("dense", "cpu", ("W5",))]


GEOMETRY: dict[str, tuple[dict[str, Any], str, str]] = {
    "TensorFlow's same padding": (
        {"stride": 2, "pads": (0, 0, 1, 1)}, "pads (0, 0, 1, 1)",
        "pad 1 on every side instead of (0, 0, 1, 1), or --zero-taps always, which makes it 5x5 with pads 2x2"),
    "even kernel": ({"kernel": 2, "pads": (0, 0, 1, 1)}, "a 2x2 kernel; pads (0, 0, 1, 1)",
                    "--zero-taps always, which makes it 3x3 with pads 1x1"),
    "10x4": ({"kernel": (10, 4), "pads": (5, 1, 5, 1)}, "a 10x4 kernel", "use a 7x5 kernel"),
    "dilation": ({"dilations": [2, 2], "pads": (2, 2, 2, 2)}, "dilations (2, 2); pads (2, 2, 2, 2) with a 3x3 kernel",
                 "--zero-taps always, which makes it 5x5 with pads 2x2"),
    "valid padding": ({"pads": (0, 0, 0, 0)}, "pads (0, 0, 0, 0) with a 3x3 kernel",
                      "pad 1 on every side instead of (0, 0, 0, 0)"),
    "stride": ({"stride": 4}, "strides (4, 4)", "use strides (2, 2)"),
    "groups": ({"groups": 4}, "4 groups", "use one group, whose kernel has zeros outside the 4 blocks, or one for each "
               "of the 16 outputs"),
    "automatic padding": ({"stride": 2, "auto_pad": "SAME_UPPER"}, "pads (0, 0, 1, 1); auto_pad SAME_UPPER, which "
                          "becomes a Pad of its own",
                          "pad 1 on every side instead of (0, 0, 1, 1), or --zero-taps always, which makes it 5x5 with "
                          "pads 2x2; write pads (0, 0, 1, 1)"),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry(name: str) -> None:
    change, found, remedy = GEOMETRY[name]
    finding = only(one(lambda g, x: g.conv(x, 16, **change)))
    assert (finding.code, finding.found, finding.remedy) == ("W2", found, remedy)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6, 7])
def test_zero_taps_are_offered_where_they_compute_the_same(kernel: int, stride: int) -> None:
    """Whatever padding is offered a larger kernel, that kernel gives as many outputs from the same windows."""
    for above in range(4):
        for below in range(4):
            model = one(lambda g, x, pads=(above, above, below, below): g.conv(  # type: ignore[misc]
                x, 16, kernel, pads=pads, stride=stride))
            remedies = [finding.remedy for finding in partitioned(model)[1]]
            sizes = [k for k in (3, 5, 7) for remedy in remedies if f"{k}x{k} with pads" in remedy]
            legal = kernel % 2 == 1 and above == below == kernel // 2
            same_size = (16 + above + below - kernel) // stride == 15 // stride
            holding = [k for k in (1, 3, 5, 7) if k // 2 >= above and k >= k // 2 - above + kernel]
            assert sizes == (holding[:1] if same_size and not legal else [])


def test_pad_in_front() -> None:
    def padded(*pads: int, mode: str = "constant", value: float = 0.0, own: int = 0, channels: int = 0,
               stride: int = 1) -> onnx.ModelProto:
        g = Graph(1, 16, 16, 16)
        above, left, below, right = pads
        constants = [g.constant([0, channels, above, left, 0, 0, below, right], np.int64), g.constant(value)]
        x = g.node("Pad", [g.quantize(), *constants], 16 + channels, mode=mode)
        return g.model(g.conv(x, 16, pads=4 * (own,), stride=stride))

    finding = only(padded(1, 1, 1, 1))
    assert (finding.code, finding.remedy) == ("W2", "give the convolution pads (1, 1, 1, 1) and drop the Pad")
    assert "pads (1, 2, 2, 2)" in only(padded(0, 1, 1, 1, own=1)).remedy
    assert only(padded(0, 0, 1, 1, stride=2)).remedy == (
        "pad 1 on every side instead of (0, 0, 1, 1), or --zero-taps always, which makes it 5x5 with pads 2x2; "
        "give the convolution pads (0, 0, 1, 1) and drop the Pad")
    assert "has no form there" in only(padded(1, 1, 1, 1, channels=16)).remedy
    assert "has no form there" in only(padded(2, 2, 2, -1)).remedy
    for reflected in (padded(1, 1, 1, 1, mode="reflect"), padded(1, 1, 1, 1, value=3.0)):
        assert layers(reflected) == [("conv", "cpu", ("W2",))]
        assert "has no form there" in only(reflected).remedy


def test_pad_with_attributes() -> None:
    """As opset 10 has it."""
    g = Graph(1, 16, 16, 16)
    x = g.node("Pad", [g.quantize()], mode="constant", pads=[0, 0, 1, 1, 0, 0, 1, 1])
    finding = only(g.model(g.conv(x, 16, pads=(0, 0, 0, 0)), opset=10))
    assert finding.remedy == "give the convolution pads (1, 1, 1, 1) and drop the Pad"


def test_batch_counts() -> None:
    assert layers(one(lambda g, x: g.gemm(x, 9, 2), 4, 9)) == [("dense", "digital", ())]
    assert layers(one(lambda g, x: g.gemm(x, 9, 2), 3, 9)) == [("dense", "cpu", ("W1", "W5"))]


def test_unknown_sizes() -> None:
    model = one(lambda g, x: g.conv(x, 16))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    model.graph.output[0].type.tensor_type.ClearField("shape")
    regions, findings = partitioned(model)
    assert [(region.core, region.because) for region in regions if region.kind == "conv"] == [("cpu", ("E2",))]
    assert not findings


def broken_models() -> dict[str, onnx.ModelProto]:
    """Files that no checker of ONNX lets pass."""
    circle = one(lambda g, x: g.conv(x, 16))
    accumulator = next(node for node in circle.graph.node if node.op_type == "Conv").output[0]
    circle.graph.node.extend([helper.make_node("Relu", [accumulator], ["b"]),
                              helper.make_node("Relu", ["b"], [accumulator])])
    next(node for node in circle.graph.node if node.op_type == "Div" and node.input[0] == accumulator).input[0] = "c"
    attributes = one(lambda g, x: g.conv(x, 16))
    conv = next(node for node in attributes.graph.node if node.op_type == "Conv")
    del conv.attribute[:]
    conv.attribute.extend([helper.make_attribute("group", "x"), helper.make_attribute("strides", 1.5),
                           helper.make_attribute("pads", [1, 1])])
    backwards = resnet8()
    kept = list(backwards.graph.node)
    del backwards.graph.node[:]
    backwards.graph.node.extend(reversed(kept))
    nothing = one(lambda g, x: g.conv(x, 16))
    for node in nothing.graph.node:
        del node.input[:]
    empty = onnx.ModelProto()
    weights = one(lambda g, x: g.conv(x, 16))
    weights.graph.initializer.append(helper.make_tensor("none", TensorProto.FLOAT, [16, 0, 3, 3], []))
    next(node for node in weights.graph.node if node.op_type == "Conv").input[1] = "none"
    return {"circle": circle, "attributes": attributes, "backwards": backwards, "no inputs": nothing, "empty": empty,
            "empty weights": weights}


@pytest.mark.parametrize("name", broken_models())
def test_broken_files_are_partitioned_all_the_same(name: str) -> None:
    model = broken_models()[name]
    regions, _ = partitioned(model)
    assert sum(len(region.nodes) for region in regions) == len(model.graph.node)


def test_signed_and_unsigned_clips_are_taken_alike() -> None:
    for clip in (SIGNED, RELU, (0, 96), (-3, 5)):
        assert layers(one(lambda g, x, clip=clip: g.conv(x, 16, clip=clip))) == [("conv", "digital", ())]  # type: ignore[misc]
