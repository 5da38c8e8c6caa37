"""What each part of the default recipe is worth: output SQNR on held-out data of the zoo's models without one part.

Parts are left out by replacing a function of the package for one run; there are no options for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

from accuracy import REQUIRED, measured
from measure import zoo

from onnxdiana import numerics, pipeline, sensitivity
from onnxdiana.recovery import bias, fast, pooling


@contextmanager
def _without_corrections() -> Iterator[None]:
    with mock.patch.object(pipeline, "checked", return_value=pipeline.Config(recover="none")):
        yield


@contextmanager
def _tensor_wise_exponents() -> Iterator[None]:
    with mock.patch.object(sensitivity, "output_exponents", return_value={}):
        yield


@contextmanager
def _plain_pool() -> Iterator[None]:
    choose = fast._choose

    def last(candidates: list[Any], *rest: Any) -> Any:
        return choose(candidates[-1:], *rest)

    with mock.patch.object(fast, "_choose", last):
        yield


@contextmanager
def _pool_as_convolution() -> Iterator[None]:
    with mock.patch.object(pooling, "must_convolve", lambda model: {n.outputs[0].name for n in pooling.pools(model)}):
        yield


@contextmanager
def _without_halves() -> Iterator[None]:
    with mock.patch.object(numerics, "half", return_value=0):
        yield


@contextmanager
def _without_halves_and_corrections() -> Iterator[None]:
    with _without_halves(), _without_corrections():
        yield


@contextmanager
def _once() -> Iterator[None]:
    with mock.patch.object(bias, "ITERATIONS", 1):
        yield


PARTS: dict[str, Callable[[], Any]] = {
    "default": nullcontext,
    "exponents by each tensor's own error only": _tensor_wise_exponents,
    "global average pool always as a pool": _plain_pool,
    "global average pool always as a convolution": _pool_as_convolution,
    "bias correction once over": _once,
    "no bias correction (--recover none)": _without_corrections,
    "no bias correction and no half": _without_halves_and_corrections,
}


def main() -> None:
    """One row a part left out, one column a model."""
    folder = zoo()
    models = list(REQUIRED)
    print(f"{'':45}" + "".join(f"{name:>9}" for name in models))
    for part, without in PARTS.items():
        with without():
            figures = [measured(folder, name, name)[0] for name in models]
        print(f"{part:45}" + "".join(f"{figure:9.2f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
