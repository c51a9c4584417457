"""What a probe run leaves beside its JSON: the picture of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fathom.report.figures import FrameRow, frame_grid

if TYPE_CHECKING:
    from fathom.probing.evidence import Evidence

MOST_COLUMNS = 8
"""Predictions in the picture: the encoders first, then the floors from the best down."""


def draw(evidence: Evidence, out: str | Path) -> list[Path]:
    """Write ``predictions.png`` into folder `out`; nothing where no feature is a depth."""
    if not evidence.pictures:
        return []
    names = columns(evidence)
    rows = [
        FrameRow(
            title=f"{picture.scene}  {picture.id}" if picture.scene != picture.id else picture.id,
            image=picture.image.permute(1, 2, 0).numpy(),
            truth=np.where(picture.valid[0].numpy(), picture.depth[0].numpy(), np.nan),
            predictions={name: picture.predictions[name].numpy() for name in names},
        )
        for picture in evidence.pictures
    ]
    return [
        frame_grid(
            rows, Path(out) / "predictions.png", title="Unseen rooms, one scale; below each prediction its error"
        )
    ]


def columns(evidence: Evidence) -> list[str]:
    """Which candidates are drawn, floors first and the rest after, each from worst to best."""
    drawn = set(evidence.pictures[0].predictions)
    feature = evidence.features[0]
    chosen = [row for row in evidence.rows if row.chosen and row.feature == feature and row.encoder in drawn]
    chosen = list({row.encoder: row for row in chosen}.values())
    ranked = sorted(chosen, key=lambda row: row.test_mse)
    kept = [row for row in ranked if row.role not in ("floor", "random", "permuted")][:MOST_COLUMNS]
    kept += [row for row in ranked if row not in kept and row.encoder != "constant"][: MOST_COLUMNS - len(kept)]
    return [row.encoder for row in sorted(kept, key=lambda row: (row.role in ("encoder", "ceiling"), -row.test_mse))]
