"""Openers of the encoder kinds that are about modules of the user's own, and about controls of any kind."""

from __future__ import annotations

from fathom.encoders import open_encoder
from fathom.encoders.base import Encoder
from fathom.encoders.module import ModuleEncoder, build
from fathom.encoders.randomised import randomised
from fathom.encoders.spec import Spec, parse
from fathom.errors import UsageError
from fathom.sample import Grid


def open_module(spec: Spec, size: Grid, seed: int) -> Encoder:
    """``module:package.module:factory`` or ``module:file.py:factory``."""
    module, preprocess = build(spec, int(spec.options.get("seed", seed)))
    return ModuleEncoder(spec.text, module, spec.layers, preprocess, size)


def _control(spec: Spec, size: Grid, seed: int, permute: bool) -> Encoder:
    inner = open_encoder(spec.inner, size=size, seed=seed)
    if not isinstance(inner, ModuleEncoder):
        raise UsageError(f"'{spec.text}': {spec.inner} has no weights to make random.")
    return randomised(inner, spec.text, int(parse(spec.inner).options.get("seed", seed)), permute)


def open_random(spec: Spec, size: Grid, seed: int) -> Encoder:
    """``random:SPEC``: the architecture of SPEC with fresh weights."""
    return _control(spec, size, seed, permute=False)


def open_permuted(spec: Spec, size: Grid, seed: int) -> Encoder:
    """``permuted:SPEC``: the weights of SPEC, shuffled inside each tensor."""
    return _control(spec, size, seed, permute=True)
