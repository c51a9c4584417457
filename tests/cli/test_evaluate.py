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


def test_it_prints_one_table_and_writes_page_json_and_csv(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = fathom(
        model, "rooms-residual_cnn", spec(data), "--protocol", "nyu-full", "-m", "ordinal", "--out", out, "--json", tmp_path / "r.json"
    )  # fmt: skip
    assert code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("nyu-full", "AbsRel", "δ1", "ordinal", "10 frames of 5 scenes", "mean map", "constant", "--split all", "Paired differences"):  # fmt: skip
        assert words in printed, words
    assert sorted(file.name for file in out.iterdir()) == [
        "evaluation.json",
        "per_image.csv",
        "pictures.npz",
        "report.html",
    ]
    record = json.loads((out / "evaluation.json").read_text())
    assert {"checksum", "sha256"} <= record.keys()
    same = {key: value for key, value in record.items() if key not in ("checksum", "sha256")}
    assert same == json.loads((tmp_path / "r.json").read_text())
    table = record["tables"][0]
    assert [result["name"] for result in table["results"]] == [model, "rooms-residual_cnn", "mean map", "constant"]
    assert table["results"][0]["facts"]["step"] == "7"
    assert table["data"]["part"] == "unseen scenes"
    with (out / "per_image.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == model]
    assert [row["scene"] for row in rows] == [f"room{i}" for i in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)]
    mean = np.mean([float(row["rmse"]) for row in rows])
    assert mean == pytest.approx(table["results"][0]["scores"]["rmse"]["mean"])


def test_a_page_is_made_again_from_its_folder(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert fathom("rooms-residual_cnn", spec(data), "--pictures", "1", "--out", out, "--quiet") == 0
    first = (out / "report.html").read_bytes()
    assert b"Best and worst frames" in first
    (out / "report.html").unlink()
    assert main(["report", str(out)]) == 0 and (out / "report.html").read_bytes() == first
    assert main(["report", str(out / "evaluation.json"), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_bytes() == first
    capsys.readouterr()
    assert main(["report", str(out), "--latex"]) == 2
    assert "is an evaluation: --csv, --latex and --figures are of probe runs" in capsys.readouterr().err
    (out / "per_image.csv").unlink()
    assert main(["report", str(out)]) == 1 and "per_image.csv" in capsys.readouterr().err


def test_a_saved_split_says_which_frames_are_measured(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, out = tmp_path / "split.json", tmp_path / "out"
    assert main(["data", "split", spec(data), "--fraction", "0.34", "--seed", "3", "--out", str(split)]) == 0
    parts = json.loads(split.read_text())["parts"]
    assert fathom(model, spec(data), "--split", split, "--pictures", "0", "--out", out) == 0
    table = json.loads((out / "evaluation.json").read_text())["tables"][0]
    assert table["scenes"] == parts["test"]["scenes"] and table["data"]["fingerprint"] == parts["test"]["fingerprint"]
    assert (
        f"made of {len(parts['train']['ids'])} frames of {len(parts['train']['scenes'])} other scenes"
        in table["baseline"]
    )
    seen = int("room0" in parts["test"]["scenes"])
    assert table["results"][0]["seen_scenes"] == seen
    assert ("too good for new scenes" in table["notes"][0]) == bool(seen)
    changed = json.loads(split.read_text().replace('"test"', '"rest"'))
    del changed["checksum"]
    split.write_text(json.dumps(changed))
    assert fathom(model, spec(data), "--split", split, "--out", out) == 1
    assert fathom(model, spec(data), "--split", "tset", "--out", out) == 2
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert "has no part 'test' (it has train, rest)" in first and "no file 'tset' (did you mean 'test'?)" in second


def test_options_reach_the_measurement(model: str, data: Path, tmp_path: Path) -> None:
    def run(*options: str) -> dict:
        assert fathom(model, spec(data), "--quiet", "--pictures", "0", "--out", tmp_path / "out", *options) == 0
        return json.loads((tmp_path / "out" / "evaluation.json").read_text())

    def rmse(record: dict) -> float:
        return record["tables"][0]["results"][0]["scores"]["rmse"]["mean"]

    plain, every = run(), run("--split", "all")
    assert plain["tables"][0]["protocol"]["name"] == "native"
    assert "Best and worst" not in (tmp_path / "out" / "report.html").read_text()
    assert (plain["tables"][0]["frames"], every["tables"][0]["frames"]) == (10, 12)
    assert every["tables"][0]["results"][0]["seen_scenes"] == 1
    found = {"plain": rmse(plain)}
    for name, options in (("flip", ["--flip"]), ("scale", ["--align", "scale"]), ("size", ["--size", "48x64"])):
        found[name] = rmse(run(*options))
    assert len({round(value, 9) for value in found.values()}) == 4
    assert found["scale"] < found["plain"]  # the least squares over all pixels of a frame


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["DATA"], "No model is named before"),
        (["rooms-residual_cnn"], "is a depth model; name the data"),
        (["DATA", "rooms-residual_cnn"], "stands after data and is none"),
        (["rooms-residual_cn", "DATA"], "is no depth model and no data: there is no such path (did you mean 'rooms-residual_cnn'?)"),
        (["rooms-residual_cnn", "foldr:DATA"], "There is no kind of depth model 'foldr'"),
        (["BOTH", "DATA"], "may be a model or data; write checkpoint:"),
        (["rooms-residual_cnn", "DATA", "--align", "disparity"], "There is no alignment 'disparity'"),
        (["rooms-residual_cnn", "DATA", "-m", "edge"], "There is no group of metrics 'edge'"),
    ],
)  # fmt: skip
def test_models_and_data_are_told_apart(
    arguments: list[str], words: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = tmp_path / "both"
    (both / "rgb").mkdir(parents=True), (both / "depth").mkdir()
    (both / "config.json").write_text("{}")
    given = [text.replace("DATA", str(data)).replace("BOTH", str(both)) for text in arguments]
    assert fathom(*given, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip()
    assert words in error and error.count("\n") == 0
    assert not (tmp_path / "out").exists()


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
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [entry["id"] for entry in record["tables"][0]["left_out"]] == ["05"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--protocol", "nyu-eigen"], 2, "--protocol native"),
        (["--protocol", "nyu-eigne"], 2, "did you mean 'nyu-eigen'"),
        (["--split", "test"], 2, "has no 'test' part"),
        (["--align", "affine"], 2, "There is no alignment 'affine'"),
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
    assert fathom(tmp_path / "nowhere", spec(data)) == 2
    assert "nowhere' is no depth model and no data" in capsys.readouterr().err
    assert fathom(write_model(tmp_path / "ae", "tiny-autoencoder"), spec(data)) == 1
    assert "predicts images and no depth" in capsys.readouterr().err


def test_data_without_a_pixel_that_counts_is_said(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beyond = f"folder:{data}?depth-scale=1"
    assert fathom(model, beyond, "--protocol", "diode-indoor", "--out", tmp_path / "out") == 1
    assert "counts under diode-indoor" in capsys.readouterr().err


def test_frames_of_several_sizes_are_each_measured_at_their_own(model: str, data: Path, tmp_path: Path) -> None:
    for index in (1, 4, 9):
        for name in ("rgb", "depth"):
            path = data / name / f"{index:02d}.png"
            Image.open(path).resize((40, 80), Image.Resampling.NEAREST).save(path)

    def scores(*options: str | Path) -> dict[str, str]:
        assert fathom(model, spec(data), "--split", "all", "--pictures", "0", "--out", tmp_path / "out", *options) == 0
        with (tmp_path / "out" / "per_image.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["model"].startswith(model)]
        return {row["id"]: row["rmse"] for row in rows}

    together, alone = scores("-q"), scores("-q", "--batch-size", "1")
    assert len(together) == 12 and together.keys() == alone.keys()
    for id_, value in together.items():
        assert float(value) == pytest.approx(float(alone[id_]), rel=1e-5)


def test_a_folder_of_images_without_depth_says_what_it_holds(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fathom(model, data / "rgb", "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "12 x *.png (00.png, 01.png); none of these looks like a depth map" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
