"""The public command, run in this process or in one of its own, with what must hold after every run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto
from tiny import digests

from onnxdiana.cli import main

MODEL = "net.onnx"
SAMPLES = np.random.default_rng(7).standard_normal((8, 3, 8, 8)).astype(np.float32)
"""Inputs of the default tiny model."""


@dataclass(frozen=True)
class Outcome:
    """What a run said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The only document on stdout."""
        return json.loads(self.out)


def run(*arguments: str | Path) -> Outcome:
    """The command in this process; argparse leaves through SystemExit."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
    return Outcome(status, out.getvalue(), err.getvalue())


def start(*arguments: str | Path, folder: Path, driver: str = "", **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, with ``folder`` as current folder.

    Args:
        arguments: of the command.
        folder: to run in.
        driver: Python statements to execute first, for instance to fail at some moment.
        options: of Popen.
    """
    code = f"import sys\n{driver}\nfrom onnxdiana.cli import main\nsys.exit(main(sys.argv[1:]))"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=folder, text=True, **streams)


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process of :func:`start`; a negative status is the signal that ended it."""
    out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out or "", err or "")


class Desk:
    """A folder with a model in it, where runs leave nothing behind but what they were asked for."""

    def __init__(self, folder: Path, model: ModelProto | bytes) -> None:
        """Args: folder: to work in; model: becomes ``net.onnx``."""
        self.folder, self.model, self.out = folder, folder / MODEL, folder / "out"
        self.model.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())

    def save(self, name: str, **arrays: np.ndarray) -> Path:
        """A data file: an ``.npz`` of all arrays, or an ``.npy`` of the only one."""
        path = self.folder / name
        if name.endswith(".npz"):
            np.savez(path, **arrays)
        else:
            (array,) = arrays.values()
            np.save(path, array)
        return path

    def given(self) -> dict[str, str]:
        """Digests of all files but those of the output folder; pipes and links to folders are left out."""
        return {name: digest for name, digest in digests(self.folder).items() if not name.startswith("out/")}

    def quantize(self, *options: str | Path, quiet: bool = True) -> Outcome:
        """Run ``quantize`` on the model; no file that was there may change, none beside the output may appear."""
        before = self.given()
        outcome = run("quantize", self.model, "-o", self.out, *(["-q"] if quiet else []), *options)
        self.check(outcome, before)
        return outcome

    def check(self, outcome: Outcome, before: dict[str, str]) -> None:
        """What must hold after every run."""
        assert self.given() == before
        assert not self.leftovers()
        assert "Traceback" not in outcome.err
        assert outcome.status != 70, outcome.err

    def leftovers(self) -> list[str]:
        """Hidden files and folders: what a run writes before it is done."""
        return [name for name in os.listdir(self.folder) if name.startswith(".")]

    def refused(self, *parts: str, options: Sequence[str | Path] = ()) -> str:
        """The run exits with 2, writes nothing, says nothing but an error that has all parts; returns stderr."""
        existed = digests(self.out)
        outcome = self.quantize(*options)
        assert outcome.status == 2, outcome
        assert outcome.out == ""
        assert outcome.err.startswith("onnxdiana: error: ")
        for part in parts:
            assert part in outcome.err, f"{part!r} is not in {outcome.err!r}"
        assert digests(self.out) == existed
        return outcome.err

    def works(self, *options: str | Path) -> tuple[dict[str, Any], str]:
        """The run exits with 0, and what it writes is valid; returns ``summary.json`` and stderr."""
        outcome = self.quantize(*options, quiet=False)
        assert outcome.status == 0, outcome
        checked = run("validate", self.out)
        assert checked.status == 0, checked
        return json.loads((self.out / "summary.json").read_text("utf-8")), outcome.err
