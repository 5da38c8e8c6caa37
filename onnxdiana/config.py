"""Every option of a run, checked once; the command line and a TOML file fill the same fields."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxdiana.errors import ConfigError

RECOVERIES = ("none", "fast")
CORES = ("auto", "digital", "cpu")


@dataclass(frozen=True)
class Config:
    """Options of ``quantize``; the defaults are the recipe."""

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

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: names the option and what it takes.
        """
        for name, allowed in (("recover", RECOVERIES), ("core", CORES)):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"{name}: {value!r} is not known; it takes {', '.join(allowed)}")
        for name, least in (("batch", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name}: {value!r}; it takes a whole number of at least {least}")
        if not isinstance(self.target, str):
            raise ConfigError(f"target: {self.target!r}; it takes a name or the path of a .py file")


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
    known = [f.name for f in dataclasses.fields(Config)]
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
            raise ConfigError(f"{path}: unknown option '{key}'; {hint}")
    return options
