"""What the runs of origin_plan.py say: scores by frame, ratios with intervals over scenes and seeds."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from origin_plan import GRID, Plan

from fathom import Evidence, load
from fathom.data.dataset import Dataset
from fathom.files.atomic import write_json
from fathom.models.saved import load_model
from fathom.sample import Batch
from fathom.sobel import sobel
from fathom.statistics import METHOD, mean_over_seeds, scene_interval
from fathom.training.frames.feed import Frames
from fathom.training.frames.holdout import divide
from fathom.training.scoring.scoring import MeanMap, frame_scores
from fathom.training.scoring.targets import target_of

METRICS = ("rmse", "mse", "mae", "abs_rel", "delta1", "edges")
UNETS = ("unet-mae", "unet-gradient", "unet-ssim")
NAMES = ("autoencoder", "residual_cnn", "plain-relu", "plain-tanh", "gradient", "edge_guided", *UNETS)
PAIRS = {
    "edge_guided / plain": ("edge_guided", "plain-relu"),
    "relu / tanh": ("plain-relu", "plain-tanh"),
    "MAE + gradient / MAE": ("unet-gradient", "unet-mae"),
    "MAE + gradient + SSIM / MAE": ("unet-ssim", "unet-mae"),
    "MAE + gradient + SSIM / MAE + gradient": ("unet-ssim", "unet-gradient"),
}

Array = np.ndarray[Any, np.dtype[np.float64]]
Found = dict[str, Any]


@cache
def opened(spec: str) -> Dataset:
    return load(spec)


@cache
def kept(spec: str, seed: int, part: str, size: tuple[int, int]) -> Frames:
    """The frames of a part of a training with `seed`, in memory."""
    if part == "test":
        data = opened(spec)
    else:
        found = getattr(divide(opened(spec), 0.1, 0.1, seed=seed), part)
        assert isinstance(found, Dataset)
        data = found
    frames = Frames(data, size)
    frames.keep(0, f"reading {part} frames")
    return frames


def batches(frames: Frames) -> Iterator[Batch]:
    for start in range(0, len(frames), 32):
        yield Batch.of([frames[i] for i in range(start, min(start + 32, len(frames)))])


@torch.no_grad()
def measure(run: Path, plan: Plan) -> dict[str, Any]:
    """Scores of each frame of each part, of the network and of the mean map of its training frames."""
    path = run / "measured.json"
    if path.is_file() and path.stat().st_mtime >= (run / "summary.json").stat().st_mtime:
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    trained = load_model(run)
    network: Any = trained.model.eval()
    seed, size = trained.recipe.train.seed, trained.input_size
    baseline = MeanMap()
    for batch in batches(kept(plan.train, seed, "train", size)):
        baseline.add(*target_of(network, batch.image, batch.depth, batch.valid))
    result: dict[str, Any] = {"parameters": trained.info["parameters"], "parts": {}}
    for part in ("seen", "unseen", "test"):
        sheets: list[dict[str, Any]] = []
        for batch in batches(
            kept(plan.test if part == "test" else plan.train, 0 if part == "test" else seed, part, size)
        ):
            target, valid = target_of(network, batch.image, batch.depth, batch.valid)
            prediction = network(batch.image)
            depth = network.predicts == "depth"
            own = frame_scores(prediction, target, valid, depth)
            flat = frame_scores(baseline.map().expand_as(target), target, valid, depth)
            for i, sheet in enumerate(own):
                row = {"id": batch.ids[i], "scene": batch.scenes[i], **sheet}
                row |= {f"map_{key}": value for key, value in flat[i].items()}
                if depth and network.output_stride == 1:
                    row["edges"] = edge_error(prediction[i, 0], target[i, 0])
                sheets.append(row)
        result["parts"][part] = sheets
    write_json(path, result)
    return result


def edge_error(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean absolute difference of the Sobel derivatives, metres a pixel; every pixel of these frames is valid."""
    return float(sum((p - t).abs().mean() for p, t in zip(sobel(prediction), sobel(truth), strict=True)) / 2)


def by_scene(frames: Sequence[dict[str, Any]], metric: str) -> tuple[Array, Array]:
    """Sums of `metric` and numbers of frames, by scene, scenes in order of their names."""
    scenes = sorted({frame["scene"] for frame in frames})
    position = {scene: i for i, scene in enumerate(scenes)}
    total, count = np.zeros(len(scenes)), np.zeros(len(scenes))
    for frame in frames:
        total[position[frame["scene"]]] += frame[metric]
        count[position[frame["scene"]]] += 1
    return total, count


def as_found(estimate: float, low: float, high: float, seeds: int) -> Found:
    """An estimate for the JSON; no interval where there are too few scenes."""
    bounds = [round(low, 5), round(high, 5)] if np.isfinite([low, high]).all() else None
    return {"estimate": round(estimate, 5), "interval": bounds, "seeds": seeds}


def mean_of(errors: Sequence[Array], counts: Array) -> Found:
    """A mean over frames and seeds; the interval holds scenes, and seeds where there are several."""
    mean, variance, freedom = mean_over_seeds(errors, counts)
    found = scene_interval(mean, counts, log=True, seed_variance=variance, seed_df=freedom)
    return as_found(found.estimate, found.low, found.high, len(errors))


def ratio_of(first: Sequence[Array], second: Sequence[Array]) -> Found:
    """Loss of the first over that of the second, paired by scene and by seed."""
    pairs = list(zip(first, second, strict=False))
    ratios = np.array([a.sum() / b.sum() for a, b in pairs])
    variance = float(ratios.var(ddof=1) / len(ratios)) if len(ratios) > 1 else 0.0
    top, bottom = (np.mean([pair[side] for pair in pairs], axis=0) for side in (0, 1))
    found = scene_interval(top, bottom, log=True, seed_variance=variance, seed_df=len(ratios) - 1)
    return as_found(found.estimate, found.low, found.high, len(pairs)) | {
        "by_seed": [round(float(r), 4) for r in ratios]
    }


class Results:
    """What the finished runs say."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def errors(self, name: str, metric: str, part: str = "test") -> tuple[list[Array], Array]:
        """Sums by scene of each seed, and frames by scene; parts other than the test differ between seeds."""
        found = [by_scene(measure(run, self.plan)["parts"][part], metric) for run in self.plan.finished(name)]
        return [total for total, _ in found], found[0][1] if found else np.zeros(0)

    def scores(self, name: str) -> dict[str, Found]:
        """Every metric on the test rooms."""
        runs = self.plan.finished(name)
        if not runs:
            return {}
        present = [m for m in METRICS if m in measure(runs[0], self.plan)["parts"]["test"][0]]
        return {metric: mean_of(*self.errors(name, metric)) for metric in present}

    def ratio(self, first: str, second: str, metric: str) -> Found | None:
        """Paired ratio on the test rooms, over the seeds that both have."""
        one, other = self.errors(first, metric)[0], self.errors(second, metric)[0]
        return ratio_of(one, other) if one and other else None

    def leak(self, name: str, metric: str = "rmse") -> dict[str, Any] | None:
        """Error over that of the mean map, on new frames of seen rooms and on the test rooms, all seeds together."""
        runs = self.plan.finished(name)
        if not runs:
            return None
        sides: dict[str, Any] = {}
        for part in ("seen", "test"):
            frames = [frame for run in runs for frame in measure(run, self.plan)["parts"][part]]
            own, counts = by_scene(frames, metric)
            flat, _ = by_scene(frames, f"map_{metric}")
            found = scene_interval(own, flat, log=True)
            sides[part] = as_found(found.estimate, found.low, found.high, len(runs))
            sides[part] |= {
                metric: round(float(own.sum() / counts.sum()), 4),
                "frames": len(frames),
                "scenes": len(own),
            }
        # No scene is in both, so the two are independent: half-widths of logarithms in quadrature.
        seen, test = sides["seen"], sides["test"]
        centre = np.log(test["estimate"] / seen["estimate"])
        (low, high), (seen_low, seen_high) = np.log(test["interval"]), np.log(seen["interval"])
        below = np.hypot(np.log(test["estimate"]) - low, seen_high - np.log(seen["estimate"]))
        above = np.hypot(high - np.log(test["estimate"]), np.log(seen["estimate"]) - seen_low)
        leak, least, most = (float(x) for x in np.exp([centre, centre - below, centre + above]))
        return {**sides, "leak": as_found(leak, least, most, len(runs))}

    def probes(self) -> dict[str, Any]:
        """Losses on the probe's grid: each probe, and the residual CNN's own prediction as the upper bound."""
        folders = self.plan.finished("probe")
        rows: dict[str, list[Array]] = {}
        layers: dict[str, str] = {}
        cells: Array = np.zeros(0)
        for folder in folders:
            evidence = Evidence.load(folder / "evidence.json")
            order = np.argsort(evidence.test_scenes)
            controls: dict[str, list[Array]] = {}
            for row in evidence.rows:
                if not row.chosen or row.feature != "depth":
                    continue
                errors, cells = np.array(row.errors)[order], np.array(row.cells)[order]
                if row.of:
                    controls.setdefault(f"{row.role} {row.of}", []).append(errors)
                else:
                    rows.setdefault(row.encoder, []).append(errors)
                    layers[row.encoder] = "" if row.role == "baseline" else row.layer
            for name, several in controls.items():  # random weights: the mean loss over their seeds
                rows.setdefault(name, []).append(np.mean(several, axis=0))
        upper_bound, frames = self.errors("residual_cnn", "mse")
        if folders and upper_bound:
            assert np.allclose(frames * GRID[0] * GRID[1], cells), "the upper bound and the probes see other cells"
            rows["upper_bound"] = [total * GRID[0] * GRID[1] for total in upper_bound]
        table = {}
        for name, losses in rows.items():
            table[name] = {"layer": layers.get(name, ""), "mse": mean_of(losses, cells)}
            table[name]["over_null"] = ratio_of(losses, rows["pixels"])
            table[name]["over_autoencoder"] = ratio_of(losses, rows["autoencoder"])
        return table

    def verdicts(self) -> dict[str, str]:
        """What the probe of seed 0 says of each encoder by the rule of docs/method.md."""
        folders = self.plan.finished("probe")
        if not folders:
            return {}
        found = Evidence.load(folders[0] / "evidence.json").verdicts
        return {item.encoder: item.verdict for item in found}

    def sweep(self) -> list[dict[str, Any]]:
        """The runs of the sweep, with their score on the test rooms."""
        folder = self.plan.out / "sweep"
        if not (folder / "sweep.json").is_file():
            return []
        rows = json.loads((folder / "sweep.json").read_text())["runs"]
        totals: dict[str, Array] = {}
        for row in rows:
            if row["value"] is not None:
                total, count = by_scene(measure(folder / row["folder"], self.plan)["parts"]["test"], "rmse")
                totals[row["folder"]] = total
                row["test"] = mean_of([total], count)
        for row in rows:
            other = row["folder"].replace("=relu", "=tanh")
            if other != row["folder"] and {row["folder"], other} <= totals.keys():
                row["over_tanh"] = ratio_of([totals[row["folder"]]], [totals[other]])
        return list(rows)

    def to_json(self) -> dict[str, Any]:
        """Everything, for docs/origin-claims.json."""
        split = json.loads((self.plan.out / "split.json").read_text())["parts"]
        logs = sorted((self.plan.out / "logs").glob("*.json"))
        finished = {name: runs for name in NAMES if (runs := self.plan.finished(name))}
        return {
            "schema_version": 1,
            "interval": f"95 %, {METHOD}; the spread over seeds added where there are several",
            "split": {
                name: {"scenes": len(part["scenes"]), "frames": len(part["ids"])} for name, part in split.items()
            },
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "commands": [
                self.plan.split().command,
                *(json.loads(log.read_text())["command"] for log in logs if log.stem != "split"),
            ],
            "parameters": {name: measure(runs[0], self.plan)["parameters"] for name, runs in finished.items()},
            "probe": self.probes(),
            "verdicts": self.verdicts(),
            "sweep": self.sweep(),
            "test": {name: self.scores(name) for name in finished},
            "ratios": {
                title: {metric: found for metric in METRICS if (found := self.ratio(first, second, metric))}
                for title, (first, second) in PAIRS.items()
                if first in finished and second in finished
            },
            "seen_and_unseen": {
                name: self.leak(name, "mse" if name in ("autoencoder", "gradient") else "rmse") for name in finished
            },
        }
