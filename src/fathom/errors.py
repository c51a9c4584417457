"""The errors a user can meet.

Every message is one sentence for the person who reads it: what is wrong, where (the file's name), and what to do.
The command line prints the message alone and exits with ``exit_code``; anything that is not a :class:`FathomError`
is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class FathomError(Exception):
    """Base of all errors that are the input's and not ours."""

    exit_code = 1

    def __str__(self) -> str:
        """One line, also where a name in it holds a line break."""
        return super().__str__().replace("\r", "\\r").replace("\n", "\\n")


class UsageError(FathomError):
    """An argument, option or name that cannot be meant as given."""

    exit_code = 2


class DataError(FathomError):
    """A file that cannot be read as what it should be; ``path`` names it."""

    def __init__(self, path: str | Path, problem: str, fix: str = "") -> None:
        self.path = Path(path)
        self.problem = problem
        self.fix = fix
        super().__init__(f"{path}: {problem}" + (f"; {fix}" if fix else "") + ".")

    def __reduce__(self) -> tuple[type[DataError], tuple[Path, str, str]]:
        # Crosses the process boundary of data-loading workers.
        return type(self), (self.path, self.problem, self.fix)


class CheckpointError(DataError):
    """A checkpoint that is torn, foreign, or of another model."""


class MissingExtraError(FathomError):
    """An optional dependency is not installed; the message names the extra."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} needs an optional package: pip install 'fathom-depth[{extra}]'.")

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.what, self.extra)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name nearest to `name`, or the list of all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else f" (known: {', '.join(names)})"
