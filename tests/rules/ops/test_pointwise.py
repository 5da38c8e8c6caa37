"""The formula of every function against onnxruntime, and the interval that its values are said to lie in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxdiana.expressions import CODES
from onnxdiana.rules.ops import REGISTRY, operator
from onnxdiana.rules.ops.pointwise import OPERATORS, Function
from onnxdiana.runtime import Runner

VALUES = np.unique(np.concatenate([
    np.ldexp(CODES, exponent) for exponent in (-20, -7, -3, 0, 2)]).astype(np.float32))
"""Codes at five exponents: from 2**-20 to 2**9, both signs, zero."""
ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "Celu": [{"alpha": 2.5}, {"alpha": 0.25}], "Elu": [{"alpha": 0.5}, {"alpha": 3.0}],
    "Gelu": [{"approximate": "tanh"}, {"approximate": "none"}],
    "HardSigmoid": [{"alpha": 1 / 6, "beta": 0.5}, {"alpha": -1.0, "beta": 3.0}],
    "LeakyRelu": [{"alpha": 0.3}, {"alpha": -2.0}], "Selu": [{"alpha": 1.0, "gamma": 3.0}],
    "ThresholdedRelu": [{"alpha": 0.0}, {"alpha": 2.5}, {"alpha": -3.0}],
}
FUNCTIONS = [op.op_type for op in OPERATORS if isinstance(op, Function)]
CASES = [(name, attributes) for name in FUNCTIONS for attributes in [{}, *ATTRIBUTES.get(name, [])]]
SECOND: dict[str, list[float]] = {
    "Div": [3.0, -0.25], "Max": [0.5, -2.0], "Min": [6.0, 0.0], "Pow": [2.0, 3.0, 0.5, -1.0], "Sub": [3.0, -1.5],
    "Mul": [-0.75], "Add": [2.5], "PRelu": [0.1, 2.0, -1.0],
}


def computed(op_type: str, second: float | None = None, first: bool = True, **attributes: Any
             ) -> tuple[np.ndarray, np.ndarray, ir.Node]:
    """Ours and onnxruntime's values, and the node; ``first``: the tensor is the first operand."""
    feed = ["x"] if second is None else ["x", "c"] if first else ["c", "x"]
    constants = [] if second is None else [numpy_helper.from_array(np.array(second, np.float32), "c")]
    proto = helper.make_model(helper.make_graph(
        [helper.make_node(op_type, feed, ["y"], **attributes)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])], constants),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(proto)
    node = ir.from_proto(proto).graph[0]
    values = {"x": VALUES.astype(np.float64), "c": np.float64(0 if second is None else second)}
    with np.errstate(all="ignore"):
        ours = operator(node).real(node, [values[name] for name in feed])
    return ours, Runner(proto).run({"x": VALUES})["y"], node


def compare(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Within float32; where float32 overflows, ours is at least so large; not a number where theirs is none."""
    finite = np.isfinite(theirs)
    np.testing.assert_allclose(ours[finite], theirs[finite], rtol=4e-6, atol=1e-6)
    assert (np.isnan(ours) == np.isnan(theirs)).all()
    over = np.isinf(theirs)
    assert (np.sign(ours[over]) == np.sign(theirs[over])).all()
    assert (np.abs(ours[over]) > 3.4e38).all()


@pytest.mark.parametrize(("op_type", "attributes"), [c for c in CASES if c[0] != "PRelu"], ids=str)
def test_functions(op_type: str, attributes: dict[str, Any]) -> None:
    ours, theirs, node = computed(op_type, **attributes)
    compare(ours, theirs)
    lo, hi = operator(node).image
    known = ours[~np.isnan(ours)]
    assert ((known >= lo) & (known <= hi)).all()
    assert operator(node).pointwise(node)
    assert operator(node).tabulated(node)


@pytest.mark.parametrize("op_type", FUNCTIONS)
def test_images_are_tight(op_type: str) -> None:
    """A finite side is nearly reached, so that no codes are given away."""
    ours = computed(op_type, 0.5 if op_type == "PRelu" else None)[0]
    lo, hi = REGISTRY[op_type].image
    assert math.isinf(lo) or np.nanmin(ours) <= lo + 0.01
    assert math.isinf(hi) or np.nanmax(ours) >= hi - 0.01


@pytest.mark.parametrize(("op_type", "second"), [(name, c) for name, cs in SECOND.items() for c in cs], ids=str)
@pytest.mark.parametrize("first", [True, False])
def test_arithmetic(op_type: str, second: float, first: bool) -> None:
    """A constant on either side."""
    if op_type == "PRelu" and not first:
        pytest.skip("a slope is a constant")
    ours, theirs, node = computed(op_type, second, first)
    compare(ours, theirs)
    assert operator(node).pointwise(node)


def test_max_of_many() -> None:
    node = ir.node("Max", [ir.Value(name=name) for name in "abc"])
    found = operator(node).real(node, [np.array([1.0, 5.0]), np.array(2.0), np.array([[3.0], [0.0]])])
    np.testing.assert_array_equal(found, [[3, 5], [2, 5]])


@pytest.mark.parametrize(("op_type", "first", "expected"), [
    ("Div", True, False), ("Sub", True, False), ("Div", False, True), ("Max", True, True), ("Pow", True, True),
    ("Mul", True, False), ("Add", True, False)])
def test_what_layers_take_in_makes_no_table(op_type: str, first: bool, expected: bool) -> None:
    node = computed(op_type, 2.0, first)[2]
    assert operator(node).tabulated(node) == expected
