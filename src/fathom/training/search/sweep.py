"""Sweeps: one training for each combination of values, compared at the end."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from fathom.data.dataset import Dataset
from fathom.devices import rank
from fathom.errors import UsageError
from fathom.files.atomic import write_json
from fathom.models.saved import read_summary
from fathom.progress import note, significant
from fathom.statistics import Array, Ratio, holm, mean_over_seeds, scene_intervals
from fathom.training.loop import DivergedError
from fathom.training.recipe import Recipe, load_recipe
from fathom.training.train import Data, open_data, train

SCHEMA_VERSION = 1


def combinations(axes: Sequence[str]) -> list[tuple[str, ...]]:
    """Every combination of ``key=a,b,c`` axes, each as settings ``key=a``; a value may be a list in brackets.

    >>> combinations(["optim.lr=1e-4,1e-2", "model.activation=relu,tanh"])[0]
    ('optim.lr=1e-4', 'model.activation=relu')
    """
    values = []
    for axis in axes:
        key, equals, text = axis.partition("=")
        # A comma inside brackets separates items of one value.
        items = [item.strip() for item in re.split(r",(?![^\[]*\])", text)]
        if not equals or not key.strip() or not all(items):
            raise UsageError(f"'{axis}' is no sweep; write key=a,b,c, such as optim.lr=1e-4,1e-2.")
        values.append([f"{key.strip()}={item}" for item in items])
    return list(itertools.product(*values))


def folder_name(settings: Sequence[str]) -> str:
    """A folder name for a combination: ``optim.lr=1e-4,model.activation=relu``, anything unusual replaced."""
    return re.sub(r"[^\w.=,+-]+", "_", ",".join(settings))


def run_sweep(
    recipe: str | Path | Recipe,
    data: Data,
    axes: Sequence[str],
    *,
    out: str | Path,
    resume: bool = False,
    test: Dataset | str | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    workers: int = 0,
) -> dict[str, Any]:
    """Train every combination in a folder of its own under `out`; writes `sweep.json` there.

    A run that diverges is a result, not the end. With `resume`, finished runs are taken as they are and a
    started one is continued.
    """
    base, out = load_recipe(recipe, settings), Path(out)
    chosen = combinations(axes)
    recipes = [
        load_recipe(base, combination) for combination in chosen
    ]  # a typing error shows before hours of training
    sets, part = open_data(data, test)
    runs = []
    for i, (combination, made) in enumerate(zip(chosen, recipes, strict=True)):
        folder = out / folder_name(combination)
        note(f"Run {i + 1} of {len(chosen)}: {' '.join(combination)}")
        runs.append(_one(made, sets, part, combination, folder, resume, device, workers))
    scored = [run for run in runs if run["value"] is not None]
    result = {
        "schema_version": SCHEMA_VERSION,
        "recipe": base.name,
        "axes": list(axes),
        "metric": scored[0]["metric"] if scored else None,
        "compared": compared(runs),
        "runs": runs,
    }
    if rank() == 0:
        write_json(out / "sweep.json", result)
    return result


def _one(
    recipe: Recipe,
    data: Sequence[Dataset],
    test: Dataset | None,
    combination: Sequence[str],
    folder: Path,
    resume: bool,
    device: str,
    workers: int,
) -> dict[str, Any]:
    """Train one combination, or read its summary where it is done."""
    row: dict[str, Any] = {"settings": list(combination), "folder": folder.name, "diverged": None}
    try:
        if not (resume and (folder / "summary.json").is_file()):
            train(recipe, data, test=test, out=folder, resume=resume, device=device, workers=workers)
    except DivergedError as error:
        return row | {
            "diverged": str(error),
            "metric": None,
            "value": None,
            "over_mean_map": None,
            "seen": None,
            "by_scene": {},
        }
    summary = read_summary(folder)
    baseline, scores = summary["unseen_over_mean_map"], summary["scores"]
    return row | {
        "metric": baseline["metric"],
        "value": scores["unseen"]["model"][baseline["metric"]],
        "over_mean_map": baseline["value"],
        "seen": scores["seen"]["model"][baseline["metric"]] if "seen" in scores else None,
        "by_scene": {
            scene: [row["frames"], row["model"][baseline["metric"]]]
            for scene, row in summary["by_scene"]["unseen"].items()
        },
    }


def compared(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Settings against those of the lowest score, paired over unseen scenes, the lowest first.

    Runs that differ in `train.seed` alone are one row: their scores are averaged, and what varies between seeds widens
    the interval. ``difference`` is the score minus the lowest one's; ``worse`` says whether it is so after Holm's
    correction for the number of settings at 5 %.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        if run["value"] is not None:
            groups.setdefault(tuple(s for s in run["settings"] if not s.startswith("train.seed=")), []).append(run)
    if not groups:
        return []
    order = sorted(groups, key=lambda settings: _mean(groups[settings]))
    sums = {settings: _scene_sums(groups[settings]) for settings in order}
    best, best_variance, best_df = sums[order[0]][0], *sums[order[0]][1:]
    frames = np.array([count for count, _ in groups[order[0]][0]["by_scene"].values()], dtype=np.float64)
    ratios = []
    for settings in order[1:]:
        totals, variance, df = sums[settings]
        ratios.append(Ratio(totals - best, frames, seed_variance=variance + best_variance, seed_df=df + best_df))
    intervals = scene_intervals(ratios)
    adjusted = holm([1.0 if math.isnan(one.p_above) else one.p_above for one in intervals])
    rows = [{"settings": list(order[0]), "value": _mean(groups[order[0]]), "seeds": len(groups[order[0]])}]
    for settings, interval, p in zip(order[1:], intervals, adjusted, strict=True):
        known = math.isfinite(interval.low)
        rows.append(
            {
                "settings": list(settings),
                "value": _mean(groups[settings]),
                "seeds": len(groups[settings]),
                "difference": interval.estimate,
                "low": interval.low if known else None,
                "high": interval.high if known else None,
                "worse": known and p < 0.05,
            }
        )
    return rows


def _mean(runs: Sequence[Mapping[str, Any]]) -> float:
    return math.fsum(run["value"] for run in runs) / len(runs)


def _scene_sums(runs: Sequence[Mapping[str, Any]]) -> tuple[Array, float, int]:
    """Scores summed over each scene's frames, averaged over seeds, with the variance that comes from seeds."""
    rows = [np.array([count * score for count, score in run["by_scene"].values()]) for run in runs]
    frames = np.array([count for count, _ in runs[0]["by_scene"].values()], dtype=np.float64)
    return mean_over_seeds(rows, frames)


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Which settings are best, as far as scenes and seeds can tell."""
    rows = result["compared"]
    if len(rows) < 2:
        return []
    lowest, level = " ".join(rows[0]["settings"]), [" ".join(row["settings"]) for row in rows[1:] if not row["worse"]]
    if level:
        first = f"No single best: {lowest} has the lowest score, and cannot be told apart from {', '.join(level)}"
    else:
        first = f"Best: {lowest}, below every other setting"
    lines = [f"{first} (paired over unseen scenes, 5 %, Holm)."]
    if any(row["seeds"] == 1 for row in rows):
        lines.append("Each setting has one seed, and seeds differ too: add --sweep train.seed=0,1,2 before you decide.")
    return lines


def table(result: dict[str, Any]) -> Table:
    """The runs, lowest score first."""
    metric = str(result["metric"] or "score").upper()
    shown = Table(title=f"{result['recipe']}: {metric} of {len(result['runs'])} runs", title_justify="left")
    keys = [axis.partition("=")[0].strip() for axis in result["axes"]]
    for key in keys:
        shown.add_column(key)
    for heading in ("unseen rooms", "seen rooms", "over mean map"):
        shown.add_column(heading, justify="right")
    for run in sorted(result["runs"], key=lambda run: math.inf if run["value"] is None else run["value"]):
        values = [setting.partition("=")[2] for setting in run["settings"]]
        if run["value"] is None:
            shown.add_row(*values, "diverged", "", "")
        else:
            seen = "-" if run["seen"] is None else significant(run["seen"])
            shown.add_row(*values, significant(run["value"]), seen, f"{run['over_mean_map']:.3f}")
    return shown
