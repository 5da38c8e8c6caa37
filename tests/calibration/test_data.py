"""Data sources: every kind gives the same samples at every batch size, streams, and says what is wrong."""

from __future__ import annotations

import hashlib
import itertools
import sys
import textwrap
import weakref
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxdiana.calibration.data import Batch, DataSource, InputSpec, open_data, synthetic_data
from onnxdiana.errors import CalibrationError

N = 130  # not a multiple of any batch size below
X = InputSpec("x", (3, 4, 5))
Y = InputSpec("y", (2,))
ARRAYS = {
    "x": np.random.default_rng(0).normal(size=(N, *X.shape)).astype(np.float32),
    "y": np.random.default_rng(1).normal(size=(N, *Y.shape)).astype(np.float32),
}
CUTS = [0, 1, 1, 40, 100, N]  # an empty batch too


def _batches(*names: str) -> Iterator[Any]:
    for start, stop in itertools.pairwise(CUTS):
        yield tuple(ARRAYS[name][start:stop] for name in names)


class Loader:
    """Re-iterable, as a DataLoader is; iterating goes through a fresh iterator."""

    def __iter__(self) -> Iterator[Any]:
        return _batches("x")


class Tensor:
    """Knows no numpy base class, only ``__array__``."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array


def _npy(folder: Path, array: np.ndarray = ARRAYS["x"], name: str = "data.npy") -> str:
    np.save(folder / name, array)
    return str(folder / name)


def _npz(folder: Path, save: Any = np.savez, name: str = "data.npz", **arrays: Any) -> str:
    save(folder / name, **arrays)
    return str(folder / name)


def _folder(folder: Path, order: Any = "C") -> str:
    (folder / "set").mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise(CUTS)):
        array = ARRAYS["x"][start:stop].copy(order)
        np.save(folder / "set" / f"{i:02}.npy", array[0].copy(order) if len(array) == 1 else array)
    (folder / "set" / "notes.txt").write_text("ignored")
    return str(folder / "set")


def _module(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    name = f"loader_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.chdir(folder)
    return name


ONE_INPUT: dict[str, Callable[[Path], object]] = {
    "npy": _npy,
    "npy-path": lambda folder: Path(_npy(folder)),
    "npy-fortran": lambda folder: _npy(folder, np.asfortranarray(ARRAYS["x"])),
    "npy-big-endian": lambda folder: _npy(folder, ARRAYS["x"].astype(">f4")),
    "npy-float64": lambda folder: _npy(folder, ARRAYS["x"].astype(np.float64)),
    "npz": lambda folder: _npz(folder, x=ARRAYS["x"], ids=np.zeros((N, 1))),
    "npz-compressed": lambda folder: _npz(folder, np.savez_compressed, x=ARRAYS["x"]),
    "npz-any-name": lambda folder: _npz(folder, images=ARRAYS["x"], labels=np.arange(N)),
    "npz-key": lambda folder: _npz(folder, a=ARRAYS["x"], b=ARRAYS["x"][:3]) + ":a",
    "npz-key-colon": lambda folder: _npz(folder, name="a:b.npz:c.npz", a=ARRAYS["x"], b=ARRAYS["x"]) + ":a",
    "npz-colon-in-name": lambda folder: _npz(folder, name="mod:f.npz", x=ARRAYS["x"]),
    "folder": _folder,
    "folder-fortran": lambda folder: _folder(folder, "F"),
    "array": lambda folder: ARRAYS["x"],
    "array-strided": lambda folder: np.asfortranarray(ARRAYS["x"]),
    "tensor": lambda folder: Tensor(ARRAYS["x"]),
    "dict": lambda folder: {"x": ARRAYS["x"]},
    "callable-array": lambda folder: lambda: (x for (x,) in _batches("x")),
    "callable-tuple": lambda folder: lambda: _batches("x"),
    "callable-list": lambda folder: lambda: [list(batch) for batch in _batches("x")],
    "callable-dict": lambda folder: lambda: ({"x": x} for (x,) in _batches("x")),
    "callable-tensor": lambda folder: lambda: (Tensor(x) for (x,) in _batches("x")),
    "callable-whole-array": lambda folder: lambda: ARRAYS["x"],
    "callable-whole-dict": lambda folder: lambda: {"x": ARRAYS["x"]},
    "iterable": lambda folder: Loader(),
    "list": lambda folder: list(_batches("x")),
}
TWO_INPUTS: dict[str, Callable[[Path], object]] = {
    "npz": lambda folder: _npz(folder, **ARRAYS),
    "npz-compressed": lambda folder: _npz(folder, np.savez_compressed, **ARRAYS, labels=np.arange(N)),
    "dict": lambda folder: dict(ARRAYS),
    "callable-tuple": lambda folder: lambda: _batches("x", "y"),
    "callable-dict": lambda folder: lambda: ({"y": y, "x": x} for x, y in _batches("x", "y")),
}


def _check(source: DataSource, inputs: list[InputSpec], size: int) -> None:
    for _ in range(2):  # every source starts anew
        batches = list(source.batches(size))
        assert [len(next(iter(b.values()))) for b in batches] == [size] * (N // size) + [N % size] * (N % size > 0)
        for batch in batches:
            assert list(batch) == [spec.name for spec in inputs]
            assert all(a.dtype == np.float32 and a.flags.c_contiguous and a.flags.owndata for a in batch.values())
        for spec in inputs:
            np.testing.assert_array_equal(np.concatenate([b[spec.name] for b in batches]), ARRAYS[spec.name])


@pytest.mark.parametrize("size", [1, 7, 64, 10**12])
@pytest.mark.parametrize("kind", ONE_INPUT)
def test_one_input_same_samples_at_every_batch_size(kind: str, size: int, tmp_path: Path) -> None:
    source = open_data(ONE_INPUT[kind](tmp_path), [X])
    _check(source, [X], size)
    assert source.length == (None if kind.startswith(("callable", "iter", "list")) else N)
    assert not source.synthetic
    assert "/" not in source.description


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("kind", TWO_INPUTS)
def test_two_inputs_same_samples_at_every_batch_size(kind: str, size: int, tmp_path: Path) -> None:
    _check(open_data(TWO_INPUTS[kind](tmp_path), [X, Y]), [X, Y], size)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_module_function(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _npy(tmp_path)
    module = _module(
        tmp_path,
        monkeypatch,
        """
        import numpy as np
        def make():
            for start in range(0, 130, 9):
                yield np.load("data.npy")[start:start + 9]
        """,
    )
    path = list(sys.path)
    source = open_data(f"{module}:make", [X])
    assert sys.path == path
    assert source.description == f"{module}:make"
    assert source.length is source.sha256() is source.labels is None
    _check(source, [X], size)


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "<i2", ">i4", "i8", "u8", "f2", ">f2", "f4", "f8", pytest.param("g", id="longdouble")]
)
@pytest.mark.parametrize("kind", ["npy", "npz", "array"])
def test_real_types_become_float32(kind: str, dtype: str, tmp_path: Path) -> None:
    array = np.arange(24).reshape(12, 2).astype(dtype)
    data = {"npy": lambda: _npy(tmp_path, array), "npz": lambda: _npz(tmp_path, x=array), "array": lambda: array}[
        kind
    ]()
    got = np.concatenate([b["y"] for b in open_data(data, [Y]).batches(5)])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, array.astype(np.float32))


def test_scalar_samples_and_integers_beyond_float32(tmp_path: Path) -> None:
    big = np.array([2**53 + 1, -(2**62), 7])
    (batch,) = open_data(_npy(tmp_path, big), [InputSpec("x", ())]).batches(8)
    np.testing.assert_array_equal(batch["x"], big.astype(np.float32))


def test_batches_are_copies_of_the_users_arrays() -> None:
    mine, shared = ARRAYS["y"].copy(), np.zeros((1, 2), np.float32)

    def reusing() -> Iterator[np.ndarray]:
        for i in range(5):
            shared[:] = i
            yield shared

    for batch in open_data(mine, [Y]).batches(N):
        batch["y"][:] = 0
    np.testing.assert_array_equal(mine, ARRAYS["y"])
    assert [b["y"][:, 0].tolist() for b in list(open_data(reusing, [Y]).batches(2))] == [[0, 1], [2, 3], [4]]


def test_labels(tmp_path: Path) -> None:
    labels = np.arange(N) % 10
    for data in (
        _npz(tmp_path, x=ARRAYS["x"], labels=labels),
        _npz(tmp_path, a=ARRAYS["x"], b=ARRAYS["x"], labels=labels, name="two.npz") + ":b",
        {"x": ARRAYS["x"], "labels": labels},
    ):
        source = open_data(data, [X])
        assert source.labels is not None
        np.testing.assert_array_equal(source.labels, labels)
    folder = _folder(tmp_path)
    np.save(Path(folder) / "labels.npy", labels)
    source = open_data(folder, [X])
    assert source.labels is not None
    np.testing.assert_array_equal(source.labels, labels)
    _check(source, [X], 7)
    one_hot = np.asfortranarray(np.eye(10)[labels])
    source = open_data(_npz(tmp_path, x=ARRAYS["x"], labels=one_hot), [X])
    assert source.labels is not None
    np.testing.assert_array_equal(source.labels, one_hot)
    assert open_data(_npy(tmp_path), [X]).labels is None


def test_sha256(tmp_path: Path) -> None:
    for text in (_npy(tmp_path), _npz(tmp_path, x=ARRAYS["x"])):
        assert open_data(text, [X]).sha256() == hashlib.sha256(Path(text).read_bytes()).hexdigest()
    assert open_data(f"{tmp_path}/data.npz:x", [X]).sha256() == open_data(f"{tmp_path}/data.npz", [X]).sha256()
    folder = Path(_folder(tmp_path))
    first = open_data(folder, [X]).sha256()
    assert first == open_data(f"{folder}/", [X]).sha256()
    (folder / "00.npy").rename(folder / "000.npy")
    second = open_data(folder, [X]).sha256()
    np.save(folder / "01.npy", ARRAYS["x"][1])
    assert len({first, second, open_data(folder, [X]).sha256()}) == 3
    for data in (ARRAYS["x"], {"x": ARRAYS["x"]}, Loader(), lambda: _batches("x")):
        assert open_data(data, [X]).sha256() is None


def test_description_names_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, folder = _npz(tmp_path, x=ARRAYS["x"]), _folder(tmp_path)
    monkeypatch.chdir(folder)
    made = [open_data(d, [X]).description for d in (text, f"{text}:x", folder, ".", ARRAYS["x"], Loader(), list)]
    assert made == ["data.npz", "data.npz:x", "set", "set", "array", "iterable", "callable"]
    assert synthetic_data([X]).description == "synthetic"


def test_synthetic() -> None:
    sources = {size: list(synthetic_data([X, Y], 100, seed=3).batches(size)) for size in (1, 7, 64)}
    whole: dict[int, Batch] = {
        size: {name: np.concatenate([b[name] for b in batches]) for name in ("x", "y")}
        for size, batches in sources.items()
    }
    for name, spec in (("x", X), ("y", Y)):
        assert whole[1][name].shape == (100, *spec.shape)
        assert -1 <= whole[1][name].min() < -0.9
        assert 0.9 < whole[1][name].max() <= 1
        np.testing.assert_array_equal(whole[1][name], whole[7][name])
        np.testing.assert_array_equal(whole[1][name], whole[64][name])
    other = next(synthetic_data([X, Y], 100, seed=4).batches(100))
    assert not np.array_equal(other["x"], whole[64]["x"])
    source = synthetic_data([X])
    assert (source.length, source.synthetic, source.labels, source.sha256()) == (64, True, None, None)
    with pytest.raises(CalibrationError, match="0 samples"):
        synthetic_data([X], samples=0)
    with pytest.raises(CalibrationError, match="no inputs"):
        synthetic_data([])


# ---------------------------------------------------------------- memory


def test_one_batch_of_the_user_is_held() -> None:
    made: list[weakref.ref[np.ndarray]] = []
    most = 0

    def make() -> Iterator[np.ndarray]:
        nonlocal most
        for _ in range(9):
            most = max(most, sum(ref() is not None for ref in made))
            batch = np.zeros((5, 2))
            made.append(weakref.ref(batch))
            yield batch
            del batch

    assert sum(len(b["y"]) for b in open_data(make, [Y]).batches(7)) == 45
    assert most == 0  # the last one is gone before the next is made


# ---------------------------------------------------------------- errors


def _fails(data: object, inputs: list[InputSpec], *words: str, size: int = 7) -> CalibrationError:
    """Opening or reading the data fails; the message, one line, holds all the words."""
    with pytest.raises(CalibrationError) as caught:
        for _ in open_data(data, inputs).batches(size):
            pass
    message = str(caught.value)
    assert "\n" not in message
    assert not [word for word in words if word not in message], message
    return caught.value


def _raw_npz(folder: Path, content: bytes, member: str = "x.npy") -> str:
    with zipfile.ZipFile(folder / "raw.npz", "w") as archive:
        archive.writestr(member, content)
    return str(folder / "raw.npz")


def test_missing_files(tmp_path: Path) -> None:
    _npz(tmp_path, x=ARRAYS["x"], name="calib.npz")
    _fails(tmp_path / "calb.npz", [X], "calb.npz", "no such file", "did you mean 'calib.npz'?", "FILE.npz:KEY")
    _fails(f"{tmp_path}/calb.npz:x", [X], "no such file", "did you mean 'calib.npz'?")
    _fails(tmp_path / "nowhere" / "calib.npz", [X], "no such file", "nor a folder", "nowhere")
    _fails("", [X], "no such file")
    _fails("a\0b.npz", [X], "no such file")
    _fails("x" * 5000, [X], "no such file")


def test_wrong_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    _fails(tmp_path / "data.csv", [X], "data.csv: not an .npz or .npy file", "np.savez", "module:function")
    (tmp_path / "data.npz").write_bytes(b"not a zip")
    _fails(tmp_path / "data.npz", [X], "data.npz: cannot be read", "not a zip file", "write it again")
    (tmp_path / "data.npy").write_bytes(b"not an array")
    _fails(tmp_path / "data.npy", [X], "data.npy: cannot be read", "magic string")
    _fails(_raw_npz(tmp_path, b"text", "readme.txt"), [X], "raw.npz", "no array for input 'x'", "there are none")
    _fails(_raw_npz(tmp_path, b"text"), [X], "raw.npz: array 'x': cannot be read")
    _fails(_raw_npz(tmp_path, b""), [X], "raw.npz: array 'x': cannot be read")


@pytest.mark.parametrize("left", [0, 3, 7, 60, 128, 129, -1])
def test_truncated_npy(left: int, tmp_path: Path) -> None:
    text = _npy(tmp_path)
    Path(text).write_bytes(Path(text).read_bytes()[:left])
    _fails(text, [X], "data.npy: ", "cut short" if left in (128, 129, -1) else "cannot be read")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("left", [0, 100, 5000, -1])
def test_truncated_npz(save: Any, left: int, tmp_path: Path) -> None:
    text = _npz(tmp_path, save, x=ARRAYS["x"])
    Path(text).write_bytes(Path(text).read_bytes()[:left])
    _fails(text, [X], "data.npz: cannot be read", "write it again")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_files_never_raise_anything_else(save: Any, tmp_path: Path) -> None:
    whole = {}
    for text in (_npz(tmp_path, save, x=ARRAYS["y"], labels=np.arange(N)), _npy(tmp_path, ARRAYS["y"])):
        whole[Path(text)] = Path(text).read_bytes()
    random, refused = np.random.default_rng(0), 0
    for path, content in whole.items():
        places = [*range(200), *range(len(content) - 200, len(content)), *random.integers(0, len(content), 100)]
        for at in places:
            damaged = bytearray(content)
            damaged[at] ^= int(random.integers(1, 256))
            path.write_bytes(damaged)
            try:
                for _ in open_data(path, [Y]).batches(64):
                    pass
            except CalibrationError:
                refused += 1
    assert refused > 300


def test_a_member_shorter_than_its_header_says(tmp_path: Path) -> None:
    content = Path(_npy(tmp_path)).read_bytes()
    _fails(_raw_npz(tmp_path, content[:-1]), [X], "raw.npz: array 'x': cut short", "save it again")


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_shrinks_after_it_was_opened(order: Any, tmp_path: Path) -> None:
    text = _npy(tmp_path, np.zeros((9000, *X.shape), np.float32, order))
    source = open_data(text, [X])
    stream = source.batches(100)
    next(stream)
    with open(text, "r+b") as file:
        file.truncate(200)
    with pytest.raises(CalibrationError, match=r"data\.npy: cannot be read .*data end early"):
        list(stream)  # not at once: Fortran order is read some thousand samples ahead


def test_zero_samples(tmp_path: Path) -> None:
    empty = ARRAYS["x"][:0]
    _fails(_npy(tmp_path, empty), [X], "data.npy: no samples")
    _fails(_npz(tmp_path, x=empty), [X], "data.npz: no samples")
    _fails(empty, [X], "data: no samples")
    (tmp_path / "empty").mkdir()
    _fails(tmp_path / "empty", [X], "empty: no samples", "put .npy files there")
    for data in (list, lambda: [empty], []):
        _fails(data, [X], "no samples", "yield at least one batch", "anew at every call")


def test_wrong_shapes(tmp_path: Path) -> None:
    x = ARRAYS["x"]
    _fails(x[:, :2], [X], "data: wrong shape for input 'x': expected (samples, 3, 4, 5), found (130, 2, 4, 5)")
    _fails(_npy(tmp_path, x[:, :2]), [X], "data.npy: wrong shape", "found (130, 2, 4, 5)")
    _fails(_npz(tmp_path, x=x[:, :2]), [X], "data.npz: array 'x': wrong shape", "found (130, 2, 4, 5)")
    _fails(x.transpose(0, 2, 3, 1), [X], "looks like NHWC where the model takes NCHW", "x.transpose(0, 3, 1, 2)")
    _fails(x.transpose(0, 3, 1, 2), [X], "looks like NCHW where the model takes NHWC", "x.transpose(0, 2, 3, 1)")
    _fails(x[0], [X], "one sample without the axis of samples", "x[None]")
    _fails(np.float32(3), [X], "found ()")
    _fails(np.zeros(()), [InputSpec("x", ())], "expected (samples), found ()")
    _fails(lambda: [x[:3], x[0]], [X], "callable, batch 1 (from sample 3), input 'x': wrong shape", "x[None]")
    folder = _folder(tmp_path)
    np.save(Path(folder) / "99.npy", x[:, :2])
    _fails(folder, [X], "set/99.npy: wrong shape")


def test_input_names(tmp_path: Path) -> None:
    x, y = ARRAYS["x"], ARRAYS["y"]
    _fails(_npz(tmp_path, train=x, test=x), [X], "which array is input 'x': 'train', 'test'?", "Say data.npz:KEY")
    _fails(_npz(tmp_path, train=x, test=x) + ":tran", [X], "no input array 'tran' (did you mean 'train'?)", "'test'")
    _fails(_npz(tmp_path, x=x) + ":", [X], "no input array ''")
    _fails(_npz(tmp_path, x=x, labels=x) + ":labels", [X], "no input array 'labels'")
    _fails(_npz(tmp_path, labels=np.arange(3)), [X], "no array for input 'x'")
    _fails(_npz(tmp_path, X=x, y=y), [X, Y], "data.npz: no array for input 'x' (did you mean 'X'?)")
    _fails(
        _npz(tmp_path, x=x, y=y) + ":x", [X, Y], "one array for a model with 2 inputs, 'x', 'y'", "leave out the key"
    )
    _fails(_npy(tmp_path), [X, Y], "one array for a model with 2 inputs", ".npz")
    _fails(_folder(tmp_path), [X, Y], "a folder for a model with 2 inputs", ".npz")
    _fails(x, [X, Y], "one array for a model with 2 inputs", "dict of arrays")
    _fails({"X": x}, [X], "data: no array for input 'x' (did you mean 'X'?)")
    _fails({"x": x, "yy": y}, [X], "data: 'yy' is not an input", "give only 'x'")
    _fails({"x": x, "yy": y}, [X, Y], "no array for input 'y' (did you mean 'yy'?)")
    _fails({3: x}, [X], "there are '3'")
    _fails(lambda: [{"x": x, "labels": y}], [X], "batch 0", "'labels' is not an input", "labels go into an .npz")
    _fails(x, [], "0 inputs")
    _fails({}, [], "the model has no inputs")


def test_unequal_lengths(tmp_path: Path) -> None:
    arrays = {"x": ARRAYS["x"], "y": ARRAYS["y"][:-1]}
    counts = "unequal numbers of samples: 'x' has 130, 'y' has 129"
    _fails(_npz(tmp_path, **arrays), [X, Y], f"data.npz: {counts}")
    _fails(arrays, [X, Y], f"data: {counts}")
    _fails(lambda: [arrays], [X, Y], f"batch 0 (from sample 0): {counts}")
    for labels in (np.arange(N - 1), np.array(3), np.array(["cat"] * N)):
        _fails(_npz(tmp_path, x=ARRAYS["x"], labels=labels), [X], "data.npz", "'labels'")
        _fails({"x": ARRAYS["x"], "labels": labels}, [X], "data: 'labels' is", "for 130 samples")


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (-np.inf, "-inf"), (1e300, "1e+300")])
def test_not_finite(value: float, shown: str, size: int, tmp_path: Path) -> None:
    y = ARRAYS["y"].astype(np.float64)
    y[77, 1] = value
    words = f"input 'y': sample 77 holds {shown} (at [1]), not a finite float32"
    arrays = {"x": ARRAYS["x"], "y": y}
    _fails(_npz(tmp_path, **arrays), [X, Y], "data.npz", words, size=size)
    _fails(_npy(tmp_path, y), [Y], "data.npy", words, size=size)
    _fails(arrays, [X, Y], words, size=size)
    _fails(lambda: (y[i : i + 9] for i in range(0, N, 9)), [Y], "callable", words, size=size)


def test_types_that_are_not_real_numbers(tmp_path: Path) -> None:
    for array, word in (
        (np.array([None, 1]), "pickle"),
        (np.zeros((2, 2), complex), "complex128"),
        (np.array(["a", "b"]), "<U1"),
        (np.zeros(2, "M8[s]"), "datetime64"),
        (np.zeros(2, [("ü", "f4")]), "real numbers"),
        (np.zeros(2, [("a", "O")]), "pickle"),
    ):
        _fails(_npy(tmp_path, array), [Y], "data.npy: dtype", word, "float32")
        _fails(_npz(tmp_path, y=array), [Y], "data.npz: array 'y': dtype", word)
        _fails({"y": array}, [Y], "data, input 'y': dtype", word)
        _fails(lambda array=array: [array], [Y], "callable, batch 0", word)
    _fails(_npz(tmp_path, y=ARRAYS["y"], labels=np.array([None])), [Y], "data.npz: 'labels': dtype object", "pickle")


def test_fortran_order_in_npz(tmp_path: Path) -> None:
    _fails(_npz(tmp_path, x=np.asfortranarray(ARRAYS["x"])), [X], "Fortran order", "np.ascontiguousarray")


def test_module_function_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(
        tmp_path,
        monkeypatch,
        """
        import numpy as np
        number = 3
        def batches(): yield np.zeros((1, 2))
        def nothing(): pass
        def broken(): raise KeyError("lost")
        def breaks():
            yield np.zeros((4, 2))
            raise OSError("disk gone")
        def needs(argument): return []
        """,
    )
    path = list(sys.path)
    _fails("no_such_module_here:f", [Y], "cannot import 'no_such_module_here'", "ModuleNotFoundError", "folder")
    _fails(f"{module}:batch", [Y], f"module '{module}' has no 'batch' (did you mean 'batches'?)")
    _fails(f"{module}:number", [Y], "has an object of type int 'number'", "name a function")
    _fails(f"{module}:nothing", [Y], "the function returned an object of type NoneType", "yield")
    assert isinstance(_fails(f"{module}:broken", [Y], "raised KeyError: 'lost'").__cause__, KeyError)
    error = _fails(f"{module}:breaks", [Y], "batch 1 (from sample 4)", "raised OSError: disk gone")
    assert isinstance(error.__cause__, OSError)
    _fails(f"{module}:needs", [Y], "raised TypeError", "argument")
    (tmp_path / "bad_syntax_here.py").write_text("def f(:")
    error = _fails("bad_syntax_here:f", [Y], "cannot import 'bad_syntax_here' (SyntaxError")
    assert isinstance(error.__cause__, SyntaxError)
    assert sys.path == path


def test_batches_of_the_wrong_type() -> None:
    x, y = ARRAYS["x"], ARRAYS["y"]
    _fails(3, [X], "not a int", "pass a file")
    _fails(lambda: ["text"], [X], "callable, batch 0", "type str is not an array")
    _fails(lambda: [y, None], [Y], "batch 1 (from sample 130)", "type NoneType is not an array")
    _fails(lambda: [(x, y)], [X], "a tuple of 2 for 1 input(s), 'x'", "only the inputs")
    _fails(lambda: [[x]], [X, Y], "a list of 1 for 2 input(s), 'x', 'y'")
    _fails(lambda: [x], [X, Y], "type ndarray for a model with 2 inputs", "yield a dict by input name")
    _fails({"x": [1, 2]}, [X], "data, input 'x'", "type list is not an array")

    class Device:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            raise TypeError("copy it to the host first")

    _fails(lambda: [Device()], [X], "copy it to the host first")


def test_a_generator_can_be_read_once() -> None:
    source = open_data((x for (x,) in _batches("x")), [X])
    assert sum(len(batch["x"]) for batch in source.batches(7)) == N
    with pytest.raises(CalibrationError, match=r"only once.*pass the function"):
        source.batches(7)


@pytest.mark.parametrize("size", [0, -1])
def test_batch_size(size: int) -> None:
    for source in (synthetic_data([X]), open_data(ARRAYS["x"], [X]), open_data(lambda: _batches("x"), [X])):
        with pytest.raises(CalibrationError, match="at least 1"):
            source.batches(size)
