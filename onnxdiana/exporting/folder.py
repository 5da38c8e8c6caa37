"""The output folder: it appears whole or not at all, and nobody's file is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from onnxdiana.errors import OutputError

SUMMARY = "summary.json"
FORMAT = "onnxdiana.summary"


def contents(folder: Path) -> set[str]:
    """Relative paths of every file below a folder."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def is_ours(folder: Path) -> bool:
    """Whether we wrote this folder and nothing of anybody else's stands in it."""
    try:
        summary = json.loads((folder / SUMMARY).read_text())
        written = set(summary["files"]) | {SUMMARY}
        return summary["format"] == FORMAT and contents(folder) <= written
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_free(folder: Path, *, force: bool, guard: Path | None = None) -> None:
    """Fail early, before the work, where the folder could not be written in the end.

    Args:
        folder: to be written.
        force: replace a folder that we did not write (it is kept under another name).
        guard: the user's model, which must not stand inside.

    Raises:
        OutputError: exists and is not ours; is a file; the parent is missing or read-only.
    """
    if folder.exists() or folder.is_symlink():
        if not folder.is_dir() or folder.is_symlink():
            raise OutputError(f"{folder} exists and is no folder; choose another with -o")
        if guard is not None and guard.resolve().is_relative_to(folder.resolve()):
            raise OutputError(f"{folder} holds the model itself; choose another folder with -o")
        if any(folder.iterdir()) and not is_ours(folder) and not force:
            raise OutputError(f"{folder} exists and holds files that we did not write; "
                              "choose another with -o, or --force to move it aside")
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise OutputError(f"{parent}: no such folder; create it first")
    try:
        with tempfile.TemporaryDirectory(prefix=_partial(folder), dir=parent):
            pass
    except OSError as error:
        raise OutputError(f"{parent} cannot be written ({error.strerror}); choose another folder with -o") from error


def _partial(folder: Path) -> str:
    return f".{folder.name}.partial-"


def write(folder: Path, files: Mapping[str, bytes], *, force: bool = False) -> Path | None:
    """Write all files aside, then rename: readers see the old folder or the new one, whole.

    Args:
        folder: to appear.
        files: contents by relative path.
        force: as for :func:`check_free`.

    Returns:
        Where a folder that was not ours has been moved to, or None.

    Raises:
        OutputError: the disk is full or read-only, or the folder is not ours and ``force`` is not given.
    """
    check_free(folder, force=force)
    parent = folder.absolute().parent
    _sweep(folder, parent)
    aside: Path | None = None
    partial = ""
    try:
        partial = tempfile.mkdtemp(prefix=f"{_partial(folder)}{os.getpid()}-", dir=parent)
        os.chmod(partial, 0o777 & ~_umask())
        for name, data in files.items():
            path = Path(partial) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        if folder.exists():
            ours = is_ours(folder) or not any(folder.iterdir())
            aside = Path(tempfile.mkdtemp(prefix=_partial(folder), dir=parent)) if ours else _free_name(folder)
            os.replace(folder, aside)
        os.replace(partial, folder)
    except OSError as error:
        if aside is not None and not folder.exists():
            os.replace(aside, folder)
        raise OutputError(f"{folder} cannot be written ({error.strerror}); nothing was changed") from error
    finally:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)
    if aside is not None and aside.name.startswith(_partial(folder)):
        shutil.rmtree(aside, ignore_errors=True)
        return None
    return aside


def _free_name(folder: Path) -> Path:
    number = 0
    while True:
        number += 1
        candidate = folder.with_name(f"{folder.name}.before" + (f"-{number}" if number > 1 else ""))
        if not candidate.exists():
            return candidate


def _sweep(folder: Path, parent: Path) -> None:
    """Remove what runs that were killed left aside; a run that is still alive keeps its own."""
    for left in parent.glob(f"{_partial(folder)}*-*"):
        pid = left.name.removeprefix(_partial(folder)).split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc").exists():
            with contextlib.suppress(OSError):
                shutil.rmtree(left)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
