"""Canonicalization: a model of any exporter becomes the canonical float graph, and the run itself proves it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph, spec
from onnxdiana.errors import ModelError, SpecViolation
from onnxdiana.graph import Namer
from onnxdiana.integers import QUANTIZED
from onnxdiana.loading import OPSET
from onnxdiana.rules.canonicalize import RULES, auto_pad, pad_axes
from onnxdiana.rules.canonicalize.base import Rule, is_operator
from onnxdiana.rules.ops.base import ACCUMULATOR
from onnxdiana.runtime import Batch, Runner
from onnxdiana.shapes import infer_shapes

TOLERANCE = 1e-4
"""Largest difference that the canonical graph may show, relative to the largest magnitude of the output."""
_ROLES = (ACCUMULATOR, QUANTIZED)
_SMALLEST = 1e-6  # magnitude under which an output counts as zero


@dataclass(frozen=True)
class Canonical:
    """A canonical float graph and the rules that made it."""

    model: ir.Model
    applied: tuple[tuple[str, int], ...]
    """Rule and number of places, in order of application."""


def canonicalize(model: ir.Model, rules: Sequence[Rule] = RULES) -> Canonical:
    """Bring a loaded model into canonical form; the argument is not changed.

    Raises:
        ModelError: a tensor does not keep samples on its first axis.
        UnsupportedOpError: operators without a quantized form remain.
        SpecViolation: the result breaks the contract.
    """
    return accepted(*rewritten(model, rules))


def accepted(model: ir.Model, applied: tuple[tuple[str, int], ...]) -> Canonical:
    """What :func:`rewritten` gave, in place, as canonical form; raises what :func:`canonicalize` does."""
    _check_interface(model)
    spec.quantizable(model)
    _free_names(model)
    _open_batch(model)
    spec.verify_canonical(model)
    return Canonical(model, applied)


def rewritten(
    model: ir.Model, rules: Sequence[Rule] = RULES, after_each: Callable[[str, ir.Model], None] | None = None
) -> tuple[ir.Model, tuple[tuple[str, int], ...]]:
    """The model after all rules, whatever of it has a quantized form, and the rules; the argument is not changed."""
    clone = model.clone()
    _forget(clone)
    _fix_batch(clone)
    infer_shapes(clone)
    if after_each is not None:
        after_each("", clone)
    applied: list[tuple[str, int]] = []
    for _ in range(len(clone.graph) + 8):  # a round that changes nothing ends it; two or three do for most models
        before = len(applied)
        for rule in rules:
            if getattr(rule, "last_resort", False) and len(applied) > before:
                continue  # for what no other rule can bring into form
            count = rule.apply(clone)
            if count:
                applied.append((rule.name, count))
                graph.remove_unused(clone.graph)
                _complete_shapes(clone)
                if after_each is not None:
                    after_each(rule.name, clone)
        if len(applied) == before:
            break
    else:
        raise SpecViolation(f"canonicalization does not end: rule '{applied[-1][0]}' still changes the model")
    graph.remove_unused(clone.graph)
    graph.order_initializers(clone.graph)
    _forget(clone)
    clone.graph.opset_imports.clear()
    clone.graph.opset_imports[""] = OPSET
    return clone, tuple(applied)


def _forget(model: ir.Model) -> None:
    """Drop what exporters and rules leave behind: outputs must not depend on where and how a model was made."""
    model.metadata_props.clear()
    model.doc_string = model.graph.doc_string = None
    model.graph.metadata_props.clear()
    model.ir_version = 10
    model.producer_name, model.producer_version = "onnxdiana", None
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None


def _fix_batch(model: ir.Model) -> None:
    """An open batch becomes 1, so that shapes computed in the graph fold; a fixed one stays."""
    for value in model.graph.inputs:
        assert value.shape is not None
        if not isinstance(value.shape[0], int):
            value.shape = ir.Shape([1, *list(value.shape)[1:]])
    for value in (*model.graph.outputs, *(v for node in model.graph for v in node.outputs)):
        value.shape = None  # stale symbolic sizes would survive inference


def _complete_shapes(model: ir.Model) -> None:
    """Infer again, which costs more than a rule, only where a size is missing."""
    shapes = (graph.dims(node.outputs[0]) for node in model.graph)
    if any(shape is None or None in shape for shape in shapes):
        infer_shapes(model)


def _batch(value: ir.Value) -> int | None:
    shape = graph.dims(value)
    return shape[0] if shape else None


def _check_interface(model: ir.Model) -> None:
    """One batch for all inputs, and outputs that are computed from them."""
    if len({_batch(value) for value in model.graph.inputs}) > 1:
        sizes = ", ".join(f"'{value.name}' {_batch(value)}" for value in model.graph.inputs)
        raise ModelError("the inputs differ in their first axis, which counts samples (an open one is taken as 1): "
                         f"{sizes}; export them with the same one")
    for value in model.graph.outputs:
        producer = value.producer()
        if producer is None or is_operator(producer, "Constant"):
            raise ModelError(f"output '{value.name}' does not depend on the input: leave it out of the outputs")


def _free_names(model: ir.Model) -> None:
    """Names that integer graphs make of tensors' (:data:`_ROLES`) are free; an interface keeps its own."""
    interface = {v.name or "" for v in (*model.graph.inputs, *model.graph.outputs)}
    inner = [v for node in model.graph for v in node.outputs if v.name and v.name not in interface]
    for name in interface:
        if f"{name}{QUANTIZED}" in interface:
            raise ModelError(f"'{name}' and '{name}.quantized' are both inputs or outputs; the codes of the first will "
                             "be called like the second: export it with another name")
    unique = Namer(graph.all_names(model.graph))
    tensors, stems = interface | {v.name for v in inner}, {_stem(name) for name in interface}
    for value in inner:
        name = graph.name_of(value)
        if name in stems or _stem(name) in tensors:
            value.name = unique(f"{name}_")


def _stem(name: str) -> str | None:
    """``<tensor>.accumulator -> <tensor>``; None for a name without such a role."""
    return next((name.removesuffix(role) for role in _ROLES if name.endswith(role)), None)


def _open_batch(model: ir.Model) -> None:
    """Every activation's first axis becomes symbolic again."""
    batch = _batch(model.graph.inputs[0])
    for node in model.graph:
        for value in node.outputs:
            shape = graph.dims(value)
            if shape is None:
                continue  # an output that nothing reads; of any other, the contract demands a shape
            if _batch(value) != batch:
                raise ModelError(f"{graph.where(node)}: shape {shape} does not start with the batch of {batch}; "
                                 "every tensor must keep samples on its first axis")
            value.shape = ir.Shape([graph.BATCH, *shape[1:]])
    for value in model.graph.inputs:
        value.shape = ir.Shape([graph.BATCH, *graph.sample_shape(value)])


def difference(reference: Batch, found: Batch) -> tuple[float, str]:
    """Largest relative difference over all outputs, and the output that shows it.

    Infinite where shapes differ, or where one side is NaN or infinite and the other is not the same.
    """
    worst, name = 0.0, ""
    for key, expected in reference.items():
        error = _relative(expected, found[key])
        if error > worst:
            worst, name = error, key
    return worst, name


def _relative(expected: NDArray[Any], found: NDArray[Any]) -> float:
    if expected.shape != found.shape:
        return math.inf
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
        return math.inf
    expected, found = expected[finite].astype(np.float64), found[finite].astype(np.float64)
    scale = max(float(np.abs(expected).max(initial=0.0)), _SMALLEST)
    error = float(np.abs(expected - found).max(initial=0.0)) / scale
    return math.inf if math.isnan(error) else error


def runnable(model: ir.Model) -> ir.Model:
    """The model as onnxruntime runs it right: the argument itself, or a clone with some pads written out.

    onnxruntime has no dilated kernels with SAME padding, and permutes the pads of a Pad with axes wrongly where it
    optimizes Transposes away.
    """
    dilated = [node for node in model.graph if max(graph.attribute(node, "dilations", [1])) > 1]
    with_axes = any(is_operator(node, "Pad") and len(node.inputs) > 3 for node in model.graph)
    if not with_axes and not any("auto_pad" in node.attributes for node in dilated):
        return model
    clone = model.clone()
    infer_shapes(clone)
    for rule in (auto_pad.RULE, pad_axes.RULE):
        rule.apply(clone)
    return clone


def prove(original: ir.Model, canonical: Canonical, batches: Sequence[Batch], rules: Sequence[Rule] = RULES) -> float:
    """Run both graphs in onnxruntime on the same inputs and compare.

    Returns:
        The largest relative difference over all outputs and batches.

    Raises:
        ModelError: the original cannot be run, its answer for one sample depends on the others in the batch, or it
            answers NaN or infinity.
        SpecViolation: larger than :data:`TOLERANCE`; names the rule after which it appears.
    """
    before = Runner(runnable(original))
    expected = [before.run(batch) for batch in batches]

    def compare(model: ir.Model) -> tuple[float, str]:
        try:
            runner = Runner(model, [v.name for v in original.graph.outputs if v.name])
            error, output = max(difference(e, runner.run(b)) for e, b in zip(expected, batches, strict=True))
        except ModelError as failure:
            return math.inf, str(failure)
        return error, (f"output '{output}' differs by {error:.2g} relative to its largest value "
                       f"(at most {TOLERANCE:g})")

    error, finding = compare(canonical.model)
    if error <= TOLERANCE:
        return error
    for answers in expected:
        for name, values in answers.items():
            if not np.isfinite(values).all():
                raise ModelError(f"output '{name}' of the model is NaN or infinite on these inputs: check the scale of "
                                 "the data and the model's weights")
    culprits: list[str] = []

    def watch(rule: str, model: ir.Model) -> None:
        if not culprits and compare(model)[0] > TOLERANCE:
            culprits.append(rule)

    rewritten(original, rules, watch)
    if culprits == [""]:
        raise ModelError(f"run sample by sample, the model answers otherwise than on a whole batch: {finding}; every "
                         "operator must keep samples apart, on its first axis")
    last = canonical.applied[-1][0] if canonical.applied else "none"
    culprit = f"rule '{culprits[0]}'" if culprits else "the rules"
    raise SpecViolation(
        f"canonicalization changed the model: {finding}; it first shows after {culprit} (last rule applied: '{last}')"
    )
