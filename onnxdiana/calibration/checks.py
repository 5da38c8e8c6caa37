"""Checks of names, shapes and types of calibration data; each error says what, where and what to do, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxdiana.calibration.batches import Array, InputSpec
from onnxdiana.errors import CalibrationError

LABELS = "labels"
"""Name of the array (in an ``.npz``, a folder or a dict) that holds the classes; it is never an input."""


def as_array(value: object, where: str) -> Array:
    """Anything with ``__array__`` as a numpy array."""
    if not hasattr(value, "__array__"):
        raise CalibrationError(f"{where}: {described(value)} is not an array: give a numpy array, first axis = samples")
    try:
        return np.asarray(value)
    except Exception as error:
        what = described(value)
        raise CalibrationError(f"{where}: numpy cannot read {what} ({error}): give a numpy array") from error


def input_array(value: object, spec: InputSpec, where: str) -> Array:
    """The samples of one input, of a real type and the right shape."""
    array = as_array(value, where)
    require_real(array.dtype, where)
    require_shape(array.shape, spec, where)
    return array


def to_float32(values: Array, where: str, position: int) -> npt.NDArray[np.float32]:
    """A finite C-contiguous copy; ``position`` is the number of the first sample, for the message."""
    with np.errstate(all="ignore"):
        copy = np.array(values, dtype=np.float32, order="C")
    good = np.isfinite(copy)
    if not good.all():
        at = tuple(int(i) for i in np.unravel_index(int(np.argmin(good)), good.shape))
        raise CalibrationError(
            f"{where}: sample {position + at[0]} holds {values[at]} (at {list(at[1:])}), not a finite float32: "
            "repair or remove the sample"
        )
    return copy


def require_one(inputs: Sequence[InputSpec], what: str, advice: str) -> None:
    """The data hold one array, so the model must have one input."""
    if len(inputs) != 1:
        names = listed([spec.name for spec in inputs])
        raise CalibrationError(f"{what} for a model with {len(inputs)} inputs, {names}: {advice}")


def require_names(keys: Iterable[object], inputs: Sequence[InputSpec], where: str, exact: bool = True) -> None:
    """There is an array for every input, and (``exact``) no other."""
    names, found = [spec.name for spec in inputs], [str(key) for key in keys]
    extra = [key for key in found if key not in names]
    for name in names:
        if name not in found:
            raise CalibrationError(
                f"{where}: no array for input {name!r}{nearest(name, extra)}: there are {listed(found)}: name the "
                "arrays after the inputs"
            )
    if extra and exact:
        near = " (labels go into an .npz beside the inputs)" if extra[0] == LABELS else nearest(extra[0], names)
        raise CalibrationError(f"{where}: {extra[0]!r} is not an input{near}: give only {listed(names)}")


def require_equal(lengths: Mapping[str, int], where: str) -> None:
    """Every input has as many samples."""
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise CalibrationError(f"{where}: unequal numbers of samples: {counts}: give every input as many")


def require_labels(labels: Array, samples: int, where: str) -> None:
    """Numbers, one entry (or row) a sample."""
    if labels.dtype.kind not in "biuf" or labels.shape[:1] != (samples,):
        raise CalibrationError(
            f"{where}: {LABELS!r} is {labels.dtype} of shape {labels.shape} for {samples} samples: give "
            "numbers, first axis = samples"
        )


def require_real(dtype: np.dtype[Any], where: str) -> None:
    """Booleans, integers or floats."""
    if dtype.kind not in "biuf":
        why = "Python objects need pickle, which runs code" if dtype.hasobject else "inputs are real numbers"
        raise CalibrationError(f"{where}: dtype {dtype}: {why}: convert the array to float32")


def require_shape(found: tuple[int, ...], spec: InputSpec, where: str) -> None:
    """``found`` is (samples, *shape of a sample)."""
    sample, want = found[1:], spec.shape
    if found and sample == want:
        return
    axes = tuple(range(1, len(found)))
    advice = "make the samples as the model wants them"
    if found == want:
        advice = "it is one sample without the axis of samples: x[None] adds it"
    elif len(sample) > 2 and (sample[-1], *sample[:-1]) == want:
        advice = f"it looks like NHWC where the model takes NCHW: x.transpose{(0, axes[-1], *axes[:-1])}"
    elif len(sample) > 2 and (*sample[1:], sample[0]) == want:
        advice = f"it looks like NCHW where the model takes NHWC: x.transpose{(0, *axes[1:], axes[0])}"
    expected = ", ".join(["samples", *map(str, want)])
    raise CalibrationError(
        f"{where}: wrong shape for input {spec.name!r}: expected ({expected}), found {found}: {advice}"
    )


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Whatever a missing or damaged file makes os, numpy, zipfile or zlib raise becomes a CalibrationError."""
    try:
        yield
    except (CalibrationError, MemoryError):
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise CalibrationError(f"{where}: cannot be read ({reason}): check the file, or write it again") from error


@contextmanager
def user_code(where: str) -> Iterator[None]:
    """Whatever the user's function raises becomes a CalibrationError."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise CalibrationError(
            f"{where}: the data function raised {type(error).__name__}: {error}: repair it"
        ) from error


def described(value: object) -> str:
    """A value by its type."""
    return f"an object of type {type(value).__name__}"


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint at the nearest of some names, with a space in front; empty where none is near."""
    folded = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names for a message, the first few."""
    return (", ".join(map(repr, names[:most])) or "none") + (", ..." if len(names) > most else "")
