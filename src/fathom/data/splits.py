"""Splits by scene: a scene is wholly on one side, and which side depends on its name and the seed alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fathom.data.dataset import Dataset, need_scenes
from fathom.data.scenes import balanced_folds
from fathom.errors import DataError, UsageError
from fathom.files.atomic import write_text
from fathom.files.inputs import read_json, seal


def kfold_split(dataset: Dataset, folds: int, seed: int) -> list[tuple[Dataset, Dataset]]:
    """`folds` pairs (train, test); every scene is in exactly one test part, parts balanced by frames."""
    if folds < 2:
        raise UsageError(f"{folds} folds make no split; at least 2 are needed.")
    need_scenes(dataset, folds)
    return [
        (
            dataset.of_scenes([scene for scene in dataset.scenes if scene not in set(part)], "train"),
            dataset.of_scenes(part, "test"),
        )
        for part in balanced_folds(dataset.frame_scenes, folds, seed)
    ]


def save_split(path: str | Path, parts: Mapping[str, Dataset], seed: int | None = None) -> None:
    """Write the parts' frame ids and scenes, with the fingerprint of the whole, as JSON."""
    scenes: dict[str, str] = {}
    for name, part in parts.items():
        for scene in part.scenes:
            if scenes.setdefault(scene, name) != name:
                raise UsageError(f"Scene '{scene}' is in both '{scenes[scene]}' and '{name}'; a split is by scene.")
    record = {
        "schema_version": 1,
        "seed": seed,
        "source": next(iter(parts.values())).source.location,
        "parts": {
            name: {"scenes": list(part.scenes), "ids": list(part.ids), "fingerprint": part.fingerprint()}
            for name, part in parts.items()
        },
    }
    # ASCII alone: names of files need not be UTF-8, and JSON's escapes carry what is not.
    write_text(path, seal(json.dumps(record, indent=2) + "\n"))


class _Part(msgspec.Struct):
    """A part in a split file."""

    ids: list[str]


class _Split(msgspec.Struct):
    """A split file."""

    parts: dict[str, _Part]


def load_split(path: str | Path, dataset: Dataset) -> dict[str, Dataset]:
    """The parts that `save_split` wrote, taken from `dataset`.

    A frame that is not there, a frame that is listed twice and a scene that is in two parts are `DataError`s: each would change
    scores, or let a test see what was trained on. A file made by hand need not carry the checksum that `save_split` writes.
    """
    fix = "make one with 'fathom data split', or remove its checksum where you changed it yourself"
    split = read_json(path, _Split, what="a split that fathom wrote", fix=fix, limit="index-bytes")
    position = {id_: index for index, id_ in enumerate(dataset.ids)}
    part_of: dict[str, str] = {}
    parts: dict[str, Dataset] = {}
    for name, part in split.parts.items():
        missing = next((id_ for id_ in part.ids if id_ not in position), None)
        if missing is not None:
            raise DataError(path, f"part '{name}' names frame '{missing}', which {dataset.source.location} lacks")
        if len(set(part.ids)) < len(part.ids):
            twice = next(id_ for id_, times in Counter(part.ids).items() if times > 1)
            raise DataError(path, f"part '{name}' names frame '{twice}' twice", fix)
        parts[name] = dataset.subset([position[id_] for id_ in part.ids], name)
        for scene in parts[name].scenes:
            if part_of.setdefault(scene, name) != name:
                problem = f"has scene '{scene}' in both '{part_of[scene]}' and '{name}', and a split is by scene"
                raise DataError(path, problem, fix)
    return parts
