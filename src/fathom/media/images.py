"""Which images a prediction run reads, and what it calls their results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fathom.data.formats.files import IMAGE_SUFFIXES
from fathom.errors import DataError, UsageError
from fathom.files.inputs import below
from fathom.progress import note

OUTPUTS = {
    "depth": "_depth.png",
    "colour": "_colour.png",
    "npy": "_depth.npy",
    "relative": "_relative.npy",
    "disparity": "_disparity.npy",
    "sidecar": "_depth.json",
    "ply": ".ply",
    "lower": "_lower.png",
    "upper": "_upper.png",
    "lower_npy": "_lower.npy",
    "upper_npy": "_upper.npy",
}
"""What is written for an image called NAME: NAME followed by this."""


@dataclass(frozen=True)
class Found:
    """One image, and the name of its results relative to the output folder, without suffix."""

    path: Path
    name: str


def find_images(given: Sequence[Path], out: Path) -> list[Found]:
    """The images that `given` names: files as they are, folders with all images below them, each image once.

    Results of earlier runs are not taken for images: `out` is left out where it lies within a folder, and is refused
    where it is one of the folders.
    """
    inside = out.resolve()
    files: dict[Path, tuple[Path, Path]] = {}
    for path in given:
        if not path.is_dir():
            files.setdefault(path.resolve(), (path, path.parent))
            continue
        if path.resolve() == inside:
            raise UsageError(f"--out {out} is the folder of the images; choose another, so that the two do not mix.")
        results = inside if path.resolve() in inside.parents else None
        images = [
            file for file in sorted(below(path)) if _is_image(file, path) and results not in file.resolve().parents
        ]
        maps = [file for file in images if is_map(file)]
        if maps and len(maps) < len(images):
            plural = "s, no photos, are" if len(maps) > 1 else ", no photo, is"
            note(f"{path}: {len(maps)} single-channel 16-bit image{plural} left out (such as {maps[0].name}).")
            images = [file for file in images if file not in set(maps)]
        if not images:
            raise DataError(path, "holds no image", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
        for file in images:
            files.setdefault(file.resolve(), (file, path))
    names = _names([(path, root) for path, root in files.values()])
    found = [Found(path, name) for (path, _), name in zip(files.values(), names, strict=True)]
    for item in found:
        for ending in OUTPUTS.values():
            target = (out / (item.name + ending)).resolve()
            if target in files:
                raise UsageError(f"The result of {item.path} would replace the image {target}; choose another --out.")
    return found


def is_map(file: Path) -> bool:
    """Whether an image file holds one channel of more than 8 bits, as depth maps do and photos do not; by its header alone."""
    from PIL import Image

    if file.suffix.lower() not in (".png", ".tif", ".tiff"):
        return False
    try:
        with Image.open(file) as picture:
            return picture.mode.startswith(("I", "F"))
    except (OSError, ValueError, SyntaxError):
        return False  # the reader says what is wrong with it


def _is_image(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and not hidden


def _names(files: Sequence[tuple[Path, Path]]) -> list[str]:
    """A name for each (file, folder it was found below), no two alike even where case does not count.

    It is the path below the folder, without suffix. Alike ones are told apart by their suffix if they share a folder,
    else by as many folders above as it takes.
    """
    siblings = Counter(str(path.absolute().with_suffix("")).casefold() for path, _ in files)
    labels = [
        path.stem if siblings[str(path.absolute().with_suffix("")).casefold()] == 1
        else f"{path.stem}_{path.suffix.lstrip('.')}"
        for path, _ in files
    ]  # fmt: skip
    folders = [path.absolute().parent.parts[1:] for path, _ in files]
    depth = [len(path.parent.relative_to(root).parts) for path, root in files]
    while True:
        names = [
            "/".join((*above[len(above) - k :], label)) for above, label, k in zip(folders, labels, depth, strict=True)
        ]
        count = Counter(name.casefold() for name in names)
        alike = [i for i, name in enumerate(names) if count[name.casefold()] > 1 and depth[i] < len(folders[i])]
        if not alike:
            return _numbered(names)
        for i in alike:
            depth[i] += 1


def _numbered(names: Sequence[str]) -> list[str]:
    """`names`, the second and later of equal ones numbered."""
    taken = {name.casefold() for name in names}
    seen: set[str] = set()
    result = []
    for name in names:
        unique, number = name, 2
        while unique.casefold() in seen or (unique != name and unique.casefold() in taken):
            unique, number = f"{name}-{number}", number + 1
        seen.add(unique.casefold())
        result.append(unique)
    return result
