"""``htvm/README.md``: what the files of a hand-over are, how HTVM is run on them, and what comes out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.exporting.htvm import input_permutation
from onnxdiana.exporting.variants import DORY_FILE, TAIL_FILE
from onnxdiana.graph import name_of
from onnxdiana.handoff.findings import Handoff, grouped
from onnxdiana.tail import Tail

HTVM_COMMIT, DORY_COMMIT = "132018d", "8a0fe7b"
"""What was looked at of HTVM's ``main``, and the DORY that it pins (docs/htvm-dialect.md)."""


@dataclass(frozen=True)
class Contents:
    """The bundle as its README tells it."""

    input_shape: tuple[int, ...]
    """Of the hand-over graph, batch 1."""
    input_exponent: int
    """A code ``q`` stands for ``q * 2**exponent``."""
    input_codes: tuple[int, int]
    """Least and largest."""
    input_permutation: tuple[int, ...] | None
    """Axes from the float model's input to the hand-over graph's, where they differ."""
    output_name: str
    output_shape: tuple[int, ...]
    output_exponent: int
    intermediates: int
    """Number of ``intermediate_<i>.npy``."""
    tail: tuple[str, ...] = ()
    """Operator types that stay in float behind the output."""
    vectors: int = 1
    """Samples with vectors: one beside the model, the others in ``../vectors``."""
    opset: int = 13
    dory: bool = False
    """Whether the DORY-annotated twin is there."""
    int8: bool = False
    """Whether the input takes codes."""


def contents(
    integer: ir.Model, htvm: onnx.ModelProto, tail: Tail, intermediates: int, *, vectors: int = 1, dory: bool = False,
    int8: bool = False
) -> Contents:
    """What is to be told of a hand-over.

    Args:
        integer: the integer graph.
        htvm: the hand-over graph written of it.
        tail: of the float model.
        intermediates, vectors, dory, int8: as in :class:`Contents`.
    """
    quantizer = next(iter(integer.graph.inputs[0].uses())).node
    dequantizer = integer.graph.outputs[0].producer()
    assert dequantizer is not None
    perm = input_permutation(integer)
    return Contents(
        _shape(htvm.graph.input[0]), graph.attribute(quantizer, "exponent"),
        (graph.attribute(quantizer, "lo"), graph.attribute(quantizer, "hi")), None if perm is None else tuple(perm),
        name_of(integer.graph.outputs[0]), _shape(htvm.graph.output[0]), graph.attribute(dequantizer, "exponent"),
        intermediates, tuple(tail.operators), vectors, htvm.opset_import[0].version, dory, int8)


def readme(found: Contents, handoff: Handoff) -> str:
    """The text: the same for the same model, with no times, users or paths of a machine in it.

    Args:
        found: what is in the bundle.
        handoff: what the checker says of ``model.onnx``.
    """
    parts = [
        "# A network for HTVM and DIANA\n\nWritten by onnxdiana: integers and powers of two only.",
        _section("Files", _files(found)),
        _section("Run it", _commands(handoff)),
        _section("What to expect", _expected(handoff)),
        _section("Input and output", _interface(found)),
        *([_section("Behind the output", _tail(found))] if found.tail else []),
        *([_section("Codes in", _int8(found))] if found.int8 else []),
        _section("Warnings", _warnings(handoff)) if handoff.findings else "",
        _section("Checked against", [
            f"HTVM at commit {HTVM_COMMIT} of `main` with DORY at {DORY_COMMIT}: read, and run on x86; no chip was at "
            "hand. Other commits may differ.", "",
            "Check again with `onnxdiana handoff DIR`, where DIR is the folder that holds this one."]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


def _files(found: Contents) -> list[str]:
    rows = [
        ("model.onnx", f"the network, opset {found.opset}, IR version 8: float32-typed tensors that hold integers"),
        ("input.npy", f"one sample, {_input_type(found)}"),
        ("output.npy", "its exact answer, float32; HTVM's program compares its own with it"),
        ("intermediate_<i>.npy", f"that sample's codes of the {found.intermediates} requantized tensors in execution "
         "order, float32; 0 is the quantized input"),
        ("manifest.json", "names, exponents, and the sha256 of every file"),
    ]
    if found.tail:
        rows.append((TAIL_FILE, "what stays in float behind the network, for the host"))
    if found.vectors > 1:
        rows.append(("../vectors/", f"vectors of further samples ({found.vectors - 1}), a folder each; HTVM would take "
                     "every .npy that lies beside the model for its own"))
    if found.dory:
        rows.append((f"../{DORY_FILE}", "the same network with attributes for DORY, which HTVM rejects"))
    return ["| file | what |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows)]


def _commands(handoff: Handoff) -> list[str]:
    lines = [
        "In this folder, where `$BYOC` is the folder `diana/byoc` of HTVM:", "",
        "```sh",
        "# x86, the whole network in C",
        "python3 $BYOC/driver.py --no-run --device x86 --target c --onnx model.onnx",
        "# DIANA",
        "python3 $BYOC/driver.py --no-run --onnx model.onnx",
        "```", "",
        "Outside HTVM's container add `--byoc_path $BYOC`, for DIANA also `--dory_path`; x86 needs gcc's 32-bit "
        "libraries. Programs go below what `--build_dir` names, to `digital_x86_c_fused_O3_None/x86/demo` and "
        "`digital_pulp_dory_fused_O3_None/pulp/`. Look whether they are there: DORY ends with status 0 where it finds "
        "no tiling.",
    ]
    if not handoff.offloaded:
        lines += ["", "The driver stops with a missing `macs_report.txt` for DIANA, since nothing is offloaded."]
    return lines


def _expected(handoff: Handoff) -> list[str]:
    lines = ["* x86: `demo` returns 0, which says that `output.npy` was reproduced number for number; else it prints "
             "the differences and aborts (status 134)."]
    total = sum(handoff.offloaded.values())
    counts = ", ".join(f"{count} {kind}" for kind, count in handoff.offloaded.items())
    lines.append(f"* On the accelerator: {counts} ({total} in all)." if total else "* On the accelerator: nothing.")
    layers = [region for region in handoff.regions if region.core == "cpu" and region.because]
    if layers:
        lines.append("* Layers on the RISC-V core: " + ", ".join(
            f"{region.kind} {_code(region.name)} ({', '.join(region.because)})" for region in layers) + ".")
    others = Counter(region.kind for region in handoff.regions if region.core == "cpu" and not region.because)
    if others:
        lines.append("* Besides, on the RISC-V core: " + ", ".join(f"{n} {kind}" for kind, n in others.items()) + ".")
    return [*lines, *(f"* {note}" for note in handoff.notes)]


def _interface(found: Contents) -> list[str]:
    (lo, hi), step = found.input_codes, _power(found.input_exponent)
    meaning = (f"codes from {lo} to {hi}, which nothing clips; a code q stands for q times {step}." if found.int8 else
               f"real values; the network begins with `clip(floor(x / {step}), {lo}, {hi})`, on the RISC-V core.")
    lines = [
        f"* `input`, {_input_type(found)} {list(found.input_shape)}: {meaning}",
        f"* {_code(found.output_name)}, float32 {list(found.output_shape)}: int8 codes times "
        f"{_power(found.output_exponent)}.",
    ]
    if found.input_permutation is not None:
        lines.insert(1, f"* Its axes are those of the float model's input, transposed by "
                        f"{list(found.input_permutation)}: `x.transpose({list(found.input_permutation)})`.")
    return lines


def _tail(found: Contents) -> list[str]:
    return [
        f"{', '.join(found.tail)}: the host computes it in float, of the network's output as it comes.", "",
        "```python",
        "import numpy as np, onnxruntime",
        f"tail = onnxruntime.InferenceSession({TAIL_FILE!r}, providers=['CPUExecutionProvider'])",
        f"answers = tail.run(None, {{{found.output_name!r}: np.load('output.npy')}})",
        "```",
    ]


def _int8(found: Contents) -> list[str]:
    return [
        f"One Cast makes the codes float, since ONNX's Conv and Gemm take no int8. HTVM {HTVM_COMMIT} is not made for "
        "it (read, not run). On x86 it computes the same. For DIANA it offloads the first layer although its operand "
        "is float32, of which the accelerator's kernel reads the bytes as int8: wrong, and no message.", "",
        "For HTVM leave out `--io int8`, and feed a code q as the float q times "
        f"{_power(found.input_exponent)}, of which the quantizer makes q again; on the RISC-V core that costs "
        f"{math.prod(found.input_shape)} divisions.",
    ]


def _warnings(handoff: Handoff) -> list[str]:
    return [f"* {first.code} ({first.level}), {f'at {count} places, the first ' if count > 1 else ''}"
            f"{_code(first.node)}: found {first.found}; needed: {first.needed}; {first.remedy}"
            for first, count in grouped(handoff.findings)]


def _power(exponent: int) -> str:
    """A power of two, exact."""
    if 0 <= exponent <= 20:
        return str(2**exponent)
    return repr(2.0**exponent) if -12 <= exponent < 0 else f"2**{exponent}"


def _code(text: str) -> str:
    """A name from the model as Markdown code: on one line, without what would end it."""
    return "`" + "".join(c if c.isprintable() and c != "`" else f"\\u{ord(c):04x}" for c in text) + "`"


def _input_type(found: Contents) -> str:
    return "int8" if found.int8 else "float32"


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
