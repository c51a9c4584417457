"""`fathom data` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fathom.cli.main import main
from tests.data.formats import pairs


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
    assert "train 9 frames of 3 scenes, test 3 frames of 1 scenes" in said.out
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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["data", "info", "nowhere"], "error: nowhere: does not exist"),
        (["data", "split", "rooms", "--folds", "1"], "error: 1 folds make no split"),
        (["data", "split", "rooms", "--official", "--folds", "3"], "error: --official and --folds exclude"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) in (1, 2)
    assert capsys.readouterr().err.startswith(sentence)
