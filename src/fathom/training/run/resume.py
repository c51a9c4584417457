"""Whether a run folder can be started in, or continued: by the same recipe, on the same frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fathom.devices import rank
from fathom.errors import CheckpointError, UsageError
from fathom.files.atomic import write_json
from fathom.files.inputs import exists, read_json
from fathom.models import saved as checkpoints
from fathom.progress import note
from fathom.training.frames.holdout import Parts
from fathom.training.recipe import Recipe, from_table

RECIPE, STARTED = "recipe.toml", "data.json"


class Started(msgspec.Struct, frozen=True):
    """`data.json`: the DATA specs that a run was started with, so that it can be continued by its folder alone."""

    data: list[str]
    test: str | None = None

    @classmethod
    def of(cls, data: object, test: object) -> Started | None:
        """The specs, or None where a data set was given in memory."""
        specs = [data] if isinstance(data, str) else list(data) if isinstance(data, Sequence) else [data]
        if not all(isinstance(one, str) for one in specs) or not isinstance(test, str | None):
            return None
        return cls([str(one) for one in specs], test)

    @classmethod
    def read(cls, run: str | Path) -> Started:
        """What the run folder says; raises `UsageError` where it says nothing."""
        path = Path(run) / STARTED
        if not (exists(path) and exists(Path(run) / RECIPE)):
            raise UsageError(f"{run} does not say what it was started with; name DATA and --recipe as well.")
        return read_json(path, cls, what="the data of a training", version=1, error=CheckpointError)

    def write(self, run: Path) -> None:
        """Write it into the run folder."""
        write_json(run / STARTED, {"schema_version": 1, **msgspec.to_builtins(self)})


SHOWN = 4
"""Differing settings that a message names."""


def prepare_run(recipe: Recipe, run: Path, resume: bool) -> Path | None:
    """The checkpoint to take up, None for a fresh start; refuses to write over another run."""
    if rank() == 0:
        checkpoints.sweep_leftovers(run)
    if not resume:
        if checkpoints.saved_steps(run):
            raise UsageError(f"{run} already holds a run: continue it with --resume, or choose another --out.")
        return None
    found, notes = checkpoints.latest(run)
    for line in notes:
        note(line)
    if found is None:
        if notes:
            raise CheckpointError(run, "holds no whole checkpoint", "remove the folder to start again")
        note(f"{run} holds no checkpoint yet; starting from the beginning.")
        return None
    saved = checkpoints.read_config(found).get("recipe", {})
    # Read as a recipe, so that a setting younger than the checkpoint has its default there.
    _same_recipe(recipe.table(), from_table(saved, str(found)).table(), run)
    return found


FREE_ON_RESUME = {
    "train.steps", "train.log_every", "train.save_every", "train.keep", "train.tensorboard", "train.timeout",
    "train.accumulate", "train.compile", "memory.checkpoint", "data.cache", "data.cache_mb",
    "validation.pictures", "first.checkpoint",
}  # fmt: skip
"""Settings that may change when a run is resumed: they do not change what a step computes."""


def _same_recipe(given: Mapping[str, Any], saved: Mapping[str, Any], run: Path) -> None:
    """Refuse to resume by another recipe, and name what differs, at most `SHOWN` settings."""
    name, old_name = given["model"]["name"], saved.get("model", {}).get("name")
    if name != old_name:
        raise UsageError(f"{run} holds a training of '{old_name}', not of '{name}'; choose another --out.")
    differing = []
    for section, values in given.items():
        if not isinstance(values, dict):
            continue
        old = saved.get(section, {})
        differing += [
            f"{section}.{key} ({old.get(key)!r} there, {value!r} here)"
            for key, value in values.items()
            if f"{section}.{key}" not in FREE_ON_RESUME and old.get(key) != value
        ]
    if differing:
        listed = "; ".join(differing[:SHOWN]) + (f" and {more} more" if (more := len(differing) - SHOWN) > 0 else "")
        raise UsageError(f"{run} was trained by another recipe: {listed}; choose another --out.")


def same_data(found: Path, parts: Parts) -> None:
    """Refuse to resume on other frames."""
    saved = checkpoints.read_config(found).get("train_fingerprint")
    if saved != parts.train.fingerprint():
        raise CheckpointError(found, "was trained on other frames than these", "give the same data, or another --out")
