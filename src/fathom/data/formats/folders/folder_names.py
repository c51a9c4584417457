"""What the names of files in a folder tell: which frame a file belongs to, and what a folder holds in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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


def groups(root: Path, suffixes: frozenset[str]) -> dict[str, list[Path]]:
    """Files below a folder by a glob pattern, relative to it, that matches those of one folder and one ending; largest first."""
    found: dict[str, list[Path]] = {}
    for file in sorted(below(root)):
        if file.suffix.lower() not in suffixes or not file.is_file():
            continue
        # What follows the last digit: "_left.png" of "frame01_left.png".
        ending = re.sub(r"^.*\d", "", file.name)
        ending = ending if ending != file.name else file.suffix
        folder = file.parent.relative_to(root)
        found.setdefault(str(folder / f"*{ending}") if folder.parts else f"*{ending}", []).append(file)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def describe(root: Path, suffixes: frozenset[str], most: int = 4) -> str:
    """What a folder holds: counts and two example names of each group of files."""
    found = groups(root, suffixes)
    said = [
        f"{len(files)} x {pattern} ({', '.join(file.name for file in files[:2])})"
        for pattern, files in list(found.items())[:most]
    ]
    return "; ".join(said) + (f"; and {len(found) - most} more kinds" if len(found) > most else "") or "no image"


def suggestion(root: Path, suffixes: frozenset[str]) -> str:
    """The options that would pair the two largest groups of files, depth told from images by what the files hold."""
    found = list(groups(root, suffixes).items())
    maps = [pattern for pattern, files in found if _holds_depth(files[0])]
    images = [pattern for pattern, _ in found if pattern not in maps]
    if not maps:
        return "none of these looks like a depth map: name the folder that holds both, or give 'PATH?images=GLOB&depths=GLOB'"
    if not images:
        return "give 'PATH?images=GLOB&depths=GLOB' with the two of them that belong together"
    return f"give 'PATH?images={images[0]}&depths={maps[0]}'"


def _holds_depth(file: Path) -> bool:
    """Whether a file can hold depth alone: floating-point or 16-bit numbers, or a name that says so."""
    if file.suffix.lower() in (".npy", ".exr", ".pgm") or names_truth(file.stem) or names_truth(file.parent.name):
        return True
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return picture.mode.startswith(("I", "F"))
    except (OSError, SyntaxError, ValueError):
        return False
