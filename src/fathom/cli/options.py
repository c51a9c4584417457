"""Options that mean the same in every command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from fathom.errors import UsageError
from fathom.files.limits import most

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for results; made if missing.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result as JSON to this file.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes; results and errors only.")]
MOST_SEED = 2**32 - 1
"""The largest seed that every generator in use takes."""

Seed = Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Seed of everything random.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that read data; 0 reads in this one.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out frames that cannot be read, and report them.")]


def parse_size(text: str) -> tuple[int, int]:
    """``"240x320"`` to (240, 320): height first."""
    found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text.lower())
    height, width = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (height and width):
        raise UsageError(f"'{text}' is not a size; write height x width, such as 240x320.")
    if height * width > most("pixels"):
        raise UsageError(
            f"A size of {text} is {height * width:,} pixels, beyond the limit of {most('pixels'):,}; "
            f"choose a smaller one, or raise the limit with --limit pixels={height * width}."
        )
    return height, width


def shipped_depth_networks() -> list[str]:
    """Names of the depth networks that come with the package, for help texts: by their files alone, since `fathom.models` imports
    PyTorch."""
    import json

    configs = (Path(__file__).parents[1] / "models" / "shipped_models").glob("*/config.json")
    return sorted(config.parent.name for config in configs if json.loads(config.read_bytes()).get("target") == "depth")
