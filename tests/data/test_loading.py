"""Reading ahead changes neither order nor content."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fathom.data.loading import Skipped, batches
from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import pairs


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 5, 50])
def test_order_and_content_do_not_depend_on_settings(tmp_path: Path, workers: int, batch_size: int) -> None:
    data = load(f"{pairs(tmp_path)}?depth-scale=1000")
    groups = list(batches(data, (12, 16), batch_size=batch_size, workers=workers))
    fitted = [one for group in groups for one, _ in group]
    assert tuple(one.id for one in fitted) == data.ids
    assert all(len(group) == batch_size for group in groups[:-1])
    assert torch.equal(fitted[7].depth, next(iter(batches(data.subset([7]), (12, 16), batch_size=1)))[0][0].depth)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_frame_stops_or_is_left_out(tmp_path: Path, workers: int) -> None:
    data = load(f"{pairs(tmp_path)}?depth-scale=1000")
    (tmp_path / "rgb" / "scene1" / "1.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"scene1/1\.png: is not an image"):
        list(batches(data, None, batch_size=4, workers=workers))
    skipped = Skipped()
    read = [one.id for group in batches(data, None, batch_size=4, workers=workers, skipped=skipped) for one, _ in group]
    assert len(read) == 11 and "scene1/1" not in read
    assert [id_ for id_, _ in skipped.frames] == ["scene1/1"] and "1.png" in skipped.describe()


def test_pytorchs_own_loader_takes_a_dataset_with_our_collation() -> None:
    from torch.utils.data import DataLoader

    import fathom

    rooms = fathom.load("rooms").subset(range(3))
    (batch,) = DataLoader(rooms, batch_size=3, collate_fn=fathom.collate(size=(24, 32)), num_workers=1)
    assert batch.image.shape == (3, 3, 24, 32) and batch.depth.shape == batch.valid.shape == (3, 1, 24, 32)
    assert batch.ids == rooms.ids and bool(batch.camera.isfinite().all())


def test_an_interruption_waits_until_reading_processes_have_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def interrupted(_: object) -> Iterator[object]:
        signal.raise_signal(signal.SIGINT)  # Python loses what is raised while it forks
        started.append(True)
        return iter(())

    data = load(f"{pairs(tmp_path, 1, 2)}?depth-scale=1000")
    monkeypatch.setattr("torch.utils.data.DataLoader.__iter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(batches(data, None, batch_size=1, workers=1))
    assert started
