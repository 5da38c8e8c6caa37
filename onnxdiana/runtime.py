"""Running models in onnxruntime, on batches, with any tensors fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana.errors import ModelError

Batch = Mapping[str, NDArray[Any]]

LARGEST_PROTO = 1_900_000_000
"""Bytes of weights that go to onnxruntime in one protobuf message, which holds 2 GiB."""
CHUNK = 16
"""Samples in one run. Fixed, whatever the caller's batch: floats then add up in the same order every time."""


class Runner:
    """One onnxruntime session that returns the tensors asked for."""

    def __init__(self, model: ir.Model | onnx.ModelProto, fetch: Sequence[str] | None = None) -> None:
        """Args: model: to run; fetch: tensors to return, by default the graph's outputs.

        Raises:
            ModelError: onnxruntime cannot build a session.
        """
        import onnxruntime

        self._weights: dict[str, NDArray[Any]] = {}
        if isinstance(model, ir.Model):
            model, self._weights = _without_largest(model)
        proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
        names = [v.name for v in proto.graph.output]
        self.fetch = tuple(names if fetch is None else fetch)
        extra = [name for name in dict.fromkeys(self.fetch) if name not in names]
        if extra:
            copy = onnx.ModelProto()
            copy.CopyFrom(proto)
            copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
            proto = copy
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelError(f"onnxruntime cannot load the model: {_gist(error)}; export it again") from error
        self._batch = _fixed_batch(proto, self._weights)

    def run(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Every fetched tensor for the samples of one batch, :data:`CHUNK` samples (or the model's batch) at a time.

        Raises:
            ModelError: onnxruntime failed on the model.
        """
        if not self.fetch:
            return {}  # onnxruntime would return every output
        count = len(next(iter(batch.values())))
        size = self._batch or CHUNK
        parts: list[list[NDArray[Any]]] = []
        for start in range(0, count, size):
            feed = {name: array[start:start + size] for name, array in batch.items()}
            missing = size - len(next(iter(feed.values()))) if self._batch else 0
            if missing:  # a fixed batch is filled up with the last sample, and the answers to it are dropped
                feed = {k: np.concatenate([v, np.repeat(v[-1:], missing, axis=0)]) for k, v in feed.items()}
            try:
                outputs = self._session.run(list(self.fetch), {**feed, **self._weights})
            except Exception as error:
                raise ModelError(f"onnxruntime failed to run the model: {_gist(error)}; export it again") from error
            parts.append([o[:size - missing] for o in outputs] if missing else outputs)
        if len(parts) == 1:
            return dict(zip(self.fetch, parts[0], strict=True))
        return {name: np.concatenate(arrays) for name, *arrays in zip(self.fetch, *parts, strict=True)}


def _gist(error: Exception) -> str:
    """The first line of onnxruntime's message, without its codes and source positions."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    noise = r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Non-zero status code returned while running |/onnxruntime_src\S+ "
    return re.sub(noise, "", line)


def _without_largest(model: ir.Model) -> tuple[ir.Model, dict[str, NDArray[Any]]]:
    """The model with its largest weights as inputs where all together exceed :data:`LARGEST_PROTO`, and their values.

    onnxruntime reads inputs where they lie, mapped from a file or not; it copies external initializers.
    """
    sizes = {name: v.const_value.nbytes for name, v in model.graph.initializers.items() if v.const_value is not None}
    excess = sum(sizes.values()) - LARGEST_PROTO
    if excess <= 0:
        return model, {}
    clone, weights = model.clone(), {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if excess <= 0:
            break
        excess -= sizes[name]
        value = clone.graph.initializers.pop(name)
        assert value.const_value is not None
        weights[name] = value.const_value.numpy()
        value.dtype, value.shape, value.const_value = value.const_value.dtype, ir.Shape(weights[name].shape), None
        clone.graph.inputs.append(value)
    return clone, weights


def _fixed_batch(proto: onnx.ModelProto, weights: Mapping[str, Any]) -> int | None:
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in weights and dims and dims[0].dim_value:
            return int(dims[0].dim_value)
    return None


def take(batch: Batch, start: int, stop: int) -> dict[str, NDArray[Any]]:
    """Samples ``start`` to ``stop`` of every input."""
    return {name: array[start:stop] for name, array in batch.items()}


def length(batch: Batch) -> int:
    """Number of samples."""
    return len(next(iter(batch.values())))


def few(samples: Batch, limit: int) -> dict[str, NDArray[Any]]:
    """At most ``limit`` samples, evenly, the first one among them."""
    stride = -(-length(samples) // limit)
    return {name: x[::stride] for name, x in samples.items()}
