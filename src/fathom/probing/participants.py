"""Who takes part in a run: the encoders asked for, the baselines, and the controls of each encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from fathom.data.dataset import Dataset
from fathom.encoders.base import Encoder
from fathom.encoders.module import ModuleEncoder
from fathom.encoders.spec import parse
from fathom.errors import UsageError
from fathom.probing.candidates import Role
from fathom.probing.upper_bound import refuse_seen
from fathom.sample import Grid

BASELINES = ("constant", "position", "pixels", "pixels+position", "patch")
"""What every encoder is compared with unless told otherwise, beside the mean map: see docs/method.md."""

CONTROLS = 5
"""Seeds of the same architecture with random weights, each an encoder of its own in the run."""


@dataclass(frozen=True)
class Entrant:
    """An opened encoder and its role."""

    encoder: Encoder
    role: Role


def enter(
    encoders: Sequence[str | Encoder],
    baselines: Sequence[str],
    grid: Grid,
    *,
    size: Grid,
    seed: int,
    device: str,
    controls: int = 0,
) -> list[Entrant]:
    """Open everything that takes part. A baseline that is also named as an encoder takes part once.

    With `controls`, every encoder that has weights is joined by that many copies of its architecture with random weights,
    seeds `seed`, `seed` + 1 ..., and by one copy with its own weights permuted. One that was named takes part once.
    """
    from fathom.encoders import open_encoder

    def ready(given: str | Encoder) -> Encoder:
        encoder = open_encoder(given, seed=seed, size=size) if isinstance(given, str) else given
        # Baselines have no grid of their own: they work on the probe's.
        place = getattr(encoder, "on_grid", None)
        placed: Encoder = place(grid) if place is not None else encoder
        return placed.to(device)

    named = [*baselines, *(item for item in encoders if item not in baselines)]
    opened = [ready(item) for item in named]
    names = [encoder.name for encoder in opened]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Encoder {name} is named twice.")
    entrants = [Entrant(encoder, role_of(encoder, seed)) for encoder in opened]
    taken = {(entrant.encoder.name, entrant.role.seed) for entrant in entrants}
    copies = [("random", seed + step) for step in range(controls)] + ([("permuted", seed)] if controls else [])
    for given, entrant in zip(named, list(entrants), strict=True):
        if entrant.role.name != "encoder" or not isinstance(entrant.encoder, ModuleEncoder):
            continue
        for kind, own in copies:
            if (f"{kind}:{entrant.encoder.name}", own) not in taken:
                entrants.append(_control(entrant.encoder, given, kind, own, size, device))
    return entrants


def _control(encoder: ModuleEncoder, given: str | Encoder, kind: str, seed: int, size: Grid, device: str) -> Entrant:
    """The same architecture without what was learned: opened again by its SPEC, or a copy of the object that was given."""
    from fathom.encoders import open_encoder
    from fathom.encoders.randomised import randomised

    fresh = open_encoder(given, size=size) if isinstance(given, str) else copy.deepcopy(encoder)
    assert isinstance(fresh, ModuleEncoder)
    control = randomised(fresh, f"{kind}:{encoder.name}", seed, permute=kind == "permuted").to(device)
    return Entrant(control, Role(kind, encoder.name, seed))


def role_of(encoder: Encoder, seed: int) -> Role:
    """What an encoder that was named takes part as: a baseline, a random control, or itself."""
    kind, _, inner = encoder.name.partition(":")
    if kind in ("random", "permuted"):
        return Role(kind, inner, int(parse(inner).options.get("seed", seed)))
    return Role("baseline" if encoder.baseline else "encoder")


def check_fair(entrants: Sequence[Entrant], test: Dataset) -> list[str]:
    """Notes on encoders that have seen test images; raises `UsageError` on one that was trained with their depth."""
    notes = []
    for entrant in entrants:
        scenes: tuple[str, ...] = getattr(entrant.encoder, "train_scenes", ())
        if entrant.role.name != "encoder" or not scenes:
            continue
        assert isinstance(entrant.encoder, ModuleEncoder)
        name = entrant.encoder.name
        if getattr(entrant.encoder.module, "predicts", "") != "image":
            refuse_seen(f"Encoder {name}", scenes, test)
            notes.append(f"{name} was trained with depth on other scenes: it is no evidence of implicit learning.")
        elif seen := set(scenes) & set(test.scenes):
            notes.append(
                f"{name} was trained on the images, not the depth, of {len(seen)} of the {len(test.scenes)} test scenes."
            )
    return notes
