"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fathom.errors import UsageError

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for results; made if missing.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result as JSON to this file.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes; results and errors only.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that read data; 0 reads in this one.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out frames that cannot be read, and report them.")]


def parse_size(text: str) -> tuple[int, int]:
    """``"240x320"`` to (240, 320): height first."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) > 0 and int(width) > 0):
        raise UsageError(f"'{text}' is not a size; write height x width, such as 240x320.")
    return int(height), int(width)
