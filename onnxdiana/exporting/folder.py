"""The output folder: it appears whole or not at all, and nobody's file is lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from onnxdiana.errors import OutputError

SUMMARY = "summary.json"
FORMAT = "onnxdiana.summary"


def contents(folder: Path) -> set[str]:
    """Relative paths of everything below a folder, folders and links included."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def is_ours(folder: Path) -> bool:
    """Whether we wrote this folder and nothing of anybody else's stands in it."""
    try:
        if not (folder / SUMMARY).is_file():  # a pipe would wait for its writer
            return False
        summary = json.loads((folder / SUMMARY).read_bytes())
        written = {SUMMARY, *summary["files"]}
        written |= {parent.as_posix() for name in written for parent in Path(name).parents}
        return summary["format"] == FORMAT and contents(folder) <= written
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def check_free(folder: Path, *, force: bool, guard: Path | None = None) -> None:
    """Fail early, before the work, where the folder could not be written in the end.

    Args:
        folder: to be written.
        force: replace a folder that we did not write (it is kept under another name).
        guard: the user's model, which must not stand inside.

    Raises:
        OutputError: exists and is not ours; is no plain folder; the parent is missing or read-only.
    """
    try:
        path = _absolute(folder)
        if os.path.lexists(path) and (obstacle := _obstacle(path, force, guard)):
            raise OutputError(f"{folder} {obstacle}")
        if not path.parent.is_dir():
            raise OutputError(f"{path.parent}: no such folder; create it first, or choose another with -o")
        probe = _hidden(path, "partial")
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}); choose another folder with -o") from error


def check_apart(folder: Path, *data: object) -> None:
    """Data files (``FILE`` or ``FILE:KEY``) that are read in a run must not stand in the folder that it replaces.

    Raises:
        OutputError: one does.
    """
    for text in (os.fspath(item) for item in data if isinstance(item, str | os.PathLike)):
        for file in (text, text.rpartition(":")[0]):
            if os.path.exists(file) and Path(file).resolve().is_relative_to(folder.resolve()):
                raise OutputError(f"{folder} holds {Path(file).name}, which this run reads; choose another with -o")


def _obstacle(path: Path, force: bool, guard: Path | None) -> str | None:
    """Why what stands there cannot be replaced, and what to do."""
    if path.is_symlink():
        return "is a symbolic link; give the folder that it leads to, or choose another with -o"
    if not path.is_dir():
        return "exists and is no folder; choose another with -o"
    if guard is not None and guard.resolve().is_relative_to(path.resolve()):
        return "holds the model itself; choose another folder with -o"
    if Path.cwd().is_relative_to(path.resolve()):
        return "is the current folder, or one around it; choose another with -o"
    if os.path.ismount(path):
        return f"is a mount point, which cannot be replaced; choose a folder in it: -o {path / 'NAME'}"
    if any(path.iterdir()) and not is_ours(path) and not force:
        return "exists and holds files that we did not write; choose another with -o, or --force to move it aside"
    return None


def _absolute(folder: Path) -> Path:
    return folder.resolve() if folder.name in ("", "..") else folder.absolute()


def _hidden(path: Path, role: str) -> Path:
    """A free name beside a folder, which says whose it is: :func:`_sweep` finds it."""
    return path.with_name(f".{path.name}.{role}-{os.getpid()}-{secrets.token_hex(4)}")


def write(folder: Path, files: Mapping[str, bytes], *, force: bool = False) -> Path | None:
    """Write all files aside, then rename: there is the old folder, for an instant none, then the new one, whole.

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
    path = _absolute(folder)
    _sweep(path)
    partial, old, kept = _hidden(path, "partial"), _hidden(path, "old"), None
    try:
        _fill(partial, files)
        if path.exists():
            if any(path.iterdir()) and not is_ours(path):
                old = kept = _free_name(path)
            os.replace(path, old)
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}), and nothing was changed; make room, or "
                          "choose another folder with -o") from error
    finally:  # after an error or Ctrl-C, too
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(partial, ignore_errors=True)
        if kept is None:
            shutil.rmtree(old, ignore_errors=True)
    return kept


def _fill(partial: Path, files: Mapping[str, bytes]) -> None:
    partial.mkdir()
    for name, data in files.items():
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())


def _free_name(path: Path) -> Path:
    """``out.before``, ``out.before-2`` and so on."""
    number, candidate = 1, path.with_name(f"{path.name}.before")
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}.before-{number}")
    return candidate


def _sweep(path: Path) -> None:
    """Remove what runs that were killed left beside the folder; what is left of the folder itself goes back."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(partial|old)-(\d+)-[0-9a-f]{{8}}")
    with contextlib.suppress(OSError):  # what cannot be removed stays; the run goes on
        for name in os.listdir(path.parent):
            match = pattern.fullmatch(name)
            if match is None or _runs(int(match[2])):
                continue
            if match[1] == "old" and not path.exists():
                os.replace(path.with_name(name), path)
            else:
                shutil.rmtree(path.with_name(name), ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether a process other than this one lives; our own number was a killed run's, in a container for instance."""
    if os.name != "posix":  # asking would end the process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()
