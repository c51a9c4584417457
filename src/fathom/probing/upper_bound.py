"""The upper bound: a supervised network of Fathom's, measured on the probe's grid by the code that measures probes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.transforms import fit
from fathom.errors import UsageError
from fathom.features import Feature
from fathom.probing.candidates import Layer, ReadBatch, Role
from fathom.probing.passes import Support
from fathom.sample import Grid

if TYPE_CHECKING:
    from fathom.models.saved import Trained

FROM_DEPTH = ("fathom.features.depth", "fathom.features.surface")
"""Modules whose features are made of the depth map alone, and so can be made of a predicted one."""


class UpperBound:
    """The feature of the depth that a supervised network predicts, made by the same code as that of the true depth.

    The network sees each frame at the size it was trained at; its depth is brought to the frame's own size, and from there
    goes the way of the truth.
    """

    role = Role("upper_bound")

    def __init__(self, name: str, trained: Trained, kind: Support, size: Grid, grid: Grid, device: str) -> None:
        from fathom.evaluation.evaluate import Measure
        from fathom.metrics.protocols import PROTOCOLS

        self.encoder, self.kind = name, kind
        self._size, self._grid, self._device = size, grid, device
        self._measure = Measure(
            trained=trained,
            protocol=PROTOCOLS["native"],  # it only predicts here
            align=None,
            flip=False,
            size=trained.input_size,
            device=device,
        )
        outputs = kind.channels * (2 if kind.donors is not None else 1)
        unknown = torch.full((outputs,), torch.nan, dtype=torch.float64)
        self.layers = (Layer("prediction", 0, torch.zeros_like(unknown), unknown, unknown),)

    def predict(self, batch: ReadBatch) -> Float[Tensor, "B _ h w"]:
        """The feature of the predicted depth; the control task is not the upper bound's to solve, and repeats it."""
        pairs = [(fit(original, self._measure.size), original) for original in batch.originals]
        maps = []
        for (_, original), depth in zip(pairs, self._measure.predictions(pairs), strict=True):
            predicted = replace(original, depth=depth[None], valid=torch.isfinite(depth)[None])
            values, _ = self.kind.target(fit(predicted, self._size), self._grid)
            maps.append(values if self.kind.donors is None else torch.cat([values, values]))
        return torch.stack(maps).to(self._device)


def is_from_depth(feature: Feature) -> bool:
    """Whether a predicted depth map gives the feature."""
    return feature.to_depth is not None or feature.target.__module__ in FROM_DEPTH


def open_upper_bound(path: str | Path | Trained, test: Dataset) -> tuple[str, Trained]:
    """The network at `path` and its name in the table.

    Raises:
        UsageError: it was trained on scenes of the test part, so it would be no upper bound but a memory.
        CheckpointError: it is broken, or predicts no depth.
    """
    from fathom.depth_models.network import trained_depth_network

    trained = trained_depth_network(path)
    refuse_seen("The upper bound", trained.train_scenes, test)
    return f"upper-bound:{path if isinstance(path, str | Path) else trained.path}", trained


def refuse_seen(who: str, train_scenes: tuple[str, ...], test: Dataset) -> None:
    """Raise `UsageError` where a network trained with depth has seen test scenes."""
    seen = sorted(set(train_scenes) & set(test.scenes))
    if seen:
        raise UsageError(
            f"{who} was trained on {len(seen)} of the {len(test.scenes)} test scenes (such as '{seen[0]}'), so its score "
            "would be memory; test on scenes it has not seen (--test, --split), or train it on the training part."
        )
