"""``onnxdiana compare``: exit status, output, which file is which tensor, what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import devices
import injected
import numpy as np
import onnx
import pytest
import tiny
from command_line import Outcome, run
from devices import Device
from numpy.typing import NDArray

from onnxdiana import Config, quantize
from onnxdiana.compare import compare
from onnxdiana.compare.expected import Vectors

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual network with the vectors of three samples."""
    folder = tmp_path_factory.mktemp("compare") / "net"
    devices.write("residual", folder, 3)
    return folder


@pytest.fixture(scope="module")
def device(net: Path) -> Device:
    return Device(net)


def refused(*arguments: str | Path) -> str:
    """Exit status 2, nothing on stdout; the message."""
    outcome = run("compare", *arguments)
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("onnxdiana: error: ")
    assert outcome.err.count("\n") == 1
    return outcome.err


def passes(*arguments: str | Path) -> str:
    outcome = run("compare", *arguments)
    assert outcome.status == 0, outcome
    assert outcome.err == ""
    return outcome.out


def departs(*arguments: str | Path) -> Outcome:
    outcome = run("compare", *arguments)
    assert outcome.status == 1, outcome
    assert outcome.err == ""
    return outcome


def test_the_vectors_themselves_are_right(net: Path) -> None:
    out = passes(net, net / "htvm")
    assert "ok: 8 of 8 dumped tensors equal on 1 sample; the network has 8" in out
    assert "'model.onnx'" in out
    assert passes(net, net / "vectors").endswith("ok: 16 of 16 dumped tensors equal on 2 samples; the network has 8\n")
    assert "1 sample;" in passes(net, net / "vectors", "--sample", "2")


@pytest.mark.parametrize("form", devices.SUFFIX)
@pytest.mark.parametrize("network", devices.NETWORKS)
def test_no_false_alarm_in_any_form(tmp_path: Path, form: str, network: str, folders: dict[str, Path]) -> None:
    good = Device(folders[network], 1).run()
    found = compare(folders[network], devices.save(tmp_path / "dump", good, form), sample=1)
    assert found.ok
    assert found.first is None
    assert found.ignored == found.damaged == ()
    assert len(found.samples[0].tensors) == len(good)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    for name in devices.NETWORKS:
        devices.write(name, root / name, 2)
    return {name: root / name for name in devices.NETWORKS}


def test_text_and_json_tell_the_same(net: Path, device: Device, tmp_path: Path) -> None:
    bad = device.run("c2", injected.floor)
    stems = ("intermediate_0", "intermediate_3", "output")
    dump = devices.save(tmp_path / "dump", {stem: bad[stem] for stem in stems})
    text = departs(net, dump).out.splitlines()
    assert text[0] == ("FAILED: sample 0: 'c2' (intermediate_3, Conv -> 'c2', 8x8x8) in intermediate_3.npy is the "
                       "first dumped tensor that departs")
    good, wrong = device.run()["intermediate_3"], bad["intermediate_3"]
    at = tuple(int(i[0]) for i in np.nonzero(good != wrong))
    assert text[1].startswith(f"  at (n, c, h, w) = ({', '.join(map(str, at))}): expected {good[at]}, found "
                              f"{wrong[at]}; {np.count_nonzero(good != wrong)} of 512 elements differ")
    assert "likeliest cause: floor instead of half-up" in text[2]
    assert any("2 layers in front of it were not dumped: 'r0', 'r1'" in line for line in text)
    assert any("right for what was dumped before them: 'y'" in line for line in text)
    found = departs(net, dump, "--json").out
    told = json.loads(found)
    assert [told[key] for key in ("format", "version", "ok", "tensors")] == ["onnxdiana.comparison", 1, False, 8]
    first, last = told["samples"][0]["departures"]
    assert (first["cause"], tuple(first["index"])) == ("floor", at)
    assert (first["expected"], first["found"]) == (good[at], wrong[at])
    assert first["not_dumped"] == ["r0", "r1"]
    assert (last["tensor"], last["follows"]) == ("y", True)


def test_every_key_is_documented(net: Path, device: Device, tmp_path: Path) -> None:
    dump = devices.save(tmp_path / "dump", device.run("r0", injected.zeros))
    page = (ROOT / "docs" / "compare.md").read_text("utf-8")

    def keys(value: Any) -> set[str]:
        nested = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return set(value if isinstance(value, dict) else ()).union(*map(keys, nested))

    assert [key for key in sorted(keys(departs(net, dump, "--json").json)) if f"`{key}`" not in page] == []


def test_which_tensor_a_file_is(net: Path, device: Device, tmp_path: Path) -> None:
    good, bad = device.run(), device.run("r1", injected.zeros)
    for name in ("intermediate_2", "r1", "g_intermediate_2", "model_g_intermediate_2"):
        assert departs(net, devices.write_one(tmp_path / f"{name}.bin", bad["intermediate_2"], "raw")).out
    named = devices.write_one(tmp_path / "anything.txt", bad["intermediate_2"], "text")
    for name in ("r1", "intermediate_2"):
        assert "'r1' (intermediate_2" in departs(net, named, "--tensor", name).out
    last = devices.write_one(tmp_path / "y_quantized.npy", bad["intermediate_5"] + 1, "npy")
    assert "'y.quantized' (intermediate_5" in departs(net, last).out
    # told by what they hold, or by their size
    assert passes(net, devices.write_one(tmp_path / "unknown", good["intermediate_2"], "bare"))
    assert "intermediate_0 ('x.quantized'" in refused(net, devices.write_one(
        tmp_path / "any.bin", np.arange(5), "raw"))
    doubtful = devices.write_one(tmp_path / "b.bin", bad["intermediate_2"], "raw")
    assert "say which with --tensor" in refused(net, doubtful)
    assert "'x.quantized' (intermediate_0" in departs(net, devices.write_one(
        tmp_path / "c.bin", good["intermediate_0"] * 0, "raw")).out


def test_names_as_c_identifiers(net: Path, device: Device, tmp_path: Path) -> None:
    good = device.run()
    named = {"y_quantized": good["intermediate_5"], "x_quantized": good["intermediate_0"]}
    dump = devices.save(tmp_path / "dump", named)
    assert compare(net, dump).samples[0].tensors == ("x.quantized", "y.quantized")


def test_a_log_with_several_tensors(net: Path, device: Device, tmp_path: Path) -> None:
    bad = device.run("r1", injected.missing_relu)
    lines = [f"{name}:\n{' '.join(map(str, bad[device.stem(name)].reshape(-1)))}" for name in device.names]
    (tmp_path / "run.log").write_text("\n".join([*lines, "cycles: 1234"]) + "\n")
    out = departs(net, tmp_path / "run.log").out
    assert "'r1' (intermediate_2" in out
    assert "missing ReLU" in out
    assert "'run.log, 'cycles''" in out
    assert "1 of 6 dumped tensors" not in out


def test_outputs_as_codes_and_as_floats(net: Path, device: Device, tmp_path: Path) -> None:
    step = np.load(net / "htvm" / "output.npy")
    good, bad = device.run(), device.run("y.quantized", injected.floor)
    exponent = json.loads((net / "htvm" / "manifest.json").read_text())["output_exponent"]
    assert (np.ldexp(good["output"].astype(np.float32), exponent) == step).all()
    for name, codes, check in (("good", good["output"], passes), ("bad", bad["output"], departs)):
        folder = tmp_path / name
        folder.mkdir()
        real = np.ldexp(codes.astype(np.float32), exponent)
        np.save(folder / "output.npy", real)
        out = check(net, folder / "output.npy")
        assert name == "good" or f" (in steps of 2^{exponent}); " in out.out
        (folder / "output.txt").write_text(" ".join(map(str, real.reshape(-1))))
        check(net, folder / "output.txt")
        (folder / "output.bin").write_bytes(real.tobytes())
        check(net, folder / "output.bin")
        check(net, devices.write_one(folder / "output.csv", codes, "csv"))


def test_raw_integers_of_four_bytes(net: Path, device: Device, tmp_path: Path) -> None:
    good = device.run()
    (tmp_path / "intermediate_1.bin").write_bytes(good["intermediate_1"].astype("<i4").tobytes())
    passes(net, tmp_path / "intermediate_1.bin")
    (tmp_path / "input.bin").write_bytes(np.load(net / "htvm" / "input.npy").tobytes())
    passes(net, tmp_path / "input.bin")
    assert "input" in departs(net, net / "vectors" / "1" / "input.npy").out


def test_samples(net: Path, tmp_path: Path) -> None:
    for number in range(3):
        devices.save(tmp_path / "dump" / str(number), Device(net, number).run())
    assert "21 of 21 dumped tensors equal on 3 samples" in passes(net, tmp_path / "dump")
    bad = Device(net, 2).run("r0", injected.floor)
    devices.save(tmp_path / "dump" / "2", bad)
    out = departs(net, tmp_path / "dump").out
    assert out.startswith("FAILED: sample 2: 'r0'")
    assert passes(net, tmp_path / "dump", "--sample", "1")
    assert "no folder '7'; there are 0, 1, 2" in refused(net, tmp_path / "dump", "--sample", "7")
    assert "sample 1" in departs(net, tmp_path / "dump" / "1").out
    assert "no vectors of sample 3, only of 0, 1, 2" in refused(net, tmp_path / "dump" / "1", "--sample", "3")
    assert "no vectors of sample -1" in refused(net, tmp_path / "dump" / "1", "--sample", "-1")
    (tmp_path / "dump" / "01").mkdir()
    for more in ((), ("--sample", "2")):
        assert re.search(r"dump/1 and .*dump/01 are both sample 1; give one of them",
                         refused(net, tmp_path / "dump", *more))


def test_numbers_of_samples_may_begin_with_zeros(net: Path, tmp_path: Path) -> None:
    for number in range(2):
        devices.save(tmp_path / f"00{number}", Device(net, number).run())
    assert "equal on 2 samples" in passes(net, tmp_path)


def test_what_is_refused(net: Path, device: Device, tmp_path: Path) -> None:
    good = device.run()
    folder = devices.save(tmp_path / "dump", {"intermediate_1": good["intermediate_1"]})
    assert "no such file" in refused(net, tmp_path / "none")
    assert "no tensor is called 'r9'; there are input ('x', 3x8x8), intermediate_0" in refused(
        net, folder, "--tensor", "r9")
    assert "give --tensor with a file only" in refused(net, folder, "--tensor", "r0")
    assert "has 511 elements; 'r0' has 512 (8x8x8)" in refused(
        net, devices.write_one(tmp_path / "r0.npy", np.zeros(511), "npy"))
    devices.write_one(folder / "r0.bin", good["intermediate_1"], "raw")
    assert "both dumps of 'r0'" in refused(net, folder)
    (tmp_path / "empty").mkdir()
    assert "holds no dump of a tensor" in refused(net, tmp_path / "empty")
    (tmp_path / "output.npy").write_bytes(b"\x00" * 100)
    assert "output.npy" in refused(net, tmp_path / "output.npy")
    np.save(tmp_path / "r1.npy", np.full(512, np.nan))
    assert "element 0 is nan" in refused(net, tmp_path / "r1.npy")
    with open(tmp_path / "r2.bin", "wb") as file:
        file.truncate(1 << 40)
    assert "more than a dump of all tensors" in refused(net, tmp_path / "r2.bin")
    (tmp_path / "c2.txt").write_bytes(np.random.default_rng(0).bytes(4096))
    assert "is no text" in refused(net, tmp_path / "c2.txt")


def test_files_beside_the_dumps_do_not_disturb(net: Path, device: Device, tmp_path: Path) -> None:
    folder = devices.save(tmp_path / "dump", {"output": device.run()["output"]})
    (folder / "build.log").write_text("gcc -O3\nall fine\n")
    (folder / "demo").write_bytes(b"\x7fELF" + bytes(1000))
    (folder / ".hidden.npy").write_bytes(b"")
    assert "1 of 1 dumped tensor equal" in passes(net, folder)


def spoiled(net: Path, tmp_path: Path) -> Path:
    return shutil.copytree(net, tmp_path / "copy")


def test_damaged_folders(net: Path, device: Device, tmp_path: Path) -> None:
    dump, copy = devices.save(tmp_path / "dump", device.run()), spoiled(net, tmp_path)
    assert "no such folder" in refused(tmp_path / "none", dump)
    assert "no readable summary.json" in refused(dump, dump)
    np.save(copy / "htvm" / "intermediate_2.npy", np.load(copy / "htvm" / "intermediate_2.npy") + 1)
    out = passes(copy, dump)
    assert "WARNING: htvm/intermediate_2.npy ('r1') is not what the integer model gives for htvm/input.npy" in out
    np.save(copy / "htvm" / "input.npy", np.zeros((1, 3, 8, 7), np.float32))
    assert "htvm/input.npy has another type or shape" in refused(copy, dump)
    np.save(copy / "htvm" / "input.npy", np.full((1, 3, 8, 8), np.inf, np.float32))
    assert "not finite" in refused(copy, dump)
    proto = onnx.load(copy / "model.int.onnx")
    tiny.initializer(proto, "w1").raw_data = bytes(len(tiny.initializer(proto, "w1").raw_data))
    onnx.save(proto, copy / "model.int.onnx")
    assert "is damaged: " in refused(copy, dump)
    (copy / "model.int.onnx").write_bytes(b"")
    assert "is damaged: " in refused(copy, dump)
    (copy / "model.int.onnx").unlink()
    assert "is damaged: model.int.onnx is missing" in refused(copy, dump)


def test_folders_without_vectors(tmp_path: Path) -> None:
    two = tiny.model("(float[N,3,8] x, float[N,3,8] z) => (float[N,3,8] y) { y = Add(x, z) }")
    quantize(two, None, tmp_path / "two")
    assert "holds no vectors" in refused(tmp_path / "two", tmp_path / "two")


OTHERS = {
    "channels last": ("""(float[N,6,5,3] x) => (float[N,4] y)
        <float[4,3,3,3] w, float[4] b, float[4,120] v, float[4] u> {
        t = Transpose<perm=[0,3,1,2]>(x)  c = Conv<pads=[1,1,1,1]>(t, w, b)  r = Relu(c)  f = Flatten(r)
        y = Gemm<transB=1>(f, v, u) }""", (6, 5, 3)),
    "concatenation": ("""(float[N,4,6,6] x) => (float[N,8,6,6] y)
        <float[4,4,3,3] w, float[4] b, float[4,4,1,1] v, float[4] u, float[8,8,1,1] t, float[8] s> {
        c = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(c)  d = Conv(x, v, u)  q = Relu(d)  k = Concat<axis=1>(r, q)
        y = Conv(k, t, s) }""", (4, 6, 6)),
    "float tail": ("""(float[N,8] x) => (float[N,4] y) <float[4,8] w, float[4] b> {
        g = Gemm<transB=1>(x, w, b)  y = Softmax(g) }""", (8,)),
    "no layer": ("""(float[N,4,6,3] x) => (float[N,18] y) { t = Transpose<perm=[0,3,1,2]>(x)
        m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(t)  y = Flatten(m) }""", (4, 6, 3)),
    "moved at the end": ("""(float[N,3,4,4] x) => (float[N,4,4,4] y) <float[4,3,1,1] w, float[4] b> {
        c = Conv(x, w, b)  y = Transpose<perm=[0,2,3,1]>(c) }""", (3, 4, 4)),
    "clipped": ("""(float[N,3,4,4] x) => (float[N,4,4,4] y)
        <float[4,3,1,1] w, float[4] b, float lo = {-1}, float hi = {1}> {
        c = Conv(x, w, b)  y = Clip(c, lo, hi) }""", (3, 4, 4)),
}


JOINED = """(float[N,4,6,6] x) => (float[N,4,6,6] y) <float[4,4,3,3] w, float[4,4,1,1] u, float[4,8,1,1] v> {
    a = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(a)  b = Conv(x, u)  q = Relu(b)
    k = Concat<axis=1>(r, q)  y = Conv(k, v) }"""


@pytest.mark.parametrize("spoil", [lambda codes: 0 * codes, lambda codes: codes - 1,
                                   lambda codes: codes.reshape(-1, 4)[:, ::-1].reshape(codes.shape)],
                         ids=["zero", "less", "words"])
def test_int8_dumps_of_a_concat(tmp_path: Path, spoil: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """At the first departure, and behind one."""
    data = np.random.default_rng(0).standard_normal((8, 4, 6, 6)).astype(np.float32)
    quantize(tiny.model(JOINED), data, tmp_path / "net")
    told = json.loads((tmp_path / "net" / "htvm" / "manifest.json").read_text("utf-8"))["intermediates"]
    (tmp_path / "dump").mkdir()
    for file, name in told.items():
        codes = np.load(tmp_path / "net" / "htvm" / file).astype(np.int8)
        np.save(tmp_path / "dump" / file, spoil(codes) if name == "k" else codes)
    found = compare(tmp_path / "net", tmp_path / "dump")
    assert found.first is not None
    assert found.first.tensor.name == "k"
    first = next(file for file, name in told.items() if name == "k")
    codes = np.load(tmp_path / "net" / "htvm" / "intermediate_0.npy").astype(np.int8)
    np.save(tmp_path / "dump" / "intermediate_0.npy", codes[:, ::-1])
    assert first != "intermediate_0.npy"
    found = compare(tmp_path / "net", tmp_path / "dump")
    assert found.first is not None
    assert found.first.tensor.name != "k"


def test_channels_that_hold_one_value_are_no_other_order(tmp_path: Path) -> None:
    """A dead ReLU channel is all 0, and so are channels that were not written."""
    text = "(float[N,2,6,6] x) => (float[N,8,6,6] y) <float[8,2,1,1] w, float[8] b> { a = Conv(x, w, b)  y = Relu(a) }"
    proto = tiny.with_values(tiny.model(text), b=np.array([0, -99, 0, 0, 0, 0, 0, 0], np.float32))
    data = np.random.default_rng(0).standard_normal((8, 2, 6, 6)).astype(np.float32)
    quantize(proto, data, tmp_path / "net")
    codes = np.load(tmp_path / "net" / "htvm" / "intermediate_1.npy")
    assert not codes[:, 1].any()
    codes[:, 6:] = 0
    np.save(tmp_path / "intermediate_1.npy", codes)
    found = compare(tmp_path / "net", tmp_path / "intermediate_1.npy")
    assert found.first is not None
    assert found.first.cause is not None
    assert "not written" in found.first.cause.text


@pytest.mark.parametrize("io", ["float", "int8"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_networks(tmp_path: Path, name: str, io: str) -> None:
    """No false alarm; zeros and a dump of another sample are told at every tensor."""
    text, shape = OTHERS[name]
    data = np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32)
    quantize(tiny.model(text), data, tmp_path / "net", config=Config(io=io, vectors=2))
    assert compare(tmp_path / "net", tmp_path / "net" / "htvm").ok
    assert compare(tmp_path / "net", tmp_path / "net" / "vectors").ok
    assert compare(tmp_path / "net", tmp_path / "net" / "htvm").damaged == ()
    told = json.loads((tmp_path / "net" / "htvm" / "manifest.json").read_text("utf-8"))["intermediates"]
    names = {f"{tensor.stem}.npy": tensor.name for tensor in Vectors(tmp_path / "net").tensors}
    assert {file: name for file, name in names.items() if file not in ("input.npy", "output.npy")} == told
    found = compare(tmp_path / "net", tmp_path / "net" / "vectors" / "1")
    assert len(found.samples[0].departures) == len(found.samples[0].tensors)
    assert found.first is not None
    assert found.first.cause is not None
    assert found.first.cause.fault == "other-vectors"
    assert all(entry.follows for entry in found.samples[0].departures[2:])
    for file in sorted((tmp_path / "net" / "htvm").glob("*.npy")):
        array = np.load(file)
        np.save(tmp_path / file.name, array * 0)
        zeros = compare(tmp_path / "net", tmp_path / file.name)
        assert zeros.first is not None
        assert zeros.first.tensor.stem == file.stem
        assert zeros.first.cause is not None
        assert zeros.first.cause.fault == "nothing-written"


def test_outputs_whose_real_values_are_whole(tmp_path: Path) -> None:
    """Are they codes, or steps of a large scale? What fits more elements."""
    proto = tiny.model("(float[N,8] x) => (float[N,12] y) <float[12,8] w> { y = Gemm<transB=1>(x, w) }")
    rng = np.random.default_rng(0)
    proto = tiny.with_values(proto, w=(500 * rng.standard_normal((12, 8))).astype(np.float32))
    quantize(proto, rng.standard_normal((8, 8)).astype(np.float32), tmp_path / "net")
    real = np.load(tmp_path / "net" / "htvm" / "output.npy")
    exponent = json.loads((tmp_path / "net" / "htvm" / "manifest.json").read_text())["output_exponent"]
    assert exponent > 0
    codes = np.ldexp(real, -exponent)
    for name, values in (("real", real), ("codes", codes), ("wide", codes.astype(np.int32))):
        np.save(tmp_path / "output.npy", values)
        assert compare(tmp_path / "net", tmp_path / "output.npy").ok, name
    (tmp_path / "output.txt").write_text(" ".join(map(str, real.astype(int).reshape(-1))))
    assert compare(tmp_path / "net", tmp_path / "output.txt").ok
    real[0, 3] += 2.0**exponent
    np.save(tmp_path / "output.npy", real)
    first = compare(tmp_path / "net", tmp_path / "output.npy").first
    assert first is not None
    assert (first.index, first.found) == ((0, 3), codes[0, 3] + 1)


def wild(rng: np.random.Generator, kind: int, like: np.ndarray) -> np.ndarray:
    """Numbers of every size and type."""
    match kind:
        case 0:
            return rng.integers(-2**63, 2**63 - 1, like.size, dtype=np.int64)
        case 1:
            return rng.standard_normal(like.size) * 10.0**rng.integers(-300, 300)
        case 2:
            return rng.integers(0, 256, like.size).astype(np.uint8)
        case 3:
            return like.reshape(-1) * rng.choice([0.5, 1e30, -1])
        case _:
            return np.full(like.size, rng.choice([2.0**62, 1e308, -2.0**63]))


@pytest.mark.parametrize("kind", range(5))
def test_no_numbers_break_it(net: Path, tmp_path: Path, kind: int) -> None:
    """They depart; where no cause fits, none is claimed, and the JSON is JSON."""
    rng = np.random.default_rng(kind)
    for file in sorted((net / "htvm").glob("*.npy")):
        np.save(tmp_path / file.name, wild(rng, kind, np.load(file)))
        told = departs(net, tmp_path / file.name, "--json").out
        assert "NaN" not in told
        assert "Infinity" not in told
        cause = json.loads(told)["samples"][0]["departures"][0]["cause"]
        assert cause is None or (kind == 4 and cause == "nothing-written")
        assert "FAILED" in departs(net, tmp_path / file.name).out
