"""From sums over the test frames to the rows of the evidence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fathom.errors import FathomError
from fathom.probing.candidates import Candidate, SceneErrors
from fathom.probing.evidence.records import Row, finite
from fathom.probing.evidence.scores import CellScores, DepthScores
from fathom.probing.evidence.verdict.cases import Control
from fathom.statistics import loss_interval

CLIPPED = 0.01
"""Share of clipped cells from which on a note says so."""

PERFECT = 1 - 1e-9
"""R² from which on what is left is rounding."""


def evidence_rows(candidates: Sequence[Candidate], depth: DepthScores, cells: CellScores) -> tuple[Row, ...]:
    """A row for each candidate, layer and feature."""
    rows: list[Row] = []
    for item in candidates:
        for one in item.group.features:
            best = item.best(one.name)
            for position in range(len(item.layers)):
                scores = {**cells.of(item, one.name, position)}
                if position == best:
                    scores.update(depth.of(item, one.name))
                rows.append(_row(item, one.name, position, position == best, {"unit": one.unit, **scores}))
    pixels = {
        row.feature: row.test_mse
        for row in rows
        if row.encoder == "pixels" and (row.r2 is None or row.r2 < PERFECT)  # a ratio to rounding says nothing
    }
    return tuple(
        replace(row, ratio_to_pixels=row.test_mse / pixels[row.feature]) if pixels.get(row.feature) else row
        for row in rows
    )


def controls(candidates: Sequence[Candidate]) -> Callable[[Row], Control | None]:
    """The control task of any row of these candidates on the test scenes."""
    found: dict[tuple[str, int | None, str, str], Control] = {}
    for item in candidates:
        group, sums = item.group, item.sums
        if group.control_targets is None or item.role.name == "upper_bound":
            continue
        for one in group.features:
            own, shuffled = group.outputs[one.name], group.control(one.name)
            around = sums.target[:, own].sum(1).numpy()
            for position, layer in enumerate(item.layers):
                found[item.encoder, item.role.seed, layer.name, one.name] = Control(
                    errors=sums.squared[:, position, shuffled].sum(1).numpy(),
                    around=around,
                    control_around=sums.target[:, shuffled].sum(1).numpy(),
                )
    return lambda row: found.get((row.encoder, row.seed, row.layer, row.feature))


def _row(item: Candidate, feature: str, position: int, chosen: bool, scores: Mapping[str, Any]) -> Row:
    sums, layer, outputs = item.sums, item.layers[position], item.group.outputs[feature]
    squared, cells = sums.squared[:, position, outputs].sum(1).numpy(), sums.cells.numpy()
    if not cells.sum():
        raise FathomError(f"No test frame has a valid cell of {feature}; nothing can be measured.")
    mse = float(squared.sum() / cells.sum())
    interval = loss_interval(squared, cells)
    bounds = (float(interval.low), float(interval.high))
    return Row(
        encoder=item.encoder,
        layer=layer.name,
        feature=feature,
        channels=layer.channels,
        penalty=float(layer.penalty[outputs][0]),
        role=item.role.name,
        of=item.role.of,
        seed=item.role.seed,
        chosen=chosen,
        cv_mse=finite(float(layer.cv_mse[outputs].sum())),
        train_mse=finite(float(layer.train_mse[outputs].sum())),
        test_mse=mse,
        test_rmse=mse**0.5,
        interval=bounds if np.isfinite(bounds).all() else None,
        ratio_to_pixels=None,
        r2=_r2(sums, position, outputs),
        control_r2=_r2(sums, position, item.group.control(feature))
        if item.group.control_targets is not None and item.role.name != "upper_bound"
        else None,
        errors=tuple(squared.tolist()),
        cells=tuple(cells.tolist()),
        bands=None if layer.bands is None else {name: float(lam[outputs][0]) for name, lam in layer.bands.items()},
        parameters=layer.parameters.get(feature),
        clipped=None if item.bounds is None else _clipped(sums, position, outputs),
        penalties_left_out=len(layer.left_out),
        **scores,
    )


def _r2(sums: SceneErrors, position: int, outputs: slice) -> float | None:
    around = float(sums.target[:, outputs].sum())
    return 1 - float(sums.squared[:, position, outputs].sum()) / around if around > 0 else None


def _clipped(sums: SceneErrors, position: int, outputs: slice) -> float:
    clipped = sums.clipped[position, outputs]
    return float(clipped.sum() / (sums.cells.sum() * len(clipped)))


def clip_notes(rows: Sequence[Row], classes: Collection[str]) -> list[str]:
    """A note for each feature whose chosen probes predict outside the range of its training targets in more than `CLIPPED` of the cells.

    Shares of classes (`classes`: the features that are) lie in 0 to 1 and a linear map often leaves that: nothing is noted.
    """
    shares: dict[str, list[str]] = {}
    for row in rows:
        if row.chosen and row.clipped is not None and row.clipped > CLIPPED and row.feature not in classes:
            seed = f" (seed {row.seed})" if row.role == "random" else ""
            shares.setdefault(row.feature, []).append(f"{100 * row.clipped:.1f} % from {row.encoder}{seed}")
    return [
        f"Predictions of {feature} outside the range of the training targets are clipped to it: {', '.join(named)}."
        for feature, named in shares.items()
    ]


def lone_scene_notes(rows: Sequence[Row], scenes: Sequence[str]) -> list[str]:
    """A note for each chosen probe of an encoder whose loss one test scene raises above the interval that the others give.

    As many scenes drawn anew have no such scene in one of three draws, (1 − 1/S)^S, and their interval is then too low.
    """
    notes = []
    for row in rows:
        if row.role != "encoder" or not row.chosen or row.interval is None:
            continue
        errors, cells = np.array(row.errors), np.array(row.cells)
        hardest = int(errors.argmax())
        others = loss_interval(np.delete(errors, hardest), np.delete(cells, hardest))
        if others.high < row.test_mse:
            notes.append(
                f"Test scene {scenes[hardest]} holds {100 * errors[hardest] / errors.sum():.0f} % of the squared error of {row.feature} from "
                f"{row.encoder}. Without it the interval of the loss ends at {others.high:.4g}, below the {row.test_mse:.4g} measured: the "
                "interval of this loss is not reliable. Compare gains, in which the scene counts on both sides."
            )
    return notes
