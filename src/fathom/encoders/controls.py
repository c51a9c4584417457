"""Openers of ``random:SPEC`` and ``permuted:SPEC``: an encoder's architecture without what it has learned."""

from __future__ import annotations

from fathom.encoders import open_encoder
from fathom.encoders.base import Encoder
from fathom.encoders.spec import Spec, parse
from fathom.errors import UsageError
from fathom.sample import Grid


def open_random(spec: Spec, size: Grid, seed: int) -> Encoder:
    """``random:SPEC``: the architecture of SPEC with fresh weights."""
    inner, seed = _inner(spec, size, seed)
    return _named(inner.random_copy(seed), spec)


def open_permuted(spec: Spec, size: Grid, seed: int) -> Encoder:
    """``permuted:SPEC``: the weights of SPEC, shuffled inside each tensor."""
    inner, seed = _inner(spec, size, seed)
    return _named(inner.permuted_copy(seed), spec)


def _inner(spec: Spec, size: Grid, seed: int) -> tuple[Encoder, int]:
    inner = open_encoder(spec.inner, size=size, seed=seed)
    return inner, int(parse(spec.inner).options.get("seed", seed))


def _named(made: Encoder | str, spec: Spec) -> Encoder:
    if isinstance(made, str):
        raise UsageError(f"'{spec.text}': {made}.")
    made.name = spec.text
    return made
