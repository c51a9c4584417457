"""What the names of files in a folder tell: which frame a file belongs to, and what a folder holds in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from fathom.errors import DataError
from fathom.files.inputs import below

IMAGE_WORDS = r"rgbs?|colou?rs?|images?|imgs?|left|photos?"
TRUTH_WORDS = r"(?:sync|raw|gt)[_.-]?depths?|depths?(?:[_.-]?(?:map|gt|raw))?s?|gt|targets?"

_MARK = re.compile(rf"(?<![a-z])(?:{IMAGE_WORDS}|{TRUTH_WORDS})(?![a-z])", re.IGNORECASE)
_IMAGE = re.compile(rf"(?<![a-z])(?:{IMAGE_WORDS})(?![a-z])", re.IGNORECASE)
_SEPARATORS = re.compile(r"^[_.\-\s]+|[_.\-\s]+$|(?<=[_.\-\s])[_.\-\s]+")
_TRUTH = re.compile(rf"(?<![a-z])(?:{TRUTH_WORDS})(?![a-z])", re.IGNORECASE)


def frame_key(stem: str) -> str:
    """The frame a file belongs to: its name without suffix, without words such as ``rgb`` and ``depth``, numbers unpadded.

    ``frame-000010.color``, ``frame-10.depth``, ``rgb00010`` and ``depth_10`` are ``frame-10``, ``frame-10``, ``10`` and ``10``.
    """
    *folders, name = stem.split("/")
    bare = _SEPARATORS.sub("", _MARK.sub("", name)) or name
    return "/".join([*folders, re.sub(r"\d+", lambda digits: str(int(digits[0])), bare)])


def names_image(stem: str) -> bool:
    """Whether a name says that the file is an image."""
    return _IMAGE.search(stem) is not None


def names_truth(stem: str) -> bool:
    """Whether a name says that the file is a depth map."""
    return _TRUTH.search(stem) is not None


def by_frame(files: Mapping[str, Path]) -> dict[str, Path] | None:
    """Files by `frame_key` of their names; None where two have one key, so that the names do not tell."""
    keyed = {frame_key(stem): file for stem, file in files.items()}
    return keyed if len(keyed) == len(files) else None


def unique(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Files by key; two of one key are an error."""
    keyed: dict[str, Path] = {}
    for key, file in files:
        if key in keyed:
            raise DataError(
                file, f"pairs with the same frame as {keyed[key].name}", "give patterns that match one file a frame"
            )
        keyed[key] = file
    return keyed


def wildcard_key(pattern: str, file: Path) -> str:
    """The frame a file belongs to, told by what the wildcards of a glob pattern stand for in its path."""
    *folders, name = pattern.split("/")
    expression = "".join("(?:(.+)/)?" if part == "**" else f"({_regex(part)[0]})/" for part in folders)
    found = re.fullmatch(expression + _regex(name)[1], str(file))
    if found is None:
        return frame_key(file.stem)
    free = [any(sign in part for sign in "*?[") for part in folders]
    kept = [text for text, wild in zip(found.groups(), free, strict=False) if wild and text]
    return "/".join([*kept, frame_key("_".join(found.groups()[len(folders) :]))])


def _regex(part: str) -> tuple[str, str]:
    """A part of a glob pattern as a regular expression, without and with a group for each wildcard."""
    pieces = re.split(r"(\*|\?|\[[^]]+\])", part)
    signs = {"*": "[^/]*", "?": "[^/]"}
    plain = [signs.get(piece, piece if piece[:1] == "[" else re.escape(piece)) for piece in pieces]
    return "".join(plain), "".join(f"({text})" if at % 2 else text for at, text in enumerate(plain))


Place = Callable[[Path], str]


def _folder(file: Path) -> str:
    return f"{file.parent}/" if file.parent.parts else ""


def _last_folder(file: Path) -> str:
    return "*/" * (len(file.parts) - 2) + (f"{file.parent.name}/" if len(file.parts) > 1 else "")


def _first_folder(file: Path) -> str:
    return f"{file.parts[0]}/" + ("**/" if len(file.parts) > 2 else "") if len(file.parts) > 1 else ""


PLACES: tuple[Place, ...] = (_folder, _last_folder, _first_folder)
"""Ways to call the folder of a file (relative to the root) in a pattern: scenes may be above or below kinds of files."""


def groups(root: Path, suffixes: frozenset[str], place: Place = _folder) -> dict[str, list[Path]]:
    """Files below a folder by a glob pattern, relative to it, that matches those of one place and one ending; largest first."""
    found: dict[str, list[Path]] = {}
    for file in sorted(below(root)):
        if file.suffix.lower() not in suffixes or not file.is_file():
            continue
        # What follows the last digit: "_left.png" of "frame01_left.png". What is before the first one, if it tells a kind.
        ending = re.sub(r"^.*\d", "", file.name)
        ending = ending if ending != file.name else file.suffix
        start = re.match(r"\D*", file.name)[0] if ending != file.name else ""  # type: ignore[index]
        start = start if names_image(start) or names_truth(start) or re.fullmatch(r"[A-Za-z][_-]", start) else ""
        found.setdefault(f"{place(file.relative_to(root))}{start}*{ending}", []).append(file)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def describe(root: Path, suffixes: frozenset[str], most: int = 4) -> str:
    """What a folder holds: counts and two example names of each group of files."""
    found = groups(root, suffixes)
    said = [
        f"{len(files)} x {pattern} ({', '.join(file.name for file in files[:2])})"
        for pattern, files in list(found.items())[:most]
    ]
    return "; ".join(said) + (f"; and {len(found) - most} more kinds" if len(found) > most else "") or "no image"


TABLE = "list the pairs in index.csv, with the columns image and depth, a pair a line"
"""What to do where names do not tell."""


def suggestion(root: Path, suffixes: frozenset[str]) -> str:
    """The options that pair most files, depth told from images by what the files hold."""
    best, most, maps = "", 0, False
    for place in PLACES:
        found = {
            pattern: {wildcard_key(pattern, file.relative_to(root)) for file in files}
            for pattern, files in groups(root, suffixes, place).items()
        }
        deep = [pattern for pattern in found if _holds_depth(root, next(root.glob(pattern)))]
        maps = maps or bool(deep)
        for depths in deep:
            for images in (pattern for pattern in found if pattern not in deep):
                if len(found[images] & found[depths]) > most:
                    most = len(found[images] & found[depths])
                    best = f"give 'PATH?images={images}&depths={depths}'"
    if best:
        return best
    if not maps:
        return "none of these looks like a depth map: name the folder that holds both, or give 'PATH?images=GLOB&depths=GLOB'"
    return f"no names of images and depth maps agree: {TABLE}"


def _holds_depth(root: Path, file: Path) -> bool:
    """Whether a file can hold depth alone: floating-point or 16-bit numbers, or a name that says so."""
    named = names_truth(file.stem) or (file.parent != root and names_truth(file.parent.name))
    if named or file.suffix.lower() in (".npy", ".exr", ".pgm"):
        return True
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return picture.mode.startswith(("I", "F"))
    except (OSError, SyntaxError, ValueError):
        return False
