"""Which frames of a data set are a fair test of some models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fathom.data.dataset import Dataset
from fathom.data.splits import load_split
from fathom.depth_models.model import DepthModel
from fathom.depth_models.network import NetworkModel
from fathom.errors import DataError, UsageError
from fathom.models.saved import Trained
from fathom.progress import count
from fathom.training.frames.holdout import divide
from fathom.training.recipe import from_table

Split = Literal["test", "val", "all"]
SPLITS: tuple[Split, ...] = ("test", "val", "all")


def choose_frames(
    data: Dataset, models: Sequence[DepthModel], split: Split | Path | None = None
) -> tuple[Dataset, str]:
    """The frames to measure on, the same for all models, and one sentence that says which they are.

    Args:
        data: all frames of the source.
        models: each knows the scenes it was trained on, if any.
        split: ``test`` and ``val`` for the source's own parts (``val`` without one: the scenes that the training of the
            models held out), ``all`` for every frame, or a file of `fathom.data.splits.save_split`, for its test part. None
            takes the source's test part; without one, every scene that no model was trained on.

    Raises:
        UsageError: the source has no such part.
        DataError: the models were trained on every scene.
    """
    if split is None:
        split = "test" if "test" in data.source.official else None
    if split is None:
        return _unseen(data, models)
    if isinstance(split, Path):
        parts = load_split(split, data)
        if "test" not in parts:
            raise DataError(
                split, f"has no part 'test' (it has {', '.join(parts)})", "make one with 'fathom data split'"
            )
        part = parts["test"]
        return part, _said(part, models, f"The test part of {split}, {len(part)} of {len(data)} frames")
    if split == "all":
        return data, _said(data, models, f"All {len(data)} frames")
    chosen = set(data.indices)
    held_out = _held_out(models)
    if split in data.source.official:
        indices = tuple(i for i in data.source.official[split] if i in chosen)
        part = Dataset(data.source, indices, split)
        sentence = f"The source's own {split} part, {len(part)} of {len(data)} frames"
    elif split == "val" and held_out:
        part = data.of_scenes(held_out, "val")
        sentence = f"The scenes that the training held out, {len(part)} of {len(data)} frames"
    else:
        raise UsageError(
            f"{data.source.location} ({data.source.kind}) has no '{split}' part; leave out --split to measure on the "
            "scenes that no model was trained on, or use --split all."
        )
    if not len(part):
        raise DataError(data.source.location, f"holds no frame of the '{split}' part", "use --split all")
    return part, _said(part, models, sentence)


def _trained(models: Sequence[DepthModel]) -> list[Trained]:
    """What is known of the training of Fathom's own networks among them."""
    return [model.trained for model in models if isinstance(model, NetworkModel) and model.trained is not None]


def _held_out(models: Sequence[DepthModel]) -> list[str]:
    """Scenes that the training of every model held out."""
    parts = [[str(scene) for scene in one.info.get("unseen_scenes") or ()] for one in _trained(models)]
    if not parts or len(parts) < len(models):
        return []
    return [scene for scene in parts[0] if all(scene in part for part in parts[1:])]


def _nobody(models: Sequence[DepthModel]) -> str:
    return "the model was trained on none of" if len(models) == 1 else "no model was trained on any of"


def _who(models: Sequence[DepthModel]) -> str:
    return "the model" if len(models) == 1 else "the models together"


def _unseen(data: Dataset, models: Sequence[DepthModel]) -> tuple[Dataset, str]:
    """Frames of the scenes that no model was trained on."""
    seen = {scene for model in models for scene in model.train_scenes}
    kept = [scene for scene in data.scenes if scene not in seen]
    total = len(data.scenes)
    if len(kept) == total:
        every, its = ("The only frame", "its") if len(data) == 1 else (f"All {len(data)} frames", "their")
        if total == 1:
            who = "the model was" if len(models) == 1 else "no model was"
            return data, f"{every}; {who} {'not ' if len(models) == 1 else ''}trained on {its} scene, as far as known."
        return data, f"{every}; {_nobody(models)} {its} {total} scenes, as far as known."
    were = "was" if len(models) == 1 else "were"
    if not kept:
        its = "its only scene" if total == 1 else f"all {total} of its scenes"
        raise DataError(
            data.source.location,
            f"{_who(models)} {were} trained on {its}, so nothing here is a fair test",
            "name other data, or measure on frames it has seen with --split all",
        )
    part = data.of_scenes(kept, "unseen scenes")
    whose = "these very data" if any(_same_data(data, one) for one in _trained(models)) else "scenes of these names"
    return part, (
        f"{_who(models).capitalize()} {were} trained on {whose}: measured on the {count(len(part), 'frame')} of the {len(kept)} of "
        f"{total} scenes that none was trained on (--split all takes every frame)."
    )


def _same_data(data: Dataset, trained: Trained) -> bool:
    """Whether the training set, divided off `data` again by the checkpoint's recipe, has the recorded fingerprint."""
    try:
        recipe = from_table(trained.recipe)
        parts = divide(
            data,
            recipe.validation.scenes,
            recipe.validation.frames,
            fraction=recipe.train.fraction,
            fraction_by=recipe.train.fraction_by,
            seed=recipe.validation.seed,
        )
    except (DataError, UsageError):  # too few scenes to divide: not what it was trained on
        return False
    same_scenes = parts.train.scenes == trained.train_scenes
    return same_scenes and parts.train.fingerprint() == trained.info.get("train_fingerprint")


def _said(part: Dataset, models: Sequence[DepthModel], sentence: str) -> str:
    """`sentence`, with what the models have seen of the part."""
    told = []
    for model in models:
        frames = sum(scene in set(model.train_scenes) for scene in part.frame_scenes)
        if frames:
            told.append(
                f"{frames} of them are of scenes that {model.name} was trained on, so its numbers are too good for new scenes"
            )
    if not told:
        return f"{sentence}; {_nobody(models)} their scenes, as far as known."
    return f"{sentence}; {'; '.join(told)}."
