"""What is refused before it is read: a header can claim anything, and a small file can unpack into any amount of memory.

Every limit has a name and can be changed for one command by ``fathom COMMAND ... --limit pixels=4e8``, or for a process
(and for Python) by the environment variable ``FATHOM_LIMITS="pixels=4e8,json-bytes=1e9"``. docs/limits.md lists all of
them with the memory that the readers take under them.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fathom.errors import DataError, UsageError, nearest

VARIABLE = "FATHOM_LIMITS"
"""Environment variable with ``name=value`` pairs joined by commas; worker processes inherit it."""


@dataclass(frozen=True)
class Limit:
    """A limit: its default, and what it counts."""

    default: int
    counts: str


LIMITS: dict[str, Limit] = {
    "pixels": Limit(100_000_000, "pixels of one image or map"),
    "values": Limit(300_000_000, "values of one map over all of its channels"),
    "channels": Limit(4096, "channels of one map: bands, pages, layers of a file"),
    "member-bytes": Limit(64 << 20, "bytes of one archive member, unpacked"),
    "members": Limit(1_000_000, "members of one archive"),
    "header-bytes": Limit(16_384, "bytes of the header of a NumPy array"),
    "json-bytes": Limit(32 << 20, "bytes of one JSON file"),
    "toml-bytes": Limit(1 << 20, "bytes of one TOML file"),
    "index-bytes": Limit(512 << 20, "bytes of a table of frames: index of packed data, rendered rooms, CSV, split"),
    "nesting": Limit(64, "levels of lists and objects in JSON and TOML"),
    "frames": Limit(20_000_000, "frames that one file lists"),
    "parameters": Limit(2_000_000_000, "parameters of a network that a file or recipe describes"),
    "code-files": Limit(0, "Python files or modules (module:) that a file names and that would be run"),
    "layers": Limit(5000, "layers (modules) of a network that a file or recipe describes"),
}


def most(name: str) -> int:
    """The value of a limit: its default, or what the environment says."""
    return _given(os.environ.get(VARIABLE, "")).get(name, LIMITS[name].default)


def check(name: str, found: float, path: str | Path, what: str = "claims", error: type[DataError] = DataError) -> None:
    """Refuse `found` where it is beyond the limit `name`; the sentence names the file and how the limit is raised."""
    if found > most(name):
        problem = f"{what} {found:,} {LIMITS[name].counts}, beyond the limit of {most(name):,}"
        raise error(path, problem, f"where you trust the file, raise the limit with --limit {name}={found:.0f}")


def set_limits(settings: list[str]) -> None:
    """Change limits of this process and of those that it starts: ``["pixels=4e8"]``."""
    if settings:
        joined = ",".join([os.environ.get(VARIABLE, ""), *settings]).strip(",")
        _given(joined)
        os.environ[VARIABLE] = joined


@lru_cache(maxsize=8)
def _given(text: str) -> dict[str, int]:
    values: dict[str, int] = {}
    for setting in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = setting.partition("=")
        if name not in LIMITS:
            raise UsageError(f"There is no limit '{name}'{nearest(name, LIMITS)}.")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 1 <= number < 2**62:
            raise UsageError(
                f"The limit {setting} is not a number of at least 1, such as {name}={LIMITS[name].default}."
            )
        values[name] = int(number)
    return values
