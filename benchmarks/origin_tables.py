"""Tables and pictures of what origin_results.py found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from origin_plan import Plan
from origin_results import NAMES, PAIRS, UNETS, Found, Results, kept

from fathom.files.atomic import atomic_path, write_json, write_text
from fathom.models.saved import load_model
from fathom.report.images.frames import FrameRow, frame_grid
from fathom.sample import Batch


def shown(found: Found | None, digits: int = 3) -> str:
    """``1.234 (1.100 – 1.400)``."""
    if found is None:
        return "–"
    text = f"{found['estimate']:.{digits}f}"
    return text + (f" ({' – '.join(f'{x:.{digits}f}' for x in found['interval'])})" if found["interval"] else "")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def probe_table(found: Mapping[str, Any]) -> str:
    ranked = sorted(found["probe"].items(), key=lambda item: -item[1]["mse"]["estimate"])
    return table(
        ["", "layer", "test MSE, m² (95 %)", "over the null model", "over the autoencoder's probe", "seeds"],
        (
            [
                *(name, row["layer"] or "–", shown(row["mse"]), shown(row["over_null"])),
                *(shown(row["over_autoencoder"]), row["over_null"]["seeds"]),
            ]
            for name, row in ranked
        ),
    )


def score_table(found: Mapping[str, Any], names: Sequence[str]) -> str:
    present = [name for name in names if name in found["test"]]
    return table(
        ["", "parameters", "seeds", "RMSE, m (95 %)", "MAE, m", "AbsRel", "δ1", "edge error, m a pixel"],
        (
            [name, f"{found['parameters'][name]:,}", scores["rmse"]["seeds"], shown(scores["rmse"])]
            + [f"{scores[metric]['estimate']:.3f}" for metric in ("mae", "abs_rel", "delta1")]
            + [shown(scores.get("edges"), 4)]
            for name in present
            for scores in [found["test"][name]]
        ),
    )


def ratio_table(found: Mapping[str, Any], titles: Sequence[str]) -> str:
    metrics = ("rmse", "mae", "abs_rel", "edges")
    return table(
        ["", "RMSE", "MAE", "AbsRel", "edge error", "RMSE, seed by seed"],
        (
            [
                title,
                *(shown(ratios.get(metric)) for metric in metrics),
                ", ".join(f"{value:.3f}" for value in ratios["rmse"]["by_seed"]),
            ]
            for title in titles
            if (ratios := found["ratios"].get(title))
        ),
    )


def sweep_table(found: Mapping[str, Any]) -> str:
    cells: dict[str, dict[str, str]] = {}
    for run in found["sweep"]:
        settings = dict(item.split("=", 1) for item in run["settings"])
        row = cells.setdefault(settings["optim.lr"], {})
        good = run["value"] is not None
        row[settings["model.activation"]] = f"{run['value']:.3f} / {shown(run['test'])}" if good else "diverged"
        if "over_tanh" in run:
            row["ratio"] = shown(run["over_tanh"])
    return table(
        ["learning rate", "relu: held-out / test rooms", "tanh: held-out / test rooms", "relu / tanh, test rooms"],
        ([rate, *(row.get(column, "–") for column in ("relu", "tanh", "ratio"))] for rate, row in cells.items()),
    )


def leak_table(found: Mapping[str, Any]) -> str:
    return table(
        [
            "",
            "error, seen rooms",
            "error, test rooms",
            "over mean map, seen",
            "over mean map, test",
            "leak (95 %)",
            "seeds",
        ],
        (
            [name, *(f"{row[part]['rmse' if 'rmse' in row[part] else 'mse']:.4f}" for part in ("seen", "test"))]
            + [shown(row[part]) for part in ("seen", "test")]
            + [shown(row["leak"], 2), row["leak"]["seeds"]]
            for name, row in found["seen_and_unseen"].items()
        ),
    )


def tables(found: Mapping[str, Any]) -> dict[str, str]:
    edge = ["plain-relu", "plain-tanh", "edge_guided"]
    return {
        "probe": probe_table(found),
        "edge": score_table(found, edge),
        "edge-ratios": ratio_table(found, list(PAIRS)[:2]),
        "sweep": sweep_table(found),
        "unet": score_table(found, UNETS),
        "unet-ratios": ratio_table(found, list(PAIRS)[2:]),
        "leak": leak_table(found),
    }


@torch.no_grad()
def picture(plan: Plan, names: Sequence[str], path: Path, count: int = 4) -> None:
    """Test frames of different rooms with the prediction of each network, seed 0."""
    runs = {name: load_model(found[0]) for name in names if (found := plan.finished(name))}
    if not runs:
        return
    size = max((trained.input_size for trained in runs.values()), default=(0, 0))
    frames = kept(plan.test, 0, "test", size)
    rows = []
    for position in (round((i + 0.5) * len(frames) / count) for i in range(count)):
        sample = frames[position]
        predictions = {}
        for name, trained in runs.items():
            own = kept(plan.test, 0, "test", trained.input_size)[position]
            network: Any = trained.model.eval()
            predictions[name] = network(Batch.of([own]).image)[0, 0].numpy()
        truth = np.where(sample.valid[0].numpy(), sample.depth[0].numpy(), np.nan)
        image = Batch.of([sample]).image[0].permute(1, 2, 0).numpy()
        rows.append(FrameRow(f"{sample.scene} {sample.id}", image, truth, predictions))
    frame_grid(rows, path, title="Test rooms, one scale; below each prediction its error")


def smaller(source: Path, target: Path) -> None:
    """The picture, brought to at most 1300 x 1000 pixels."""
    from PIL import Image

    with Image.open(source) as picture, atomic_path(target) as temporary:
        shrunk = picture.convert("RGB")
        shrunk.thumbnail((1300, 1000), Image.Resampling.LANCZOS)
        shrunk.save(temporary, optimize=True)


def report(results: Results, docs: Path) -> None:
    """Write the JSON, the pictures, and what stands between the markers of docs/results-origin.md."""
    found = results.to_json()
    write_json(docs / "origin-claims.json", found)
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    out = results.plan.out
    picture(results.plan, NAMES[1:4] + NAMES[5:], out / "networks.png")
    copies = {
        "networks.png": "networks",
        "probe-0/predictions.png": "probe",
        "autoencoder-0/pictures/unseen.png": "autoencoder",
        "sweep/sweep.png": "sweep",
    }
    for source, name in copies.items():
        if (out / source).is_file():
            smaller(out / source, images / f"origin-{name}.png")
    page = docs / "results-origin.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    for name, content in tables(found).items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin not in text:
            print(f"{page} has no place for '{name}':\n{content}\n")
            continue
        replacement = f"{begin}\n{content}\n{end}"
        # Not re.sub with the table as the template: its text is no pattern.
        text = "".join([text.partition(begin)[0], replacement, text.partition(end)[2]])
    if text:
        write_text(page, text)
