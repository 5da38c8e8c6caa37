"""How long ``onnxdiana --help`` takes beside ``import numpy``, in turn, and what importing onnxdiana loads.

The limit of the ratio is 3.0; neither torch nor onnxruntime may be loaded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from measure import ONNXDIANA, in_turn, print_ratio

LIMIT = 3.0
HEAVY = ("torch", "onnxruntime", "onnx", "onnx_ir", "onnxscript", "numpy")
"""Looked for after ``import onnxdiana``."""
REFUSED = ("torch", "onnxruntime")


def loaded() -> list[str]:
    """Which of :data:`HEAVY` importing onnxdiana loads."""
    code = f"import sys, onnxdiana; print(*[name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    costs = in_turn({
        "onnxdiana --help": [*ONNXDIANA, "--help"],
        "import numpy": [sys.executable, "-c", "import numpy"],
    }, options.rounds)
    fast, found = print_ratio(costs, LIMIT), loaded()
    light = not set(found) & set(REFUSED)
    print(f"importing onnxdiana loads {', '.join(found) or 'none'} of {', '.join(HEAVY)} {'ok' if light else 'MISSED'}")
    return 0 if fast and light else 1


if __name__ == "__main__":
    raise SystemExit(main())
