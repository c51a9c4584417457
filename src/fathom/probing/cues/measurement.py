"""Cues: what a fitted probe relies on, from how its loss changes when a cue is taken out of the test frames.

The probes stay as they are; the test frames are altered (`fathom.probing.cues.alterations`), read by the same encoders, and measured
against the same truth, moved where the image is moved. For an encoder, a feature and an alteration, over test scenes s:

    change   Σ(E'_s − E_s) / Σn_s           E, E' squared error on the original and on the altered frames, n cells
    gain     Σ(M_s − E_s) / Σn_s            M the error of the training mean: what the probe knows; lost = change / gain
    shift    Σ(p' − p) / Σn                 mean change of the prediction at the same point of the scene

with p' the prediction on the altered frame and p that on the original, moved as the image is. These are ratios of sums over scenes,
paired within each; their intervals are those of `fathom.statistics`. Where the image is moved, the least squares of

    p' − μ ≈ moves (p − μ) + stays (q − μ)      q the prediction on the original left in place, μ the training mean

tell a probe that follows what it sees (moves 1, stays 0) from one that knows the place (0, 1), and either from one that is merely
disturbed (moves below 1, stays 0).
`fathom.probing.cues.rule` makes sentences of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.formats.rooms import variants_of
from fathom.data.loading import readable
from fathom.data.transforms import fit
from fathom.errors import DataError, UsageError, nearest
from fathom.probing import processes
from fathom.probing.candidates import Candidate
from fathom.probing.cues.alterations import ALTERATIONS, Alteration, Altered, Draw, rendered
from fathom.probing.cues.ledger import Ledger, View
from fathom.probing.cues.rule import sentence
from fathom.probing.evidence.records import Cue
from fathom.probing.reading import Batch, read_batches
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import frames_of_scenes
from fathom.sample import Sample

LOOKS = 32
"""Frames whose colours and light are lent to others, each of another test scene."""

ROLES = ("encoder", "baseline", "upper_bound")
"""Who is measured; random and permuted controls would cost as much again and are not asked about."""


@dataclass(frozen=True)
class Cues:
    """Every probe's cue profile, in the order measured."""

    cues: tuple[Cue, ...]

    def sentences(self, feature: str | None = None) -> dict[str, str]:
        """For each encoder one sentence on what its probe of `feature` (the first one measured) relies on; see docs/cues.md."""
        chosen = feature or (self.cues[0].feature if self.cues else "")
        grouped: dict[str, list[Cue]] = {}
        for cue in self.cues:
            if cue.feature == chosen:
                grouped.setdefault(cue.encoder, []).append(cue)
        return {encoder: sentence(own) for encoder, own in grouped.items()}


def measure_cues(
    candidates: Sequence[Candidate],
    means: Mapping[str, Float[Tensor, "q"]],
    test: Dataset,
    settings: ProbeSettings,
    *,
    roles: Sequence[str] = ROLES,
) -> Cues:
    """Measure fitted probes on altered test frames, each at its chosen layer, for each of its features.

    One pass over the frames: a batch is encoded once as it is and once for each alteration. What is kept are sums by scene, so
    memory does not grow with the number of frames. Rooms that were re-rendered are measured on the re-renderings too.

    Args:
        candidates: fitted on the training frames; encoders that no measured candidate needs are not run.
        means: training mean of each target group.
        test: the test frames.
        settings: of the run; `settings.cues` names the alterations, all by default.
        roles: of the candidates that are measured; baselines that see nothing (constant) are left out.

    Raises:
        UsageError: for an unknown alteration.
    """
    measured = [item for item in candidates if item.role.name in roles and _sees(item)]
    alterations = choose_alterations(test, settings)
    draw = Draw.of(_looks(test, settings), settings.seed)
    scenes = {scene: index for index, scene in enumerate(test.scenes)}
    ledger = Ledger(measured, alterations, means, len(scenes))
    # Frames that cannot be read were named by the pass that measured the loss.
    frames = test.subset(processes.share(range(len(test))))
    for batch in read_batches(frames, settings, f"altering {len(frames)} test frames in {len(alterations)} ways"):
        # Probes were fitted on frames at the input size, and what is altered is altered there.
        original = View.of(Batch(batch.samples, batch.samples, settings), measured)
        ledger.add_original(original, [scenes[sample.scene] for sample in batch.samples])
        for alteration in alterations:
            made = [_apply(alteration, sample, draw, settings) for sample in batch.samples]
            index = [position for position, item in enumerate(made) if item is not None]
            if not index:
                continue
            altered = [item for item in made if item is not None]
            before = original.at(index)
            target = before.moved(alteration) if alteration.moves_target else None
            seen = [item.sample for item in altered]
            after = View.of(Batch(seen, seen, settings), measured, target)
            rows = [scenes[batch.samples[position].scene] for position in index]
            ledger.add(alteration, before, after, altered, rows)
    processes.add((*ledger.whole.values(), *ledger.sums.values()))
    return Cues(tuple(ledger.cues()))


def _sees(item: Candidate) -> bool:
    """Whether the candidate has anything to go by; an upper bound has no column of its own and sees all the same."""
    return item.role.name == "upper_bound" or any(layer.channels for layer in item.layers)


def choose_alterations(test: Dataset, settings: ProbeSettings) -> list[Alteration]:
    """The alterations that `settings.cues` asks for and that can be made of `test`."""
    names = settings.cues if isinstance(settings.cues, tuple) else None
    exact = [rendered(variant, frames, settings.input_size) for variant, frames in variants_of(test).items()]
    known = {**ALTERATIONS, **{made.name: made for made in exact}}
    for name in names or ():
        if name not in known:
            raise UsageError(f"There is no alteration '{name}' of these frames{nearest(name, known)}.")
    chosen = [known[name] for name in dict.fromkeys(names)] if names is not None else list(known.values())
    # With one scene there is no other to borrow from.
    return [item for item in chosen if len(test.scenes) > 1 or not item.borrows]


def _looks(test: Dataset, settings: ProbeSettings) -> Iterator[Sample]:
    positions = frames_of_scenes(test, LOOKS, settings.seed)
    return (fit(sample, settings.input_size) for sample in readable(test, positions, settings.skip_bad))


def _apply(alteration: Alteration, sample: Sample, draw: Draw, settings: ProbeSettings) -> Altered | None:
    try:
        return alteration.apply(sample, draw, settings.cells)
    except DataError:  # of a re-rendered frame
        if not settings.skip_bad:
            raise
        return None
