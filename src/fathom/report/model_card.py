"""The model card of a depth network: what `fathom.models.hub.card` says of its training, with measured scores and pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fathom.errors import UsageError
from fathom.evaluation.frames import Shown
from fathom.evaluation.result import Evaluation, Score, Table
from fathom.files.atomic import write_text
from fathom.media.colour import colourise, shared_range
from fathom.models.hub import CALIBRATION, card
from fathom.models.saved import Trained, load_model

if TYPE_CHECKING:
    from PIL.Image import Image

FAILURES, CURVES = "failures.jpg", "curves.png"

METRICS = ("abs_rel", "rmse", "delta1")

MOST = 4
"""Failure cases shown."""


def write_card(model: str | Path, out: str | Path, evaluations: Sequence[str | Path] = ()) -> Path:
    """Write ``README.md`` for `model` to the folder `out`, with the pictures it shows.

    Args:
        model: a run, checkpoint or model folder, or the name of a shipped network.
        out: made if missing.
        evaluations: folders that ``fathom evaluate`` wrote, of this model: scores with intervals, and its worst frames as
            pictures. Whether these pictures may be published is for the owner of the data to say.

    Raises:
        UsageError: an evaluation holds no scores of this model.
    """
    trained, folder = load_model(model), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    opened = [Evaluation.load(path, frames=True) for path in evaluations]
    names = {str(model), Path(model).name, str(trained.path)}
    rows, worst = [], list[tuple[str, Shown]]()
    for path, evaluation in zip(evaluations, opened, strict=True):
        found = [
            (table, result.name)
            for table in evaluation.record.tables
            for result in table.results
            if result.name in names
        ]
        if not found:
            raise UsageError(f"{path} holds no scores of '{model}'; evaluate it by this name.")
        for table, name in found:
            rows += [_row(table, name), *[_row(table, r.name) for r in table.results if r.role == "baseline"]]
        worst += [(found[0][1], shown) for shown in evaluation.shown if shown.place.startswith("worst")]
    lines = [card(trained).rstrip()]
    if rows:
        head = ["| data | protocol | of | AbsRel | RMSE (m) | δ1 |", "|---|---|---|---|---|---|"]
        lines += ["", "## Measured, mean and 95 % interval over scenes", "", *head, *rows]
    if worst:
        failures(worst[:MOST]).save(folder / FAILURES, quality=88)
        lines += [
            "",
            "## Failure cases",
            "",
            f"![worst frames]({FAILURES})",
            "",
            "The frames of largest error, worst first: image, true depth, prediction, in one scale each; grey is unknown.",
        ]
    if (trained.run / CURVES).is_file():
        shutil.copyfile(trained.run / CURVES, folder / CURVES)
        lines += ["", "## Learning curves", "", f"![loss and validation]({CURVES})"]
    lines += ["", "## What it is not", "", *[f"- {line}" for line in _what_it_is_not(trained)]]
    write_text(folder / "README.md", "\n".join(lines) + "\n")
    return folder / "README.md"


def _what_it_is_not(trained: Trained) -> list[str]:
    stride = trained.info["output_stride"]
    soft = f"it predicts at 1/{stride} of its input size, so " if stride > 1 else ""
    lines = [
        "Not for anything that it was not measured on: outdoor scenes, rendered images, near objects and other cameras are outside of "
        "its training unless a row above says otherwise.",
        f"Not a map of edges: {soft}thin objects and sharp borders are soft.",
        "Not aware of what it cannot see: mirrors, glass and the far side of a doorway are given a depth like any surface.",
    ]
    if (trained.path / CALIBRATION).is_file():
        lines.append(
            "Not a promise for one image: intervals hold for a random pixel of a random new scene like those of the calibration."
        )
    return lines


def _row(table: Table, name: str) -> str:
    result = table.result(name)
    seen = f", {result.seen_scenes} of its training scenes" if result.seen_scenes else ""
    cells = " | ".join(_cell(result.scores[metric]) for metric in METRICS)
    where = f"{Path(table.data.location).name} ({table.frames} frames, {len(table.scenes)} scenes{seen})"
    return f"| {where} | {table.protocol.name} | {Path(name).name if result.role == 'model' else name} | {cells} |"


def _cell(score: Score) -> str:
    between = "" if score.interval is None else f" ({score.interval[0]:.3f} – {score.interval[1]:.3f})"
    return f"{score.mean:.3f}{between}"


def failures(worst: Sequence[tuple[str, Shown]], height: int = 150) -> Image:
    """One row a frame: image, truth, prediction of the model named."""
    from PIL import Image

    rows = []
    for name, shown in worst:
        truth = np.where(shown.valid[0].numpy(), shown.depth[0].numpy(), np.nan)
        found = shown.predictions[name].numpy()
        low, high = shared_range([truth, found])
        image = (shown.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        parts = [Image.fromarray(p) for p in (image, colourise(truth, low, high), colourise(found, low, high))]
        rows.append([part.resize((round(part.width * height / part.height), height)) for part in parts])
    width = max(sum(part.width for part in row) for row in rows)
    sheet = Image.new("RGB", (width, height * len(rows)), "white")
    for number, row in enumerate(rows):
        left = 0
        for part in row:
            sheet.paste(part, (left, number * height))
            left += part.width
    return sheet
