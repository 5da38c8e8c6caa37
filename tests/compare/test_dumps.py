"""Dumps in all forms are read, damaged ones refused, in little time and memory."""

from __future__ import annotations

from pathlib import Path

import devices
import numpy as np
import pytest

from onnxdiana.compare import dumps
from onnxdiana.errors import DumpError

CODES = np.array([[-128, -5, 0], [7, 100, 127]])
LIMIT = 1 << 22


def read(path: Path) -> list[dumps.Dump]:
    return dumps.read(path, LIMIT)


@pytest.mark.parametrize("form", devices.SUFFIX)
def test_every_form_gives_the_same_numbers(tmp_path: Path, form: str) -> None:
    codes = CODES if form != "csv" else CODES.reshape(-1)[:4]
    dump, = read(devices.write_one(tmp_path / f"x{devices.SUFFIX[form]}", codes, form))
    assert dump.values.dtype == np.int64
    assert dump.values.tolist() == codes.reshape(-1).tolist()
    assert dump.name == {"named": "x", "c": "g_x"}.get(form)
    assert dump.eight_bits == (form not in ("float", "wide"))


@pytest.mark.parametrize(("text", "numbers"), [
    ("1 2 -3", [1, 2, -3]), ("1,2,\n-3,\n", [1, 2, -3]), ("[[1 2]\n [3 4]]", [1, 2, 3, 4]), ("{1, 2, 3};", [1, 2, 3]),
    ("0x7f 0x80 0xff", [127, -128, -1]), ("-0x1 0X02", [-1, 2]), ("1u 2L 3UL", [1, 2, 3]), ("1.0 -2. 3e0", [1, -2, 3]),
    ("255 0 128", [-1, 0, -128]), ("300 -5", [300, -5]), ("-1 200", [-1, 200]), ("0xfffffff0 1", [-16, 1]),
    ("0: 5\n1: -6\n2: 7", [5, -6, 7]), ("[0] = 5\n[1] = -6", [5, -6]),
    ("# made\n1 2 // more\n/* 9\n 9 */ 3", [1, 2, 3]),
    ("0x20001000:\t0x01\t0xff\n0x20001002 <buffer+2>: 0x7f", [1, -1, 127]), ("", []), ("\ufeff1 2", [1, 2]),
    ("out:\n1 2", [1, 2]), ("out = [1 2]", [1, 2]), ("layer/conv.1: 4\n", [4]),
    ("const int8_t a[2][2] = {{1, 2}, {3, 4}};", [1, 2, 3, 4]),
    ('float g_input[] __attribute__((section("data"), aligned(16))) = {1.0f, -2.0f, };', [1, -2])])
def test_texts(tmp_path: Path, text: str, numbers: list[int]) -> None:
    (tmp_path / "a.txt").write_text(text, "utf-8")
    dump, = read(tmp_path / "a.txt")
    assert dump.values.tolist() == numbers


def test_texts_of_several_tensors(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("intermediate_0:\n1 2\n3\n\noutput: 4 5\n")
    assert [(d.name, d.values.tolist()) for d in read(tmp_path / "a.log")] == [
        ("intermediate_0", [1, 2, 3]), ("output", [4, 5])]
    (tmp_path / "a.h").write_text("const size_t a_len = 2;\nint8_t a[2] = {1,\n 2};\nint8_t b[] = {0x83};\n")
    assert [(d.name, d.values.tolist()) for d in read(tmp_path / "a.h")] == [("a", [1, 2]), ("b", [-125])]


def test_real_numbers_stay_real(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0.5 -1.25")
    assert read(tmp_path / "a.txt")[0].values.tolist() == [0.5, -1.25]
    np.save(tmp_path / "a.npy", np.array([0.5, 2], np.float16))
    assert read(tmp_path / "a.npy")[0].values.tolist() == [0.5, 2]


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "f2", "f4", "f8", ">i2", ">f8"])
def test_every_type(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(CODES.astype(dtype)))
    assert read(tmp_path / "a.npy")[0].values.tolist() == CODES.reshape(-1).tolist()


@pytest.mark.parametrize("dtype", [np.uint16, np.uint64, np.bool_])
def test_unsigned_types(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "a.npy", np.array([0, 1, 1 if dtype is np.bool_ else np.iinfo(dtype).max], dtype))
    values = read(tmp_path / "a.npy")[0].values
    assert values[:2].tolist() == [0, 1]
    assert values[2] > 0


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.txt", b"\xff\xfe\x00garbage", "is no text"), ("a.txt", b"1 2 three", "'three' (word 2) is no number"),
    ("a.txt", b"1 nan 2", "element 1 is nan"), ("a.csv", b"1,inf", "not finite"), ("a.txt", b"1 2 ... 3", "'...'"),
    ("a.txt", b"0: 1\n2: 3", "index 2 where 1 comes next"), ("a.txt", b"1" * 200 + b": 3", "where 0 comes next"),
    ("a.txt", b"1" * 5000 + b": 3", "'11111111111111111111...' (word 0) is no number"),
    ("a.txt", b"9" * 5000, "element 0 is inf"),
    ("a.txt", b"[" + b"1" * 5000 + b"] = -5", "is no number"), ("a.txt", b"0x" + b"1" * 5000, "is no number"),
    ("a.txt", b"\x00\x01\x02", "is no number"),
    ("a.npy", b"", "cannot be read"), ("a.npy", b"\x93NUMPY\x01\x00\xff\xff", "cannot be read"),
    ("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999,), }".ljust(127)
     + b"\n", "cut short"), ("a.h", b"int8_t a[] = {1, b};", "'b' (word 1)")])
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DumpError) as error:
        read(tmp_path / name)
    assert message in str(error.value)
    assert name in str(error.value)


def test_no_pickles_and_no_nan(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(DumpError, match="pickle"):
        read(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([1, np.nan, np.inf], np.float32))
    with pytest.raises(DumpError, match="element 1 is nan, and 2 of 3 are not finite"):
        read(tmp_path / "b.npy")


@pytest.mark.parametrize(("dtype", "bits"), [("u2", 0x7D00), ("u4", 0x7FA00000), ("u8", 0x7FF4 << 48)])
def test_signalling_nans_are_refused_without_a_warning(tmp_path: Path, dtype: str, bits: int) -> None:
    np.save(tmp_path / "a.npy", np.array([0, bits], dtype).view(dtype.replace("u", "f")))
    with pytest.raises(DumpError, match="element 1 is nan, and 1 of 2 are not finite"):
        read(tmp_path / "a.npy")


def test_missing_and_large_files(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="no such file"):
        read(tmp_path / "none.bin")
    with open(tmp_path / "large.txt", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DumpError, match="more than a dump"):
        read(tmp_path / "large.txt")
    (tmp_path / "link.bin").symlink_to(tmp_path / "link.bin")
    with pytest.raises(DumpError, match="no such file"):
        read(tmp_path / "link.bin")


@pytest.mark.parametrize("part", ["/*", "a[", "a", "1,", "x:=", "0x", "[1", "a[1]", " ", ":\n", "{", "a[]={", "\n", "#",
                                  "a:", "0x1:", "1e", "1.", "=", "é:"])
def test_every_text_takes_linear_time(tmp_path: Path, part: str) -> None:
    """Half a megabyte: a quadratic expression would take hours."""
    (tmp_path / "a.txt").write_text(part * ((1 << 19) // len(part)), "utf-8")
    try:
        found = sum(dump.values.size for dump in read(tmp_path / "a.txt"))
    except DumpError as error:
        found = -len(str(error))
    assert -500 < found <= 1 << 19
