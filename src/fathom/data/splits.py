"""Splits by scene: a scene is wholly on one side, and which side depends on its name and the seed alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from fathom.atomic import write_text
from fathom.data.dataset import Dataset
from fathom.errors import DataError, UsageError


def _ranked(dataset: Dataset, seed: int) -> list[str]:
    """Scenes in a random order that depends on names and seed, not on the order of frames."""
    return sorted(
        dataset.scenes, key=lambda scene: hashlib.sha256(f"{seed}:{scene}".encode("utf-8", "surrogateescape")).digest()
    )


def _sizes(dataset: Dataset) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for scene in dataset.frame_scenes:
        sizes[scene] = sizes.get(scene, 0) + 1
    return sizes


def _need(dataset: Dataset, scenes: int) -> None:
    found = len(dataset.scenes)
    if found < scenes:
        raise UsageError(
            f"{dataset.source.location} has {found} scene{'s' if found != 1 else ''}, too few for {scenes} parts: a split is by "
            "scene; add recordings, or name a data set of its own for the test."
        )


def fraction_split(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """(train, test): whole scenes, in random order, go to test until it holds `fraction` of the frames."""
    if not 0 < fraction < 1:
        raise UsageError(f"A test fraction of {fraction} is not between 0 and 1.")
    _need(dataset, 2)
    sizes, ranked = _sizes(dataset), _ranked(dataset, seed)
    wanted, held = fraction * len(dataset), 0
    test: list[str] = []
    for scene in ranked[:-1]:
        # Take the scene if that brings the share nearer to what was asked for.
        if not test or abs(held + sizes[scene] - wanted) < abs(held - wanted):
            test.append(scene)
            held += sizes[scene]
    train = [scene for scene in ranked if scene not in set(test)]
    return dataset.of_scenes(train, "train"), dataset.of_scenes(test, "test")


def three_way(dataset: Dataset, val: float, test: float, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """(train, val, test) by scene, `val` and `test` as fractions of all frames."""
    if val + test >= 1:
        raise UsageError(f"Fractions {val} and {test} leave nothing to train on.")
    _need(dataset, 3)
    rest, held_out = fraction_split(dataset, test, seed)
    train, validation = fraction_split(rest, val / (1 - test), seed + 1)
    return train, Dataset(validation.source, validation.indices, "val"), held_out


def kfold_split(dataset: Dataset, folds: int, seed: int) -> list[tuple[Dataset, Dataset]]:
    """`folds` pairs (train, test); every scene is in exactly one test part, parts balanced by frames."""
    if folds < 2:
        raise UsageError(f"{folds} folds make no split; at least 2 are needed.")
    _need(dataset, folds)
    sizes = _sizes(dataset)
    load, parts = [0] * folds, [[] for _ in range(folds)]  # type: tuple[list[int], list[list[str]]]
    for scene in sorted(_ranked(dataset, seed), key=lambda name: -sizes[name]):
        lightest = min(range(folds), key=load.__getitem__)
        parts[lightest].append(scene)
        load[lightest] += sizes[scene]
    return [
        (
            dataset.of_scenes([scene for scene in dataset.scenes if scene not in set(part)], "train"),
            dataset.of_scenes(part, "test"),
        )
        for part in parts
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
    write_text(path, json.dumps(record, indent=2) + "\n")


def load_split(path: str | Path, dataset: Dataset) -> dict[str, Dataset]:
    """The parts that `save_split` wrote, taken from `dataset`; a frame that is not there is an error."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        parts = {name: part["ids"] for name, part in record["parts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            path, f"is not a split that fathom wrote ({error})", "make one with 'fathom data split'"
        ) from error
    position = {id_: index for index, id_ in enumerate(dataset.ids)}
    for name, ids in parts.items():
        missing = [id_ for id_ in ids if id_ not in position]
        if missing:
            raise DataError(path, f"part '{name}' names frame '{missing[0]}', which {dataset.source.location} lacks")
    return {name: dataset.subset([position[id_] for id_ in ids], name) for name, ids in parts.items()}
