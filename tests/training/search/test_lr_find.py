"""The learning-rate finder: where the loss falls fastest, and where it turns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fathom.errors import UsageError
from fathom.report.images.training import draw_rates
from fathom.training.recipe import from_table
from fathom.training.search.lr_find import find_rate, smooth, suggest
from tests.training import painted


def test_the_suggestion_lies_where_a_known_curve_falls_fastest() -> None:
    # A logistic fall in log rate, steepest at 1e-4, and a rise from 1e-1 on.
    rates = np.logspace(-6, 0, 200)
    losses = 1 / (1 + (rates / 1e-4) ** 1.5) + np.where(rates > 1e-1, rates * 20, 0)
    found = suggest(rates.tolist(), losses.tolist())
    assert found["suggested"] == pytest.approx(1e-4, rel=0.15)
    assert found["limit"] == pytest.approx(1e-1, rel=0.15)
    assert "optim.lr=" in found["sentence"]


def test_where_no_rate_lowers_the_loss_none_is_suggested() -> None:
    rates = np.logspace(-6, 0, 50).tolist()
    assert suggest(rates, [1.0] * 50)["suggested"] is None
    assert suggest(rates, list(np.linspace(1, 9, 50)))["suggested"] is None
    with pytest.raises(UsageError, match="not finite within five steps"):
        suggest(rates[:3], [1.0, 2.0, 3.0])


def test_the_smoothed_curve_of_a_constant_is_the_constant() -> None:
    assert smooth([2.0] * 5) == pytest.approx([2.0] * 5)


def test_the_finder_separates_rates_that_work_from_rates_that_blow_up(tmp_path: Path) -> None:
    table = painted.recipe(optim={"name": "sgd", "clip": 0.0, "momentum": 0.0}, schedule={"name": "constant"})
    found = find_rate(from_table(table), painted.painted(), out=tmp_path, steps=40, device="cpu")
    assert json.loads((tmp_path / "lr_find" / "lr_find.json").read_text())["suggested"] == found["suggested"]
    assert draw_rates(found, tmp_path / "rates.png").stat().st_size > 5000
    assert found["rates"][0] == pytest.approx(1e-6)
    assert f"optim.lr={found['suggested']:g}" in found["sentences"][0]
    assert "The recipe's rate is 0.01" in found["sentences"][1] and "--sweep optim.lr=" in found["sentences"][2]
    assert 1e-5 < found["suggested"] < 1
    reached = found["rates"][-1]
    assert set(found["marked"]) == {name for name in ("0.0001", "0.01", "0.1") if float(name) <= reached}
    near = min(found["rates"], key=lambda rate: abs(np.log(rate / 1e-4)))
    assert found["marked"]["0.0001"] == found["losses"][found["rates"].index(near)]
    # A training may follow in the same folder: the finder leaves no checkpoint.
    assert not (tmp_path / "checkpoints").exists()
