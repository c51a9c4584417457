"""Contact sheet: images above their depth maps, so that a wrong pairing or unit is seen at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np

from fathom.errors import UsageError
from fathom.media.colour import DEPTH_MAP, UNKNOWN, shared_range
from fathom.report.figures import save
from fathom.sample import Sample


def contact_sheet(samples: Sequence[Sample], path: str | Path, *, columns: int = 6, title: str = "") -> Path:
    """Write a PNG of `samples`, `columns` a line, depth in one scale; grey is invalid."""
    from matplotlib.figure import Figure

    if not samples:
        raise UsageError("There is no readable frame to draw.")
    columns = min(columns, len(samples))
    lines = -(-len(samples) // columns)
    truths = [np.where(s.valid[0].numpy(), s.depth[0].numpy(), np.nan) for s in samples]
    low, high = shared_range(truths)
    tallest = max(s.image_size[0] / s.image_size[1] for s in samples)
    figure = Figure(figsize=(1.7 * columns + 0.8, 1.7 * tallest * 2 * lines + 0.3 * lines + 0.3), layout="constrained")
    grid = figure.subplots(2 * lines, columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    drawn = None
    for index, (sample, truth) in enumerate(zip(samples, truths, strict=True)):
        line, column = divmod(index, columns)
        above, below = grid[2 * line, column], grid[2 * line + 1, column]
        above.imshow(sample.float_image().permute(1, 2, 0).numpy()[:: _step(sample), :: _step(sample)])
        above.set_title(shorten(sample.id, 24, placeholder="…"), fontsize=6)
        below.axis("on")
        below.set_xticks([])
        below.set_yticks([])
        below.set_facecolor(UNKNOWN)
        drawn = below.imshow(truth, cmap=DEPTH_MAP, vmin=low, vmax=high)
    if drawn is not None:
        figure.colorbar(drawn, ax=grid, location="right", shrink=0.6, label="depth in metres", pad=0.01)
    if title:
        figure.suptitle(title, fontsize=8)
    return save(figure, path, dpi=130)


def _step(sample: Sample) -> int:
    """Show no more pixels than the sheet has."""
    return max(1, sample.image_size[1] // 400)
