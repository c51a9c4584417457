"""Several data sets as one: their frames one after another, each drawn as often as its share says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from jaxtyping import Int
from torch import Tensor

from fathom.data.dataset import Dataset, Frame
from fathom.errors import UsageError
from fathom.sample import Sample
from fathom.training.frames.holdout import Parts


@dataclass
class Mixed:
    """A source that holds the frames of several data sets, in the order of the sets."""

    sets: tuple[Dataset, ...]
    kind: str = "mixed"
    location: str = field(init=False)
    frames: Sequence[Frame] = field(init=False)
    facts: Mapping[str, str] = field(init=False)
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.location = " + ".join(one.source.location for one in self.sets)
        self.frames = [one.frame(position) for one in self.sets for position in range(len(one))]
        self.facts = {
            f"{place}: {key}": value for place, one in enumerate(self.sets) for key, value in one.source.facts.items()
        }
        self._starts = [0, *accumulate(len(one) for one in self.sets)]

    def read(self, index: int) -> Sample:
        """Read frame `index` from its own set."""
        place = bisect_right(self._starts, index) - 1
        return self.sets[place][index - self._starts[place]]


def mixed(sets: Sequence[Dataset], part: str = "all") -> Dataset:
    """The data sets as one; a single one stays as it is."""
    if len(sets) == 1:
        return sets[0]
    source = Mixed(tuple(sets))
    return Dataset(source, tuple(range(len(source.frames))), part)


def mixed_parts(divided: Sequence[Parts]) -> Parts:
    """The parts of several data sets, each divided by itself, as one.

    A scene of one name in two sets counts as one scene: where one set holds it out, no other trains on it.
    """
    if len(divided) == 1:
        return divided[0]
    notes, trains, seen = list[str](), list[Dataset](), list[Dataset]()
    for parts in divided:
        location = parts.train.source.location
        held = {scene for other in divided if other is not parts for scene in other.unseen.scenes}
        kept, known = _without(parts.train, held), parts.seen and _without(parts.seen, held)
        if left_out := len(parts.train) - len(kept):
            notes.append(f"{location}: {left_out} frames of scenes that another data set holds out are not trained on.")
        if not len(kept):
            raise UsageError(
                f"Every scene of {location} has the name of a scene that another data set holds out; rename its scenes."
            )
        trains.append(kept)
        seen += [known] if known else []
        notes += [f"{location}: {sentence}" for sentence in parts.notes]
    return Parts(
        mixed(trains, "train"),
        mixed(seen, "seen rooms") if seen else None,
        mixed([parts.unseen for parts in divided], "unseen rooms"),
        tuple(notes),
        tuple(len(one) for one in trains),
    )


def _without(data: Dataset, scenes: set[str]) -> Dataset:
    return data.of_scenes([scene for scene in data.scenes if scene not in scenes])


def shares(weights: Sequence[float], lengths: Sequence[int]) -> list[float]:
    """Each data set's share of the draws: `weights` divided by their sum, or its share of the frames without any.

    Raises:
        UsageError: there is not one positive weight for each data set.
    """
    if weights and len(weights) != len(lengths):
        data = "data set is given" if len(lengths) == 1 else "data sets are given"
        raise UsageError(
            f"--weights names {len(weights)}, and {len(lengths)} {data}; name one for each, such as 0.7,0.3."
        )
    chosen = list(weights) or [float(length) for length in lengths]
    return [weight / sum(chosen) for weight in chosen]


def allotted(shares: Sequence[float], draws: int) -> list[int]:
    """`draws` divided by `shares` into whole numbers: rounded down, the rest to the largest remainders."""
    exact = [share * draws for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: counts[place] - exact[place])
    for place in by_remainder[: draws - sum(counts)]:
        counts[place] += 1
    return counts


def interleaved(counts: Sequence[int], mixing: torch.Generator) -> Int[Tensor, " draws"]:
    """Which set each draw of an epoch takes a frame of: set k at ``counts[k]`` of them, in random order."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=mixing)]
