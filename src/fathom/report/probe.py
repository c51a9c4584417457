"""What a probe run leaves beside its JSON: the report, the picture of predictions, and what both were drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fathom.probing.pictures import prediction_name
from fathom.report.figures import FrameRow, frame_grid
from fathom.report.picture_store import save_pictures

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence, Row

MAIN = ("encoder", "head", "ceiling")
"""Roles that a run is about; the others are what they are held against."""
REPORT = "report.html"
MOST_COLUMNS = 8
"""Predictions in the picture: the encoders first, then the floors from the best down."""


def draw(evidence: Evidence, out: str | Path) -> list[Path]:
    """Write ``report.html``, and where a feature is a depth ``predictions.png`` and ``pictures.npz``, with cues
    ``cues.png``, into folder `out`."""
    from fathom.report.page import write_report

    saved = save_pictures(evidence, out)
    picture = Path(out) / "predictions.png"
    if saved is None:
        picture.unlink(missing_ok=True)  # of an earlier run in this folder
    drawn = [] if saved is None else [draw_predictions(evidence, picture), saved]
    if evidence.extra.get("cues"):
        from fathom.report.cues import draw_cues

        roles = {row.encoder: row.role for row in evidence.rows}
        ordered = sorted(evidence.extra["cues"], key=lambda cue: roles.get(cue["encoder"]) not in MAIN)
        drawn.append(draw_cues(ordered, Path(out) / "cues.png"))
    return [write_report(evidence, Path(out) / REPORT), *drawn]


def draw_predictions(evidence: Evidence, path: Path) -> Path:
    """The pictures of a run in one PNG."""
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
    return frame_grid(rows, path, title="Unseen rooms, one scale; below each prediction its error")


def columns(evidence: Evidence) -> list[str]:
    """Which predictions are drawn, floors first and the rest after, each from worst to best."""
    drawn = set(evidence.pictures[0].predictions)
    # Pictures are of the first depth feature, the one with metrics at full resolution.
    feature = next((row.feature for row in evidence.rows if row.abs_rel is not None), evidence.features[0])
    chosen: dict[str, Row] = {}
    for row in evidence.rows:
        name = prediction_name(row.encoder, row.layer, row.role)
        if row.chosen and row.feature == feature and name in drawn:
            chosen.setdefault(name, row)
    ranked = sorted(chosen, key=lambda name: chosen[name].test_mse)
    kept = [name for name in ranked if chosen[name].role not in ("floor", "random", "permuted")][:MOST_COLUMNS]
    kept += [name for name in ranked if name not in kept and name != "constant"][: MOST_COLUMNS - len(kept)]
    return sorted(kept, key=lambda name: (chosen[name].role in MAIN, -chosen[name].test_mse))
