"""The model card: scores with intervals as the evaluation has them, its worst frames as a picture, and what the network is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fathom.cli.main import main
from fathom.errors import UsageError
from fathom.evaluation.evaluate import evaluate
from fathom.models.shipped import FOLDER
from fathom.report.model_card import CURVES, FAILURES, write_card
from tests.evaluation.captures import capture


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate("rooms-residual_cnn", capture(scenes=8, views=1), device="cpu").save(folder)
    return folder


def test_the_card_holds_the_scores_the_worst_frames_and_the_curves(evaluation: Path, tmp_path: Path) -> None:
    from fathom.evaluation.result import Evaluation

    run = tmp_path / "run" / "rooms-residual_cnn"
    shutil.copytree(FOLDER / "rooms-residual_cnn", run / "checkpoints" / "1")
    Image.new("RGB", (4, 4)).save(run / CURVES)
    assert main(["report", str(run), "--evaluation", str(evaluation)]) == 0
    text = (run / "card" / "README.md").read_text()
    score = Evaluation.load(evaluation).score("rmse", "rooms-residual_cnn")
    assert score.interval is not None
    assert f"{score.mean:.3f} ({score.interval[0]:.3f} – {score.interval[1]:.3f})" in text
    assert "mean map" in text and "## What it is not" in text and "## Kind of depth and camera" in text
    assert f"({FAILURES})" in text and f"({CURVES})" in text and (run / "card" / CURVES).is_file()
    pixels = np.array(Image.open(run / "card" / FAILURES))
    assert pixels.shape[0] % 150 == 0 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_the_command_says_which_options_belong_to_what(
    evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "rooms-residual_cnn"]) == 2
    assert main(["report", "rooms-residual_cnn", "--latex", "--out", str(tmp_path / "a")]) == 2
    assert main(["report", str(evaluation), "--evaluation", str(evaluation)]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "--out FOLDER" in first and "is a network" in second and "belongs to the card of a network" in third
    assert main(["report", "rooms-residual_cnn", "--out", str(tmp_path / "a")]) == 0
    assert "## What it is not" in (tmp_path / "a" / "README.md").read_text()


def test_without_evaluations_it_shows_no_scores_of_its_own(tmp_path: Path) -> None:
    text = write_card("rooms-residual_cnn", tmp_path).read_text()
    assert "Failure cases" not in text and "## What it is not" in text
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]


def test_an_evaluation_of_another_model_is_refused(evaluation: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no scores of 'nyu-pretrained_unet'"):
        write_card("nyu-pretrained_unet", tmp_path, [evaluation])
