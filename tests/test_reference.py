"""The numpy reference: the judge of every spelling, on random networks with integers of every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from integer_graphs import RELU, Case, GraphBuilder, agree, networks

from onnxdiana import reference
from onnxdiana.graph import name_of
from onnxdiana.reference import Walk


@given(networks())
def test_every_spelling_of_random_networks(case: Case) -> None:
    """Accumulators up to the last one that int32 holds; ``--hypothesis-profile=deep`` draws 5000 networks, not 150."""
    agree(case)


def small() -> Case:
    """Two layers and a sum, by hand: y = relu(x + 3 x) / 2 in codes, -x on the way."""
    build = GraphBuilder(2, exponent=0)
    a = build.gemm("x", "a", 3 * np.eye(2), 1, weight_exponent=-1, shift=1)
    b = build.gemm(a, "b", -np.eye(2), weight_exponent=0)
    return build.build(build.add(a, b, "s", shift=1, codes=(-9, 9)), b)


def test_by_hand() -> None:
    """a = floor((3 x + 1) / 2), b = -a, s = 0."""
    x = np.array([[1, -1], [2.9, -2.1], [200, -200]], np.float32)
    found = reference.run(small().integer, {"x": x}, ["x.quantized", "a.accumulator", "a", "b.quantized", "b", "s"])
    assert {name: array.tolist() for name, array in found.items()} == {
        "x.quantized": [[1, -1], [2, -3], [127, -128]],
        "a.accumulator": [[4, -2], [7, -8], [382, -383]],
        "a": [[2, -1], [3, -4], [127, -128]],
        "b.quantized": [[-2, 1], [-3, 4], [-127, 127]],
        "b": [[-2, 1], [-3, 4], [-127, 127]],
        "s": [[0, 0], [0, 0], [0, -2]],  # -128 + 127 = -1, floored to -1, of steps of two
    }
    assert {name: array.dtype for name, array in found.items()} == {
        "x.quantized": np.int8, "a.accumulator": np.int64, "a": np.int8, "b.quantized": np.int8, "b": np.float32,
        "s": np.float32}


def test_outputs_by_default() -> None:
    case = small()
    assert set(reference.run(case.integer, {"x": np.zeros((1, 2), np.float32)})) == {"b", "s"}


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_samples_are_independent(batch: int) -> None:
    """Any split of the samples gives the same codes."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(3, 5, 5)
    a = build.conv("x", "a", rng.integers(-128, 128, (4, 3, 3, 3)), shift=9, codes=RELU)
    case = build.build(build.gemm(build.move("Flatten", build.mean(a, "m"), "f"), "y", rng.integers(-128, 128, (2, 4))))
    x = case.floats([rng.integers(-128, 128, (14, 3, 5, 5))])
    whole = reference.run(case.integer, x, ["a", "y"])
    parts = [reference.run(case.integer, {"x": x["x"][i:i + batch]}, ["a", "y"]) for i in range(0, 14, batch)]
    for name, array in whole.items():
        np.testing.assert_array_equal(array, np.concatenate([part[name] for part in parts]))


def test_half_even_is_what_onnx_rounds_like() -> None:
    """-3.5, -2.5, 2.5 and 3.5 at the input; 1.5 and 2.5 behind the layer; 1.5 and 2.5 as means."""
    build = GraphBuilder(4, exponent=0)
    case = build.build(build.gemm("x", "y", np.eye(4), weight_exponent=0, shift=1))
    x = {"x": np.array([[-3.5, -2.5, 2.5, 3.5]], np.float32)}
    names = ["x.quantized", "y.quantized"]
    floors, evens = (reference.run(case.integer, x, names, r) for r in ("floor", "half_even"))  # type: ignore[arg-type]
    assert [floors[name].tolist() for name in names] == [[[-4, -3, 2, 3]], [[-2, -2, 1, 1]]]
    assert [evens[name].tolist() for name in names] == [[[-4, -2, 2, 4]], [[-2, -1, 1, 2]]]
    build = GraphBuilder(2, 1, 2, exponent=0, codes=RELU)
    case = build.build(build.mean("x", "m"))
    x = {"x": np.array([[[[1, 2]], [[2, 3]]]], np.float32)}
    assert reference.run(case.integer, x, ["m"], "floor")["m"].reshape(-1).tolist() == [1, 2]
    assert reference.run(case.integer, x, ["m"], "half_even")["m"].reshape(-1).tolist() == [2, 2]


# -- walks ------------------------------------------------------------------------------------------------------------


def test_a_walk_forgets_what_nothing_reads_any_more() -> None:
    case = small()
    state, done = Walk(case.integer, {"x": np.ones((1, 2), np.float32)}), set[Any]()
    live = []
    for node in case.integer.graph:
        state.store(node, state.evaluate(node), done)
        live.append(sorted(state.codes))
    assert live == [
        ["x.quantized"],
        ["a.accumulator"],
        ["a"],
        ["a", "b.accumulator"],
        ["a", "b.quantized"],
        ["b.quantized", "s.unclipped.accumulator"],
        ["b.quantized", "s.quantized"],
        ["b.quantized", "s"],
        ["b", "s"],
    ]


def test_a_walk_on_some_samples() -> None:
    case = small()
    state = Walk(case.integer, {"x": np.array([[1, 2], [3, 4], [5, 6]], np.float32)})
    first = next(iter(case.integer.graph))
    assert state.evaluate(first, slice(1, 3)).tolist() == [[3, 4], [5, 6]]
    assert list(state.codes) == ["x"]


def test_walk_yields_every_node_in_order() -> None:
    case = small()
    seen = [name_of(node.outputs[0]) for node, _ in reference.walk(case.integer, {"x": np.ones((1, 2), np.float32)})]
    assert seen == [name_of(node.outputs[0]) for node in case.integer.graph]
