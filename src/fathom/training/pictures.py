"""The picture at the end of a training: unseen frames, their truth and what the network makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fathom.atomic import atomic_path
from fathom.models.network import Network
from fathom.sample import Batch
from fathom.training.summary import UNITS
from fathom.training.targets import target_of


def draw(network: Network, batch: Batch, prediction: Tensor, path: Path) -> None:
    """Draw image, truth and prediction of every frame of `batch` in one scale, as a PNG at `path`."""
    from matplotlib.figure import Figure

    target, valid = target_of(network, batch.image, batch.depth, batch.valid)
    is_image = network.predicts == "image"
    headings = ("image", "reconstruction", "error") if is_image else ("image", "truth", "prediction", "error")
    rows = len(batch.ids)
    figure = Figure(figsize=(2.6 * len(headings) + 0.8, 2.1 * rows), layout="constrained")
    axes: Any = figure.subplots(rows, len(headings), squeeze=False)
    for axis, heading in zip(axes[0], headings, strict=True):
        axis.set_title(heading, fontsize=10)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    if is_image:
        _images(axes, batch.image, prediction, figure)
    else:
        _maps(axes, batch.image, target, valid, prediction, figure, UNITS[network.predicts])
    for axis, name in zip(axes[:, 0], batch.ids, strict=True):
        axis.set_ylabel(name[-24:], fontsize=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _images(axes: Any, image: Tensor, prediction: Tensor, figure: Any) -> None:
    shown = None
    for row, original, made in zip(axes, image, prediction.clamp(0, 1), strict=True):
        row[0].imshow(_hwc(original))
        row[1].imshow(_hwc(made))
        shown = row[2].imshow((original - made).abs().mean(0).numpy(), cmap="magma", vmin=0, vmax=0.3)
    figure.colorbar(shown, ax=axes[:, -1], label="mean |error|", shrink=0.8)


def _maps(axes: Any, image: Tensor, target: Tensor, valid: Tensor, prediction: Tensor, figure: Any, unit: str) -> None:
    """Truth and prediction in one colour scale, from the 1st to the 99th percentile of the truth."""
    known = target[valid.expand_as(target)].numpy()
    low, high = (np.percentile(known, (1, 99)) if known.size else np.array([0.0, 1.0])).tolist()
    spread = max(high - low, 1e-6)
    shown = wrong = None
    for row, colours, t, v, p in zip(axes, image, target, valid, prediction, strict=True):
        row[0].imshow(_hwc(colours))
        truth = np.where(v[0].numpy(), _magnitude(t), np.nan)
        row[1].imshow(truth, cmap="turbo", vmin=low, vmax=high)
        shown = row[2].imshow(_magnitude(p), cmap="turbo", vmin=low, vmax=high)
        error = _magnitude(p) - truth
        wrong = row[3].imshow(error, cmap="coolwarm", vmin=-spread / 3, vmax=spread / 3)
    figure.colorbar(shown, ax=axes[:, 2], label=unit, shrink=0.8)
    figure.colorbar(wrong, ax=axes[:, 3], label=f"prediction − truth, {unit}", shrink=0.8)


def _magnitude(values: Tensor) -> np.ndarray[Any, Any]:
    """A map of one channel as it is, of several its length."""
    array: np.ndarray[Any, Any] = (values[0] if len(values) == 1 else values.norm(dim=0)).numpy()
    return array


def _hwc(image: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = image.permute(1, 2, 0).numpy()
    return array
