"""What a probe run leaves next to its JSON: the report, the picture of predictions, and what both were drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fathom.report.images.frames import FrameRow, frame_grid
from fathom.report.probe.page import write_report
from fathom.report.probe.picture_store import save_pictures
from fathom.report.probe.predictors import MAIN, columns

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence

REPORT = "report.html"


def draw(evidence: Evidence, out: str | Path) -> list[Path]:
    """Write ``report.html``, and where a feature is a depth ``predictions.png`` and ``pictures.npz``, with cues
    ``cues.png``, into folder `out`."""
    saved = save_pictures(evidence, out)
    picture = Path(out) / "predictions.png"
    if saved is None:
        picture.unlink(missing_ok=True)  # of an earlier run in this folder
    drawn = [] if saved is None else [draw_predictions(evidence, picture), saved]
    (Path(out) / "cues.png").unlink(missing_ok=True)
    if evidence.cues:
        from fathom.report.images.cues import draw_cues

        roles = {row.encoder: row.role for row in evidence.rows}
        ordered = sorted(evidence.cues, key=lambda cue: roles.get(cue.encoder) not in MAIN)
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
