"""Rendering a data set into a folder: readable as `rooms:`, repeatable to the byte, resumed where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from fathom.data.sources import load
from fathom.errors import UsageError
from fathom.render import render_rooms
from fathom.render.layout import CLASSES


@pytest.fixture(autouse=True)
def _needs_mitsuba() -> None:
    pytest.importorskip("mitsuba", reason="rendering needs Mitsuba, the extra [render]")


def rendered(out: Path, rooms: int = 4, variants: Sequence[str] = (), seed: int = 5) -> Path:
    render_rooms(out, rooms, views=2, size=(12, 16), seed=seed, variants=variants, spp=1)
    return out


def test_a_rendered_folder_reads_as_rooms(tmp_path: Path) -> None:
    out = rendered(tmp_path / "r", variants=["grey"])
    rooms = load(out)
    assert rooms.source.kind == "rooms" and len(rooms) == 8 and len(rooms.scenes) == 4
    train, test = rooms.official_split()
    assert (len(train.scenes), test.scenes) == (3, ("room_0003",))
    for sample in rooms:
        assert sample.image_size == sample.depth_size == (12, 16)
        assert sample.valid.all() and 0.1 < float(sample.depth.min()) < float(sample.depth.max()) < 12
        assert sample.intrinsics is not None and sample.normals is not None and sample.pose is not None
        assert sample.labels is not None and set(sample.labels.unique().tolist()) <= set(range(len(CLASSES)))
    assert rooms.source.facts["labels"] == f"classes: {', '.join(CLASSES)}"
    grey = load(f"rooms:{out}?variant=grey")
    assert grey.scenes == ("room_0003",)
    for one, base in zip(grey, test, strict=True):
        assert torch.equal(one.depth, base.depth) and not torch.equal(one.image, base.image)


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    one, same = rendered(tmp_path / "a", rooms=2), rendered(tmp_path / "b", rooms=2)
    for file in one.iterdir():
        assert file.read_bytes() == (same / file.name).read_bytes(), file.name
    other = rendered(tmp_path / "c", rooms=2, seed=6)
    assert (one / "room_0000.zip").read_bytes() != (other / "room_0000.zip").read_bytes()
    # Room n has seed + n: the first room of seed 6 shows what the second of seed 5 shows.
    assert torch.equal(load(other)[0].depth, load(one)[2].depth)


def test_an_interrupted_run_keeps_whole_rooms_and_renders_the_rest(tmp_path: Path) -> None:
    out = rendered(tmp_path / "r", rooms=3)
    whole = {file.name: file.read_bytes() for file in out.iterdir()}
    before = (out / "room_0000.zip").stat().st_mtime_ns
    (out / "rooms.json").unlink()
    (out / "room_0001.zip").unlink()
    (out / "room_0002.zip").write_bytes(whole["room_0002.zip"][:500])
    rendered(out, rooms=3)
    assert (out / "room_0000.zip").stat().st_mtime_ns == before
    assert {file.name: file.read_bytes() for file in out.iterdir()} == whole


def test_more_rooms_leave_the_first_and_other_settings_render_anew(tmp_path: Path) -> None:
    out = rendered(tmp_path / "r", rooms=1)
    first = (out / "room_0000.zip").read_bytes()
    rendered(out, rooms=2)
    assert (out / "room_0000.zip").read_bytes() == first
    rendered(out, rooms=2, seed=9)
    assert (out / "room_0000.zip").read_bytes() != first
    assert json.loads((out / "rooms.json").read_text())["seed"] == 9


def test_variants_asked_for_later_are_added(tmp_path: Path) -> None:
    out = rendered(tmp_path / "r")
    rendered(out, variants=["light"])
    assert load(f"rooms:{out}?variant=light").scenes == ("room_0003",)


@pytest.mark.parametrize(
    ("variants", "rooms", "sentence"),
    [(["colors"], 4, r"no variant 'colors' \(did you mean 'colours'"), (["grey"], 3, "at least 4 rooms")],
)
def test_variants_that_cannot_be_are_refused_before_rendering(
    variants: list[str], rooms: int, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=sentence):
        rendered(tmp_path / "r", rooms, variants)
    assert not (tmp_path / "r").exists()
