"""Mul of two activations: every pair of codes, broadcasting, half-up rounding through the offset."""

from __future__ import annotations

import numpy as np
import pytest
from integer_graphs import RELU, SIGNED, Codes, GraphBuilder, agree

from onnxdiana import graph, numerics

OBSTACLE = "has no product of two tensors"
EVERY_PAIR = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij"))[None]


@pytest.mark.parametrize("codes", [SIGNED, RELU, (0, 96), (-7, 9)], ids=str)
@pytest.mark.parametrize("shift", [0, 1, 7, 14, 31])
def test_every_pair_of_codes(shift: int, codes: Codes) -> None:
    """Rounded half up; a convolution ends the graph."""
    build = GraphBuilder(2, 256, 256)
    a, b = (build.move("Slice", "x", name, *(np.array([n]) for n in (i, i + 1, 1)))
            for i, name in enumerate(("a", "b")))
    case = build.build(build.conv(build.multiply(a, b, "m", shift=shift, codes=codes), "y", np.ones((1, 1, 1, 1), int)))
    found = agree(case, [EVERY_PAIR], obstacle=OBSTACLE)
    product = EVERY_PAIR[:, :1] * EVERY_PAIR[:, 1:]
    np.testing.assert_array_equal(found["m"], np.clip(np.floor(product / 2.0**shift + (0.5 if shift else 0)), *codes))
    node = next(node for node in case.integer.graph if node.op_type == "Mul")
    assert graph.attribute(node, "offset") == numerics.half(shift)
    layer = node.outputs[0].name.removesuffix(".accumulator") if node.outputs[0].name else ""
    assert case.table.layers[layer].accumulator_bound == 2**14 + numerics.half(shift)


@pytest.mark.parametrize("first", ["gate", "map"])
@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 5, 3), (4, 5, 1)], ids=str)
def test_broadcasting(first: str, shape: tuple[int, ...]) -> None:
    """Either operand."""
    build = GraphBuilder()
    operands = [build.input("gate", *shape, exponent=-7, codes=RELU), build.input("map", 4, 5, 3, exponent=-2)]
    if first == "map":
        operands.reverse()
    case = build.build(build.multiply(*operands, "y", shift=7))
    assert case.table.exponent("y") == -2
    rng = np.random.default_rng(0)
    gate, values = rng.integers(0, 128, (6, *shape)), rng.integers(-128, 128, (6, 4, 5, 3))
    gate[0], values[0], gate[1], values[1] = 127, -128, 127, 127
    codes = {"gate": gate, "map": values}
    found = agree(case, [codes[name] for name, _, _ in case.inputs], obstacle="HTVM")
    np.testing.assert_array_equal(found["y.quantized"], np.clip((gate * values + 64) >> 7, -128, 127))
    assert case.table.layers["y"].accumulator_bound == 127 * 128 + 64


def test_a_tensor_times_what_moves_of_it_make() -> None:
    build = GraphBuilder(3, 4, 4)
    turned = build.move("Transpose", "x", "t", perm=[0, 1, 3, 2])
    found = agree(build.build(build.multiply("x", turned, "y", shift=7)), obstacle=OBSTACLE)
    x = found["x.quantized"].astype(int)
    np.testing.assert_array_equal(found["y.quantized"], np.clip((x * x.transpose(0, 1, 3, 2) + 64) >> 7, -128, 127))
