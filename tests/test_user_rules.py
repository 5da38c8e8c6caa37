"""Rules of the user's own: what a file may define, what is applied and refused, and what the page on them says."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript.rewriter.pattern
import pytest
import tiny

import onnxdiana
from onnxdiana import RulesError, UnsupportedOpError, loading, targets, user_rules
from onnxdiana.canonical import canonicalize, prove
from onnxdiana.config import Config
from onnxdiana.errors import ModelError, TargetError
from onnxdiana.runtime import Runner
from onnxdiana.user_rules import UserRules

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "rules"
PAGE = (ROOT / "docs" / "rules.md").read_text("utf-8")

HEAD = """
from __future__ import annotations
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnx_ir as ir
from onnxscript.rewriter import pattern
"""
TWO_NEGATIONS = "(float[N,4] x) => (float[N,4] y) { a = Neg(x) b = Neg(a) c = Relu(b) d = Neg(c) y = Neg(d) }"
"""Two places where a pair of Neg may go."""
PAIR = HEAD + """
def pair(op, x): return op.Neg(op.Neg(x))
def nothing(op, x): return op.Identity(x)
class Pair(pattern.RewriteRuleClassBase):
    def __init__(self, name=None, only=None):
        super().__init__(name)
        self.only = only
    def pattern(self, op, x): return op.Neg(op.Neg(x, _outputs=["a"]))
    def check(self, op, x, a): return self.only is None or a.name == self.only
    def rewrite(self, op, x, a): return op.Identity(x)
"""
X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def loaded(text: str, opset: int = 20, more: str = "") -> ir.Model:
    return loading.load(tiny.model(text, opset, more=more)).model


def rules(tmp_path: Path, text: str, head: str = HEAD) -> UserRules:
    path = tmp_path / "rules.py"
    path.write_text(head + text, "utf-8")
    return user_rules.load(path)


def content(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


# -- what RULES may hold ----------------------------------------------------------------------------------------------

KINDS = {
    "rule": ("RULES = [pattern.RewriteRule(pair, nothing, name='p')]", "p", (("p", 2),)),
    "rule without a name": ("RULES = [pattern.RewriteRule(pair, nothing)]", "RULES[0]", (("RULES[0]", 2),)),
    "tuple": ("RULES = (pattern.RewriteRule(pair, nothing, name='p'),)", "p", (("p", 2),)),
    "class": ("RULES = [Pair]", "Pair", (("Pair", 2),)),
    "instance": ("RULES = [Pair('mine', only='d')]", "mine", (("mine", 1),)),
    "set": ("""def relu(op, x): return op.Relu(x)
def abs_(op, x): return op.Abs(x)
def elu(op, x): return op.Elu(x)
RULES = [pattern.RewriteRuleSet([pattern.RewriteRule(relu, abs_, name='r'), Pair('p', only='a').rule('p', only='a'),
                                 pattern.RewriteRule(elu, abs_, name='e')])]""", "r, p, e", (("r", 1), ("p", 1))),
    "function": ("""def f(graph):
    graph.nodes[2].op = "Abs"
RULES = [f]""", "f", (("f", 1),)),
    "annotated function that returns": ("""def f(graph: gs.Graph) -> gs.Graph:
    copy = graph.copy()
    copy.nodes[2].op = copy.nodes[0].op = "Abs"
    return copy
RULES = [f]""", "f", (("f", 2),)),
    "function of a model": ("""def f(model: ir.Model):
    model.graph[2].op_type = "Abs"
RULES = [f]""", "f", (("f", 1),)),
    "function of a model that returns": ("""def f(model: ir.Model) -> ir.Model:
    model = model.clone()
    model.graph[2].op_type = "Abs"
    return model
RULES = [f]""", "f", (("f", 1),)),
    "lambda": ("RULES = [lambda graph: None]", "<lambda>", ()),
}


@pytest.mark.parametrize(("text", "name", "applied"), KINDS.values(), ids=KINDS)
def test_kinds(text: str, name: str, applied: tuple[tuple[str, int], ...], tmp_path: Path) -> None:
    model = loaded(TWO_NEGATIONS)
    before = content(model)
    found = rules(tmp_path, text, PAIR)
    assert found.names == (name,)
    changed, fired = found.apply(model)
    assert fired == applied
    assert content(model) == before
    assert (operators(changed) != operators(model)) == bool(fired)
    assert found.apply(model)[1] == applied  # again
    assert content(found.apply(model)[0]) == content(changed)


def test_instances_and_classes_are_made_into_rules_as_onnxscript_does() -> None:
    """What is passed on by hand is all that ``RewriteRuleClassBase.rule`` passes on."""
    class Rule(onnxscript.rewriter.pattern.RewriteRuleClassBase):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.Neg(x)

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            return op.Abs(x)

    theirs, ours = vars(Rule.rule("n")), vars(user_rules._of_instance(Rule("n")))
    kept = {key for key, value in theirs.items() if isinstance(value, str | bool | int)}
    assert {"name", "remove_nodes", "as_function"} <= kept
    assert {key: theirs[key] for key in kept} == {key: ours[key] for key in kept}
    assert [ours[key].__func__ for key in ("graph_pre_visitor", "graph_post_visitor", "_condition_function")] == [
        theirs[key].__func__ for key in ("graph_pre_visitor", "graph_post_visitor", "_condition_function")]


def test_a_rule_with_setup_sees_it(tmp_path: Path) -> None:
    found = rules(tmp_path, """
class Once(Pair):
    def setup(self): self.done = False
    def check(self, op, x, a):
        first, self.done = not self.done, True
        return first
RULES = [Once, Once()]""", PAIR)
    for _ in range(2):
        assert found.apply(loaded(TWO_NEGATIONS))[1] == (("Once", 1), ("Once", 1))


def test_entries_run_in_order(tmp_path: Path) -> None:
    one = """def relu_as_abs(graph):
    for node in graph.nodes: node.op = "Abs" if node.op == "Relu" else node.op
def abs_as_exp(graph):
    for node in graph.nodes: node.op = "Exp" if node.op == "Abs" else node.op
RULES = [relu_as_abs, abs_as_exp]"""
    model = loaded("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    changed, applied = rules(tmp_path, one).apply(model)
    assert (operators(changed), applied) == (["Exp"], (("relu_as_abs", 1), ("abs_as_exp", 1)))
    other = one.replace("[relu_as_abs, abs_as_exp]", "[abs_as_exp, relu_as_abs]")
    changed, applied = rules(tmp_path, other).apply(model)
    assert (operators(changed), applied) == (["Abs"], (("relu_as_abs", 1),))


PLACES = {
    "nothing": ("pass", 0),
    "a copy": ("return graph.copy()", 0),
    "names of nodes": ("graph.nodes[0].name = 'other'", 0),
    "unused nodes": ("graph.nodes.append(gs.Node('Relu', inputs=graph.inputs, outputs=[gs.Variable('u')]))", 1),
    "an attribute": ("graph.nodes[1].attrs['alpha'] = 0.5", 1),
    "a weight": ("graph.tensors()['w'].values = graph.tensors()['w'].values * 2", 1),
    "a node in between": ("""
    t = gs.Variable('t', np.float32)
    graph.nodes.append(gs.Node('Abs', inputs=[t], outputs=list(graph.nodes[1].outputs)))
    graph.nodes[1].outputs = [t]""", 1),
}


@pytest.mark.parametrize(("body", "count"), PLACES.values(), ids=PLACES)
def test_places_of_a_function(body: str, count: int, tmp_path: Path) -> None:
    model = loaded("""(float[N,4] x) => (float[N,3] y) <float[4,3] w, float[2] unused> {
        a = MatMul(x, w) b = LeakyRelu<alpha = 0.25>(a) y = Relu(b) }""")
    _, applied = rules(tmp_path, f"def f(graph):\n    {body}\nRULES = [f]").apply(model)
    assert applied == ((("f", count),) if count else ())


def test_the_result_is_tidy(tmp_path: Path) -> None:
    """Unsorted nodes are sorted, unused ones dropped, shapes that the rule made stale are inferred anew."""
    changed, _ = rules(tmp_path, """
def f(graph):
    relu = next(node for node in graph.nodes if node.op == "Relu")
    wide = gs.Variable("wide")
    relu.inputs[0], source = wide, relu.inputs[0]
    graph.nodes.append(gs.Node("Concat", attrs={"axis": 1}, inputs=[source, source], outputs=[wide]))
    graph.nodes.append(gs.Node("Exp", inputs=[wide], outputs=[gs.Variable("unused")]))
RULES = [f]""").apply(loaded("(float[N,4] x) => (float[N,M] y) { a = Neg(x) b = Relu(a) y = Neg(b) }"))
    assert operators(changed) == ["Neg", "Concat", "Relu", "Neg"]
    shapes = {v.name: (v.dtype, list(v.shape)[1:]) for node in changed.graph for v in node.outputs}
    assert shapes == {name: (ir.DataType.FLOAT, [size]) for name, size in
                      (("a", 4), ("wide", 8), ("b", 8), ("y", 8))}
    np.testing.assert_array_equal(Runner(changed).run({"x": X})["y"], -np.maximum(np.tile(-X, 2), 0))


def test_a_rule_sees_shapes(tmp_path: Path) -> None:
    rules(tmp_path, """
def f(graph):
    assert [tuple(v.shape)[1:] for n in graph.nodes for v in n.outputs] == [(3,), (3,)], graph
RULES = [f]""").apply(loaded("(float[N,4] x) => (float[N,3] y) <float[4,3] w> { a = MatMul(x, w) y = Relu(a) }"))


def test_generated_names_do_not_clash(tmp_path: Path) -> None:
    """Names that exporters and the pattern engine both give."""
    changed, applied = rules(tmp_path, """
class Twice(pattern.RewriteRuleClassBase):
    def pattern(self, op, x): return op.Relu(x, _outputs=["out"])
    def rewrite(self, op, x, out): return op.Abs(op.Neg(op.Exp(x)))
RULES = [Twice]""").apply(loaded("""(float[N,4] x) => (float[N,4] y) {
        val_0 = Relu(x) val_1 = Neg(val_0) val_2 = Relu(val_1) y = Relu(val_2) }"""))
    assert applied == (("Twice", 3),)
    names = [v.name for node in changed.graph for v in node.outputs]
    assert len(names) == len(set(names)) == 10
    first = np.exp(X)
    np.testing.assert_allclose(Runner(changed).run({"x": X})["y"], np.exp(np.exp(-first)), rtol=1e-5)


def test_what_a_file_prints_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules(tmp_path, "print('loading')\ndef f(graph): print('applying')\nRULES = [f]").apply(loaded(TWO_NEGATIONS))
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "loading\napplying\n")


def test_nothing_is_written_beside_the_file(tmp_path: Path) -> None:
    rules(tmp_path, "RULES = [lambda graph: None]")
    assert [path.name for path in tmp_path.iterdir()] == ["rules.py"]


def test_a_file_may_define_dataclasses(tmp_path: Path) -> None:
    """They look up their module where it is registered."""
    assert rules(tmp_path, """
import dataclasses
@dataclasses.dataclass
class Options:
    cap: float = 6.0
RULES = [lambda graph: None]""").names == ("<lambda>",)


# -- what is refused --------------------------------------------------------------------------------------------------

REFUSED_FILES = {
    "no rules": ("", r"rules\.py: defines no rules; write RULES = \[\.\.\.\], a list of"),
    "empty": ("RULES = []", "defines no rules"),
    "not a list": ("RULES = lambda graph: None", "defines no rules"),
    "fails": ("1 / 0", r"rules\.py: running it failed: ZeroDivisionError: division by zero; repair it"),
    "exits": ("raise SystemExit(3)", "running it failed: SystemExit: 3"),
    "no Python": ("RULES = [", "running it failed: SyntaxError"),
    "a number": ("RULES = [lambda graph: None, 3]", r"RULES\[1\] is 3; an entry is a rule or rule set of"),
    "a callable object": ("RULES = [len]", r"RULES\[0\] is <built-in function len>; an entry is"),
    "another class": ("class A: pass\nRULES = [A]", r"RULES\[0\] is <class .*A'>; an entry is"),
    "abstract class": ("RULES = [pattern.RewriteRuleClassBase]", r"RULES\[0\]: making the rule failed: TypeError"),
    "no parameter": ("def f(): pass\nRULES = [f]", r"RULES\[0\]: function 'f' must have one parameter"),
    "two parameters": ("def f(a, b): pass\nRULES = [f]", "function 'f' must have one parameter"),
    "any number": ("def f(*graphs): pass\nRULES = [f]", "function 'f' must have one parameter"),
    "another type": ("def f(a: onnx.ModelProto): pass\nRULES = [f]",
                     "function 'f' takes .*ModelProto.*; it may take onnx_graphsurgeon.Graph or onnx_ir.Model"),
    "unknown annotation": ("def f(a: Graph): pass\nRULES = [f]",
                           "annotation of function 'f' cannot be evaluated .*Graph.*: import what it names"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED_FILES.values(), ids=REFUSED_FILES)
def test_a_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=message):
        rules(tmp_path, text)


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.py", tmp_path):
        with pytest.raises(RulesError, match=re.escape(f"{path}: no such file; rules are a Python file that defines")):
            user_rules.load(path)
    with pytest.raises(TargetError, match=r"none\.py: no such file; --target takes a name"):  # the same helper
        targets.load(str(tmp_path / "none.py"))


REFUSED_RULES = {
    "raises": ("raise ValueError('no good')", "rule 'f' failed: ValueError: no good; repair it"),
    "exits": ("raise SystemExit(3)", "rule 'f' failed: SystemExit: 3"),
    "returns something": ("return 3", "rule 'f' failed: TypeError: it returned int; return a Graph, or nothing"),
    "returns a model": ("return ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)",
                        "it returned Model; return a Graph"),
    "output renamed": ("graph.outputs[0].name = 'z'",
                       r"rule 'f' changed the outputs from \['y', 'w'\] to \['z', 'w'\]"),
    "outputs reordered": ("graph.outputs.reverse()", r"from \['y', 'w'\] to \['w', 'y'\]; their names and order"),
    "output left out": ("graph.outputs.pop()", r"from \['y', 'w'\] to \['y'\]"),
    "input renamed": ("graph.inputs[0].name = 'z'", r"rule 'f' changed the inputs from \['x'\] to \['z'\]"),
    "input added": ("graph.inputs.append(gs.Variable('z', np.float32, (1,)))", r"inputs from \['x'\] to \['x', 'z'\]"),
    "input's type": ("graph.inputs[0].dtype = np.int64",
                     r"rule 'f' changed an input from 'x' \(FLOAT\[None, 4\]\) to 'x' \(INT64\[None, 4\]\); inputs"),
    "input's shape": ("graph.inputs[0].shape = [2, 4]",
                      r"an input from 'x' \(FLOAT\[None, 4\]\) to 'x' \(FLOAT\[2, 4\]\)"),
    "output without a node": ("graph.nodes[-1].outputs.clear()",
                              "after rule 'f', no node computes output '[yw]'; give the last node"),
    "opset": ("graph.opset = 13; graph.nodes[0].op = 'Abs'",
              "rule 'f' changed the opset to 13; rules read and write opset 20"),
    "unknown operator": ("graph.nodes[0].op = 'Foo'", "rule 'f' left no valid graph: .*Foo"),
    "operator that is newer": ("graph.nodes[0].op = 'RMSNormalization'",
                               "rule 'f' left no valid graph: .*RMSNormalization"),
    "dangling input": ("graph.nodes[0].inputs = [gs.Variable('t', np.float32)]",
                       "after rule 'f', Relu -> 'a' reads 't', which no node computes and no initializer holds"),
    "cycle": ("graph.nodes[0].inputs = [graph.outputs[0]]", "rule 'f' failed: ValueError: .*cycle"),
    "sizes": ("graph.nodes[0].op = 'Add'; graph.nodes[0].inputs.append(gs.Constant('c', np.ones(3, np.float32)))",
              "rule 'f' left no valid graph: .*(Incompatible|broadcast)"),
    "types": ("graph.nodes[0].op = 'Add'; graph.nodes[0].inputs.append(gs.Constant('c', np.ones(4, np.int64)))",
              "rule 'f' left no valid graph: .*type"),
    "float64": ("graph.nodes[0].op = 'Cast'; graph.nodes[0].attrs = {'to': 11}; graph.nodes[1].op = 'Cast'; "
                "graph.nodes[1].attrs = {'to': 1}",
                "rule 'f' made 'a' float64; models are float32: give its constants that type"),
    "same name twice": ("graph.nodes[0].outputs[0].name = 'y'", "rule 'f' (left no valid graph|failed)"),
}


@pytest.mark.parametrize(("body", "message"), REFUSED_RULES.values(), ids=REFUSED_RULES)
def test_a_rule_is_refused(body: str, message: str, tmp_path: Path) -> None:
    found = rules(tmp_path, f"def f(graph):\n    {body}\nRULES = [lambda graph: None, f]")
    model = loaded("(float[N,4] x) => (float[N,4] y, float[N,4] w) { a = Relu(x) y = Neg(a) w = Exp(a) }")
    before = content(model)
    with pytest.raises(RulesError, match=message):
        found.apply(model)
    assert content(model) == before


def test_output_that_is_a_weight_is_refused(tmp_path: Path) -> None:
    found = rules(tmp_path, """
def f(graph):
    graph.nodes.clear()
    graph.outputs[0] = gs.Constant("y", np.ones((1, 4), np.float32))
RULES = [f]""")
    with pytest.raises(RulesError, match="no node computes output 'y'"):
        found.apply(loaded("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"))


def test_a_rule_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    found = rules(tmp_path, """
class Again(pattern.RewriteRuleClassBase):
    def pattern(self, op, x): return op.Relu(x)
    def rewrite(self, op, x): return op.Relu(op.Relu(x))
RULES = [Again]""")
    with pytest.raises(RulesError, match=r"rule 'Again' failed: .*it does not end: its replacement"):
        found.apply(loaded("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"))


def test_an_initializer_that_takes_anothers_name_is_refused(tmp_path: Path) -> None:
    """The engine puts it in the other's place, whose readers would then read it too."""
    found = rules(tmp_path, """
class Doubled(pattern.RewriteRuleClassBase):
    def pattern(self, op, x): return op.Relu(x)
    def rewrite(self, op, x):
        return op.Mul(x, op.initializer(ir.tensor(np.float32([2, 2, 2, 2])), name="c"))
RULES = [Doubled]""")
    with pytest.raises(RulesError, match="rule 'Doubled', Add -> 'a' reads 'c_1', which no node computes and"):
        found.apply(loaded("(float[N,4] x) => (float[N,4] y) <float[4] c> { a = Add(x, c) y = Relu(a) }"))


def test_a_huge_result_is_refused(tmp_path: Path) -> None:
    """The loader does not look at sizes behind operators that it does not know."""
    model = loaded("(float[N,4] x) => (float[N,M] y) { a = my.Foo(x) y = Tile(a, r) }".replace(
        "{", "<int64[2] r = {1, 30000000}> {"), more='"my" : 1')
    found = rules(tmp_path, "def f(graph):\n    graph.nodes[0].op, graph.nodes[0].domain = 'Relu', None\nRULES = [f]")
    with pytest.raises(ModelError, match=r"Tile -> 'y': shape .* has more than"):
        found.apply(model)


# -- operators that ONNX does not know --------------------------------------------------------------------------------

CUSTOM = """(float[N,4,8,8] x) => (float[N,4] y) <float[4,4,3,3] w, float[4,4] v, float[4] u> {
    a = my.Gate<gain = 2.0>(x)  b = Conv<pads = [1,1,1,1]>(a, w)  c = my.Gate(b)  d = GlobalAveragePool(c)
    e = Flatten(d)  y = Gemm<transB = 1>(e, v, u) }"""
GATE = """
def gate(graph):
    for node in graph.nodes:
        if node.domain == "my":
            node.op, node.domain, node.attrs = "Relu", None, {}
RULES = [gate]"""


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22])
def test_custom_operators_are_replaced_at_every_opset(opset: int, tmp_path: Path) -> None:
    original = loaded(CUSTOM, opset, '"my" : 1')
    changed, applied = rules(tmp_path, GATE).apply(original)
    assert applied == (("gate", 2),)
    batch = {"x": np.random.default_rng(1).standard_normal((3, 4, 8, 8)).astype(np.float32)}
    result = canonicalize(changed)
    assert prove(changed, result, [batch]) <= 1e-6
    assert user_rules.difference_by_rules(original, changed, [batch]) is None
    by_hand = loaded(re.sub(r"my\.Gate(<.*?>)?", "Relu", CUSTOM), opset)
    np.testing.assert_array_equal(Runner(changed).run(batch)["y"], Runner(by_hand).run(batch)["y"])


def test_custom_operators_that_stay_are_no_error_of_the_rules(tmp_path: Path) -> None:
    """The stage that judges operators lists them."""
    found = rules(tmp_path, GATE.replace('"my":', '"my" and node.attrs:'))
    changed, applied = found.apply(loaded(CUSTOM, more='"my" : 1'))
    assert applied == (("gate", 1),)
    with pytest.raises(ModelError, match="my::Gate -> 'c'"):
        canonicalize(changed)


def test_operators_that_our_opset_lacks_have_a_domain_of_their_own(tmp_path: Path) -> None:
    model = loading.load(tiny.model("(float[N,4] x) => (float[N,4] y) { y = Novel(x) }", 17)).model
    changed, applied = rules(tmp_path, GATE.replace('"my"', '"opset-17"')).apply(model)
    assert (operators(changed), applied) == (["Relu"], (("gate", 1),))


# -- how much rules change --------------------------------------------------------------------------------------------


def test_difference(tmp_path: Path) -> None:
    model = loaded("(float[N,4] x) => (float[N,4] y, float[N,4] z) { y = LeakyRelu<alpha = 0.5>(x) z = Neg(x) }")
    same, fired = rules(tmp_path, """
def f(graph):
    graph.nodes[0].op, graph.nodes[0].attrs = "PRelu", {}
    graph.nodes[0].inputs.append(gs.Constant("slope", np.float32([0.5])))
RULES = [f]""").apply(model)
    assert fired == (("f", 1),)
    assert user_rules.difference_by_rules(model, same, [{"x": X}, {"x": -X}]) == 0.0
    other, _ = rules(tmp_path, "def f(graph): graph.nodes[0].attrs['alpha'] = 0.25\nRULES = [f]").apply(model)
    x = np.float32([[-8, 0, 1, 5], [1, 1, 1, 1]])
    assert user_rules.difference_by_rules(model, other, [{"x": abs(x)}, {"x": x}]) == 2 / 5
    assert user_rules.difference_by_rules(model, other, []) == 0.0
    cut, _ = rules(tmp_path, """
def f(graph):
    graph.nodes[0].op, graph.nodes[0].attrs = "ReduceMax", {"keepdims": 1}
    graph.nodes[0].inputs.append(gs.Constant("axes", np.int64([1])))
RULES = [f]""").apply(model)
    assert user_rules.difference_by_rules(model, cut, [{"x": X}]) == math.inf


def test_the_whole_way(tmp_path: Path) -> None:
    rules(tmp_path, GATE)
    path = tmp_path / "rules.py"
    model = tiny.model(CUSTOM, 17, more='"my" : 1')
    prepared = onnxdiana.prepare(model, rules=path)
    assert (prepared.user_rules, prepared.user_difference) == ((("gate", 2),), None)
    assert prepared.difference <= 1e-6
    x = np.random.default_rng(1).standard_normal((8, 4, 8, 8)).astype(np.float32)
    found = onnxdiana.quantize(model, x, config=Config(rules=str(path)))
    by_hand = onnxdiana.quantize(tiny.model(re.sub(r"my\.Gate(<.*?>)?", "Relu", CUSTOM), 17), x)
    for name in ("model.float.onnx", "model.int.onnx", "htvm/model.onnx"):
        assert found.files[name] == by_hand.files[name]
    with pytest.raises(UnsupportedOpError, match=r"2 operator\(s\)"):
        onnxdiana.prepare(model)


# -- the page and the example -----------------------------------------------------------------------------------------

BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SMALL = """(float[N,3,16,16] x) => (float[N,4] y) <float[4,3,3,3] w, float[4,4] v> {
    a = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w)  b = ACTIVATION(a)  c = GlobalAveragePool(b)  d = Flatten(c)
    y = Gemm<transB = 1>(d, v) }"""


def test_the_page_has_two_rules_and_a_trial() -> None:
    assert ["RULES = " in block for block in BLOCKS] == [True, True, False]


@pytest.mark.parametrize(("block", "before", "after", "name"), [
    (0, "my.CappedRelu<cap = 0.5>", "Clip(a, low, high)", "CappedRelu"),
    (0, "my.CappedRelu", "Clip(a, low, six)", "CappedRelu"),
    (1, "Softplus", "Relu(a)", "softplus_as_relu"),
])
def test_the_rules_of_the_page(block: int, before: str, after: str, name: str, tmp_path: Path) -> None:
    changed, applied = rules(tmp_path, BLOCKS[block], "").apply(
        loaded(SMALL.replace("ACTIVATION", before), more='"my" : 1'))
    assert applied == ((name, 1),)
    assert [node.outputs[0].name for node in changed.graph] == ["a", "b", "c", "d", "y"]
    by_hand = loaded(SMALL.replace("ACTIVATION(a)", after).replace(
        "> {", ", float low = {0}, float high = {0.5}, float six = {6}> {"))
    x = {"x": np.random.default_rng(2).standard_normal((3, 3, 16, 16)).astype(np.float32)}
    np.testing.assert_array_equal(Runner(changed).run(x)["y"], Runner(by_hand).run(x)["y"])
    assert prove(changed, canonicalize(changed), [x]) <= 1e-6


def test_the_trial_of_the_page(tmp_path: Path) -> None:
    onnx.save(tiny.model(SMALL.replace("ACTIVATION", "Softplus")), tmp_path / "model.onnx")
    (tmp_path / "my_rules.py").write_text(BLOCKS[1], "utf-8")
    done = subprocess.run([sys.executable, "-c", BLOCKS[2]], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr
    applied, difference = done.stdout.splitlines()
    assert applied == "(('softplus_as_relu', 1),)"
    assert 1e-4 < float(difference) < 10


def test_the_example(tmp_path: Path) -> None:
    readme = (EXAMPLE / "README.md").read_text("utf-8")
    assert "python examples/rules/make_model.py custom.onnx" in readme
    assert "--rules examples/rules/custom_activation.py" in readme
    subprocess.run([sys.executable, str(EXAMPLE / "make_model.py"), "custom.onnx"], cwd=tmp_path, check=True)
    original = loading.load(tmp_path / "custom.onnx").model
    with pytest.raises(ModelError, match=r"3 operator\(s\) have no quantized form"):
        canonicalize(original)
    changed, applied = user_rules.load(EXAMPLE / "custom_activation.py").apply(original)
    assert applied == (("CappedRelu", 2), ("chain_of_adds", 1))
    assert all(not node.domain for node in changed.graph)
    spec = importlib.util.spec_from_file_location("make_model", EXAMPLE / "make_model.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.TEXT.replace("my.CappedRelu<cap = 4.0> (a)", "Clip (a, low, four)").replace(
        "my.CappedRelu (c)", "Clip (c, low, six)").replace("my.AddN", "Sum").replace(
        "logits) {", "logits) <float low = {0}, float four = {4}, float six = {6}> {")
    by_hand = onnx.parser.parse_model(text)
    by_hand.graph.initializer.extend(script.network().graph.initializer)
    x = {"image": np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)}
    np.testing.assert_allclose(Runner(changed).run(x)["logits"], Runner(by_hand).run(x)["logits"], rtol=1e-5, atol=1e-6)
    assert prove(changed, canonicalize(changed), [x]) <= 1e-6
