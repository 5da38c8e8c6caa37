"""Rules for ``--rules``: operators that only one team's exporter writes, spelled with those that can be quantized.

``my::CappedRelu(x) -> Clip(x, 0, cap)``, by pattern, and ``my::AddN(a, b, c) -> Add(Add(a, b), c)``, on the graph.
"""

import numpy as np
import onnx_graphsurgeon as gs
import onnx_ir as ir
from onnxscript.rewriter import pattern


class CappedRelu(pattern.RewriteRuleClassBase):
    """``CappedRelu(x) -> Clip(x, 0, cap)``; its attribute ``cap`` is 6 where it is not given."""

    def pattern(self, op, x):
        """Any CappedRelu; an attribute that a pattern does not name may be there or not."""
        return op.CappedRelu(x, _domain="my", _outputs=["out"])

    def rewrite(self, op, x, out):
        """A Clip with the names of the old node; its bounds get names that nothing else carries."""
        node = out.producer()
        cap = node.attributes.get_float("cap", 6.0)
        low, high = (op.initializer(ir.tensor(np.float32(value)), name=f"{out.name}.{role}")
                     for role, value in (("low", 0.0), ("high", cap)))
        return op.Clip(x, low, high, _outputs=[out.name], _name=node.name)


def chain_of_adds(graph: gs.Graph):
    """``AddN(a, b, c, ...) -> Add(Add(a, b), c) ...``, in place."""
    for node in [node for node in graph.nodes if (node.domain, node.op) == ("my", "AddN")]:
        (total, *terms), outputs = node.inputs, list(node.outputs)
        node.outputs.clear()  # a node without outputs is dropped
        for index, term in enumerate(terms, start=1):
            last = index == len(terms)
            result = outputs if last else [gs.Variable(f"{outputs[0].name}.sum_{index}", dtype=np.float32)]
            graph.nodes.append(gs.Node("Add", inputs=[total, term], outputs=result))
            total, = result


RULES = [CappedRelu, chain_of_adds]
