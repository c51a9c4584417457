"""Draw docs/images/rooms.png: frames of the embedded rooms with depth and normals, and one frame in all its variants.

python scripts/draw_rooms.py docs/images/rooms.png
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fathom.data.sources import load
from fathom.media.colour import DEPTH_MAP, shared_range
from fathom.render import VARIANTS
from fathom.report.images.sheet import save
from fathom.sample import Sample

FRAMES = ("room_0018/0", "room_0031/2", "room_0024/3", "room_0047/1", "room_0090/0", "room_0103/2")
VARIED = "room_0003/2"


def frame(spec: str, name: str) -> Sample:
    """The frame called `name` of the data that `spec` names."""
    data = load(spec)
    return data[data.ids.index(name)]


def bare(axes: Axes, title: str, side: str = "") -> None:
    """No ticks, no box; a title above, a label to the left of a line's first picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=9, pad=3)
    axes.set_ylabel(side, fontsize=11, labelpad=6)


def draw(path: Path) -> None:
    """Three lines for six rooms (image, depth, normals), and a fourth for the variants of one frame."""
    samples = [frame("rooms", name) for name in FRAMES]
    base = frame("rooms", VARIED)
    looks = [base, *(frame(f"rooms?variant={variant}", VARIED) for variant in VARIANTS)]
    depths = [sample.depth[0].numpy() for sample in (*samples, base)]
    low, high = shared_range(depths)
    figure = Figure(figsize=(13.6, 7.05), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)  # type: ignore[union-attr]
    upper, lower = figure.subfigures(2, 1, height_ratios=(3, 1.1))
    grid, last = upper.subplots(3, 6), lower.subplots(1, 6)
    scale = None
    for column, (sample, depth) in enumerate(zip(samples, depths, strict=False)):
        first = column == 0
        grid[0, column].imshow(sample.image.permute(1, 2, 0).numpy(), interpolation="bilinear")
        bare(grid[0, column], sample.id, "image" if first else "")
        scale = grid[1, column].imshow(depth, cmap=DEPTH_MAP, vmin=low, vmax=high)
        bare(grid[1, column], "", "depth" if first else "")
        assert sample.normals is not None
        # As colours: x to the right, y up, z towards the viewer.
        facing = sample.normals.permute(1, 2, 0).numpy() * np.array([1, -1, -1])
        grid[2, column].imshow((facing + 1) / 2)
        bare(grid[2, column], "", "normals" if first else "")
    for column, (name, look) in enumerate(zip(("as it is", *VARIANTS), looks, strict=True)):
        last[column].imshow(look.image.permute(1, 2, 0).numpy(), interpolation="bilinear")
        bare(
            last[column], f"{VARIED}: {name}" if column == 0 else f"variant: {name}", "variants" if column == 0 else ""
        )
    last[5].imshow(depths[-1], cmap=DEPTH_MAP, vmin=low, vmax=high)
    bare(last[5], "depth of all five")
    assert scale is not None
    for part in (upper, lower):
        axes = grid if part is upper else last
        part.colorbar(
            scale, ax=axes, location="right", shrink=0.9, aspect=30 if part is upper else 10, label="depth, m", pad=0.01
        )
    save(figure, path, dpi=110)


draw(Path(sys.argv[1]))
