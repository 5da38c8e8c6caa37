"""Every kind of device fault, injected into a layer of three networks, is found there and named first."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path

import devices
import injected
import numpy as np
import pytest
import tiny
from devices import EVERY, LOUD, Device

from onnxdiana import quantize
from onnxdiana.compare import Comparison, compare
from onnxdiana.compare.expected import Vectors
from onnxdiana.compare.faults import CATALOGUE
from onnxdiana.report import comparison

SAMPLES = LOUD + 1


@pytest.fixture(scope="module", params=list(devices.NETWORKS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network as ``quantize`` writes it, with vectors of three samples; the last one saturates."""
    path = tmp_path_factory.mktemp(request.param) / request.param
    devices.write(request.param, path, SAMPLES)
    return path


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a comparison is reading the folder, which stays the same here."""
    monkeypatch.setattr("onnxdiana.compare.Vectors", VECTORS)


VECTORS = functools.cache(Vectors)


def differs(good: dict[str, np.ndarray], bad: dict[str, np.ndarray]) -> bool:
    return any((good[stem] != bad[stem]).any() for stem in good)


AT = {"plain": ("r0", "r1"), "residual": ("r0", "c2", "r2"), "depthwise": ("r0", "r1", "y.quantized")}
"""Layers: plain, strided, depthwise and pointwise convolutions, a sum, a linear layer."""
LISTED = ("floor", "missing_relu", "wraps", "words_reversed", "channels_last")
"""Faults of computation and of the layout in memory that the issue lists, but for those of the sum and padding."""


def applies(device: Device, at: str, fault: str) -> bool:
    """Whether a layer can have a fault."""
    lo, shape = device.lower_bound(at), device.shape(at)
    match fault:
        case "missing_relu":
            return lo == 0
        case "extra_relu" | "truncated":
            return lo < 0
        case "floor" | "without_bias" | "biases_big_endian" | "biases_in_planes":
            return not device.is_sum(at)
        case "half_up":
            return device.is_sum(at)
        case "one_operand":
            return device.is_sum(at)
        case "channels_last" | "rows_for_columns" | "channels_reversed":
            return len(shape) == 4
        case "dirty_border" | "noisy_border":
            return device.has_border(at)
        case "half_written" | "late":
            return math.prod(shape) > 32  # of fewer elements nothing can be told
        case _:
            return True


@pytest.mark.parametrize("form", devices.SUFFIX)
@pytest.mark.parametrize("fault", LISTED)
def test_listed_faults_in_every_form(folder: Path, tmp_path: Path, fault: str, form: str) -> None:
    device = Device(folder, LOUD)
    good, change, told = device.run(), *injected.CHANGES[fault]
    layers = [at for at in AT[folder.name] if applies(device, at, fault) and differs(good, device.run(at, change))]
    at = layers[list(devices.SUFFIX).index(form) % len(layers)]
    found = compare(folder, devices.save(tmp_path / at, device.run(at, change), form), sample=LOUD)
    named(found, at, told)
    assert len(found.samples[0].tensors) == len(good)
    assert all(entry.follows for entry in found.samples[0].departures[1:])


def named(found: Comparison, at: str, told: str) -> None:
    """The first departure is in a layer, and a cause is claimed."""
    first = found.first
    assert not found.ok
    assert first is not None
    assert first.tensor.name == at
    assert first.cause is not None
    assert first.cause.fault == told, [(e.fault, e.explained, e.different) for e in first.explanations]
    assert first.cause.exact
    assert first.cause.explained == first.different or first.cause.partial


@pytest.mark.parametrize("fault", list(injected.CHANGES))
def test_every_fault_in_every_layer(folder: Path, tmp_path: Path, fault: str) -> None:
    change, told = injected.CHANGES[fault]
    tried, device = 0, Device(folder, LOUD)
    good = device.run()
    for at in device.names[1:]:
        if not applies(device, at, fault) or at == "g":  # the mean's bias is its half step: two faults are one
            continue
        bad = device.run(at, change)
        if differs(good, bad):
            tried += 1
            named(compare(folder, devices.save(tmp_path / at, bad), sample=LOUD), at, told)
    assert tried or (fault in ("half_up", "one_operand") and folder.name != "residual")


def test_half_up_instead_of_floor_in_every_form(tmp_path: Path) -> None:
    """The reverse of the first listed fault: only a sum is floored."""
    devices.write("residual", tmp_path / "net", 1)
    device = Device(tmp_path / "net")
    bad = device.run("r2", injected.half_up)
    for form in devices.SUFFIX:
        named(compare(tmp_path / "net", devices.save(tmp_path / form, bad, form)), "r2", "half-up")


def padded(codes: np.ndarray, channels: bool, width: bool, last: bool = False) -> np.ndarray:
    """As a device pads to 16, with something else than zeros in the padding."""
    _, c, h, w = codes.shape
    found = np.full((-(-c // 16) * 16 if channels else c, h, -(-w // 16) * 16 if width else w), -3)
    for k in range(c):
        for i in range(h):
            found[k, i, :w] = codes[0, k, i]
    return np.array([found[:, i, j] for i in range(h) for j in range(found.shape[2])]) if last else found


@pytest.mark.parametrize("form", ["npy", "float", "raw", "hex", "indexed", "c"])
@pytest.mark.parametrize(("channels", "width", "last", "words"), [
    (True, False, False, "channel padding"), (False, True, False, "width padding"),
    (True, True, False, "channel and width padding"), (True, False, True, "channel padding in NHWC")])
def test_padding_to_16(
    folder: Path, tmp_path: Path, form: str, channels: bool, width: bool, last: bool, words: str
) -> None:
    device = Device(folder)
    good, at = device.run(), AT[folder.name][0]
    dump = {**good, device.stem(at): padded(good[device.stem(at)], channels, width, last)}
    found = compare(folder, devices.save(tmp_path / "dump", dump, form))
    first = found.first
    assert first is not None
    assert first.tensor.name == at
    assert first.cause is not None
    assert first.cause.fault == "padding-to-16"
    assert first.cause.text.startswith(words)
    assert first.cause.exact
    assert first.dumped == dump[device.stem(at)].size > first.elements
    assert len(found.samples[0].departures) == 1
    assert found.samples[0].readers_right is True


def test_a_padded_buffer_that_is_cut_off(folder: Path, tmp_path: Path) -> None:
    device = Device(folder)
    good, at = device.run(), AT[folder.name][0]
    codes = good[device.stem(at)]
    cut = padded(codes, False, True).reshape(-1)[:codes.size].reshape(codes.shape)
    found = compare(folder, devices.save(tmp_path / "dump", {device.stem(at): cut}))
    assert found.first is not None
    assert found.first.cause is not None
    assert found.first.cause.fault == "padding-to-16"
    assert found.first.cause.text.startswith("width padding")


def test_a_padded_dump_with_a_fault_within(folder: Path, tmp_path: Path) -> None:
    device = Device(folder)
    bad, at = device.run(AT[folder.name][0], injected.floor), AT[folder.name][0]
    dump = {device.stem(at): padded(bad[device.stem(at)], True, False)}
    found = compare(folder, devices.save(tmp_path / "dump", dump))
    assert found.first is not None
    assert found.first.cause is not None
    assert found.first.cause.fault == "floor"
    assert found.first.cause.text.startswith("channel padding")


@pytest.mark.parametrize("fault", ["floor", "missing_relu", "words_reversed"])
def test_from_the_output_alone(folder: Path, tmp_path: Path, fault: str) -> None:
    """The fault is in one layer that was not dumped, or in all: found by what the rest of the network makes of it."""
    device = Device(folder)
    change, told = injected.CHANGES[fault]
    for at in (AT[folder.name][0], EVERY):
        bad = device.run(at, change)
        found = compare(folder, devices.save(tmp_path / at, {"output": bad["output"]}))
        first = found.first
        assert first is not None
        assert first.tensor.stem == "output"
        assert first.cause is not None
        assert first.cause.fault == told
        where = f"in '{at}'" if at != EVERY else "in every layer"
        assert any(e.exact and e.fault == told and e.text.startswith(where) for e in first.explanations)
        assert first.not_dumped == tuple(device.names[:-1])


def test_few_different_elements_have_several_explanations(tmp_path: Path) -> None:
    """Of an output of eight elements nothing is sure, which is told."""
    devices.write("residual", tmp_path / "net", 1)
    bad = Device(tmp_path / "net").run("r0", injected.missing_relu)
    found = compare(tmp_path / "net", devices.save(tmp_path / "dump", {"output": bad["output"]}))
    assert found.first is not None
    assert found.first.different < 8
    exact = [(e.fault, e.text.partition(":")[0]) for e in found.first.explanations if e.exact]
    assert exact[0] == ("missing-relu", "in 'r0' (Conv), which was not dumped")
    assert 2 <= len(set(exact)) == len(exact) <= 3
    assert "this may be chance: compare more samples" in comparison.text(found)


def test_a_fault_in_all_layers_is_told_of_each(folder: Path, tmp_path: Path) -> None:
    device = Device(folder)
    found = compare(folder, devices.save(tmp_path / "dump", device.run(EVERY, injected.floor)))
    entries = {entry.tensor.name: entry for entry in found.samples[0].departures}
    halves = [name for name in device.names[1:] if not device.is_sum(name)]
    assert [entry.cause.fault for name in halves if (entry := entries[name]).cause] == ["floor"] * len(halves)
    assert all(entry.follows for name, entry in entries.items() if name not in (*halves, "y"))


def test_a_second_fault_is_told_apart_from_what_follows(folder: Path, tmp_path: Path) -> None:
    """A layer behind the first fault is judged by what was dumped in front of it."""
    device = Device(folder)
    first, second = device.names[1], device.names[-1]
    bad = device.run(changes={first: injected.floor, second: injected.extra_relu})
    found = compare(folder, devices.save(tmp_path / "dump", bad))
    named(found, first, "floor")
    last = next(entry for entry in found.samples[0].departures if entry.tensor.name == second)
    assert last.follows is False
    assert last.cause is not None
    assert last.cause.fault == "extra-relu"


@pytest.mark.parametrize("fault", ["words_reversed", "channels_last"])
def test_a_layout_of_the_dump_alone(folder: Path, tmp_path: Path, fault: str) -> None:
    """What was computed is right, only the dumps are in another order: each is told, and that its readers are right."""
    device = Device(folder)
    at, good = AT[folder.name][0], device.run()
    stem = device.stem(at)
    dump = {**good, stem: device.run(at, injected.CHANGES[fault][0])[stem]}
    found = compare(folder, devices.save(tmp_path / "dump", dump))
    named(found, at, injected.CHANGES[fault][1])
    assert len(found.samples[0].departures) == 1
    assert found.samples[0].readers_right is True


def test_a_layout_of_all_dumps(folder: Path, tmp_path: Path) -> None:
    """Everything was computed right and dumped with its words reversed: one cause for all.

    But sums and 1x1 convolutions of reversed words are right for what they read.
    """
    good = Device(folder).run()
    reversed_ = {stem: np.array([codes.reshape(-1)[i // 4 * 4 + 3 - i % 4] for i in range(codes.size)])
                 for stem, codes in good.items() if codes.size % 4 == 0 and stem != "output"}
    found = compare(folder, devices.save(tmp_path / "dump", reversed_))
    entries = found.samples[0].departures
    assert len(entries) == len(reversed_) > 2
    told = [entry.cause.fault if entry.cause else entry.follows for entry in entries]
    assert set(told[2:]) <= {"byte-order", True}
    assert told[:2] == ["byte-order"] * 2
    assert not any(entry.follows for entry in entries if entry.cause)


def test_other_vectors(folder: Path, tmp_path: Path) -> None:
    found = compare(folder, devices.save(tmp_path / "dump", Device(folder, 1).run()))
    assert found.first is not None
    assert found.first.cause is not None
    assert found.first.cause.text == "these are the codes of sample 1"
    device = Device(folder)
    good = device.run()
    stems = [device.stem(name) for name in device.names]
    twin = next(((a, b) for a in stems for b in stems if a < b and good[a].size == good[b].size), None)
    if twin is not None:
        swapped = compare(folder, devices.save(tmp_path / "swapped", {twin[1]: good[twin[0]]}))
        assert swapped.first is not None
        assert swapped.first.cause is not None
        assert swapped.first.cause.fault == "other-vectors"
        assert twin[0] in swapped.first.cause.text


def test_what_has_no_cause_is_not_given_one(folder: Path, tmp_path: Path) -> None:
    device = Device(folder)
    for at in device.names[1:]:
        bad = device.run(at, injected.noise)
        found = compare(folder, devices.save(tmp_path / at, bad))
        assert found.first is not None
        assert found.first.tensor.name == at
        assert found.first.cause is None, found.first.cause


@pytest.mark.parametrize("change", ["zero", "border"])
def test_too_little_is_not_given_a_cause(folder: Path, tmp_path: Path, change: str) -> None:
    """One element that is 0, or one at the border: that may be anything."""
    device = Device(folder)
    good, stem = device.run(), device.stem("r0")
    codes = good[stem].copy()
    inner = codes[0, :, 1:-1, 1:-1]
    if change == "zero":
        inner[np.unravel_index(int(inner.argmax()), inner.shape)] = 0
    else:
        codes[0, 2, 0, 3] += 5
    found = compare(folder, devices.save(tmp_path / "dump", {stem: codes}))
    assert found.first is not None
    assert found.first.different == 1
    assert found.first.cause is None, found.first.cause


Reader = Callable[[np.ndarray], np.ndarray]


def as_channels_last(x: np.ndarray) -> np.ndarray:
    """Memory in NHWC, read as if it were NCHW."""
    _, c, h, w = x.shape
    return np.array([x[0, k, i, j] for i in range(h) for j in range(w) for k in range(c)]).reshape(x.shape)


def from_channels_last(x: np.ndarray) -> np.ndarray:
    """Memory in NCHW, read as if it were NHWC."""
    _, c, h, w = x.shape
    flat, found = x.reshape(-1), np.empty_like(x)
    for k, i, j in np.ndindex(c, h, w):
        found[0, k, i, j] = flat[(i * w + j) * c + k]
    return found


def by_padded_rows(x: np.ndarray) -> np.ndarray:
    """Dense rows, read 16 elements apart."""
    _, c, h, w = x.shape
    memory, found = np.concatenate([x.reshape(-1), np.arange(16 * c * h) % 50]), np.empty_like(x)
    for row in range(c * h):
        found.reshape(-1, w)[row] = memory[row * 16:row * 16 + w]
    return found


@pytest.mark.parametrize(("read", "words"), [
    (as_channels_last, "input in NHWC read as NCHW"), (from_channels_last, "input in NCHW read as NHWC"),
    (by_padded_rows, "input rows read as if padded")])
def test_inputs_read_in_another_layout(tmp_path: Path, read: Reader, words: str) -> None:
    devices.write("depthwise", tmp_path / "net", 1)
    device = Device(tmp_path / "net")
    bad = device.run("r1", injected.misread(read))
    found = compare(tmp_path / "net", devices.save(tmp_path / "dump", bad))
    assert found.first is not None
    assert found.first.tensor.name == "r1"
    assert found.first.cause is not None
    assert found.first.cause.fault == "misread-input"
    assert found.first.cause.text.startswith(words)


@pytest.mark.parametrize(("scaled", "rounded", "told", "words"), [
    (1, np.rint, "half-up", "half-up instead of floor"), (1, np.trunc, "rounding", "a division that truncates"),
    (2, np.floor, "shift", "divided by half the scale"), (0.5, np.floor, "shift", "divided by twice the scale")])
def test_the_input_quantizer(
    folder: Path, tmp_path: Path, scaled: float, rounded: Callable[[np.ndarray], np.ndarray], told: str, words: str
) -> None:
    device = Device(folder)
    step = 2.0**device.parts.table.exponent("x")
    codes = np.clip(rounded(device.x / step * scaled), -128, 127)
    found = compare(folder, devices.save(tmp_path / "dump", {"intermediate_0": codes.astype(np.int64)}))
    named(found, "x.quantized", told)
    assert found.first is not None
    assert found.first.cause is not None
    assert found.first.cause.text.startswith(words)


def test_an_upper_bound_that_is_not_applied(tmp_path: Path) -> None:
    """Of a clip the accelerator has the lower bound alone (ReLU6)."""
    proto = tiny.model("""(float[N,3,8,8] x) => (float[N,8,8,8] y) <float[8,3,1,1] w, float[8] b,
        float lo = {0}, float hi = {3}> { c = Conv(x, w, b)  y = Clip(c, lo, hi) }""")
    quantize(proto, np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32), tmp_path / "net")
    device = Device(tmp_path / "net")
    bad = device.run("y.quantized", lambda p: np.clip(np.floor(p.accumulator / 2.0**p.shift), p.lo, 127))
    found = compare(tmp_path / "net", devices.save(tmp_path / "dump", bad))
    named(found, "y.quantized", "saturation")
    assert found.first is not None
    assert found.first.cause is not None
    assert found.first.cause.text.startswith("the upper bound of 96 is not applied")


def test_the_catalogue_has_one_name_a_fault() -> None:
    names = [fault.name for fault in CATALOGUE]
    assert len(set(names)) == len(names)
    told = Path(__file__).parents[2].joinpath("docs", "compare.md").read_text("utf-8")
    assert [name for name in names if f"`{name}`" not in told] == []
