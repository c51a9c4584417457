"""The verdict on an encoder and a feature, by a written rule.

With G_j = 1 − L/L_j the fraction of the loss of baseline j that the encoder removes (mean squared errors on unseen scenes):

    implicit       every G_j > 0 and every selectivity S_j > 0, one-sided at `LEVEL` after Holm over the cases
    absent         some G_j < margin, one-sided at `LEVEL`, p-values weighted over j, after Holm
    inconclusive   neither
    too few scenes fewer than `LEAST_SCENES` test scenes: nothing is said
    withheld       the test scenes are no unseen scenes (near-duplicates in training, or frames taken for scenes)

`implicit` is an intersection-union test (Berger 1982): its level is that of its worst part, whatever the number of baselines, so a
further baseline can only make it stricter. `absent` needs one baseline that the encoder does not beat by the margin. It is the upper
of Schuirmann's (1987) two one-sided tests for each baseline, joined by a weighted Bonferroni rule (Genovese, Roeder & Wasserman
2006): p = min_j p_j / w_j with Σ w_j = 1. Weights come from losses cross-validated on training scenes, so test scenes had no say,

    w_j ∝ exp(−(cv_j / min cv − 1) / margin)

and two nearly tied baselines share the weight instead of one of them being *the* reference: no verdict turns on which is ahead.

The tests are in `fathom.probing.evidence.verdict.findings`; docs/method.md discusses all of this, with sources and the error rates measured by
simulation and on real data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fathom.probing.evidence.records import Kind, Row, VerdictRecord
from fathom.probing.evidence.verdict.cases import Case
from fathom.probing.evidence.verdict.findings import LEAST_SCENES, LEVEL, MARGIN, weigh_all
from fathom.probing.evidence.verdict.sentence import sentence
from fathom.statistics import RESAMPLES, holm


def verdicts(
    cases: Sequence[Case],
    *,
    level: float = LEVEL,
    margin: float = MARGIN,
    resamples: int = RESAMPLES,
    withheld: str = "",
) -> list[VerdictRecord]:
    """A verdict for each encoder and feature compared, corrected for their number by Holm's (1979) method.

    `withheld` is the reason for which no verdict is given, if there is one.
    """
    found = weigh_all(cases, margin=margin, resamples=resamples)
    implicit = holm([item.p_implicit for item in found])
    absent = holm([item.p_absent for item in found])
    return [
        decide(replace(item, p_implicit=p, p_absent=q), level=level, withheld=withheld)
        for item, p, q in zip(found, implicit, absent, strict=True)
    ]


def layer_verdicts(cases: Sequence[tuple[Row, Case]], withheld: str = "") -> tuple[VerdictRecord, ...]:
    """A verdict for each encoder, feature and layer (`fathom.probing.evidence.verdict.cases.layer_cases`); Holm's correction is over all of
    them."""
    found = verdicts([case for _, case in cases], withheld=withheld)
    return tuple(
        replace(item, encoder=row.encoder, layer=row.layer) for (row, _), item in zip(cases, found, strict=True)
    )


def decide(found: VerdictRecord, *, level: float = LEVEL, withheld: str = "") -> VerdictRecord:
    """The rule, on p-values that are already corrected."""
    kind: Kind
    if withheld:
        kind = "withheld"
    elif found.scenes < LEAST_SCENES:
        kind = "too few scenes"
    elif found.p_implicit <= level:
        kind = "implicit"
    elif found.p_absent <= level:
        kind = "absent"
    else:
        kind = "inconclusive"
    return replace(found, verdict=kind, sentence=withheld or sentence(found, kind, LEAST_SCENES))
