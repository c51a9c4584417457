"""The way in for everything that is read: a regular file, of bounded size and nesting, of a declared type, in its own folder.

Every file can be broken, huge, foreign or made to do harm. What comes through here is what it should be; all else is a
`DataError` of one sentence that names the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from fathom.errors import DataError, UsageError
from fathom.files import limits

T = TypeVar("T")

CHECKSUM = "checksum"
"""Key of the first line of a JSON file that carries its own checksum; see `fathom.files.atomic.write_json`."""


def expand(path: str | Path) -> Path:
    """`path` with ``~`` and ``~user`` replaced; a user that does not exist is a `UsageError`."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: the home folder cannot be found ({error}); write the whole path.") from error


def exists(path: str | Path) -> bool:
    """Whether there is anything at `path`; a name that cannot be looked up at all is a `DataError`."""
    return _status(Path(path), DataError) is not None


def regular_file(path: str | Path, error: type[DataError] = DataError) -> Path:
    """`path` where it is a regular file that may be read.

    A pipe would wait for ever and a device never end, so that both are refused.
    """
    path = Path(path)
    status = _status(path, error)
    if status is None:
        raise error(path, "does not exist", "check the name")
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, device or socket"
        raise error(path, f"is {kind} where a file is wanted", "name a regular file")
    return path


def _status(path: Path, error: type[DataError]) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise error(path, f"cannot be read ({problem.strerror})", "check the name and your permissions") from problem
    except ValueError as problem:
        raise error(repr(str(path)), "is not a name of a file") from problem


def below(folder: Path) -> Iterator[Path]:
    """Everything below `folder`, in no order; links to folders are not followed.

    A folder that cannot be listed is a `DataError`: `Path.rglob` passes over it, and its frames would be missing unsaid.
    """

    for place, folders, files in os.walk(folder, onerror=_refuse_unlisted) if folder.is_dir() else ():
        for name in (*folders, *files):
            yield Path(place) / name


def matching(folder: Path, pattern: str) -> list[Path]:
    """What `pattern`, as of `Path.glob`, matches in `folder`, sorted; a folder that cannot be listed is a `DataError`."""
    found = {folder}
    for part in PurePosixPath(pattern).parts:
        places = [place for place in found if place.is_dir()]
        if part == "**":
            found = {*places, *(inner for place in places for inner in below(place) if inner.is_dir())}
        else:
            found = {inner for place in places for inner in _named(place, part)}
    return sorted(found)


def _named(folder: Path, pattern: str) -> list[Path]:
    """The entries of a folder whose name matches."""
    if not re.search(r"[*?[]", pattern):
        return [folder / pattern] if (folder / pattern).exists() else []
    try:
        return [folder / name for name in os.listdir(folder) if fnmatchcase(name, pattern)]  # noqa: PTH208
    except OSError as error:
        _refuse_unlisted(error)


def _refuse_unlisted(error: OSError) -> NoReturn:
    problem = f"cannot be listed ({error.strerror})"
    raise DataError(error.filename or "A folder", problem, "check your permissions, or move it elsewhere") from error


def read_bytes(path: str | Path, limit: str = "json-bytes", error: type[DataError] = DataError) -> bytes:
    """The content of a regular file of at most as many bytes as the limit `limit` says."""
    path = regular_file(path, error)
    try:
        limits.check(limit, path.stat().st_size, path, "has", error)
        return path.read_bytes()
    except OSError as problem:
        raise error(path, f"cannot be read ({problem.strerror})", "check your permissions") from problem


def read_json(
    path: str | Path,
    kind: type[T],
    *,
    what: str = "what it should be",
    fix: str = "",
    version: int | None = None,
    checksum: bool = False,
    limit: str = "json-bytes",
    error: type[DataError] = DataError,
) -> T:
    """A JSON file as an instance of `kind`, a `msgspec.Struct` or plain types such as ``dict[str, list[int]]``.

    Args:
        path: the file.
        kind: the type that it must have; unknown keys are ignored.
        what: the file is, for messages: ``"a split that fathom wrote"``.
        fix: what to do where it is not.
        version: that its ``schema_version`` must be, where it has one.
        checksum: the file must carry its checksum, as `fathom.files.atomic.write_json` writes it. One that it carries must
            always fit.
        limit: name of the limit of its size.
        error: the class to raise.
    """
    data = read_bytes(path, limit, error)
    value = _parse(data, path, what, fix, error)
    found = value.get("schema_version") if isinstance(value, dict) else None
    if version is not None and isinstance(value, dict) and found != version:
        problem = f"has schema_version {_brief(found)}, and this Fathom reads {version}"
        raise error(path, problem, fix if found is None else "use the version that wrote it")
    if checksum or _SEALED.match(data):
        _verify(data, path, fix, error)
        value.pop(CHECKSUM, None)
    return convert(value, path, kind, what=what, fix=fix, error=error)


def parse_json(
    data: bytes,
    path: str | Path,
    kind: type[T],
    *,
    what: str = "what it should be",
    fix: str = "",
    error: type[DataError] = DataError,
) -> T:
    """JSON in memory as an instance of `kind`; see `read_json`."""
    return convert(_parse(data, path, what, fix, error), path, kind, what=what, fix=fix, error=error)


def _parse(data: bytes, path: str | Path, what: str, fix: str, error: type[DataError]) -> Any:
    _check_nesting(data, _JSON_TOKEN, path, error)
    try:
        # Not by msgspec, which refuses names that are not UTF-8 (lone surrogates in escapes).
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise error(path, f"is not {what} ({_brief(problem)})", fix) from problem


def convert(
    value: Any,
    path: str | Path,
    kind: type[T],
    *,
    what: str = "what it should be",
    fix: str = "",
    error: type[DataError] = DataError,
) -> T:
    """Plain values, as JSON and TOML hold them, as an instance of `kind`; arguments as for `read_json`."""
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except (ValueError, RecursionError, OverflowError) as problem:  # ValueError: msgspec's own is one
        raise error(path, f"is not {what} ({_brief(problem)})", fix) from problem


def parse_toml(data: bytes, path: str | Path, *, fix: str = "see the shipped recipes for the form") -> dict[str, Any]:
    """A TOML document of bounded nesting as plain values."""
    _check_nesting(data, _TOML_TOKEN, path, DataError)
    if _DOTTED.search(data):
        raise DataError(path, "has a key of more parts than any recipe", fix)
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:  # ValueError: TOML and UTF-8 alike
        raise DataError(path, f"is not a TOML file ({_brief(problem)})", fix) from problem
    level: list[Any] = [table]
    depth = -1
    while level:
        depth += 1
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]
        level = [value for value in level if isinstance(value, dict | list)]
    limits.check("nesting", depth, path, "has")  # of dotted keys too, which no bracket shows
    return table


def _brief(problem: object) -> str:
    """The first line of a parser's complaint, not longer than a sentence."""
    text = str(problem).strip() or type(problem).__name__
    return text.splitlines()[0][:200]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON has")


_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
_TOML_TOKEN = re.compile(
    rb'"""(?:[^\\]|\\.)*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)|"(?:[^"\\\n]|\\.)*"?|\'[^\'\n]*\'?|\#[^\n]*|[\[{]|[\]}]',
    re.DOTALL,
)


_DOTTED = re.compile(rb"(?<![\w\"'-])(?:[\w\"'-]++[ \t]*+\.[ \t]*+){64}")
"""A key such as ``a.b.c`` of so many parts that Python's parser, which is quadratic in them, would not end."""


def _check_nesting(data: bytes, token: re.Pattern[bytes], path: str | Path, error: type[DataError]) -> None:
    """Refuse nesting beyond the limit before a parser, which recurses, sees it."""
    if data.count(b"[") + data.count(b"{") <= limits.most("nesting"):
        return
    depth = deepest = 0
    for match in token.finditer(data):
        first = match[0][:1]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    limits.check("nesting", deepest, path, "has", error)


_SEALED = re.compile(rb'\{\n  "checksum": "sha256:([0-9a-f]{64})",\n')


def seal(text: str) -> str:
    """Put the SHA-256 of what follows it as the first key into an indented JSON object of at least one key."""
    if not text.startswith("{\n  "):
        raise ValueError("only an indented JSON object that is not empty can carry its checksum")
    rest = text[2:]
    return f'{{\n  "{CHECKSUM}": "sha256:{hashlib.sha256(rest.encode()).hexdigest()}",\n{rest}'


def _verify(data: bytes, path: str | Path, fix: str, error: type[DataError]) -> None:
    found = _SEALED.match(data)
    if found is None:
        raise error(path, "does not carry its checksum in the first line", fix or "write it again")
    if hashlib.sha256(data[found.end() :]).hexdigest() != found[1].decode():
        raise error(path, "is not what was written (its checksum differs)", fix or "write it again")


def inside(folder: Path, name: str, named_by: str | Path, fix: str = "do not trust where it comes from") -> Path:
    """The path of `name`, which the file `named_by` names, in `folder`; a name that leads out of the folder is refused."""
    unified = name.replace("\\", "/")
    parts = PurePosixPath(unified).parts
    if not parts or "\0" in name or ".." in parts or unified.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise DataError(named_by, f"names {name!r}, which is outside of its folder", fix)
    return folder / name


def plain_name(name: str, named_by: str | Path, fix: str = "do not trust where it comes from") -> str:
    """`name` where it is the name of a file alone, without any folder."""
    if name in ("", ".", "..") or re.search(r"[/\\\0]", name):
        raise DataError(named_by, f"names {name!r}, which is not the plain name of a file", fix)
    return name
