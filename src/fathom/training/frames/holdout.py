"""What a training does not see: whole scenes, and a slice of the frames of the scenes that it does see.

The two are scored side by side. Frames of one room are near copies of one another, so a score on new views of
rooms that were trained on says little of new rooms; the ratio of the two scores is that leak, measured.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from fathom.data.dataset import Dataset
from fathom.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """A data set divided for training.

    Attributes:
        train: what the gradient sees.
        seen: other frames of the scenes in `train`; None where that cannot be.
        unseen: whole scenes, none of them in `train`.
        notes: sentences about the division that the user should read.
        lengths: training frames of each data set where several are mixed, in their order; empty for one.
    """

    train: Dataset
    seen: Dataset | None
    unseen: Dataset
    notes: tuple[str, ...]
    lengths: tuple[int, ...] = ()


def divide(
    data: Dataset,
    scenes: float,
    frames: float,
    *,
    fraction: float = 1.0,
    fraction_by: Literal["scene", "frame"] = "scene",
    seed: int = 0,
) -> Parts:
    """Hold out about the share `scenes` of the data as whole scenes and `frames` of the rest as single
    frames.

    Of what remains, the share `fraction` is used, of whole scenes or of single frames; what is held out does
    not depend on it, except that frames of scenes no longer in training are not "seen" any more.

    A capture of one scene is divided by time: its last frames are the unseen ones, after a gap that nothing uses.

    Raises:
        DataError: there are too few frames.
    """
    notes = []
    if len(data.scenes) < 2:
        rest, unseen = _last_block(data, scenes)
        notes.append(
            f"All {len(data)} frames are of one scene ('{data.scenes[0]}'): the last {len(unseen)} in time are held out, and their "
            "scores hold for more frames of this capture, not for other rooms."
        )
    else:
        rest, unseen = data.split(scenes, seed)
    if fraction < 1 and fraction_by == "scene":
        chosen = _sample(rest.scenes, fraction, seed)
        rest = rest.of_scenes(chosen)
        notes.append(f"Trained on {fraction:g} of the training scenes: {len(chosen)}, whole.")
    slice_ = _frame_slice(rest.frame_scenes, frames, seed)
    kept = sorted(set(range(len(rest))) - set(slice_))
    if fraction < 1 and fraction_by == "frame":
        kept = sorted(_sample(kept, fraction, seed))
        present = {rest.frame_scenes[position] for position in kept}
        slice_ = [position for position in slice_ if rest.frame_scenes[position] in present]
        notes.append(f"Trained on {fraction:g} of the training frames: {len(kept)}, spread over {len(present)} scenes.")
    if frames and not slice_:
        notes.append("No score on seen rooms: every training scene has a single frame, so none can be held out.")
    return Parts(
        rest.subset(kept, "train"),
        rest.subset(slice_, "seen rooms") if slice_ else None,
        unseen.subset(range(len(unseen)), "unseen rooms"),
        tuple(notes),
    )


def _last_block(data: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """The first frames of a capture of one scene, and the last `share` of them; between the two a tenth as many are left out."""
    held = max(1, round(share * len(data)))
    gap = -(-held // 10)
    kept = len(data) - held - gap
    if kept < 1:
        raise DataError(
            data.source.location,
            f"holds {len(data)} frames of one scene" if len(data) else "holds no frame",
            "training needs several scenes, or at least three frames of one",
        )
    return data.subset(range(kept)), data.subset(range(kept + gap, len(data)))


def _sample(items: Sequence[T], fraction: float, seed: int) -> list[T]:
    """The share `fraction` of `items`, one at least; of one seed, a smaller share is part of a larger."""
    shuffled = list(items)
    random.Random(f"{seed} fraction").shuffle(shuffled)
    return shuffled[: max(1, round(fraction * len(shuffled)))]


def _frame_slice(frame_scenes: Sequence[str], share: float, seed: int) -> list[int]:
    """Positions of about `share` of the frames, evenly over the scenes; every scene keeps one at least."""
    wanted = round(share * len(frame_scenes))
    generator = random.Random(f"{seed} frames")
    by_scene: dict[str, list[int]] = defaultdict(list)
    for position, scene in enumerate(frame_scenes):
        by_scene[scene].append(position)
    left = [positions for positions in by_scene.values() if len(positions) > 1]
    for positions in left:
        generator.shuffle(positions)
    taken: list[int] = []
    while left and len(taken) < wanted:
        generator.shuffle(left)
        taken += [positions.pop() for positions in left[: wanted - len(taken)]]
        left = [positions for positions in left if len(positions) > 1]
    return sorted(taken)
