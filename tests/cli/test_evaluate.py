"""``fathom evaluate`` as a user types it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fathom.cli.main import main
from fathom.models.saved import SCHEMA_VERSION, write_checkpoint
from fathom.training.recipe import load_recipe
from fathom.training.session import build_network


def write_model(folder: Path, name: str, *settings: str, scenes: tuple[str, ...] = ()) -> Path:
    """A checkpoint of fresh weights."""
    recipe = load_recipe(name, ["data.size=24x32", *settings])
    config = {
        "schema_version": SCHEMA_VERSION, "model": recipe.model.name, "recipe": recipe.table(), "step": 7,
        "input_size": list(recipe.data.size), "train_scenes": list(scenes),
    }  # fmt: skip
    write_checkpoint(folder, {"model.safetensors": build_network(recipe).state_dict(), "config.json": config}, 7)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "cnn"
    return str(write_model(folder, "tiny-plain_cnn", "model.filters=[4,4,4,4,4,4,4]", scenes=("room0",)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six rooms of two frames, 16-bit millimetres."""
    generator, rows = np.random.default_rng(0), []
    for name in ("rgb", "depth"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for index in range(12):
        rows.append(f"{index:02d},room{index // 2}\n")
        picture = generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "data" / "rgb" / f"{index:02d}.png")
        depth = generator.integers(800, 6000, (48, 64)).astype(np.uint16)
        Image.fromarray(depth).save(tmp_path / "data" / "depth" / f"{index:02d}.png")
    (tmp_path / "data" / "index.csv").write_text("frame,scene\n" + "".join(rows))
    return tmp_path / "data"


def spec(data: Path) -> str:
    return f"folder:{data}?depth-scale=0.001"


def fathom(*arguments: str | Path) -> int:
    return main(["evaluate", *map(str, arguments)])


def test_it_writes_table_csv_summary_and_pictures(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert fathom(model, spec(data), "--protocol", "nyu-full", "--out", out, "--json", tmp_path / "r.json") == 0
    printed = capsys.readouterr()
    for words in ("nyu-full", "abs_rel", "rmse, pooled over pixels", "10 images of 5 scenes", "--split all"):
        assert words in printed.out, words
    assert sorted(file.name for file in out.iterdir()) == [
        "error_by_depth.png", "per_image.csv", "summary.json", "worst_best.png"
    ]  # fmt: skip
    for name in ("worst_best.png", "error_by_depth.png"):
        pixels = np.asarray(Image.open(out / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    summary = json.loads((out / "summary.json").read_text())
    assert summary == json.loads((tmp_path / "r.json").read_text())
    assert summary["checkpoint"]["step"] == 7
    assert summary["data"]["part"] == "unseen scenes"
    with (out / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["scene"] for row in rows] == [f"room{i}" for i in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)]
    assert np.mean([float(row["rmse"]) for row in rows]) == pytest.approx(summary["metrics"]["rmse"]["mean"])


def test_options_reach_the_measurement(model: str, data: Path, tmp_path: Path) -> None:
    def run(*options: str) -> dict:
        assert fathom(model, spec(data), "--quiet", "--pictures", "0", "--out", tmp_path / "out", *options) == 0
        return json.loads((tmp_path / "out" / "summary.json").read_text())

    plain = run()
    assert plain["protocol"]["name"] == "native"
    assert not (tmp_path / "out" / "worst_best.png").exists()
    every = run("--split", "all")
    assert (plain["images"], every["images"]) == (10, 12)
    rmse = {"plain": plain["metrics"]["rmse"]["mean"]}
    for name, options in (("flip", ["--flip"]), ("scale", ["--align", "scale"]), ("size", ["--size", "48x64"])):
        rmse[name] = run(*options)["metrics"]["rmse"]["mean"]
    assert len({round(value, 9) for value in rmse.values()}) == 4
    assert rmse["scale"] < rmse["plain"]  # the least squares over all pixels of an image


def test_a_broken_frame_is_one_sentence_or_left_out(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = data / "depth" / "05.png"
    broken.write_bytes(broken.read_bytes()[:200])
    assert fathom(model, spec(data), "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "05.png" in error
    assert not (tmp_path / "out").exists()
    assert fathom(model, spec(data), "--skip-bad", "--out", tmp_path / "out") == 0
    assert "1 frames left out" in capsys.readouterr().out.replace("\n", " ")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [entry["id"] for entry in summary["left_out"]] == ["05"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--protocol", "nyu-eigen"], 2, "--protocol native"),
        (["--protocol", "nyu-eigne"], 2, "did you mean 'nyu-eigen'"),
        (["--split", "test"], 2, "has no 'test' part"),
        (["--align", "affine"], 2, "affine"),
        (["--size", "big"], 2, "height x width"),
    ],
)
def test_what_cannot_be_meant_is_said(
    options: list[str], code: int, words: str, model: str, data: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert fathom(model, spec(data), "--out", tmp_path / "out", *options) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_none_is_said(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fathom(tmp_path / "nowhere", spec(data)) == 1
    assert "nowhere: does not exist" in capsys.readouterr().err
    (tmp_path / "model.pth").write_bytes(b"\x80\x04.")
    assert fathom(tmp_path / "model.pth", spec(data)) == 1
    assert "is a pickle" in capsys.readouterr().err
    assert fathom(write_model(tmp_path / "ae", "tiny-autoencoder"), spec(data)) == 1
    assert "predicts images and no depth" in capsys.readouterr().err


def test_data_without_a_pixel_that_counts_is_said(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beyond = f"folder:{data}?depth-scale=1"
    assert fathom(model, beyond, "--protocol", "diode-indoor", "--out", tmp_path / "out") == 1
    assert "counts under diode-indoor" in capsys.readouterr().err
