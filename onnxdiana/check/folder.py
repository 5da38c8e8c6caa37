"""An output folder as it is on disk: its files, what ``summary.json`` says of them, and how the two differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from onnxdiana.errors import OutputError
from onnxdiana.exporting.files import sha256
from onnxdiana.exporting.folder import FORMAT, SUMMARY, contents

FLOAT, FAKE, INTEGER, HTVM = "model.float.onnx", "model.qdq.onnx", "model.int.onnx", "htvm/model.onnx"
SCALES, SAMPLES, MANIFEST = "scales.json", "samples.npz", "htvm/manifest.json"
PARTS = (FLOAT, FAKE, INTEGER, SCALES, SAMPLES)
"""What every other file follows from."""


class Damaged(Exception):
    """A file from which nothing can be computed; the message is a finding."""


@dataclass(frozen=True)
class Folder:
    """The files of a run, as they are now."""

    root: Path
    files: Mapping[str, bytes]
    """Contents by relative path, of the files that ``summary.json`` lists; one that is missing is left out."""
    summary: Mapping[str, Any]
    """``summary.json``, not itself listed; everything in it but ``format`` and ``files`` is still to be checked."""

    def model(self, name: str) -> onnx.ModelProto:
        """A model of the folder.

        Raises:
            Damaged: it cannot be parsed.
        """
        try:
            proto: onnx.ModelProto = onnx.ModelProto.FromString(self.files[name])
        except Exception as error:  # protobuf's own type differs between its implementations
            raise Damaged(f"{name} is no ONNX model any more; quantize again") from error
        return proto

    def section(self, key: str) -> Mapping[str, Any]:
        """An object of ``summary.json``; empty where there is none."""
        value = self.summary.get(key)
        return value if isinstance(value, dict) else {}

    def layers(self) -> dict[str, Mapping[str, Any]]:
        """The entries of ``summary.json``'s layers by name."""
        entries = self.summary.get("layers")
        entries = entries if isinstance(entries, list) else []
        return {e["name"]: e for e in entries if isinstance(e, dict) and isinstance(e.get("name"), str)}

    def absent(self) -> Iterator[str]:
        """Files that are missing, or from which the others would have to be computed and which are not listed."""
        for name in dict.fromkeys([*PARTS, *self.summary["files"]]):
            if name not in self.files:
                yield f"{name} is missing; quantize again"

    def changes(self) -> Iterator[str]:
        """Files that are not, byte for byte, what was written, and files that were not written by us."""
        for name, data in self.files.items():
            if sha256(data) != self.summary["files"][name]:
                yield f"{name} is not the file that was written (its sha256 differs)"
        written = {SUMMARY, *self.summary["files"]}
        written |= {parent.as_posix() for name in written for parent in Path(name).parents}
        for name in sorted(contents(self.root) - written):
            if not any(part.startswith(".") for part in Path(name).parts):  # what desktops leave behind
                yield f"{name} was not written by onnxdiana; move it out of the folder"


def read(path: Path) -> Folder:
    """Read a folder.

    Raises:
        OutputError: no such folder, not one of ours, or a listed file lies outside.
    """
    if not path.is_dir():
        raise OutputError(f"{path}: no such folder; give one that 'onnxdiana quantize' wrote")
    try:
        if not (path / SUMMARY).is_file():  # a pipe would wait for its writer
            raise FileNotFoundError(SUMMARY)
        summary = json.loads((path / SUMMARY).read_bytes())
        if summary["format"] != FORMAT:
            raise KeyError(FORMAT)
        names = sorted(summary["files"].keys())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OutputError(f"{path}: no readable {SUMMARY}; give a folder that 'onnxdiana quantize' wrote") from error
    files = {}
    for name in names:
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            raise OutputError(f"{path}: {SUMMARY} names a file outside the folder, '{name}'; quantize again")
        if not file.is_file():
            continue
        try:
            files[name] = file.read_bytes()
        except OSError as error:
            raise OutputError(f"{file} cannot be read ({error.strerror}); check its permissions") from error
    return Folder(path, files, summary)
