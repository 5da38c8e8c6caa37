"""The legal graph of each stage: a legal one passes, and each single violation is named with node and rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from integer_graphs import RELU, GraphBuilder

from onnxdiana import graph, spec
from onnxdiana.errors import SpecViolation, UnsupportedOpError


def builder() -> GraphBuilder:
    """Layers of every kind, and a tensor that is moved."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(2, 4, 4)
    a = build.conv("x", "a", rng.integers(-128, 128, (2, 2, 3, 3)), 5, shift=7, codes=RELU, pads=[1, 1, 1, 1])
    b = build.conv(a, "b", rng.integers(-128, 128, (2, 2, 1, 1)), shift=7, codes=RELU)
    c = build.conv(a, "c", rng.integers(-128, 128, (2, 2, 1, 1)), shift=7)
    pooled = build.mean(build.add(b, c, "s", shift=1, codes=RELU), "m")
    build.gemm(build.move("Flatten", pooled, "f", axis=1), "y", rng.integers(-128, 128, (3, 2)), shift=5)
    return build


def node_of(model: ir.Model, output: str) -> ir.Node:
    return next(node for node in model.graph if graph.name_of(node.outputs[0]) == output)


def value_of(model: ir.Model, name: str) -> ir.Value:
    return node_of(model, name).outputs[0]


Change = Callable[[ir.Model], object]


def attribute(output: str, name: str, value: int) -> Change:
    return lambda model: node_of(model, output).attributes.update({name: ir.AttrInt64(name, value)})


def operator(output: str, op_type: str, domain: str | None = None) -> Change:
    def change(model: ir.Model) -> None:
        node = node_of(model, output)
        node.op_type, node.domain = op_type, node.domain if domain is None else domain
    return change


def shape(name: str, *dims: int | str | None) -> Change:
    return lambda model: setattr(value_of(model, name), "shape", ir.Shape(dims))


# -- the canonical graph ----------------------------------------------------------------------------------------------

CANONICAL: dict[str, tuple[Change, str]] = {
    "another opset": (lambda m: m.graph.opset_imports.update({"": 18}), r"opset imports \{'': 18\}, expected only \d+"),
    "another domain imported": (lambda m: m.graph.opset_imports.update({"custom": 1}), "opset imports .*custom"),
    "no opset": (lambda m: m.graph.opset_imports.clear(), "opset imports"),
    "name missing": (lambda m: setattr(value_of(m, "c"), "name", ""), "tensor name '' is missing or used twice"),
    "name twice": (lambda m: setattr(value_of(m, "c"), "name", "b"), "Conv -> 'b': tensor name 'b' is missing or used"),
    "name of the input": (lambda m: setattr(value_of(m, "c"), "name", "x"), "tensor name 'x' is missing or used twice"),
    "unknown operator": (operator("f", "Erf"), "Erf -> 'f': no quantized form"),
    "operator of another domain": (operator("f", "Flatten", "custom"), "custom::Flatten -> 'f': no quantized form"),
    "operator with an obstacle": (attribute("f", "axis", 2), "Flatten -> 'f': no quantized form"),
    "no shape": (lambda m: setattr(value_of(m, "c"), "shape", None), "Conv -> 'c': shape None"),
    "fixed batch": (shape("c", 1, 2, 4, 4), r"Conv -> 'c': shape \(1, 2, 4, 4\), expected an open batch"),
    "open size": (shape("c", "batch", 2, "height", 4), r"Conv -> 'c': shape \(None, 2, None, 4\), expected an open"),
    "input of another type": (lambda m: setattr(m.graph.inputs[0], "dtype", ir.DataType.DOUBLE),
                              "input 'x' is DOUBLE"),
    "input of no type": (lambda m: setattr(m.graph.inputs[0], "type", None), "input 'x' is None"),
}


def test_a_legal_canonical_graph() -> None:
    spec.verify_canonical(builder().float_graph("y"))


@pytest.mark.parametrize(("change", "message"), CANONICAL.values(), ids=CANONICAL)
def test_canonical_violations(change: Change, message: str) -> None:
    model = builder().float_graph("y")
    change(model)
    with pytest.raises(SpecViolation, match=f"^canonical graph: .*{message}"):
        spec.verify_canonical(model)


# -- the integer graph ------------------------------------------------------------------------------------------------


def constant(output: str, index: int, dtype: type) -> Change:
    """A parameter of another type."""
    def change(model: ir.Model) -> None:
        node = node_of(model, output)
        array = graph.required_constant(node.inputs[index]).astype(dtype)
        node.replace_input_with(index, graph.initializer(model.graph, f"{output}.other", array))
    return change


def computed(output: str, index: int) -> Change:
    """A parameter that is an activation."""
    return lambda model: node_of(model, output).replace_input_with(index, value_of(model, "x.quantized"))


def read_twice(model: ir.Model) -> None:
    requantizer = node_of(model, "c")
    model.graph.append(ir.node("Requantize", list(requantizer.inputs), {"shift": 0, "lo": 0, "hi": 1},
                               domain=requantizer.domain, outputs=[ir.Value(name="other")]))


MEAN = "onnxdiana::GlobalAveragePool -> 'm.unclipped.accumulator'"
ACC = "onnxdiana::Conv -> 'c.accumulator'"

INTEGER: dict[str, tuple[Change, str]] = {
    "another domain": (operator("f", "Flatten", ""), "Flatten -> 'f': domain ''"),
    "accumulator read twice": (read_twice, f"{ACC}: accumulator read by .*, expected one Requantize"),
    "accumulator unread": (lambda m: node_of(m, "c").replace_input_with(0, value_of(m, "x.quantized")),
                           rf"{ACC}: accumulator read by \[\]"),
    "accumulator read as codes": (lambda m: node_of(m, "c").__setattr__("op_type", "Flatten"),
                                  rf"{ACC}: accumulator read by \['Flatten'\]"),
    "shift -1": (attribute("c", "shift", -1), r"Requantize -> 'c': shift -1, codes \[-128, 127\]"),
    "shift 32": (attribute("c", "shift", 32), r"Requantize -> 'c': shift 32"),
    "codes below int8": (attribute("c", "lo", -129), r"Requantize -> 'c': shift 7, codes \[-129, 127\]"),
    "codes above int8": (attribute("c", "hi", 128), r"Requantize -> 'c': shift 7, codes \[-128, 128\]"),
    "codes exchanged": (attribute("a", "lo", 127 + 1), r"Requantize -> 'a': shift 7, codes \[128, 127\]"),
    "weight int32": (constant("c.accumulator", 1, np.int32), f"{ACC}: weights must be int8 and biases int32"),
    "weight float": (constant("c.accumulator", 1, np.float32), f"{ACC}: weights must be int8 and biases int32"),
    "weight uint8": (constant("c.accumulator", 1, np.uint8), f"{ACC}: weights must be int8"),
    "bias int64": (constant("c.accumulator", 2, np.int64), f"{ACC}: weights must be int8 and biases int32"),
    "weight computed": (computed("c.accumulator", 1), f"{ACC}: weights must be int8 and biases int32 constants"),
    "bias computed": (computed("c.accumulator", 2), f"{ACC}: weights must be int8 and biases int32 constants"),
    "mean of negative codes": (attribute("s", "lo", -1), f"{MEAN}: a mean of codes down to -1, which truncation and"),
    "mean with a shift": (attribute("m", "shift", 1), f"{MEAN}: a mean shifted by 1"),
}


@pytest.mark.parametrize(("change", "message"), INTEGER.values(), ids=INTEGER)
def test_integer_violations(change: Change, message: str) -> None:
    model = builder().build("y").integer
    spec.verify_integer(model)
    change(model)
    with pytest.raises(SpecViolation, match=f"^integer graph: .*{message}"):
        spec.verify_integer(model)


# -- what has no quantized form ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("op_type", sorted(spec.SPELLINGS))
def test_advice_for_operators_that_have_no_form(op_type: str) -> None:
    """Operator tables are open to reading: each advice belongs to an operator that is not known."""
    model = builder().float_graph("y")
    operator("f", op_type)(model)
    with pytest.raises(UnsupportedOpError) as error:
        spec.quantizable(model)
    assert error.value.findings == (f"{op_type} -> 'f': {spec.SPELLINGS[op_type]}",)


def test_no_internal_operator_is_recommended() -> None:
    model = builder().float_graph("y")
    operator("f", "Det")(model)
    with pytest.raises(UnsupportedOpError, match=r"known operators are Abs, Add, .*, Transpose$") as error:
        spec.quantizable(model)
    assert not {"Quantize", "Requantize", "Dequantize", "Table"} & set(str(error.value).replace(",", "").split())


@pytest.mark.parametrize(("op_type", "domain"), [
    ("Quantize", ""), ("Requantize", ""), ("Dequantize", ""), ("Table", ""), ("Flatten", "onnxdiana"),
    ("Quantize", "onnxdiana"),
])
def test_operators_of_the_integer_graph_are_none_of_a_users_model(op_type: str, domain: str) -> None:
    model = builder().float_graph("y")
    operator("f", op_type, domain)(model)
    with pytest.raises(UnsupportedOpError, match=f"{op_type} -> 'f': known operators are"):
        spec.quantizable(model)
    with pytest.raises(SpecViolation, match=f"{op_type} -> 'f': no quantized form"):
        spec.verify_canonical(model)
