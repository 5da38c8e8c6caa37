"""MaxPool in every spelling: any kernel, stride, padding, dilation and ceil_mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from integer_graphs import GraphBuilder, agree, ended

from onnxdiana import graph
from onnxdiana.runtime import Runner


def pooled(shape: tuple[int, ...], **attributes: Any) -> GraphBuilder:
    build = GraphBuilder(*shape)
    build.move("MaxPool", "x", "p", **attributes)
    return build


GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1]},
    {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 1, 0, 2]},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 1, 0, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 4], "dilations": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},  # ends in the padding
    {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 0, 1, 0], "ceil_mode": 1},  # in one axis only
    {"kernel_shape": [9, 7], "auto_pad": "NOTSET", "storage_order": 0},
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_geometries(geometry: dict[str, Any]) -> None:
    build = pooled((2, 9, 7), **geometry)
    agree(ended(build, "p"))


def counted_alike(model: ir.Model) -> bool:
    """Whether ONNX's shape inference counts windows as onnxruntime does: it keeps those that start in the padding."""
    inferred = graph.sample_shape(model.graph.outputs[0])
    x = np.zeros((1, *graph.sample_shape(model.graph.inputs[0])), np.float32)
    return bool(Runner(model).run({"x": x})["p"].shape[1:] == inferred)


@given(st.data())
@settings(max_examples=max(1, settings.default.max_examples // 3))
def test_random_geometries(data: st.DataObject) -> None:
    def each(lo: int, hi: int) -> list[int]:
        return data.draw(st.lists(st.integers(lo, hi), min_size=2, max_size=2))

    ceil_mode = data.draw(st.integers(0, 1))
    kernel, strides, dilations = each(1, 3), each(1, 4), each(1, 2 - ceil_mode)
    pads = [data.draw(st.integers(0, k - 1)) for k in 2 * kernel]
    size = [max(1, (k - 1) * d + 1 - pads[i] - pads[2 + i]) + more
            for i, (k, d, more) in enumerate(zip(kernel, dilations, each(0, 4), strict=True))]
    build = pooled((2, *size), kernel_shape=kernel, strides=strides, pads=pads, dilations=dilations,
                   ceil_mode=ceil_mode)
    model = build.float_graph("p")
    assume(counted_alike(model))
    agree(build.build(build.conv("p", "y", np.eye(2, dtype=int).reshape(2, 2, 1, 1))))


def test_ceil_mode_with_dilation() -> None:
    """Written as padding, unless a window would have more of it than onnxruntime and HTVM take."""
    for width, obstacle in ((8, None), (7, "ceil_mode makes a dilated window")):
        build = pooled((2, 3, width), kernel_shape=[1, 2], strides=[1, 3], dilations=[1, 2], ceil_mode=1)
        agree(ended(build, "p"), obstacle=obstacle)


@pytest.mark.parametrize(("shape", "attributes"), [
    ((2, 9), {"kernel_shape": [2], "strides": [2], "pads": [1, 0], "ceil_mode": 1}),
    ((2, 5, 4, 3), {"kernel_shape": [2, 2, 1], "dilations": [2, 1, 1]}),
], ids=["1-d", "3-d"])
def test_other_dimensions_are_not_handed_over(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    build = pooled(shape, **attributes)
    agree(ended(build, "p"), obstacle="MaxPool -> 'p': HTVM takes 2-d pooling only")


def test_a_pool_on_positive_codes() -> None:
    """Padding never wins, nor is it zero: the lowest code stands for itself."""
    build = GraphBuilder(1, 2, 2, codes=(-128, -100))
    build.move("MaxPool", "x", "p", kernel_shape=[2, 2], pads=[1, 1, 1, 1])
    found = agree(build.build(build.conv("p", "y", np.ones((1, 1, 1, 1), int))))
    assert found["y.quantized"].max() == -100
