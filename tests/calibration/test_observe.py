"""Calibration as a whole: the batch size changes nothing, errors name tensor and sample, and a person is told."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import digests, model, with_values

from onnxdiana import cli, pipeline
from onnxdiana.calibration import MAX_KEPT, InputSpec, calibrate, observe, open_data, synthetic_data
from onnxdiana.calibration.batches import rechunk
from onnxdiana.calibration.sources import DataSource
from onnxdiana.errors import CalibrationError
from onnxdiana.layers import Network, network
from onnxdiana.runtime import CHUNK, Runner

RESIDUAL = """(float[N,3,8,8] x) => (float[N,5] y) <float[4,3,3,3] w1, float[4] b1, float[4,4,3,3] w2, float[4] b2,
        float[5,4] v> {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)  r = Relu(a)  c = Conv<pads=[1,1,1,1]>(r, w2, b2)  s = Add(r, c)
    t = Relu(s)  p = GlobalAveragePool(t)  f = Flatten(p)  y = Gemm<transB=1>(f, v) }"""
LINEAR = "(float[N,2] x) => (float[N,2] y) <float[2,2] v> { h = Gemm<transB=1>(x, v)  y = Relu(h) }"
X = np.random.default_rng(0).normal(size=(150, 3, 8, 8)).astype(np.float32)  # ragged at every size below


def linear(weight: float = 1.0) -> Network:
    proto = with_values(model(LINEAR), v=np.array([[weight, weight], [weight, -weight]], np.float32))
    return network(pipeline.prepare(proto).canonical.model)


def source(samples: object) -> DataSource:
    return open_data(samples, [InputSpec("x", (2,))])


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("kind", ["npz", "generator"])
def test_any_batch_gives_the_same_folder(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(model(RESIDUAL), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=X)
    (tmp_path / "stream_of_test_observe.py").write_text(
        "import numpy as np\n"
        "def make():\n"
        "    x = np.load('data.npz')['x']\n"
        "    yield from (x[start:start + 11] for start in range(0, len(x), 11))\n")
    monkeypatch.chdir(tmp_path)
    data = "data.npz" if kind == "npz" else "stream_of_test_observe:make"
    written = []
    for batch in ("1", "7", "64"):
        assert cli.main(["quantize", "m.onnx", "--calib", data, "-o", batch, "--batch", batch, "-q", "--json"]) == 0
        summary = json.loads((tmp_path / batch / "summary.json").read_text())
        summary["options"].pop("batch", None)
        written.append((summary, {k: v for k, v in digests(tmp_path / batch).items() if k != "summary.json"}))
    assert written[0][0]["calibration"]["samples"] == len(X)
    assert {"scales.json", "model.int.onnx", "model.qdq.onnx", "htvm/model.onnx"} <= set(written[0][1])
    assert written[0] == written[1] == written[2]


def test_all_data_count(tmp_path: Path) -> None:
    """The ragged last batch too: its last sample alone sets the range."""
    x = np.zeros((65, 2), np.float32)
    x[-1] = 100, 28
    for batch in (1, 7, 64):
        found = calibrate(linear(), source(x), batch)
        assert (found.samples, found.histograms["x"].peak, found.histograms["y"].peak) == (65, 100, 128)


def test_the_model_runs_on_as_many_samples_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of floats may depend on how many samples are computed together."""
    view, run, counts = linear(), Runner.run, []
    monkeypatch.setattr(Runner, "run", lambda self, batch: counts.append(len(batch["x"])) or run(self, batch))
    for batch in (1, 7, 64):
        counts.clear()
        calibrate(view, source(np.ones((150, 2), np.float32)), batch)
        assert counts == [CHUNK] * 9 + [6]


@pytest.mark.parametrize("lengths", [[150], [1] * 20, [0, 3, 0, 50, 1, 16], [16, 16], [0], []])
@pytest.mark.parametrize("size", [1, 7, 16])
def test_rechunk(size: int, lengths: list[int]) -> None:
    total = sum(lengths)
    x, y = np.arange(total), np.arange(2 * total).reshape(-1, 2)
    stops = np.cumsum(lengths, dtype=int)
    chunks = ({"x": x[stop - n:stop], "y": y[stop - n:stop]} for n, stop in zip(lengths, stops, strict=True))
    found = list(rechunk(chunks, size))
    assert [len(b["x"]) for b in found] == [size] * (total // size) + [total % size] * (total % size > 0)
    for name, expected in (("x", x), ("y", y)):
        joined = [row for batch in found for row in batch[name].tolist()]
        assert joined == expected.tolist()


# ---------------------------------------------------------------- samples kept for the corrections


@pytest.mark.parametrize("count", [1, 100, 255, 256, 257, 300, 512, 513, 1000, 1500])
def test_kept_samples_are_even_and_few(count: int) -> None:
    assert MAX_KEPT == 256
    x = np.random.default_rng(1).normal(size=(count, 2)).astype(np.float32)

    def stream() -> Iterator[np.ndarray]:
        yield from (x[start:start + 13] for start in range(0, count, 13))

    stride = 2 ** max(0, math.ceil(math.log2(count / MAX_KEPT)))
    for data in (x, stream):  # of known length and not
        found = calibrate(linear(), source(data), 7)
        assert found.samples == count
        assert found.kept_indices == tuple(range(0, count, stride))
        assert len(found.kept_indices) <= MAX_KEPT
        np.testing.assert_array_equal(found.kept["x"], x[::stride], strict=True)


def test_of_large_maps_fewer_samples_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The corrections hold a tensor of all kept samples at once."""
    data, held = np.ones((300, 2), np.float32), []
    largest = max(4 * int(np.prod(v.shape[1:])) for v in linear().quantized)
    for samples in (1000, 100, 1):
        monkeypatch.setattr(observe, "KEPT_BYTES", samples * largest)
        held.append(len(calibrate(linear(), source(data)).kept_indices))
    assert held == [150, 75, 10]  # of 300 at most 256, 100 and 16: every second, fourth and 32nd


def test_summary_names_the_kept_samples() -> None:
    x = np.random.default_rng(2).normal(size=(600, 2)).astype(np.float32)
    summary = pipeline.quantize(model(LINEAR), x).summary
    assert summary["calibration"]["samples"] == 600
    assert summary["calibration"]["correction_samples"] == list(range(0, 600, 4))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_activations_that_are_not_finite_name_tensor_and_sample(batch: int) -> None:
    view = linear(1e38)
    ones = np.ones((100, 2), np.float32)
    # y = 1e38 * (x0 + x1), 1e38 * (x0 - x1); a ReLU may turn the NaN of inf - inf into 0, then y0 is still infinite
    for x, word in (([9, 0], "infinite"), ([9, 9], "(NaN|infinite)")):
        bad = ones.copy()
        bad[77], bad[90] = x, [9, 9]
        with pytest.raises(CalibrationError, match=rf"array: tensor 'y' is {word} for sample 77; check that sample"):
            calibrate(view, source(bad), batch)
    assert calibrate(view, source(ones), batch).samples == 100


def test_the_first_tensor_of_the_first_bad_sample_is_named() -> None:
    text = """(float[N,2] x) => (float[N,2] y) <float[2,2] v, float[2,2] u> {
        h = Gemm<transB=1>(x, v)  r = Relu(h)  y = Gemm<transB=1>(r, u) }"""
    proto = with_values(model(text), v=np.full((2, 2), 1e38, np.float32), u=np.eye(2, dtype=np.float32))
    view = network(pipeline.prepare(proto).canonical.model)
    x = np.ones((40, 2), np.float32)
    x[33] = 9
    with pytest.raises(CalibrationError, match="tensor 'r' is infinite for sample 33"):
        calibrate(view, source(x))


BAD_DATA: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "NaN": ({"x": np.where(np.arange(150)[:, None, None, None] == 140, np.float32("nan"), X)},
            r"data\.npz, input 'x': sample 140 holds nan"),
    "shape": ({"x": X[:, :2]}, r"data\.npz: array 'x': wrong shape for input 'x': expected \(samples, 3, 8, 8\)"),
    "name": ({"images": X, "more": X}, r"which array is input 'x'"),
    "empty": ({"x": X[:0]}, r"data\.npz: no samples"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_end_a_run_with_status_2(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, words = BAD_DATA[kind]
    onnx.save(model(), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["quantize", "m.onnx", "--calib", "data.npz", "-o", "out"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf"onnxdiana: error: .*{words}.*\n", printed.err)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- without --calib


def metadata(folder: Path) -> dict[str, dict[str, str]]:
    models = {name: onnx.load(folder / name) for name in ("model.int.onnx", "model.qdq.onnx")}
    return {name: {entry.key: entry.value for entry in proto.metadata_props} for name, proto in models.items()}


def test_data_beside_the_model_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    onnx.save(model(), tmp_path / "models" / "m.onnx")
    np.savez(tmp_path / "models" / "m.calib.npz", x=X)
    np.savez(tmp_path / "m.calib.npz", x=X[:3])  # beside nothing
    monkeypatch.chdir(tmp_path)
    assert cli.main(["quantize", "models/m.onnx", "-o", "out"]) == 0
    assert "calibrating on m.calib.npz, found beside the model" in capsys.readouterr().err
    calibration = json.loads((tmp_path / "out" / "summary.json").read_text())["calibration"]
    assert (calibration["source"], calibration["samples"], calibration["synthetic"]) == ("m.calib.npz", 150, False)
    assert not [key for entries in metadata(tmp_path / "out").values() for key in entries if "synthetic" in key]


def test_synthetic_inputs_are_loud_and_stamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(model(), tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["quantize", "m.onnx"]) == 0
    loud = capsys.readouterr().err
    assert re.match(r"onnxdiana: WARNING: no calibration data; drawing SYNTHETIC inputs.*--calib.*m\.calib\.npz", loud)
    calibration = json.loads((tmp_path / "m.diana" / "summary.json").read_text())["calibration"]
    assert (calibration["source"], calibration["synthetic"], calibration["sha256"]) == ("synthetic", True, None)
    for entries in metadata(tmp_path / "m.diana").values():
        assert entries["onnxdiana.synthetic_calibration"] == "true"
    runs = [pipeline.quantize(model(), config=pipeline.Config(seed=seed)).files["samples.npz"] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] == (tmp_path / "m.diana" / "samples.npz").read_bytes()
    assert runs[0] != runs[2]


def test_synthetic_calibration_is_the_same_at_every_batch() -> None:
    specs = [InputSpec("x", (2,))]
    found = [calibrate(linear(), synthetic_data(specs), batch) for batch in (1, 7, 64)]
    assert all(c.synthetic for c in found)
    for other in found[1:]:
        np.testing.assert_array_equal(other.kept["x"], found[0].kept["x"])
        assert {n: h._bins.tolist() for n, h in other.histograms.items()} == {
            n: h._bins.tolist() for n, h in found[0].histograms.items()}


# ---------------------------------------------------------------- progress


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("progress")
    onnx.save(model(), folder / "m.onnx")
    np.savez(folder / "data.npz", x=X)
    return folder


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "onnxdiana", "quantize", "m.onnx", "--calib", "data.npz", "--force", *more]


@pytest.mark.parametrize(("size", "quiet"), [((24, 100), False), ((0, 0), False), ((24, 100), True)])
def test_progress_on_a_terminal(size: tuple[int, int], quiet: bool, files: Path) -> None:
    termios = pytest.importorskip("termios", reason="needs a Unix terminal")
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, size)  # (0, 0): unknown
    environment = {**os.environ, "TQDM_MININTERVAL": "0", "TQDM_MINITERS": "1"}  # show every step of so short a run
    with subprocess.Popen([*command("-o", "terminal"), *["-q"] * quiet], cwd=files, env=environment,
                          stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = read_to_end(ours)
        assert process.stdout is not None
        assert b"accumulator" in process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    if quiet:
        assert shown == ""
    else:
        steps = re.findall(r"calibrating: +(\d+)%\|.*?\| (\d+)/150 \[\d\d:\d\d<\d\d:\d\d", shown)  # done<remaining
        assert [int(done) for _, done in steps] == [*range(16, 150, 16), 150]


def read_to_end(descriptor: int) -> str:
    shown = b""
    while True:
        try:
            part = os.read(descriptor, 4096)
        except OSError:  # how Linux says that the other side is closed
            part = b""
        if not part:
            return shown.decode()
        shown += part


def test_silence_when_piped(files: Path) -> None:
    run = subprocess.run(command("-o", "piped"), cwd=files, capture_output=True, text=True, check=True)
    assert not re.search(r"calibrating|\r|\d%|\d/150|samples/s", run.stderr)
    assert "accumulator" in run.stdout
    run = subprocess.run(command("-o", "piped", "-q"), cwd=files, capture_output=True, text=True, check=True)
    assert run.stderr == ""
