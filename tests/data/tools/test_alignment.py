"""Mirrored and shifted depth is noticed on rendered rooms, whose depth is exact, and nothing is said of what is right."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from fathom.data.sources import load
from fathom.data.tools.alignment import REACH, describe_alignment, edge_field, match_edges, shifted_correlation
from fathom.sample import Sample


@pytest.fixture(scope="module")
def rooms() -> list[Sample]:
    data = load("rooms")
    return [data[i] for i in range(0, 160, 10)]


def moved(sample: Sample, right: int, down: int = 0) -> Sample:
    depth, valid = (values.roll((down, right), (-2, -1)) for values in (sample.depth, sample.valid))
    return replace(sample, depth=depth, valid=valid)


def said(samples: list[Sample]) -> str | None:
    return describe_alignment([match for match in map(match_edges, samples) if match is not None])


def test_nothing_is_said_of_depth_that_fits(rooms: list[Sample]) -> None:
    assert said(rooms) is None


def test_depth_mirrored_in_relation_to_its_image_is_noticed(rooms: list[Sample]) -> None:
    turned = [replace(s, depth=s.depth.flip(-1), valid=s.valid.flip(-1)) for s in rooms]
    assert "depth looks mirrored left to right" in (said(turned) or "")
    # Both mirrored, as NYU's frames sometimes are, is no contradiction.
    both = [replace(s, image=s.image.flip(-1)) for s in turned]
    assert said(both) is None


@pytest.mark.parametrize("down", [-4, 0, 4])
@pytest.mark.parametrize("right", [-4, 0, 4])
def test_shifted_depth_is_noticed_with_its_way_back(rooms: list[Sample], right: int, down: int) -> None:
    if not right and not down:
        return
    found = said([moved(sample, right, down) for sample in rooms])
    words = [
        word
        for by, word in ((right, ("to the right", "to the left")), (down, ("down", "up")))
        for word in ([word[by > 0]] if by else [])
    ]
    told = re.findall(r"([\d.]+) % of the longer side (to the left|to the right|up|down)", found or "")
    assert [way for _, way in told] == words
    # 4 of 128 pixels are 3.1 %; the search is in steps of 0.6 %.
    assert [float(percent) for percent, _ in told] == [pytest.approx(100 * 4 / 128, abs=0.7)] * len(words)


def boards(seed: int, right: int, down: int, *, posts: bool) -> Sample:
    """Boards one above the other, each nearer than the one below, with stripes painted on; with `posts` an upright edge too."""
    rng = np.random.default_rng(seed)
    depth, image = np.empty((120, 160), np.float32), np.empty((120, 160), np.float32)
    for row, (metres, grey) in enumerate(
        zip(np.cumsum(rng.uniform(0.4, 0.8, 6)), rng.uniform(0.1, 0.9, 6), strict=True)
    ):
        depth[20 * row : 20 * row + 20], image[20 * row : 20 * row + 20] = 1 + metres, grey
    if posts:
        depth[:, 60:90], image[:, 60:90] = 0.8, rng.uniform(0, 1)
    stripes = rng.uniform(-0.05, 0.05, 160) * (np.arange(160) % 3 == 0)  # upright edges of the image alone
    picture = torch.from_numpy(np.clip(image + stripes, 0, 1)).float().expand(3, -1, -1).clone()
    known = torch.ones(1, 120, 160, dtype=torch.bool)
    return moved(Sample(picture, torch.from_numpy(depth)[None], known, f"board{seed}", str(seed)), right, down)


def test_a_shift_along_the_edges_is_not_told() -> None:
    """Edges along an axis say nothing of a shift along it; one upright edge settles it."""
    alike = said([boards(seed, 5, 4, posts=False) for seed in range(6)])
    assert alike is not None and "2.5 % of the longer side up" in alike and "to the" not in alike.split("moved")[1]
    settled = said([boards(seed, 5, 4, posts=True) for seed in range(6)])
    assert settled is not None and "to the left" in settled and "up" in settled


def test_an_edge_matches_those_of_its_own_direction_alone() -> None:
    lying, upright = torch.zeros(60, 80), torch.zeros(60, 80)
    lying[30:], upright[:, 40:] = 1, 1
    known = torch.ones(60, 80, dtype=torch.bool)
    alike = shifted_correlation(edge_field(lying, 0.1), edge_field(lying, 0.1), known)
    inverse = shifted_correlation(edge_field(1 - lying, 0.1), edge_field(lying, 0.1), known)
    across = shifted_correlation(edge_field(upright, 0.1), edge_field(lying, 0.1), known)
    assert alike.max() > 0.9 and torch.allclose(alike, inverse, atol=1e-6)
    assert across.max() < 0.05


def test_few_frames_tell_nothing(rooms: list[Sample]) -> None:
    assert said([moved(sample, 4) for sample in rooms[:3]]) is None


def test_flat_and_sparse_depth_tell_nothing(rooms: list[Sample]) -> None:
    flat = replace(rooms[0], depth=torch.full_like(rooms[0].depth, 2.0))
    sparse = replace(rooms[0], valid=torch.rand(rooms[0].valid.shape) < 0.05)
    assert match_edges(flat) is None and match_edges(sparse) is None


def test_correlation_equals_numpy_at_every_shift() -> None:
    rng = np.random.default_rng(0)
    image, edges = (rng.normal(size=(2, 30, 40)).astype(np.float32) for _ in range(2))
    image, edges = (image[0] + 1j * image[1], edges[0] + 1j * edges[1])
    known = rng.random((30, 40)) < 0.7
    found = shifted_correlation(*map(torch.from_numpy, (image, edges, known))).numpy()
    padded = np.pad(image, REACH)
    for dy, dx in ((0, 0), (3, -5), (-REACH, REACH), (7, 0)):
        window = padded[REACH + dy : REACH + dy + 30, REACH + dx : REACH + dx + 40][known]
        own = edges[known]
        expected = np.vdot(own, window).real / np.sqrt(np.vdot(own, own).real * np.vdot(window, window).real)
        assert found[REACH + dy, REACH + dx] == pytest.approx(expected, abs=1e-5)
