"""Frozen image -> feature maps: baselines, hubs, modules, checkpoints, and their random controls."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch

from fathom.encoders.base import Encoder as Encoder
from fathom.encoders.spec import Spec, parse, split_alias
from fathom.errors import UsageError, nearest
from fathom.sample import Grid

ENCODERS = {
    "hf": "fathom.encoders.hub.transformers:open_hub",
    "timm": "fathom.encoders.hub.timm:open_timm",
    "module": "fathom.encoders.module:open_module",
    "checkpoint": "fathom.encoders.checkpoint:open_checkpoint",
    "random": "fathom.encoders.controls:open_random",
    "permuted": "fathom.encoders.controls:open_permuted",
}
"""kind -> ``module:function`` called with (spec, size, seed); imported when used."""


def as_encoder(thing: str | Encoder | torch.nn.Module, *, size: Grid | None = None, seed: int = 0) -> Encoder:
    """A SPEC, an encoder or a plain module as an encoder; see `open_encoder` and `Encoder.from_module`."""
    if isinstance(thing, str):
        return open_encoder(thing, size=size, seed=seed)
    if isinstance(thing, torch.nn.Module):
        return Encoder.from_module(thing)
    if not isinstance(thing, Encoder):
        raise UsageError(
            f"An encoder is a SPEC, a fathom.Encoder or a torch.nn.Module, not {type(thing).__name__}; "
            "fathom.Encoder.from_module(net) makes one of a module."
        )
    return thing


def open_encoder(spec: str, *, size: Grid | None = None, seed: int = 0) -> Encoder:
    """The frozen encoder that `spec` names; see docs/encoders.md for the grammar.

    Args:
        spec: such as ``pixels``, ``hf:facebook/convnext-tiny-224@stage2,stage4`` or ``random:checkpoint:runs/ae``; with
            ``NAME=`` before it, the encoder is called NAME.
        size: (height, width) of the images to come; some encoders look for their layers at it.
        seed: of random weights, unless the spec has ``seed=``.
    """
    alias, spec = split_alias(spec)
    encoder = _open(spec, size or (224, 224), seed)
    if alias is not None:
        encoder.name = alias
    return encoder


def _open(spec: str, size: Grid, seed: int) -> Encoder:
    from fathom.encoders.baselines import BASELINES, open_baseline

    baseline = open_baseline(spec)
    if baseline is not None:
        return baseline
    parsed = parse(spec)
    if parsed.kind not in ENCODERS:
        raise UsageError(f"There is no encoder '{spec}'{nearest(parsed.kind, [*BASELINES, *ENCODERS])}.")
    if not parsed.body:
        raise UsageError(f"Encoder '{spec}' names nothing after '{parsed.kind}:'.")
    module, _, name = ENCODERS[parsed.kind].partition(":")
    opener: Callable[[Spec, Grid, int], Encoder] = getattr(importlib.import_module(module), name)
    return opener(parsed, size, seed)
