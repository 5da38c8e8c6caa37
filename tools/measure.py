"""Timing commands in turn and weighing their memory; what the benchmarks of this folder share."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ONNXDIANA = (sys.executable, "-m", "onnxdiana")
"""The command line of this environment's onnxdiana."""


@dataclass(frozen=True)
class Cost:
    """What one run of a command took."""

    seconds: float
    processor: float
    """Seconds of all cores together: other work on the machine is not in them."""
    peak: float
    """MiB of resident memory. Linux hands the caller's own down as a lower bound, so callers stay small."""


def run(command: Sequence[str], folder: Path | None = None) -> Cost:
    """Run a command to its end, in a folder.

    Raises:
        SystemExit: the command fails; tells what it said.
    """
    begin = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if process.returncode != 0:
        raise SystemExit(f"exit status {process.returncode} of {' '.join(command)}\n{said}")
    unit = 1 if sys.platform == "darwin" else 1 << 10  # bytes there, KiB elsewhere
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / (1 << 20))


def in_turn(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[Cost]]:
    """Run commands one after the other, round by round, so that a busy machine is as hard on each.

    A first round, which fills the caches, is not counted.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            cost = run(command)
            if number:
                costs[name].append(cost)
    return costs


def print_ratio(costs: Mapping[str, Sequence[Cost]], limit: float) -> bool:
    """Print what two commands took, and the ratio of their median seconds; whether it is within the limit.

    The ratio of each round's pair and that of the processor's seconds tell how far other work shakes the figure.
    """
    width = max(map(len, costs))
    for name, taken in costs.items():
        seconds = [cost.seconds for cost in taken]
        print(f"{name:{width}}  min {min(seconds):.3f} s, median {statistics.median(seconds):.3f} s, "
              f"max {max(seconds):.3f} s; processor {_median(taken, 'processor'):.3f} s")
    first, second = costs.values()
    pairs = [a.seconds / b.seconds for a, b in zip(first, second, strict=True)]
    print(f"pair by pair from {min(pairs):.2f} to {max(pairs):.2f}; "
          f"of processor seconds {_median(first, 'processor') / _median(second, 'processor'):.2f}")
    return verdict("ratio of medians", _median(first, "seconds") / _median(second, "seconds"), limit)


def _median(costs: Sequence[Cost], what: str) -> float:
    return statistics.median(getattr(cost, what) for cost in costs)


def verdict(what: str, ratio: float, limit: float) -> bool:
    """Print a ratio beside its limit; whether it is within."""
    met = ratio <= limit
    print(f"{what}: {ratio:.2f} (at most {limit:.2f}) {'ok' if met else 'MISSED'}", flush=True)
    return met


def zoo() -> Path:
    """The folder of trained models that ``ONNXDIANA_ZOO`` names.

    Raises:
        SystemExit: the variable is unset, or there is no such folder.
    """
    folder = os.environ.get("ONNXDIANA_ZOO")
    if not folder or not Path(folder).is_dir():
        raise SystemExit("set ONNXDIANA_ZOO to the folder with the trained models (NAME.onnx, NAME.npz)")
    return Path(folder)
