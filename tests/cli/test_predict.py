"""``fathom predict`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fathom.cli.main import main
from fathom.models.saved import SCHEMA_VERSION, write_checkpoint, write_manifest
from fathom.models.shipped import DEFAULT
from fathom.training.recipe import load_recipe
from fathom.training.session import build_network


def write_model(folder: Path, name: str, *settings: str) -> Path:
    """A checkpoint of fresh weights."""
    recipe = load_recipe(name, settings)
    config = {
        "schema_version": SCHEMA_VERSION, "model": recipe.model.name, "recipe": recipe.table(),
        "input_size": list(recipe.data.size), "train_scenes": [],
    }  # fmt: skip
    write_checkpoint(folder, {"model.safetensors": build_network(recipe).state_dict(), "config.json": config}, 0)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "cnn"
    return str(write_model(folder, "tiny-plain_cnn", "model.filters=[4,4,4,4,4,4,4]", "data.size=24x32"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, size in (("kitchen/a.jpg", (48, 64)), ("hall/a.jpg", (64, 48)), ("b.png", (30, 40))):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def fathom(*arguments: str | Path) -> int:
    return main(["predict", *map(str, arguments)])


def test_a_folder_becomes_depth_maps_at_the_size_of_each_image(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert fathom(model, photos, "--out", out, "--npy", "--pointcloud", "ply", "--json", tmp_path / "r.json") == 0
    captured = capsys.readouterr()
    assert "60 degrees" in captured.err and "3 images" in captured.out
    written = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    endings = ("", "_colour.png", "_depth.json", "_depth.npy", "_depth.png")
    assert written == sorted(f"{name}{ending or '.ply'}" for name in ("b", "hall/a", "kitchen/a") for ending in endings)
    for name, size in (("kitchen/a", (48, 64)), ("hall/a", (64, 48)), ("b", (30, 40))):
        metres = np.load(out / f"{name}_depth.npy", allow_pickle=False)
        counts = np.array(Image.open(out / f"{name}_depth.png"))
        assert metres.shape == counts.shape == size
        np.testing.assert_array_equal(counts, (metres.astype(np.float64) * 1000).round())
    rows = json.loads((tmp_path / "r.json").read_text())["images"]
    assert [row["size"] for row in rows] == [[30, 40], [64, 48], [48, 64]]
    assert all(len(row["files"]) == 5 for row in rows)


def test_files_of_one_name_do_not_replace_one_another(model: str, photos: Path, tmp_path: Path) -> None:
    assert fathom(model, photos / "kitchen" / "a.jpg", photos / "hall" / "a.jpg", "--out", tmp_path / "out") == 0
    sizes = {name: Image.open(tmp_path / "out" / name / "a_depth.png").size for name in ("kitchen", "hall")}
    assert sizes == {"kitchen": (64, 48), "hall": (48, 64)}


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_broken_image_is_one_sentence_and_can_be_left_out(
    content: bytes | None, model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (photos / "b.png").read_bytes()
    (photos / "bad.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert fathom(model, photos, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "bad.png" in error
    report = tmp_path / "r.json"
    assert fathom(model, photos, "--out", tmp_path / "out", "--skip-bad", "--json", report) == 0
    assert "Left out" in capsys.readouterr().out
    record = json.loads(report.read_text())
    assert len(record["images"]) == 3 and "bad.png" in record["skipped"][0]["image"]
    assert fathom(model, photos / "bad.png", "--out", tmp_path / "none", "--skip-bad") == 1


@pytest.mark.parametrize("name", ["tiny-autoencoder", "tiny-gradient"])
def test_a_network_without_depth_is_refused(
    name: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path / "model", name)
    assert fathom(folder, photos, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no depth" in error and str(folder) in error
    assert not (tmp_path / "out").exists()


def test_depth_beyond_sixteen_bits_is_said(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file, save_file

    far = write_model(tmp_path / "far", "tiny-plain_cnn", "model.filters=[4,4,4,4,4,4,4]", "data.size=24x32")
    weights = load_file(far / "model.safetensors")
    bias = [key for key in weights if key.endswith("bias")][-1]
    weights[bias] += 200
    save_file(weights, far / "model.safetensors")
    write_manifest(far, ["model.safetensors", "config.json"], 0)
    assert fathom(far, photos / "b.png", "--out", tmp_path / "out") == 0
    assert "1200 pixels lie beyond 65.535 m" in capsys.readouterr().out
    assert (np.array(Image.open(tmp_path / "out" / "b_depth.png")) == 65535).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pointcloud", "ply", "--intrinsics", "1,2,3"], "four numbers"),
        (["--pointcloud", "ply", "--fov", "200"], "between 0 and 180"),
        (["--pointcloud", "ply", "--fov", "60", "--intrinsics", "1,1,1,1"], "twice"),
        (["--size", "0x4"], "not a size"),
        (["--near", "5", "--far", "2"], "far must be beyond near"),
        (["--pointcloud", "obj"], "ply"),
    ],
)
def test_options_that_cannot_be_meant_are_explained(
    arguments: list[str], words: str, model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fathom(model, photos / "b.png", "--out", tmp_path / "out", *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_missing_image_and_a_missing_checkpoint_are_named(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fathom(model, tmp_path / "gone.png", "--out", tmp_path / "out") == 1
    assert "gone.png: does not exist" in capsys.readouterr().err
    assert fathom(tmp_path / "nowhere", photos, "--out", tmp_path / "out") == 1
    assert "nowhere: does not exist" in capsys.readouterr().err


def test_a_name_that_is_not_utf8_is_printed_and_written(model: str, photos: Path, tmp_path: Path) -> None:
    odd = photos / "caf\udce9.png"
    try:
        odd.write_bytes((photos / "b.png").read_bytes())
    except OSError:
        pytest.skip("this file system holds no such name")
    report = tmp_path / "r.json"
    assert fathom(model, odd, "--out", tmp_path / "out", "--json", report) == 0
    assert (tmp_path / "out" / "caf\udce9_depth.png").is_file()
    assert json.loads(report.read_text())["images"][0]["name"] == "caf?"


def calibrated(model: str, out: Path) -> Path:
    from fathom.depth_models.calibration import Calibration

    levels = (0.5, 0.8)
    found = Calibration("cnn", "somewhere", 4, levels, (0.1, 0.3), (0.0,) * 6, {"promise": "p"})
    return found.save(out)


def test_an_interval_writes_lower_and_upper_metres_and_says_what_it_promises(
    model: str, photos: Path, tmp_path: Path
) -> None:
    file, out = calibrated(model, tmp_path / "c.json"), tmp_path / "out"
    assert fathom(model, photos / "b.png", "-o", out, "--interval", "0.8", "--calibration", file, "--npy") == 0
    depth, lower, upper = (np.load(out / f"b_{name}.npy") for name in ("depth", "lower", "upper"))
    np.testing.assert_allclose(upper / depth, np.exp(0.3), rtol=1e-5)
    np.testing.assert_allclose(depth / lower, np.exp(0.3), rtol=1e-5)
    assert np.asarray(Image.open(out / "b_upper.png")).shape == depth.shape
    record = json.loads((out / "b_depth.json").read_text())
    assert record["interval"]["level"] == 0.8 and "4 scenes of somewhere" in record["interval"]["calibrated_on"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--interval", "0.9"], "has no calibration; run fathom calibrate"),
        (["--interval", "0.9", "--calibration", "FILE"], "promise at most 0.8"),
        (["--interval", "0.8", "--calibration", "FILE", "--known", "3,3=2"], "leave out --known"),
    ],
)
def test_intervals_that_cannot_be_are_refused(
    model: str, photos: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = calibrated(model, tmp_path / "c.json")
    given = [str(file) if option == "FILE" else option for option in options]
    assert fathom(model, photos / "b.png", "-o", tmp_path / "out", *given) != 0
    assert message in capsys.readouterr().err.replace("\n", " ")


MODULE = """
import torch

class Dark(torch.nn.Module):
    def forward(self, x):
        return 1 - 0.9 * x.mean(1)

def make():
    return Dark()
"""


@pytest.fixture
def relative(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MODULE)
    return f"module:{tmp_path / 'mine.py'}:make?kind=affine-disparity"


def test_a_relative_model_writes_its_values_and_no_metres(
    relative: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fathom(relative, photos / "b.png", "--out", tmp_path / "out") == 0
    written = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert written == ["b_colour.png", "b_depth.json", "b_disparity.npy"]
    record = json.loads((tmp_path / "out" / "b_depth.json").read_text())
    assert (record["kind"], record["unit"], record["camera"]["origin"]) == ("affine-disparity", None, "assumed")
    printed = capsys.readouterr().out
    assert "metres" not in printed.replace("no unit", "") and "no unit" in printed
    for option in (["--pointcloud", "ply"], ["--near", "1"]):
        assert fathom(relative, photos / "b.png", "--out", tmp_path / "none", *option) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "--known X,Y=METRES twice" in error
    for option in ([], ["--calibration", calibrated(relative, tmp_path / "c.json")]):
        assert fathom(relative, photos / "b.png", "--out", tmp_path / "none", "--interval", "0.8", *option) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "interval" in error and "metric" in error
    assert not (tmp_path / "none").exists()


def test_known_distances_make_a_relative_model_metric(relative: str, photos: Path, tmp_path: Path) -> None:
    out, known = tmp_path / "out", ["--known", "5,5=2", "--known", "30,20=2.5", "--pointcloud", "ply", "--npy"]
    values = np.zeros((30, 40), np.uint8)
    values[15:] = 100
    Image.fromarray(values).convert("RGB").save(photos / "c.png")
    assert fathom(relative, photos / "c.png", "--out", out, *known) == 0
    metres = np.load(out / "c_depth.npy", allow_pickle=False)
    assert metres[5, 5] == pytest.approx(2, rel=1e-4) and metres[20, 30] == pytest.approx(2.5, rel=1e-4)
    record = json.loads((out / "c_depth.json").read_text())
    assert record["kind"] == "metric" and "(5, 5) = 2 m" in record["scale_operations"][0]
    assert (out / "c.ply").is_file() and (out / "c_depth.png").is_file()


def test_the_model_may_be_left_out_and_patterns_are_expanded(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fathom(str(photos / "*" / "a.jpg"), "--out", tmp_path / "out") == 0
    assert f"by {DEFAULT}" in " ".join(capsys.readouterr().out.split())
    assert len(list((tmp_path / "out").rglob("a_depth.png"))) == 2
    assert fathom(str(photos / "*.gif"), "--out", tmp_path / "out") == 1
    assert "matches no file" in capsys.readouterr().err


def test_data_brings_its_camera(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fathom(model, "rooms", "--out", tmp_path / "gone", "--near", "3", "--far", "2") == 2
    capsys.readouterr()
    from fathom.data.sources import load
    from fathom.depth_models.predict import read_scene

    sample = load("rooms")[0]
    scene = read_scene(sample)
    assert scene.camera is not None and scene.camera.origin == "data" and scene.prompt is not None


def test_cameras_that_contradict_the_images_are_refused(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = ["--intrinsics", "525,525,320,240", "--out", tmp_path / "out"]
    assert fathom(model, photos / "b.png", *camera) == 2
    assert "about 640 wide and 480 high" in capsys.readouterr().err
    camera = ["--intrinsics", "50,50,28,28", "--out", tmp_path / "out"]
    assert fathom(model, photos / "hall" / "a.jpg", photos / "kitchen" / "a.jpg", *camera) == 2
    assert "several (48x64 and 64x48" in capsys.readouterr().err
    assert fathom(model, photos, "--fov", "70", "--out", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "b_depth.json").read_text())
    assert record["camera"]["origin"] == "given" and record["camera"]["fx"] == pytest.approx(
        20 / np.tan(np.radians(35))
    )


def test_maps_of_depth_among_photos_are_left_out(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((30, 40), 1500, np.uint16)).save(photos / "b_scan.png")
    assert fathom(model, photos, "--out", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert "3 images" in captured.out and "1 single-channel 16-bit image" in captured.err
    assert not (tmp_path / "out" / "b_scan_depth.png").exists()


@pytest.mark.parametrize("depth", [np.full((30, 40), 900, np.uint16), np.full((30, 40), 90, np.uint8)])
@pytest.mark.parametrize("layout", ["tum", "folder"])
def test_depth_without_a_unit_does_not_hinder_a_prediction(
    model: str, layout: str, depth: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither layout settles the unit: the images are read, and no depth map is taken for one."""
    folder = tmp_path / "recording"
    for name, pixels in (("rgb/1.0.png", np.zeros((30, 40, 3), np.uint8)), ("depth/1.0.png", depth)):
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / name)
    if layout == "tum":
        (folder / "rgb.txt").write_text("1.0 rgb/1.0.png\n")
        (folder / "depth.txt").write_text("1.0 depth/1.0.png\n")
    assert fathom(model, folder, "--out", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert "1 image," in captured.out and "depth-scale" in captured.err and "needs no depth" in captured.err
    assert len(list((tmp_path / "out").rglob("*_depth.png"))) == 1


def test_a_model_alone_asks_for_images(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fathom(model) == 2
    assert "name the images to predict after it" in capsys.readouterr().err
