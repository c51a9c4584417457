"""Ordinal accuracy against a count by hand."""

from __future__ import annotations

import math

import torch

from fathom.metrics.ordinal import RATIO, drawn_pairs, ordinal_accuracy


def test_accuracy_counts_pairs_in_order_and_ties_half() -> None:
    depth = torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 0.5]])
    near = torch.tensor([[0, 0], [0, 2], [1, 0], [1, 2]])
    far = torch.tensor([[0, 1], [0, 1], [1, 1], [0, 0]])
    assert ordinal_accuracy(depth, near, far) == (1 + 0 + 0.5 + 1) / 4
    assert ordinal_accuracy(depth, near, far, larger_is_nearer=True) == (0 + 1 + 0.5 + 0) / 4
    assert math.isnan(ordinal_accuracy(depth, near[:0], far[:0]))


def test_drawn_pairs_are_valid_apart_and_in_order() -> None:
    g = torch.Generator().manual_seed(0)
    target, valid = 1 + 4 * torch.rand(40, 50, generator=g), torch.rand(40, 50, generator=g) > 0.5
    near, far = drawn_pairs(target, valid)
    a, b = (target[p[:, 0], p[:, 1]] for p in (near, far))
    assert len(near) > 1000
    assert bool((b / a >= RATIO).all()) and bool(
        valid[near[:, 0], near[:, 1]].all() & valid[far[:, 0], far[:, 1]].all()
    )
    assert ordinal_accuracy(target, near, far) == 1
    assert abs(ordinal_accuracy(torch.rand(40, 50, generator=g), near, far) - 0.5) < 0.05
    again, _ = drawn_pairs(target, valid)
    assert torch.equal(near, again)


def test_frames_without_a_pair() -> None:
    flat = torch.ones(5, 6)
    near, far = drawn_pairs(flat, torch.ones(5, 6, dtype=torch.bool))
    assert len(near) == 0 and math.isnan(ordinal_accuracy(flat, near, far))
    near, _ = drawn_pairs(flat, torch.zeros(5, 6, dtype=torch.bool))
    assert len(near) == 0
