"""How large a gain a run of so many test scenes would find: the power behind 'inconclusive' and 'absent'."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fathom.probing.evidence.verdict import FEW, LEVEL, STRICT

if TYPE_CHECKING:
    from fathom.probing.evidence.records import VerdictRecord

POWER = 0.8
"""Fraction of runs on other test scenes of the same kind that would find the gain: the usual convention (Cohen 1988)."""


def detectable_gain(verdict: VerdictRecord) -> float | None:
    """The least true gain over the reference baseline, as a fraction of its loss, that `POWER` of such runs would find.

    A gain G is found where its one-sided t-test at level α rejects "no gain"; with n scenes and standard error s that takes about

        G = (t_{1−α, n−1} + t_{POWER, n−1}) · s

    with the level that `implicit` uses for n scenes. None with too few scenes, or where the standard error is not known.
    """
    from scipy.stats import t

    gain = next((item for item in verdict.gains if item.baseline == verdict.baseline), None)
    if gain is None or gain.se is None or verdict.scenes < 2 or verdict.baseline_mse <= 0:
        return None
    level = STRICT if verdict.scenes < FEW else LEVEL
    found = float(t.ppf(1 - level, verdict.scenes - 1) + t.ppf(POWER, verdict.scenes - 1))
    return found * gain.se / verdict.baseline_mse if math.isfinite(gain.se) else None
