"""What a device or simulator dumped, read from files: ``.npy``, raw bytes or text of numbers become flat arrays.

Files are untrusted: none larger than a caller's limit is read, nothing is unpickled, and a number is a number only
where all of it is.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxdiana.calibration.npy import read_whole
from onnxdiana.errors import CalibrationError, DumpError

Array = NDArray[Any]

TEXT = (".txt", ".csv", ".log", ".h", ".c")
"""Suffixes; ``.npy`` is read as such, every other file as raw bytes."""

# every repetition below ends where it cannot match, or is bounded: a text of any kind takes linear time
_COMMENTS = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*|#[^\n]*", re.DOTALL)
_ADDRESS = re.compile(r"^[ \t]*0x[0-9a-f]{1,16}(?:[ \t]*<[^>\n]{0,200}>)?:", re.IGNORECASE | re.MULTILINE)
"""``0x1c001000 <buffer+16>:``, as debuggers write in front of a line."""
_DECLARATION = re.compile(
    r"\b([A-Za-z_]\w*)\s*(?:\[[^\]\n]{0,64}\]\s*)+(?:__attribute__\s*\(\(.{0,80}?\)\)\s*)?=\s*(?=\{)")
"""``int8_t name[2][3] = {``, up to the brace."""
_HEADING = re.compile(r"[ \t]*([^\s,]{1,200}?)[ \t]*[:=](?:[ \t]+(.*)|)")
"""``name:`` on a line of its own, or in front of numbers."""
_INDEXED = re.compile(r"[ \t]*\[?(\d{1,200})\]?[ \t]*[:=][ \t]*(\S+)[ \t,;]*")
"""``12: -5`` or ``[12] = -5``."""
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)[flu]*", re.IGNORECASE)
_HEX = re.compile(r"([+-]?)0x([0-9a-f]{1,16})[lu]*", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_SMALLEST = 2.0**-40
_LARGEST = np.uint64(2**62)


@dataclass(frozen=True)
class Dump:
    """The numbers of one tensor, as they were found."""

    source: str
    """The file's name, with the name in it where there is one."""
    name: str | None
    """What the file itself calls them."""
    values: Array
    """Flat: int64, or float64 where one is no whole number."""
    eight_bits: bool
    """Whether they were (or could have been) stored in 8 bits, so that what a device computes has been cut to them."""
    raw: bool = False
    """Whether the file tells no type: bytes."""

    def widened(self) -> Dump:
        """Raw bytes as float32 where they can be that, else as int32."""
        data = self.values.astype(np.int8)
        floats = data.view("<f4")
        size = np.abs(floats[floats != 0])  # small integers would be tiny as floats, negative ones not finite
        if np.isfinite(floats).all() and (size >= _SMALLEST).all():
            return _typed(floats, self.source, self.name)
        return _typed(data.view("<i4"), self.source, self.name)


def read(path: Path, limit: int) -> list[Dump]:
    """All tensors in a file; its type follows from the suffix, raw bytes where that is unknown.

    Args:
        path: a file.
        limit: bytes that no sensible dump exceeds.

    Raises:
        DumpError: it cannot be read, is larger, is not what its suffix says, or a number is not finite.
    """
    try:
        if not path.is_file():  # a pipe would wait for its writer
            raise DumpError(f"{path}: no such file; give a dump, or a folder of dumps")
        size = path.stat().st_size
        if size > limit:
            raise DumpError(f"{path} has {size} bytes, more than a dump of all tensors of this network takes "
                            f"({limit}); give the dump of this network, one sample a file")
        suffix = path.suffix.lower()
        if suffix == ".npy":
            return [_typed(read_whole(path, None, str(path)).reshape(-1), path.name, None)]
        data = path.read_bytes()
    except CalibrationError as error:  # of the reader that calibration data and dumps share
        raise DumpError(str(error)) from error
    except OSError as error:
        raise DumpError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if suffix in TEXT:
        return _text(data, path.name)
    return [dataclasses.replace(_typed(np.frombuffer(data, np.int8), path.name, None), raw=True)]


def _typed(values: Array, source: str, name: str | None) -> Dump:
    """Numbers of any real type, all of them finite."""
    bytes_ = values.dtype.kind != "f" and values.dtype.itemsize == 1
    if values.dtype == np.uint8:
        values = values.view(np.int8)  # int8 codes that were printed or stored without their sign
    return Dump(source, name, _whole(values, source), bytes_)


def _whole(values: Array, source: str) -> Array:
    """As int64 where they are whole numbers, else as float64."""
    if values.dtype.kind != "f":
        return values.astype(np.int64) if values.dtype != np.uint64 else np.minimum(values, _LARGEST).astype(np.int64)
    with np.errstate(invalid="ignore"):  # of a signalling nan
        wide = values.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(wide))
    if bad.size:
        raise DumpError(f"{source}: element {bad[0]} is {wide[bad[0]]}, and {bad.size} of {wide.size} are not finite; "
                        "what was dumped is no tensor of codes")
    whole = (wide == np.rint(wide)) & (np.abs(wide) < float(_LARGEST))
    return wide.astype(np.int64) if whole.all() else wide


def _text(data: bytes, source: str) -> list[Dump]:
    """The numbers of a text, one dump a name in it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DumpError(f"{source} is no text (byte {error.start}); call raw bytes .bin") from error
    text = _ADDRESS.sub(" ", _COMMENTS.sub(" ", text))
    declared = list(_DECLARATION.finditer(text))
    if declared:  # C arrays, each up to its semicolon
        ends = [match.start() for match in declared[1:]]
        parts = [(match[1], text[match.end():end].partition(";")[0])
                 for match, end in zip(declared, [*ends, None], strict=True)]
        return [_numbers(body.translate(_BRACKETS).split(), source, name) for name, body in parts]
    return [_numbers(words, source, name) for name, words in _sections(text, source) if words or name is None]


_BRACKETS = str.maketrans("{}[]();,", "        ")


def _sections(text: str, source: str) -> list[tuple[str | None, list[str]]]:
    """Names, and the words below each; what stands before the first name has none."""
    found: list[tuple[str | None, list[str]]] = [(None, [])]
    for line in text.splitlines():
        indexed, heading = _INDEXED.fullmatch(line), _HEADING.fullmatch(line)
        words = found[-1][1]
        if indexed:
            if int(indexed[1]) != len(words):
                raise DumpError(f"{source}: index {indexed[1]} where {len(words)} comes next; list all elements in "
                                "order")
            words.append(indexed[2])
        elif heading:
            found.append((heading[1], (heading[2] or "").translate(_BRACKETS).split()))
        else:
            words += line.translate(_BRACKETS).split()
    return found[1:] if len(found) > 1 and not found[0][1] else found


def _numbers(words: list[str], source: str, name: str | None) -> Dump:
    """Words as numbers: decimal, hexadecimal, with the suffixes of C."""
    source = source if name is None else f"{source}, '{name}'"
    values: list[float] = []
    floats, hexadecimal = False, False
    for index, word in enumerate(words):
        if match := _NUMBER.fullmatch(word):
            floats = floats or not match[1].lstrip("+-").isdigit()
            values.append(float(match[1]))
        elif match := _HEX.fullmatch(word):
            hexadecimal = True
            values.append(float(int(match[1] + match[2], 16)))
        elif _NOT_FINITE.fullmatch(word):
            values.append(float("nan"))
        else:
            shown = word if len(word) <= 20 else f"{word[:20]}..."
            raise DumpError(f"{source}: {shown!r} (word {index}) is no number; give numbers separated by blanks, "
                            "commas or line ends")
    array = np.array(values, np.float64)
    codes = _whole(array, source)
    lo, hi = codes.min(initial=0), codes.max(initial=0)
    if not floats and 127 < hi <= 255 and lo >= 0:  # bytes, printed without their sign
        codes = codes.astype(np.uint8).view(np.int8).astype(np.int64)
    elif hexadecimal and 255 < hi < 2**32 and lo >= 0:  # int32, likewise
        codes = codes.astype(np.uint32).view(np.int32).astype(np.int64)
    fits = bool(lo >= -128 and hi <= 255 and (lo >= 0 or hi <= 127))
    return Dump(source, name, codes, fits and not floats)
