"""What is held out: whole scenes, and frames of the scenes that stay."""

from __future__ import annotations

import pytest

from fathom.data.dataset import Dataset
from fathom.errors import DataError
from fathom.training.frames.holdout import divide
from tests.training import painted


def ids(data: Dataset | None) -> set[str]:
    return set() if data is None else set(data.ids)


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_disjoint_complete_and_true_to_their_names(seed: int) -> None:
    data = painted.painted(scenes=10, views=5)
    parts = divide(data, 0.2, 0.1, seed=seed)
    assert parts.seen is not None
    together = [*parts.train.ids, *parts.seen.ids, *parts.unseen.ids]
    assert sorted(together) == sorted(data.ids)
    assert not set(parts.unseen.scenes) & (set(parts.train.scenes) | set(parts.seen.scenes))
    assert set(parts.seen.scenes) <= set(parts.train.scenes)
    assert len(parts.unseen) == 10 and len(parts.seen) == 4


def test_single_frame_scenes_have_no_seen_slice_and_it_is_said() -> None:
    parts = divide(painted.painted(scenes=10, views=1), 0.2, 0.1)
    assert parts.seen is None
    assert any("single frame" in line for line in parts.notes)


def test_every_scene_keeps_a_frame_however_many_are_asked_for() -> None:
    parts = divide(painted.painted(scenes=5, views=3), 0.2, 0.99)
    assert sorted(parts.train.frame_scenes) == sorted(set(parts.train.frame_scenes))
    assert parts.seen is not None and len(parts.seen) == 2 * len(parts.train)


def test_a_fraction_by_scene_takes_whole_scenes_and_a_smaller_one_is_part_of_a_larger() -> None:
    data = painted.painted(scenes=20, views=4)
    whole, half, tenth = (divide(data, 0.2, 0.1, fraction=f, fraction_by="scene") for f in (1.0, 0.5, 0.1))
    assert ids(whole.unseen) == ids(half.unseen) == ids(tenth.unseen)
    assert len(half.train.scenes) == 8 and len(tenth.train.scenes) == 2
    assert set(tenth.train.scenes) < set(half.train.scenes) < set(whole.train.scenes)
    assert half.seen is not None and set(half.seen.scenes) <= set(half.train.scenes)
    assert "8, whole" in half.notes[0]


def test_a_fraction_by_frame_spreads_over_scenes() -> None:
    data = painted.painted(scenes=20, views=4)
    whole, part = (divide(data, 0.2, 0.1, fraction=f, fraction_by="frame") for f in (1.0, 0.25))
    assert len(part.train) == round(0.25 * len(whole.train))
    assert len(part.train.scenes) > 4
    assert part.seen is not None
    assert ids(part.seen) <= ids(whole.seen) and set(part.seen.scenes) <= set(part.train.scenes)
    assert "training frames" in part.notes[0]


def test_a_capture_of_one_scene_is_divided_by_time_with_a_gap() -> None:
    whole = painted.painted(scenes=1, views=40)
    part = divide(whole, 0.25, 0.1)
    assert part.unseen.ids == whole.ids[-10:]
    assert part.seen is not None
    assert set(part.train.ids) | set(part.seen.ids) == set(whole.ids[:29])  # one frame is the gap
    assert "for more frames of this capture, not for other rooms" in part.notes[0]


def test_too_few_frames_of_one_scene_are_refused() -> None:
    with pytest.raises(DataError, match="holds 2 frames of one scene"):
        divide(painted.painted(scenes=1, views=2), 0.2, 0.1)
