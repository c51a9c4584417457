"""`summary.json` and the table that shows it: seen rooms beside unseen ones, the baselines below."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import fathom
from fathom.training.scoring.scoring import metric, ratio

if TYPE_CHECKING:
    from rich.table import Table

    from fathom.training.session import Session

SCHEMA_VERSION = 1
UNITS = {"depth": "m", "image": "", "depth_edges": "m/px"}
_COLUMNS = {"rmse": "RMSE", "mae": "MAE", "abs_rel": "AbsRel", "delta1": "δ1", "mse": "MSE"}
_ROWS = {"model": "this network", "mean_map": "mean map", "constant": "mean value"}
_PARTS = {"seen": "seen rooms", "unseen": "unseen rooms", "test": "test set"}


def summarise(
    session: Session, chosen: Path, early: bool, seconds: float, steps: int, scores: Mapping[str, Any]
) -> dict[str, Any]:
    """All that is known of a finished run, as JSON values; the keys are documented in docs/training.md."""
    recipe, network, parts = session.recipe, session.network, session.parts
    decides = metric(network.predicts)
    notes = list(session.notes)
    if early:
        notes.append("Stopped early by the score on unseen rooms, which is therefore a little too good; see --test.")
    return {
        "schema_version": SCHEMA_VERSION,
        "recipe": recipe.name,
        "model": recipe.model.name,
        "target": network.predicts,
        "unit": UNITS[network.predicts],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "receptive_field": network.receptive_field,
        "input_size": list(recipe.data.size),
        "checkpoint": f"checkpoints/{chosen.name}",
        "steps": session.state.step,
        "stopped_early": early,
        "best_step": session.state.stopping.best_step,
        "seconds": round(seconds, 3),
        "images_per_second": round(steps * recipe.train.batch / seconds, 3) if steps else None,
        "device": str(session.fabric.device),
        "processes": session.fabric.world_size,
        "precision": recipe.precision.compute,
        "seed": recipe.train.seed,
        "data": {
            "location": session.data.source.location,
            "kind": session.data.source.kind,
            "train_fingerprint": parts.train.fingerprint(),
            "frames": {name: len(frames) for name, frames in session.frames.items()},
            "scenes": {name: len(frames.data.scenes) for name, frames in session.frames.items()},
            "fraction": recipe.train.fraction,
            "fraction_by": recipe.train.fraction_by,
            "mean_map_frames": session.baseline_frames,
        },
        "scores": dict(scores),
        "unseen_over_seen": {
            "metric": decides,
            "value": ratio(scores["unseen"]["model"], scores.get("seen", {}).get("model", {}), decides),
        },
        "unseen_over_mean_map": {
            "metric": decides,
            "value": ratio(scores["unseen"]["model"], scores["unseen"]["mean_map"], decides),
        },
        "leak": _leak(scores, decides),
        "notes": notes,
        "versions": versions(),
    }


def _leak(scores: Mapping[str, Any], decides: str) -> dict[str, Any]:
    """How much better the network is on seen rooms than on unseen ones, by the baseline's measure of their difficulty.

    ``(network / mean map on unseen) / (network / mean map on seen)``: the two parts hold other frames, and one may be
    harder than the other for any network.
    """
    against = {
        part: ratio(scores[part]["model"], scores[part]["mean_map"], decides)
        for part in ("seen", "unseen")
        if part in scores
    }
    seen, unseen = against.get("seen"), against.get("unseen")
    return {
        "metric": decides,
        "seen_over_mean_map": seen,
        "unseen_over_mean_map": unseen,
        "value": unseen / seen if seen and unseen is not None else None,
    }


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    return {"fathom": fathom.__version__, "torch": torch.__version__, "python": platform.python_version()}


def table(summary: Mapping[str, Any]) -> Table:
    """Scores of every held-out part, for the terminal."""
    from rich.table import Table

    unit = f" ({summary['unit']})" if summary["unit"] else ""
    shown = Table(title=f"{summary['recipe']}: {summary['target']}{unit}, held-out frames", title_justify="left")
    names = [name for name in _COLUMNS if name in summary["scores"]["unseen"]["model"]]
    for heading in ("frames", "", *(_COLUMNS[name] for name in names)):
        shown.add_column(heading, justify="left" if heading in ("frames", "") else "right")
    for part, rows in summary["scores"].items():
        count = f"{_PARTS[part]} ({summary['data']['frames'][part]})"
        for i, (row, values) in enumerate(rows.items()):
            cells = (f"{values[name]:.4g}" if name in values else "-" for name in names)
            shown.add_row(count if i == 0 else "", _ROWS[row], *cells, end_section=i + 1 == len(rows))
    return shown


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """What the table means, in words."""
    lines = []
    baseline, plain, leak = summary["unseen_over_mean_map"], summary["unseen_over_seen"], summary["leak"]
    name = _COLUMNS[baseline["metric"]]
    if baseline["value"] is not None:
        verb = "beats" if baseline["value"] < 1 else "does not beat"
        lines.append(f"On unseen rooms it {verb} the mean map: {baseline['value']:.3f} of its {name}.")
    if leak["value"] is not None:
        lines.append(
            f"Leak: relative to the mean map, the {name} is {leak['value']:.3f} times as large on unseen rooms "
            f"({leak['unseen_over_mean_map']:.3f}) as on other frames of the training rooms ({leak['seen_over_mean_map']:.3f}); a "
            f"split by frames would hide that factor. Without the mean map: {plain['value']:.3f} times."
        )
    return lines + list(summary["notes"])
