"""Writing any source as a plain folder: ``rgb/``, ``depth/`` in 16-bit millimetres, and ``index.csv`` with scenes."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import numpy as np

from fathom.atomic import atomic_path
from fathom.data.dataset import Dataset
from fathom.data.loading import Skipped
from fathom.errors import DataError
from fathom.progress import track

MOST_METRES = 65.535
"""The largest depth of a 16-bit map in millimetres."""


def export(dataset: Dataset, out: Path, *, skipped: Skipped | None = None) -> int:
    """Write `dataset` to folder `out`, to be read as ``folder:OUT?depth-scale=1000``; returns the number of frames.

    Invalid pixels are 0. Depth beyond 65.535 m does not fit and raises `DataError`, and so does a target, which has no place.
    """
    from PIL import Image

    table = StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["id", "image", "depth", "scene"])
    written = 0
    for position in track(range(len(dataset)), "exporting"):
        try:
            sample = dataset[position]
        except DataError as error:
            if skipped is None:
                raise
            skipped.frames.append((dataset.frame(position).id, str(error)))
            continue
        if sample.target is not None:
            raise DataError(
                dataset.source.location,
                "has targets, for which the exported form has no place",
                "pack the data instead ('fathom data pack'), which keeps them",
            )
        metres = np.where(sample.valid[0].numpy(), sample.depth[0].numpy(), 0.0)
        if metres.max(initial=0.0) > MOST_METRES:
            raise DataError(
                dataset.source.location,
                f"frame {sample.id} reaches {metres.max():.1f} m, beyond the {MOST_METRES} m of 16-bit millimetres",
                "pack the data instead ('fathom data pack'), which keeps float depth",
            )
        name = f"{position:06d}"
        pixels = (sample.float_image() * 255).round().byte().permute(1, 2, 0).numpy()
        for folder, array in (("rgb", pixels), ("depth", (metres * 1000).round().astype(np.uint16))):
            with atomic_path(out / folder / f"{name}.png") as temporary:
                Image.fromarray(array).save(temporary)
        writer.writerow([sample.id, f"rgb/{name}.png", f"depth/{name}.png", sample.scene])
        written += 1
    with atomic_path(out / "index.csv") as temporary:
        # As `folder:` reads it: bytes of names that are not UTF-8 come back as they were.
        temporary.write_text(table.getvalue(), encoding="utf-8", errors="surrogateescape")
    return written
