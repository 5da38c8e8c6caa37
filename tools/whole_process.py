"""The whole process ``onnxdiana quantize`` against one that runs onnxruntime's static quantization, in turn.

Both take the zoo's resnet8 and its 80 calibration samples. The limit of the ratio is 1.0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import ONNXDIANA, in_turn, print_ratio, zoo

LIMIT = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet8", help="of the zoo (default resnet8)")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    model, data = zoo() / f"{options.model}.onnx", f"{zoo() / options.model}.npz:calib"
    with tempfile.TemporaryDirectory() as folder:
        other = Path(__file__).with_name("onnxruntime_static.py")
        costs = in_turn({
            "onnxdiana quantize": [*ONNXDIANA, "quantize", str(model), "--calib", data, "-o", f"{folder}/out", "-q"],
            "quant_pre_process + quantize_static":
                [sys.executable, str(other), str(model), data, f"{folder}/static.onnx"],
        }, options.rounds)
    return 0 if print_ratio(costs, LIMIT) else 1


if __name__ == "__main__":
    raise SystemExit(main())
