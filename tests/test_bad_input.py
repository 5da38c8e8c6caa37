"""The main job's list of bad input, one by one, through the public command.

Exit status 2 and a message that says what, where and what to do; 0 where the input works or is converted; 130 for
Ctrl-C; and after ``kill -9`` no folder, or the old one whole. The input file is never changed: every run checks that.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import SAMPLES, Desk, Outcome, finish, run, start
from onnx import ModelProto, TensorProto
from tiny import CONV, digests, initializer, model, outside, values, with_values


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk with a good model on it."""
    return Desk(tmp_path, model())


# Files


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    data = model().SerializeToString()
    Desk(tmp_path, data[:int(share * len(data))]).refused("'net.onnx'", "download or export it again")


@pytest.mark.parametrize("data", [b"# A text file\n" * 20, bytes(4096), np.random.default_rng(0).bytes(4096)])
def test_non_onnx_file(tmp_path: Path, data: bytes) -> None:
    Desk(tmp_path, data).refused("'net.onnx' is not an ONNX model, or was cut short", "download or export it again")


def test_no_file_or_none_that_can_be_read(desk: Desk) -> None:
    desk.model.rename(desk.folder / "network.onnx")
    desk.refused(f"'{desk.model}' does not exist", f"did you mean '{desk.folder}/network.onnx'?")
    desk.model.mkdir()
    desk.refused(f"'{desk.model}' is a folder: give the path of an .onnx file")
    desk.model.rmdir()
    os.mkfifo(desk.model)  # waiting for its writer would never end
    desk.refused("is not a regular file: give the path of an .onnx file")


# Initializers


def test_missing_initializers(tmp_path: Path) -> None:
    proto = model()
    proto.graph.initializer.remove(initializer(proto, "v"))
    Desk(tmp_path, proto).refused("Gemm -> 'y' reads 'v', which no node computes and no initializer holds",
                                  "export the model again")


@pytest.mark.parametrize(("dims", "message"), [
    ([2**40, 3, 3, 3], "beyond 2 GiB, which one ONNX file cannot hold: quantize a smaller model"),
    ([4, 3, 3, 4], "needs 576 bytes and has 432: the file is damaged, export the model again"),
])
def test_oversized_initializers(tmp_path: Path, dims: list[int], message: str) -> None:
    proto = model()
    initializer(proto, "w").dims[:] = dims
    Desk(tmp_path, proto).refused(f"initializer 'w' of shape {dims}", message)


@pytest.mark.parametrize(("old", "new", "parts"), [
    ("float[5,64] v", "float[5,65] v", ("Gemm -> 'y'", "sizes do not fit together")),
    ("float[4,3,3,3] w", "float[4,2,3,3] w", ("onnxruntime failed to run the model", "Conv")),
])
def test_initializers_of_the_wrong_size(tmp_path: Path, old: str, new: str, parts: tuple[str, ...]) -> None:
    Desk(tmp_path, model(CONV.replace(old, new))).refused(*parts, "export")


@pytest.mark.parametrize("location", [
    "../w.bin", "/etc/passwd", "sub/../../w.bin", "..\\w.bin", "C:\\w.bin", "link.bin"])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    data = values(model(), "w").tobytes()
    (tmp_path / "w.bin").write_bytes(data)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "w.bin")
    Desk(tmp_path / "in", outside(model(), "w", location)).refused(
        f"initializer 'w' lies in '{location}', outside the model's folder", "move the file there")


def test_external_data(tmp_path: Path) -> None:
    desk = Desk(tmp_path, outside(model(), "w", "w.bin"))
    desk.refused("initializer 'w' lies in 'w.bin', which cannot be read (no such file): put that file beside the model")
    data = values(model(), "w").tobytes()
    (tmp_path / "w.bin").write_bytes(data[:-1])
    desk.refused("initializer 'w' needs 432 bytes at 0 of 'w.bin', which is shorter: the file is damaged")
    (tmp_path / "w.bin").write_bytes(data)
    desk.works()


# Versions and operators


@pytest.mark.parametrize(("opset", "what"), [(6, "old"), (onnx.defs.onnx_opset_version() + 1, "new")])
def test_opset_too_old_or_new(tmp_path: Path, opset: int, what: str) -> None:
    proto = model()
    proto.opset_import[0].version = opset
    Desk(tmp_path, proto).refused(f"opset {opset} is too {what}: opsets 7 to", "at opset 20")


@pytest.mark.parametrize("opset", [7, 10, 13, onnx.defs.onnx_opset_version()])
def test_other_opsets_work(tmp_path: Path, opset: int) -> None:
    summary, err = Desk(tmp_path, model(opset=opset)).works()
    assert summary["model"]["opset"] == opset
    assert f"opset {opset} {'read as' if opset > 20 else 'raised to'} 20" in err


UNSUPPORTED = """(float[N,3,8,8] x) => (float[N,5] y) <float[4,3,3,3] w, float[5,256] v, float[5] u,
    float[5,5] z> {
    a = Conv<pads=[1,1,1,1]>(x, w)  b = OPERATOR(a)  c = Flatten(b)  d = Softmax(c)  e = Gemm<transB=1>(d, v, u)
    f = LogSoftmax(e)  y = Gemm<transB=1>(f, z, u) }"""
OTHERS = ("- Softmax -> 'd': end the model with it, or before it",
          "- LogSoftmax -> 'f': end the model with it, or before it")


@pytest.mark.parametrize("opset", [13, 20, onnx.defs.onnx_opset_version()])
@pytest.mark.parametrize(("operator", "named"), [
    ("acme.Fancy", "acme::Fancy"), ("com.microsoft.QuickGelu", "com.microsoft::QuickGelu"),
    ("Fancy", "opset-{opset}::Fancy"), ("Round", "Round")])
def test_operators_without_a_quantized_form(tmp_path: Path, operator: str, named: str, opset: int) -> None:
    """All of them at once: custom domains, imported or not, unknown ones, and the known in one list."""
    err = Desk(tmp_path, model(UNSUPPORTED.replace("OPERATOR", operator), opset)).refused(*OTHERS)
    assert "3 operator(s) have no quantized form:" in err
    assert f"- {named.format(opset=opset)} -> 'b': " in err
    assert " -> 'b': known operators are Abs, Add, " in err


def test_operators_without_a_quantized_form_at_an_old_opset(tmp_path: Path) -> None:
    """What the conversion makes of them is listed beside them."""
    Desk(tmp_path, model(UNSUPPORTED.replace("OPERATOR", "acme.Fancy"), 8)).refused(
        "acme::Fancy -> 'b'", "LogSoftmax -> ")


def test_control_flow_operators(tmp_path: Path) -> None:
    text = """(float[N,4] x) => (float[N,4] y) { k = Constant<value_float=1.0>() s = ReduceSum<keepdims=0>(x)
        c = Greater(s, k) b = If(c) <then_branch = t () => (float[N,4] p) { p = Relu(x) },
                                     else_branch = e () => (float[N,4] q) { q = Abs(x) }>  y = Tanh(b) }"""
    Desk(tmp_path, model(text, 13)).refused(
        "If -> 'b': export a traced model without control flow", "Greater -> 'c'", "ReduceSum -> 's'")


@pytest.mark.parametrize(("kind", "name"), [
    (TensorProto.FLOAT16, "float16"), (TensorProto.DOUBLE, "float64"), (TensorProto.BFLOAT16, "bfloat16")])
def test_other_float_types_are_converted(tmp_path: Path, kind: int, name: str) -> None:
    text = CONV.replace("float[", {"float64": "double"}.get(name, name) + "[")
    proto = model(text)
    assert initializer(proto, "w").data_type == kind
    summary, err = Desk(tmp_path, proto).works()
    note = f"{name} model converted to float32"
    assert f"onnxdiana: {note}\n" in err
    assert summary["model"]["notes"] == [note]


# Interface


TWO = {
    "inputs": ("(float[N,4] x, float[N,4] z) => (float[N,4] y) <float[4,4] w> { a = MatMul(x, w) y = Add(a, z) }",
               "the model has 2 inputs; HTVM takes one: split the model"),
    "outputs": ("(float[N,4] x) => (float[N,3] y, float[N,2] z) <float[4,3] w, float[4,2] v> "
                "{ y = MatMul(x, w) z = MatMul(x, v) }", "the model has 2 outputs; HTVM takes one: split the model"),
}


@pytest.mark.parametrize("which", TWO)
def test_two_inputs_or_outputs(tmp_path: Path, which: str) -> None:
    """Quantized, but HTVM cannot take it: there is no ``htvm/``, and it is said why."""
    text, reason = TWO[which]
    desk = Desk(tmp_path, model(text))
    summary, err = desk.works()
    assert not (desk.out / "htvm").exists()
    assert (summary["handoff"]["written"], summary["handoff"]["obstacles"]) == (False, [reason])
    assert f"htvm/ is not written; HTVM cannot express:\nonnxdiana:   - {reason}" in err
    assert not any(name.startswith("htvm") for name in summary["files"])


def test_two_inputs_with_data_by_name(tmp_path: Path) -> None:
    desk = Desk(tmp_path, model(TWO["inputs"][0]))
    rows = np.random.default_rng(0).standard_normal((2, 10, 4)).astype(np.float32)
    data = desk.save("data.npz", x=rows[0], z=rows[1])
    summary, _ = desk.works("--calib", data)
    assert summary["calibration"]["samples"] == 10


@pytest.mark.parametrize(("shape", "message"), [
    ("float", "input 'x' is a scalar: export it with a first axis that counts samples"),
    ("float[N,C,8]", "axis 1 of input 'x' has symbolic size 'C': export the model with fixed sizes on all axes but"),
    ("float[N,3,?]", "axis 2 of input 'x' has unknown size: export the model with fixed sizes on all axes but"),
    ("float[]", "input 'x' has no shape: export the model with fixed sizes"),
])
def test_a_scalar_or_unknown_dimension(tmp_path: Path, shape: str, message: str) -> None:
    Desk(tmp_path, model(f"({shape} x) => ({shape} y) {{ y = Relu(x) }}")).refused(message)


@pytest.mark.parametrize("batch", ["N", "?", "4", "1"])
def test_any_batch_dimension_works(tmp_path: Path, batch: str) -> None:
    text = CONV.replace("N,3", f"{batch},3").replace("N,5", f"{batch},5")
    desk = Desk(tmp_path, model(text))
    summary, _ = desk.works("--calib", desk.save("data.npy", x=SAMPLES[:7]))
    assert summary["calibration"]["samples"] == 7


@pytest.mark.parametrize(("text", "message"), [
    ("(float[N,4] x) => (float[N,4] x) { y = Relu(x) }", "output 'x' is the input of the same name"),
    ("(float[N,4] x) => (float[N,4] y) { y = Identity(x) }", "Identity -> 'y': it returns the input"),
    ("(float[N,4] x) => (float[N,4] y, float[N,4] x) { y = Relu(x) }", "output 'x' is the input of the same name"),
])
def test_a_graph_whose_output_is_its_input(tmp_path: Path, text: str, message: str) -> None:
    Desk(tmp_path, model(text)).refused(message, "nothing to quantize", "out of the outputs" if " is the" in message
                                        else "leave out that output")


# Values


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    weights = values(model(), "v").copy()
    weights[3, 17] = value
    Desk(tmp_path, with_values(model(), v=weights)).refused(
        f"initializer 'v' holds {value} at [3, 17]", "train or export the model again")


def dead(name: str, channel: int | slice) -> ModelProto:
    """The model with a channel (or all) of one weight zero, its bias too."""
    weights = values(model(), name).copy()
    weights[channel] = 0
    bias = values(model(), {"w": "b", "v": "u"}[name]).copy()
    bias[channel] = 0
    return with_values(model(), **{name: weights, {"w": "b", "v": "u"}[name]: bias})


@pytest.mark.parametrize("name", ["w", "v"])
@pytest.mark.parametrize("channel", [slice(None), 2], ids=["all zero", "dead channel"])
def test_zero_weights_work(tmp_path: Path, name: str, channel: int | slice) -> None:
    desk = Desk(tmp_path, dead(name, channel))
    desk.works("--calib", desk.save("data.npy", x=SAMPLES))


def test_a_channel_that_a_relu_kills_works(tmp_path: Path) -> None:
    bias = values(model(), "b").copy()
    bias[1] = -1e4
    desk = Desk(tmp_path, with_values(model(), b=bias))
    desk.works("--calib", desk.save("data.npy", x=SAMPLES))


def test_nothing_but_zeros_works(tmp_path: Path) -> None:
    proto = model()
    zeros = {name: np.zeros_like(values(proto, name)) for name in "wbvu"}
    desk = Desk(tmp_path, with_values(proto, **zeros))
    desk.works("--calib", desk.save("data.npy", x=np.zeros_like(SAMPLES)))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_weights_of_extreme_size(tmp_path: Path, scale: float) -> None:
    """Quantized where a chip could do it, else refused; never a traceback."""
    desk = Desk(tmp_path, with_values(model(), w=values(model(), "w") * np.float32(scale)))
    outcome = desk.quantize("--calib", desk.save("data.npy", x=SAMPLES))
    assert outcome.status in (0, 2)
    assert (outcome.err == "") == (outcome.status == 0)


# The output folder


def test_an_existing_folder_of_ours_is_replaced(desk: Desk) -> None:
    desk.works()
    before = digests(desk.out)
    desk.works("--calib", desk.save("data.npy", x=SAMPLES))
    assert digests(desk.out) != before


def test_an_existing_folder_of_others_stays(desk: Desk) -> None:
    desk.works()
    (desk.out / "notes.txt").write_text("mine")
    desk.refused(f"{desk.out} exists and holds files that we did not write",
                 "choose another with -o, or --force to move it aside")
    before = digests(desk.out)
    outcome = run("quantize", desk.model, "-o", desk.out, "--force")
    assert outcome.status == 0
    assert f"the folder that stood there is now {desk.out}.before" in outcome.err
    assert digests(desk.folder / "out.before") == before
    assert run("validate", desk.out).status == 0


def test_what_stands_there_is_no_folder(desk: Desk) -> None:
    desk.out.write_text("mine")
    before = run("quantize", desk.model, "-o", desk.out, "-q", "--force")
    assert before.status == 2
    assert f"{desk.out} exists and is no folder; choose another with -o" in before.err
    assert desk.out.read_text() == "mine"
    desk.out.unlink()
    desk.out.symlink_to(desk.folder / "elsewhere")
    (desk.folder / "elsewhere").mkdir()
    desk.refused("is a symbolic link; give the folder that it leads to")
    assert desk.out.is_symlink()


def test_the_folder_of_the_model(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ([], ["--force"]):
        outcome = run("quantize", desk.model, "-o", desk.folder, "-q", *options)
        assert outcome.status == 2
        assert f"{desk.folder} holds the model itself; choose another folder with -o" in outcome.err
    desk.works()  # nor may a folder of ours that holds it be replaced
    outcome = run("quantize", desk.out / "model.float.onnx", "-o", desk.out, "-q")
    assert (outcome.status, "holds the model itself" in outcome.err) == (2, True)
    monkeypatch.chdir(desk.out)
    outcome = run("quantize", desk.model, "-o", ".", "-q")
    assert (outcome.status, "is the current folder" in outcome.err) == (2, True)


def test_a_missing_parent(desk: Desk) -> None:
    desk.refused(f"{desk.folder}/none: no such folder; create it first", options=["-o", desk.folder / "none" / "out"])


@pytest.mark.parametrize("parent", ["/proc", "/sys"])
def test_a_real_disk_that_cannot_be_written(desk: Desk, parent: str) -> None:
    """Neither takes folders, from the superuser either."""
    if not Path(parent).is_dir():
        pytest.skip(f"there is no {parent} here")
    desk.refused(f"{parent}/onnxdiana-test cannot be written (", "choose another folder with -o",
                 options=["-o", f"{parent}/onnxdiana-test"])


def test_a_read_only_disk(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before the work is done: the data are not even looked at."""
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        desk.refused(f"{desk.out} cannot be written (Read-only file system); choose another folder with -o",
                     options=["--calib", "missing.npz"])


@pytest.mark.parametrize("before", [False, True])
def test_a_disk_that_gets_full(desk: Desk, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    """In the middle of writing: nothing is half-written, the old folder is whole."""
    if before:
        desk.works()
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        desk.refused(f"{desk.out} cannot be written (No space left on device), and nothing was changed",
                     "make room, or choose another folder with -o")
    assert desk.out.exists() == before
    desk.works()


# Signals


LOADER = """
import pathlib, time
import numpy as np

def batches():
    for index in range(1000):
        yield np.random.default_rng(index).standard_normal((4, 3, 8, 8)).astype("float32")
        pathlib.Path("started").touch()
        time.sleep(0.05)
"""
"""Calibration data that say when they are read, and would take most of a minute."""

AT_CALL = """
import os, signal
calls = 0
def watched(function):
    def call(*args, **options):
        global calls
        calls += 1
        if calls == {number}:
            os.kill(os.getpid(), signal.{signal})
        return function(*args, **options)
    return call
os.{function} = watched(os.{function})
"""
"""The process sends itself a signal at some call of a function, while it writes the folder."""


def while_calibrating(desk: Desk, number: int) -> Outcome:
    """Send a signal to a run that is reading calibration data."""
    (desk.folder / "loader.py").write_text(LOADER)
    process = start("quantize", "net.onnx", "--calib", "loader:batches", "-o", "out", folder=desk.folder)
    deadline = time.monotonic() + 60
    while not (desk.folder / "started").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    return finish(process)


def while_writing(desk: Desk, function: str, call: int, name: str) -> Outcome:
    """Send a signal at a call of a function that writes the folder."""
    driver = AT_CALL.format(function=function, number=call, signal=name)
    return finish(start("quantize", "net.onnx", "-o", "out", "-q", folder=desk.folder, driver=driver))


@pytest.mark.parametrize("before", [False, True])
def test_ctrl_c_while_calibrating(desk: Desk, before: bool) -> None:
    if before:
        desk.works()
    whole, given = digests(desk.out), desk.model.read_bytes()
    outcome = while_calibrating(desk, signal.SIGINT)
    assert outcome.status == 130
    assert outcome.err.endswith("onnxdiana: interrupted; nothing half-written is left\n")
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert digests(desk.out) == whole
    assert not desk.leftovers()
    assert desk.model.read_bytes() == given


@pytest.mark.parametrize(("function", "call"), [("fsync", 1), ("fsync", 9), ("replace", 1), ("replace", 2)])
def test_ctrl_c_while_writing(desk: Desk, function: str, call: int) -> None:
    desk.works("--seed", "1")
    whole = digests(desk.out)
    outcome = while_writing(desk, function, call, "SIGINT")
    assert outcome.status == 130
    assert "Traceback" not in outcome.err
    assert digests(desk.out) == whole
    assert not desk.leftovers()


@pytest.mark.parametrize("before", [False, True])
def test_kill_while_calibrating(desk: Desk, before: bool) -> None:
    if before:
        desk.works()
    whole, given = digests(desk.out), desk.model.read_bytes()
    assert while_calibrating(desk, signal.SIGKILL).status == -signal.SIGKILL
    assert digests(desk.out) == whole
    assert desk.model.read_bytes() == given
    desk.works()


@pytest.mark.parametrize(("before", "function", "call"), [
    (False, "mkdir", 4), (False, "fsync", 1), (False, "fsync", 9), (False, "replace", 1),
    (True, "fsync", 1), (True, "fsync", 9), (True, "replace", 1), (True, "replace", 2)])
def test_kill_while_writing(desk: Desk, before: bool, function: str, call: int) -> None:
    """There is no folder, or the old one, whole; what was written aside goes with the next run."""
    if before:
        desk.works("--seed", "1")
    whole, given = digests(desk.out), desk.model.read_bytes()
    assert while_writing(desk, function, call, "SIGKILL").status == -signal.SIGKILL
    assert digests(desk.out) == (whole if (function, call) != ("replace", 2) else {})
    assert desk.leftovers()
    assert desk.model.read_bytes() == given
    for path in desk.folder.glob(".*"):
        assert path.name.startswith(".out.")
    outcome = run("quantize", desk.model, "-o", desk.out, "-q")
    assert (outcome.status, outcome.err) == (0, "")
    assert not desk.leftovers()
    assert run("validate", desk.out).status == 0
