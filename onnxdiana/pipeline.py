"""The stages, on one screen: each is a function from values to a new value.

::

    prepare          model file            -> Prepared         canonical float graph, proven equal to the original
    fake_quantize    Prepared + data       -> FakeQuantized    exponents, corrected biases, QDQ graph
    map_to_hardware  FakeQuantized         -> Mapped           cores and shifts of a target
    integerize       Mapped                -> Quantized        integer graph, accumulators proven
    export           Quantized             -> folder           every spelling, vectors, summary; agreement checked

``quantize`` does all five.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import canonical, choices, graph, integers, loading, padding, placement, sensitivity, targets
from onnxdiana.calibration import (
    Calibration,
    DataSource,
    InputSpec,
    calibrate,
    further_samples,
    open_data,
    synthetic_data,
)
from onnxdiana.canonical import Canonical
from onnxdiana.choices import Plan
from onnxdiana.config import Config, checked
from onnxdiana.errors import ConfigError, ModelError, SyntheticDataWarning, TargetError
from onnxdiana.exporting.artifacts import Artifacts, write_artifacts
from onnxdiana.exporting.folder import check_apart, check_free
from onnxdiana.graph import name_of
from onnxdiana.integers import Parameters
from onnxdiana.layers import Network, network
from onnxdiana.loading import LoadedModel
from onnxdiana.recovery import fast, pooling
from onnxdiana.report.evaluation import Evaluation, evaluate
from onnxdiana.report.summary import Facts
from onnxdiana.runtime import LARGEST_PROTO
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail, split
from onnxdiana.targets import Target


@dataclass(frozen=True)
class Prepared:
    """A canonical float graph with the original it came from."""

    loaded: LoadedModel
    canonical: Canonical
    body: ir.Model
    """The canonical graph up to where the float tail begins: what is quantized."""
    tail: Tail
    """What stays in float behind it (:mod:`onnxdiana.tail`)."""
    difference: float
    """Largest relative difference to the original (behind the user's rules), on random inputs."""
    user_rules: tuple[tuple[str, int], ...] = ()
    """Rules of the user's that fired, and at how many places."""
    user_difference: float | None = 0.0
    """Largest relative difference that they made; None where the original itself cannot be run."""

    @property
    def inputs(self) -> list[InputSpec]:
        """Names and sample shapes of the inputs."""
        return [InputSpec(name_of(v), graph.sample_shape(v)) for v in self.canonical.model.graph.inputs]


@dataclass(frozen=True)
class FakeQuantized:
    """Exponents and parameters, before anything about cores is said."""

    prepared: Prepared
    calibration: Calibration
    view: Network
    """The float graph whose tensors the table names (pools in their chosen form)."""
    table: ScaleTable
    parameters: Mapping[str, Parameters]
    """Of the integer model."""
    fake: Mapping[str, Parameters]
    """Of the fake-quantized model."""
    pooling: Mapping[str, str]
    difference: float
    """Largest relative difference of ``view`` to the original, on random and calibration inputs."""
    further: Mapping[str, NDArray[Any]]
    """Inputs that get vectors besides those that calibration kept."""
    config: Config


@dataclass(frozen=True)
class Mapped:
    """Every layer has a core."""

    quantized: FakeQuantized
    """With more outputs where that was asked for."""
    target: Target
    core: str
    """As asked for: ``auto``, ``digital`` or ``cpu``."""
    plan: Plan
    """How layers are written in the hand-over graph."""


@dataclass(frozen=True)
class Quantized:
    """The integer graph, and all that is needed to write it out."""

    mapped: Mapped
    table: ScaleTable
    """Complete: cores, roundings, accumulator bounds."""
    integer: ir.Model
    evaluation: Evaluation | None = None


def _expect(value: object, kind: type, step: str) -> None:
    """The argument of a step is what the step before it returned."""
    if not isinstance(value, kind):
        raise ConfigError(f"got a {type(value).__name__}; give the {kind.__name__} that onnxdiana.{step} returns")


def prepare(
    model: Any, *, seed: int = 0, shapes: Mapping[str, Sequence[int]] | None = None,
    rules: str | os.PathLike[str] | None = None,
) -> Prepared:
    """Load a model, bring it into canonical form, and prove on random inputs that its answers stayed.

    Args:
        model: path of an ONNX file, an ``onnx.ModelProto`` or an ``onnx_ir.Model`` (not changed).
        seed: of the random inputs.
        shapes: sizes of inputs by name, the first axis included, for those that the model leaves open.
        rules: a Python file of rewrite rules that run before ours (docs/rules.md); it is run.

    Raises:
        ModelError: the file or its interface is at fault.
        RulesError: the user's rules are.
        UnsupportedOpError: operators without a quantized form, all at once.
    """
    loaded = loading.load(model, shapes)
    given, fired = loaded.model, tuple[tuple[str, int], ...]()
    if rules is not None:
        from onnxdiana import user_rules

        changed, fired = user_rules.load(rules).apply(given)
        loaded = dataclasses.replace(loaded, model=changed)
    result = canonical.canonicalize(loaded.model)
    specs = [InputSpec(name_of(v), graph.sample_shape(v)) for v in result.model.graph.inputs]
    rng = np.random.default_rng(seed)
    noise = {s.name: rng.standard_normal((2, *s.shape)).astype(np.float32) for s in specs}
    difference = canonical.prove(loaded.model, result, [noise])
    theirs = user_rules.difference_by_rules(given, loaded.model, [noise]) if fired else 0.0
    return Prepared(loaded, result, *split(result.model), difference, fired, theirs)


def fake_quantize(prepared: Prepared, data: object = None, config: Config | None = None, *,
                  quiet: bool = True) -> FakeQuantized:
    """Calibrate, place the scales, correct the biases.

    Args:
        prepared: of :func:`prepare`.
        data: calibration data: a path, arrays, or a callable that yields batches; None draws synthetic inputs.
        config: options.
        quiet: no progress bar.

    Raises:
        CalibrationError: the data do not fit the model, are empty or not finite.
        TargetError: no legal exponents exist.
    """
    _expect(prepared, Prepared, "prepare")
    config = checked(config)
    source = data_source(prepared, data, config)
    target = targets.load(config.target)
    _check_size(prepared)
    model = prepared.body
    convolved = network(pooling.as_convolution(model, {name_of(n.outputs[0]) for n in pooling.pools(model)}))
    if not target.tables and (functions := [layer for layer in convolved.layers if layer.function is not None]):
        lines = "\n".join(f"  - {layer.operation} -> '{name_of(layer.output)}'" for layer in functions)
        raise TargetError(f"target {target.name} looks nothing up in tables, and these functions have no other integer "
                          f"form:\n{lines}\ntrain with ReLU or ReLU6 instead")
    calibration = calibrate(convolved, source, config.batch, quiet=quiet)
    preferred = sensitivity.output_exponents(convolved, calibration, target)

    def place(view: Network, more: Mapping[str, int] | None) -> ScaleTable:
        return placement.place(view, calibration, target, {**preferred, **(more or {})})

    found = fast.recover(model, calibration, convolved, place, corrections=config.recover == "fast")
    difference = _proven(prepared, found, {name: x[:4] for name, x in calibration.kept.items()})
    return FakeQuantized(prepared, calibration, found.view, found.table, found.parameters, found.fake, found.pooling,
                         difference, further_samples(source, calibration, config.vectors, config.batch), config)


def _check_size(prepared: Prepared) -> None:
    """What is written holds the float weights in one file.

    Raises:
        ModelError: protobuf has no larger files.
    """
    size = sum(v.const_value.nbytes for v in prepared.canonical.model.graph.initializers.values() if v.const_value)
    if size > LARGEST_PROTO:
        raise ModelError(f"the weights take {size / 2**30:.2f} GiB, and model.float.onnx in the output folder can hold "
                         f"{LARGEST_PROTO / 2**30:.2f}: inspect the model, or quantize a smaller one")


def _proven(prepared: Prepared, found: fast.Recovered, samples: Mapping[str, NDArray[Any]]) -> float:
    """Largest relative difference to the original: of the canonical graph, and of the one with pools in their form."""
    original = prepared.loaded.model
    difference = max(prepared.difference, canonical.prove(original, prepared.canonical, [samples]))
    if not found.pooling:
        return difference  # the same graph
    applied = (*prepared.canonical.applied, ("pools in their chosen form", len(found.pooling)))
    whole = prepared.tail.behind(found.view.model)
    return max(difference, canonical.prove(original, Canonical(whole, applied), [samples]))


def calibration_beside(model: Path) -> Path:
    """Where calibration data for a model file are looked for when none are given: ``MODEL.calib.npz``."""
    return model.parent / f"{model.stem}.calib.npz"


def data_source(prepared: Prepared, data: object, config: Config) -> DataSource:
    """Calibration data as a stream, or synthetic inputs, with a warning, where none are given."""
    if data is None:
        warnings.warn("no calibration data; drawing SYNTHETIC inputs. Scales and figures mean little",
                      SyntheticDataWarning, stacklevel=3)
        return synthetic_data(prepared.inputs, seed=config.seed)
    return open_data(data, prepared.inputs)


def map_to_hardware(quantized: FakeQuantized, core: str | None = None) -> Mapped:
    """Give every layer a core of the target.

    Args:
        quantized: of :func:`fake_quantize`.
        core: ``auto``, ``digital`` or ``cpu``; by default what the configuration says.

    Raises:
        TargetError: ``core="digital"`` and a convolution or linear layer cannot run there; lists all of them.
    """
    _expect(quantized, FakeQuantized, "fake_quantize")
    config = quantized.config if core is None else dataclasses.replace(quantized.config, core=core)
    target = targets.load(config.target)
    own = None
    if config.pad_outputs and config.core != "cpu":
        quantized, own = _padded(quantized, target)
    plan = choices.choose(quantized.view, target, config, quantized.parameters, own)
    if config.core == "digital":
        left = [f"{graph.where(layer.node)}: {'; '.join(o.reason for o in found)}" for layer in quantized.view.layers
                 if layer.operator.weight(layer.node) is not None and layer.name not in plan.forms.kernels
                 and (found := target.judge(layer))]
        if left:
            lines = "\n".join(f"  - {line}" for line in left)
            raise TargetError(f"core digital was asked for, and it does not take these layers:\n{lines}\n"
                              "use --core auto to leave them to the CPU")
    return Mapped(quantized, target, config.core, plan)


def _padded(quantized: FakeQuantized, target: Target) -> tuple[FakeQuantized, int | None]:
    """With as many outputs as the accelerator wants, and how many are its own; None where it cannot be had."""
    q, layer = quantized, padding.head(quantized.view)
    more = padding.missing_rows(q.view, q.prepared.tail, q.table, target)
    if not isinstance(more, int) or layer is None:
        return q, None
    found = padding.pad(q.view, q.prepared.tail, q.table, q.parameters, q.fake, more)
    return dataclasses.replace(
        q, prepared=dataclasses.replace(q.prepared, tail=found.tail), view=found.view, parameters=found.parameters,
        fake=found.fake), graph.sample_shape(layer.output)[0]


def integerize(mapped: Mapped) -> Quantized:
    """Build the integer graph and prove that every accumulator fits.

    Raises:
        TargetError: an accumulator does not fit 32 bits.
    """
    _expect(mapped, Mapped, "map_to_hardware")
    q = mapped.quantized
    integer = integers.integerize(q.view, q.table, q.parameters)
    table = integers.complete_table(q.view, q.table, integer, mapped.target, mapped.core, mapped.plan.forms)
    return Quantized(mapped, table, integer)


def export(
    quantized: Quantized, folder: str | os.PathLike[str] | None, *, force: bool = False
) -> Artifacts:
    """Write every spelling, vectors and summary, after checking that all spellings agree bit for bit.

    Args:
        quantized: of :func:`integerize`.
        folder: to appear, whole or not at all; None writes nothing and only returns the files' contents.
        force: move a folder that we did not write aside.

    Raises:
        OutputError: the folder cannot be written or is not ours.
        SpecViolation: two spellings disagree (our bug).
    """
    _expect(quantized, Quantized, "integerize")
    q = quantized.mapped.quantized
    facts = Facts(
        loaded=q.prepared.loaded, applied=q.prepared.canonical.applied, difference=q.difference,
        user_rules=q.prepared.user_rules, user_difference=q.prepared.user_difference,
        calibration=q.calibration, further=q.further, pooling=q.pooling,
        target=quantized.mapped.target, plan=quantized.mapped.plan,
        config=dataclasses.replace(q.config, core=quantized.mapped.core),
        evaluation=quantized.evaluation,
    )
    return write_artifacts(None if folder is None else Path(folder), q.view, q.prepared.tail, quantized.table,
                           quantized.integer, q.parameters, q.fake, facts, force=force)


def with_evaluation(quantized: Quantized, data: object) -> Quantized:
    """The same model with its quality on data that calibration has not seen.

    Raises:
        CalibrationError: the data, or the labels among them, do not fit the model.
    """
    _expect(quantized, Quantized, "integerize")
    q = quantized.mapped.quantized
    source = open_data(data, q.prepared.inputs)
    return dataclasses.replace(quantized, evaluation=evaluate(
        q.view, q.prepared.tail, quantized.integer, source, padding.own_rows(q.view, quantized.mapped.plan.own)))


def quantize(
    model: Any, calibration: object = None, output: str | os.PathLike[str] | None = None, *,
    evaluation: object = None, config: Config | None = None, force: bool = False, quiet: bool = True,
) -> Artifacts:
    """All five steps.

    Args:
        model: as for :func:`prepare`.
        calibration: as for :func:`fake_quantize`; None looks for ``MODEL.calib.npz`` beside the model first.
        output: folder to write; None writes nothing and returns the files' contents.
        evaluation: data never used for calibration; with an array named ``labels`` quality is task accuracy.
        config: options.
        force: move a folder that we did not write aside.
        quiet: no progress bar.

    Returns:
        The files, the summary, and the agreement of all spellings.
    """
    config = checked(config)
    path = Path(model) if isinstance(model, str | os.PathLike) else None
    if output is not None:
        check_free(Path(output), force=force, guard=path)
        check_apart(Path(output), calibration, evaluation)
    if calibration is None and path is not None and os.path.isfile(calibration_beside(path)):
        calibration = calibration_beside(path)
    prepared = prepare(model, seed=config.seed, shapes=config.input_shape, rules=config.rules)
    quantized = integerize(map_to_hardware(fake_quantize(prepared, calibration, config, quiet=quiet)))
    if evaluation is not None:
        quantized = with_evaluation(quantized, evaluation)
    return export(quantized, output, force=force)
