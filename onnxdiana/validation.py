"""Do all spellings agree? Codes compared at every requantizer, bit for bit; errors against the float model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import padding, reference
from onnxdiana.exporting.htvm import INPUT, handed_over, tensor_names
from onnxdiana.graph import name_of
from onnxdiana.handoff import interpreter
from onnxdiana.integers import code_name
from onnxdiana.layers import Network
from onnxdiana.numerics import FLOAT32_EXACT
from onnxdiana.runtime import Runner, few, length
from onnxdiana.scales import ScaleTable

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Mismatch:
    """First place where a spelling departs from the reference."""

    spelling: str
    tensor: str
    index: tuple[int, ...]
    expected: float
    found: float

    def __str__(self) -> str:
        """One line for a person."""
        return (f"{self.spelling} departs from the reference at tensor '{self.tensor}', index {list(self.index)}: "
                f"expected {self.expected:g}, found {self.found:g}")


def sqnr(reference_values: NDArray[Any], found: NDArray[Any]) -> float:
    """``10 log10(sum y**2 / sum (y - y')**2)`` in dB; infinite where nothing differs."""
    y = reference_values.astype(np.float64)
    noise = float(np.square(y - found).sum())
    signal = float(np.square(y).sum())
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def first_mismatch(spelling: str, expected: Arrays, found: Arrays, order: Sequence[str]) -> Mismatch | None:
    """The first tensor, in execution order, that is not equal; shapes may differ by flattening."""
    for name in order:
        a, b = expected[name].reshape(-1), np.asarray(found[name]).reshape(-1)
        if a.size != b.size:
            return Mismatch(spelling, name, (), a.size, b.size)
        bad = np.flatnonzero(a != b)
        if bad.size:
            index = tuple(int(i) for i in np.unravel_index(bad[0], expected[name].shape))
            return Mismatch(spelling, name, index, float(a[bad[0]]), float(b[bad[0]]))
    return None


@dataclass(frozen=True)
class Agreement:
    """Outcome of running every spelling on the same samples."""

    samples: int
    """Judged by the reference."""
    mismatches: tuple[Mismatch, ...]
    sqnr: Mapping[str, float]
    """dB of the integer model's tensors against the float model's, by codes name, then by output name."""
    sqnr_fake: Mapping[str, float]
    """dB of the fake-quantized model's outputs, by output name."""
    judge: str | None
    """What ran ``htvm/model.onnx``: ``onnxruntime``, ``int32 interpreter``, or None where it was not written."""


def agree(
    view: Network, table: ScaleTable, integer: ir.Model, samples: Arrays, *,
    integer_model: ir.Model | onnx.ModelProto, fake: ir.Model | onnx.ModelProto, htvm: onnx.ModelProto | None,
    handed: Sequence[str], judged: int, own: Mapping[str, int] = MappingProxyType({}),
) -> Agreement:
    """Run float model and every spelling on some samples, and the reference on some of these.

    Args:
        view, table: the float graph and its scales.
        integer: the integer graph, for the reference.
        samples: inputs by name; errors against the float model are measured on all of them.
        integer_model, fake, htvm: the spellings.
        handed: tensors with codes in ``htvm``, the input's first.
        own: of tensors with rows that were added, how many are the network's own: errors are measured on these.
        judged: the slower judges, reference and hand-over graph, run on at most so many of the samples, evenly.
    """
    codes = tensor_names(integer)
    outputs = [name_of(v) for v in integer.graph.outputs]
    some = few(samples, judged)
    expected = reference.run(integer, some, list(dict.fromkeys([*codes, *handed, *outputs])))
    mismatches = []
    found = Runner(integer_model, [*codes, *outputs]).run(samples)
    mismatches.append(first_mismatch("model.int.onnx", expected, few(found, judged), [*codes, *outputs]))
    judge = None
    if htvm is not None:
        entry = {codes[0]: handed_over(integer, expected[codes[0]])}
        judge, theirs = _run_htvm(htvm, table, handed_over(integer, next(iter(some.values()))), handed, outputs)
        mismatches.append(first_mismatch("htvm/model.onnx", {**expected, **entry}, theirs, [*handed, *outputs]))
    by_code = {code_name(v): v for v in view.quantized}
    inputs = set(view.model.graph.inputs)
    names = {c: name_of(by_code[c]) for c in codes}
    real = Runner(view.model, [*(n for c, n in names.items() if by_code[c] not in inputs), *outputs]).run(samples)
    real.update(samples)
    real, found = padding.cropped(real, own), padding.cropped(found, own)
    quality = {
        c: sqnr(real[n], np.ldexp(found[c].astype(np.float64), table.exponent(n))) for c, n in names.items()
    }
    quality.update({name: sqnr(real[name], found[name]) for name in outputs})
    approximate = padding.cropped(Runner(fake, outputs).run(samples), own)
    return Agreement(length(some), tuple(m for m in mismatches if m is not None), quality,
                     {name: sqnr(real[name], approximate[name]) for name in outputs}, judge)


def _run_htvm(
    htvm: onnx.ModelProto, table: ScaleTable, x: NDArray[Any], codes: Sequence[str], outputs: list[str]
) -> tuple[str, Arrays]:
    """The hand-over graph, sample by sample (its batch is 1), by the judge that is exact for its accumulators."""
    rows: list[Arrays] = []
    exact = all(layer.accumulator_bound < FLOAT32_EXACT for layer in table.layers.values())
    final = htvm.graph.output[0].name
    runner = Runner(htvm, [*codes, final]) if exact else None
    for i in range(len(x)):
        feed = {INPUT: x[i:i + 1]}
        found = interpreter.run(htvm, feed, fetch=codes) if runner is None else runner.run(feed)
        rows.append({**found, outputs[0]: found[final]})
    judge = "onnxruntime" if exact else "int32 interpreter"
    return judge, {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
