"""What the report says in words: the verdict in one sentence, and what may and may not be concluded from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fathom.probing.evidence.verdict import LEAST_SCENES

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
"""Verdict -> how a sentence about a feature goes on."""


def headline(evidence: Evidence, names: Mapping[str, str]) -> str:
    """The finding in one sentence."""
    verdicts = evidence.verdicts
    if not verdicts:
        if not any(row.role == "encoder" for row in evidence.rows):
            return "This run measured baselines and controls only; add an encoder with --encoder to get a verdict."
        return "This run holds losses and intervals, but no verdict."
    if len(verdicts) == 1:
        return sentence(verdicts[0], names)
    parts = []
    for feature in dict.fromkeys(verdict.feature for verdict in verdicts):
        found = [verdict for verdict in verdicts if verdict.feature == feature]
        words = []
        for kind, form in KINDS.items():
            who = [names.get(verdict.encoder, verdict.encoder) for verdict in found if verdict.verdict == kind]
            if who:
                words.append(form.format(_listed(who)))
        parts.append(f"{feature} is {', '.join(words)}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def sentence(verdict: VerdictRecord, names: Mapping[str, str]) -> str:
    """A verdict's own sentence, with encoders and baselines by the names that the charts use."""
    text = verdict.sentence
    for spec in sorted(names, key=len, reverse=True):
        if len(spec) > len(names[spec]):
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
