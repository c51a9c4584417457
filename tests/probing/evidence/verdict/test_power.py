"""The gain that a run can find: against simulated runs, and None where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from fathom.probing.evidence.records import Estimate, GainRecord, VerdictRecord
from fathom.probing.evidence.verdict.findings import LEVEL
from fathom.probing.evidence.verdict.power import POWER, detectable_gain
from fathom.statistics import tail_share


def verdict(scenes: int, se: float | None) -> VerdictRecord:
    gain = GainRecord("position", 1, 0.1, 0.0, 0.2, se, 0.1, 0.9, None, 0.5, 0.5)
    other = replace(gain, baseline="pixels", se=99.0)
    none = Estimate(0.05, 0.0, 0.1)
    return VerdictRecord(
        "net", "depth", "inconclusive", "", scenes, "position", 2.0, 1.8, None, none, None, None, 0.1, 0.9, 0.05, (gain, other)
    )  # fmt: skip


@pytest.mark.parametrize("scenes", [12, 30, 80])
def test_a_gain_of_that_size_is_found_in_as_many_runs_as_it_says(scenes: int) -> None:
    scatter = 0.6
    gain = detectable_gain(
        verdict(scenes, 0.9 * scatter / scenes**0.5)
    )  # the record's error is that of 1 − L/L_j = 0.1
    assert gain is not None and 0 < gain < 1
    draws = np.random.default_rng(0).normal(-np.log1p(-gain), scatter, (20_000, scenes))
    tested = draws.mean(1) / (draws.std(1, ddof=1) / scenes**0.5)
    found = (tested > t.ppf(1 - LEVEL * tail_share(scenes), scenes - 1)).mean()
    assert found == pytest.approx(POWER, abs=0.03)


def test_nothing_is_said_without_a_standard_error_or_scenes() -> None:
    assert detectable_gain(verdict(30, None)) is None
    assert detectable_gain(verdict(1, 0.1)) is None
    assert detectable_gain(replace(verdict(30, 0.1), gains=())) is None
