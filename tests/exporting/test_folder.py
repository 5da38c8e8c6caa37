"""The output folder appears whole or not at all: whatever stands there, whatever fails, whenever the process dies."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from onnxdiana.errors import OutputError
from onnxdiana.exporting import folder as output_folder
from onnxdiana.exporting.folder import check_apart, check_free, is_ours, write

NAMES = ("model.onnx", "htvm/model.onnx", "htvm/deep/input.npy")


def contents(version: str) -> dict[str, bytes]:
    """The files of one run; ``version`` is in all of them, and one file is named after it."""
    files = {name: f"{name} {version}".encode() for name in (*NAMES, f"{version}.txt")}
    summary = {"format": output_folder.FORMAT, "files": dict.fromkeys(files, "sha")}
    return {**files, "summary.json": json.dumps(summary).encode()}


def found(folder: Path) -> dict[str, bytes] | None:
    """Every file below a folder, or None where there is none."""
    if not folder.exists():
        return None
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def beside(folder: Path) -> list[str]:
    """Names next to a folder."""
    return sorted(path.name for path in folder.parent.iterdir() if path != folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where to write."""
    return tmp_path / "out"


def test_all_files_appear(out: Path) -> None:
    assert write(out, contents("new")) is None
    assert found(out) == contents("new")
    assert beside(out) == []


def test_permissions_follow_the_umask(out: Path) -> None:
    before = os.umask(0o027)
    try:
        write(out, contents("new"))
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == 0o750
    assert (out / "model.onnx").stat().st_mode & 0o777 == 0o640


def test_our_folder_is_replaced(out: Path) -> None:
    """With all that was in it: no file of another run stays."""
    write(out, contents("old"))
    check_free(out, force=False)
    assert write(out, contents("new")) is None
    assert found(out) == contents("new")
    assert beside(out) == []


def test_our_folder_is_replaced_where_files_are_missing(out: Path) -> None:
    write(out, contents("old"))
    (out / "htvm" / "model.onnx").unlink()
    write(out, contents("new"))
    assert found(out) == contents("new")


def test_an_empty_folder_is_replaced(out: Path) -> None:
    out.mkdir()
    check_free(out, force=False)
    assert write(out, contents("new")) is None
    assert found(out) == contents("new")
    assert beside(out) == []


def spoil(out: Path, how: Callable[[Path], object]) -> Path:
    """A folder of ours with something of somebody else's."""
    write(out, contents("old"))
    how(out)
    return out


FOREIGN: dict[str, Callable[[Path], object]] = {
    "file": lambda out: (out / "notes.txt").write_text("mine"),
    "file in a subfolder": lambda out: (out / "htvm" / "notes.txt").write_text("mine"),
    "empty folder": lambda out: (out / "empty").mkdir(),
    "link to a folder": lambda out: (out / "link").symlink_to("/"),
    "broken link": lambda out: (out / "link").symlink_to("nowhere"),
    "pipe": lambda out: os.mkfifo(out / "pipe"),
    "no summary": lambda out: (out / "summary.json").unlink(),
    "summary is a pipe": lambda out: ((out / "summary.json").unlink(), os.mkfifo(out / "summary.json")),
    "summary is a folder": lambda out: ((out / "summary.json").unlink(), (out / "summary.json").mkdir()),
    "summary cut short": lambda out: (out / "summary.json").write_bytes(contents("old")["summary.json"][:-3]),
    "summary not text": lambda out: (out / "summary.json").write_bytes(b"\xff\xfe"),
    "summary a list": lambda out: (out / "summary.json").write_text("[]"),
    "summary a number": lambda out: (out / "summary.json").write_text("7"),
    "summary nested": lambda out: (out / "summary.json").write_text("[" * 100_000),
    "another format": lambda out: (out / "summary.json").write_text('{"format": "x", "files": {}}'),
    "no files": lambda out: (out / "summary.json").write_text('{"format": "onnxdiana.summary"}'),
    "files a number": lambda out: (out / "summary.json").write_text('{"format": "onnxdiana.summary", "files": 7}'),
    "files of numbers": lambda out: (out / "summary.json").write_text('{"format": "onnxdiana.summary", "files": [7]}'),
}


@pytest.mark.parametrize("how", FOREIGN)
def test_a_folder_that_is_not_ours_stays(out: Path, how: str) -> None:
    spoil(out, FOREIGN[how])
    names = sorted(out.rglob("*"))
    assert not is_ours(out)
    for attempt in (lambda: check_free(out, force=False), lambda: write(out, contents("new"))):
        with pytest.raises(OutputError, match=r"holds files that we did not write; choose another with -o, or --force"):
            attempt()
    assert sorted(out.rglob("*")) == names
    assert beside(out) == []


@pytest.mark.parametrize("how", FOREIGN)
def test_force_moves_it_aside(out: Path, how: str) -> None:
    spoil(out, FOREIGN[how])
    names = sorted(path.relative_to(out) for path in out.rglob("*"))
    check_free(out, force=True)
    moved = write(out, contents("new"), force=True)
    assert moved == out.with_name("out.before")
    assert sorted(path.relative_to(moved) for path in moved.rglob("*")) == names
    assert found(out) == contents("new")
    assert beside(out) == ["out.before"]


def test_force_never_takes_a_name_that_is_taken(out: Path) -> None:
    out.with_name("out.before").mkdir()
    out.with_name("out.before-2").symlink_to("nowhere")
    out.mkdir()
    (out / "mine.txt").touch()
    assert write(out, contents("new"), force=True) == out.with_name("out.before-3")
    assert (out.with_name("out.before-3") / "mine.txt").exists()


def test_force_on_a_folder_of_ours_leaves_nothing(out: Path) -> None:
    write(out, contents("old"))
    assert write(out, contents("new"), force=True) is None
    assert beside(out) == []


OBSTACLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "file": (lambda out: out.write_text("mine"), "exists and is no folder; choose another with -o"),
    "pipe": (os.mkfifo, "exists and is no folder"),
    "link": (lambda out: out.symlink_to(out.parent), "is a symbolic link; give the folder that it leads to"),
    "broken link": (lambda out: out.symlink_to("nowhere"), "is a symbolic link"),
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("what", OBSTACLES)
def test_what_is_no_folder_stays(out: Path, what: str, force: bool) -> None:
    build, message = OBSTACLES[what]
    build(out)
    with pytest.raises(OutputError, match=message):
        check_free(out, force=force)
    with pytest.raises(OutputError, match=message):
        write(out, contents("new"), force=force)
    assert os.path.lexists(out)
    assert beside(out) == []


def test_the_model_inside(out: Path) -> None:
    write(out, contents("old"))
    for inside in (out / "model.onnx", out / "htvm" / ".." / "model.onnx", out.parent / "other.onnx"):
        guarded = inside.name == "model.onnx"
        for force in (False, True):
            if guarded:
                with pytest.raises(OutputError, match="holds the model itself; choose another folder with -o"):
                    check_free(out, force=force, guard=inside)
            else:
                check_free(out, force=force, guard=inside)


@pytest.mark.parametrize("name", [".", "..", "../out", "sub/.."])
def test_the_current_folder_stays(out: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "sub").mkdir(parents=True)
    monkeypatch.chdir(out)
    for attempt in (lambda: check_free(Path(name), force=True), lambda: write(Path(name), contents("new"), force=True)):
        with pytest.raises(OutputError, match="is the current folder, or one around it"):
            attempt()


def test_relative_paths(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out.parent / "sub").mkdir()
    monkeypatch.chdir(out.parent / "sub")
    write(Path("../out"), contents("new"))
    write(Path("inner"), contents("new"))
    assert found(out) == found(out.parent / "sub" / "inner") == contents("new")


def test_a_mount_point_cannot_be_renamed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == out)
    with pytest.raises(OutputError, match=r"is a mount point, which cannot be replaced; choose .* in it: -o .*/NAME"):
        check_free(out, force=True)


def test_the_parent(out: Path) -> None:
    with pytest.raises(OutputError, match=r"none: no such folder; create it first"):
        check_free(out.parent / "none" / "out", force=True)
    out.write_text("mine")
    with pytest.raises(OutputError, match=r"out: no such folder; create it first"):
        check_free(out / "inner", force=True)
    with pytest.raises(OutputError, match=r"cannot be written \(File name too long\); choose another folder"):
        check_free(out.with_name("x" * 300), force=True)
    assert beside(out) == []


@pytest.mark.parametrize("parent", ["/proc", "/sys"])
def test_a_file_system_that_takes_no_folders(parent: str) -> None:
    """Real ones, on which the superuser may not write either."""
    if not Path(parent).is_dir():
        pytest.skip(f"there is no {parent} here")
    with pytest.raises(OutputError, match=r"cannot be written \(.+\); choose another folder with -o"):
        check_free(Path(parent, "out"), force=True)
    with pytest.raises(OutputError, match="cannot be written"):
        write(Path(parent, "out"), contents("new"))


def test_a_read_only_disk(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(OutputError, match=r"out cannot be written \(Read-only file system\); choose another"):
        check_free(out, force=False)
    with pytest.raises(OutputError, match="Read-only file system"):
        write(out, contents("new"))
    monkeypatch.undo()
    assert beside(out) == []


# Failing and dying at every step


CHANGES = ("mkdir", "fsync", "replace", "rmdir", "unlink")


@contextmanager
def at_step(number: int, act: Callable[[], object], names: Sequence[str] = CHANGES) -> Iterator[list[str]]:
    """Act in front of the given call of all that change the disk; yields the names of those that were made."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in names}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == number:
                act()
            return real[name](*args, **options)
        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(os, name, wrapped(name))
        yield made


def steps(before: str | None, folder: Path) -> list[str]:
    """What a run changes on the disk, in order."""
    if before:
        write(folder, contents(before))
    with at_step(0, lambda: None) as made:
        write(folder, contents("new"))
    return made


def assert_whole(folder: Path, before: str | None, swapped: bool) -> None:
    """The old folder or the new one, or none where there was none, or in the instant between two renames."""
    now = found(folder)
    allowed = [contents("new"), contents(before) if before else None]
    assert now in allowed or (swapped and now is None)


@pytest.mark.parametrize("before", [None, "old"])
def test_a_full_disk_at_every_step(out: Path, before: str | None) -> None:
    """Nothing is changed, nothing is left, the message says why."""
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    may_fail = ("fsync", "replace")
    names = [name for name in steps(before, out) if name in may_fail]
    assert names.count("fsync") == len(contents("new"))
    for number in range(1, len(names) + 1):
        shutil.rmtree(out, ignore_errors=True)
        if before:
            write(out, contents(before))
        with at_step(number, full, may_fail), pytest.raises(OutputError, match="No space left on device"):
            write(out, contents("new"))
        assert found(out) == (contents(before) if before else None), f"step {number}"
        assert beside(out) == [], f"step {number}"


@pytest.mark.parametrize("before", [None, "old"])
def test_ctrl_c_at_every_step(out: Path, before: str | None) -> None:
    """Old or new, whole; what could not be removed in time goes in the next run."""
    def interrupt() -> None:
        raise KeyboardInterrupt

    for number in range(1, len(steps(before, out)) + 1):
        shutil.rmtree(out, ignore_errors=True)
        if before:
            write(out, contents(before))
        with at_step(number, interrupt), pytest.raises(KeyboardInterrupt):
            write(out, contents("new"))
        assert_whole(out, before, swapped=False)
        write(out, contents("new"))
        assert found(out) == contents("new")
        assert beside(out) == [], f"step {number}"


@pytest.mark.parametrize("before", [None, "old"])
def test_kill_at_every_step(out: Path, before: str | None) -> None:
    """A process that dies without a word leaves none, the old folder or the new one; the next run sweeps up."""
    names = steps(before, out)
    for number in range(1, len(names) + 1):
        shutil.rmtree(out, ignore_errors=True)
        if before:
            write(out, contents(before))
        child = os.fork()
        if child == 0:
            with at_step(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                write(out, contents("new"))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, f"step {number} was not reached"
        assert_whole(out, before, swapped=names[number - 1] == "replace")
        write(out, contents("new"))
        assert found(out) == contents("new")
        assert beside(out) == [], f"step {number}"


def test_a_folder_that_was_just_being_replaced_comes_back(out: Path) -> None:
    """The process died between both renames, and the next run fails: the old folder is there again."""
    write(out, contents("old"))
    child = os.fork()
    if child == 0:
        last = max(i for i, name in enumerate(steps("old", out.with_name("rehearsal"))) if name == "replace")
        with at_step(last + 1, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            write(out, contents("new"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not out.exists()

    def full() -> None:
        raise OSError(errno.ENOSPC, "full")

    with at_step(1, full, ["fsync"]), pytest.raises(OutputError):
        write(out, contents("new"))
    assert found(out) == contents("old")
    assert beside(out) == ["rehearsal"]


def test_only_the_leftovers_of_dead_runs_of_this_folder_go(tmp_path: Path) -> None:
    """Names with special characters too; the living, other folders and what people called alike stay."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    out = tmp_path / "net[1].*"
    dead = [f".{out.name}.partial-{child}-0123abcd", f".{out.name}.old-{child}-0123abcd",
            f".{out.name}.partial-{os.getpid()}-0123abcd", f".{out.name}.partial-99999999999-0123abcd"]
    alive = [f".{out.name}.partial-{os.getppid()}-0123abcd", f".net1.x.partial-{child}-0123abcd",
             f".{out.name}.partial-{child}-mine", f".{out.name}.partial-x-0123abcd"]
    for name in dead + alive:
        (tmp_path / name / "htvm").mkdir(parents=True)
    (tmp_path / alive[0] / "file").touch()
    out.mkdir()
    write(out, contents("new"))
    assert beside(out) == sorted(alive)


@pytest.mark.parametrize("data", ["out/samples.npz", "out/samples.npz:x", "out"])
def test_data_of_the_run_are_not_replaced(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "samples.npz").write_bytes(b"")
    with pytest.raises(OutputError, match=r"out holds .*, which this run reads; choose another with -o"):
        check_apart(Path("out"), None, data)
    check_apart(Path("other"), data, Path(data), "module:function", [0.0], None)
