"""Exported data read back are the same to the millimetre."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fathom.data.sources import load
from fathom.data.tools.export import export
from fathom.errors import DataError, UsageError
from tests.data.files import pairs, picture


def test_export_of_rooms_reads_back(tmp_path: Path) -> None:
    rooms = load("rooms").subset(range(0, 40, 9))
    assert export(rooms, tmp_path / "out") == len(rooms)
    back = load(f"folder:{tmp_path / 'out'}?depth-scale=1000")
    assert back.ids == rooms.ids and back.frame_scenes == rooms.frame_scenes
    for one, two in zip(rooms, back, strict=True):
        assert torch.equal(one.image, two.image)
        assert float((one.depth - two.depth).abs().max()) < 1e-3


def test_depth_beyond_16_bit_millimetres_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", np.full((12, 16), 70, np.float32))
    with pytest.raises(DataError, match=r"reaches 70\.0 m, beyond the 65\.535 m"):
        export(load(tmp_path), tmp_path.parent / f"{tmp_path.name}-out")


def test_an_export_never_writes_where_it_reads(tmp_path: Path) -> None:
    source = pairs(tmp_path / "d", 2)
    before = {path: path.read_bytes() for path in source.rglob("*.png")}
    for out in (source, source / "rgb", source / "new", tmp_path / "d" / ".." / "d"):
        with pytest.raises(UsageError, match=r"is where .* is read from"):
            export(load(f"{source}?depth-scale=1000"), out, overwrite=True)
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_an_export_replaces_only_an_export_and_only_when_asked(tmp_path: Path) -> None:
    data, out = load(f"{pairs(tmp_path / 'd', 2)}?depth-scale=1000"), tmp_path / "out"
    (out / "rgb").mkdir(parents=True)
    with pytest.raises(UsageError, match="is not empty and holds no export"):
        export(data, out, overwrite=True)
    (out / "rgb").rmdir()
    export(data, out)
    with pytest.raises(UsageError, match="replace it with --overwrite"):
        export(data, out)
    assert export(data.subset([0]), out, overwrite=True) == 1
    assert load(f"folder:{out}?depth-scale=1000").ids == data.ids[:1] and len(list((out / "rgb").iterdir())) == 1


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_an_interrupted_export_is_no_data_and_is_finished_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    data, out = load(f"{pairs(tmp_path / 'd', 2)}?depth-scale=1000"), tmp_path / "out"
    left = stop
    real = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0 and target.suffix == ".png":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(data, out)
    monkeypatch.undo()
    with pytest.raises(DataError, match="holds an export that was not finished; run the same 'fathom data export'"):
        load(f"folder:{out}?depth-scale=1000")
    assert export(data, out) == 6 and load(f"folder:{out}?depth-scale=1000").ids == data.ids


@pytest.mark.parametrize("name", ["rgb/000001.png", "depth/000001.png", "index.csv", "export.json"])
def test_a_changed_file_of_an_export_is_named(tmp_path: Path, name: str) -> None:
    data, out = load(f"{pairs(tmp_path / 'd', 2)}?depth-scale=1000"), tmp_path / "out"
    export(data, out)
    other = {"rgb/000001.png": "rgb/000002.png", "depth/000001.png": "depth/000002.png"}.get(name)
    content = (out / other).read_bytes() if other else (out / name).read_bytes().replace(b"scene1", b"scene0")
    (out / name).write_bytes(content if content != (out / name).read_bytes() else content + b" ")
    with pytest.raises(DataError, match=f"{name}: is not what was (exported|written)"):
        load(f"folder:{out}?depth-scale=1000")[1]
