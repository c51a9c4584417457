"""What the report says in words: the verdict in one sentence, and what may and may not be concluded from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fathom.probing.evidence.verdict.findings import LEAST_SCENES
from fathom.probing.evidence.verdict.power import POWER, detectable_gain

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.evidence.records import VerdictRecord

KINDS = {
    "implicit": "implicit in {}",
    "absent": "absent in {}",
    "inconclusive": "inconclusive for {}",
    "too few scenes": "undecided for {}, with too few scenes",
    "withheld": "withheld for {}, since the test scenes may not be unseen",
}
"""Verdict -> how a sentence about a feature continues."""

FINDINGS = {
    "implicit": "{feature} is implicit in {encoder}: a linear probe on it beats every baseline and its untrained copies",
    "absent": "No linear gain over {baseline}: {feature} is absent in {encoder}",
    "inconclusive": "Inconclusive: {scenes} test scenes do not decide whether {encoder} carries {feature}",
    "too few scenes": "No verdict: {scenes} test scenes are too few to say whether {encoder} carries {feature}",
    "withheld": "No verdict on {feature} in {encoder}: the test scenes may not be unseen",
}
"""Verdict -> the headline of a run with one verdict."""

FEW_SCENES = 25
"""Test scenes below which the rule has little power (docs/method.md)."""

SERIOUS = (
    "few test scenes for a verdict", "clipped to it", "near-duplicate", "controls 0", "No control with", "no evidence of implicit",
    "was trained on the images", "could not be read",
)  # fmt: skip
"""Words of the run's notes that a reader must see before any number."""


def headline(evidence: Evidence, names: Mapping[str, str]) -> str:
    """The finding in one sentence."""
    verdicts = evidence.verdicts
    if not verdicts:
        if not any(row.role == "encoder" for row in evidence.rows):
            return "This run measured baselines and controls only; add an encoder with --encoder to get a verdict."
        return "This run holds losses and intervals, but no verdict."
    if len(verdicts) == 1:
        return _sentence(_finding(verdicts[0], names))
    parts = []
    for feature in dict.fromkeys(verdict.feature for verdict in verdicts):
        found = [verdict for verdict in verdicts if verdict.feature == feature]
        words = []
        for kind, form in KINDS.items():
            who = [names.get(verdict.encoder, verdict.encoder) for verdict in found if verdict.verdict == kind]
            if who:
                words.append(form.format(_listed(who)))
        parts.append(f"{feature} is {', '.join(words)}")
    return _sentence("; ".join(parts))


def _finding(verdict: VerdictRecord, names: Mapping[str, str]) -> str:
    """What one verdict found. 'Absent' names the baseline that the test was decided by, as its sentence does."""
    baseline = verdict.baseline
    if verdict.verdict == "absent":
        tested = [gain for gain in verdict.gains if gain.weight]
        if tested:
            baseline = min(tested, key=lambda gain: gain.p_margin / gain.weight).baseline
    return FINDINGS[verdict.verdict].format(
        feature=verdict.feature,
        encoder=names.get(verdict.encoder, verdict.encoder),
        baseline=names.get(baseline, baseline),
        scenes=verdict.scenes,
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def warnings(evidence: Evidence) -> list[str]:
    """What a reader must know before any number: frames taken for scenes, few scenes, and the serious ones of the run's notes."""
    test, scenes = evidence.data.test, len(evidence.test_scenes)
    found = []
    if test.frames == test.scenes > 1:
        found.append(
            f"Every test frame counts as a scene of its own ({test.frames} of each). If frames of one room are among them, intervals are "
            "too narrow and no verdict holds: say which frames belong together (a 'scene' column in index.csv, or DATA?scene=REGEX)."
        )
    if LEAST_SCENES <= scenes < FEW_SCENES:
        found.append(
            f"{scenes} test scenes are few: below {FEW_SCENES} the rule finds only large gains, and its intervals are wide."
        )
    return found + [text for text in evidence.notes if any(mark in text for mark in SERIOUS)]


def power(verdict: VerdictRecord, names: Mapping[str, str]) -> str:
    """What gain a run with as many test scenes would find; empty where that is not known."""
    gain = detectable_gain(verdict)
    if gain is None or verdict.verdict == "withheld":
        return ""
    baseline = names.get(verdict.baseline, verdict.baseline)
    return (
        f"Power: with {verdict.scenes} test scenes that vary as these do, a true gain of {100 * gain:.0f} % of the loss of {baseline} would be found "
        f"in {round(10 * POWER)} of 10 runs; smaller gains would often be missed."
    )


def sentence(verdict: VerdictRecord, names: Mapping[str, str]) -> str:
    """A verdict's own sentence, with encoders and baselines by the names that the charts use."""
    text = verdict.sentence
    for spec in sorted(names, key=len, reverse=True):
        if ":" in spec and spec != names[spec]:
            text = text.replace(spec, names[spec])
    return text


def conclusions(evidence: Evidence) -> tuple[list[str], list[str]]:
    """What may be concluded, and what may not: the rules of docs/method.md that bear on this run."""
    kinds = {verdict.verdict for verdict in evidence.verdicts}
    may: list[str] = []
    not_: list[str] = []
    if "implicit" in kinds:
        may.append(
            "Implicit: a linear map of the encoder's activations predicts the feature on unseen scenes of this kind better "
            "than every baseline in this run, and better on the true targets than on those of other scenes."
        )
        not_.append(
            "That the encoder uses the feature, or represents it as such: a probe can also exploit whatever correlates with it in "
            "these scenes, such as the texture of floors or the usual distance of an object."
        )
        if not any(row.role in ("random", "permuted") for row in evidence.rows):
            not_.append(
                "That training is the reason: no untrained copy of the encoder took part, and the padding and receptive fields of an "
                "architecture alone encode position and contrast."
            )
    if "absent" in kinds:
        may.append(
            "Absent: these scenes rule out a gain over the reference baseline as large as the margin. This is a finding in itself."
        )
        not_.append("That a non-linear head would find nothing: 'absent' holds for linear probes alone.")
    if "inconclusive" in kinds:
        not_.append("Anything from 'inconclusive', for or against: the test scenes do not decide. More scenes may.")
    if "too few scenes" in kinds:
        not_.append(f"Anything from fewer than {LEAST_SCENES} test scenes, whatever the losses.")
    may += [
        "Intervals hold for new scenes from the same population as the test scenes. The scene is the unit: cells of one room "
        "resemble each other and do not count separately.",
        "Two rows may differ although their intervals overlap, since hard rooms are hard for both. The paired difference on "
        "the same scenes decides.",
    ]
    not_ += [
        "A difference between two encoders from their verdicts: 'implicit' for one and 'inconclusive' for the other is not a "
        "difference. 'fathom compare' tests pairs.",
        "What another training set would give: the intervals treat the fitted probes as fixed.",
        "What holds for other cameras or other kinds of places.",
        "What other layers, input sizes, grids or baselines would show.",
    ]
    return may, not_


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
