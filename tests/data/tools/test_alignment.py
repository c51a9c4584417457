"""Mirrored and shifted depth is noticed on rendered rooms, whose depth is exact, and nothing is said of what is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fathom.data.sources import load
from fathom.data.tools.alignment import REACH, describe_alignment, match_edges, shifted_correlation
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


@pytest.mark.parametrize(("right", "down", "words"), [(4, 0, "to the left"), (-4, 0, "to the right"), (0, 4, "up")])
def test_shifted_depth_is_noticed_with_its_way_back(rooms: list[Sample], right: int, down: int, words: str) -> None:
    found = said([moved(sample, right, down) for sample in rooms])
    # 4 of 128 pixels are 3.1 %; the search is in steps of 0.6 %.
    assert found is not None and words in found
    percent = float(found.split("moved ")[1].split(" %")[0])
    assert percent == pytest.approx(100 * 4 / 128, abs=0.7)


def test_few_frames_tell_nothing(rooms: list[Sample]) -> None:
    assert said([moved(sample, 4) for sample in rooms[:3]]) is None


def test_flat_and_sparse_depth_tell_nothing(rooms: list[Sample]) -> None:
    flat = replace(rooms[0], depth=torch.full_like(rooms[0].depth, 2.0))
    sparse = replace(rooms[0], valid=torch.rand(rooms[0].valid.shape) < 0.05)
    assert match_edges(flat) is None and match_edges(sparse) is None


def test_correlation_equals_numpy_at_every_shift() -> None:
    rng = np.random.default_rng(0)
    image, edges = rng.random((30, 40)), rng.random((30, 40))
    known = rng.random((30, 40)) < 0.7
    edges = np.where(known, edges, 0)
    found = shifted_correlation(*map(torch.from_numpy, (image, edges, known))).numpy()
    padded = np.pad(image, REACH)
    for dy, dx in ((0, 0), (3, -5), (-REACH, REACH), (7, 0)):
        window = padded[REACH + dy : REACH + dy + 30, REACH + dx : REACH + dx + 40][known]
        expected = np.corrcoef(edges[known], window)[0, 1]
        assert found[REACH + dy, REACH + dx] == pytest.approx(expected, abs=1e-5)
