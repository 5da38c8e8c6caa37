"""The benchmarks run and measure what they say; no figure of theirs that depends on the machine is asserted."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from tiny import model

from onnxdiana import pipeline, reference
from onnxdiana.calibration import InputSpec, open_data

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPTS = sorted(path.stem for path in TOOLS.glob("*.py"))
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Import a script as one that runs in tools/ would."""
    monkeypatch.syspath_prepend(str(TOOLS))
    for name in SCRIPTS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


def test_readme_lists_every_script() -> None:
    text = (TOOLS / "README.md").read_text("utf-8")
    assert [name for name in SCRIPTS if f"`{name}.py" not in text] == []


# ---------------------------------------------------------------- measuring


def test_in_turn_runs_the_commands_round_by_round(load: Load, tmp_path: Path) -> None:
    log = tmp_path / "log"
    commands = {name: [sys.executable, "-c", f"open({str(log)!r}, 'a').write({name!r})"] for name in "ab"}
    costs = load("measure").in_turn(commands, 3)
    assert log.read_text() == "ab" * 4  # the first round fills the caches
    assert [len(taken) for taken in costs.values()] == [3, 3]
    assert all(cost.seconds > 0 and cost.processor > 0 and cost.peak > 1 for taken in costs.values() for cost in taken)


def test_print_ratio(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    measure = load("measure")
    ours = [measure.Cost(seconds, 3.0, 0.0) for seconds in (1.0, 2.0, 9.0)]
    theirs = [measure.Cost(seconds, 4.0, 0.0) for seconds in (1.0, 4.0, 2.0)]
    assert measure.print_ratio({"ours": ours, "theirs": theirs}, 1.0)
    assert not measure.print_ratio({"ours": ours, "theirs": theirs}, 0.99)
    lines = [
        "ours    min 1.000 s, median 2.000 s, max 9.000 s; processor 3.000 s",
        "theirs  min 1.000 s, median 2.000 s, max 4.000 s; processor 4.000 s",
        "pair by pair from 0.50 to 4.50; of processor seconds 0.75",
    ]
    assert capsys.readouterr().out.splitlines() == [
        *lines, "ratio of medians: 1.00 (at most 1.00) ok", *lines, "ratio of medians: 1.00 (at most 0.99) MISSED"]


def test_run_tells_peak_memory_and_failures(tmp_path: Path) -> None:
    """In a process of its own: what this one holds would be a lower bound."""
    code = ("import sys, measure\n"
            "commands = [[sys.executable, '-c', f'b\"x\" * ({size} << 20)'] for size in (1, 200)]\n"
            "peaks = [measure.run(command).peak for command in commands]\n"
            "assert 150 < peaks[1] - peaks[0] < 250, peaks\n"
            "measure.run([sys.executable, '-c', 'raise SystemExit(\"for a reason\")'])\n")
    found = subprocess.run([sys.executable, "-c", code], cwd=TOOLS, capture_output=True, text=True)
    assert found.returncode == 1
    assert "exit status 1 of " in found.stderr
    assert found.stderr.rstrip().endswith("for a reason")


@pytest.mark.parametrize("folder", [None, "nowhere"])
def test_without_the_zoo_it_is_said(load: Load, folder: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONNXDIANA_ZOO", raising=False)
    if folder is not None:
        monkeypatch.setenv("ONNXDIANA_ZOO", folder)
    with pytest.raises(SystemExit, match="set ONNXDIANA_ZOO"):
        load("accuracy").main()


# ---------------------------------------------------------------- figures


def test_accuracy_on_the_zoo(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    if not os.environ.get("ONNXDIANA_ZOO"):
        pytest.skip("ONNXDIANA_ZOO is unset: no trained models to measure")
    status = load("accuracy").main()
    assert status == 0, capsys.readouterr().out


def test_digits_errors(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    assert load("digits").main() == 0
    assert capsys.readouterr().out.startswith("float errors: 2 of 599\ninteger errors: ")


def test_importing_onnxdiana_loads_nothing_heavy(load: Load) -> None:
    startup = load("startup")
    assert set(startup.REFUSED) == {"torch", "onnxruntime"}
    assert startup.loaded() == []


@pytest.mark.parametrize("count", [1, 7, 100, 101])
@pytest.mark.parametrize("kind", ["convolutions", "gemms"])
def test_chains_have_the_nodes_they_say(load: Load, kind: str, count: int) -> None:
    proto, shape = getattr(load("chain"), kind)(count)
    onnx.checker.check_model(proto, full_check=True)
    assert len(proto.graph.node) == count
    values = reference_values(proto, shape)
    assert 1e-3 < np.abs(values).max() < 1e3  # neither vanished nor exploded on the way


def reference_values(proto: onnx.ModelProto, shape: tuple[int, ...]) -> np.ndarray:
    x = np.random.default_rng(1).uniform(0, 1, (4, *shape)).astype(np.float32)
    (y,) = onnx.reference.ReferenceEvaluator(proto).run(None, {"x": x})
    return y


def test_the_clock_leaves_out_what_runs_a_model(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, now = load("chain"), [0.0]
    monkeypatch.setattr(chain.time, "process_time", lambda: now[0])
    clock = chain.Clock()

    def work(seconds: float) -> None:
        now[0] += seconds

    def stage() -> None:
        work(1)
        clock._timed(work, 10)
        work(2)

    clock.stage("first", stage)
    clock.stage("second", work, 4)
    clock.stage("first", stage)
    assert (clock.stages, clock.running) == ({"first": 6, "second": 4}, 20)


def test_a_chain_is_measured_stage_by_stage(load: Load) -> None:
    import onnxruntime

    chain, before = load("chain"), (onnxruntime.InferenceSession, reference.Walk.evaluate)
    clock = chain.measured(chain.convolutions, 20)
    assert list(clock.stages) == ["prepare", "fake_quantize", "map_to_hardware", "integerize", "export"]
    assert all(seconds >= 0 for seconds in clock.stages.values())
    assert clock.running > 0
    assert (onnxruntime.InferenceSession, reference.Walk.evaluate) == before


@pytest.mark.parametrize("kind", ["npy", "npz", "folder", "generator"])
def test_memory_writes_the_same_samples_of_every_kind(
    load: Load, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = load("memory")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "GENERATOR", f"samples_of_{tmp_path.name}")
    data = memory.write(kind, tmp_path, 200, (2, 3))
    found = np.concatenate([batch["x"] for batch in open_data(data, [InputSpec("x", (2, 3))]).batches(64)])
    np.testing.assert_array_equal(found, np.concatenate(list(memory.parts(200, (2, 3)))), strict=True)
    assert kind in memory.KINDS


def test_the_competitor_quantizes_statically(tmp_path: Path) -> None:
    proto: Any = model()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, tmp_path / "m.onnx")
    np.savez(tmp_path / "m.npz", calib=np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32))
    subprocess.run([sys.executable, str(TOOLS / "onnxruntime_static.py"), "m.onnx", "m.npz:calib", "out.onnx"],
                   cwd=tmp_path, check=True, capture_output=True)
    kinds = {node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_ablation_leaves_the_package_as_it_was(load: Load) -> None:
    ablation = load("ablation")
    x = np.random.default_rng(0).normal(size=(20, 3, 8, 8)).astype(np.float32)

    def files() -> dict[str, bytes]:
        return dict(pipeline.quantize(model(), x).files)

    expected = files()
    for without in ablation.PARTS.values():
        with without():
            files()
        assert files() == expected
    with ablation.PARTS["no bias correction (--recover none)"]():
        assert files()["model.int.onnx"] != expected["model.int.onnx"]
