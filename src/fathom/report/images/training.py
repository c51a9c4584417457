"""Pictures of trainings: predictions on unseen frames, a sweep's runs, a search for a learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fathom.media.colour import DEPTH_MAP, ERROR_MAP, NEARNESS_MAP, colourise
from fathom.models.saved import Trained, read_summary, read_tensors
from fathom.report.images.sheet import Line, Scale, Tile, draw_sheet, save
from fathom.training.run import journal
from fathom.training.scoring.scoring import metric
from fathom.training.session import EXAMPLES


def draw_examples(trained: Trained) -> Path | None:
    """Draw `pictures/unseen.png` of a finished run: image, truth, prediction and error of its example frames in one scale.

    Returns the picture's path, or None where the run kept no examples.
    """
    if not (trained.run / EXAMPLES).is_file():
        return None
    held = read_tensors(trained.run / EXAMPLES)
    predicts = str(trained.info["target"])
    names = [name[-24:] for name in trained.summary()["examples"]]
    if predicts == "image":
        rows, scales = _images(held["image"], held["prediction"])
        headings = ["image", "reconstruction", "error"]
    else:
        rows, scales = _maps(**held, unit=trained.summary()["unit"])
        headings = ["image", "truth", "prediction", "error"]
    lines = [
        Line([*map(Tile, row, headings if index == 0 else [""] * len(row))], name)
        for index, (row, name) in enumerate(zip(rows, names, strict=True))
    ]
    return draw_sheet(lines, scales, trained.run / "pictures" / "unseen.png", width=2.6)


def draw_curves(run: Path) -> Path | None:
    """Draw `curves.png`: the training loss, and the scores of the validations next to the mean map's, over the steps.

    Returns the picture's path, or None where the run has no line of `metrics.jsonl`.
    """
    lines = journal.read(run)
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    if not losses:
        return None
    from matplotlib.figure import Figure

    validations = [line for line in lines if "validation" in line]
    summary = read_summary(run)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, score = figure.subplots(1, 2)
    wide = max(value for _, value in losses) > 10 * min(value for _, value in losses) > 0
    loss.plot(*zip(*losses, strict=True), color="tab:blue")
    loss.set(xlabel="step", ylabel="training loss", yscale="log" if wide else "linear")
    name = metric(summary["target"]) if summary else "rmse"
    for part, colour in (("seen", "tab:green"), ("unseen", "tab:orange")):
        known = [(line["step"], line["validation"].get(part, {}).get(name)) for line in validations]
        if known := [(step, value) for step, value in known if value is not None]:
            score.plot(*zip(*known, strict=True), marker=".", color=colour, label=f"{part} rooms")
    baseline = summary.get("scores", {}).get("unseen", {}).get("mean_map", {}).get(name)
    if baseline is not None:
        score.axhline(baseline, color="0.3", linestyle="--", linewidth=1, label="mean map, unseen rooms")
    unit = f" ({summary['unit']})" if summary.get("unit") and name == "rmse" else ""
    score.set(xlabel="step", ylabel=f"{name.upper()}{unit} in validation", ylim=(0, None))
    if score.get_legend_handles_labels()[0]:
        score.legend()
    return save(figure, run / "curves.png", 110)


def draw_rates(result: dict[str, Any], path: Path) -> Path:
    """Draw the loss against the learning rate that `fathom.training.search.lr_find` tried."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis: Any = figure.subplots()
    axis.plot(result["rates"], result["raw"], color="0.8", label="loss after each step")
    axis.plot(result["rates"], result["losses"], color="tab:blue", label="smoothed")
    if result["suggested"] is not None:
        axis.axvline(result["suggested"], color="tab:green", label=f"suggested {result['suggested']:g}")
    if result["limit"] is not None:
        axis.axvline(result["limit"], color="tab:red", linestyle="--", label=f"rises above {result['limit']:.1e}")
    for rate, loss in result["marked"].items():
        axis.axvline(float(rate), color="0.6", linestyle=":", label=f"loss {loss:.3g} at {rate}")
    low = min(result["losses"])
    axis.set_ylim(low - 0.1 * abs(low), 1.3 * max(result["losses"][:5]))
    axis.set(xscale="log", xlabel="learning rate", ylabel="loss", title=f"{result['recipe']}: rate finder")
    axis.legend()
    return save(figure, path, 120)


def draw_sweep(result: dict[str, Any], out: Path) -> Path:
    """Draw `sweep.png`: loss over steps of every run in the folder `out`, and the final score of each as a bar."""
    from matplotlib.figure import Figure

    runs = result["runs"]
    figure = Figure(figsize=(11, max(3.5, 0.4 * len(runs) + 1.5)), layout="constrained")
    curves, bars = figure.subplots(1, 2)
    for i, run in enumerate(runs):
        lines = [line for line in journal.read(out / run["folder"]) if "loss" in line]
        curves.plot([line["step"] for line in lines], [line["loss"] for line in lines], color=f"C{i}")
        bars.barh(i, run["value"] or 0.0, color=f"C{i}")
        if run["value"] is None:
            bars.text(0, i, " diverged", va="center")
    baselines = [run["value"] / run["over_mean_map"] for run in runs if run["over_mean_map"]]
    if baselines:
        bars.axvline(baselines[0], color="0.3", linestyle="--", linewidth=1)
    curves.set(xlabel="step", ylabel="training loss", yscale="log")
    bars.set_yticks(range(len(runs)), ["\n".join(run["settings"]) for run in runs], fontsize=8)
    bars.set(xlabel=f"{result['metric']} on unseen rooms" + (" (dashed: mean map)" if baselines else ""))
    bars.invert_yaxis()
    return save(figure, out / "sweep.png", 120)


def _images(image: Tensor, prediction: Tensor) -> tuple[list[list[np.ndarray]], list[Scale]]:
    rows = []
    for original, made in zip(image, prediction.clamp(0, 1), strict=True):
        gap = (original - made).abs().mean(0).numpy()
        rows.append([_hwc(original), _hwc(made), colourise(gap, 0, 0.3, NEARNESS_MAP)])
    return rows, [Scale(NEARNESS_MAP, 0, 0.3, "mean |error|")]


def _maps(
    image: Tensor, target: Tensor, valid: Tensor, prediction: Tensor, unit: str
) -> tuple[list[list[np.ndarray]], list[Scale]]:
    """Truth and prediction in one colour scale, from the 1st to the 99th percentile of the truth."""
    known = target[valid.bool().expand_as(target)].numpy()
    low, high = (np.percentile(known, (1, 99)) if known.size else np.array([0.0, 1.0])).tolist()
    spread = max(high - low, 1e-6)
    rows = []
    for colours, t, v, p in zip(image, target, valid.bool(), prediction, strict=True):
        truth = np.where(v[0].numpy(), _magnitude(t), np.nan)
        depths = [colourise(values, low, low + spread) for values in (truth, _magnitude(p))]
        rows.append([_hwc(colours), *depths, colourise(_magnitude(p) - truth, -spread / 3, spread / 3, ERROR_MAP)])
    label = f"prediction − truth, {unit}"
    return rows, [Scale(DEPTH_MAP, low, low + spread, unit), Scale(ERROR_MAP, -spread / 3, spread / 3, label)]


def _magnitude(values: Tensor) -> np.ndarray:
    """A map of one channel as it is, of several its length."""
    array: np.ndarray = (values[0] if len(values) == 1 else values.norm(dim=0)).numpy()
    return array


def _hwc(image: Tensor) -> np.ndarray:
    array: np.ndarray = image.permute(1, 2, 0).numpy()
    return array
