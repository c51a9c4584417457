"""What networks are compared with, by independent loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fathom.models import MODELS
from fathom.training.scoring.scoring import average, frame_scores
from fathom.training.scoring.targets import depth_edges, on_grid, target_of


def frames(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    depth = 1 + 5 * torch.rand(2, 1, height, width, generator=generator)
    valid = torch.rand(2, 1, height, width, generator=generator) > 0.3
    depth[~valid] = float("nan")
    return torch.rand(2, 3, height, width, generator=generator), depth, valid


def test_an_image_is_its_own_target_without_any_depth() -> None:
    image, depth, valid = frames(16, 24)
    model = MODELS["autoencoder"](MODELS["autoencoder"].Config(width=8, groups=2))
    target, known = target_of(model, image, depth, torch.zeros_like(valid))
    assert torch.equal(target, image) and bool(known.all())


def test_depth_on_a_coarse_grid_is_the_mean_of_each_cells_valid_pixels() -> None:
    image, depth, valid = frames(18, 20)  # neither is a multiple of 8: the last cells stick out
    model = MODELS["residual_cnn"](MODELS["residual_cnn"].Config(width=8))
    target, known = target_of(model, image, depth, valid)
    assert tuple(target.shape[-2:]) == model.output_size((18, 20)) == (3, 3)
    for b in range(2):
        for row in range(3):
            for column in range(3):
                cell = np.s_[b, 0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                inside = valid[cell].numpy()
                assert bool(known[b, 0, row, column]) == (inside.sum() >= 32)
                if known[b, 0, row, column]:
                    expected = depth[cell].numpy()[inside].mean()
                    assert float(target[b, 0, row, column]) == pytest.approx(expected, rel=1e-5)
    assert target.isfinite().all()


def test_a_network_that_loses_borders_is_held_against_what_it_predicts() -> None:
    image, depth, valid = frames(24, 30)
    model = MODELS["plain_cnn"](MODELS["plain_cnn"].Config(filters=(4, 4, 4), padding="none")).eval()
    target, known = target_of(model, image, depth, valid)
    top, left, height, width = model.output_crop((24, 30))
    assert top > 0 and target.shape == model(image).shape
    inner = np.s_[:, :, top : top + height, left : left + width]
    assert torch.equal(known, valid[inner])
    assert torch.equal(target[known], depth[inner][known])


def test_edges_of_a_ramp_are_its_slope_and_none_touches_a_hole() -> None:
    x = torch.arange(12.0).expand(1, 1, 10, 12)
    depth, valid = 1 + 0.25 * x, torch.ones(1, 1, 10, 12, dtype=torch.bool)
    valid[..., 5, 6] = False
    depth = torch.where(valid, depth, torch.tensor(float("nan")))
    image = torch.zeros(1, 3, *depth.shape[-2:])
    both, inner = depth_edges(image, depth, valid, 2)
    one, known = depth_edges(image, depth, valid, 1)
    # A pixel of the border has no whole window, as in the feature of this name.
    assert torch.equal(known, inner) and not known[..., [0, -1], :].any() and not known[..., [0, -1]].any()
    scale = both[0, 0, 2, 2]
    assert float(scale) != 0 and torch.allclose(both[:, :1][inner], scale.expand(int(inner.sum())))
    assert torch.allclose(both[:, 1:][inner], torch.zeros(1), atol=1e-6)
    assert torch.allclose(one[inner], scale.abs().expand(int(inner.sum())))
    assert not known[..., 4:7, 5:8].any() and known[..., 4:7, 8].all()


def test_a_cell_that_sticks_out_by_half_is_still_valid() -> None:
    values, valid = torch.full((1, 1, 6, 4), 3.0), torch.ones(1, 1, 6, 4, dtype=torch.bool)
    target, known = on_grid(values, valid, 4)
    assert target.shape[-2:] == (2, 1)
    assert known.all() and torch.allclose(target, torch.tensor(3.0))


def test_scores_are_those_of_a_loop_and_skip_what_is_not_valid() -> None:
    _, target, valid = frames(6, 7)
    prediction = torch.rand(2, 1, 6, 7) * 5 + 0.5
    prediction[~valid] = float("inf")
    sheets = frame_scores(prediction, target, valid, depth=True)
    for b, sheet in enumerate(sheets):
        mask = valid[b].numpy()
        p, t = (x[b].double().numpy()[mask] for x in (prediction, target))
        assert sheet["rmse"] == pytest.approx(np.sqrt(np.mean((p - t) ** 2)))
        assert sheet["abs_rel"] == pytest.approx(np.mean(abs(p - t) / t))
        assert sheet["delta1"] == pytest.approx(np.mean(np.maximum(p / t, t / p) < 1.25))
    valid[1] = False
    sheets = frame_scores(prediction, target, valid, depth=True)
    assert sheets[1] == {} and average(sheets) == sheets[0]
    assert average([{}]) == {}
