"""Progress with time left, on standard error, so that standard output stays a clean result."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

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
        print(printable(message), file=sys.stderr, flush=True)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def printable(text: object, *, one_line: bool = False) -> str:
    """`text` that any terminal shows and that cannot steer it, whatever bytes the names in it are made of.

    Control characters and bytes that are not UTF-8 become escapes; with `one_line` line breaks and tabs too.
    """
    shown = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    if one_line:
        shown = shown.replace("\n", "\\n").replace("\t", "\\t")
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), shown)


def count(number: int, noun: str) -> str:
    """``1 frame``, ``6 frames``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def significant(value: float, sign: str = "") -> str:
    """`value` with four significant digits, zeros at its end included; `sign` ``"+"`` shows a plus too."""
    return f"{value:{sign}#.4g}".rstrip(".")


def console(width: int | None = None, *, stderr: bool = False) -> Console:
    """The console for tables and results. Nothing in a text is markup: a folder may be called ``[/red]``.

    What is to have a style is given as `rich.text.Text` or with ``style=``.

    Args:
        width: where no terminal says how wide it is.
        stderr: print on standard error.
    """
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    stream = sys.stderr if stderr else sys.stdout
    return Plain(width=None if stream.isatty() else width, stderr=stderr, markup=False, emoji=False, highlight=False)


def track(
    items: Iterable[T], description: str, total: int | None = None, *, tell: Callable[[], str] = str
) -> Iterator[T]:
    """Yield from `items`, showing how far along it is, the time left, and what `tell` says (a loss, for instance).

    On a terminal this is a moving bar; elsewhere a line every half minute, so that logs stay short.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _quiet:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, description, total, tell)
    else:
        yield from _lines(items, description, total, tell)


def _bar(items: Iterable[T], description: str, total: int | None, tell: Callable[[], str]) -> Iterator[T]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}", markup=False),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, told="")
        for item in items:
            yield item
            progress.update(task, advance=1, told=tell())


def _lines(items: Iterable[T], description: str, total: int | None, tell: Callable[[], str]) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= _LINE_EVERY:
            last = now
            left = f", {(now - start) / done * (total - done):.0f} s left" if total and done else ""
            told = f", {said}" if (said := tell()) else ""
            note(f"{description}: {done}{f'/{total}' if total else ''}{left}{told}")
        yield item
