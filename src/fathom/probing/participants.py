"""Who takes part in a run: the encoders asked for, the baselines, and the controls of each encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.encoders import open_encoder
from fathom.encoders.base import Encoder
from fathom.encoders.module import ModuleEncoder
from fathom.encoders.randomised import randomised
from fathom.encoders.spec import parse
from fathom.errors import UsageError
from fathom.probing.linear.design import Design, Placed
from fathom.probing.linear.moments import Moments
from fathom.probing.settings import ProbeSettings
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
    """

    encoder: Encoder
    role: Role
    design: Design | None = None
    moments: dict[str, Moments] = field(default_factory=dict)
    witness: Float[Tensor, "p"] | None = None

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


def open_participants(encoders: Sequence[str | Encoder], settings: ProbeSettings) -> list[Participant]:
    """Open everything that takes part. A baseline that is also named as an encoder takes part once.

    With `settings.controls`, every encoder that has weights is joined by that many copies of its architecture with random
    weights, seeds `seed`, `seed` + 1 ..., and by one copy with its own weights permuted. One that was named takes part once.
    """
    named = [*settings.baselines, *(item for item in encoders if item not in settings.baselines)]
    opened = [_ready(item, settings) for item in named]
    names = [encoder.name for encoder in opened]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Encoder {name} is named twice.")
    participants = [Participant(encoder, role_of(encoder, settings.seed)) for encoder in opened]
    taken = {(item.encoder.name, item.role.seed) for item in participants}
    copies = [("random", settings.seed + step) for step in range(settings.controls)]
    copies += [("permuted", settings.seed)] if settings.controls else []
    for given, participant in zip(named, list(participants), strict=True):
        encoder = participant.encoder
        if participant.role.name != "encoder" or not isinstance(encoder, ModuleEncoder):
            continue
        for kind, own in copies:
            if (f"{kind}:{encoder.name}", own) not in taken:
                participants.append(_control(encoder, given, kind, own, settings))
    return participants


def _ready(given: str | Encoder, settings: ProbeSettings) -> Encoder:
    """The encoder, opened, on the device; baselines have no grid of their own and work on the probe's."""
    encoder = open_encoder(given, seed=settings.seed, size=settings.input_size) if isinstance(given, str) else given
    place = getattr(encoder, "on_grid", None)
    placed: Encoder = place(settings.cells) if place is not None else encoder
    return placed.to(settings.device)


def _control(
    encoder: ModuleEncoder, given: str | Encoder, kind: str, seed: int, settings: ProbeSettings
) -> Participant:
    """The same architecture without what was learned: opened again by its SPEC, or a copy of the object that was given."""
    fresh = open_encoder(given, size=settings.input_size) if isinstance(given, str) else copy.deepcopy(encoder)
    assert isinstance(fresh, ModuleEncoder)
    control = randomised(fresh, f"{kind}:{encoder.name}", seed, permute=kind == "permuted").to(settings.device)
    return Participant(control, Role(kind, encoder.name, seed))


def role_of(encoder: Encoder, seed: int) -> Role:
    """What an encoder that was named takes part as: a baseline, a random control, or itself."""
    kind, _, inner = encoder.name.partition(":")
    if kind in ("random", "permuted"):
        return Role(kind, inner, int(parse(inner).options.get("seed", seed)))
    return Role("baseline" if encoder.baseline else "encoder")


def check_fair(participants: Sequence[Participant], test: Dataset) -> list[str]:
    """Notes on encoders that have seen test images; raises `UsageError` on one that was trained with their depth."""
    notes = []
    for participant in participants:
        encoder = participant.encoder
        scenes: tuple[str, ...] = getattr(encoder, "train_scenes", ())
        if participant.role.name != "encoder" or not scenes:
            continue
        assert isinstance(encoder, ModuleEncoder)
        name = encoder.name
        if getattr(encoder.module, "predicts", "") != "image":
            refuse_seen(f"Encoder {name}", scenes, test)
            notes.append(f"{name} was trained with depth on other scenes: it is no evidence of implicit learning.")
        elif seen := set(scenes) & set(test.scenes):
            notes.append(
                f"{name} was trained on the images, not the depth, of {len(seen)} of the {len(test.scenes)} test scenes."
            )
    return notes


def refuse_seen(who: str, train_scenes: Sequence[str], test: Dataset) -> None:
    """Raise `UsageError` where a network trained with depth has seen test scenes."""
    seen = sorted(set(train_scenes) & set(test.scenes))
    if seen:
        raise UsageError(
            f"{who} was trained on {len(seen)} of the {len(test.scenes)} test scenes (such as '{seen[0]}'), so its score "
            "would be memory; test on scenes it has not seen (--test, --split), or train it on the training part."
        )
