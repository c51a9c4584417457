"""``fathom train`` as a user types it, on a folder of images and depth maps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fathom.cli.main import run
from fathom.models.saved import read_summary

TINY = [
    "--set", "model.widths=[8, 16]", "--set", "model.head_width=8", "--set", "data.size=16x24", "--set", "train.steps=4",
    "--set", "train.batch=2", "--set", "validation.pictures=1", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for scene in range(5):
        for kind in ("rgb", "depth"):
            (root / kind / f"room{scene}").mkdir(parents=True)
        for view in range(3):
            depth = np.full((24, 32), 1000 + 700 * scene + 50 * view, np.uint16)
            colours = generator.integers(0, 255, (24, 32, 3), np.uint8)
            Image.fromarray(colours).save(root / "rgb" / f"room{scene}" / f"{view}.png")
            Image.fromarray(depth).save(root / "depth" / f"room{scene}" / f"{view}.png")
    return f"folder:{root}?depth-scale=0.001"


def fathom(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(["train", *arguments])
    return int(ended.value.code or 0)


def test_a_training_prints_seen_and_unseen_rooms_and_writes_its_json(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "run", tmp_path / "report.json"
    assert fathom(data, "--recipe", "tiny-unet", *TINY, "--out", str(out), "--json", str(report)) == 0
    shown = capsys.readouterr().out
    for words in ("seen rooms", "unseen rooms", "mean map", "RMSE", "Leak ", "minus the mean map's"):
        assert words in shown
    assert json.loads(report.read_text()) == read_summary(out)
    assert (out / "checkpoints" / "4" / "model.safetensors").is_file()
    assert (out / "pictures" / "unseen.png").is_file()
    assert fathom(data, "--recipe", "tiny-unet", *TINY, "--out", str(out)) == 2
    assert "--resume" in capsys.readouterr().err
    assert (out / "curves.png").is_file()
    assert fathom(data, "--recipe", "tiny-unet", *TINY, "--out", str(out), "--resume") == 0
    weights = (out / "checkpoints" / "4" / "model.safetensors").read_bytes()
    assert fathom("--out", str(out), "--resume", "--set", "train.steps=5") == 0
    assert (out / "checkpoints" / "5" / "model.safetensors").read_bytes() != weights
    assert fathom("--out", str(tmp_path / "none"), "--resume") == 2
    assert "does not say what it was started with" in capsys.readouterr().err


def test_a_saved_recipe_trains_the_same_again(data: str, tmp_path: Path) -> None:
    assert fathom(data, "--recipe", "tiny-unet", *TINY, "--out", str(tmp_path / "a"), "-q") == 0
    again = str(tmp_path / "a" / "recipe.toml")
    assert fathom(data, "--recipe", again, "--out", str(tmp_path / "b"), "--device", "cpu", "-q") == 0
    weights = [(tmp_path / run / "checkpoints" / "4" / "model.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]


def test_describe_shows_parameters_and_receptive_field_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fathom("rooms", "--recipe", "unet", "--describe") == 0
    shown = capsys.readouterr().out
    assert "parameters" in shown and "receptive field" in shown and "[optim]" in shown
    assert not list(tmp_path.iterdir())


def test_fraction_says_what_it_counts(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for by, words in (("scene", "0.5 of the training scenes"), ("frame", "0.5 of the training frames")):
        out = str(tmp_path / by)
        options = ["--fraction", "0.5", "--fraction-by", by]
        assert fathom(data, "--recipe", "tiny-unet", *TINY, "--out", out, "-q", *options) == 0
        assert words in capsys.readouterr().out


def test_find_lr_and_sweep(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fathom(data, "--recipe", "tiny-unet", *TINY, "--out", str(tmp_path / "f"), "-q", "--find-lr") == 0
    assert "lr_find.png" in capsys.readouterr().out
    sweep = ["--sweep", "optim.lr=1e-3,1e-2", "--sweep", "loss.ssim=0.0,1.0"]
    assert fathom(data, "--recipe", "tiny-unet", *TINY, "--out", str(tmp_path / "s"), "-q", *sweep) == 0
    shown = capsys.readouterr().out
    assert "optim.lr" in shown and "loss.ssim" in shown
    assert len(json.loads((tmp_path / "s" / "sweep.json").read_text())["runs"]) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "Name a recipe"),
        (["--recipe", "tiny-unet", "--weights", "x"], 2, "data.weights should be a list"),
        (["--recipe", "tiny-unett"], 2, "did you mean 'tiny-unet'"),
        (["--recipe", "tiny-unet", "--set", "optim.lrr=1"], 2, "did you mean 'lr'"),
        (["--recipe", "tiny-unet", "--set", "train.steps=many"], 2, "should be a whole number"),
        (["--recipe", "tiny-unet", "--fraction", "1.5"], 2, "train.fraction should be a number <= 1.0"),
        (["--recipe", "tiny-unet", "--fraction", "0.5", "--fraction-by", "room"], 2, "one of scene, frame"),
    ],
)
def test_bad_arguments_end_in_one_sentence(
    data: str, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fathom(data, *arguments) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 1


def test_torchrun_starts_two_processes_that_print_one_report(data: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "fathom", "train", data, "--recipe", "tiny-unet", *TINY, "--out", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("A split by frames would report the first") == 1
    assert json.loads((tmp_path / "summary.json").read_text())["processes"] == 2


def test_a_checkpoint_is_fine_tuned_and_a_recipe_is_written(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, recipe = tmp_path / "first", tmp_path / "second", tmp_path / "mine.toml"
    assert fathom(data, "--recipe", "tiny-unet", *TINY, "--out", str(first)) == 0
    assert fathom(data, "--recipe", "tiny-unet", *TINY, "--from", str(first), "--write-recipe", str(recipe)) == 0
    assert f'checkpoint = "{first}"' in recipe.read_text()
    assert fathom(data, "--recipe", str(recipe), "--set", "optim.lr=1e-9", "--out", str(second)) == 0
    scores = [read_summary(folder)["scores"]["unseen"]["model"]["rmse"] for folder in (first, second)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)
    assert fathom(data, "--recipe", "tiny-plain_cnn", "--from", str(first), "--out", str(tmp_path / "third")) == 1
    assert "weights of another model" in capsys.readouterr().err
