"""A ranking of the encoders of one or several runs: their losses, every paired difference, and which of them share a group.

The difference of two encoders is taken on the same test scenes, as in `fathom.probing.evidence.comparison.pairs`, and tested for every pair,
after Holm over all pairs of the feature. Two encoders share a letter where their difference is not significant. Groups are found by
insertion and absorption (Piepho 2004): from one group of all, each significant pair splits the groups that hold both.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from string import ascii_lowercase
from typing import TypeVar

from rich.table import Table
from rich.text import Text

from fathom.encoders.spec import short_names
from fathom.probing.evidence.comparison.comparison_table import DIFFERENCE_HEADS, difference_cells
from fathom.probing.evidence.comparison.pairs import Measurement, Pair, measurements_of, pair_of
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.verdict.findings import LEVEL
from fathom.progress import significant
from fathom.statistics import holm

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Ranking:
    """The encoders of one feature, best first.

    Attributes:
        feature: of all.
        places: encoders by test loss.
        letters: of each place; encoders that share one do not differ significantly.
        pairs: every pair, the better one first; p-values after Holm over these pairs.
    """

    feature: str
    places: tuple[Measurement, ...]
    letters: tuple[str, ...]
    pairs: tuple[Pair, ...]

    def table(self) -> Table:
        """One line an encoder: loss, difference from the best, and the group."""
        names = _labels(self.places)
        to_best = {_key(pair.measurement): pair for pair in self.pairs if pair.against is self.places[0]}
        table = Table(title=Text(f"{self.feature}: ranking by test loss"), title_justify="left")
        for head in ("place", "encoder", "layer", "MSE", "above the best", *DIFFERENCE_HEADS[1:], "group"):
            table.add_column(
                head, justify="left" if head in ("encoder", "layer", "group") else "right", overflow="fold"
            )
        for place, (item, letters) in enumerate(zip(self.places, self.letters, strict=True), 1):
            pair = to_best.get(_key(item))
            cells = [
                str(place),
                names[_key(item)],
                item.layer,
                significant(item.mse),
                *(difference_cells(pair) if pair else [""] * len(DIFFERENCE_HEADS)),
                letters,
            ]
            table.add_row(*(Text(cell) for cell in cells))
        table.caption = Text("Encoders that share a letter do not differ significantly on these scenes.")
        table.caption_justify = "left"
        return table

    def pairs_table(self) -> Table:
        """One line a pair, the better one first: difference of the losses with its interval."""
        names = _labels(self.places)
        table = Table(title=Text(f"{self.feature}: all pairs, on the same test scenes"), title_justify="left")
        for head in ("encoder", "less loss than", *DIFFERENCE_HEADS, "finding"):
            left = head in ("encoder", "less loss than", "finding")
            table.add_column(head, justify="left" if left else "right", overflow="fold")
        for pair in self.pairs:
            # The difference is that of the worse one from the better one.
            clear = "" if pair.p_holm is None else "different" if pair.p_holm <= LEVEL else "no difference shown"
            cells = [names[_key(pair.against)], names[_key(pair.measurement)], *difference_cells(pair), clear]
            table.add_row(*(Text(cell) for cell in cells))
        return table


def _labels(places: Sequence[Measurement]) -> dict[tuple[int, str], str]:
    """Short names; of several runs with the number of the run."""
    names = short_names({item.encoder for item in places}, 32)
    several = len({item.run for item in places}) > 1
    return {
        _key(item): names[item.encoder]
        + (f", {item.layer.partition(':')[0]}" if item.role == "head" else "")
        + (f" (run {item.run})" if several else "")
        for item in places
    }


def rank(evidence: Evidence, feature: str) -> Ranking | None:
    """The ranking of the encoders of one run; None with fewer than two."""
    measured = measurements_of(evidence, 1, feature, evidence.test_scenes)
    return ranking_of(feature, [item for item in measured if item.role == "encoder"])


def ranking_of(feature: str, measured: Sequence[Measurement]) -> Ranking | None:
    """The ranking of what was measured on the same test scenes; None with fewer than two."""
    if len(measured) < 2:
        return None
    places = sorted(measured, key=lambda item: item.mse)
    pairs = [pair_of(feature, worse, better) for better, worse in combinations(places, 2)]
    tested = [position for position, pair in enumerate(pairs) if pair.p is not None]
    for position, p_holm in zip(tested, holm([pairs[position].p or 0.0 for position in tested]), strict=True):
        pairs[position] = replace(pairs[position], p_holm=p_holm)
    apart = {
        frozenset((_key(pair.measurement), _key(pair.against)))
        for pair in pairs
        if pair.p_holm is not None and pair.p_holm <= LEVEL
    }
    letters = letters_of([_key(item) for item in places], apart)
    return Ranking(feature, tuple(places), tuple(letters[_key(item)] for item in places), tuple(pairs))


def _key(item: Measurement) -> tuple[int, str]:
    """What tells measurements apart: the run, and the name in it."""
    return item.run, item.name


def letters_of(names: Sequence[T], apart: Collection[frozenset[T]]) -> dict[T, str]:
    """Letters for each name, such that two names share one exactly where they are not `apart`.

    From one group of all names, every pair that is apart splits each group that holds both into one without the first and one
    without the second; a group inside another is dropped (Piepho 2004, Journal of Computational and Graphical Statistics 13).
    """
    groups = [frozenset(names)]
    for pair in sorted(apart, key=lambda item: sorted(map(names.index, item))):
        one, other = pair
        split = [part for group in groups for part in ((group - {one}, group - {other}) if pair <= group else (group,))]
        groups = [group for group in dict.fromkeys(split) if not any(group < larger for larger in split)]
    groups.sort(key=lambda group: sorted(map(names.index, group)))
    return {name: "".join(_letter(i) for i, group in enumerate(groups) if name in group) for name in names}


def _letter(index: int) -> str:
    """a ... z, then a1, b1 ..."""
    turn, place = divmod(index, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(turn) if turn else "")
