"""Transposes and Reshapes behind the operators that can take it, merged, dropped, or left where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import sink

from .graphs import applied, attributes, declined, lines, parse

X = "(float[2,3,4,5] x) => (y)"
A = "a = LpNormalization(x)"  # neither a graph input nor something that a move passes
T = "b = Transpose<perm = [0,2,3,1]>(a)"  # to (2,4,5,3)
LAST = "y = Transpose({})"
SQUEEZE = "int64[3] s = {0,3,4}"  # on (2,3,1,4)

MOVES = {
    "two Transposes": (
        f"{X} {{ {A} {T} y = Transpose<perm = [0,2,3,1]>(b) }}", ["a = LpNormalization(x)", "y = Transpose(a)"], 1),
    "two Transposes on a graph input": (
        f"{X} {{ b = Transpose<perm = [0,2,3,1]>(x) c = Transpose<perm = [0,2,3,1]>(b) y = Relu(c) }}",
        ["c = Transpose(x)", "y = Relu(c)"], 1),
    "default perm": (
        "(float[2,3,4] x) => (y) { b = Transpose(x) y = Transpose<perm = [2,1,0]>(b) z = Relu(y) }".replace(
            "(y)", "(z)", 1), ["z = Relu(x)"], 2),
    "back and forth": (f"{X} {{ {A} {T} y = Transpose<perm = [0,3,1,2]>(b) }}", ["y = LpNormalization(x)"], 2),
    "identity": (f"{X} {{ b = Transpose<perm = [0,1,2,3]>(x) y = Relu(b) }}", ["y = Relu(x)"], 1),
    "only axes of size 1": (
        f"(float[2,3,1,1] x) => (y) {{ {A} y = Transpose<perm = [0,2,3,1]>(a) }}",
        ["a = LpNormalization(x)", "y = Reshape(a, y.shape)"], 1),
    "only axes of size 1, the batch among them": (
        f"(float[1,3,1,5] x) => (y) {{ {A} y = Transpose<perm = [0,2,1,3]>(a) }}",
        ["a = LpNormalization(x)", "y = Reshape(a, y.shape)"], 1),
    "two Reshapes": (
        "(float[2,12] x) => (y) <int64[3] s = {0,3,4}, int64[3] t = {0,2,6}> { b = Reshape(x, s) y = Reshape(b, t) }",
        ["y = Reshape(x, t)"], 1),
    "Reshape and Flatten back": (
        "(float[2,12] x) => (y) <int64[3] s = {0,3,4}> { b = Reshape(x, s) c = Flatten(b) y = Relu(c) }",
        ["y = Relu(x)"], 2),
    "Reshape to the same shape": (
        "(float[2,3,4] x) => (y) <int64[3] s = {0,3,4}> { b = Relu(x) y = Reshape(b, s) }", ["y = Relu(x)"], 1),
    "the same Transpose twice": (
        "(float[2,3,4,5] x) => (y, z) { b = Transpose<perm = [0,2,3,1]>(x) c = Transpose<perm = [0,2,3,1]>(x)"
        " y = Relu(b) z = Neg(c) }", ["b = Transpose(x)", "y = Relu(b)", "z = Neg(b)"], 1),
    "Reshape, then Transpose": (
        "(float[2,3,1,4] x) => (y) <int64[3] s = {0,3,4}> "
        "{ b = Reshape(x, s) y = Transpose<perm = [0,2,1]>(b) }",
        ["y.transpose = Transpose(x)", "y = Reshape(y.transpose, y.shape)"], 1),
}


@pytest.mark.parametrize(("text", "after", "count"), MOVES.values(), ids=MOVES)
def test_moves_meet(text: str, after: list[str], count: int) -> None:
    applied(sink.RULE, text, after, count)


PASSES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "Relu": ("y = Relu(b)", "Relu(a)", {}, {}),
    "Clip": ("<float lo = {-1}, float hi = {1}> y = Clip(b, lo, hi)", "Clip(a, lo, hi)", {}, {}),
    "HardSigmoid": ("y = HardSigmoid(b)", "HardSigmoid(a)", {}, {}),
    "PRelu": ("<float[3] c> y = PRelu(b, c)", "PRelu(a, c)", {}, {"c": (1, 3, 1, 1)}),
    "a constant along the channels": ("<float[3] c> y = Add(b, c)", "Add(a, c)", {}, {"c": (1, 3, 1, 1)}),
    "a constant in front": ("<float[4,1,3] c> y = Sub(c, b)", "Sub(c, a)", {}, {"c": (1, 3, 4, 1)}),
    "a scalar": ("<float[1] c> y = Mul(b, c)", "Mul(a, c)", {}, {"c": (1,)}),
    "Pad": ("<int64[8] c = {0,1,2,0,0,3,0,4}> y = Pad(b, c)", "Pad(a, c)", {}, {"c": [0, 0, 1, 2, 0, 4, 3, 0]}),
    "Pad, axes": ('<int64[4] c = {1,2,3,4}, int64[2] k = {1,-1}> y = Pad(b, c, "", k)', "Pad(a, c, -, -)", {},
                  {"c": [0, 2, 1, 0, 0, 4, 3, 0]}),
    "Slice": ("<int64[2] c = {1,0}, int64[2] e = {9,2}, int64[2] k = {-2,3}> y = Slice(b, c, e, k)",
              "Slice(a, c, e, k)", {}, {"k": [3, 1]}),
    "Slice without axes": ("<int64[2] c = {0,1}, int64[2] e = {9,3}> y = Slice(b, c, e)", "Slice(a, c, e, y.axes)", {},
                           {"y.axes": [0, 2]}),
    "Softmax": ("y = Softmax(b)", "Softmax(a)", {"axis": 1}, {}),
    "LogSoftmax": ("y = LogSoftmax<axis = 1>(b)", "LogSoftmax(a)", {"axis": 2}, {}),
    "ReduceMean": ("<int64[1] k = {-3}> y = ReduceMean(b, k)", "ReduceMean(a, k)", {}, {"k": [2]}),
    "Resize by scales": ('<float[4] c = {1,2,3,1}> y = Resize<mode = "nearest">(b, "", c)', "Resize(a, -, c)", {},
                         {"c": [1, 1, 2, 3]}),
    "Resize to sizes": ('<int64[4] c = {2,8,5,3}> y = Resize<mode = "nearest">(b, "", "", c)', "Resize(a, -, -, c)", {},
                        {"c": [2, 3, 8, 5]}),
}


@pytest.mark.parametrize(("nodes", "after", "attribute", "constants"), PASSES.values(), ids=PASSES)
def test_passes(nodes: str, after: str, attribute: dict[str, Any], constants: dict[str, Any]) -> None:
    declared, nodes = nodes.split("> y", 1) if nodes.startswith("<") else ("", nodes[1:])
    text = f"{X} {declared + '>' if declared else ''} {{ {A} {T} y{nodes} }}"
    inner = f"y.{after.split('(')[0].lower()}"
    model = applied(sink.RULE, text, ["a = LpNormalization(x)", f"{inner} = {after}", f"y = Transpose({inner})"])
    assert attributes(model, "y") == {"perm": [0, 2, 3, 1]}
    assert attribute.items() <= attributes(model, inner).items()
    for name, expected in constants.items():
        found = graph.required_constant(model.graph.initializers[name])
        assert found.shape == expected if isinstance(expected, tuple) else found.tolist() == expected, name


NETWORKS: dict[str, tuple[str, list[str], int]] = {
    "an operator keeps its name where the graph does not return it": (
        f"{X} {{ {A} {T} c = Relu(b) y = LpNormalization(c) }}",
        ["a = LpNormalization(x)", "c = Relu(a)", "c.transposed = Transpose(c)",
         "y = LpNormalization(c.transposed)"], 1),
    "both operands": (
        f"{X} {{ {A} c = Neg(a) {T} d = Transpose<perm = [0,2,3,1]>(c) y = Add(b, d) }}",
        ["a = LpNormalization(x)", "c = Neg(a)", "y.add = Add(a, c)", "y = Transpose(y.add)"], 1),
    "one tensor twice": (
        f"{X} {{ {A} {T} y = Mul(b, b) }}", ["a = LpNormalization(x)", "y.mul = Mul(a, a)", "y = Transpose(y.mul)"], 1),
    "factors a channel, Reshape from features": (
        f"(float[2,3,4,5] x, float[2,3] z) => (y) <int64[4] s = {{0,1,1,3}}> "
        f"{{ {A} {T} f = LpNormalization(z) g = Reshape(f, s) y = Mul(b, g) }}",
        ["a = LpNormalization(x)", "f = LpNormalization(z)", "f.reshaped = Reshape(f, f.reshaped.shape)",
         "y.mul = Mul(a, f.reshaped)", "y = Transpose(y.mul)"], 1),
    "Concat": (
        f"{X} {{ {A} c = Neg(a) {T} d = Transpose<perm = [0,2,3,1]>(c) y = Concat<axis = -1>(b, d) }}",
        ["a = LpNormalization(x)", "c = Neg(a)", "y.concat = Concat(a, c)", "y = Transpose(y.concat)"], 1),
    "Split": (
        f"(float[2,4,4,5] x) => (y, z) {{ {A} {T} y, z = Split<axis = 3, num_outputs = 2>(b) }}",
        ["a = LpNormalization(x)", "y.split, z.split = Split(a)", "z = Transpose(z.split)", "y = Transpose(y.split)"],
        1),
    "mean without its axes": (
        f"{X} <int64[2] k = {{1,2}}> {{ {A} {T} y = ReduceMean<keepdims = 0>(b, k) }}",
        ["a = LpNormalization(x)", "y = ReduceMean(a, k)"], 2),
    "mean without one axis": (
        f"{X} <int64[1] k = {{1}}> {{ {A} {T} y = ReduceMean<keepdims = 0>(b, k) }}",
        ["a = LpNormalization(x)", "y.reducemean = ReduceMean(a, k)", "y = Transpose(y.reducemean)"], 1),
    "ArgMax": (
        f"{X} {{ {A} {T} y = ArgMax<axis = 3, keepdims = 0>(b) }}",
        ["a = LpNormalization(x)", "y = ArgMax(a)"], 2),
    "a graph input that is read as it is": (
        "(float[2,3,4,5] x, float[2,4,5,3] z) => (y) "
        f"{{ {A} {T} y = Add(b, z) }}",
        ["z.transposed = Transpose(z)", "a = LpNormalization(x)", "y.add = Add(a, z.transposed)",
         "y = Transpose(y.add)"], 1),
    "a prepared input that is transposed elsewhere": (
        "(float[2,4,5,3] x) => (y) { p = Neg(x) q = Transpose<perm = [0,3,1,2]>(p) a = LpNormalization(q)"
        f" {T} y = Add(b, p) }}",
        ["p = Neg(x)", "q = Transpose(p)", "a = LpNormalization(q)", "y.add = Add(a, q)", "y = Transpose(y.add)"], 1),
    "readers that cannot": (
        "(float[2,3,4,5] x, float[2,4,5,3] z) => (y, u, v) "
        f"{{ {A} {T} c = LpNormalization(z) y = Add(b, c) u = Relu(b) v = LpNormalization(b) }}",
        ["a = LpNormalization(x)", "b = Transpose(a)", "c = LpNormalization(z)", "y = Add(b, c)", "u.relu = Relu(a)",
         "u = Transpose(u.relu)", "v = LpNormalization(b)"], 1),
    "a constant that another node reads": (
        "(float[2,3,4,5] x) => (y, z) <float[3] c> "
        f"{{ {A} {T} y = Add(b, c) z = Mul(c, c) }}",
        ["a = LpNormalization(x)", "y.add = Add(a, c_2)", "y = Transpose(y.add)", "z = Mul(c, c)"], 1),
    "names that exist": (
        f'(float[2,3,4,5] x) => (y, "y.relu") {{ {A} {T} y = Relu(b) "y.relu" = Neg(x) }}',
        ["a = LpNormalization(x)", "y.relu_2 = Relu(a)", "y = Transpose(y.relu_2)", "y.relu = Neg(x)"], 1),
    "Reshape below unary and constant": (
        f"(float[2,3,1,4] x) => (y) <{SQUEEZE}, float[3,1] c> {{ {A} b = Reshape(a, s) d = Relu(b) y = Add(d, c) }}",
        ["a = LpNormalization(x)", "d = Relu(a)", "y.add = Add(d, c)", "y = Reshape(y.add, y.shape)"], 2),
    "Reshape that splits, and a constant along one part": (
        f"(float[2,12] x) => (y) <{SQUEEZE}, float[4] c> {{ {A} b = Reshape(a, s) y = Add(b, c) }}",
        ["a = LpNormalization(x)", "y.add = Add(a, c)", "y = Reshape(y.add, y.shape)"], 1),
    "Reshape below Concat": (
        f"(float[2,3,1,4] x) => (y) <{SQUEEZE}> {{ {A} b = Reshape(a, s) c = Neg(a) d = Reshape(c, s)"
        " y = Concat<axis = 1>(b, d) }",
        ["a = LpNormalization(x)", "c = Neg(a)", "y.concat = Concat(a, c)", "y = Reshape(y.concat, y.shape)"], 1),
    "Reshape below Pad": (
        f"(float[2,3,1,4] x) => (y) <{SQUEEZE}, int64[6] p = {{0,1,2,0,3,4}}> "
        f"{{ {A} b = Reshape(a, s) y = Pad(b, p) }}",
        ["a = LpNormalization(x)", "y.pad = Pad(a, p)", "y = Reshape(y.pad, y.shape)"], 1),
    "Reshape that splits, and a constant of one element with more axes": (
        f"(float[2,12] x) => (y) <{SQUEEZE}, float[1,1,1] c> {{ {A} b = Reshape(a, s) y = Add(b, c) }}",
        ["a = LpNormalization(x)", "y.add = Add(a, c)", "y = Reshape(y.add, y.shape)"], 1),
    "Reshape below Resize": (
        f"(float[2,3,1,4] x) => (y) <{SQUEEZE}, float[3] k = {{1,1,2}}> "
        f'{{ {A} b = Reshape(a, s) y = Resize<mode = "linear">(b, "", k) }}',
        ["a = LpNormalization(x)", "y.resize = Resize(a, -, k)", "y = Reshape(y.resize, y.shape)"], 1),
    "Reshape below Slice": (
        f"(float[2,3,1,4] x) => (y) <{SQUEEZE}, int64[2] i = {{1,1}}, int64[2] e = {{3,9}}, int64[2] k = {{2,1}}> "
        f"{{ {A} b = Reshape(a, s) y = Slice(b, i, e, k) }}",
        ["a = LpNormalization(x)", "y.slice = Slice(a, i, e, k)", "y = Reshape(y.slice, y.shape)"], 1),
    "Reshape below a mean": (
        f"(float[2,3,1,4] x) => (y) <{SQUEEZE}, int64[1] k = {{2}}> "
        f"{{ {A} b = Reshape(a, s) y = ReduceMean<keepdims = 0>(b, k) }}",
        ["a = LpNormalization(x)", "y.reducemean = ReduceMean(a, k)", "y = Flatten(y.reducemean)"], 1),
    "a Transpose of volumes": (
        "(float[2,2,3,4,5] x) => (y) <float[2] c> "
        f"{{ {A} b = Transpose<perm = [0,2,3,4,1]>(a) y = Add(b, c) }}",
        ["a = LpNormalization(x)", "y.add = Add(a, c)", "y = Transpose(y.add)"], 1),
    "Reshape below BatchNormalization": (
        f"(float[2,3,1,4] x) => (y) <{SQUEEZE}, float[3] g, float[3] var> "
        f"{{ {A} b = Reshape(a, s) y = BatchNormalization(b, g, g, g, var) }}",
        ["a = LpNormalization(x)", "y.batchnormalization = BatchNormalization(a, g, g, g, var)",
         "y = Reshape(y.batchnormalization, y.shape)"], 1),
}


@pytest.mark.parametrize(("text", "after", "count"), NETWORKS.values(), ids=NETWORKS)
def test_networks(text: str, after: list[str], count: int) -> None:
    applied(sink.RULE, text, after, count)


def test_pads_behind_a_reshape() -> None:
    text, after, count = NETWORKS["Reshape below Pad"]
    model = applied(sink.RULE, text, after, count)
    assert graph.required_constant(model.graph.initializers["p"]).tolist() == [0, 1, 0, 2, 0, 3, 0, 4]


AXES = {
    "channels, of one": ("(float[2,1,1,4] x)", "int64[3] s = {0,1,4}", 1, [0, 1, 0, 0, 0, 2, 0, 0]),
    "the map, of one point": ("(float[2,3,1,1] x)", "int64[3] s = {0,3,1}", 2, [0, 0, 0, 1, 0, 0, 0, 2]),
}


@pytest.mark.parametrize(("x", "shape", "axis", "pads"), AXES.values(), ids=AXES)
def test_of_axes_of_size_one_the_right_one(x: str, shape: str, axis: int, pads: list[int]) -> None:
    text = (f'{x} => (y) <{shape}, int64[2] p = {{1,2}}, int64[1] k = {{{axis}}}> '
            f'{{ {A} b = Reshape(a, s) y = Pad(b, p, "", k) }}')
    model = applied(sink.RULE, text, ["a = LpNormalization(x)", "y.pad = Pad(a, p, -, -)",
                                      "y = Reshape(y.pad, y.shape)"])
    assert graph.required_constant(model.graph.initializers["p"]).tolist() == pads


def test_a_constant_along_one_part_is_written_out() -> None:
    text, after, count = NETWORKS["Reshape that splits, and a constant along one part"]
    before = graph.required_constant(parse(text).graph.initializers["c"])
    model = applied(sink.RULE, text, after, count)
    np.testing.assert_array_equal(graph.required_constant(model.graph.initializers["c"]), [np.tile(before, 3)])


DECLINES = {
    "on a graph input": f"{X} {{ b = Transpose<perm = [0,2,3,1]>(x) y = Relu(b) }}",
    "Reshape on a graph input": f"(float[2,12] x) => (y) <{SQUEEZE}> {{ b = Reshape(x, s) y = Relu(b) }}",
    "from input to output": "(float[2,3] x) => (y) { y = Flatten(x) }",
    "nothing that could pass": f"{X} {{ {A} {T} y = LpNormalization(b) }}",
    "another perm": (
        "(float[2,4,4,4] x) => (y) "
        f"{{ {A} {T} d = Transpose<perm = [0,2,1,3]>(a) y = Add(b, d) }}"),
    "one operand is not transposed": (
        "(float[2,3,4,5] x, float[2,4,5,3] z) => (y) "
        f"{{ {A} {T} c = LpNormalization(z) y = Add(b, c) }}"),
    "another rank": (
        "(float[2,3,4,5] x, float[3] z) => (y) "
        f"{{ {A} {T} c = LpNormalization(z) y = Add(b, c) }}"),
    "a constant with more axes": f"{X} <float[2,1,1,1,1] c> {{ {A} {T} y = Add(b, c) }}",
    "pads can be fed": f"(float[2,3,4,5] x, int64[8] p = {{0,0,0,1,0,0,0,0}}) => (y) {{ {A} {T} y = Pad(b, p) }}",
    "Concat with a constant": f"{X} <float[2,4,5,1] c> {{ {A} {T} y = Concat<axis = 3>(b, c) }}",
    "a constant along merged axes": f"(float[2,3,4] x) => (y) <float[12] c> {{ {A} b = Flatten(a) y = Add(b, c) }}",
    "a constant that would become too large": (
        "(float[2,134217728] x) => (y) <int64[3] s = {0,1048576,128}, float[128] c> "
        f"{{ {A} b = Reshape(a, s) y = Add(b, c) }}"),
    "a constant a sample": (
        f"(float[2,12] x) => (y) <{SQUEEZE}, float[2,1,1] c> {{ {A} b = Reshape(a, s) y = Add(b, c) }}"),
    "mean over the batch behind a Reshape": (
        f"(float[2,3,1,4] x) => (y) <{SQUEEZE}, int64[1] k = {{0}}> "
        f"{{ {A} b = Reshape(a, s) y = ReduceMean<keepdims = 0>(b, k) }}"),
    "Transpose of the batch behind a Reshape": (
        f"(float[2,3,1,4] x) => (y) <{SQUEEZE}> {{ {A} b = Reshape(a, s) y = Transpose<perm = [1,0,2]>(b) }}"),
    "Reshape that is not canonical yet": (
        f"(float[2,12] x) => (y) <int64[3] s = {{2,3,-1}}> {{ {A} b = Reshape(a, s) y = Relu(b) }}"),
    "only axes of size 1, of a graph input": "(float[2,3,1,1] x) => (y) { y = Transpose<perm = [0,2,3,1]>(x) }",
    "Resize that names its axes": (
        f"{X} <float[2] k = {{1,2}}> {{ {A} {T}"
        ' y = Resize<mode = "nearest", axes = [1,2]>(b, "", k) }'),
    "Softmax behind a Reshape": f"(float[2,3,1,4] x) => (y) <{SQUEEZE}> {{ {A} b = Reshape(a, s) y = Softmax(b) }}",
    "Transpose through parts of an axis": (
        "(float[2,12,5] x) => (y) <int64[4] s = {0,3,4,5}> "
        f"{{ {A} b = Reshape(a, s) y = Transpose<perm = [0,2,1,3]>(b) }}"),
    "Resize that crops": (
        f"{X} <float[8] r = {{0,0,0,0,1,1,1,1}}, float[4] k = {{1,1,2,1}}> {{ {A} {T}"
        ' y = Resize<mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize">(b, r, k) }'),
    "Resize that keeps the aspect ratio": (
        f"{X} <int64[4] k = {{2,8,5,3}}> {{ {A} {T}"
        ' y = Resize<mode = "nearest", keep_aspect_ratio_policy = "not_larger">(b, "", "", k) }'),
    "BatchNormalization across another axis": (
        f"{X} <float[4] g, float[4] var> {{ {A} {T} y = BatchNormalization(b, g, g, g, var) }}"),
    "mean over axes that can be fed": (
        "(float[2,3,4,5] x, int64[1] k = {1}) => (y) "
        f"{{ {A} {T} y = ReduceMean(b, k) }}"),
    "mean over everything": f"{X} {{ {A} {T} y = ReduceMean(b) }}",
    "Reshape that mixes the batch": (
        "(float[2,3,4] x) => (y) <int64[2] s = {-1,4}> "
        f"{{ {A} b = Reshape(a, s) y = Relu(b) }}"),
    "unknown sizes": "(float[2,H,4] x) => (y) { a = LpNormalization(x) b = Transpose<perm = [0,2,1]>(a) y = Relu(b) }",
    "another domain": f"{X} {{ {A} {T} y = custom.Relu(b) }}",
}


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(sink.RULE, text)


def test_node_names_stay_unique() -> None:
    model = parse("(float[2,3,1,4] x) => (y) <int64[3] s = {0,3,4}> "
                  "{ b = Reshape(x, s) y = Transpose<perm = [0,2,1]>(b) }")
    for node in model.graph:
        node.name = node.outputs[0].name
    assert sink.RULE.apply(model) == 1
    graph.remove_unused(model.graph)
    assert [node.name for node in model.graph] == ["y.transpose", "y"]


def test_both_results_are_outputs() -> None:
    """Two outputs that are the same tensor keep both names."""
    model: ir.Model = parse("(float[2,3,4,5] x) => (y, z) { y = Relu(x) z = Transpose<perm = [0,1,2,3]>(y) }")
    assert sink.RULE.apply(model) == 0
    assert lines(model) == ["y = Relu(x)", "z = Transpose(y)"]
