"""Errors of the ``.npy`` files beside a model: E14 by themselves, E16 against the exact computation."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from onnxdiana.errors import CalibrationError, HandoffError
from onnxdiana.handoff import constants, interpreter
from onnxdiana.handoff.dialect import Verdict
from onnxdiana.handoff.findings import Finding
from onnxdiana.handoff.nodes import Graph

Array = NDArray[Any]

OUTPUT = "output.npy"
MANIFEST = "manifest.json"
_INTERMEDIATE = "intermediate_"
_MOST_ELEMENTS = 2**22
"""Of one tensor: a larger one is nothing for a chip with 512 kB."""
_AGAIN = "write the vectors again, with exact integer arithmetic"


@dataclass(frozen=True)
class Vectors:
    """Arrays by file name, as far as they can be used, and what is wrong with them."""

    arrays: Mapping[str, Array]
    findings: tuple[Finding, ...]


def read(graph: Graph, files: Mapping[str, bytes], scale: Array | None) -> Vectors:
    """Every ``.npy`` of a folder, since HTVM loads them all (E14).

    Args:
        graph: the model's.
        files: contents by name; others than ``.npy`` are left out.
        scale: the output dequantizer's divisor, where there is one.
    """
    arrays: dict[str, Array] = {}
    findings: list[Finding] = []
    inputs = {f"{value.name}.npy": value.name for value in graph.inputs}
    names = sorted(name for name in files if name.endswith(".npy"))
    for name in names:
        array = _load(files[name])
        if isinstance(array, str):
            findings.append(Finding("E14", name, array, "an npy file of float32 or int8",
                                    "write it again with numpy.save"))
            continue
        complaint = _type(name, array) or _content(name, array, graph, inputs, scale)
        if complaint is None:
            arrays[name] = array
        else:
            findings.append(complaint)
    if names:
        findings += [Finding("E14", name, "no such file", "a vector of every input, and of the output",
                             "write it: HTVM compares only where both are there")
                     for name in (*inputs, OUTPUT) if name not in files]
    return Vectors(arrays, tuple(findings))


def _load(data: bytes) -> Array | str:
    """The array, or why there is none; a header's sizes are believed as far as the file goes."""
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if header is None:
            return f"version {version} of the npy format"
        shape, fortran, dtype = header(stream)
        rest = memoryview(data)[stream.tell():]
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(rest):
            return f"{len(rest)} bytes for shape {shape} of {dtype}"
        array: Array = np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # of numpy, and of Python's parser on what may be no header at all
        return f"no readable npy file ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    return array


def _type(name: str, array: Array) -> Finding | None:
    if array.dtype not in (np.dtype("<f4"), np.dtype("i1")):
        return Finding("E14", name, f"type {array.dtype}", "float32 or int8",
                       "convert it, or move it elsewhere: HTVM loads every npy file beside the model, fails on this")
    return None


def _content(
    name: str, array: Array, graph: Graph, inputs: Mapping[str, str], scale: Array | None
) -> Finding | None:
    """What is wrong with the numbers."""
    if not np.isfinite(array).all():
        return Finding("E14", name, "values that are not finite", "finite values", _AGAIN)
    if name in inputs:
        shape = graph.shapes.get(inputs[name])
        if shape is not None and array.size != math.prod(shape):
            return Finding("E14", name, f"{array.size} elements", f"{math.prod(shape)}, shape {shape}",
                           "write one sample in the input's shape")
        return None
    if name == OUTPUT:
        if scale is None or scale.size != 1:
            return None
        step = float(scale.reshape(-1)[0])
        if constants.exponent(step) is not None:
            bad = constants.first_outside(array.astype(np.float64) * step, constants.INT8)
            return None if bad is None else Finding(
                "E14", name, f"the value {bad / step!r}", f"int8 codes divided by {step:g}", _AGAIN)
        return None
    if name.startswith(_INTERMEDIATE):
        bad = constants.first_outside(array.astype(np.float64), constants.INT8)
        return None if bad is None else Finding(
            "E14", name, f"the value {bad!r}", "whole numbers in [-128, 127]", _AGAIN)
    return None


def compare(
    graph: Graph, vectors: Vectors, verdict: Verdict, manifest: bytes | None
) -> tuple[list[Finding], list[str]]:
    """Recompute and compare (E16).

    Args:
        graph: legal, as far as the walk over it tells.
        vectors: from :func:`read`.
        verdict: that walk's.
        manifest: of a folder of ours: which tensor a file holds.

    Returns:
        Findings, and notes where nothing could be compared.
    """
    largest = max((math.prod(shape) for shape in graph.shapes.values()), default=0)
    if largest > _MOST_ELEMENTS:
        return [], [f"not recomputed: a tensor of {largest:,} elements"]
    names = {value.name: f"{value.name}.npy" for value in graph.inputs}
    known = all(file in vectors.arrays for file in names.values())
    feed = {name: np.zeros(graph.shapes[name], np.float32) if not known
            else vectors.arrays[file].astype(np.float32).reshape(graph.shapes[name]) for name, file in names.items()}
    tensors = _tensors(graph, vectors.arrays, verdict.requantized, manifest) if known else {}
    try:
        values = interpreter.run(graph.model, feed, list(dict.fromkeys(tensors.values())))
    except interpreter.Refusal as refusal:
        if refusal.code == "E4" and refusal.node in verdict.beyond:
            return [], [f"not recomputed: {refusal.node} has {verdict.beyond[refusal.node]}"]
        return [Finding(refusal.code, refusal.node, refusal.found, refusal.needed,
                        "write it in the form that the exact computation takes (docs/htvm-dialect.md)")], []
    except (HandoffError, CalibrationError) as error:
        return [Finding("E4", "graph", str(error), "a graph that can be computed", "see docs/htvm-dialect.md")], []
    if not known:
        return [], []
    if OUTPUT in vectors.arrays:
        tensors[OUTPUT] = graph.outputs[0]
    return list(_differences(vectors.arrays, values, tensors)), []


def unfit(graph: Graph) -> list[Finding]:
    """Operands that do not fit each other (E4), which else the computation finds."""
    return [Finding("E4", node.where, f"inputs of shapes {[graph.shapes[name] for name in node.inputs if name]}",
                    "operands that fit each other", "write it with operands of other shapes") for node in graph.unfit]


def _tensors(
    graph: Graph, arrays: Mapping[str, Array], requantized: tuple[str, ...], manifest: bytes | None
) -> dict[str, str]:
    """Which tensor each ``intermediate_<i>.npy`` holds: what the manifest says, else the i-th requantizer's codes."""
    said = _manifest(manifest)
    found = {}
    for file, array in arrays.items():
        number = file.removeprefix(_INTERMEDIATE).removesuffix(".npy")
        if not file.startswith(_INTERMEDIATE) or not (number.isascii() and number.isdecimal()):
            continue
        place = int(number) if len(number) < 7 else len(requantized)
        name = said.get(file) or (requantized[place] if place < len(requantized) else None)
        shape = None if name is None else graph.shapes.get(name)
        if name is not None and shape is not None and math.prod(shape) == array.size:
            found[file] = name
    return found


def _manifest(data: bytes | None) -> dict[str, str]:
    try:
        told = json.loads(data or b"{}")["intermediates"]
        return {str(file): name for file, name in told.items() if isinstance(name, str)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _differences(
    arrays: Mapping[str, Array], values: Mapping[str, Array], tensors: Mapping[str, str]
) -> Iterator[Finding]:
    """The first file that differs, in execution order, and how many further ones do: mostly what follows from it."""
    wrong = []
    for file in sorted(tensors, key=lambda file: (file == OUTPUT, len(file), file)):
        given, exact = arrays[file].reshape(-1), values[tensors[file]].reshape(-1)
        if given.size != exact.size or not np.array_equal(given, exact):
            wrong.append((file, given, exact))
    for file, given, exact in wrong[:1]:
        rest = f"; so do {len(wrong) - 1} further files" if len(wrong) > 1 else ""
        if given.size != exact.size:
            yield Finding("E16", file, f"{given.size} elements{rest}", f"{exact.size}", _AGAIN)
            return
        places = np.flatnonzero(given != exact)
        index = int(places[0])
        yield Finding("E16", file, f"{given[index]:g} at element {index} ({places.size} of {given.size} differ){rest}",
                      f"{exact[index]:g}, computed exactly for '{tensors[file]}'", _AGAIN)
