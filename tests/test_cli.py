"""The command line: options, configuration files, data, targets, and what goes to stdout and stderr."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import SAMPLES, Desk, finish, run, start
from tiny import CONV, digests, model, values, with_values

import onnxdiana


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk with a good model on it."""
    return Desk(tmp_path, model())


# Commands and options


def test_help_and_version() -> None:
    for command in ([], ["quantize"], ["inspect"], ["validate"], ["handoff"], ["compare"]):
        outcome = run(*command, "--help")
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out.startswith("usage: onnxdiana")
    assert run("--version").out == f"onnxdiana {onnxdiana.__version__}\n"


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "required: COMMAND"),
    (["quantise", "net.onnx"], "invalid choice: 'quantise'"),
    (["quantize"], "required: MODEL.onnx"),
    (["quantize", "net.onnx", "--bach", "3"], "unrecognized arguments: --bach"),
    (["quantize", "net.onnx", "--recover", "full"], "argument --recover: invalid choice: 'full'"),
    (["quantize", "net.onnx", "--core", "analog"], "argument --core: invalid choice: 'analog'"),
    (["quantize", "net.onnx", "--batch", "many"], "argument --batch: invalid int value: 'many'"),
    (["quantize", "net.onnx", "--handoff-opset", "12"], "argument --handoff-opset: invalid choice: 12"),
    (["quantize", "net.onnx", "--zero-taps"], "argument --zero-taps: expected one argument"),
    (["validate"], "required: DIR"),
    (["handoff"], "required: DIR|FILE.onnx"),
    (["compare", "DIR"], "required: DUMP"),
    (["inspect"], "required: MODEL.onnx"),
    (["inspect", "net.onnx", "--calib", "x.npz"], "unrecognized arguments: --calib x.npz"),
    (["inspect", "net.onnx", "--input-shape"], "argument --input-shape: expected one argument"),
])
def test_usage_errors(arguments: list[str], message: str) -> None:
    outcome = run(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("usage: onnxdiana")
    assert message in outcome.err


@pytest.mark.parametrize(("options", "message"), [
    (["--batch", "0"], "batch: 0; it takes a whole number of at least 1"),
    (["--batch", "-5"], "batch: -5; it takes a whole number of at least 1"),
    (["--seed", "-1"], "seed: -1; it takes a whole number of at least 0"),
    (["--input-shape", "x=1,0,8,8"], "--input-shape 'x=1,0,8,8' is not a name and its positive sizes"),
    (["--input-shape", "1,x"], "is not a name and its positive sizes: write it like --input-shape input=1,3,32,32"),
    (["--input-shape", "x=1,3,8,8", "--input-shape", "x=1,3,8,8"], "x=1,3,8,8: this input has a shape already"),
    (["--rules", "rules.txt"], "rules: 'rules.txt'; it takes the path of a .py file"),
])
def test_options_out_of_range(desk: Desk, options: list[str], message: str) -> None:
    desk.refused(message, options=options)


def test_default_folder_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``MODEL.calib.npz`` beside the model, ``MODEL.diana`` in the current folder."""
    desk = Desk(tmp_path, model())
    desk.save("net.calib.npz", x=SAMPLES)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    outcome = run("quantize", desk.model)
    assert outcome.status == 0
    assert "onnxdiana: calibrating on net.calib.npz, found beside the model\n" in outcome.err
    assert os.listdir(tmp_path / "work") == ["net.diana"]
    summary = json.loads((tmp_path / "work" / "net.diana" / "summary.json").read_text("utf-8"))
    assert (summary["calibration"]["source"], summary["calibration"]["samples"]) == ("net.calib.npz", 8)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "x" * 300, "a\udcffb.onnx"])
def test_model_names_that_are_none(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("quantize", name, "-q")
    assert outcome.status == 2
    assert outcome.err.startswith("onnxdiana: error: ")
    assert os.listdir(tmp_path) == []


def test_file_names_that_are_not_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        Path("n\udcff.onnx").write_bytes(model().SerializeToString())
    except OSError:
        pytest.skip("the file system takes only text")
    np.save("d\udcff.npy", SAMPLES)
    outcome = finish(start("quantize", "n\udcff.onnx", "--calib", "d\udcff.npy", "--json", folder=tmp_path))
    assert outcome.status == 0, outcome
    assert outcome.json["model"]["name"] == "n\N{REPLACEMENT CHARACTER}.onnx"
    assert outcome.json["calibration"]["source"] == "d\udcff.npy"
    assert run("validate", "n\udcff.diana").status == 0


# Streams


def test_results_go_to_stdout_and_all_else_to_stderr(desk: Desk) -> None:
    outcome = desk.quantize(quiet=False)
    assert outcome.status == 0
    assert outcome.out.startswith("tensor")
    assert f"written: {desk.out}" in outcome.out
    assert outcome.err.startswith("onnxdiana: WARNING: no calibration data; drawing SYNTHETIC inputs.")
    assert all(line.startswith("onnxdiana: ") for line in outcome.err.splitlines())
    assert not set(outcome.out.splitlines()) & set(outcome.err.splitlines())


def test_json_is_one_document(desk: Desk) -> None:
    outcome = desk.quantize("--json", quiet=False)
    assert outcome.json["folder"] == str(desk.out)
    assert outcome.json["calibration"]["synthetic"] is True
    summary = json.loads((desk.out / "summary.json").read_text("utf-8"))
    assert {**summary, "folder": str(desk.out)} == outcome.json
    checked = run("validate", desk.out, "--json")
    assert (checked.status, checked.json["ok"], checked.err) == (0, True, "")


def test_quiet_says_nothing(tmp_path: Path) -> None:
    """Whatever there is to say: conversions, synthetic data, no ``htvm/``, a folder moved aside."""
    text = "(float16[N,4] x) => (float16[N,3] y, float16[N,2] z) <float16[4,3] w, float16[4,2] v> " \
           "{ y = MatMul(x, w) z = MatMul(x, v) }"
    desk = Desk(tmp_path, model(text, 13))
    desk.out.mkdir()
    (desk.out / "mine").touch()
    arguments = ("quantize", "net.onnx", "-o", "out", "--force")
    outcome = finish(start(*arguments, "-q", folder=tmp_path))
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("tensor")
    (desk.out / "mine").touch()
    loud = finish(start(*arguments, folder=tmp_path)).err
    for part in ("SYNTHETIC", "float16 model converted", "opset 13 raised", "htvm/ is not written", "is now"):
        assert part in loud


def test_what_others_print_is_no_result(desk: Desk) -> None:
    """Data functions may print, libraries may log."""
    (desk.folder / "loader.py").write_text(
        "import logging\nimport numpy as np\nprint('loading')\n"
        "def batches():\n    print('reading')\n    logging.getLogger('library').warning('remark')\n"
        "    yield np.ones((2, 3, 8, 8))\n")
    outcome = finish(start("quantize", "net.onnx", "-o", "out", "--calib", "loader:batches", "--json", "-q",
                           folder=desk.folder))
    assert outcome.status == 0
    assert outcome.json["calibration"]["samples"] == 2
    assert set(outcome.err.split()) == {"loading", "reading"}


def test_no_progress_where_nobody_watches(desk: Desk) -> None:
    outcome = finish(start("quantize", "net.onnx", "-o", "out", "--calib", str(desk.save("x.npy", x=SAMPLES)),
                           folder=desk.folder))
    assert outcome.status == 0
    assert "\r" not in outcome.err
    assert "calibrating" not in outcome.err


def test_a_reader_who_has_seen_enough(desk: Desk) -> None:
    """As behind ``| head -1``: the folder is written, nothing is said of a broken pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        outcome = finish(start("quantize", "net.onnx", "-o", "out", "-q", folder=desk.folder, stdout=writer))
    finally:
        os.close(writer)
    assert (outcome.status, outcome.err) == (0, "")
    assert run("validate", desk.out).status == 0


def test_nobody_reads_stderr(desk: Desk) -> None:
    """Warnings cannot stop the work."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        outcome = finish(start("quantize", "net.onnx", "-o", "out", folder=desk.folder, stderr=writer))
    finally:
        os.close(writer)
    assert outcome.status == 0
    assert "written: out" in outcome.out


def test_stdout_that_cannot_be_written(desk: Desk) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "w") as full:
        outcome = finish(start("quantize", "net.onnx", "-o", "out", "-q", folder=desk.folder, stdout=full))
    assert outcome.status == 2
    assert outcome.err == ("onnxdiana: error: stdout cannot be written (No space left on device); redirect it "
                           "elsewhere\n")


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    proto = model()
    proto.graph.output[0].name = proto.graph.node[-1].output[0] = "größe"
    Desk(tmp_path, proto)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    outcome = finish(start("quantize", "net.onnx", "-o", "out", folder=tmp_path, env=environment))
    assert outcome.status == 0
    assert "gr\\xf6\\xdfe" in outcome.out
    outcome = finish(start("quantize", "net.onnx", "-o", "out", "--json", folder=tmp_path, env=environment))
    assert outcome.json["layers"][-1]["output"] == "größe"


# Configuration


@pytest.mark.parametrize(("content", "message"), [
    ("bach = 64", "unknown option 'bach'; did you mean 'batch'?"),
    ("epochs = 3", "unknown option 'epochs'; there are: recover, core, target, batch, seed"),
    ("[quantize]\nbatch = 64", "unknown option 'quantize'"),
    ("batch = ", "not TOML"),
    ("batch = 'many'", "batch: 'many'; it takes a whole number of at least 1"),
    ("batch = 6.5", "batch: 6.5; it takes a whole number"),
    ("batch = true", "batch: True; it takes a whole number"),
    ("seed = -1", "seed: -1; it takes a whole number of at least 0"),
    ("recover = 'full'", "recover: 'full' is not known; it takes none, fast"),
    ("core = ['cpu']", "core: ['cpu'] is not known; it takes auto, digital, cpu"),
    ("target = 5", "target: 5; it takes a name or the path of a .py file"),
    ("rules = 5", "rules: 5; it takes the path of a .py file"),
    ("rules = 'rules.toml'", "rules: 'rules.toml'; it takes the path of a .py file"),
    ("input_shape = [1, 3, 8, 8]", "input_shape: [1, 3, 8, 8]; it takes a name and sizes of at least 1 for each input"),
    ("[input_shape]\nx = '1,3,8,8'", "input_shape: {'x': '1,3,8,8'}; it takes"),
    ("[input_shape]\nx = [1, 0, 8, 8]", "input_shape: {'x': [1, 0, 8, 8]}; it takes"),
    ("[input_shape]\nx = [true, 3]", "input_shape: {'x': [True, 3]}; it takes"),
    ("[input_shape]\nx = []", "input_shape: {'x': []}; it takes"),
])
def test_configuration_errors(desk: Desk, content: str, message: str) -> None:
    path = desk.folder / "options.toml"
    path.write_text(content)
    desk.refused(message, options=["--config", path])


def test_configuration_files_that_cannot_be_read(desk: Desk) -> None:
    missing = desk.folder / "none.toml"
    desk.refused(f"{missing}: cannot be read (No such file or directory); --config takes a TOML file",
                 options=["--config", missing])
    desk.refused(f"{desk.folder}: cannot be read (Is a directory)", options=["--config", desk.folder])
    (desk.folder / "bytes.toml").write_bytes(b"\xff\xfe")
    desk.refused("bytes.toml: cannot be read (", options=["--config", desk.folder / "bytes.toml"])


def test_the_command_line_wins_over_the_file(desk: Desk) -> None:
    path = desk.folder / "options.toml"
    path.write_text('core = "cpu"\nseed = 3\nbatch = 7\nrecover = "none"\n')
    outcome = desk.quantize("--config", path, "--seed", "5", "--json")
    options = outcome.json["options"]
    assert {key: options[key] for key in ("core", "seed", "batch", "recover")} == {
        "core": "cpu", "seed": 5, "batch": 7, "recover": "none"}
    assert {layer["core"] for layer in outcome.json["layers"]} == {"cpu"}


OPEN = "(float[N,3,H,W] x) => (float[N,4,H,W] y) <float[4,3,3,3] w> { y = Conv<pads = [1,1,1,1]>(x, w) }"


def test_sizes_that_a_model_leaves_open(tmp_path: Path) -> None:
    """From the command line or a file, where the command line wins; said in the summary."""
    desk = Desk(tmp_path, model(OPEN))
    desk.refused("--input-shape x=1,3,H,W")
    for option in ("1,3,8,8", "x=1,3,8,8"):
        summary, _ = desk.works("--input-shape", option)
        assert summary["layers"][0]["output_shape"] == [4, 8, 8]
    assert summary["options"]["input_shape"] == {"x": [1, 3, 8, 8]}
    path = desk.folder / "options.toml"
    path.write_text("[input_shape]\nx = [1, 3, 6, 6]\n")
    summary, _ = desk.works("--config", path)
    assert summary["layers"][0]["output_shape"] == [4, 6, 6]
    summary, _ = desk.works("--config", path, "--input-shape", "x=1,3,8,8")
    assert summary["layers"][0]["output_shape"] == [4, 8, 8]
    desk.refused("a shape is given for 'z', which is no input of the model", options=["--input-shape", "z=1,3,8,8"])


def test_rules_of_the_user(tmp_path: Path) -> None:
    """The summary has their file's name, and not where it lies."""
    desk = Desk(tmp_path, model("(float[N,3,8,8] x) => (float[N,4,8,8] y) <float[4,3,3,3] w> "
                                "{ t = mine.Twist(x)  y = Conv<pads = [1,1,1,1]>(t, w) }", more='"mine": 1'))
    rules = desk.folder / "rules.py"
    rules.write_text("def drop(graph):\n    for node in graph.nodes:\n        if node.op == 'Twist':\n"
                     "            for reader in list(node.outputs[0].outputs):\n"
                     "                reader.inputs[0] = node.inputs[0]\n\nRULES = [drop]\n")
    desk.refused("mine::Twist -> 't'")
    summary, _ = desk.works("--rules", rules)
    assert [layer["operator"] for layer in summary["layers"]] == ["Conv"]
    assert summary["options"]["rules"] == "rules.py"
    desk.refused("none.py: no such file", options=["--rules", desk.folder / "none.py"])


@pytest.mark.parametrize("step", ["prepared", "mapped"])
def test_options_of_another_type(step: str) -> None:
    """From Python: the message says what belongs there."""
    with pytest.raises(onnxdiana.ConfigError, match="config is a dict; give onnxdiana"):
        onnxdiana.quantize(model(), config={"batch": 3})  # type: ignore[arg-type]
    wrong = {"prepared": onnxdiana.fake_quantize, "mapped": onnxdiana.integerize}[step]
    with pytest.raises(onnxdiana.ConfigError, match=r"got a str; give the \w+ that onnxdiana\.\w+ returns"):
        wrong("net.onnx")  # type: ignore[operator]


# Targets


def test_unknown_targets(desk: Desk) -> None:
    desk.refused("unknown target 'dianna'; did you mean diana?", options=["--target", "dianna"])
    desk.refused("unknown target 'gpu'; there are: diana", options=["--target", "gpu"])
    desk.refused("none.py: no such file; --target takes a name (diana) or a .py file", options=["--target", "none.py"])


@pytest.mark.parametrize(("content", "message"), [
    ("TARGET = ", "running it failed: SyntaxError"),
    ("import nothing_of_this_name", "running it failed: ModuleNotFoundError"),
    ("raise SystemExit(0)", "running it failed: SystemExit"),
    ("TARGETS = []", "defines no TARGET; write TARGET = onnxdiana.targets.Target(...)"),
    ("TARGET = 'diana'", "defines no TARGET"),
    ("from onnxdiana.targets import Target\nTARGET = Target()", "running it failed: TypeError"),
])
def test_broken_target_files(desk: Desk, content: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = desk.folder / "chip.py"
    path.write_text(content)
    desk.refused(f"{path}: {message}", options=["--target", path])


def test_a_target_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = desk.folder / "chip.py"
    path.write_text("from onnxdiana.targets import Target\nTARGET = Target('mine')\n")
    assert desk.quantize("--target", path, "--json").json["target"] == "mine"


def test_core_digital_where_a_layer_cannot_run_there(tmp_path: Path) -> None:
    """All such layers are listed, each with all reasons."""
    text = """(float[N,3,9,9] x) => (float[N,5] y) <float[4,3,3,3] w, float[4,4,2,2] k, float[5,16] v> {
        a = Conv<strides=[3,3]>(x, w)  r = Relu(a)  b = Conv(r, k)  f = Flatten(b)  y = Gemm<transB=1>(f, v) }"""
    desk = Desk(tmp_path, model(text))
    err = desk.refused("core digital was asked for", "use --core auto to leave them to the CPU",
                       options=["--core", "digital"])
    lines = [line.strip() for line in err.splitlines() if line.startswith("  - ")]
    assert len(lines) == 3
    assert lines[0].startswith("- Conv -> 'a': ")
    assert "strides [3, 3]" in lines[0]
    assert "kernel [2, 2]" in lines[1]
    assert lines[2] == "- Gemm -> 'y': output has 5 elements, not a multiple of 4"


def test_core_digital_where_all_layers_can(tmp_path: Path) -> None:
    desk = Desk(tmp_path, model(CONV.replace("[5,64]", "[8,64]").replace("[5] u", "[8] u").replace("[N,5]", "[N,8]")
                                .replace("3,8,8", "4,8,8").replace("4,3,3,3", "4,4,3,3")))
    summary, _ = desk.works("--core", "digital")
    assert {layer["core"] for layer in summary["layers"]} == {"digital"}


# Data


def spoilt(value: float) -> np.ndarray:
    """Samples of which number 5 holds a value."""
    x = SAMPLES.copy()
    x[5, 2, 0, 7] = value
    return x


@pytest.mark.parametrize("option", ["--calib", "--eval"])
@pytest.mark.parametrize(("name", "arrays", "parts"), [
    ("d.npy", {"x": spoilt(np.nan)}, ("input 'x': sample 5 holds nan (at [2, 0, 7])", "repair or remove the sample")),
    ("d.npz", {"x": spoilt(np.inf)}, ("input 'x': sample 5 holds inf",)),
    ("d.npy", {"x": SAMPLES[0]}, ("input 'x': expected (samples, 3, 8, 8), found (3, 8, 8)", "x[None] adds it")),
    ("d.npy", {"x": SAMPLES.transpose(0, 2, 3, 1).copy()}, ("found (8, 8, 8, 3)", "x.transpose(0, 3, 1, 2)")),
    ("d.npz", {"a": SAMPLES, "b": SAMPLES}, ("which array is input 'x': 'a', 'b'?", "Say d.npz:KEY")),
    ("d.npz", {"labels": np.zeros(8)}, ("no array for input 'x'",)),
    ("d.npy", {"x": SAMPLES[:0]}, ("no samples", "give at least one")),
    ("d.npy", {"x": np.array(["a"] * 8)}, ("dtype <U1", "convert the array to float32")),
    ("d.npz", {"x": np.array([None] * 8)}, ("pickle", "convert the array to float32")),
])
def test_wrong_data(desk: Desk, option: str, name: str, arrays: dict[str, np.ndarray], parts: tuple[str, ...]) -> None:
    path = desk.save(name, **arrays)
    desk.refused(str(path), *parts, options=[option, path])


def test_wrong_names_for_two_inputs(tmp_path: Path) -> None:
    desk = Desk(tmp_path, model("(float[N,4] image, float[N,4] z) => (float[N,4] y) { y = Add(image, z) }"))
    rows = np.zeros((3, 4), np.float32)
    desk.refused("no array for input 'image' (did you mean 'images'?): there are 'images', 'z'",
                 options=["--calib", desk.save("d.npz", images=rows, z=rows)])
    desk.refused("unequal numbers of samples: 'image' has 3, 'z' has 2",
                 options=["--calib", desk.save("d.npz", image=rows, z=rows[:2])])
    desk.refused("one array for a model with 2 inputs", options=["--calib", desk.save("d.npy", x=rows)])


def test_missing_data(desk: Desk) -> None:
    desk.save("train.npz", x=SAMPLES)
    desk.refused("no such file (did you mean 'train.npz'?)", options=["--calib", desk.folder / "trian.npz"])
    desk.refused("cannot import 'no_module'", options=["--calib", "no_module:batches"])


@pytest.mark.parametrize(("content", "message"), [
    ("import sys\nsys.exit(0)", "cannot import 'MODULE' (SystemExit: 0)"),
    ("def batches():\n    raise SystemExit(0)", "the data function raised SystemExit: 0: repair it"),
    ("def batches():\n    yield 1 / 0", "the data function raised ZeroDivisionError: division by zero: repair it"),
    ("def batch():\n    pass", "module 'MODULE' has no 'batches' (did you mean 'batch'?)"),
    ("def batches():\n    yield [[1.0]]", "input 'x'"),
])
def test_broken_data_functions(desk: Desk, content: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = f"loader_{abs(hash(content))}"
    (desk.folder / f"{module}.py").write_text(content)
    desk.refused(f"{module}:batches", message.replace("MODULE", module), options=["--calib", f"{module}:batches"])


def test_labels_that_do_not_fit(desk: Desk) -> None:
    path = desk.save("test.npz", x=SAMPLES, labels=np.full(8, 5))
    desk.refused("labels (8, from 5 to 5) do not fit 8 samples with 1 answer(s) of 5 classes in output 'y'",
                 options=["--eval", path])


@pytest.mark.parametrize(("scale", "kind"), [(3e38, "NaN"), (3e37, "infinite")])
def test_activations_that_are_not_finite(tmp_path: Path, scale: float, kind: str) -> None:
    """The tensor and the first such sample are named."""
    weights = np.full_like(values(model(), "w"), scale)
    weights[:, 0] *= -1 if kind == "NaN" else 1
    desk = Desk(tmp_path, with_values(model(), w=weights))
    x = np.full_like(SAMPLES, 1e-30)
    x[6] = 10
    desk.refused(f"d.npy: tensor 'r' is {kind}", "for sample 6; check that sample and the model's weights",
                 options=["--calib", desk.save("d.npy", x=x)])


def test_evaluation(desk: Desk) -> None:
    path = desk.save("test.npz", x=SAMPLES, labels=np.arange(8) % 5)
    outcome = desk.quantize("--eval", path, "--calib", path, quiet=False)
    assert outcome.status == 0
    assert "accuracy" in outcome.out
    assert "WARNING: evaluation data are the calibration data; the figures are too good" in outcome.err


# validate


def test_validate_on_what_is_no_folder_of_ours(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("none", "file", "empty"):
        outcome = run("validate", tmp_path / name)
        assert (outcome.status, outcome.out) == (2, "")
        assert f"{name}: no {'readable summary.json' if name == 'empty' else 'such folder'}" in outcome.err
        assert "onnxdiana quantize" in outcome.err


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"format": "x"}', '{"format": "onnxdiana.summary"}',
                                     '{"format": "onnxdiana.summary", "files": 3}', "\udcff", "[" * 100_000])
def test_validate_with_a_damaged_summary(desk: Desk, content: str) -> None:
    desk.quantize()
    (desk.out / "summary.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    outcome = run("validate", desk.out)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (f"onnxdiana: error: {desk.out}: no readable summary.json; give a folder that 'onnxdiana "
                           "quantize' wrote\n")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "htvm/../../x"])
def test_validate_reads_nothing_outside(desk: Desk, name: str) -> None:
    desk.quantize()
    (desk.folder / "x").write_text("secret")
    path = desk.out / "summary.json"
    summary = json.loads(path.read_text("utf-8"))
    summary["files"][name] = "0" * 64
    path.write_text(json.dumps(summary))
    outcome = run("validate", desk.out)
    assert outcome.status == 2
    assert f"names a file outside the folder, '{name}'" in outcome.err


def test_validate_fails_where_something_changed(desk: Desk) -> None:
    desk.quantize()
    before = digests(desk.out)
    path = desk.out / "htvm" / "output.npy"
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    outcome = run("validate", desk.out)
    assert (outcome.status, outcome.err) == (1, "")
    assert "FAILED: htvm/output.npy" in outcome.out
    assert {name for name, digest in digests(desk.out).items() if digest != before[name]} == {"htvm/output.npy"}


# The process


def test_python_m_and_the_script_are_the_same_command(desk: Desk) -> None:
    script = Path(sys.executable).with_name("onnxdiana")
    commands = [[sys.executable, "-m", "onnxdiana"], *([[str(script)]] if script.exists() else [])]
    for command in commands:
        done = subprocess.run([*command, "validate", "none"], cwd=desk.folder, capture_output=True, text=True,
                              check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("onnxdiana: error: none: no such folder")


def test_a_bug_of_ours_is_said_to_be_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise KeyError("of ours")

    monkeypatch.setattr("onnxdiana.pipeline.quantize", broken)
    outcome = run("quantize", desk.model)
    assert (outcome.status, outcome.out) == (70, "")
    assert "KeyError: 'of ours'" in outcome.err
    assert "this is a bug of onnxdiana" in outcome.err


def test_too_little_memory(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("onnxdiana.pipeline.quantize", broken)
    desk.refused("the memory does not suffice; give a smaller model, or a smaller --batch")


def test_ctrl_c_before_anything_is_read(desk: Desk) -> None:
    """While onnxruntime and its kin are imported, which is when impatient people press it."""
    driver = ("import builtins, os, signal\nreal = builtins.__import__\n"
              "def watched(name, *args, **options):\n"
              "    if name == 'onnx_ir':\n        os.kill(os.getpid(), signal.SIGINT)\n"
              "    return real(name, *args, **options)\n"
              "builtins.__import__ = watched")
    outcome = finish(start("quantize", "net.onnx", folder=desk.folder, driver=driver))
    assert outcome.status == 128 + signal.SIGINT
    assert outcome.err == "onnxdiana: interrupted; nothing half-written is left\n"
    assert os.listdir(desk.folder) == ["net.onnx"]
