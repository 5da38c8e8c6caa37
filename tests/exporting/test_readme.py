"""The README of a bundle: whatever can be run or computed of what it says is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from integer_graphs import RELU, Case, GraphBuilder, extremes
from test_tail import TEXTS, samples
from tiny import model

from onnxdiana import prepare, quantize, reference
from onnxdiana.exporting.htvm import handed_over
from onnxdiana.exporting.readme import Contents, contents, readme
from onnxdiana.exporting.variants import DORY_FILE, TAIL_FILE, int8_input, tail_model
from onnxdiana.handoff.findings import Finding, Handoff, Region
from onnxdiana.runtime import Runner
from onnxdiana.tail import Tail, split

FINDINGS = (
    Finding("W1", "Gemm -> 'first'", "10 outputs", "a multiple of 4", "use 12 outputs"),
    Finding("H1", "Conv -> 'a'", "width 8", "a multiple of 16", "use maps of 16, 32"),
    Finding("H1", "Conv -> 'b'", "width 4", "a multiple of 16", "use maps of 16, 32"),
)
REGIONS = (Region("a", "conv", "digital", ()), Region("b", "depthwise", "digital", ()),
           Region("c", "conv", "digital", ()), Region("r", "Relu", "cpu", ()),
           Region("s", "Relu", "cpu", ()), Region("first", "dense", "cpu", (), None, ("W1", "W5")))
HANDOFF = Handoff("htvm/model.onnx", FINDINGS, REGIONS, ("a note of the checker's",))
QUIET = Handoff("htvm/model.onnx", (), REGIONS[:3])
PLAIN = Contents((1, 3, 4, 4), -3, (-128, 127), None, "y", (1, 4), 2, 5)


def small(exponent: int = -3, perm: bool = False) -> Case:
    """A convolution of an image, perhaps channels last."""
    build = GraphBuilder(*((4, 5, 3) if perm else (3, 4, 5)), exponent=exponent, codes=(-100, 90))
    entry = build.move("Transpose", "x", "turned", perm=[0, 3, 1, 2]) if perm else "x"
    weight = np.random.default_rng(0).integers(-128, 128, (4, 3, 1, 1))
    return build.build(build.conv(entry, "y", weight, shift=7, codes=RELU))


def told(case: Case, **options: Any) -> Contents:
    assert case.spellings.htvm is not None
    return contents(case.integer, case.spellings.htvm, split(case.view.model)[1], 5, **options)


def line(text: str, start: str) -> str:
    found = [row for row in text.splitlines() if row.startswith(start)]
    assert len(found) == 1, (start, found)
    return found[0]


def section(text: str, title: str) -> str:
    """From one heading to the next."""
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    return parts[title].strip()


# -- what it says is true ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("perm", [False, True])
@pytest.mark.parametrize("exponent", [-13, -12, -3, 0, 5, 30])
def test_the_formulas(exponent: int, perm: bool) -> None:
    """Of the input's codes, of its permutation, of the output's step: evaluated, they give what the reference gives."""
    case = small(exponent, perm)
    sample = {"x": case.floats(extremes(case))["x"][-1:]}
    expected = reference.run(case.integer, sample, ["x.quantized", "y.quantized", "y"])
    text = section(readme(told(case), QUIET), "Input and output")
    x = sample["x"]
    if perm:
        permuted = re.search(r"`(x\.transpose\(.*\))`", text)
        assert permuted is not None
        x = eval(permuted[1], {"x": x})
    else:
        assert "transpose" not in text
    np.testing.assert_array_equal(x, handed_over(case.integer, sample["x"]))
    formula = re.search(r"`(clip\(.*\))`", line(text, "* `input`, float32 [1, 3, 4, 5]"))
    assert formula is not None
    codes = eval(formula[1], {"x": x.astype(np.float64), "clip": np.clip, "floor": np.floor})
    np.testing.assert_array_equal(codes, handed_over(case.integer, expected["x.quantized"]))
    step = re.search(r"int8 codes times (.*)\.$", line(text, "* `y`, float32 [1, 4, 4, 5]"))
    assert step is not None
    np.testing.assert_array_equal(expected["y.quantized"] * float(eval(step[1])), expected["y"])


@pytest.mark.parametrize("exponent", [*range(-20, 25), -126, 127])
def test_powers_are_exact(exponent: int) -> None:
    text = readme(dataclasses.replace(PLAIN, output_exponent=exponent), QUIET)
    step = re.search(r"int8 codes times (.*)\.$", line(text, "* `y`"))
    assert step is not None
    assert eval(step[1]) == 2.0**exponent


def test_the_contents() -> None:
    case = small(-3, perm=True)
    assert told(case, vectors=3, dory=True, int8=True) == Contents(
        (1, 3, 4, 5), -3, (-100, 90), (0, 3, 1, 2), "y", (1, 4, 4, 5), -3, 5, (), 3, 13, True, True)
    assert case.spellings.htvm is not None
    assert contents(case.integer, case.spellings.htvm, Tail(None, ("y",)), 5) == told(case)
    twin = contents(case.integer, int8_input(case.spellings.htvm), Tail(None, ("y",)), 5, int8=True)
    assert twin == told(case, int8=True)


@pytest.mark.parametrize("name", ["softmax", "the best three", "normalized"])
def test_the_snippet(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three lines that the host runs in the folder."""
    given = model(TEXTS[name])
    result = quantize(given, samples())
    tail = prepare(given).tail
    found = tail_model(tail)
    assert found is not None
    handed = onnx.load_from_string(result.files["htvm/model.onnx"])
    described = dataclasses.replace(PLAIN, tail=tuple(tail.operators), output_name=handed.graph.output[0].name)
    text = readme(described, QUIET)
    snippet = re.search(r"```python\n(.*?)```", section(text, "Behind the output"), re.DOTALL)
    assert snippet is not None
    assert len(snippet[1].splitlines()) == 3
    (tmp_path / TAIL_FILE).write_bytes(found.SerializeToString())
    (tmp_path / "output.npy").write_bytes(result.files["htvm/output.npy"])
    monkeypatch.chdir(tmp_path)
    values: dict[str, Any] = {}
    exec(snippet[1], values)
    integer = onnx.load_from_string(result.files["model.int.onnx"])
    expected = Runner(integer).run({"x": samples(1)})
    for answer, output in zip(values["answers"], found.graph.output, strict=True):
        np.testing.assert_array_equal(answer, expected[output.name])


# -- what it says -----------------------------------------------------------------------------------------------------


def test_the_commands() -> None:
    """HTVM's driver, as docs/htvm-dialect.md and HTVM's own README call it."""
    text = section(readme(PLAIN, QUIET), "Run it")
    block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    assert [row for row in block[1].splitlines() if not row.startswith("#")] == [
        "python3 $BYOC/driver.py --no-run --device x86 --target c --onnx model.onnx",
        "python3 $BYOC/driver.py --no-run --onnx model.onnx"]
    assert "macs_report.txt" not in text
    assert "macs_report.txt" in section(readme(PLAIN, Handoff("m", (), REGIONS[3:])), "Run it")


def test_what_to_expect() -> None:
    text = section(readme(PLAIN, HANDOFF), "What to expect")
    assert line(text, "* x86: `demo` returns 0")
    assert line(text, "* On the acc") == "* On the accelerator: 2 conv, 1 depthwise (3 in all)."
    assert line(text, "* Layers") == "* Layers on the RISC-V core: dense `first` (W1, W5)."
    assert line(text, "* Besides") == "* Besides, on the RISC-V core: 2 Relu."
    assert line(text, "* a note") == "* a note of the checker's"
    assert section(readme(PLAIN, QUIET), "What to expect").count("RISC-V") == 0
    assert "* On the accelerator: nothing." in readme(PLAIN, Handoff("m", ()))


def test_warnings_are_told_once_a_code() -> None:
    text = section(readme(PLAIN, HANDOFF), "Warnings")
    assert text.splitlines() == [
        "* W1 (falls to the CPU), `Gemm -> 'first'`: found 10 outputs; needed: a multiple of 4; use 12 outputs",
        "* H1 (wrong on silicon), at 2 places, the first `Conv -> 'a'`: found width 8; needed: a multiple of 16; use "
        "maps of 16, 32"]
    assert "## Warnings" not in readme(PLAIN, QUIET)


def files_of(text: str) -> list[str]:
    return re.findall(r"^\| `(.*?)` \|", section(text, "Files"), re.MULTILINE)


def test_the_files() -> None:
    """Those that are there, and no other."""
    own = ["model.onnx", "input.npy", "output.npy", "intermediate_<i>.npy", "manifest.json"]
    assert files_of(readme(PLAIN, QUIET)) == own
    everything = dataclasses.replace(PLAIN, tail=("Softmax",), vectors=16, dory=True, int8=True, opset=10)
    text = readme(everything, QUIET)
    assert files_of(text) == [*own, TAIL_FILE, "../vectors/", f"../{DORY_FILE}"]
    assert "opset 10" in line(text, "| `model.onnx`")
    assert "further samples (15)" in line(text, "| `../vectors/`")
    assert "further samples (1)" in line(readme(dataclasses.replace(PLAIN, vectors=2), QUIET), "| `../vectors/`")
    assert "5 requantized tensors" in line(text, "| `intermediate_<i>.npy`")


def test_codes_in() -> None:
    """The range, the step, what HTVM does, what to do instead and what it costs."""
    text = readme(dataclasses.replace(PLAIN, input_codes=(-7, 90), int8=True), QUIET)
    assert line(text, "* `input`") == (
        "* `input`, int8 [1, 3, 4, 4]: codes from -7 to 90, which nothing clips; a code q stands for q times 0.125.")
    assert line(text, "| `input.npy`") == "| `input.npy` | one sample, int8 |"
    for part in ("HTVM 132018d", "read, not run", "`--io int8`", "q times 0.125", "48 divisions"):
        assert part in section(text, "Codes in")
    plain = readme(PLAIN, QUIET)
    assert "## Codes in" not in plain
    assert line(plain, "| `input.npy`") == "| `input.npy` | one sample, float32 |"


def test_names_from_the_model_stay_on_their_line() -> None:
    name = "a`b\n## c\u2028d"
    text = readme(dataclasses.replace(PLAIN, output_name=name, tail=("Softmax",)),
                  Handoff("m", (), (Region(name, "dense", "cpu", (), None, ("W1",)),)))
    assert r"`a\u0060b\u000a## c\u2028d`, float32" in text
    assert r"dense `a\u0060b\u000a## c\u2028d` (W1)" in text
    assert repr(name) in text
    assert "\n## c" not in text


def test_no_machine_and_no_time() -> None:
    """The same text every time; nothing in it that looks like a date or an absolute path."""
    full = dataclasses.replace(PLAIN, tail=("Softmax",), vectors=16, dory=True, int8=True)
    text = readme(full, HANDOFF)
    assert text == readme(dataclasses.replace(full), dataclasses.replace(HANDOFF))
    assert not re.search(r"\b(19|20)\d\d\b|\d\d:\d\d", text)
    assert not re.search(r"(?:^|[\s`'\"(])(/\w|~|[A-Z]:\\)", text)
    assert text.endswith("holds this one.\n")
    assert text.count("\n\n\n") == 0
