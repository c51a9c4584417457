"""Progress with time left, on standard error, so that standard output stays a clean result."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

_quiet = False
_LINE_EVERY = 30.0
"""Seconds between plain lines where no terminal can show a moving bar."""


def set_quiet(quiet: bool) -> None:
    """Silence (or restore) progress for this process; the command line's ``--quiet``."""
    global _quiet
    _quiet = quiet


def note(message: str) -> None:
    """Print a line on standard error unless quiet."""
    if not _quiet:
        print(message, file=sys.stderr, flush=True)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from `items`, showing how far along it is and the time left.

    On a terminal this is a moving bar; elsewhere a line every half minute, so that logs stay short.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _quiet:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, description, total)
    else:
        yield from _lines(items, description, total)


def _bar(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=description)


def _lines(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= _LINE_EVERY:
            last = now
            left = f", {(now - start) / done * (total - done):.0f} s left" if total and done else ""
            note(f"{description}: {done}{f'/{total}' if total else ''}{left}")
        yield item
