"""ONNX text in, one rule applied, lines of operators out; before and after are compared in onnxruntime.

A graph is written ``(float[2,3,5,5] x) => (y) <float[4,3,3,3] w> { y = Conv(x, w) }``: batch and sizes are fixed, as
they are where rules run. A value declared between the angle brackets without numbers becomes a random weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Rule
from onnxdiana.shapes import infer_shapes

TOLERANCE = 1e-5
"""Largest difference relative to the largest magnitude of an output."""
_HEADER = '<ir_version: 10, opset_import: ["" : 20, "custom" : 1]> g '


def proto(text: str, seed: int = 0) -> onnx.ModelProto:
    """The model of a text, with random weights where it gives no numbers; those called ``var...`` are positive."""
    model = onnx.parser.parse_model(_HEADER + text)
    rng = np.random.default_rng(seed)
    computed = {name for node in model.graph.node for name in node.output}
    for value in [v for v in model.graph.value_info if v.name not in computed]:
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT, f"give '{value.name}' its numbers"
        array = rng.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        array = np.abs(array) + np.float32(0.5) if value.name.startswith("var") else array
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
        model.graph.value_info.remove(value)
    return model


def parse(text: str, seed: int = 0) -> ir.Model:
    """The same as an onnx_ir model with shapes inferred, as the first rule sees it."""
    model = ir.from_proto(proto(text, seed))
    infer_shapes(model)
    return model


def lines(model: ir.Model) -> list[str]:
    """One line a node: ``y = Conv(x, w, b)``; an absent optional input is ``-``."""
    return [
        f"{', '.join(v.name or '-' for v in node.outputs)} = {node.op_type}"
        f"({', '.join('-' if v is None else v.name or '' for v in node.inputs)})"
        for node in model.graph
    ]


def attributes(model: ir.Model, output: str) -> dict[str, Any]:
    """Attributes of the node that computes this tensor."""
    node = next(node for node in model.graph if output in {v.name for v in node.outputs})
    return graph.attributes(node)


def feed(model: onnx.ModelProto, seed: int = 1) -> dict[str, NDArray[Any]]:
    """Random values for every input that has none; an open batch gets 3 samples."""
    rng = np.random.default_rng(seed)
    given = {tensor.name for tensor in model.graph.initializer}
    shapes = {v.name: [d.dim_value or 3 for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items() if name not in given}


def run(model: onnx.ModelProto, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every output, from onnxruntime without its own rewriting."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in model.graph.output]
    return dict(zip(names, session.run(names, inputs), strict=True))


def assert_equal(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Both answer random inputs alike, under the same names."""
    inputs = feed(before)
    expected, found = run(before, inputs), run(after, inputs)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        error = np.abs(found[name] - value).max(initial=0.0) / max(np.abs(value).max(initial=0.0), 1e-6)
        assert error <= TOLERANCE, f"'{name}' differs by {error:.2g}"


def applied(rule: Rule, text: str, after: Sequence[str], count: int = 1) -> ir.Model:
    """Apply a rule that fits ``count`` times; the graph is then as written, answers as before, and is left alone.

    Returns:
        The rewritten model.
    """
    before, model = proto(text), parse(text)
    assert rule.apply(model) == count
    graph.remove_unused(model.graph)
    assert lines(model) == list(after)
    found = ir.to_proto(model)
    onnx.checker.check_model(found, full_check=True)
    assert_equal(before, found)
    assert rule.apply(model) == 0
    assert ir.to_proto(model) == found
    return model


def declined(rule: Rule, text: str) -> None:
    """A rule that does not fit changes nothing at all."""
    model = parse(text)
    before = ir.to_proto(model)
    assert rule.apply(model) == 0
    assert ir.to_proto(model) == before
