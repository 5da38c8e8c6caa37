"""Slice and Concat in every spelling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from integer_graphs import RELU, Case, GraphBuilder, agree, ended

from onnxdiana.forms import Forms

FAR = 2**63 - 1
CONCAT = "Concat along an axis other than the channels, at which HTVM stops when it partitions for DIANA"


def slices(x: np.ndarray, **parts: slice) -> np.ndarray:
    """A part of (N, C, H, W) by axis."""
    return x[tuple(parts.get(axis, slice(None)) for axis in "nchw")]


@pytest.mark.parametrize(("constants", "expected"), [
    (([1], [3], [2]), {"h": slice(1, 3)}),
    (([0, 0, 1, 0], [FAR, 2, 3, FAR]), {"c": slice(2), "h": slice(1, 3)}),
    (([1, -3], [FAR, -1], [1, 3]), {"c": slice(1, None), "w": slice(-3, -1)}),
    (([0, 4], [FAR, 0], [-2, -1], [2, -1]), {"h": slice(None, None, 2), "w": slice(4, 0, -1)}),
    (([-1], [-2**63], [3], [-1]), {"w": slice(None, None, -1)}),
    (([-1], [-100], [3], [-2]), {"w": slice(None, None, -2)}),
    (([FAR], [-2**31], [3], [-3]), {"w": slice(None, None, -3)}),
    (([-100], [100], [2]), {}),
    (([0, 0, 3, 4], [FAR, FAR, 0, 1], None, [1, 1, -1, -2]), {"h": slice(3, 0, -1), "w": slice(4, 1, -2)}),
], ids=str)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_slice(dtype: type, constants: tuple[Any, ...], expected: dict[str, slice]) -> None:
    limits = np.iinfo(dtype)
    given = [None if c is None else np.array([min(max(v, limits.min), limits.max) for v in c], dtype)
             for c in constants]
    build = GraphBuilder(3, 4, 5)
    found = agree(ended(build, build.move("Slice", "x", "s", *given)))
    part = slices(found["x.quantized"], **expected)
    np.testing.assert_array_equal(found["y.quantized"], part.reshape(len(part), -1))


def test_halves() -> None:
    """A tensor split in two, each half with a layer of its own."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(4, 3, 3)
    parts = [build.move("Slice", "x", f"s{i}", *(np.array([n]) for n in (2 * i, 2 * i + 2, 1))) for i in range(2)]
    a, b = (build.conv(part, f"a{i}", rng.integers(-128, 128, (3, 2, 1, 1)), shift=7) for i, part in enumerate(parts))
    agree(build.build(build.add(a, b, "y")))


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -3])
def test_concat(axis: int) -> None:
    """With a tensor of other codes and with itself; the layer behind has the bound of the widest."""
    build = GraphBuilder(3, 4, 4, codes=(-20, 90))
    a = build.conv("x", "a", np.eye(3, dtype=int).reshape(3, 3, 1, 1), weight_exponent=0, codes=RELU)
    case = ended(build, build.move("Concat", ["x", a, "x"], "c", axis=axis))
    found = agree(case, obstacle=None if axis in (1, -3) else CONCAT)
    expected = np.concatenate([found["x.quantized"], found["a"], found["x.quantized"]], axis=axis)
    np.testing.assert_array_equal(found["y.quantized"], expected.reshape(len(expected), -1))
    assert case.table.layers["y"].accumulator_bound == 127


def handed(case: Case) -> list[str]:
    """The linear operators and sums of the hand-over graph, with their numbers of output channels."""
    proto = case.spellings.htvm
    assert proto is not None
    rows = {tensor.name: tensor.dims[0] for tensor in proto.graph.initializer if tensor.dims}
    return [f"{node.op_type} {rows.get(node.input[1], '')}".strip() for node in proto.graph.node
            if node.op_type in ("Conv", "Gemm", "Add", "Concat")]


def two(build: GraphBuilder, *, codes: Any = RELU, group: int = 1) -> list[str]:
    rng = np.random.default_rng(0)
    shape = (4, 4 // group, 3, 3)
    return [build.conv("x", name, rng.integers(-128, 128, shape), bias, weight_exponent=0, shift=9, half=True,
                       codes=codes, group=group, pads=[1] * 4) for name, bias in (("a", 700), ("b", -900))]


def test_a_layer_that_only_the_concat_reads_gets_rows_of_zeros() -> None:
    """Half a step in their bias would do no harm; a bound that excludes 0 would."""
    build = GraphBuilder(4, 4, 4)
    case = build.build(build.move("Concat", two(build), "c", axis=1))
    agree(case)
    assert handed(case) == ["Conv 8", "Conv 8", "Add"]
    build = GraphBuilder(4, 4, 4)
    case = build.build(build.move("Concat", two(build, codes=(3, 100)), "c", axis=1))
    agree(case)
    assert handed(case) == ["Conv 4", "Conv 4", "Conv 8", "Conv 8", "Add"]


def test_anything_else_is_copied_by_a_layer() -> None:
    """A depthwise layer, a tensor with another reader, a tensor twice, a map that was moved, three at once."""
    build = GraphBuilder(4, 4, 4)
    a, b = two(build, group=4)
    wide = build.move("Concat", [a, b, build.move("MaxPool", "x", "m", kernel_shape=[3, 3], pads=[1] * 4)], "c", axis=1)
    case = build.build(build.conv(wide, "y", np.ones((2, 12, 1, 1)), weight_exponent=0, shift=4))
    assert handed(case) == ["Conv 4", "Conv 4", "Conv 12", "Conv 12", "Add", "Conv 12", "Add", "Conv 2"]
    agree(case)
    build = GraphBuilder(4, 4, 4)
    a, b = two(build)
    wide = build.move("Concat", [a, a, build.add(a, b, "s", shift=1)], "c", axis=1)
    case = build.build(build.conv(wide, "y", np.ones((2, 12, 1, 1)), weight_exponent=0, shift=4))
    assert handed(case) == ["Conv 4", "Conv 4", "Add", "Conv 12", "Conv 12", "Add", "Conv 12", "Add", "Conv 2"]
    agree(case)


def test_features_are_joined_by_linear_layers() -> None:
    build = GraphBuilder(6, exponent=0)
    rng = np.random.default_rng(1)
    a, b = (build.gemm("x", name, rng.integers(-128, 128, (3, 6)), 5, weight_exponent=0, shift=8) for name in "ab")
    case = build.build(build.gemm(build.move("Concat", [a, b, "x"], "c", axis=-1), "y", np.ones((2, 12)),
                                  weight_exponent=0, shift=3))
    agree(case)
    assert handed(case) == ["Gemm 12", "Gemm 12", "Add", "Gemm 12", "Add", "Gemm 2"]


def test_concats_of_concats() -> None:
    build = GraphBuilder(4, 4, 4)
    a, b = two(build)
    inner = build.move("Concat", [a, b], "c", axis=1)
    case = build.build(build.move("Concat", [inner, "x"], "d", axis=1))
    assert handed(case) == ["Conv 8", "Conv 8", "Add", "Conv 12", "Conv 12", "Add"]
    agree(case)


def test_a_concat_refused() -> None:
    build = GraphBuilder(4, 4, 4)
    case = build.build(build.move("Concat", two(build), "c", axis=1), forms=Forms(concat="refuse"))
    agree(case, obstacle="Concat, at which HTVM stops when it partitions for DIANA; use --concat convs")
