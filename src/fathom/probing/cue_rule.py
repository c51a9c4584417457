"""One sentence on what a probe goes by, by a written rule that claims no more than the intervals allow.

For each group of alterations (colour, light, texture, shape, position), by the share `lost` of what the probe knows:

    goes by it         some alteration of the group takes more than `MARGIN`: the lower end of its interval is above it; of position
                       also asked: predictions stay in their place by more than `MARGIN` (`stays`), and are not merely disturbed
    does without it    every alteration of the group takes less than `MARGIN`: all upper ends are below it
    open               neither
    more A than B      the lower end of some alteration of A is above the upper ends of all of B

The intervals are simultaneous (Bonferroni over the statements that one sentence may make), so that all of a sentence is right at
95 %, whichever groups it names. docs/cues.md says what each group can and cannot show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathom.probing.alterations import GROUPS, Group
from fathom.probing.verdict import LEAST_SCENES

if TYPE_CHECKING:
    from fathom.probing.cue_ledger import Cue

MARGIN = 0.1
"""A loss of less than a tenth of what the probe knows is none."""


@dataclass(frozen=True)
class Profile:
    """What the rule finds for one probe.

    Attributes:
        goes_by: the alteration with the largest lower end for each group that it goes by, largest first.
        without: groups that it does without. open: groups of which neither is shown.
        less: groups that it goes by less than by the first of `goes_by`.
    """

    goes_by: tuple[Cue, ...]
    without: tuple[Group, ...]
    open: tuple[Group, ...]
    less: tuple[Group, ...]


def profile(cues: Iterable[Cue]) -> Profile:
    """The rule, applied to the cues of one encoder and feature. Cues without an interval leave their group open."""
    deciding = [cue for cue in cues if cue.decides]
    strongest: list[tuple[float, Cue]] = []
    without: list[Group] = []
    undecided: list[Group] = []
    most: dict[Group, float] = {}
    for group in GROUPS:
        own = [cue for cue in deciding if cue.group == group]
        bounds = [(cue.lost_low, cue.lost_high, cue) for cue in own]
        known = [(low, high, cue) for low, high, cue in bounds if low is not None and high is not None]
        if not own:
            continue
        if len(known) < len(own):
            undecided.append(group)
            continue
        most[group] = max(high for _, high, _ in known)
        proven = [(low, cue) for low, _, cue in known if low > MARGIN and _placed(cue)]
        if proven:
            low, cue = max(proven, key=lambda pair: pair[0])
            strongest.append((low, cue))
        elif most[group] < MARGIN:
            without.append(group)
        else:
            undecided.append(group)
    strongest.sort(key=lambda pair: -pair[0])
    less = [group for group in most if strongest and most[group] < strongest[0][0]]
    return Profile(tuple(cue for _, cue in strongest), tuple(without), tuple(undecided), tuple(less))


def _placed(cue: Cue) -> bool:
    """Of a move: whether predictions stay in their place in the frame. True of all else."""
    return cue.group != "position" or (cue.stays_low is not None and cue.stays_low > MARGIN)


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
    if found.goes_by:
        parts.append("goes by " + _listed([_with_loss(cue) for cue in found.goes_by]))
    less = [group for group in found.less if group not in found.without]
    if less:
        parts.append(f"more by {found.goes_by[0].group} than by {_listed(less, 'or')}")
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
