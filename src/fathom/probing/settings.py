"""`ProbeSettings`: everything but the data, the encoders and the features that determines a probe run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fathom.errors import UsageError, nearest
from fathom.probing.linear.ridge import PATH
from fathom.sample import Grid

BASELINES = ("constant", "position", "pixels", "pixels+position", "patch")
"""What every encoder is compared with unless told otherwise, in addition to the mean map: see docs/method.md."""

CONTROLS = 5
"""Seeds of the same architecture with random weights, each an encoder of its own in the run."""


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Settings of a probe run, saved whole in the evidence.

    Attributes:
        size: input (height, width) in pixels; by default the short side is brought to at most 240.
        grid: the probe's grid (height, width); by default one cell for 8 x 8 pixels of input.
        baselines: what every encoder is compared with.
        controls: seeds of each encoder's architecture with random weights that it is compared with; with 0 the permuted weights
            are left out as well, which makes a verdict weaker.
        protocol: of the full-resolution metrics; by default what suits the test data.
        seed: of the split, the folds, the controls and everything else that is random.
        folds: of the cross-validation over training scenes that chooses λ and layer.
        penalties: values of λ that are tried.
        heads: ``mlp`` or ``bins``, trained in addition to the linear probes; see docs/heads.md.
        banded: fit the concatenation of layers with a penalty for each; None does so up to 512 channels.
        label_curve: loss against the number of training scenes, and description length; None does so up to 512 channels.
        cues: alterations of the test images that every probe is tested on: True for all, or names; see docs/cues.md.
        each_layer: also decide on every layer of each encoder; p-values are then corrected over layers too, the verdicts on the
            chosen layers as without it.
        skip_bad: leave out frames that cannot be read, and say so in the notes.
        pictures: test frames to keep predictions of, for the picture.
        batch_size: frames encoded at once; changes no number by more than rounding.
        device: where it is computed. workers: processes that read frames; 0 reads in this one.
        cache: folder in which moments, and features for the heads, are kept for the next run.
    """

    size: Grid | None = None
    grid: Grid | None = None
    baselines: tuple[str, ...] = BASELINES
    controls: int = CONTROLS
    protocol: str | None = None
    seed: int = 0
    folds: int = 5
    penalties: tuple[float, ...] = PATH
    heads: tuple[str, ...] = ()
    banded: bool | None = None
    label_curve: bool | None = None
    cues: bool | tuple[str, ...] = False
    each_layer: bool = False
    skip_bad: bool = False
    pictures: int = 4
    batch_size: int = 16
    device: str = "cpu"
    workers: int = 0
    cache: str | None = None

    def __post_init__(self) -> None:
        for name in ("size", "grid"):
            pair = getattr(self, name)
            if pair is not None and not (len(pair) == 2 and all(isinstance(side, int) and side > 0 for side in pair)):
                raise UsageError(f"'{name}' is (height, width) with two whole numbers above 0, not {pair}.")
        for name, least in (("folds", 2), ("batch_size", 1), ("controls", 0), ("pictures", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"'{name}' must be at least {least}, not {getattr(self, name)}.")
        if not self.penalties or not all(0 < value < float("inf") for value in self.penalties):
            raise UsageError("'penalties' are one or more finite values above 0.")

    def changed(self, changes: Mapping[str, Any]) -> ProbeSettings:
        """The same settings with some of them changed, by name; lists become tuples, and paths text."""
        known = [item.name for item in fields(self)]
        for name in changes:
            if name not in known:
                raise UsageError(f"A probe has no setting '{name}'{nearest(name, known)}.")
        return replace(self, **{name: _plain(value) for name, value in changes.items()})

    @property
    def input_size(self) -> Grid:
        """The size of a run that is planned."""
        assert self.size is not None
        return self.size

    @property
    def cells(self) -> Grid:
        """The grid of a run that is planned."""
        assert self.grid is not None
        return self.grid


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
