"""Pictures of an evaluation: its best and worst frames, and error against true depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fathom.media.colour import DEPTH_MAP, ERROR_MAP, UNKNOWN, shared_range
from fathom.report.figures import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from fathom.evaluation.by_depth import Band
    from fathom.evaluation.result import Evaluation, Shown

COLUMNS = ("image", "truth", "prediction", "error")
MOST_LETTERS = 24
"""Of a frame's name: its end, which tells frames apart."""
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
    scale = shared_range([*truths, *(frame.prediction.numpy() for frame in shown)])
    most = max(shared_range([np.abs(gap) for gap in gaps])[1], 1e-3)
    aspect = max(truth.shape[0] / truth.shape[1] for truth in truths)
    width = 2.6 / max(1.0, aspect**0.5)
    figure = Figure(figsize=(4 * width + 0.5, width * aspect * len(shown) + 1.2), layout="constrained")
    grid = figure.add_gridspec(len(shown) + 1, 4, height_ratios=[width * aspect] * len(shown) + [0.1])
    best = len(shown) // 2  # the worst are as many, or one more
    for index, frame in enumerate(shown):
        row = [figure.add_subplot(grid[index, column]) for column in range(4)]
        depth, error = _frame(frame, row, scale, most)
        place = f"best {index + 1}" if index < best else f"worst {len(shown) - index}"
        row[0].set_ylabel(_label(frame, place), fontsize=7.5)
        if index == 0:
            for title, axes in zip(COLUMNS, row, strict=True):
                axes.set_title(title, fontsize=10)
    for image, columns, label in ((depth, slice(1, 3), "depth in metres"), (error, 3, "prediction − truth, metres")):
        figure.colorbar(image, cax=figure.add_subplot(grid[-1, columns]), orientation="horizontal", label=label)
    figure.suptitle(
        f"Best and worst of {len(evaluation.scored)} frames by AbsRel, protocol {evaluation.protocol.name}; "
        "grey does not count",
        fontsize=10,
    )
    return save(figure, path)


def _label(frame: Shown, place: str) -> str:
    metrics, name = frame.score.metrics, frame.score.id
    name = name if len(name) <= MOST_LETTERS else f"…{name[-MOST_LETTERS:]}"
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
