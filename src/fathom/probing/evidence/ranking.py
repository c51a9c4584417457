"""A ranking of the encoders of a run: their losses, every paired difference, and which of them share a group.

The difference of two encoders is taken on the same test scenes, as in `fathom.probing.evidence.pairs`, and tested for every pair,
after Holm over all pairs of the feature. Two encoders share a letter where their difference is not significant. Groups are found by
insertion and absorption (Piepho 2004): from one group of all, each significant pair splits the groups that hold both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from string import ascii_lowercase

from rich.table import Table
from rich.text import Text

from fathom.encoders.spec import short_names
from fathom.probing.evidence.comparison_table import DIFFERENCE_HEADS, difference_cells
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.findings import LEVEL
from fathom.probing.evidence.pairs import Measurement, Pair, measurements_of, pair_of
from fathom.statistics import holm


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
        names = short_names({item.encoder for item in self.places}, 32)
        to_best = {pair.measurement.name: pair for pair in self.pairs if pair.against is self.places[0]}
        table = Table(title=Text(f"{self.feature}: ranking by test loss"), title_justify="left")
        for head in ("place", "encoder", "layer", "MSE", "above the best", *DIFFERENCE_HEADS[1:], "group"):
            table.add_column(
                head, justify="left" if head in ("encoder", "layer", "group") else "right", overflow="fold"
            )
        for place, (item, letters) in enumerate(zip(self.places, self.letters, strict=True), 1):
            pair = to_best.get(item.name)
            cells = [
                str(place),
                names[item.encoder],
                item.layer,
                f"{item.mse:.4g}",
                *(difference_cells(pair) if pair else [""] * len(DIFFERENCE_HEADS)),
                letters,
            ]
            table.add_row(*(Text(cell) for cell in cells))
        table.caption = Text("Encoders that share a letter do not differ significantly on these scenes.")
        table.caption_justify = "left"
        return table


def rank(evidence: Evidence, feature: str) -> Ranking | None:
    """The ranking of one feature; None with fewer than two encoders."""
    measured = [item for item in measurements_of(evidence, 1, feature, evidence.test_scenes) if item.role == "encoder"]
    if len(measured) < 2:
        return None
    places = sorted(measured, key=lambda item: item.mse)
    pairs = [pair_of(feature, worse, better) for better, worse in combinations(places, 2)]
    tested = [pair for pair in pairs if pair.p is not None]
    corrected = dict(zip(map(_key, tested), holm([pair.p or 0.0 for pair in tested]), strict=True))
    pairs = [replace(pair, p_holm=corrected.get(_key(pair))) for pair in pairs]
    apart = {
        frozenset((pair.measurement.name, pair.against.name))
        for pair in pairs
        if pair.p_holm is not None and pair.p_holm <= LEVEL
    }
    letters = letters_of([item.name for item in places], apart)
    return Ranking(feature, tuple(places), tuple(letters[item.name] for item in places), tuple(pairs))


def _key(pair: Pair) -> frozenset[str]:
    return frozenset((pair.measurement.name, pair.against.name))


def letters_of(names: Sequence[str], apart: set[frozenset[str]]) -> Mapping[str, str]:
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
