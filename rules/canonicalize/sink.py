"""``f(move(x), c) -> move(f'(x, c'))``: Transposes and Reshapes go to the outputs, and meet those that undo them.

``move(move(x)) -> move(x)`` on the way, a move that changes nothing goes away, and a Transpose that moves no data is a
Reshape. A move on a graph input stays there; ``f(move(x), y)`` for a graph input y takes the inverse move of y.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxdiana.rules.canonicalize.layout import (
    Move,
    Permutation,
    Regrouping,
    move_of,
    operands,
    passed,
    starts_at_input,
    static,
)
from onnxdiana.rules.canonicalize.moves import Editor

_Make = Callable[[], ir.Value]


class SinkMoves:
    """One pass in the order of the nodes: what a node reads is settled when its turn comes.

    It ends: a node leaves each move that it passes behind it for good, and at most one is written behind a tensor.
    """

    name = "sink"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of moves passed, merged or removed."""
        return _Pass(model.graph).run()


class _Pass:
    """The state of one pass over a graph."""

    def __init__(self, model_graph: ir.Graph) -> None:
        self._editor = Editor(model_graph)
        self._known: dict[tuple[ir.Value, tuple[int, ...], bool], ir.Value] = {}  # moves of a tensor, met so far
        self._at_input: set[ir.Value | None] = set(model_graph.inputs)  # graph inputs and moves of them
        self._chain: set[ir.Value | None] = set(model_graph.inputs)  # and what only prepares them
        self._count = 0

    def run(self) -> int:
        """Every node in turn."""
        for node in list(self._editor.graph):
            behind: list[ir.Node] = []
            while (moves := self._sink(node)) is not None:
                behind = [*moves, *behind]
                self._count += 1
            if move_of(node) is not None:
                self._settle(node)
            elif starts_at_input(node, self._chain):
                self._chain.update(node.outputs)
            for move in behind:
                self._settle(move)
        return self._count

    # -- moves --------------------------------------------------------------------------------------------------------

    def _settle(self, node: ir.Node) -> None:
        """A move in its shortest form, and once for each tensor."""
        move = move_of(node)
        assert move is not None
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        if source in self._at_input:
            self._at_input.add(result)
        if source in self._chain:
            self._chain.add(result)
        inner = move_of(source.producer())
        if inner is not None and type(inner) is type(move):
            node.replace_input_with(0, _source_of(source))
            if isinstance(move, Permutation) and isinstance(inner, Permutation):
                node.attributes["perm"] = ir.AttrInt64s("perm", [inner.perm[p] for p in move.perm])
            self._count += 1
            self._settle(node)
        elif move.is_identity:
            self._count += self._editor.bypass(node, source)
        elif (isinstance(move, Permutation) and move.perm[0] == 0 and not move.moves_data
              and not source.is_graph_input()):  # there it is the interface's layout
            self._editor.become_reshape(node, source, move.after)
            self._count += 1
            self._settle(node)
        else:
            known = self._known.setdefault((source, *_key(move)), result)
            if known is not result and not result.is_graph_output() and result.uses():
                result.replace_all_uses_with(known)
                self._count += 1

    # -- operators behind moves ---------------------------------------------------------------------------------------

    def _sink(self, node: ir.Node) -> list[ir.Node] | None:
        """Put the node in front of a move that it reads, if that is possible; the moves then behind it."""
        places = operands(node)
        stays = starts_at_input(node, self._chain)
        tried: list[Move] = []
        for place in places:
            value = node.inputs[place]
            assert value is not None
            move = move_of(value.producer())
            if move is None or move in tried or (value in self._chain and len(places) > 1 and not stays):
                continue
            tried.append(move)
            form = passed(node, move)
            if form is None or (stays and not all(m.is_identity for m in form.moves)):
                continue
            sources = [self._source(node.inputs[p], move) for p in places]
            if None in sources:
                continue
            for p, make in zip(places, sources, strict=True):
                assert make is not None
                node.replace_input_with(p, make())
            self._editor.reform(node, form)
            return [self._editor.move_behind(v, m) for v, m in zip(node.outputs, form.moves, strict=True)]
        return None

    def _source(self, value: ir.Value | None, like: Move) -> _Make | None:
        """How to get the tensor of which an operand is the same move; None where it would cost another move."""
        shape = static(value)
        move = like.resized(shape) if shape is not None else None
        if value is None or move is None:
            return None
        own = move_of(value.producer())
        if own == move:
            return lambda: _source_of(value)
        back = move.inverse()
        known = self._known.get((value, *_key(back))) if value in self._chain else None
        if known is not None:
            return lambda: known
        if isinstance(own, Regrouping) and not (isinstance(move, Permutation) and move.moves_data):
            return lambda: self._made(_source_of(value), Regrouping(own.before, move.before))
        return (lambda: self._made(value, back)) if value in self._at_input else None

    def _made(self, source: ir.Value, move: Move) -> ir.Value:
        """A move of a tensor that is written for a reader behind it."""
        if move.is_identity:
            return source
        known = self._known.get((source, *_key(move)))
        if known is None:
            known = self._editor.insert(source, move).outputs[0]
            self._known[source, *_key(move)] = known
            if source in self._at_input:
                self._at_input.add(known)
                self._chain.add(known)
        return known


def _source_of(value: ir.Value) -> ir.Value:
    """What the move that makes this tensor reads."""
    producer = value.producer()
    assert producer is not None
    source = producer.inputs[0]
    assert source is not None
    return source


def _key(move: Move) -> tuple[tuple[int, ...], bool]:
    return (move.perm, True) if isinstance(move, Permutation) else (move.after, False)


RULE = SinkMoves()
