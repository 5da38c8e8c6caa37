"""Contents of files: the same bytes for the same values."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray


def npy(array: NDArray[Any]) -> bytes:
    """An array in numpy's file format."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def array_like(data: bytes, like: NDArray[Any]) -> NDArray[Any] | None:
    """The array of an untrusted npy file, where it has the type and shape of another one, else None.

    The header is compared, never believed: it may speak of any size, or code.
    """
    exact = npy(like)
    header = len(exact) - like.nbytes
    if len(data) != len(exact) or data[:header] != exact[:header]:
        return None
    return np.frombuffer(data, like.dtype, offset=header).reshape(like.shape)


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def document(content: Mapping[str, Any]) -> bytes:
    """A JSON file."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # a file name need not be text; this way it is a JSON escape


def sample_archive(samples: Mapping[str, NDArray[Any]]) -> bytes:
    """``samples.npz``; numpy writes no time stamps into it."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **dict(samples))
    return stream.getvalue()


def serialize(proto: onnx.ModelProto) -> bytes:
    """The same bytes for equal models."""
    data: bytes = proto.SerializeToString(deterministic=True)
    return data
