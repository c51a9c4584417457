"""Each encoder is compared with the baselines of the run and its own controls, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fathom.probing.evidence.records import Row
from fathom.probing.evidence.verdict.cases import Control, cases
from fathom.probing.evidence.verdict.verdict import verdicts


def row(encoder: str, role: str, mse: float, *, chosen: bool = True, feature: str = "depth", **extra: object) -> Row:
    errors = tuple(mse * 10.0 * level for level in (0.9, 1.0, 1.1))
    return Row(
        encoder=encoder,
        layer="out",
        feature=feature,
        channels=4,
        penalty=0.1,
        role=role,
        chosen=chosen,
        cv_mse=mse + 0.01,
        train_mse=mse,
        test_mse=mse,
        test_rmse=mse**0.5,
        interval=None,
        ratio_to_pixels=None,
        r2=None,
        errors=errors,
        cells=(10.0, 10.0, 10.0),
        **extra,  # type: ignore[arg-type]
    )


def control_of(given: Row) -> Control | None:
    if given.role == "upper_bound":
        return None
    ones = np.ones(3)
    return Control(errors=given.test_mse * ones, around=ones, control_around=ones)


ROWS = [
    row("position", "baseline", 1.4),
    row("patch", "baseline", 1.6),
    row("net", "encoder", 1.0),
    row("net", "encoder", 0.5, chosen=False),
    row("net", "encoder", 2.0, feature="normals"),
    row("position", "baseline", 2.5, feature="normals"),
    row("other", "encoder", 1.1),
    row("random:net", "random", 1.3, of="net", seed=0),
    row("random:net", "random", 1.5, of="net", seed=1),
    row("permuted:net", "permuted", 1.7, of="net", seed=0),
    row("random:other", "random", 1.2, of="other", seed=0),
    row("upper-bound:a", "upper_bound", 0.6),
    row("upper-bound:b", "upper_bound", 0.4),
]


def test_one_case_for_each_encoder_and_feature_at_the_chosen_layer() -> None:
    found = cases(ROWS, control_of)
    assert [(item.encoder, item.feature) for item in found] == [
        ("net", "depth"),
        ("net", "normals"),
        ("other", "depth"),
    ]
    assert found[0].errors.sum() == pytest.approx(30 * 1.0)


def test_baselines_and_own_controls_with_their_seeds_together() -> None:
    net, normals, other = cases(ROWS, control_of)
    assert [baseline.name for baseline in net.baselines] == ["position", "patch", "random:net", "permuted:net"]
    assert [baseline.name for baseline in normals.baselines] == ["position"]
    assert [baseline.name for baseline in other.baselines] == ["position", "patch", "random:other"]
    random = net.baselines[2]
    assert len(random.errors) == 2
    assert random.cv_mse == pytest.approx(1.41)
    np.testing.assert_allclose(random.control, 1.4)


def test_the_best_upper_bound_counts_and_only_for_its_feature() -> None:
    net, normals, _ = cases(ROWS, control_of)
    assert net.upper_bound is not None
    assert net.upper_bound.sum() == pytest.approx(30 * 0.4)
    assert normals.upper_bound is None


def test_without_a_control_task_none_is_made_up() -> None:
    net = cases(ROWS, lambda given: None)[0]
    assert net.control is None
    assert all(baseline.control is None for baseline in net.baselines)


def test_without_untrained_copies_nothing_is_implicit() -> None:
    """Forty scenes in which the encoder removes most of the loss: only the copies decide whether that may be called implicit."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.8, 1.2, 40)

    def wide(given: Row) -> Row:
        errors = tuple(10 * given.test_mse * scale * rng.uniform(0.98, 1.02, 40))
        return replace(given, errors=errors, cells=(10.0,) * 40)

    def control(given: Row) -> Control:
        return Control(errors=15 * scale, around=20 * scale, control_around=15 * scale)

    rows = [
        wide(given)
        for given in ROWS
        if given.encoder in ("position", "net") and given.chosen and given.feature == "depth"
    ]
    rows += [wide(row("random:net", "random", 1.40 + 0.01 * seed, of="net", seed=seed)) for seed in range(5)]
    (met,) = verdicts(cases(rows, control))
    (alone,) = verdicts(cases([given for given in rows if given.role != "random"], control))
    assert met.verdict == "implicit"
    assert alone.verdict == "inconclusive" and alone.p_implicit == 1
    assert "no untrained copy of it took part (--controls)" in alone.sentence
