"""The tensors of a network that a device can dump: their names, what makes them, what they follow from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.check.parts import Parts
from onnxdiana.errors import DumpError
from onnxdiana.exporting.htvm import INPUT, QUANTIZERS, arrange, handed_names, input_permutation
from onnxdiana.graph import name_of
from onnxdiana.integers import code_name
from onnxdiana.rules.ops import operator

OUTPUT = "output"


@dataclass(frozen=True)
class Tensor:
    """One tensor that a device can dump."""

    name: str
    stem: str
    """Of its file among the vectors."""
    operator: str
    """Of the ONNX node that gives it."""
    node: str
    """Output tensor of that node."""
    shape: tuple[int, ...]
    """(1, C, ...), in the layout of the hand-over graph."""
    exponent: int
    maker: ir.Node | None = None
    """Node of the integer graph that gives its codes: a quantizer, or a Concat; None for the network's input."""
    movers: tuple[ir.Node, ...] = ()
    """Between that node and the tensor: what moves codes behind the last layer."""

    @property
    def codes(self) -> str:
        """Name of the codes that the maker gives."""
        assert self.maker is not None
        return name_of(self.maker.outputs[0])


def tensors_of(parts: Parts) -> Iterator[Tensor]:
    """The input, every tensor of codes that the hand-over graph has, and the output, in execution order."""
    integer = parts.integer
    layers = {code_name(layer.output): layer for layer in parts.view.layers}
    exponents = {code_name(v): parts.table.exponent(name_of(v)) for v in parts.view.quantized}
    makers = {name_of(v): node for node in integer.graph for v in node.outputs}

    def tensor(name: str, stem: str, codes: str, movers: Sequence[ir.Node] = ()) -> Tensor:
        maker, layer, source = makers[codes], layers.get(codes), codes
        while source not in exponents:
            source = name_of(operator(makers[source]).codes(makers[source])[0])
        shape = (1, *graph.sample_shape(movers[-1].outputs[0] if movers else maker.outputs[0]))
        if maker.op_type == "Quantize" and not movers:
            shape = handed
        return Tensor(name, stem, layer.operation if layer else maker.op_type, layer.name if layer else codes, shape,
                      exponents[source], maker, tuple(movers))

    entry, result = integer.graph.inputs[0], integer.graph.outputs[0]
    handed = (1, *graph.sample_shape(entry))
    perm = input_permutation(integer)
    handed = handed if perm is None else tuple(handed[axis] for axis in perm)
    yield Tensor(name_of(entry), INPUT, "input", name_of(entry), handed, 0)
    for index, name in enumerate(handed_names(integer, arrange(integer, parts.plan.forms))):
        yield tensor(name, f"intermediate_{index}", name)
    movers, codes = list[ir.Node](), name_of(operator(makers[name_of(result)]).codes(makers[name_of(result)])[0])
    while makers[codes].op_type not in (*QUANTIZERS, "Concat"):
        movers.insert(0, makers[codes])
        codes = name_of(operator(movers[0]).codes(movers[0])[0])
    yield tensor(name_of(result), OUTPUT, codes, movers)


def named(tensors: Sequence[Tensor], label: str) -> Tensor | None:
    """The tensor that a label means: the stem of a vector, a name, or a name as a C identifier.

    Raises:
        DumpError: it means several.
    """
    plain = re.sub(r"^(model_)?g_(?=(input|output|intermediate_\d+)$)", "", label)  # as HTVM calls them
    for key in (lambda t: t.stem, lambda t: t.name, lambda t: identifier(t.name)):
        found = [tensor for tensor in tensors if key(tensor) in (plain, label)]
        if len(found) > 1:
            raise DumpError(f"'{label}' means several tensors; call it {' or '.join(t.stem for t in found)}")
        if found:
            return found[0]
    return None


def identifier(name: str) -> str:
    """A tensor's name as C takes it."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def feeding(tensor: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The dumpable tensors from which a layer's inputs follow, the nearest ones."""
    if tensor.maker is None:
        return []
    dumpable = {t.codes: t for t in tensors if t.maker is not None and t.stem != OUTPUT}
    found, waiting = list[Tensor](), [v for v in tensor.maker.inputs if v is not None]
    while waiting:
        value = waiting.pop(0)
        producer = value.producer()
        if name_of(value) in dumpable:
            found.append(dumpable[name_of(value)])
        elif producer is not None:
            waiting += operator(producer).codes(producer)
    return list(dict.fromkeys(found))
