"""Frozen image -> feature maps: baselines, hubs, modules, checkpoints, and their random controls."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from fathom.encoders.base import Encoder as Encoder
from fathom.encoders.spec import Spec, parse
from fathom.errors import UsageError, nearest
from fathom.sample import Grid

ENCODERS = {
    "hf": "fathom.encoders.hub:open_hub",
    "timm": "fathom.encoders.timm_hub:open_timm",
    "module": "fathom.encoders.opening:open_module",
    "checkpoint": "fathom.encoders.checkpoint:open_checkpoint",
    "random": "fathom.encoders.opening:open_random",
    "permuted": "fathom.encoders.opening:open_permuted",
}
"""kind -> ``module:function`` called with (spec, size, seed); imported when used."""


def open_encoder(spec: str, *, size: Grid | None = None, seed: int = 0) -> Encoder:
    """The frozen encoder that `spec` names; see docs/encoders.md for the grammar.

    Args:
        spec: such as ``pixels``, ``hf:facebook/convnext-tiny-224@stage2,stage4`` or ``random:checkpoint:runs/ae``.
        size: (height, width) of the images to come; some encoders look for their layers at it.
        seed: of random weights, unless the spec has ``seed=``.
    """
    from fathom.encoders.baselines import BASELINES, open_baseline

    baseline = open_baseline(spec)
    if baseline is not None:
        return cast(Encoder, baseline)
    parsed = parse(spec)
    if parsed.kind not in ENCODERS:
        raise UsageError(f"There is no encoder '{spec}'{nearest(parsed.kind, [*BASELINES, *ENCODERS])}.")
    if not parsed.body:
        raise UsageError(f"Encoder '{spec}' names nothing after '{parsed.kind}:'.")
    module, _, name = ENCODERS[parsed.kind].partition(":")
    opener: Callable[[Spec, Grid, int], Encoder] = getattr(importlib.import_module(module), name)
    return opener(parsed, size or (224, 224), seed)
