"""`summary.json` and the table that shows it: seen rooms beside unseen ones, the baselines below."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch
from rich.table import Table

import fathom
from fathom.progress import significant
from fathom.statistics import LEAST_SCENES
from fathom.training.scoring.scoring import ByScene, paired, ratio

SCHEMA_VERSION = 1
_COLUMNS = {"rmse": "RMSE", "mae": "MAE", "abs_rel": "AbsRel", "delta1": "δ1", "mse": "MSE"}
_ROWS = {"model": "this network", "mean_map": "mean map", "constant": "mean value"}
_PARTS = {"seen": "seen rooms", "unseen": "unseen rooms", "test": "test set"}


def comparisons(scored: Mapping[str, tuple[dict[str, Any], ByScene]], decides: str) -> dict[str, Any]:
    """What the scores of the held-out parts say, by the metric that decides: a part of `summary.json` (docs/training.md)."""
    scores = {part: found for part, (found, _) in scored.items()}
    scenes = {part: found for part, (_, found) in scored.items()}
    unseen = scores["unseen"]
    return {
        "scores": scores,
        "by_scene": scenes,
        "unseen_over_seen": {
            "metric": decides,
            "value": ratio(unseen["model"], scores.get("seen", {}).get("model", {}), decides),
        },
        "unseen_over_mean_map": {"metric": decides, "value": ratio(unseen["model"], unseen["mean_map"], decides)},
        "minus_mean_map": {part: _minus_mean_map(found, decides) for part, found in scenes.items() if part != "seen"},
        "leak": _leak(scores, decides),
    }


def _minus_mean_map(scenes: ByScene, decides: str) -> dict[str, Any]:
    """The network's score minus the mean map's, of the deciding metric and the MSE, with intervals over scenes."""
    found: dict[str, Any] = {"scenes": len(scenes)}
    for name in dict.fromkeys((decides, "mse")):
        interval = paired(scenes, "model", "mean_map", name)
        low, high = interval.bounds or (None, None)
        found[name] = {"difference": interval.estimate, "low": low, "high": high}
    return found


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
    unit = f" ({summary['unit']})" if summary["unit"] else ""
    shown = Table(title=f"{summary['recipe']}: {summary['target']}{unit}, held-out frames", title_justify="left")
    names = [name for name in _COLUMNS if name in summary["scores"]["unseen"]["model"]]
    for heading in ("frames", "", *(_COLUMNS[name] for name in names)):
        shown.add_column(heading, justify="left" if heading in ("frames", "") else "right")
    for part, rows in summary["scores"].items():
        count = f"{_PARTS[part]} ({summary['data']['frames'][part]})"
        for i, (row, values) in enumerate(rows.items()):
            cells = (significant(values[name]) if name in values else "-" for name in names)
            shown.add_row(count if i == 0 else "", _ROWS[row], *cells, end_section=i + 1 == len(rows))
    return shown


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """What the table means, in words."""
    lines = [
        _beside_mean_map(part, name, found[name], found["scenes"], summary["unit"])
        for part, found in summary["minus_mean_map"].items()
        for name in found
        if name != "scenes"
    ]
    leak = summary["leak"]
    if leak["value"] is not None:
        name = _COLUMNS[leak["metric"]]
        lines.append(
            f"Leak {leak['value']:.2f}: in rooms it was trained in (frames it has not seen) its {name} is "
            f"{leak['seen_over_mean_map']:.2f} of the mean map's, in unseen rooms {leak['unseen_over_mean_map']:.2f}. "
            "A split by frames would report the first; only the second holds for a new room."
        )
    return lines + list(summary["notes"])


def _beside_mean_map(part: str, name: str, found: Mapping[str, Any], scenes: int, unit: str) -> str:
    """Whether the network beats the mean map in one score, with the paired interval over scenes."""
    unit = {"rmse": f" {unit}", "mse": f" {unit}²"}[name] if unit else ""
    where, label = _PARTS[part].capitalize(), _COLUMNS[name]
    gap = f"{where}: {label} minus the mean map's is {found['difference']:+.3g}{unit}"
    if found["low"] is None:
        return f"{gap}; an interval needs {LEAST_SCENES} scenes, not {scenes}, so it cannot be told apart from the mean map."
    interval = f"95 % interval {found['low']:+.3g} to {found['high']:+.3g}, paired over {scenes} scenes"
    if found["low"] <= 0 <= found["high"]:
        return f"{gap} ({interval}): it cannot be told apart from the mean map."
    return f"{gap} ({interval}): it {'beats' if found['high'] < 0 else 'is worse than'} the mean map."
