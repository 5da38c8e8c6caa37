"""Placement: exponents of least error, aligned where operators tie tensors, shifts legal and accumulators in int32."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny import model

from onnxdiana import canonical, integers, loading, placement, targets
from onnxdiana.calibration import Calibration, InputSpec, calibrate, open_data
from onnxdiana.errors import TargetError
from onnxdiana.graph import name_of, sample_shape
from onnxdiana.integers import accumulator_exponent, complete_table, integerize, round_parameters
from onnxdiana.layers import Network, network
from onnxdiana.numerics import INT32_BOUND
from onnxdiana.placement import no_clip, place, weight_error, weight_exponent
from onnxdiana.scales import ScaleTable
from onnxdiana.targets import Target

DIANA = targets.load("diana")


def calibrated(
    text: str | onnx.ModelProto, x: NDArray[np.generic] | None = None, seed: int = 0, **factors: float
) -> tuple[Network, Calibration]:
    """A network of ONNX text on data, its initializers times some factors."""
    proto = model(text, seed=seed) if isinstance(text, str) else text
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor) * np.float32(factors.get(tensor.name, 1.0))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    view = network(canonical.canonicalize(loading.load(proto).model).model)
    specs = [InputSpec(name_of(v), sample_shape(v)) for v in view.model.graph.inputs]
    if x is None:
        x = np.random.default_rng(seed).standard_normal((8, *specs[0].shape))
    return view, calibrate(view, open_data(x.astype(np.float32), specs), quiet=True)


def placed(text: str, x: NDArray[np.generic] | None = None, **factors: float) -> ScaleTable:
    return place(*calibrated(text, x, **factors), DIANA)


def check_legal(view: Network, table: ScaleTable, target: Target = DIANA) -> ScaleTable:
    """Shifts follow from the exponents and are the target's, operators' ties hold, every accumulator fits."""
    from onnxdiana.rules.ops import operator

    for layer in view.layers:
        shift = table.exponent(name_of(layer.output)) - accumulator_exponent(view, table, layer)
        assert shift == table.layers[layer.name].shift
        assert target.shift[0] <= shift <= target.shift[1]
    outputs = {layer.node.outputs[0]: layer.output for layer in view.layers}
    for node in view.model.graph:
        if node not in view.fused:
            tied = {table.exponent(name_of(view.source(outputs.get(v, v)))) for v in operator(node).ties(node)}
            assert len(tied) <= 1
    integer = integerize(view, table, round_parameters(view, table, halves=True))
    complete = complete_table(view, table, integer, target, "auto")
    assert all(layer.accumulator_bound < INT32_BOUND for layer in complete.layers.values())
    return complete


# -- the error of one tensor ------------------------------------------------------------------------------------------


def mean_square(x: NDArray[np.generic], exponent: int, lo: int, hi: int) -> float:
    """By definition."""
    step = 2.0**exponent
    return float(np.mean((x - np.clip(np.rint(x / step), lo, hi) * step) ** 2))


@pytest.mark.parametrize("peak", [1.0, 127.5, 127.51, 0.3, 1e-30, 3e38, 64.0, 63.75])
@pytest.mark.parametrize("hi", [127, 96, 1])
def test_no_clip_is_the_finest_that_reaches_the_peak(peak: float, hi: int) -> None:
    exponent = no_clip(peak, hi)
    assert peak <= (hi + 0.5) * 2.0**exponent
    assert peak > (hi + 0.5) * 2.0 ** (exponent - 1)


@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace", "outlier", "tiny", "huge", "few"])
@pytest.mark.parametrize("seed", range(4))
def test_weights_have_the_exponent_of_least_error(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = {
        "normal": rng.normal(0, 0.1, 500), "uniform": rng.uniform(-1, 1, 500), "laplace": rng.laplace(0, 0.1, 500),
        "outlier": np.append(rng.normal(0, 0.01, 499), 3.0), "tiny": rng.normal(0, 1e-20, 500),
        "huge": rng.normal(0, 1e20, 500), "few": rng.normal(0, 1, 3),
    }[kind].astype(np.float32)
    top = no_clip(float(np.abs(weight).max()), 127)
    errors = {e: mean_square(weight.astype(np.float64), e, -128, 127) for e in range(top - 12, top + 5)}
    found = weight_exponent(weight, -128, 127)
    assert errors[found] == min(errors.values())
    assert weight_error(weight, found, -128, 127) == pytest.approx(errors[found] * weight.size)


@pytest.mark.parametrize("power", [-20, -3, 0, 5])
def test_weights_of_one_power_of_two_have_code_1(power: int) -> None:
    weight = np.array([1, -1, 1], np.float32) * np.float32(2.0**power)
    assert weight_exponent(weight, -128, 127) == power


def test_an_all_zero_weight() -> None:
    assert weight_exponent(np.zeros((2, 2), np.float32), -128, 127) == -7


CHAIN = """(float[N,3,4,4] x) => (y) <float[4,3,3,3] w, float[4] b, float[4,4,1,1] v> {
    a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v) }"""


@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace", "outlier", "sparse", "small", "large"])
def test_activations_have_the_exponent_of_least_error(kind: str) -> None:
    """Of the values themselves, which only a histogram was kept of."""
    rng = np.random.default_rng(0)
    shape = (64, 3, 4, 4)
    x = {
        "normal": rng.normal(0, 1, shape), "uniform": rng.uniform(-3, 3, shape), "laplace": rng.laplace(0, 1, shape),
        "outlier": np.where(rng.random(shape) < 1e-3, 60.0, rng.normal(0, 1, shape)),
        "sparse": np.where(rng.random(shape) < 0.9, 0.0, rng.normal(0, 1, shape)),
        "small": rng.normal(0, 1e-6, shape), "large": rng.normal(0, 1e6, shape),
    }[kind].astype(np.float32)
    table = placed(CHAIN, x)
    top = no_clip(float(np.abs(x).max()), 127)
    errors = {e: mean_square(x.astype(np.float64), e, -128, 127) for e in range(top - 8, top + 4)}
    assert errors[table.exponent("x")] <= 1.02 * min(errors.values())
    assert table.tensors["x"].role == "input"


def test_a_tensor_that_is_always_zero() -> None:
    table = placed(CHAIN, np.zeros((4, 3, 4, 4)), b=0.0)
    assert {name: scale.exponent for name, scale in table.tensors.items() if scale.role != "weight"} == {
        "x": -7, "r": -7, "y": -7}
    assert all(0 <= layer.shift <= 31 for layer in table.layers.values())


# -- ranges of codes --------------------------------------------------------------------------------------------------


def clipping(lo: float, hi: float) -> str:
    bounds = f"float lo = {{{lo}}}, float hi = {{{hi}}}"
    return f"""(float[N,3,4,4] x) => (y) <float[4,3,3,3] w, float[4,4,1,1] v, {bounds}> {{
        a = Conv(x, w)  r = Clip(a, lo, hi)  y = Conv(r, v) }}"""


@pytest.mark.parametrize(("lo", "hi"), [(0.0, 6.0), (0.0, 0.7), (-1.0, 1.0), (-2.0, 0.5)])
def test_bounds_become_whole_steps_inside_them(lo: float, hi: float) -> None:
    scale = placed(clipping(lo, hi)).tensors["r"]
    step = 2.0**scale.scalar
    assert scale.codes == (math.ceil(lo / step), min(127, math.floor(hi / step)))
    assert scale.codes[1] - scale.codes[0] > 60  # most of seven or eight bits


@pytest.mark.parametrize(("lo", "hi"), [(-2.0, 0.0), (-4.0, -0.5), (0.5, 4.0), (-1e30, 0.0)])
def test_bounds_on_one_side(lo: float, hi: float) -> None:
    """Values of one sign, zero perhaps not among them, use the codes that they have."""
    view, calibration = calibrated(clipping(lo, hi))
    table = place(view, calibration, DIANA)
    check_legal(view, table)
    first, last = table.tensors["r"].codes
    assert -128 <= first <= last <= 127
    assert last - first > 50


def test_relu_has_no_negative_codes() -> None:
    table = placed(CHAIN)
    assert table.tensors["r"].codes == (0, 127)
    assert table.tensors["y"].codes == (-128, 127)
    assert [table.tensors[name].codes for name in ("w", "v")] == [DIANA.weight] * 2


# -- alignment --------------------------------------------------------------------------------------------------------

W = "<float[4,4,1,1] w, float[4] b, float[4,4,1,1] v, float[4,8,1,1] u, float[5,4] g, float[4,4,1,1] z>"
IMAGE = f"(float[N,4,4,4] x) => (y) {W}"
NETWORKS: dict[str, tuple[str, list[set[str]]]] = {
    "add": (f"{IMAGE} {{ a = Conv(x, w, b)  c = Conv(a, v)  y = Add(a, c) }}", [{"a", "c"}]),
    "add with the input": (f"{IMAGE} {{ a = Conv(x, w, b)  s = Add(a, x)  y = Conv(s, v) }}", [{"a", "x"}]),
    "chain of adds": (f"{IMAGE} {{ a = Conv(x, w, b)  s = Add(a, x)  t = Add(s, a)  z = Add(t, s)  y = Conv(z, v) }}",
                      [{"a", "x", "s", "t"}]),
    "adds behind relus": (f"{IMAGE} {{ a = Conv(x, w, b)  r = Relu(a)  c = Conv(r, v)  s = Add(r, c)  q = Relu(s) "
                          "d = Conv(q, z)  t = Add(q, d)  y = Relu(t) }", [{"r", "c"}, {"q", "d"}]),
    "add through a pool": (f"{IMAGE} {{ a = Conv(x, w, b)  m = MaxPool<kernel_shape=[2,2]>(a)  c = Conv(m, v) "
                           "y = Add(m, c) }", [{"a", "c"}]),
    "concat": (f"{IMAGE} {{ a = Conv(x, w, b)  c = Concat<axis=1>(a, x)  y = Conv(c, u) }}", [{"a", "x"}]),
    "concat and add": (f"{IMAGE} {{ a = Conv(x, w, b)  c = Concat<axis=1>(a, x)  d = Conv(c, u)  y = Add(d, a) }}",
                       [{"a", "x", "d"}]),
    "mean": (f"{IMAGE} {{ a = Conv(x, w, b)  r = Relu(a)  p = GlobalAveragePool(r)  f = Flatten(p) "
             "y = Gemm<transB=1>(f, g) }", [{"r", "p"}]),
    "moved": (f"{IMAGE} {{ a = Conv(x, w, b)  t = Transpose<perm=[0,1,3,2]>(a)  r = Relu(t)  y = Add(r, x) }}",
              [{"r", "x"}]),
    "chain": (f"{IMAGE} {{ a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v) }}", []),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_groups(name: str) -> None:
    """Tensors that one operator ties share an exponent, and those alone."""
    text, groups = NETWORKS[name]
    view, calibration = calibrated(text)
    problem = placement.Placement(view, calibration, DIANA)
    found = [set(group.members) for group in problem.groups()]
    assert [group for group in found if len(group) > 1] == groups
    assert sorted(n for group in found for n in group) == sorted(name_of(v) for v in view.quantized)
    table = problem.solve()
    for group in groups:
        assert len({table.exponent(member) for member in group}) == 1
    check_legal(view, table)


def test_a_group_minimises_the_sum_of_its_errors() -> None:
    """The smaller operand gives way to the larger: errors of summands add up."""
    view, calibration = calibrated(NETWORKS["add with the input"][0], w=20.0)
    problem = placement.Placement(view, calibration, DIANA)
    problem.solve()
    group = next(group for group in problem.groups() if "x" in group.members)
    costs = {e: problem.cost(group, e) for e in range(-12, 8)}
    assert costs[group.exponent] == min(costs.values())
    alone = calibration.histograms["x"]
    assert alone.error(group.exponent, -128, 127) > 4 * alone.error(group.exponent - 2, -128, 127)


# -- legality ---------------------------------------------------------------------------------------------------------

POWERS = st.sampled_from([0, 0, 0, 3, -3, 7, -7, 12, -12])


@given(st.sampled_from(sorted(NETWORKS)), st.lists(POWERS, min_size=4, max_size=4), st.sampled_from([0, 0, 8, -8, 20]),
       st.integers(0, 9), st.sets(st.sampled_from("wbvug"), max_size=1))
def test_weights_of_any_size(name: str, powers: list[int], input_power: int, seed: int, zero: set[str]) -> None:
    factors = {n: 2.0**p for n, p in zip("wbvug", [*powers, 0], strict=True)} | dict.fromkeys(zero, 0.0)
    x = np.random.default_rng(seed).standard_normal((4, 4, 4, 4)) * 2.0**input_power
    view, calibration = calibrated(NETWORKS[name][0], x, seed, **factors)
    check_legal(view, place(view, calibration, DIANA))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("w", "b"), [(-25, -5), (-31, -4), (-40, 0), (40, 0), (30, 25), (-60, -60), (-28, -2)])
@pytest.mark.parametrize("input_power", [0, -15, 15])
def test_extreme_weights(name: str, w: int, b: int, input_power: int) -> None:
    """A layer that its bias fills, or whose output is nothing beside the tensor that it is tied to."""
    x = np.random.default_rng(9).standard_normal((4, 4, 4, 4)) * 2.0**input_power
    view, calibration = calibrated(NETWORKS[name][0], x, seed=9, w=2.0**w, b=2.0 ** (b + input_power))
    check_legal(view, place(view, calibration, DIANA))


def test_an_output_is_no_finer_than_its_accumulator() -> None:
    """Weights of code 1 on a coarse input: a finer output has nothing to gain, so the shift is 0."""
    text = """(float[N,3,4,4] x) => (y) <float[4,3,1,1] w, float[4,4,1,1] v, float lo = {-90}, float hi = {90}> {
        a = Conv(x, w)  r = Clip(a, lo, hi)  y = Conv(r, v) }"""
    proto = model(text)
    weight = next(t for t in proto.graph.initializer if t.name == "w")
    weight.CopyFrom(numpy_helper.from_array(np.full((4, 3, 1, 1), 8, np.float32), "w"))
    view, calibration = calibrated(proto, 100 * np.random.default_rng(0).standard_normal((4, 3, 4, 4)))
    table = place(view, calibration, DIANA)
    assert table.exponent("w") == 3
    assert table.exponent("r") == table.exponent("x") + 3
    assert table.layers["a"].shift == 0
    check_legal(view, table)


def test_a_wide_bias_makes_the_weights_coarser() -> None:
    narrow, wide = placed(CHAIN), placed(CHAIN, b=2.0**22)
    assert wide.exponent("w") > narrow.exponent("w")


def test_a_bias_beyond_every_scale() -> None:
    with pytest.raises(TargetError, match="Conv -> 'a': the accumulator leaves 32 bits whatever the weight's scale"):
        placed(CHAIN, 1e-30 * np.random.default_rng(0).standard_normal((4, 3, 4, 4)), w=1e-10, b=1e12)


def test_preferred_exponents() -> None:
    view, calibration = calibrated(CHAIN)
    usual = place(view, calibration, DIANA)
    wanted = {"r": usual.exponent("r") + 1, "y": usual.exponent("y") - 1}
    table = place(view, calibration, DIANA, wanted)
    assert {name: table.exponent(name) for name in wanted} == wanted
    assert table.exponent("x") == usual.exponent("x")
    check_legal(view, table)
    illegal = place(view, calibration, DIANA, {"r": -60})
    assert illegal.exponent("r") > -60
    check_legal(view, illegal)


@pytest.mark.parametrize("shift", [(0, 31), (0, 8), (4, 20), (7, 7), (10, 12)])
def test_targets_with_other_shifts(shift: tuple[int, int]) -> None:
    target = dataclasses.replace(DIANA, shift=shift)
    view, calibration = calibrated(CHAIN)
    check_legal(view, place(view, calibration, target), target)


def test_targets_with_other_codes() -> None:
    target = dataclasses.replace(DIANA, signed=(-64, 63), unsigned=(0, 63), weight=(-8, 7))
    view, calibration = calibrated(CHAIN)
    table = place(view, calibration, target)
    assert {name: scale.codes for name, scale in table.tensors.items()} == {
        "x": (-64, 63), "r": (0, 63), "y": (-64, 63), "w": (-8, 7), "v": (-8, 7)}
    check_legal(view, table, target)


def test_a_target_that_no_exponents_satisfy() -> None:
    """A sum that is tied to its own operand cannot be shifted."""
    text = f"{IMAGE} {{ s = Add(x, x)  c = Concat<axis=1>(s, x)  y = Conv(c, u) }}"
    view, calibration = calibrated(text)
    with pytest.raises(TargetError, match="no exponents give every layer a shift between 1 and 31"):
        place(view, calibration, dataclasses.replace(DIANA, shift=(1, 31)))
    check_legal(view, place(view, calibration, DIANA))


def test_the_table() -> None:
    view, calibration = calibrated(CHAIN)
    table = place(view, calibration, DIANA)
    assert {name: scale.role for name, scale in table.tensors.items()} == {
        "x": "input", "r": "activation", "y": "activation", "w": "weight", "v": "weight"}
    assert list(table.layers) == ["a", "y"]
    assert table.target == "diana"
    assert all(scale.axis is None for scale in table.tensors.values())
    assert integers.accumulator_exponent(view, table, view.layers[0]) == table.exponent("x") + table.exponent("w")
