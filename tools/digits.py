"""Test errors of the carried digits model, float and integer, on 599 images.

Exit status 1 where the integer model makes over 2 more than the float model.
"""

from __future__ import annotations

from measure import ROOT

import onnxdiana

MORE = 2
"""Errors that the integer model may make beyond the float model's, of 599."""


def main() -> int:
    folder = ROOT / "examples" / "digits"
    result = onnxdiana.quantize(
        folder / "resnet8.onnx", folder / "resnet8.calib.npz", evaluation=folder / "resnet8.test.npz")
    found = result.summary["evaluation"]
    wrong, limit = found["errors_integer"], found["errors_float"] + MORE
    print(f"float errors: {found['errors_float']} of {found['samples']}")
    print(f"integer errors: {wrong} of {found['samples']} (at most {limit}) {'ok' if wrong <= limit else 'MISSED'}")
    return 0 if wrong <= limit else 1


if __name__ == "__main__":
    raise SystemExit(main())
