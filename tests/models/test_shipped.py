"""The networks that come with the package: whole, trained on training rooms alone, and better than no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from fathom.data.sources import load
from fathom.errors import CheckpointError
from fathom.models.saved import load_model
from fathom.models.shipped import shipped


def test_both_are_there() -> None:
    assert shipped() == ["rooms-autoencoder", "rooms-residual_cnn"]


@pytest.mark.parametrize("name", shipped())
def test_no_test_room_was_seen(name: str) -> None:
    train, test = load("rooms").official_split()
    trained = load_model(name)
    assert trained.train_scenes and set(trained.train_scenes) <= set(train.scenes)
    assert not set(trained.train_scenes) & set(test.scenes)


def test_the_residual_cnn_knows_rooms_it_has_not_seen() -> None:
    from fathom.evaluation.evaluate import evaluate

    _, test = load("rooms").official_split()
    found = evaluate("rooms-residual_cnn", test.subset(range(0, 112, 4)), protocol="native")
    assert sum(image.metrics["rmse"] for image in found.images) / len(found.images) < 1.1  # the mean map has 1.2


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rooms-residual_cnn").mkdir()
    with pytest.raises(CheckpointError):
        load_model("rooms-residual_cnn")


def test_unknown_name_says_which_there_are() -> None:
    with pytest.raises(
        CheckpointError, match="or rooms-autoencoder or rooms-residual_cnn, which come with the package"
    ):
        load_model("rooms-vit")
