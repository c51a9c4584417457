"""Sweeps: one training for each combination of values, compared at the end."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathom.data.dataset import Dataset
from fathom.devices import rank
from fathom.errors import UsageError
from fathom.files.atomic import write_json
from fathom.models.saved import read_summary
from fathom.progress import note
from fathom.training.loop import DivergedError
from fathom.training.recipe import Recipe, load_recipe
from fathom.training.train import open_data, train

if TYPE_CHECKING:
    from rich.table import Table

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
    data: Dataset | str,
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
    whole, part = open_data(data, test)
    runs = []
    for i, (combination, made) in enumerate(zip(chosen, recipes, strict=True)):
        folder = out / folder_name(combination)
        note(f"Run {i + 1} of {len(chosen)}: {' '.join(combination)}")
        runs.append(_one(made, whole, part, combination, folder, resume, device, workers))
    scored = [run for run in runs if run["value"] is not None]
    result = {
        "schema_version": SCHEMA_VERSION,
        "recipe": base.name,
        "axes": list(axes),
        "metric": scored[0]["metric"] if scored else None,
        "best": min(scored, key=lambda run: run["value"])["folder"] if scored else None,
        "runs": runs,
    }
    if rank() == 0:
        write_json(out / "sweep.json", result)
    return result


def _one(
    recipe: Recipe,
    data: Dataset,
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
        }
    summary = read_summary(folder)
    baseline, scores = summary["unseen_over_mean_map"], summary["scores"]
    return row | {
        "metric": baseline["metric"],
        "value": scores["unseen"]["model"][baseline["metric"]],
        "over_mean_map": baseline["value"],
        "seen": scores["seen"]["model"][baseline["metric"]] if "seen" in scores else None,
    }


def table(result: dict[str, Any]) -> Table:
    """The comparison, best first."""
    from rich.table import Table

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
            seen = "-" if run["seen"] is None else f"{run['seen']:.4g}"
            shown.add_row(*values, f"{run['value']:.4g}", seen, f"{run['over_mean_map']:.3f}")
    return shown
