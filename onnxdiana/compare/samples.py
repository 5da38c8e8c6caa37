"""All tensors of a network on one sample, in exact integers: as expected, or as they follow from others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph, reference
from onnxdiana.check.parts import Parts
from onnxdiana.compare.layer import Layer, wrapped
from onnxdiana.compare.tensors import Tensor
from onnxdiana.exporting.htvm import QUANTIZERS, handed_over, restored
from onnxdiana.graph import name_of
from onnxdiana.numerics import half
from onnxdiana.rules.ops import operator

Array = NDArray[Any]
Codes = Mapping[str, Array | None]
"""Codes by name in the integer graph, in its layout; None where they are not known."""

_FRACTION = 16
"""Bits behind the point of a real input's quotient, seen as an accumulator."""
_WIDEST = 2.0**46


class Sample:
    """All tensors on one sample."""

    def __init__(self, parts: Parts, handed: Array) -> None:
        """Args: parts: the network; handed: its input, as handed over: float32, or int8 codes."""
        self._parts, self._integer, self._handed = parts, parts.integer, handed
        entry = name_of(self._integer.graph.inputs[0])
        x = restored(self._integer, handed)
        self._x = np.ldexp(x.astype(np.float32), parts.table.exponent(entry)) if x.dtype == np.int8 else x
        self._codes: dict[str, Array | None] = {
            name_of(node.outputs[0]): value for node, value in reference.walk(self._integer, {entry: self._x})
            if not operator(node).requantizes and node.op_type != "Dequantize"}

    def _finish(self, tensor: Tensor, codes: Array) -> Array:
        """From what the maker gives to the tensor."""
        assert tensor.maker is not None
        if tensor.maker.op_type == "Quantize" and not tensor.movers:
            return handed_over(self._integer, codes)
        for node in tensor.movers:
            codes = operator(node).evaluate(node, [codes], "floor")
        return codes

    def values(self, tensor: Tensor, codes: Codes | None = None) -> Array:
        """Codes as int64, of the output too; of the input what is handed over.

        Args:
            tensor: that is wanted.
            codes: from which it follows; by default the expected ones.
        """
        if tensor.maker is None:
            return self._handed
        known = (self._codes if codes is None else codes)[tensor.codes]
        assert known is not None
        return self._finish(tensor, known).astype(np.int64)

    def layer(self, tensor: Tensor, codes: Codes | None = None) -> Layer | None:
        """The layer that makes a tensor.

        Args:
            tensor: that it makes.
            codes: that it reads; by default the expected ones.

        Returns:
            None where not all that it reads is known.
        """
        maker = tensor.maker
        if maker is None:
            return Layer(self._handed)
        node, inputs, values = None, list[Array](), tuple[ir.Value, ...]()
        bounds = {key: graph.attribute(maker, key) for key in ("lo", "hi") if key in maker.attributes}
        accumulator, shift = None, graph.attribute(maker, "shift", 0)
        if maker.op_type == "Quantize":
            shift = _FRACTION
            scaled = np.ldexp(self._x.astype(np.float64), shift - graph.attribute(maker, "exponent"))
            accumulator = np.floor(np.clip(scaled, -_WIDEST, _WIDEST)).astype(np.int64)
        else:
            node = maker.inputs[0].producer() if maker.op_type == "Requantize" and maker.inputs[0] else maker
            assert node is not None
            values = operator(node).codes(node)
            known = [(self._codes if codes is None else codes).get(name_of(value)) for value in values]
            inputs = [array for array in known if array is not None]
            if len(inputs) < len(known):
                return None
            accumulator = operator(node).evaluate(node, inputs, "floor").astype(np.int64)
        own = self._parts.table.layers.get(tensor.node)
        made = Layer(accumulator, node=node, inputs=inputs, flattened=[_before_flatten(value) for value in values],
                     accumulator=accumulator, shift=shift, **bounds,
                     half=half(own.shift) if own is not None and own.rounding == "half_up" else 0,
                     finish=lambda given: self._finish(tensor, given))
        return dataclasses.replace(made, expected=made.codes(accumulator))

    def following(self, changes: Mapping[str, Array | None], goal: str | None = None) -> dict[str, Array | None]:
        """All codes where some are given: what reads them is computed again, None where it reads what is not known.

        Args:
            changes: codes by the name in the integer graph.
            goal: the last tensor of interest.
        """
        found = {**self._codes, **changes}
        new = set(changes)
        for node in self._integer.graph:
            name, sources = name_of(node.outputs[0]), [name_of(v) for v in operator(node).codes(node)]
            if name in changes or node.op_type == "Dequantize" or new.isdisjoint(sources):
                continue
            inputs = [array for source in sources if (array := found[source]) is not None]
            found[name] = operator(node).evaluate(node, inputs, "floor") if len(inputs) == len(sources) else None
            new.add(name)
            if name == goal:
                break
        return found

    def with_fault(self, tensors: Sequence[Tensor], fault: Callable[[Layer], Array]) -> Array:
        """The last one of some tensors where the layers that make them have a fault.

        Args:
            tensors: in execution order.
            fault: what a layer gives with it.
        """
        codes, made = dict(self._codes), {tensor.codes: tensor for tensor in tensors}
        for node in self._integer.graph:
            name = name_of(node.outputs[0])
            if name in made:
                layer = self.layer(made[name], codes)
                assert layer is not None
                result = fault(layer)
                if made[name] is tensors[-1]:
                    break
                codes[name] = self.as_codes(made[name], wrapped(result).astype(np.int8))
            elif name in codes and node.op_type not in QUANTIZERS:
                inputs = [array for v in operator(node).codes(node) if (array := codes[name_of(v)]) is not None]
                codes[name] = operator(node).evaluate(node, inputs, "floor")
        return result

    def as_codes(self, tensor: Tensor, values: Array) -> Array:
        """A tensor without movers, as the integer graph has it."""
        assert tensor.maker is not None
        return restored(self._integer, values) if tensor.maker.op_type == "Quantize" else values


def _before_flatten(value: ir.Value) -> tuple[int, ...] | None:
    producer = value.producer()
    if producer is None or producer.op_type not in ("Flatten", "Reshape") or producer.inputs[0] is None:
        return None
    return (1, *graph.sample_shape(producer.inputs[0]))
