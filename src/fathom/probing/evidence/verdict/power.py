"""How large a gain a run of so many test scenes would find: the power behind 'inconclusive' and 'absent'."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fathom.probing.evidence.verdict.findings import LEVEL
from fathom.statistics import tail_share

if TYPE_CHECKING:
    from fathom.probing.evidence.records import VerdictRecord

POWER = 0.8
"""Fraction of runs on other test scenes of the same kind that would find the gain: the usual convention (Cohen 1988)."""


def detectable_gain(verdict: VerdictRecord) -> float | None:
    """The least true gain over the reference baseline, as a fraction of its loss, that `POWER` of such runs would find.

    A gain is found where the one-sided t-test of the contrast C = ln L_j − ln L rejects "no gain"; with n scenes and standard error s
    that takes about

        C = (t_{1−α κ(n), n−1} + t_{POWER, n−1}) · s,    a fraction 1 − e^−C of the loss

    with κ(n) of `fathom.statistics.tail_share`. None with too few scenes, or where the standard error is not known.
    """
    from scipy.stats import t

    gain = next((item for item in verdict.gains if item.baseline == verdict.baseline), None)
    if gain is None or gain.se is None or gain.estimate is None or gain.estimate >= 1 or verdict.scenes < 2:
        return None
    level, df = LEVEL * tail_share(verdict.scenes), verdict.scenes - 1
    found = float(t.ppf(1 - level, df) + t.ppf(POWER, df)) * gain.se / (1 - gain.estimate)
    return -math.expm1(-found) if math.isfinite(found) else None
