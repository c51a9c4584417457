"""Features that cannot be what they claim: each gets one sentence with its name, or a number that stays honest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.errors import FathomError, UsageError
from fathom.features import Feature, count_classes, feature, labels_feature
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.probe import probe
from fathom.sample import Grid, Sample
from tests.data.files import counts, pairs

GRID, SIZE = (3, 4), (24, 32)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    root = pairs(tmp_path_factory.mktemp("pairs"), scenes=16, views=2)
    return load(f"{root}?depth-scale=1000").split(0.4, seed=1)


def run(split: tuple[Dataset, Dataset], function: Callable[[Sample, Grid], Any], **settings: Any) -> Evidence:
    mine = Feature.from_function("mine", function)
    return probe([], mine, *split, baselines=("constant", "pixels"), size=SIZE, grid=GRID, pictures=0, **settings)


def everywhere(grid: Grid) -> torch.Tensor:
    return torch.ones(1, *grid, dtype=torch.bool)


def red(sample: Sample, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    return feature("colour").of(sample, grid)[0][:1], everywhere(grid)


def test_a_scene_without_a_valid_cell_counts_nowhere(split: tuple[Dataset, Dataset]) -> None:
    train, test = split
    empty = {train.scenes[1], test.scenes[2]}

    def gap(sample: Sample, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        values, valid = feature("depth").of(sample, grid)
        return (values * torch.nan, ~valid) if sample.scene in empty else (values, valid)

    with_gap = run(split, gap, penalties=(1e-3,))
    without = run(
        (
            train.of_scenes([scene for scene in train.scenes if scene not in empty]),
            test.of_scenes([scene for scene in test.scenes if scene not in empty]),
        ),
        lambda sample, grid: feature("depth").of(sample, grid),
        penalties=(1e-3,),
    )
    for row, same in zip(with_gap.rows, without.rows, strict=True):
        assert row.test_mse == pytest.approx(same.test_mse, rel=1e-5), row.encoder
        assert row.cells[2] == 0 and row.errors[2] == 0 and all(np.isfinite(row.interval or ()))


def test_a_feature_without_a_valid_cell_in_training_or_in_test_says_so(split: tuple[Dataset, Dataset]) -> None:
    with pytest.raises(FathomError, match="no training frame has a valid cell of mine; nothing can be probed"):
        run(split, lambda sample, grid: (torch.zeros(1, *grid), ~everywhere(grid)))
    known = set(split[0].scenes)
    with pytest.raises(FathomError, match="No test frame has a valid cell of mine; nothing can be measured"):
        run(split, lambda sample, grid: (red(sample, grid)[0], everywhere(grid) & (sample.scene in known)))


def test_constant_feature_is_refused(split: tuple[Dataset, Dataset]) -> None:
    with pytest.raises(FathomError, match="mine has the same value in every valid cell of the training frames"):
        run(split, lambda sample, grid: (torch.full((1, *grid), 2.5), everywhere(grid)))


def test_nan_in_a_valid_cell_stops_the_run_and_in_an_invalid_one_does_nothing(split: tuple[Dataset, Dataset]) -> None:
    def with_nan(sample: Sample, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        values, valid = red(sample, grid)
        values[0, 0, 0] = torch.nan
        return values, valid

    with pytest.raises(
        FathomError, match=r"'mine' of frame scene\d+/\d is NaN or infinite in a cell that it calls valid"
    ):
        run(split, with_nan)

    def marked(sample: Sample, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        values, valid = with_nan(sample, grid)
        return values, torch.isfinite(values) & valid

    pixels = next(row for row in run(split, marked).rows if row.encoder == "pixels")
    assert pixels.r2 is not None and pixels.r2 > 0.999999


def grid_of(value: float, channels: int = 1) -> Callable[[Sample, Grid], Any]:
    return lambda sample, grid: (torch.full((channels, *grid), value), everywhere(grid))


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (grid_of(1.0, 2), r"has shape \(2, 3, 4\) and validity \(1, 3, 4\); wanted \(1, 3, 4\) and \(1, 3, 4\)"),
        (lambda s, g: (torch.ones(1, 4, 3), everywhere(g)), r"has shape \(1, 4, 3\)"),
        (lambda s, g: (torch.ones(1, *g), everywhere(g)[0]), r"validity \(3, 4\); wanted"),
        (grid_of(float("inf")), "is NaN or infinite"),
        (grid_of(-float("inf")), "is NaN or infinite"),
        (grid_of(1e30), "is beyond ±1e15 in a cell that it calls valid; .* choose another unit"),
        (lambda s, g: torch.ones(1, *g), "is Tensor; wanted two tensors: values"),
        (lambda s, g: None, "is NoneType; wanted two tensors"),
        (
            lambda s, g: (np.ones((1, *g)), np.ones((1, *g), bool)),
            r"is a tuple of \(ndarray, ndarray\); wanted two tensors",
        ),
        (lambda s, g: (torch.ones(1, *g), torch.ones(1, *g)), r"a validity of torch\.float32; wanted bool"),
        (lambda s, g: (torch.ones(1, *g) * 1j, everywhere(g)), "has complex values; give real and imaginary part"),
    ],
)
def test_a_function_that_gives_something_else_gets_one_sentence(
    split: tuple[Dataset, Dataset], function: Callable[[Sample, Grid], Any], sentence: str
) -> None:
    with pytest.raises(FathomError, match=sentence) as caught:
        Feature.from_function("mine", function).of(split[0][0], GRID)
    assert str(caught.value).startswith("Feature 'mine' of frame scene") and "\n" not in str(caught.value)


def test_a_feature_without_name_or_channels_is_refused() -> None:
    with pytest.raises(UsageError, match="A feature needs a name"):
        Feature.from_function(" ", red)
    with pytest.raises(UsageError, match="'mine' has 0 channels; it takes one or more"):
        Feature.from_function("mine", red, channels=0)


def test_labels_of_one_class_or_of_none_tell_nothing_apart(tmp_path: Path, split: tuple[Dataset, Dataset]) -> None:
    with pytest.raises(UsageError, match="has no labels of at least two classes"):
        count_classes(split[0])
    with pytest.raises(UsageError, match="'labels' with 1 classes tells nothing apart"):
        labels_feature(1)
    with pytest.raises(UsageError, match="has no labels; choose a source that gives some"):
        labels_feature(3).of(split[0][0], GRID)
    root = pairs(tmp_path, scenes=2, views=1)
    for scene in (0, 1):
        counts(root / "labels" / f"scene{scene}" / "0.png", np.full((24, 32), 6 * scene, np.uint8))
    data = load(f"{root}?depth-scale=1000")
    (root / "rgb" / "scene0" / "0.png").write_bytes(b"")
    assert count_classes(data) == 7  # a frame that cannot be read is left to the pass over the data
