"""`fathom data` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fathom.cli.main import main
from fathom.data.formats.folders.folder import FolderSource
from fathom.data.sources import load
from fathom.sample import Sample
from tests.data.files import pairs


def test_info_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert (
        main(["data", "info", "rooms", "--frames", "20", "--out", str(out), "--json", str(out / "i.json"), "-q"]) == 0
    )
    said = capsys.readouterr().out
    assert "448, of 112 scenes" in said and "plausible as metres" in said and "official test" in said
    assert (out / "contact.png").stat().st_size > 20_000
    assert json.loads((out / "i.json").read_text())["frames"] == 448


def test_check_lists_broken_files_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / "d")
    assert main(["data", "check", f"{root}?depth-scale=1000", "-q"]) == 0
    (root / "rgb" / "scene1" / "2.png").write_bytes(b"x")
    assert main(["data", "check", f"{root}?depth-scale=1000", "-q"]) == 1
    said = capsys.readouterr().out
    assert "scene1/2.png: is not an image" in said and "12 frames, 1 broken" in said


def test_split_is_saved_and_leaks_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / "d")
    for scene in range(4):
        # One frame under four scene names: whatever the split, it leaks.
        (root / "rgb" / f"scene{scene}" / "0.png").write_bytes((root / "rgb" / "scene0" / "0.png").read_bytes())
    arguments = ["data", "split", f"{root}?depth-scale=1000", "--out", str(tmp_path / "s.json"), "--leak-check", "-q"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "train 9 frames of 3 scenes, test 3 frames of 1 scene" in said.out
    assert "near-duplicates across the split" in said.err
    assert set(json.loads((tmp_path / "s.json").read_text())["parts"]) == {"train", "test"}


def test_folds_are_numbered(tmp_path: Path) -> None:
    root = pairs(tmp_path / "d")
    assert (
        main(["data", "split", f"{root}?depth-scale=1000", "--folds", "4", "-o", str(tmp_path / "f.json"), "-q"]) == 0
    )
    assert sorted(path.name for path in tmp_path.glob("f-*.json")) == [f"f-{n}.json" for n in range(4)]


def test_export_writes_a_folder_that_is_recognised(tmp_path: Path) -> None:
    assert main(["data", "export", f"{pairs(tmp_path / 'd')}?depth-scale=1000", "-o", str(tmp_path / "e"), "-q"]) == 0
    assert main(["data", "check", f"{tmp_path / 'e'}?depth-scale=1000", "-q"]) == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["data", "info", "nowhere"], "error: nowhere: does not exist"),
        (["data", "split", "rooms", "--folds", "1"], "error: 1 folds make no split"),
        (["data", "split", "rooms", "--official", "--folds", "3"], "error: --official and --folds exclude"),
        (["data", "pack", "rooms", "-o", "p", "--image", "jpg"], "error: There is no image format 'jpg' (did you mean"),
        (["data", "pack", "rooms", "-o", "p", "--size", "3"], "error: '3' is not a size"),
        (["data", "pack", "rooms", "-o", "p", "--shard-mb", "0"], "error: Shards of 0.0 MB"),
        (["data", "verify", "nowhere"], "error: nowhere: does not exist"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) in (1, 2)
    assert capsys.readouterr().err.startswith(sentence)


def test_pack_says_where_and_verify_finds_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = f"{pairs(tmp_path / 'd')}?depth-scale=1000", tmp_path / "p"
    arguments = ["data", "pack", data, "-o", str(out), "--shard-mb", "0.01", "--json", str(tmp_path / "p.json"), "-q"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "p.json").read_text())
    assert record["frames"] == 12 and record["shards"] == len(list(out.glob("*.tar"))) > 1
    assert f"12 frames in {record['shards']} shards" in said and f"packed:{out}" in said
    assert main(["data", "verify", str(out), "-q"]) == 0
    assert f"{record['shards']} shards are what was packed" in capsys.readouterr().out
    assert main(["data", "check", str(out), "-q"]) == 0
    damaged = out / "shard-000001.tar"
    damaged.write_bytes(damaged.read_bytes()[:-600] + b"x" * 600)
    capsys.readouterr()
    assert main(["data", "verify", str(out), "-q"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {damaged}: is not what was packed")
    # The same command mends it and keeps the rest.
    assert main(arguments) == 0
    assert f"{record['shards'] - 1} of them kept from before" in capsys.readouterr().out
    assert main(["data", "verify", str(out), "-q"]) == 0


def test_pack_options_reach_the_shards(tmp_path: Path) -> None:
    data, out = f"{pairs(tmp_path / 'd')}?depth-scale=1000", tmp_path / "p"
    assert main(["data", "pack", data, "-o", str(out), "--image", "jpeg", "--depth", "mm16", "--size", "12x16"]) == 0
    plan = json.loads((out / "pack.json").read_text())["plan"]
    assert (plan["image"], plan["depth"], plan["size"]) == ("jpeg, quality 95", "mm16", [12, 16])
    assert load(out)[0].image_size == (12, 16)


def test_pack_interrupted_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "p", tmp_path / "whole"
    arguments = ["data", "pack", f"{pairs(tmp_path / 'd')}?depth-scale=1000", "--shard-mb", "0.01", "-q", "-o"]
    assert main([*arguments, str(whole)]) == 0
    read = FolderSource.read

    def interrupted(source: FolderSource, index: int) -> Sample:
        if index == 10:
            raise KeyboardInterrupt
        return read(source, index)

    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "read", interrupted)
        assert main([*arguments, str(out)]) == 130
    assert "nothing half-written" in capsys.readouterr().err
    assert (out / "shard-000000.tar").exists() and not (out / "pack.json").exists() and not list(out.glob(".shard*"))
    assert main(["data", "verify", str(out)]) == 1
    assert "holds a pack that was not finished" in capsys.readouterr().err
    assert main([*arguments, str(out)]) == 0
    assert "kept from before" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }


def test_render_writes_rooms_that_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mitsuba", reason="rendering needs Mitsuba, the extra [render]")
    out = tmp_path / "r"
    arguments = ["data", "render", str(out), "--rooms", "2", "--views", "2", "--size", "12x16", "--samples", "1", "-q"]
    assert main(arguments) == 0
    assert f"read it as rooms:{out}" in capsys.readouterr().out
    assert len(load(out)) == 4 and load(out)[0].image_size == (12, 16)


def test_skip_bad_says_what_was_incomplete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / "d")
    (root / "rgb" / "scene0" / "0.png").unlink()
    (root / "rgb" / "scene1" / "1.png").write_bytes(b"x")
    for command in (["export"], ["pack"], ["split", "--leak-check"], ["info", "--frames", "0"]):
        arguments = [command[0], f"{root}?depth-scale=1000", *command[1:], "-o", str(tmp_path / command[0]), "-q"]
        assert main(["data", *arguments]) == 1
        assert "0.png: has no image beside it" in capsys.readouterr().err
        assert main(["data", *arguments, "--skip-bad"]) == 0, command
        said = capsys.readouterr().err
        assert (
            "left out 1 incomplete" in said and "left out 1 frames" in said and "scene1/1.png: is not an image" in said
        )
