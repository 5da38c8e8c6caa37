"""Output SQNR on held-out data of the zoo's models, default options: integer and fake-quantized, beside other tools.

Both are measured on the written files, in onnxruntime, against the float answers that the zoo carries.
Exit status 1 where a required figure is missed, or the fake-quantized model is more than 1 dB from the integer one.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from measure import zoo

import onnxdiana
from onnxdiana.runtime import Runner
from onnxdiana.validation import sqnr

REQUIRED = {"dae": 28.0, "dscnn": 22.3, "resnet8": 33.4}
"""dB of the integer model."""
APART = 1.0
"""dB between the integer and the fake-quantized model."""


def measured(folder: Path, model: str, data: str) -> tuple[float, float]:
    """SQNR in dB of the integer and of the fake-quantized model over the whole evaluation half."""
    files = onnxdiana.quantize(folder / f"{model}.onnx", f"{folder / data}.npz:calib").files
    with np.load(folder / f"{data}.npz", allow_pickle=False) as arrays:
        x, expected = arrays["eval"], arrays["eval_float"]
    found = []
    for name in ("model.int.onnx", "model.qdq.onnx"):
        proto = onnx.load_from_string(files[name])
        (y,) = Runner(proto).run({proto.graph.input[0].name: x}).values()
        found.append(sqnr(expected, y.reshape(expected.shape)))
    return found[0], found[1]


def main() -> int:
    folder, good = zoo(), True
    print(f"{'model':12}  {'integer':>8}  {'required':>8}  {'QDQ':>6}  {'apart':>5}")
    for name, required in REQUIRED.items():
        for model in (name, f"{name}_bn"):
            integer, fake = measured(folder, model, name)
            apart = abs(integer - fake)
            met = integer >= required and apart <= APART
            good &= met
            row = f"{model:12}  {integer:8.2f}  {required:8.1f}  {fake:6.2f}  {apart:5.2f}"
            print(row, "ok" if met else "MISSED", sep="  ", flush=True)
    print("\nother quantizers on the same data (output SQNR in dB):")
    for tool, figures in json.loads((folder / "baselines.json").read_text()).items():
        if isinstance(figures, dict):
            print(f"  {', '.join(f'{name} {figures[name][0]:.1f}' for name in REQUIRED)}  {tool}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
