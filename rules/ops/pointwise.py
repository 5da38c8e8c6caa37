"""Functions of every element by itself: with int8 codes they are tables (:mod:`onnxdiana.expressions`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.ops.base import Array, Scaled


class Function(Scaled):
    """A function of its first input; the others are constants."""

    def __init__(self, op_type: str, formula: Callable[..., Any], image: tuple[float, float] = (-math.inf, math.inf),
                 **attributes: Any) -> None:
        """Args: formula: of inputs and attributes; image: what its values lie in; attributes: ONNX's defaults."""
        self.op_type = op_type
        self.image = image
        self._formula, self._attributes = formula, attributes

    def pointwise(self, node: ir.Node) -> bool:
        """With constants behind the first input."""
        return all(v is None or graph.constant(v) is not None for v in node.inputs[1:])

    def tabulated(self, node: ir.Node) -> bool:
        """Always."""
        return True

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Met only where the node is no function of one tensor's elements."""
        if graph.dims(node.outputs[0]) is not None:  # else the fault is another node's
            yield ("its parameters must be constants of one value, or of one a channel on axis 1; others have no table "
                   "of codes")

    def real(self, node: ir.Node, inputs: Sequence[Any]) -> Array:
        """The formula."""
        given = {name: graph.attribute(node, name, default) for name, default in self._attributes.items()}
        return np.asarray(self._formula(*inputs, **given))


class Arithmetic(Scaled):
    """An operator of two or more numbers that is quantized as part of a function of one tensor only."""

    def __init__(self, op_type: str, formula: Callable[..., Any], advice: str, *, affine: bool = False) -> None:
        """Args: affine: with a constant as its second operand, a layer can take it in."""
        self.op_type = op_type
        self._formula, self._advice, self._affine = formula, advice, affine

    def pointwise(self, node: ir.Node) -> bool:
        """Always."""
        return True

    def tabulated(self, node: ir.Node) -> bool:
        """Unless a layer takes it in."""
        return not (self._affine and graph.constant(node.inputs[1]) is not None)

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Met only outside such a function."""
        if graph.dims(node.outputs[0]) is not None:  # else the fault is another node's
            yield self._advice

    def real(self, node: ir.Node, inputs: Sequence[Any]) -> Array:
        """The formula."""
        return np.asarray(self._formula(*inputs))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, 0.0))


def _gelu(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))))


def _below(x: Array, negative: Array) -> Array:
    """``x`` where it is positive, else another function's value."""
    return np.where(x > 0.0, x, negative)


def _many(function: np.ufunc) -> Callable[..., Array]:
    return lambda *inputs: np.asarray(function.reduce(np.broadcast_arrays(*inputs)))


_erf = np.vectorize(math.erf, otypes=[np.float64])
_INF = math.inf

OPERATORS = [
    Function("Abs", np.abs, (0.0, _INF)),
    Function("Celu", lambda x, alpha: _below(x, alpha * np.expm1(x / alpha)), alpha=1.0),
    Function("Cos", np.cos, (-1.0, 1.0)),
    Function("Elu", lambda x, alpha: _below(x, alpha * np.expm1(x)), alpha=1.0),
    Function("Erf", _erf, (-1.0, 1.0)),
    Function("Exp", np.exp, (0.0, _INF)),
    Function("Gelu", _gelu, approximate="none"),
    Function("HardSigmoid", lambda x, alpha, beta: np.clip(alpha * x + beta, 0.0, 1.0), (0.0, 1.0), alpha=0.2,
             beta=0.5),
    Function("HardSwish", lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)),
    Function("LeakyRelu", lambda x, alpha: _below(x, alpha * x), alpha=0.01),
    Function("Log", np.log),
    Function("Mish", lambda x: x * np.tanh(_softplus(x))),
    Function("PRelu", lambda x, slope: _below(x, slope * x)),
    Function("Reciprocal", np.reciprocal),
    Function("Selu", lambda x, alpha, gamma: gamma * _below(x, alpha * np.expm1(x)),
             alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    Function("Sigmoid", _sigmoid, (0.0, 1.0)),
    Function("Sin", np.sin, (-1.0, 1.0)),
    Function("Softplus", _softplus, (0.0, _INF)),
    Function("Softsign", lambda x: x / (1.0 + np.abs(x)), (-1.0, 1.0)),
    Function("Sqrt", np.sqrt, (0.0, _INF)),
    Function("Tanh", np.tanh, (-1.0, 1.0)),
    Function("ThresholdedRelu", lambda x, alpha: np.where(x > alpha, x, 0.0), alpha=1.0),
    Arithmetic("Div", np.divide, "quotients of two tensors have no integer form; fold a constant into the weights of a "
               "layer", affine=True),
    Arithmetic("Max", _many(np.maximum), "of two tensors it has no integer form; train with ReLU"),
    Arithmetic("Min", _many(np.minimum), "of two tensors it has no integer form; train with ReLU6"),
    Arithmetic("Pow", np.power, "powers of one tensor by another have no integer form"),
    Arithmetic("Sub", np.subtract, "fold a constant into the bias of a layer; of two tensors, negate the weights in "
               "front of one and add", affine=True),
]
