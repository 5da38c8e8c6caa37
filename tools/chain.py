"""How the time of a run grows with the number of nodes: a synthetic chain of 2000 against one of 1000.

Running a model is left out: what onnxruntime takes to build and run sessions, and what the numpy reference takes to
evaluate nodes. Everything else counts, stage by stage, so that one which grows faster than the graph shows. Seconds are
the processor's: what else the machine does is not in them. The limit of the ratio of the sums is 2.3.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime
from measure import verdict
from onnx import TensorProto, helper, numpy_helper

from onnxdiana import pipeline
from onnxdiana.reference import Walk

LIMIT = 2.3
CHANNELS, SIZE, SAMPLES = 4, 4, 8
T = TypeVar("T")


class Chain:
    """Nodes one behind the other. Weights only permute channels, so that no depth makes values vanish or explode."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._shape = shape

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """A node; the name of its output."""
        output = f"t{len(self)}"
        self._nodes.append(helper.make_node(op_type, inputs, [output], name=f"n{len(self)}", **attributes))
        return output

    def linear(self, op_type: str, x: str, gain: float, **attributes: Any) -> str:
        """A linear layer: a permutation of the channels, scaled, and a little more."""
        weight = gain * np.eye(CHANNELS)[self._random.permutation(CHANNELS)]
        weight += self._random.uniform(-0.01, 0.01, weight.shape)
        name = f"w{len(self)}"
        array = weight.astype(np.float32).reshape(CHANNELS, CHANNELS, *[1] * (len(self._shape) - 1))
        self._weights += [numpy_helper.from_array(array, name),
                          numpy_helper.from_array(np.full(CHANNELS, 0.001, np.float32), f"{name}.bias")]
        return self.add(op_type, x, name, f"{name}.bias", **attributes)

    def model(self, output: str) -> onnx.ModelProto:
        """The whole."""
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *self._shape]) for name in ("x", output)]
        graph = helper.make_graph(self._nodes, "chain", ends[:1], ends[1:], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def convolutions(count: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """``count`` nodes: 1x1 Conv, Relu, Conv, Add of what stood before them, Relu, and again; shape of a sample."""
    chain, x, gain = Chain((CHANNELS, SIZE, SIZE)), "x", 1.0
    while len(chain) + 5 <= count:
        inner = chain.add("Relu", chain.linear("Conv", x, gain))
        x, gain = chain.add("Relu", chain.add("Add", inner, chain.linear("Conv", inner, 1.0))), 0.5
    while len(chain) < count:
        x = chain.add("Relu", x) if len(chain) % 2 else chain.linear("Conv", x, gain)
    return chain.model(x), (CHANNELS, SIZE, SIZE)


def gemms(count: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """``count`` nodes, Gemm and Relu in turn; shape of a sample."""
    chain, x = Chain((CHANNELS,)), "x"
    while len(chain) < count:
        x = chain.add("Relu", x) if len(chain) % 2 else chain.linear("Gemm", x, 1.0, transB=1)
    return chain.model(x), (CHANNELS,)


class Clock:
    """Processor seconds by stage, without those in which a model runs."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.running = 0.0
        """Seconds in which a model ran."""

    def stage(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function and enter its time."""
        begin, before = time.process_time(), self.running
        result = function(*arguments)
        taken = time.process_time() - begin - (self.running - before)
        self.stages[name] = self.stages.get(name, 0.0) + taken
        return result

    @contextmanager
    def excluding(self) -> Iterator[None]:
        """Within, sessions of onnxruntime and the numpy reference run on a clock of their own."""
        clock, session, evaluate = self, onnxruntime.InferenceSession, Walk.evaluate

        class Session:
            """A session that is timed."""

            def __init__(self, *arguments: Any, **options: Any) -> None:
                self._session = clock._timed(session, *arguments, **options)

            def run(self, *arguments: Any) -> Any:
                return clock._timed(self._session.run, *arguments)

        try:
            onnxruntime.InferenceSession = Session
            Walk.evaluate = lambda *arguments: clock._timed(evaluate, *arguments)
            yield
        finally:
            onnxruntime.InferenceSession, Walk.evaluate = session, evaluate

    def _timed(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        begin = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            self.running += time.process_time() - begin


def measured(build: Callable[[int], tuple[onnx.ModelProto, tuple[int, ...]]], count: int) -> Clock:
    """One run on a chain of ``count`` nodes."""
    model, shape = build(count)
    assert len(model.graph.node) == count
    data = np.random.default_rng(1).uniform(0, 1, (SAMPLES, *shape)).astype(np.float32)
    clock = Clock()
    with clock.excluding():
        prepared = clock.stage("prepare", pipeline.prepare, model)
        quantized = clock.stage("fake_quantize", pipeline.fake_quantize, prepared, data)
        mapped = clock.stage("map_to_hardware", pipeline.map_to_hardware, quantized)
        integer = clock.stage("integerize", pipeline.integerize, mapped)
        clock.stage("export", pipeline.export, integer, None)
    return clock


def compare(build: Callable[[int], tuple[onnx.ModelProto, tuple[int, ...]]], nodes: int, rounds: int) -> bool:
    """Print the stages of both chains; whether the ratio of the sums is within the limit."""
    found: dict[int, list[Clock]] = {nodes // 2: [], nodes: []}
    for _, count in itertools.product(range(rounds), found):
        found[count].append(measured(build, count))
    totals = []
    print(f"{build.__name__}: {nodes // 2} nodes, {nodes} nodes, ratio (medians of {rounds} rounds)")
    for stage in found[nodes][0].stages:
        short, long = (statistics.median(clock.stages[stage] for clock in found[count]) for count in found)
        totals.append((short, long))
        print(f"  {stage:16} {short:8.3f} s {long:8.3f} s {long / short:6.2f}")
    short, long = (statistics.median(clock.running for clock in found[count]) for count in found)
    print(f"  {'(running models)':16} {short:8.3f} s {long:8.3f} s {long / short:6.2f}")
    short, long = map(sum, zip(*totals, strict=True))
    print(f"  {'sum':16} {short:8.3f} s {long:8.3f} s {long / short:6.2f}")
    return verdict(f"{build.__name__}, everything but running the model", long / short, LIMIT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2000, help="of the longer chain (default 2000)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    good = [compare(build, options.nodes, options.rounds) for build in (convolutions, gemms)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
