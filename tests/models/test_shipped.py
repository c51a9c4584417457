"""The networks that come with the package: whole, trained on training rooms alone, and better than no network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fathom.data.sources import load
from fathom.errors import CheckpointError
from fathom.models.saved import load_model
from fathom.models.shipped import DEFAULT, FOLDER, shipped


def test_they_are_there() -> None:
    assert shipped() == ["nyu-pretrained_unet", "rooms-autoencoder", "rooms-residual_cnn"]
    assert DEFAULT in shipped()


@pytest.mark.parametrize("name", ["rooms-autoencoder", "rooms-residual_cnn"])
def test_no_test_room_was_seen(name: str) -> None:
    train, test = load("rooms").official_split()
    trained = load_model(name)
    assert trained.train_scenes and set(trained.train_scenes) <= set(train.scenes)
    assert not set(trained.train_scenes) & set(test.scenes)


def test_the_residual_cnn_knows_rooms_it_has_not_seen() -> None:
    from fathom.evaluation.evaluate import evaluate

    _, test = load("rooms").official_split()
    found = evaluate("rooms-residual_cnn", test.subset(range(0, 112, 4)), protocol="native")
    assert found.score("rmse", "rooms-residual_cnn").mean < 1.1  # the mean map has 1.2


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rooms-residual_cnn").mkdir()
    with pytest.raises(CheckpointError):
        load_model("rooms-residual_cnn")


def test_unknown_name_says_which_there_are() -> None:
    with pytest.raises(
        CheckpointError,
        match="or nyu-pretrained_unet or rooms-autoencoder or rooms-residual_cnn, which come with the package",
    ):
        load_model("rooms-vit")


def test_the_network_of_photographs_fits_the_wheel_and_says_what_it_is() -> None:
    folder = FOLDER / "nyu-pretrained_unet"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 15e6
    card = (folder / "README.md").read_text()
    for words in (
        "Apache-2.0",
        "NYU Depth V2",
        "canonical focal length",
        "pixels inside, scenes left out",
        "no measuring",
    ):
        assert words in card


def test_the_network_of_photographs_orders_rooms_it_was_never_shown_by_depth() -> None:
    from fathom.depth_models.opening import open_depth_model

    model = open_depth_model(None, device="cpu")
    _, test = load("rooms").official_split()
    found = []
    for position in range(0, 112, 28):
        sample = test[position]
        predicted = model.predict(sample.image[None], [sample.intrinsics], size=sample.depth_size).values[0]
        pair = torch.stack([predicted[sample.valid[0]].log(), sample.depth[0][sample.valid[0]].log()])
        found.append(float(torch.corrcoef(pair)[0, 1]))
    assert sum(found) / len(found) > 0.5  # 0 for a constant


def test_its_interval_is_calibrated_to_nine_tenths() -> None:
    from fathom.depth_models.calibration import calibration_of
    from fathom.depth_models.opening import open_depth_model

    found = calibration_of(open_depth_model(None, device="cpu"))
    assert found.scenes >= 20 and 0.3 < found.quantile(0.9) < 0.5
    assert found.facts["left_out"]["0.9"]["coverage"] > 0.9
