"""Random legal graphs: an input, some spellings one behind the other, an end; one spelling is in it for certain."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from tests.generated.draft import NEWEST, Draft, Draw, Tensor
from tests.generated.spellings import KINDS, SPELLINGS, Spelling, conv, gemm

OPSETS = [*range(7, 21), 21, *[NEWEST] * 4]
FEWEST, MOST = 3, 6
"""Spellings between start and end, beside the one that must be there."""


@st.composite
def graphs(draw: Draw, must: str) -> Draft:
    """A finished draft."""
    wanted = SPELLINGS[must]
    opset = draw(st.sampled_from([o for o in OPSETS if wanted.opsets[0] <= o <= wanted.opsets[1]]))
    d = Draft(draw, opset, must)
    possible = [s for s in SPELLINGS.values() if s.opsets[0] <= opset <= s.opsets[1]]
    start, end = (wanted if wanted.place == place else d.uniform([s for s in possible if s.place == place])
                  for place in ("start", "end"))
    inner = [s for s in possible if s.place == "inner"]
    steps = [d.uniform(inner) for _ in range(int(d.rng.integers(FEWEST, MOST + 1)))]
    if wanted.place == "inner":
        steps.insert(int(d.rng.integers(len(steps) + 1)), wanted)
    d.uses[start.name] += 1
    x = start.apply(d)
    for step in [*steps, end]:
        x = _step(d, step, x)
    if x.name in {value.name for value in d.inputs}:
        x = conv(d, _as(d, x, "map"))
    d.returned.append(x.name)
    return d


def _step(d: Draft, step: Spelling, x: Tensor) -> Tensor:
    d.uses[step.name] += 1
    return step.apply(d, x if step.name == "plain end" else _as(d, x, step.kind))


def _as(d: Draft, x: Tensor, kind: str) -> Tensor:
    """The tensor in the form that a spelling takes, and not too large."""
    if math.prod(x.shape) > 300:
        x = _as(d, d.conv(x, 2, [3] * (len(x.shape) - 1), strides=[2] * (len(x.shape) - 1),
                          pads=[1] * 2 * (len(x.shape) - 1)), kind) if len(x.shape) > 1 else gemm(d, x)
    if len(x.shape) == KINDS[kind]:
        return x
    if kind == "features":
        size = math.prod(x.shape)
        if d.pick([True, False]):
            return Tensor(d.one("Flatten", [x.name]), (size,))
        return d.reshape(x, size)
    if len(x.shape) == 1:
        shape = (2, 3) if kind == "sequence" else (2, 3, 3)
        weight = d.constant(d.normal(math.prod(shape), x.shape[0], scale=x.shape[0]**-0.5), "weight")
        y = d.one("Gemm", [x.name, weight, d.constant(d.normal(math.prod(shape)))], transB=1)
        return d.reshape(Tensor(y, (math.prod(shape),)), *shape)
    if kind == "sequence":
        return d.reshape(x, x.shape[0], x.shape[1] * x.shape[2])
    return d.pick([lambda: d.reshape(x, x.shape[0], 1, x.shape[1]), lambda: d.unsqueeze(x, 3)])()
