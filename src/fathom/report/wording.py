"""What the report says in words: the verdict in one sentence, and what may and may not be concluded from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fathom.probing.evidence.verdict import LEAST_SCENES

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence

KINDS = {
    "implicit": "implicit in {}",
    "absent": "absent in {}",
    "inconclusive": "inconclusive for {}",
    "too few scenes": "undecided for {}, with too few scenes",
}
"""Verdict -> how a sentence about a feature goes on."""


def headline(evidence: Evidence, names: Mapping[str, str]) -> str:
    """The finding in one sentence."""
    verdicts = evidence.verdicts
    if not verdicts:
        if not any(row.role == "encoder" for row in evidence.rows):
            return "This run measured baselines and controls alone; name an encoder with --encoder for a verdict."
        return "This run holds losses and intervals, but no verdict."
    if len(verdicts) == 1:
        return sentence(verdicts[0], names)
    parts = []
    for feature in dict.fromkeys(str(verdict["feature"]) for verdict in verdicts):
        found = [verdict for verdict in verdicts if verdict["feature"] == feature]
        words = []
        for kind, form in KINDS.items():
            who = [names.get(verdict["encoder"], verdict["encoder"]) for verdict in found if verdict["verdict"] == kind]
            if who:
                words.append(form.format(_listed(who)))
        parts.append(f"{feature} is {', '.join(words)}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def sentence(verdict: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A verdict's own sentence, with encoders and baselines by the names that the charts use."""
    text = str(
        verdict.get("sentence") or f"{verdict.get('encoder')}, {verdict.get('feature')}: {verdict.get('verdict')}."
    )
    for spec in sorted(names, key=len, reverse=True):
        if len(spec) > len(names[spec]):
            text = text.replace(spec, names[spec])
    return text


def conclusions(evidence: Evidence) -> tuple[list[str], list[str]]:
    """What may be concluded, and what may not: the rules of docs/method.md that bear on this run."""
    kinds = {str(verdict["verdict"]) for verdict in evidence.verdicts}
    may: list[str] = []
    not_: list[str] = []
    if "implicit" in kinds:
        may.append(
            "Implicit: a linear map of the encoder's activations predicts the feature on unseen scenes of this kind better "
            "than every baseline that was tried, and better on the true targets than on those of other rooms."
        )
        not_.append(
            "That the encoder uses the feature, or stores it as such: whatever goes with it in these scenes, such as a baseline's "
            "texture or an object's usual distance, serves a probe as well."
        )
        if not any(row.role in ("random", "permuted") for row in evidence.rows):
            not_.append(
                "That learning made it so: no untrained copy of the encoder took part, and the padding and receptive fields of "
                "an architecture tell place and contrast by themselves."
            )
    if "absent" in kinds:
        may.append(
            "Absent: these scenes exclude a gain over the reference baseline as large as the margin. It is a finding, not the "
            "lack of one."
        )
        not_.append("From absent, that a deeper head would find nothing: it holds for linear readout alone.")
    if "inconclusive" in kinds:
        not_.append(
            "From inconclusive, anything for or against: it is the lack of a finding, and more test scenes may turn it into "
            "implicit or absent."
        )
    if "too few scenes" in kinds:
        not_.append(f"From fewer than {LEAST_SCENES} test scenes, anything at all, whatever the losses.")
    may += [
        "Intervals hold for further scenes of the population that the test scenes come from. Scenes are the units: the cells "
        "of one room resemble each other and do not count as many.",
        "Two rungs may differ although their intervals overlap, since hard rooms are hard for both; what decides is the "
        "difference on the same scenes, in pairs.",
    ]
    not_ += [
        "A difference between two encoders from their verdicts: implicit beside inconclusive is no difference. 'fathom compare' "
        "pairs them.",
        "What another training set would give: the fitted probes are held fixed.",
        "What holds elsewhere: for another camera, another kind of place.",
        "What other layers, input sizes, grids or baselines would show.",
    ]
    return may, not_


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
