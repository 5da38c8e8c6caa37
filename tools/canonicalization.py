"""Seconds that canonicalization takes for 1000 nodes, and for 2000 against 1000, in the spellings of several exporters.

The proof in onnxruntime is not in it, nor is loading. Limits: 1.5 s for 1000 nodes (wall clock, median), 2.3 times that
for 2000 (processor seconds, rounds in turn).
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import time
from collections.abc import Callable

import chain
import numpy as np
import onnx
from measure import verdict

from onnxdiana import canonical, loading

SECONDS, RATIO = 1.5, 2.3
C, SIZE = chain.CHANNELS, chain.SIZE


class _Chain(chain.Chain):
    """With constants besides weights."""

    def constant(self, array: np.ndarray) -> str:
        """An initializer; its name."""
        name = f"c{len(self._weights)}"
        self._weights.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def norm(self, x: str) -> str:
        """Batch normalization."""
        return self.add("BatchNormalization", x, *(self.constant(np.full(C, v)) for v in (1.0, 0.0, 0.0, 1.0)))


def normalized(count: int) -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu."""
    c, x = _Chain((C, SIZE, SIZE)), "x"
    while len(c) < count:
        x = c.add("Relu", c.norm(c.linear("Conv", x, 1.0)))
    return c.model(x)


def channels_last(count: int) -> onnx.ModelProto:
    """Transpose, Conv with SAME padding, Transpose, Add, Relu: every layer as a TensorFlow converter begins with it."""
    c, x = _Chain((SIZE, SIZE, C)), "x"
    while len(c) < count:
        y = c.linear("Conv", c.add("Transpose", x, perm=[0, 3, 1, 2]), 1.0, auto_pad="SAME_UPPER")
        x = c.add("Relu", c.add("Add", c.add("Transpose", y, perm=[0, 2, 3, 1]), c.constant(np.full(C, 0.001))))
    return c.model(x)


def dense(count: int) -> onnx.ModelProto:
    """MatMul, Add, Clip as ReLU6."""
    c, x = _Chain((C,)), "x"
    while len(c) < count:
        y = c.add("MatMul", x, c.constant(np.eye(C)))
        x = c.add("Clip", c.add("Add", y, c.constant(np.full(C, 0.001))), c.constant(np.array(0.0)),
                  c.constant(np.array(6.0)))
    return c.model(x)


def one_dimensional(count: int) -> onnx.ModelProto:
    """Conv1d, BatchNormalization, Relu, residual Add."""
    c, x = _Chain((C, SIZE)), "x"
    while len(c) < count:
        x = c.add("Add", c.add("Relu", c.norm(c.linear("Conv", x, 0.5))), x)
    return c.model(x)


def swishes(count: int) -> onnx.ModelProto:
    """Conv, Sigmoid, Mul: functions of one tensor."""
    c, x = _Chain((C, SIZE, SIZE)), "x"
    while len(c) < count:
        y = c.linear("Conv", x, 1.0)
        x = c.add("Mul", y, c.add("Sigmoid", y))
    return c.model(x)


def affine(count: int) -> onnx.ModelProto:
    """Mul, Add, Relu, with nothing to fold into."""
    c, x = _Chain((C, SIZE, SIZE)), "x"
    while len(c) < count:
        x = c.add("Mul", x, c.constant(np.full((1, C, 1, 1), 1.001)))
        x = c.add("Relu", c.add("Add", x, c.constant(np.array(0.001))))
    return c.model(x)


BUILDERS: tuple[Callable[[int], onnx.ModelProto], ...] = (
    lambda count: chain.convolutions(count)[0], lambda count: chain.gemms(count)[0], normalized, channels_last, dense,
    one_dimensional, swishes, affine)
NAMES = ("canonical convolutions", "canonical dense layers", "normalized", "channels last", "dense", "one-dimensional",
         "swishes", "affine")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000, help="of the shorter chain (default 1000)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    good = []
    for name, build in zip(NAMES, BUILDERS, strict=True):
        walls: dict[int, list[float]] = {options.nodes: [], 2 * options.nodes: []}
        processor: dict[int, list[float]] = {count: [] for count in walls}
        models = {count: loading.load(build(count)).model for count in walls}
        gc.collect()
        gc.freeze()  # as the command line does behind its imports
        for _, count in itertools.product(range(options.rounds), walls):
            wall, cpu = time.perf_counter(), time.process_time()
            left = len(canonical.canonicalize(models[count]).model.graph)
            walls[count].append(time.perf_counter() - wall)
            processor[count].append(time.process_time() - cpu)
        wall = statistics.median(walls[options.nodes])
        short, long = (statistics.median(taken) for taken in processor.values())
        print(f"{name}: {len(models[options.nodes].graph)} nodes {wall:.2f} s; {len(models[2 * options.nodes].graph)} "
              f"nodes {long / short:.2f} times that; {left} nodes left of these")
        good += [verdict(f"{name}, seconds for {options.nodes} nodes", wall, SECONDS),
                 verdict(f"{name}, twice the nodes", long / short, RATIO)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
