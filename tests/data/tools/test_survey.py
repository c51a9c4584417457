"""What `fathom data info` and `check` say of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.data.loading import Skipped
from fathom.data.sources import load
from fathom.data.tools.survey import PERCENTILES, spread, survey
from fathom.errors import DataError
from tests.data.files import counts, pairs, picture


def test_counts_percentiles_and_validity_against_numpy(tmp_path: Path) -> None:
    data = load(f"{pairs(tmp_path)}?depth-scale=1000")
    found = survey(data)
    values = np.concatenate([sample.depth[sample.valid].numpy() for sample in data])
    assert (found.frames, found.scenes, found.read) == (12, 4, 12)
    assert found.depth == pytest.approx(np.percentile(values, PERCENTILES))
    assert found.valid == 1.0 and found.image_sizes == {"24x32": 12}
    assert "plausible as metres" in found.unit_evidence()


def test_eight_bit_depth_is_recognised_by_its_steps(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    counts(tmp_path / "depth" / "a.png", np.arange(192, dtype=np.uint8).reshape(12, 16))
    evidence = survey(load(f"{tmp_path}?depth-scale=0.04")).unit_evidence()
    assert "steps of 4.0 cm: depth of 8 bits" in evidence


def test_fine_depth_of_few_values_is_not_called_8_bits(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", np.linspace(2, 2.1, 192, dtype=np.float32).reshape(12, 16))
    evidence = survey(load(tmp_path)).unit_evidence()
    assert "plausible as metres; about 192 distinct values" in evidence and "8 bits" not in evidence


def test_millimetres_as_metres_are_called_doubtful(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", np.full((12, 16), 2500, np.float32))
    found = survey(load(tmp_path))
    assert "hardly metres; check the unit" in found.unit_evidence() and len(found.warnings) == 1


def test_broken_and_empty_frames_are_listed(tmp_path: Path) -> None:
    data = load(f"{pairs(tmp_path)}?depth-scale=1000")
    (tmp_path / "rgb" / "scene0" / "1.png").write_bytes(b"")
    counts(tmp_path / "depth" / "scene2" / "0.png", np.zeros((24, 32), np.uint16))
    with pytest.raises(DataError):
        survey(data)
    found = survey(data, skipped=Skipped())
    assert [id_ for id_, _ in found.broken] == ["scene0/1"] and found.empty == ["scene2/0"]


@pytest.mark.parametrize(("count", "most"), [(10, 3), (10, 10), (10, 50), (1000, 7), (5, 1)])
def test_spread_is_even_and_distinct(count: int, most: int) -> None:
    chosen = spread(count, most)
    assert len(set(chosen)) == len(chosen) == min(count, most) and max(chosen) < count


def test_what_looks_wrong_is_said_in_a_sentence_each(tmp_path: Path) -> None:
    for index in range(4):
        picture(tmp_path / "rgb" / f"{index}.png", 24, 32, seed=index // 2)
        values = (np.arange(768, dtype=np.uint8).reshape(24, 32) % 200) + 1
        values[:, :16] = 0
        values[:, 16:20] = 255
        counts(tmp_path / "depth" / f"{index}.png", values)
    found = survey(load(f"{tmp_path}?depth-scale=0.04"))
    coarse, holes, cap, copies = found.findings
    assert "values a frame in steps of 4.0 cm, as of 8 bits" in coarse
    assert holes == "depth has holes: 50 % of the pixels have none"
    assert "25 % of the pixels have exactly the largest depth of their frame (up to 10.2 m)" in cap
    assert (
        "every frame is a scene of its own, and 4 of 4 frames nearly equal a frame of another scene (0 and 1)" in copies
    )
    assert found.to_json()["findings"] == found.findings
    assert not survey(load(f"{tmp_path}?depth-scale=0.04"), look=False).findings[3:]


def test_copies_within_a_scene_are_no_finding(tmp_path: Path) -> None:
    for index in range(4):
        picture(tmp_path / "rgb" / f"a{index}.png", 24, 32)
        counts(tmp_path / "depth" / f"a{index}.png", np.arange(768, dtype=np.uint16).reshape(24, 32) + 1000)
    assert survey(load(f"{tmp_path}?depth-scale=1000&scene=^(a)")).findings == []


def test_poses_and_times_are_counted() -> None:
    found = survey(load("rooms"), most=3, look=False)
    assert (found.with_poses, found.with_times) == (3, 0)
