"""Every option of a run, checked once; the command line and a TOML file fill the same fields."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxdiana.errors import ConfigError

RECOVERIES = ("none", "fast")
CORES = ("auto", "digital", "cpu")
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "recover": RECOVERIES, "core": CORES, "silicon": ("safe", "fast"), "zero_taps": ("auto", "always", "never"),
    "concat": ("convs", "refuse"), "io": ("float", "int8"), "annotate": ("none", "dory"), "handoff_opset": (13, 10),
}
"""What an option takes, the default first."""


@dataclass(frozen=True)
class Config:
    """Options of ``quantize`` and ``inspect``; the defaults are the recipe."""

    recover: str = "fast"
    """``fast``: biases corrected on the integer model. ``none``: left out."""
    core: str = "auto"
    """``auto``: the accelerator where it takes a layer. ``digital``: all convolutions and linear layers must run on
    it. ``cpu``: nothing runs on it."""
    target: str = "diana"
    """A target's name, or a Python file that defines ``TARGET``."""
    batch: int = 64
    """Samples read at a time; results do not depend on it."""
    seed: int = 0
    """Of synthetic inputs and of the random inputs that check the canonicalization."""
    input_shape: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    """Sizes to give to inputs that leave some open, by name, batch included; the name may be empty where there is one
    input."""
    rules: str | None = None
    """A Python file of rewrite rules that run before ours."""
    silicon: str = "safe"
    """In the hand-over graph. ``safe``: a ReLU behind an Add is an operator of its own, on the CPU. ``fast``: it is
    the requantizer's lower bound, which the accelerator does not execute."""
    zero_taps: str = "auto"
    """Larger kernels with taps of zero for convolutions that the accelerator takes only so. ``auto``: where the latency
    estimate says that it pays."""
    concat: str = "convs"
    """``convs``: Concat as the Add of convolutions with rows of zeros. ``refuse``: no hand-over graph."""
    zero_bias: bool = True
    """Whether the hand-over graph's convolutions have a bias where all of it is zero."""
    pad_outputs: bool = False
    """More outputs for a classifier whose number of outputs the accelerator does not take, in every model."""
    handoff_opset: int = 13
    """Of the hand-over graph: 13 or 10."""
    io: str = "float"
    """Of the hand-over graph's input. ``int8``: codes, without a quantizer."""
    annotate: str = "none"
    """``dory``: the hand-over graph once more, with DORY's annotations."""
    vectors: int = 1
    """Samples with vectors; the first ones' stand beside the hand-over graph."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: names the option and what it takes.
        """
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if type(value) is not type(allowed[0]) or value not in allowed:
                raise ConfigError(f"{name}: {value!r} is not known; it takes {', '.join(map(str, allowed))}")
        for name in ("zero_bias", "pad_outputs"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: {getattr(self, name)!r}; it takes true or false")
        for name, least in (("batch", 1), ("seed", 0), ("vectors", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name}: {value!r}; it takes a whole number of at least {least}")
        if not isinstance(self.target, str):
            raise ConfigError(f"target: {self.target!r}; it takes a name or the path of a .py file")
        if isinstance(self.rules, os.PathLike):
            object.__setattr__(self, "rules", os.fspath(self.rules))
        if self.rules is not None and not (isinstance(self.rules, str) and self.rules.endswith(".py")):
            raise ConfigError(f"rules: {self.rules!r}; it takes the path of a .py file")
        if not isinstance(self.input_shape, Mapping) or not all(
                isinstance(name, str) and _is_shape(shape) for name, shape in self.input_shape.items()):
            raise ConfigError(f"input_shape: {self.input_shape!r}; it takes a name and sizes of at least 1 for each "
                              "input, such as x = [1, 3, 32, 32]")
        object.__setattr__(self, "input_shape", {name: tuple(shape) for name, shape in self.input_shape.items()})


NAMES = tuple(field.name for field in dataclasses.fields(Config))
"""Of the options."""


def _is_shape(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(
        isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in value)


def checked(config: object) -> Config:
    """The options given to a function; None means the defaults.

    Raises:
        ConfigError: it is something else than a :class:`Config`.
    """
    if config is None:
        return Config()
    if not isinstance(config, Config):
        raise ConfigError(f"config is a {type(config).__name__}; give onnxdiana.Config(batch=64, ...)")
    return config


def input_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """``NAME=1,3,32,32`` as name and sizes; ``1,3,32,32`` has an empty name.

    Raises:
        ConfigError: a text is neither, or a name comes twice.
    """
    from onnxdiana.loading import parse_shape

    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, shape = parse_shape(text) if "=" in text else ("", parse_shape(f"input={text}")[1])
        if name in found:
            raise ConfigError(f"--input-shape {text}: this input has a shape already; give each one once")
        found[name] = shape
    return found


def read(path: str | Path) -> dict[str, Any]:
    """The options in a TOML file.

    Raises:
        ConfigError: missing file, not TOML, an unknown key (names the nearest).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({reason}); --config takes a TOML file") from error
    try:
        options = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error}); write lines such as: batch = 64") from error
    for key in options:
        if key not in NAMES:
            near = difflib.get_close_matches(key, NAMES, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(NAMES)}"
            raise ConfigError(f"{path}: unknown option '{key}'; {hint}")
    return options
