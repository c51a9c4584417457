"""One sentence on what a probe relies on, by a written rule that claims no more than the intervals allow.

For each group of alterations (colour, light, texture, shape, position), with the gain G of the probe over the training mean:

    relies on it         some alteration of the group raises the loss by more than `MARGIN` · G; for position see below
    does without it    every alteration of the group raises the loss by less than `MARGIN` · G
    open               neither
    more A than B      some alteration of A raises the loss by more than any of B

each by the ends of intervals: above is a lower end above, below an upper end below.

To exchange the halves of a frame breaks what lies around the seam as well, so of position two things more are asked: predictions
stay in their place by more than `MARGIN` (`stays`), which is more than being disturbed, and the exchange costs more than any
exchange of surroundings alone (the group shape, where it was measured).
The intervals are simultaneous (Bonferroni over the statements that one sentence may make), so that all of a sentence is right at
95 %, whichever groups it names. docs/cues.md says what each group can and cannot show.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fathom.probing.cues.alterations import GROUPS
from fathom.probing.cues.ledger import MARGIN
from fathom.probing.evidence.records import Cue, Group
from fathom.probing.evidence.verdict.findings import LEAST_SCENES


@dataclass(frozen=True)
class Profile:
    """What the rule finds for one probe.

    Attributes:
        goes_by: for each group that it relies on the alteration that surely costs most, the dearest first.
        without: groups that it does without. open: groups of which neither is shown.
        less: groups that it relies on less than by the first of `goes_by`.
    """

    relies_on: tuple[Cue, ...]
    without: tuple[Group, ...]
    open: tuple[Group, ...]
    less: tuple[Group, ...]


def profile(cues: Iterable[Cue]) -> Profile:
    """The rule, applied to the cues of one encoder and feature. A group of which an interval is missing stays open."""
    deciding = [cue for cue in cues if cue.decides]
    proven: list[Cue] = []
    without: list[Group] = []
    undecided: list[Group] = []
    for group in GROUPS:
        own = [cue for cue in deciding if cue.group == group]
        costly = [cue for cue in own if _above(cue.over_low, 0.0) and (group != "position" or _placed(cue, deciding))]
        if not own:
            continue
        if any(cue.over_low is None for cue in own):
            undecided.append(group)
        elif costly:
            proven.append(max(costly, key=_surely))
        elif all(_below(cue.over_high, 0.0) for cue in own):
            without.append(group)
        else:
            undecided.append(group)
    proven.sort(key=_surely, reverse=True)
    groups = dict.fromkeys(cue.group for cue in deciding)
    less = [
        group
        for group in groups
        if proven and all(_below(cue.sure_high, _surely(proven[0])) for cue in deciding if cue.group == group)
    ]
    return Profile(tuple(proven), tuple(without), tuple(undecided), tuple(less))


def _above(end: float | None, bound: float) -> bool:
    return end is not None and end > bound


def _below(end: float | None, bound: float) -> bool:
    return end is not None and end < bound


def _surely(cue: Cue) -> float:
    """The least that an alteration costs."""
    return -math.inf if cue.sure_low is None else cue.sure_low


def _placed(cue: Cue, deciding: Sequence[Cue]) -> bool:
    """Whether it is the place that a move takes, and not the surroundings alone."""
    others = (other for other in deciding if other.group == "shape")
    return _above(cue.stays_low, MARGIN) and all(_below(other.sure_high, _surely(cue)) for other in others)


def sentence(cues: Sequence[Cue]) -> str:
    """The sentence on one encoder and feature."""
    first = cues[0]
    scenes = min((cue.scenes for cue in cues if cue.decides), default=0)
    if scenes < LEAST_SCENES:
        return f"Not said: {scenes} test scenes are too few, at least {LEAST_SCENES} are needed."
    if not any(cue.lost is not None for cue in cues):
        return f"Not said: it does not predict {first.feature} better than the training mean, so it has no cue to lose."
    found = profile(cues)
    parts = []
    if found.relies_on:
        parts.append("relies on " + _listed([_with_loss(cue) for cue in found.relies_on]))
    less = [group for group in found.less if group not in found.without]
    if less:
        parts.append(f"more by {found.relies_on[0].group} than by {_listed(less, 'or')}")
    if found.without:
        parts.append(f"does without {_listed(found.without)}")
    if found.open:
        parts.append(f"{_listed(found.open)} {'is' if len(found.open) == 1 else 'are'} open")
    parts += _leanings(cues)
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def _with_loss(cue: Cue) -> str:
    return f"{cue.group} ({cue.words} costs {cue.lost:.0%} of its gain)"


def _leanings(cues: Sequence[Cue]) -> list[str]:
    """Which way predictions move when frames grow lighter or things larger, where both of two intervals say the same."""
    by_name = {cue.alteration: cue for cue in cues}
    found = []
    brighter, darker = by_name.get("brighter"), by_name.get("darker")
    if brighter and darker:
        sign = _sign(brighter.shift_low, brighter.shift_high)
        if sign and sign == -_sign(darker.shift_low, darker.shift_high):
            found.append(f"lighter frames are taken for {_further(brighter, sign)} ({_amount(brighter)})")
    zoomed = by_name.get("zoomed")
    if zoomed:
        # Below (or above) both what would stay in place and what would move along: place alone cannot explain it.
        sign = _sign(zoomed.shift_low, zoomed.shift_high)
        if sign and sign == _sign(zoomed.in_place_low, zoomed.in_place_high):
            found.append(f"enlarged things are taken for {_further(zoomed, sign)} ({_amount(zoomed)})")
    return found


def _sign(low: float | None, high: float | None) -> int:
    if low is None or high is None:
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0


def _further(cue: Cue, sign: int) -> str:
    if cue.feature in ("depth", "log_depth"):
        return "farther" if sign > 0 else "nearer"
    return f"{'more' if sign > 0 else 'less'} {cue.feature}"


def _amount(cue: Cue) -> str:
    return f"{cue.shift:+.3g}" + (f" {cue.unit}" if cue.unit else "")


def _listed(words: Sequence[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
