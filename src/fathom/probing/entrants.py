"""Who takes part in a run: the encoders asked for, the floors, and the controls of each encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fathom.encoders.base import Encoder
from fathom.errors import UsageError
from fathom.probing.candidates import Role
from fathom.sample import Grid

FLOORS = ("constant", "position", "pixels", "pixels+position", "patch")
"""What every encoder is held against unless told otherwise, beside the mean map: see docs/method.md."""


@dataclass(frozen=True)
class Entrant:
    """An opened encoder and its role."""

    encoder: Encoder
    role: Role


def enter(
    encoders: Sequence[str | Encoder],
    floors: Sequence[str],
    grid: Grid,
    *,
    size: Grid,
    seed: int,
    device: str,
) -> list[Entrant]:
    """Open everything that takes part. A floor that is also named as an encoder takes part once."""
    from fathom.encoders import open_encoder

    def ready(given: str | Encoder) -> Encoder:
        encoder = open_encoder(given, seed=seed, size=size) if isinstance(given, str) else given
        # Floors have no grid of their own: they work on the probe's.
        place = getattr(encoder, "on_grid", None)
        placed: Encoder = place(grid) if place is not None else encoder
        return placed.to(device)

    named = [*floors, *(item for item in encoders if item not in floors)]
    opened = [ready(item) for item in named]
    names = [encoder.name for encoder in opened]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Encoder {name} is named twice.")
    return [Entrant(encoder, role_of(encoder)) for encoder in opened]


def role_of(encoder: Encoder) -> Role:
    """What an encoder that was named takes part as: a floor, a random control, or itself."""
    kind, _, inner = encoder.name.partition(":")
    if kind in ("random", "permuted"):
        return Role(kind, inner)
    return Role("floor" if encoder.floor else "encoder")
