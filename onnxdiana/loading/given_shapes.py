"""Input shapes that the user gives: symbolic and unknown sizes become numbers, the file's own are not contradicted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from onnx import ModelProto, ValueInfoProto

from onnxdiana.errors import ConfigError, ModelError
from onnxdiana.loading.walk import bodies

OPTION = "--input-shape"
"""How the command line calls it."""
_LONGEST = 2**31 - 1


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Name and shape of ``NAME=1,3,32,32``; the name may hold ``=`` and ``:``.

    Raises:
        ConfigError: there is no name, or a size is no positive number.
    """
    name, _, sizes = text.rpartition("=")
    if not name or not re.fullmatch(r"[1-9][0-9]{0,9}(,[1-9][0-9]{0,9})*", sizes):
        raise ConfigError(f"{OPTION} '{text}' is not a name and its positive sizes: write it like "
                          f"{OPTION} input=1,3,32,32")
    return name, tuple(int(size) for size in sizes.split(","))


def example(value: ValueInfoProto) -> str:
    """The option for one input, with what the file says of its sizes filled in."""
    if not value.type.tensor_type.HasField("shape"):
        return f"{OPTION} {value.name}=1,3,32,32"
    dims = value.type.tensor_type.shape.dim
    sizes = [str(d.dim_value) if d.dim_value > 0 else "1" if axis == 0 else d.dim_param or "?"
             for axis, d in enumerate(dims)]
    return f"{OPTION} {value.name}={','.join(sizes)}"


def freeze(proto: ModelProto, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Give inputs the shapes in place; what the file says of sizes further on is forgotten.

    A symbol that got one size has that size in other inputs too.

    Args:
        proto: without initializers among its inputs.
        shapes: all sizes of an input, the samples' axis first, by its name, which may be empty where there is one.

    Returns:
        What was done, for the user.

    Raises:
        ModelError: there is no such input, a size is no positive number, or the file says otherwise.
    """
    inputs = {value.name: value for value in proto.graph.input}
    symbols: dict[str, set[int]] = {}
    if "" in shapes:
        if len(inputs) != 1 or len(shapes) != 1:
            raise ModelError(f"a shape is given without a name, and that can only be of the only input: the inputs are "
                             f"{', '.join(map(repr, inputs))}; give it like {OPTION} NAME=1,3,32,32")
        shapes = dict.fromkeys(inputs, shapes[""])
    for name, given in shapes.items():
        if name not in inputs:
            near = difflib.get_close_matches(name, list(inputs), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"the inputs are {', '.join(map(repr, inputs))}"
            raise ModelError(f"a shape is given for '{name}', which is no input of the model: {hint}")
        shape = tuple(given)
        if not shape or not all(isinstance(size, int) and 0 < size <= _LONGEST for size in shape):
            raise ModelError(f"the shape {list(shape)} given for input '{name}' has sizes that are no positive "
                             f"numbers: give all of them, such as {example(inputs[name])}")
        _freeze(inputs[name], shape, symbols)
    if not shapes:
        return []
    for value in proto.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if len(sizes := symbols.get(dim.dim_param, set())) == 1:
                dim.dim_value = min(sizes)
    stale = [*proto.graph.output, *(value for body in bodies(proto) for value in body.value_info)]
    for value in stale:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return [f"input '{name}' has the given shape {'x'.join(map(str, shape))}" for name, shape in shapes.items()]


def _freeze(value: ValueInfoProto, shape: tuple[int, ...], symbols: dict[str, set[int]]) -> None:
    """One input; sizes of symbols are collected."""
    if value.type.WhichOneof("value") not in (None, "tensor_type"):
        return  # refused next, for what it is
    kind = value.type.tensor_type
    if kind.HasField("shape"):
        dims = kind.shape.dim
        if not dims:
            return  # a scalar likewise
        found = ",".join(str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in dims)
        if len(dims) != len(shape) or any(d.dim_value > 0 and d.dim_value != size
                                          for d, size in zip(dims, shape, strict=True)):
            raise ModelError(f"the shape {','.join(map(str, shape))} given for input '{value.name}' contradicts the "
                             f"file's, {found}: give it as {example(value)}, or export the model for "
                             "other sizes")
        for dim, size in zip(dims, shape, strict=True):
            if dim.dim_param:
                symbols.setdefault(dim.dim_param, set()).add(size)
    kind.ClearField("shape")
    kind.shape.SetInParent()
    for size in shape:
        kind.shape.dim.add(dim_value=size)
