"""The command line: a thin skin over the Python API. Nothing heavy is imported before a command runs.

Results go to stdout, everything else to stderr. Exit status: 0 done; 1 done but a check failed; 2 the input is at
fault; 70 our bug; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxdiana

if TYPE_CHECKING:
    from onnxdiana import config

EXIT_OK, EXIT_CHECK, EXIT_INPUT, EXIT_BUG, EXIT_INTERRUPT = 0, 1, 2, 70, 130


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
        prog="onnxdiana", allow_abbrev=False,
        description="Turn a float ONNX model into an exact, integer-only one with power-of-two scales.")
    top.add_argument("--version", action="version", version=f"onnxdiana {onnxdiana.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    quantize = commands.add_parser(
        "quantize", allow_abbrev=False, help="float model in, exact integer model out",
        epilog="DATA: an .npz (arrays named after the inputs, or one array), FILE.npz:KEY, an .npy, a folder of .npy, "
               "or module:function yielding batches. First axis = samples. An array named 'labels' in --eval data "
               "turns quality into task accuracy.")
    quantize.add_argument("model", metavar="MODEL.onnx")
    quantize.add_argument("--calib", metavar="DATA",
                          help="calibration data; default: MODEL.calib.npz beside the model, else synthetic inputs")
    quantize.add_argument("--eval", metavar="DATA", help="data never used for calibration, to measure quality on")
    quantize.add_argument("-o", "--output", metavar="DIR", help="folder to write; default: MODEL.diana")
    quantize.add_argument("--recover", choices=("none", "fast"),
                          help="fast (default): biases corrected on the integer model; none: left out")
    quantize.add_argument("--core", choices=("auto", "digital", "cpu"),
                          help="auto (default): the accelerator where it takes a layer; digital: it must take every "
                               "convolution and linear layer; cpu: it takes none")
    quantize.add_argument("--config", metavar="FILE.toml", help="options from a file; the command line wins")
    quantize.add_argument("--batch", type=int, metavar="N",
                          help="samples read at a time (default 64); results do not depend on it")
    quantize.add_argument("--seed", type=int, metavar="N", help="of synthetic and random inputs (default 0)")
    handover = quantize.add_argument_group("the hand-over graph for HTVM (docs/output.md)")
    handover.add_argument("--silicon", choices=("safe", "fast"),
                          help="safe (default): ReLU behind an Add on the CPU; fast: fused, which silicon does not run")
    handover.add_argument("--concat", choices=("convs", "refuse"),
                          help="convs (default): Concat as the Add of layers with rows of zeros; refuse: no htvm/")
    handover.add_argument("--zero-bias", action=argparse.BooleanOptionalAction,
                          help="write biases that are all zero, without which nothing is accelerated (default: yes)")
    handover.add_argument("--pad-outputs", action=argparse.BooleanOptionalAction,
                          help="more outputs for a classifier that is accelerated only so, 10 to 12, in every model")
    handover.add_argument("--handoff-opset", type=int, choices=(10, 13), help="default: 13")
    handover.add_argument("--io", choices=("float", "int8"),
                          help="float (default): the graph quantizes its input; int8: it takes codes")
    handover.add_argument("--annotate", choices=("none", "dory"), help="dory: an annotated twin besides, in dory/")
    handover.add_argument("--vectors", type=int, metavar="N", help="samples with vectors (default 1)")
    handover.add_argument("--require-handoff", action="store_true",
                          help="exit status 1 where htvm/ is not written, or HTVM would not take it")
    quantize.add_argument("--force", action="store_true", help="move a folder that onnxdiana did not write aside")

    inspect = commands.add_parser(
        "inspect", allow_abbrev=False, help="what would be quantized, where it would run, and what to change",
        epilog="Needs no data. Exit status 1 where an operator has no quantized form.")
    inspect.add_argument("model", metavar="MODEL.onnx")

    for options in (handover, inspect):
        options.add_argument("--zero-taps", choices=("auto", "always", "never"),
                             help="larger kernels with zero taps where the accelerator takes a convolution only so; "
                                  "auto (default): where the latency estimate says that it pays")
    for command in (quantize, inspect):
        command.add_argument("--target", metavar="NAME|FILE.py", help="the chip; default: diana")
        command.add_argument("--input-shape", metavar="NAME=1,3,32,32", action="append",
                             help="sizes of an input that leaves some open; NAME= may be left out where there is one")
        command.add_argument("--rules", metavar="FILE.py", help="rewrite rules that run before onnxdiana's own")

    validate = commands.add_parser(
        "validate", allow_abbrev=False, help="recompute everything in DIR and compare",
        epilog="Exit status 1 and the layer's name where any weight, bias, shift or vector is not what it was.")
    validate.add_argument("folder", metavar="DIR")
    validate.add_argument("--data", metavar="DATA", help="samples to run; default: those stored in DIR")

    handoff = commands.add_parser(
        "handoff", allow_abbrev=False, help="whether HTVM takes the hand-over file, and what runs where",
        epilog="Exit status 1 where HTVM would not compile the file, or compute something else.")
    handoff.add_argument("path", metavar="DIR|FILE.onnx",
                         help="folder that quantize wrote, its htvm folder, or any .onnx with what stands beside it")

    compare = commands.add_parser(
        "compare", allow_abbrev=False, help="where a device's dump departs from the vectors, and the likeliest cause",
        epilog="DUMP: an .npy, raw int8 bytes (.bin), a text of numbers (.txt, .csv, .log, .h), or a folder with a "
               "file a tensor, called intermediate_<i>, output, or by the tensor. Exit status 1 where something "
               "departs.")
    compare.add_argument("folder", metavar="DIR")
    compare.add_argument("dump", metavar="DUMP")
    compare.add_argument("--tensor", metavar="NAME", help="which one a file holds; default: told by its name or size")
    compare.add_argument("--sample", type=int, metavar="K",
                         help="of which vectors; default: 0, or each folder of DUMP called by a number")

    for command in (quantize, inspect, validate, handoff, compare):
        command.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
        command.add_argument("-q", "--quiet", action="store_true", help="say nothing on stderr but errors")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = parser().parse_args(argv)
    import logging

    from onnxdiana.errors import OnnxDianaError

    if not logging.root.handlers:
        logging.root.addHandler(logging.NullHandler())  # libraries' remarks on their inner life are not for the user
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # tensor names may be any text, terminals may not
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what data functions and targets print is no result
            status, result = _COMMANDS[options.command](options)
        _print(result)
        return status
    except OnnxDianaError as error:
        _say(f"error: {error}")
        return EXIT_INPUT
    except MemoryError:
        _say("error: the memory does not suffice; give a smaller model, or a smaller --batch")
        return EXIT_INPUT
    except KeyboardInterrupt:
        _say("interrupted; nothing half-written is left")
        return EXIT_INTERRUPT
    except Exception as error:
        return _bug(error)


def _bug(error: Exception) -> int:
    import platform
    import traceback

    traceback.print_exception(error, file=sys.stderr)
    print(f"onnxdiana: this is a bug of onnxdiana {onnxdiana.__version__}, not of your model "
          f"(Python {platform.python_version()}, {platform.system()}); please report it with the text above and, "
          "if you may share it, the model file", file=sys.stderr)
    return EXIT_BUG


@contextlib.contextmanager
def _imports() -> Iterator[None]:
    """Imports make no garbage, but so many objects that looking for it would take a tenth of a short run."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _quantize(options: argparse.Namespace) -> tuple[int, str]:
    with _imports():
        from onnxdiana import config, pipeline
        from onnxdiana.errors import SyntheticDataWarning
        from onnxdiana.report import text

    given = config.read(options.config) if options.config else {}
    settings = _config(options, given)
    say = _silent if options.quiet else _say
    model = Path(options.model)
    calibration = options.calib
    beside = pipeline.calibration_beside(model)
    if calibration is None and os.path.isfile(beside):
        calibration = str(beside)
        say(f"calibrating on {beside.name}, found beside the model")
    elif calibration is None:
        say("WARNING: no calibration data; drawing SYNTHETIC inputs. Scales and figures mean little. "
            f"Give --calib DATA, or put {beside.name} beside the model.")
    folder = Path(options.output or f"{model.stem}.diana")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntheticDataWarning)  # said above, with what to do
        result = pipeline.quantize(model, calibration, folder, evaluation=options.eval, config=settings,
                                   force=options.force, quiet=options.quiet)
    for note in text.notes(result):
        say(note)
    handed = result.summary["handoff"]
    refused = not handed["written"] or any(finding["code"].startswith("E") for finding in handed["findings"])
    status = EXIT_CHECK if options.require_handoff and refused else EXIT_OK
    return status, text.as_json(result) if options.json else text.table(result)


def _inspect(options: argparse.Namespace) -> tuple[int, str]:
    with _imports():
        from onnxdiana.inspection import inspect
        from onnxdiana.report import inspection

    found = inspect(Path(options.model), _config(options, {}))
    result = inspection.as_json(found) if options.json else inspection.table(found)
    return EXIT_OK if found.quantizable else EXIT_CHECK, result


def _config(options: argparse.Namespace, given: dict[str, Any]) -> config.Config:
    """What the command line says, and where it says nothing, what was given."""
    from onnxdiana import config

    options.input_shape = config.input_shapes(options.input_shape) if options.input_shape else None
    told = {name: value for name in config.NAMES if (value := getattr(options, name, None)) is not None}
    return config.Config(**given | told)


def _validate(options: argparse.Namespace) -> tuple[int, str]:
    with _imports():
        from onnxdiana import check
        from onnxdiana.report import text

    report = check.validate(options.folder, options.data)
    return EXIT_OK if report.ok else EXIT_CHECK, text.report_json(report) if options.json else text.report(report)


def _handoff(options: argparse.Namespace) -> tuple[int, str]:
    with _imports():
        from onnxdiana.handoff.check import check
        from onnxdiana.report import handoff

    found = check(options.path)
    return EXIT_OK if found.ok else EXIT_CHECK, handoff.as_json(found) if options.json else handoff.table(found)


def _compare(options: argparse.Namespace) -> tuple[int, str]:
    with _imports():
        from onnxdiana.compare import compare
        from onnxdiana.report import comparison

    found = compare(options.folder, options.dump, tensor=options.tensor, sample=options.sample)
    return EXIT_OK if found.ok else EXIT_CHECK, comparison.as_json(found) if options.json else comparison.text(found)


def _print(result: str) -> None:
    """To stdout; a reader who has seen enough ('| head -1') is no error."""
    from onnxdiana.errors import OutputError

    try:
        print(result, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again at its end
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"stdout cannot be written ({error.strerror}); redirect it elsewhere") from error


def _say(line: str) -> None:
    """To stderr, if anybody still reads it."""
    with contextlib.suppress(OSError):
        print(f"onnxdiana: {line}", file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    del line


_COMMANDS = {"quantize": _quantize, "inspect": _inspect, "validate": _validate, "handoff": _handoff,
             "compare": _compare}
