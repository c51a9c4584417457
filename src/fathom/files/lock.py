"""One run at a time in an output folder: a lock with the owner's process, machine and time."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from fathom.errors import DataError, UsageError
from fathom.files.atomic import is_leftover

NAME = ".fathom.lock"
"""The file that stands in a folder while a run writes there."""

_held: set[Path] = set()
_held_guard = threading.Lock()


@contextmanager
def output_lock(folder: str | Path, doing: str) -> Iterator[None]:
    """Hold the folder for one run; made if missing, and removed again where the run leaves it empty.

    The kernel holds the lock for this process (a POSIX record lock, on local and network file systems), so that the lock of
    a process that was killed is void at once, whatever its file still says. Temporary files that such a process left in the
    folder are removed.

    Args:
        folder: where the run writes.
        doing: what the run does, for the sentence that another run gets: ``"a training"``.

    Raises:
        UsageError: another run holds the folder.
        DataError: the folder cannot be written.
    """
    folder = Path(folder)
    place = Path(os.path.realpath(folder))
    try:
        made = _make(place)
    except OSError as error:
        raise DataError(folder, f"cannot be written ({error.strerror})", "choose a folder you may write to") from error
    with _held_guard:
        if place in _held:
            raise UsageError(f"{folder}: another run of this process is writing there; choose another --out.")
        _held.add(place)
    try:
        file = _acquire(place / NAME, folder, doing)
        try:
            _sweep(place)
            yield
        finally:
            with contextlib.suppress(OSError):
                (place / NAME).unlink()
            file.close()
    finally:
        with _held_guard:
            _held.discard(place)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make `folder`; returns what had to be made, the innermost first."""
    missing = []
    for path in (folder, *folder.parents):
        if path.exists():
            break
        missing.append(path)
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _acquire(path: Path, folder: Path, doing: str) -> IO[str]:
    while True:
        try:
            file = path.open("a+", encoding="utf-8", errors="replace")
        except OSError as error:
            problem = f"cannot be written ({error.strerror})"
            raise DataError(folder, problem, "choose a folder you may write to") from error
        try:
            if not _lock(file):
                raise UsageError(_taken(file, folder))
            # The owner before may have removed the file between our opening and locking it: then lock the new one.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        except BaseException:
            file.close()
            raise
        file.close()
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    text = json.dumps({"pid": os.getpid(), "host": platform.node(), "since": now, "doing": doing})
    with contextlib.suppress(OSError):  # a full disk: the lock holds without its text
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), text.encode())
    return file


def _lock(file: IO[str]) -> bool:
    """Take the lock of an open file; False where another process has it, True also where the system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _taken(file: IO[str], folder: Path) -> str:
    """The sentence for the run that comes second."""
    try:
        file.seek(0)
        owner = json.loads(file.read(4096))
        who = f"{owner['doing']} (process {owner['pid']} on {owner['host']}, since {owner['since']}) is writing there"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another run is writing there"
    return f"{folder}: {who}; wait for it, stop it, or choose another --out."


def _sweep(folder: Path) -> None:
    """Remove temporary files of processes that were killed while they wrote."""
    for inner in (folder, *(entry for entry in _entries(folder) if entry.is_dir() and not entry.is_symlink())):
        for entry in _entries(inner):
            if is_leftover(entry.name):
                with contextlib.suppress(OSError):
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
