"""Random graphs of every exporter's spellings: canonical equals original, all integer models agree, runs repeat."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings

from onnxdiana import canonical, loading
from onnxdiana.loading import OPSET
from onnxdiana.pipeline import prepare, quantize
from onnxdiana.runtime import Runner
from tests.generated.draft import Draft
from tests.generated.graphs import graphs
from tests.generated.spellings import SPELLINGS

EACH = max(6, settings.default.max_examples // 25)
"""Graphs that are drawn for every spelling."""


@pytest.mark.parametrize("name", SPELLINGS)
def test_generated_graphs(name: str, record_property: Callable[[str, object], None]) -> None:
    """The spellings drawn are counted, and the counts printed and judged at the end of the session (conftest.py)."""
    counts, accepted = Counter[str](), 0

    rare = SPELLINGS[name].opsets[0] > OPSET  # drawn for itself at few opsets, and by others hardly ever

    @settings(max_examples=4 * EACH if rare else EACH)
    @given(graphs(name))
    def judge(draft: Draft) -> None:
        nonlocal accepted
        judged(draft.model())
        counts.update(draft.uses)
        accepted += 1

    judge()
    record_property("generated graphs", json.dumps({"accepted": accepted, "spellings": counts}))


def judged(model: onnx.ModelProto) -> None:
    """Everything that holds for every graph."""
    rng = np.random.default_rng(0)
    prepared = prepare(model)
    samples = {spec.name: rng.standard_normal((5, *spec.shape)).astype(np.float32) for spec in prepared.inputs}
    canonical.prove(prepared.loaded.model, prepared.canonical, [samples])

    again = loading.load(ir.to_proto(prepared.canonical.model))
    repeated = canonical.canonicalize(again.model)
    assert repeated.applied == ()
    assert ir.to_proto(repeated.model).SerializeToString(deterministic=True) == \
        ir.to_proto(prepared.canonical.model).SerializeToString(deterministic=True)

    first, second = (quantize(model, samples).files for _ in range(2))
    assert first == second
    integer = onnx.load_from_string(first["model.int.onnx"])
    interface = [(v.name, v.type.tensor_type.elem_type) for v in integer.graph.output]
    assert interface == [(v.name, v.type.tensor_type.elem_type) for v in model.graph.output]
    found = Runner(integer).run(samples)
    assert all(len(found[name]) == 5 for name, _ in interface)
