"""Rules of the user's own, which run before ours: read from a Python file that the user named, applied to a clone.

What they do to the model's answers is theirs to decide; it is measured (:func:`difference_by_rules`), and not proven.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import sys
import typing
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnxscript.rewriter import pattern

from onnxdiana import graph
from onnxdiana.canonical import difference, runnable
from onnxdiana.errors import ModelError, RulesError
from onnxdiana.graph import name_of
from onnxdiana.loading.checks import NARROWED, OPSET
from onnxdiana.loading.opsets import check_shapes, give_outputs_types
from onnxdiana.loading.tensors import detach
from onnxdiana.loading.walk import gist
from onnxdiana.runtime import Batch, Runner
from onnxdiana.shapes import infer_shapes
from onnxdiana.user_code import load_module

KINDS = ("a rule or rule set of onnxscript.rewriter.pattern, a RewriteRuleClassBase, or a function of one "
         "onnx_graphsurgeon.Graph or onnx_ir.Model")
"""What ``RULES`` may hold."""

Applied = tuple[tuple[str, int], ...]
"""Rule and number of places, in order of application."""
_Application = Callable[[ir.Model], tuple[ir.Model, Applied]]
"""Changes its argument, and returns it or a model in its place, with what fired."""


@dataclass(frozen=True)
class UserRules:
    """The rules of one file, in its order."""

    names: tuple[str, ...]
    """One an entry of ``RULES``; those of a rule set are joined by commas."""
    entries: tuple[_Application, ...]

    def apply(self, model: ir.Model) -> tuple[ir.Model, Applied]:
        """Apply every rule once, in order; the argument is not changed.

        Args:
            model: as it was loaded; operators of unknown domains may stand in it.

        Returns:
            A clone with its shapes inferred and without unused nodes, and each rule that fired with the number of
            places; of a function, places are the nodes that it removed or changed.

        Raises:
            RulesError: a rule fails, changes the interface, or leaves no valid graph; names the rule.
            ModelError: a tensor of the result would be huge.
        """
        current = model.clone()
        graph.remove_unused(current.graph)
        infer_shapes(current)
        applied: list[tuple[str, int]] = []
        for name, entry in zip(self.names, self.entries, strict=True):
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    changed, fired = entry(current.clone())
            except (Exception, SystemExit) as error:
                raise RulesError(f"rule '{name}' failed: {type(error).__name__}: {gist(error)}; repair it") from error
            if fired:
                _check_interface(name, model, changed)
                _tidy(name, changed)
                current = changed
                applied.extend(fired)
        check_shapes(_skeleton(current))
        return current, tuple(applied)


def load(path: str | os.PathLike[str]) -> UserRules:
    """Run a Python file that defines ``RULES``, a list of :data:`KINDS`.

    Raises:
        RulesError: no such file, running it failed, or it defines no rules or something else among them.
    """
    module = load_module(Path(path), "rules", RulesError, "rules are a Python file that defines RULES")
    rules = getattr(module, "RULES", None)
    if not isinstance(rules, list | tuple) or not rules:
        raise RulesError(f"{path}: defines no rules; write RULES = [...], a list of {KINDS}")
    named = [_entry(rule, f"{path}: RULES[{index}]", f"RULES[{index}]") for index, rule in enumerate(rules)]
    return UserRules(tuple(name for name, _ in named), tuple(entry for _, entry in named))


def _entry(rule: Any, where: str, anonymous: str) -> tuple[str, _Application]:
    """The name of an entry of ``RULES``, and how it is applied.

    Raises:
        RulesError: it is of an unknown kind; ``where`` says where it stands.
    """
    base = pattern.RewriteRuleClassBase
    if isinstance(rule, base) or (isinstance(rule, type) and issubclass(rule, base)):
        try:
            rule = _of_instance(rule if isinstance(rule, base) else rule())
        except Exception as error:
            raise RulesError(f"{where}: making the rule failed: {type(error).__name__}: {error}; repair it") from error
    if isinstance(rule, pattern.RewriteRule):
        rule = pattern.RewriteRuleSet([rule])
    if isinstance(rule, pattern.RewriteRuleSet):
        names = [part.name or anonymous for part in rule.rules]
        return ", ".join(dict.fromkeys(names)), _pattern_application(rule, names)
    if isinstance(rule, FunctionType):
        return rule.__name__, _function_application(rule, where)
    raise RulesError(f"{where} is {rule!r}; an entry is {KINDS}")


def _of_instance(rule: pattern.RewriteRuleClassBase) -> pattern.RewriteRule:
    """What ``RewriteRuleClassBase.rule`` makes of a new instance, made of this one."""
    return pattern.RewriteRule(
        rule.pattern, rule.rewrite, rule.check, name=rule.name, remove_nodes=rule.remove_nodes,
        graph_pre_visitor=rule.setup, graph_post_visitor=rule.cleanup, as_function=rule.as_function)


class _Counted:
    """A rewrite rule that counts its places, and ends where it would rewrite its own result for ever."""

    def __init__(self, rule: pattern.RewriteRule, limit: int) -> None:
        self.rule, self.limit, self.count = rule, limit, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rule, name)

    def try_rewrite(self, *args: Any, **kwargs: Any) -> Any:
        """The rule's own, counted."""
        found = self.rule.try_rewrite(*args, **kwargs)
        if found is not None:
            self.count += 1
            if self.count > self.limit:
                raise RuntimeError("it does not end: its replacement holds its own pattern; let its check decline that")
        return found


def _pattern_application(rules: pattern.RewriteRuleSet, names: Sequence[str]) -> _Application:
    def apply(model: ir.Model) -> tuple[ir.Model, Applied]:
        counted = [_Counted(rule, 10 * len(model.graph) + 100) for rule in rules.rules]
        bounded = pattern.RewriteRuleSet(typing.cast("list[pattern.RewriteRule]", counted))
        bounded.remove_unused_nodes = rules.remove_unused_nodes
        bounded.apply_to_model(model)
        places: Counter[str] = Counter()
        for name, rule in zip(names, counted, strict=True):
            places[name] += rule.count
        return model, tuple((name, count) for name, count in places.items() if count)

    return apply


def _function_application(function: FunctionType, where: str) -> _Application:
    """How a function is applied, by what its parameter is annotated with.

    Raises:
        RulesError: it has another number of parameters, or one of another type.
    """
    import onnx_graphsurgeon as gs

    from onnxdiana import interop

    try:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    except Exception as error:
        raise RulesError(f"{where}: an annotation of function '{function.__name__}' cannot be evaluated ({error}): "
                         "import what it names where the file runs") from error
    if len(parameters) != 1 or parameters[0].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        raise RulesError(f"{where}: function '{function.__name__}' must have one parameter, a graph")
    kind = parameters[0].annotation
    if kind not in (inspect.Parameter.empty, gs.Graph, ir.Model):
        raise RulesError(f"{where}: function '{function.__name__}' takes {kind!r}; it may take onnx_graphsurgeon.Graph "
                         "or onnx_ir.Model")
    wanted = ir.Model if kind is ir.Model else gs.Graph

    def apply(model: ir.Model) -> tuple[ir.Model, Applied]:
        before = _contents(model)
        argument = model if wanted is ir.Model else interop.to_graphsurgeon(model)
        result = function(argument)
        if result is None:
            result = argument
        if not isinstance(result, wanted):
            raise TypeError(f"it returned {type(result).__name__}; return a {wanted.__name__}, or nothing where it is "
                            "changed in place")
        changed = result if isinstance(result, ir.Model) else interop.from_graphsurgeon(result)
        count = _places(before, _contents(changed))
        return changed, ((function.__name__, count),) if count else ()

    return apply


_Contents = tuple[Counter[Any], dict[str, Any]]


def _contents(model: ir.Model) -> _Contents:
    """What makes a model compute what it does: nodes and weights, without metadata."""
    nodes = Counter(
        ("" if graph.is_default_domain(node.domain) else node.domain, node.op_type,
         tuple(value.name if value else "" for value in node.inputs), tuple(value.name or "" for value in node.outputs),
         tuple(sorted((name, _plain(attribute)) for name, attribute in node.attributes.items())))
        for node in model.graph
    )
    weights = {name: _array(value.const_value) for name, value in model.graph.initializers.items()}
    interface = [_kind(value) for value in model.graph.inputs], [value.name for value in model.graph.outputs]
    return nodes, {**weights, "": interface}


def _kind(value: ir.Value) -> str:
    """Name, type and shape; an open axis counts as open, whatever it is called."""
    return f"'{value.name}' ({value.dtype}{list(graph.dims(value) or ())})"


def _array(tensor: ir.TensorProtocol | None) -> tuple[str, tuple[int, ...], str] | None:
    if tensor is None:
        return None
    array = tensor.numpy()
    return array.dtype.str, array.shape, hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _plain(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        return str(_array(attribute.value))
    return str(ir.serde.serialize_attribute(attribute))


def _places(before: _Contents, after: _Contents) -> int:
    """Nodes that are gone or not as they were; where there are none, new nodes; else changed weights or names."""
    names = {*before[1], *after[1]}
    return ((before[0] - after[0]).total() or (after[0] - before[0]).total()
            or sum(before[1].get(name) != after[1].get(name) for name in names))


def _check_interface(name: str, before: ir.Model, after: ir.Model) -> None:
    """Names and order of inputs and outputs, and types and sizes of inputs, are what they were.

    Raises:
        RulesError: names the rule and both sides.
    """
    for role, old, new in (("inputs", before.graph.inputs, after.graph.inputs),
                           ("outputs", before.graph.outputs, after.graph.outputs)):
        names = [[value.name for value in values] for values in (old, new)]
        if names[0] != names[1]:
            raise RulesError(f"rule '{name}' changed the {role} from {names[0]} to {names[1]}; their names and order "
                             "must stay: give what takes their place the same name")
    if (opset := after.graph.opset_imports.get("")) != OPSET:
        raise RulesError(f"rule '{name}' changed the opset to {opset}; rules read and write opset {OPSET}")
    for was, value in zip(before.graph.inputs, after.graph.inputs, strict=True):
        if _kind(was) != _kind(value):
            raise RulesError(f"rule '{name}' changed an input from {_kind(was)} to {_kind(value)}; inputs must stay as "
                             "they are")
    for value in after.graph.outputs:
        if value.producer() is None:
            raise RulesError(f"after rule '{name}', no node computes output '{value.name}'; give the last node that "
                             "output")


def _tidy(name: str, model: ir.Model) -> None:
    """Unused nodes go, shapes are inferred anew, and what is left is a valid graph of float32.

    Raises:
        RulesError: it is not; names the rule.
    """
    for node in model.graph:
        for value in node.inputs:
            if value is None or value.producer() is not None or value.is_graph_input():
                continue
            if model.graph.initializers.get(value.name or "") is not value:
                raise RulesError(f"after rule '{name}', {graph.where(node)} reads '{value.name}', which no node "
                                 "computes and no initializer holds: connect it, and give new initializers names of "
                                 "their own")
    try:
        model.graph.sort()
        graph.remove_unused(model.graph)
        _infer_anew(model)
        proto = _skeleton(model)
        onnx.checker.check_model(proto, full_check=not any(node.domain for node in proto.graph.node))
    except Exception as error:
        raise RulesError(f"rule '{name}' left no valid graph: {gist(error)}; repair the rule") from error
    values = (*model.graph.initializers.values(), *(value for node in model.graph for value in node.outputs))
    for value in values:
        if value.dtype is not None and value.dtype in NARROWED:
            raise RulesError(f"rule '{name}' made '{value.name}' {NARROWED[value.dtype]}; models are float32: give its "
                             "constants that type")


def _infer_anew(model: ir.Model) -> None:
    """Infer types and shapes without the old ones, which a rule may have made stale; what stays unknown keeps them."""
    values = [value for node in model.graph if graph.is_default_domain(node.domain) for value in node.outputs]
    old = [(value.type, value.shape) for value in values]
    for value in values:
        value.type = value.shape = None
    infer_shapes(model)
    for value, (kind, shape) in zip(values, old, strict=True):
        value.type = value.type or kind
        value.shape = shape if value.shape is None else value.shape


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model in protobuf, for onnx's functions: outputs typed, large weights as inputs."""
    proto = ir.to_proto(model)
    detach(proto, {name_of(value): value.const_value.numpy() for value in model.graph.initializers.values()
                   if value.const_value is not None})
    give_outputs_types(proto)
    return proto


def difference_by_rules(original: ir.Model, changed: ir.Model, batches: Sequence[Batch]) -> float | None:
    """How much the user's rules changed the model's answers.

    Args:
        original: as it was loaded.
        changed: of :meth:`UserRules.apply`.
        batches: inputs to run both on.

    Returns:
        The largest difference over all outputs and batches, relative to the largest magnitude of the output; None
        where onnxruntime cannot run the original, since it has operators of the user's own.

    Raises:
        ModelError: onnxruntime cannot run the changed model.
    """
    try:
        before = Runner(runnable(original))
        expected = [before.run(batch) for batch in batches]
    except ModelError:
        return None
    after = Runner(changed)
    return max((difference(answers, after.run(batch))[0] for answers, batch in zip(expected, batches, strict=True)),
               default=0.0)
