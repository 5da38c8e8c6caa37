"""How long ``onnxdiana handoff`` works on the zoo's networks: the check itself, without starting Python and imports.

The limit is 0.2 s each, the exact recomputation of the vectors included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from measure import zoo

from onnxdiana import pipeline
from onnxdiana.handoff.check import check

LIMIT = 0.2
MODELS = ("resnet8", "dscnn", "dae")


def seconds(path: Path, rounds: int) -> list[float]:
    """Of every round but a first one, which fills the caches."""
    taken = []
    for number in range(rounds + 1):
        begin = time.perf_counter()
        found = check(path)
        if number:
            taken.append(time.perf_counter() - begin)
        if not found.ok:
            raise SystemExit(f"{path}: {found.errors[0]}")
    return taken


def report(name: str, path: Path, rounds: int) -> bool:
    """Print a model's figure; whether it is within the limit."""
    taken = seconds(path, rounds)
    met = statistics.median(taken) <= LIMIT
    print(f"{name:16} min {min(taken):.3f} s, median {statistics.median(taken):.3f} s (at most {LIMIT:.3f} s), "
          f"max {max(taken):.3f} s {'ok' if met else 'MISSED'}", flush=True)
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    folder = zoo()
    met = [report("original export", folder / "original_export" / "resnet8.onnx", options.rounds)]
    with tempfile.TemporaryDirectory() as temporary:
        for name in MODELS:
            out = Path(temporary) / name
            pipeline.quantize(folder / f"{name}.onnx", f"{folder / name}.npz:calib", out)
            met.append(report(name, out, options.rounds))
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
