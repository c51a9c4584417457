"""Who takes part in a run: the encoders asked for, the baselines, and the controls of each encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from fathom.data.dataset import Dataset
from fathom.encoders import as_encoder
from fathom.encoders.base import Encoder
from fathom.errors import UsageError
from fathom.probing.linear.design import Design, Placed
from fathom.probing.linear.moments import Moments
from fathom.probing.plan import WIDEST, Blocks
from fathom.probing.settings import ProbeSettings
from fathom.progress import count
from fathom.sample import Grid

ALL = "all"
"""Name of the concatenation of an encoder's layers."""


@dataclass(frozen=True)
class Role:
    """What a participant is in the comparison.

    Attributes:
        name: ``encoder``, ``baseline``, ``random``, ``permuted``, ``head`` or ``upper_bound``.
        of: the SPEC of the encoder it is a control of, if of one.
        seed: of its weights, if they are random.
    """

    name: str
    of: str | None = None
    seed: int | None = None


@dataclass(eq=False)
class Participant:
    """An encoder in a run.

    Attributes:
        encoder, role: what it is, and what it takes part as.
        design: its columns on the probe's grid, fixed by the first batch that it sees.
        moments: of the training frames, by the name of the target group.
        witness: mean of each column over the first training frame, by which a cache notices that the encoder has changed.
        planned: blocks of training scenes that its moments are kept in.
    """

    encoder: Encoder
    role: Role
    design: Design | None = None
    moments: dict[str, Moments] = field(default_factory=dict)
    witness: Float[Tensor, "p"] | None = None
    planned: Blocks | None = None

    def plan(self, blocks: Blocks) -> None:
        """Choose the blocks its moments are kept in: those of the run, or one a fold where it is wide or a control.

        What is chosen depends on this participant alone.
        """
        coarse = self.role.name in ("random", "permuted") or self.columns.channels > WIDEST
        self.planned = blocks.by_fold() if coarse else blocks

    @property
    def blocks(self) -> Blocks:
        """The blocks its moments are kept in."""
        assert self.planned is not None
        return self.planned

    def place(self, images: Float[Tensor, "B 3 H W"], grid: Grid) -> Placed:
        """Encode a batch and lay the maps out on the probe's grid."""
        maps = self.encoder.encode(images)
        if self.design is None:
            self.design = Design(self.encoder.name, grid, maps)
        return self.design.place(maps)

    @property
    def columns(self) -> Design:
        """The design, which the first batch has fixed."""
        assert self.design is not None
        return self.design

    @property
    def layers(self) -> dict[str, slice]:
        """Columns of each probed layer, the concatenation last where there is more than one layer."""
        slices = {layer: self.columns.slices[layer] for layer in self.encoder.layers}
        if len(slices) > 1:
            slices[ALL] = slice(0, self.columns.channels)
        return slices


def open_participants(
    encoders: Sequence[str | Encoder | nn.Module], settings: ProbeSettings, notes: list[str]
) -> list[Participant]:
    """Open everything that takes part. A baseline that is also named as an encoder takes part once.

    With `settings.controls`, every encoder that has weights is joined by that many copies of its architecture with random
    weights, seeds `seed`, `seed` + 1 ..., and by one copy with its own weights permuted. One that was named takes part once.
    Why an encoder has no copy is added to `notes`.
    """
    named = [*settings.baselines, *(item for item in encoders if item not in settings.baselines)]
    size, cells = settings.input_size, settings.cells
    opened = [as_encoder(item, seed=settings.seed, size=size).on_grid(cells).to(settings.device) for item in named]
    names = [encoder.name for encoder in opened]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"Two encoders are called {name}; name them apart (NAME=SPEC, or from_module(..., name=))."
            )
    participants = [Participant(encoder, role_of(encoder)) for encoder in opened]
    taken = {(item.encoder.name, item.role.seed) for item in participants}
    copies = [("random", settings.seed + step) for step in range(settings.controls)]
    copies += [("permuted", settings.seed)] if settings.controls else []
    for encoder in [item.encoder for item in participants if item.role.name == "encoder"]:
        for kind, own in copies:
            if (f"{kind}:{encoder.name}", own) in taken:
                continue
            made = encoder.random_copy(own) if kind == "random" else encoder.permuted_copy(own)
            if isinstance(made, str):
                notes.append(f"No control with {kind} weights: {made}.")
                break
            participants.append(Participant(made.to(settings.device), role_of(made)))
    return participants


def role_of(encoder: Encoder) -> Role:
    """What an encoder that was named takes part as: a baseline, a control of another encoder, or itself."""
    if encoder.control is not None:
        return Role(encoder.control.kind, encoder.control.of, encoder.control.seed)
    return Role("baseline" if encoder.baseline else "encoder")


def check_fair(participants: Sequence[Participant], test: Dataset) -> list[str]:
    """Notes on encoders that have seen test images; raises `UsageError` on one that was trained with their depth."""
    notes = []
    for participant in participants:
        name, trained = participant.encoder.name, participant.encoder.training()
        if participant.role.name != "encoder":
            continue
        if trained.depth:
            refuse_seen(f"Encoder {name}", trained.scenes, test)
            where = "with depth on other scenes" if trained.scenes else "to predict depth"
            notes.append(f"{name} was trained {where}: it is no evidence of implicit learning.")
        elif seen := set(trained.scenes) & set(test.scenes):
            notes.append(
                f"{name} was trained on the images, not the depth, of {len(seen)} of {count(len(test.scenes), 'test scene')}."
            )
    return notes


def refuse_seen(who: str, train_scenes: Sequence[str], test: Dataset) -> None:
    """Raise `UsageError` where a network trained with depth has seen test scenes."""
    seen = sorted(set(train_scenes) & set(test.scenes))
    if seen:
        raise UsageError(
            f"{who} was trained on {len(seen)} of {count(len(test.scenes), 'test scene')} (such as '{seen[0]}'), so its score "
            "would be memory; test on scenes it has not seen (--test, --split), or train it on the training part."
        )
