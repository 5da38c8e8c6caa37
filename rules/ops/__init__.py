"""One file an operator: how its output gets a scale, how it lowers to integers, how the reference computes it.

A module of this folder that defines ``OPERATOR`` (or ``OPERATORS``) is found by itself; adding an operator is adding
a file. Nothing outside this folder names an operator of the model.
"""

from __future__ import annotations

import importlib
import pkgutil

import onnx_ir as ir

from onnxdiana.graph import is_default_domain
from onnxdiana.rules.ops.base import DOMAIN, Operator

__all__ = ["REGISTRY", "Operator", "find", "operator"]


def _discover() -> dict[str, Operator]:
    found: dict[str, Operator] = {}
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for operator in getattr(module, "OPERATORS", [module.OPERATOR] if hasattr(module, "OPERATOR") else []):
            found[operator.op_type] = operator
    return found


REGISTRY: dict[str, Operator] = _discover()


def find(node: ir.Node) -> Operator | None:
    """The operator of a node of the canonical or the integer graph, or None where we have none."""
    if not (is_default_domain(node.domain) or node.domain == DOMAIN):
        return None
    return REGISTRY.get(node.op_type)


def float_operator(node: ir.Node) -> Operator | None:
    """The operator of a node of the float graph, or None where we have none."""
    found = REGISTRY.get(node.op_type) if is_default_domain(node.domain) else None
    return None if found is None or found.internal else found


def operator(node: ir.Node) -> Operator:
    """The operator of a node that a contract has already accepted."""
    found = find(node)
    assert found is not None, f"no operator {node.domain}::{node.op_type}"
    return found
