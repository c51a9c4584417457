"""Pictures of an evaluation: its best and worst frames, and error against true depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from fathom.report.colour import DEPTH_MAP, ERROR_MAP, UNKNOWN, shared_range
from fathom.report.figures import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from fathom.evaluation.by_depth import Band
    from fathom.evaluation.result import Evaluation, Shown

COLUMNS = ("image", "truth", "prediction", "error")
BIAS, RMSE = "#1f5a99", "#c4502b"


def draw(evaluation: Evaluation, out: str | Path) -> list[Path]:
    """Write ``worst_best.png`` and ``error_by_depth.png`` into folder `out`."""
    drawn = [worst_best(evaluation, Path(out) / "worst_best.png")] if evaluation.shown else []
    return [*drawn, error_by_depth(evaluation, Path(out) / "error_by_depth.png")]


def worst_best(evaluation: Evaluation, path: str | Path) -> Path:
    """The best frames above the worst: image, truth, prediction and error, each in one scale for all."""
    from matplotlib.figure import Figure

    shown = evaluation.shown
    truths = [frame.truth.numpy() for frame in shown]
    gaps = [frame.prediction.numpy() - truth for frame, truth in zip(shown, truths, strict=True)]
    low, high = shared_range(truths)
    most = max(float(np.nanquantile(np.abs(np.concatenate([gap.ravel() for gap in gaps])), 0.99)), 1e-3)
    aspect = max(truth.shape[0] / truth.shape[1] for truth in truths)
    figure = Figure(figsize=(11.0, 2.3 * aspect * len(shown) + 1.5), layout="constrained")
    grid = figure.subplots(len(shown), 4, squeeze=False)
    for title, axes in zip(COLUMNS, grid[0], strict=True):
        axes.set_title(title, fontsize=10)
    middle = _best(evaluation)
    depth = error = None
    for index, (frame, row) in enumerate(zip(shown, grid, strict=True)):
        depth, error = _frame(frame, row, (low, high), most)
        row[0].set_ylabel(_label(frame, index, middle, len(shown)), fontsize=7.5)
    assert depth is not None and error is not None
    for image, columns, label in (
        (depth, grid[:, 1:3], "depth in metres"),
        (error, grid[:, 3:], "prediction − truth, metres"),
    ):
        figure.colorbar(image, ax=columns, location="bottom", label=label, shrink=0.8, aspect=35, pad=0.01)
    figure.suptitle(
        f"Best and worst of {len(evaluation.scored)} frames by AbsRel, protocol {evaluation.protocol.name}; "
        "grey does not count",
        fontsize=10,
    )
    return save(figure, path)


def _best(evaluation: Evaluation) -> int:
    """How many of the shown frames are the best ones: the worst are as many or one more."""
    return len(evaluation.shown) // 2


def _label(frame: Shown, index: int, middle: int, count: int) -> str:
    place = f"best {index + 1}" if index < middle else f"worst {count - index}"
    metrics = frame.score.metrics
    name = shorten(f"{frame.score.id}", 26, placeholder="…")
    return f"{place}: {name}\nAbsRel {metrics['abs_rel']:.3f}  RMSE {metrics['rmse']:.2f} m"


def _frame(
    frame: Shown, row: Sequence[Axes], depth_range: tuple[float, float], most: float
) -> tuple[AxesImage, AxesImage]:
    """One row; returns what the colour bars need."""
    for axes in row:
        axes.set_facecolor(UNKNOWN)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    low, high = depth_range
    truth, prediction = frame.truth.numpy(), frame.prediction.numpy()
    row[0].imshow(frame.image.permute(1, 2, 0).numpy())
    row[1].imshow(truth, cmap=DEPTH_MAP, vmin=low, vmax=high)
    depth = row[2].imshow(prediction, cmap=DEPTH_MAP, vmin=low, vmax=high)
    return depth, row[3].imshow(prediction - truth, cmap=ERROR_MAP, vmin=-most, vmax=most)


def error_by_depth(evaluation: Evaluation, path: str | Path) -> Path:
    """Bias and RMSE against true depth with their 95 % intervals over scenes, above where the pixels are."""
    from matplotlib.figure import Figure

    bands = evaluation.by_depth
    figure = Figure(figsize=(7.5, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    depths = [band.depth for band in bands]
    above.axhline(0, color="0.6", linewidth=0.8)
    _line(above, depths, [b.rmse for b in bands], [b.rmse_interval for b in bands], RMSE, "RMSE")
    _line(above, depths, [b.bias for b in bands], [b.bias_interval for b in bands], BIAS, "mean of prediction − truth")
    above.set_ylabel("metres")
    above.legend(frameon=False, fontsize=9)
    above.set_title(_heading(evaluation), fontsize=10)
    widths = [band.farthest - band.nearest for band in bands]
    total = sum(band.pixels for band in bands)
    density = [band.pixels / total / width for band, width in zip(bands, widths, strict=True)]
    below.bar([b.nearest for b in bands], density, widths, align="edge", color="0.7", edgecolor="white", linewidth=0.4)
    below.set_ylabel("pixels per metre,\nshare of all", fontsize=8)
    below.set_xlabel("true depth in metres")
    _depth_axis(below, bands)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return _saved(figure, path)


def _saved(figure: Figure, path: str | Path) -> Path:
    return save(figure, path, dpi=130)


def _heading(evaluation: Evaluation) -> str:
    intervals = any(band.bias_interval for band in evaluation.by_depth)
    return f"Error against true depth, {len(evaluation.scored)} frames, protocol {evaluation.protocol.name}" + (
        "; bands: 95 % over scenes" if intervals else ""
    )


def _line(
    axes: Axes,
    depths: Sequence[float],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    colour: str,
    label: str,
) -> None:
    axes.plot(depths, values, color=colour, marker="o", markersize=3, linewidth=1.5, label=label)
    known = [(x, *bounds) for x, bounds in zip(depths, intervals, strict=True) if bounds is not None]
    if known:
        x, low, high = zip(*known, strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _depth_axis(axes: Axes, bands: Sequence[Band]) -> None:
    """Logarithmic where depths span more than a factor of thirty, as outdoors."""
    if bands[-1].depth > 30 * bands[0].depth:
        axes.set_xscale("log")
        axes.set_xlim(bands[0].nearest, bands[-1].farthest)
    else:
        axes.set_xlim(0, bands[-1].farthest)
