"""Exponents tried at the network's output: what is best clipped is, what matters is not, within a budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import small_networks
import tiny
from numpy.typing import NDArray

from onnxdiana import prepare, sensitivity, targets
from onnxdiana.calibration import Calibration, Histogram, calibrate, open_data
from onnxdiana.layers import Network, network
from onnxdiana.placement import Placement
from onnxdiana.sensitivity import output_exponents

DIANA = targets.load("diana")
Array = NDArray[Any]


def calibrated(proto: Any, data: Any) -> tuple[Network, Calibration]:
    prepared = prepare(proto)
    view = network(prepared.canonical.model)
    return view, calibrate(view, open_data(data, prepared.inputs), quiet=True)


def best(view: Network, calibration: Calibration) -> dict[str, int]:
    """The tensor-wise best exponents."""
    placement = Placement(view, calibration, DIANA)
    return {name: placement.best(group) for group in placement.groups() for name in group.members}


def chosen(view: Network, calibration: Calibration) -> dict[str, int]:
    """The exponents preferred, the tensor-wise best where none is."""
    return best(view, calibration) | output_exponents(view, calibration, DIANA)


def rarely_large(seed: int = 0, count: int = 64) -> Array:
    """(count, 64): values in [-1, 1], and one in 2000 of size 7.9."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1, 1, (count, 64))
    large = rng.random(values.shape) < 0.0005
    return np.where(large, 7.9 * np.sign(values), values).astype(np.float32)


IDENTITY = np.eye(64, dtype=np.float32)
BOUNDED = """(float[N,64] x) => (float[N,64] y) <float lo = {-1.0}, float hi = {1.0}, float[64,64] w> {
    a = Gemm<transB=1>(x, w)  y = Clip(a, lo, hi) }"""
UNBOUNDED = """(float[N,64] x) => (float[N,64] y) <float[64,64] w> { y = Gemm<transB=1>(x, w) }"""


def test_large_values_that_do_not_reach_the_output_are_clipped() -> None:
    """Tensor by tensor no value would be clipped; behind the bounds, all above 1 are the same."""
    view, calibration = calibrated(tiny.with_values(tiny.model(BOUNDED), w=IDENTITY), rarely_large())
    assert best(view, calibration)["x"] == -4  # 127 / 16 = 7.9
    assert chosen(view, calibration)["x"] == -6  # 127 / 64 = 2.0, the finest that keeps all up to 1


def test_large_values_that_count_are_not_clipped() -> None:
    view, calibration = calibrated(tiny.with_values(tiny.model(UNBOUNDED), w=IDENTITY), rarely_large())
    assert best(view, calibration)["x"] == -4
    assert chosen(view, calibration)["x"] == -4


def test_a_gain_too_small_to_be_trusted_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    view, calibration = calibrated(tiny.with_values(tiny.model(BOUNDED), w=IDENTITY), rarely_large())
    monkeypatch.setattr(sensitivity, "_GAIN", 0.0)
    assert chosen(view, calibration)["x"] == -4


def test_only_tensors_with_another_exponent_in_question_are_named() -> None:
    """All values equal: a finer exponent would clip nearly everything."""
    data = np.full((16, 64), 7.9, np.float32) * np.where(np.arange(64) % 2, 1, -1).astype(np.float32)
    view, calibration = calibrated(tiny.with_values(tiny.model(UNBOUNDED), w=IDENTITY), data)
    assert output_exponents(view, calibration, DIANA) == {}


@pytest.mark.parametrize("name", small_networks.NETWORKS)
def test_it_only_prefers_candidates(name: str) -> None:
    view, calibration = calibrated(small_networks.model(name), small_networks.samples(name))
    found, own = output_exponents(view, calibration, DIANA), best(view, calibration)
    assert set(found) <= set(own)
    for tensor, exponent in found.items():
        assert own[tensor] - exponent in (0, 1, 2)


@pytest.mark.parametrize("name", small_networks.NETWORKS)
def test_neither_chance_nor_the_order_of_samples_decides(name: str) -> None:
    data = small_networks.samples(name, 64)
    view, calibration = calibrated(small_networks.model(name), data)
    found = chosen(view, calibration)
    assert output_exponents(view, calibration, DIANA) == output_exponents(view, calibration, DIANA)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(data))
        assert chosen(*calibrated(small_networks.model(name), data[order])) == found


def test_nothing_that_it_is_given_is_changed() -> None:
    import onnx_ir as ir

    view, calibration = calibrated(small_networks.model("residual"), small_networks.samples("residual"))
    before = ir.to_proto(view.model).SerializeToString(deterministic=True)
    kept = {name: array.copy() for name, array in calibration.kept.items()}
    output_exponents(view, calibration, DIANA)
    assert ir.to_proto(view.model).SerializeToString(deterministic=True) == before
    for name, array in kept.items():
        np.testing.assert_array_equal(calibration.kept[name], array)


# -- ties -------------------------------------------------------------------------------------------------------------

TIED = """(float[N,64] x) => (float[N,64] y) <float[64,64] w, float[64,64] v, float lo = {-2.0}, float hi = {2.0}> {
    a = Gemm<transB=1>(x, w)  b = Gemm<transB=1>(x, v)  s = Add(a, b)  y = Clip(s, lo, hi) }"""


def test_tied_tensors_are_tried_together_and_share_the_exponent() -> None:
    """Both operands of a sum; each has its rare large values."""
    proto = tiny.with_values(tiny.model(TIED), w=IDENTITY, v=IDENTITY[::-1].copy())
    view, calibration = calibrated(proto, rarely_large())
    groups = [tuple(group.members) for group in Placement(view, calibration, DIANA).groups()]
    assert ("a", "b") in groups
    found = chosen(view, calibration)
    assert found["a"] == found["b"] == best(view, calibration)["a"] - 1  # up to 4, since both operands count up to 3


# -- the error of a trial ---------------------------------------------------------------------------------------------

BORDERS = """(float[N,1,6,6] x) => (float[N,2,6,6] y)
    <float[2,1,3,3] w, float[2] b, float lo = {-100.0}, float hi = {100.0}> {
    c = Conv<pads=[1,1,1,1]>(x, w, b)  y = Clip(c, lo, hi) }"""


def test_the_half_step_that_a_bias_gives_back_is_too_much_at_borders() -> None:
    """The trial's error against the same worked out by hand: floor of the input, plus half a step in every window."""
    rng = np.random.default_rng(0)
    weight = np.stack([np.ones((1, 3, 3)), rng.standard_normal((1, 3, 3))]).astype(np.float32)
    proto = tiny.with_values(tiny.model(BORDERS), w=weight, b=np.float32([0.5, -0.5]))
    data = rng.uniform(-1, 1, (5, 1, 6, 6)).astype(np.float32)
    view, calibration = calibrated(proto, data)
    bench = sensitivity._Bench(view, Placement(view, calibration, DIANA), ["x"])
    values = bench.values({"x": data}, ["x"])
    for exponent in (-7, -6, -3):
        step = 2.0**exponent
        codes = np.clip(np.floor(data.astype(np.float64) / step), -128, 127)
        lost = np.pad((codes * step - data)[:, 0], [(0, 0), (1, 1), (1, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(lost, (3, 3), axis=(1, 2))
        error = np.einsum("nijkl,mkl->nmij", windows, weight[:, 0].astype(np.float64))
        error += 0.5 * step * weight.sum(axis=(1, 2, 3)).reshape(1, 2, 1, 1)
        assert bench.error(values, ["x"], exponent) == pytest.approx(np.square(error).sum(), rel=1e-4)
        inner = np.square(error[:, 0, 1:-1, 1:-1]).mean()
        border = np.square(error[:, 0, 0]).mean()
        assert border > 2 * inner


def test_the_error_of_an_output_is_its_own() -> None:
    """A tensor that the graph returns: nothing is behind it, and its rounding is to nearest."""
    data = np.random.default_rng(0).uniform(-1, 1, (5, 64)).astype(np.float32)
    view, calibration = calibrated(tiny.with_values(tiny.model(UNBOUNDED), w=IDENTITY), data)
    bench = sensitivity._Bench(view, Placement(view, calibration, DIANA), ["y"])
    codes = np.clip(np.rint(data.astype(np.float64) * 8), -128, 127)
    found = bench.error(bench.values({"x": data}, ["y"]), ["y"], -3)
    assert found == pytest.approx(np.square(codes / 8 - data).sum(), rel=1e-5)


# -- budget -----------------------------------------------------------------------------------------------------------


def trials(view: Network, calibration: Calibration, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """First tensor of the group, and number of samples, of every run with an error in it."""
    found: list[tuple[str, int]] = []
    run = sensitivity._Bench.error

    def recorded(self: Any, values: Any, members: Any, exponent: int) -> float:
        found.append((members[0], len(next(iter(values.values())))))
        return run(self, values, members, exponent)

    with monkeypatch.context() as patch:
        patch.setattr(sensitivity._Bench, "error", recorded)
        output_exponents(view, calibration, DIANA)
    return found


def test_the_budget_is_for_the_first_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    view, calibration = calibrated(small_networks.model("residual"), small_networks.samples("residual"))
    order = [group.members[0] for group in Placement(view, calibration, DIANA).groups()]
    every = list(dict.fromkeys(name for name, _ in trials(view, calibration, monkeypatch)))
    assert every == [name for name in order if name in every]
    assert len(every) >= 3
    sizes = set()
    for work in np.geomspace(1e5, 1e9, 60):
        monkeypatch.setattr(sensitivity, "_WORK", work)
        tried = list(dict.fromkeys(name for name, _ in trials(view, calibration, monkeypatch)))
        assert tried == every[:len(tried)]
        sizes.add(len(tried))
    assert sizes == set(range(len(every) + 1))


def test_the_work_stays_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    view, calibration = calibrated(small_networks.model("residual"), small_networks.samples("residual", 200))
    macs = sum(layer.operator.macs(layer.node) for layer in view.layers)
    done = []
    for work in (1e7, 1e8, 1e9):
        monkeypatch.setattr(sensitivity, "_WORK", work)
        done.append(sum(count for _, count in trials(view, calibration, monkeypatch)))
        assert done[-1] * macs <= work
    assert 0 < done[1] < done[2]


def test_candidates_that_are_beaten_drop_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where clipping does harm, one round tells."""
    view, calibration = calibrated(tiny.with_values(tiny.model(UNBOUNDED), w=IDENTITY), rarely_large(count=64))
    few = trials(view, calibration, monkeypatch)
    monkeypatch.setattr(sensitivity, "_BEATEN", 1e9)
    assert 0 < len(few) < len(trials(view, calibration, monkeypatch)) / 2


def test_tensors_without_values_are_left_alone() -> None:
    histogram = Histogram()
    histogram.update(np.zeros((4, 64), np.float32))
    assert histogram.peak == 0
    proto = tiny.with_values(tiny.model(BOUNDED), w=0 * IDENTITY)
    view, calibration = calibrated(proto, np.zeros((4, 64), np.float32))
    assert output_exponents(view, calibration, DIANA) == {}


@pytest.mark.parametrize(("text", "rounding"), [
    ("a = Conv(x, w)  y = Conv(a, w)", "floor"),
    ("a = Conv(x, w)  s = Add(a, x)  y = Conv(s, w)", "half_even"),
    ("r = Relu(x)  y = Conv(r, w)", "half_even"),
    ("a = Conv(x, w)  y = Add(a, x)", "floor"),
], ids=["a layer", "an add before a layer", "a clip before a layer", "an add that nothing makes up for"])
def test_the_half_step_of_an_input_is_no_loss_where_a_later_bias_gives_it_back(text: str, rounding: str) -> None:
    proto = tiny.model(f"(float[N,2,4,4] x) => (float[N,2,4,4] y) <float[2,2,1,1] w> {{ {text} }}")
    view, calibration = calibrated(proto, np.random.default_rng(0).uniform(-1, 1, (5, 2, 4, 4)).astype(np.float32))
    bench = sensitivity._Bench(view, Placement(view, calibration, DIANA), ["x"])
    assert bench._rounding == {"x": rounding}
