"""``move(f(x, c)) -> f'(move(x), c')`` between a graph input and the first layer: the input's Transpose comes first."""

from __future__ import annotations

import onnx_ir as ir

from onnxdiana.rules.canonicalize.layout import (
    Move,
    move_of,
    operands,
    passed,
    starts_at_input,
    static,
)
from onnxdiana.rules.canonicalize.moves import Editor


class HoistMoves:
    """One pass against the order of the nodes; what stands behind a node is settled when its turn comes."""

    name = "hoist"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place; the number of nodes put behind a move."""
        chain: set[ir.Value | None] = set(model.graph.inputs)
        nodes = [node for node in model.graph if self._extends(node, chain)]
        editor = Editor(model.graph)
        return sum(self._hoist(node, editor) for node in reversed(nodes) if move_of(node) is None)

    @staticmethod
    def _extends(node: ir.Node, chain: set[ir.Value | None]) -> bool:
        """Whether a node and all in front of it compute nothing but input preparation; then it joins the chain."""
        if not starts_at_input(node, chain) and (move_of(node) is None or node.inputs[0] not in chain):
            return False
        chain.update(node.outputs)
        return True

    @staticmethod
    def _hoist(node: ir.Node, editor: Editor) -> bool:
        move, result = _readers(node.outputs[0]), node.outputs[0]
        if move is None:
            return False
        back: list[tuple[int, Move]] = []
        for place in operands(node):
            shape = static(node.inputs[place])
            own = move.inverse().resized(shape) if shape is not None else None
            if own is None:
                return False
            back.append((place, own))
        form = passed(node, back[0][1])
        if form is None or form.moves[0] != move.inverse():
            return False
        made: dict[ir.Value, ir.Value] = {}
        for place, own in back:
            source = node.inputs[place]
            assert source is not None
            if source not in made:
                made[source] = editor.insert(source, own.inverse()).outputs[0]
            node.replace_input_with(place, made[source])
        editor.reform(node, form)
        result.shape = ir.Shape(move.after)
        for reader in [use.node for use in result.uses()]:
            moved = reader.outputs[0]
            if moved.is_graph_output():
                result.name, moved.name = moved.name, None
            moved.replace_all_uses_with(result, replace_graph_outputs=True)
            editor.graph.remove(reader, safe=True)
        return True


def _readers(value: ir.Value) -> Move | None:
    """The move that all readers of a tensor make of it; only one result may be an output of the graph."""
    uses = list(value.uses())
    outputs = sum(use.node.outputs[0].is_graph_output() for use in uses)
    if value.is_graph_output() or not uses or outputs > 1:
        return None
    moves = [move_of(use.node) if use.idx == 0 else None for use in uses]
    return moves[0] if all(move == moves[0] for move in moves) else None


RULE = HoistMoves()
