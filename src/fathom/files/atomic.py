"""Files that are either whole or absent, whatever interrupts the writing. Everything that Fathom writes goes through here."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fathom.errors import DataError
from fathom.files.inputs import seal

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LEFTOVER = re.compile(r"\..*\.part(\.[^.]*)?", re.DOTALL)
_OURS = re.compile(r"\..*\.(?P<pid>\d{1,9})-(?P<host>[0-9a-f]{8})[0-9a-f]{8}\.part(\.[^.]*)?", re.DOTALL)
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_swept: set[Path] = set()
_LONGEST_STEM = 40
"""Characters of the target's name in the temporary one, so that it never is the temporary name that is too long."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed, else it is removed.

    The temporary name keeps the suffix, since many writers choose the format by it. A symlink stays, and what it points to
    is replaced. Into what is no regular file but can be written to (``/dev/null``, ``/dev/stdout``, a pipe that somebody
    reads) the finished content is copied; all else is refused.
    """
    target = Path(path)
    stream = _is_stream(target)
    temporary: Path | None = None
    try:
        # Never replace a symlink: the file it leads to is meant.
        final = target if stream else Path(os.path.realpath(target))
        folder = Path(tempfile.gettempdir()) if stream else final.parent
        folder.mkdir(parents=True, exist_ok=True)
        # Named before it is made, so that a signal at any moment finds what to remove.
        owner = f"{os.getpid()}-{_HOST}{secrets.token_hex(4)}"
        temporary = folder / f".{target.stem[:_LONGEST_STEM]}.{owner}.part{target.suffix[:_LONGEST_STEM]}"
        if not stream:
            _sweep(folder)
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            _hold(handle)
            yield temporary
        finally:
            os.close(handle)
        if stream:
            _copy(temporary, target)
        else:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(final)
    except OSError as error:
        raise DataError(
            target, f"cannot be written ({error.strerror or error})", "free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _hold(handle: int) -> bool:
    """Lock an open file for this process; False where another has it, or where the system cannot tell."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds; nothing where it can be written but not listed."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _sweep(folder: Path) -> None:
    """Remove temporary files that killed processes left in `folder`, once for each folder.

    Such a file carries our name and this machine's, its process has ended, and nobody holds its lock (a process of another
    container is unknown here, but its lock is not).
    """
    if folder in _swept or fcntl is None:
        return
    _swept.add(folder)
    for entry in _listed(folder):
        found = _OURS.fullmatch(entry.name)
        if found is None or found["host"] != _HOST or _runs(int(found["pid"])):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if _hold(handle):
                    Path(entry.path).unlink()
            finally:
                os.close(handle)


def _is_stream(target: Path) -> bool:
    """Whether `target` is written through, not replaced; raises `DataError` where it is neither a file nor writable."""
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DataError(target, f"cannot be written ({error.strerror})", "choose another name") from error
    except ValueError as error:
        raise DataError(repr(str(target)), "is not a name of a file", "choose another name") from error
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return True
    if stat.S_ISREG(mode):
        # /dev/stdout redirected to a file: replacing that file would lose what the shell wrote there. Files in /dev/shm are files.
        return re.match("/dev/(stdout|stderr|fd/)|/proc/", str(target.absolute())) is not None
    kind = "a folder" if stat.S_ISDIR(mode) else "a device or socket"
    raise DataError(target, f"is {kind} where a file is to be written", "choose another name")


def _copy(source: Path, target: Path) -> None:
    """Write the content of `source` into a device or pipe."""
    try:
        handle = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise DataError(target, "is a pipe that nobody reads", "start its reader first") from error
        raise
    os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as out, source.open("rb") as file:
        shutil.copyfileobj(file, out)


def is_leftover(name: str) -> bool:
    """Whether a file of this name was left by a process that was killed in `atomic_path`."""
    return _LEFTOVER.fullmatch(name) is not None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8; bytes of names in it that are not become escapes."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: str | Path, value: Any, *, checksum: bool = False) -> None:
    """Write `value` as indented JSON to `path` atomically; NaN and infinities are refused, since JSON has none.

    With `checksum` an object's first line holds the SHA-256 of all that follows, which
    ``fathom.files.inputs.read_json(..., checksum=True)`` verifies.
    """
    text = json_text(value)
    write_text(path, seal(text) if checksum else text)


def json_text(value: Any) -> str:
    """Indented JSON; where a name in it is not UTF-8 everything beyond ASCII is escaped, so that it reads back as it was."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)
    return text + "\n"
