"""Which frames of a data set are a fair test of a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fathom.data.dataset import Dataset
from fathom.errors import DataError, UsageError

if TYPE_CHECKING:
    from fathom.models.saved import Trained

Split = Literal["test", "val", "all"]
SPLITS: tuple[Split, ...] = ("test", "val", "all")


def choose_frames(data: Dataset, trained: Trained, split: Split | None = None) -> tuple[Dataset, str]:
    """The frames to measure on, and one sentence that says which they are.

    Args:
        data: all frames of the source.
        trained: the checkpoint, which knows the scenes it was trained on and those it held out.
        split: ``test`` and ``val`` for the source's own parts (``val`` without one: the scenes that the training held
            out), ``all`` for every frame. None takes the source's test part; without one, every scene that the
            checkpoint was not trained on.

    Raises:
        UsageError: the source has no such part.
        DataError: the checkpoint was trained on every scene.
    """
    if split is None:
        split = "test" if "test" in data.source.official else None
    if split is None:
        return _unseen(data, trained)
    if split == "all":
        return data, _said(data, trained, f"All {len(data)} frames")
    chosen = set(data.indices)
    if split in data.source.official:
        indices = tuple(i for i in data.source.official[split] if i in chosen)
        part = Dataset(data.source, indices, split)
        sentence = f"The source's own {split} part, {len(part)} of {len(data)} frames"
    elif split == "val" and trained.info.get("unseen_scenes"):
        part = data.of_scenes([str(scene) for scene in trained.info["unseen_scenes"]], "val")
        sentence = f"The scenes that the training held out, {len(part)} of {len(data)} frames"
    else:
        raise UsageError(
            f"{data.source.location} ({data.source.kind}) has no '{split}' part; leave out --split to measure on the "
            "scenes that the checkpoint was not trained on, or use --split all."
        )
    if not len(part):
        raise DataError(data.source.location, f"holds no frame of the '{split}' part", "use --split all")
    return part, _said(part, trained, sentence)


def _unseen(data: Dataset, trained: Trained) -> tuple[Dataset, str]:
    """Frames of the scenes that the checkpoint was not trained on."""
    seen = set(trained.train_scenes)
    kept = [scene for scene in data.scenes if scene not in seen]
    total = len(data.scenes)
    if len(kept) == total:
        return data, f"All {len(data)} frames; the checkpoint was trained on none of their {total} scenes."
    if not kept:
        raise DataError(
            data.source.location,
            f"the checkpoint was trained on all {total} of its scenes, so nothing here is a fair test",
            "name other data, or measure on frames it has seen with --split all",
        )
    part = data.of_scenes(kept, "unseen scenes")
    whose = "these very data" if _same_data(data, trained) else "scenes of these names"
    return part, (
        f"The checkpoint was trained on {whose}: measured on the {len(part)} frames of the {len(kept)} of {total} scenes "
        "that it was not trained on (--split all takes every frame)."
    )


def _same_data(data: Dataset, trained: Trained) -> bool:
    """Whether the training set, divided off `data` again by the checkpoint's recipe, has the recorded fingerprint."""
    from fathom.training.holdout import divide
    from fathom.training.recipe import from_table

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


def _said(part: Dataset, trained: Trained, sentence: str) -> str:
    """`sentence`, with what the checkpoint has seen of the part."""
    seen = set(trained.train_scenes)
    frames = sum(scene in seen for scene in part.frame_scenes)
    if not frames:
        return f"{sentence}; the checkpoint was trained on none of their scenes."
    return (
        f"{sentence}; {frames} of them are of scenes that the checkpoint was trained on, "
        "so the numbers are too good for new rooms."
    )
