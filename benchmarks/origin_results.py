"""What the runs of origin_claims.py say: scores by frame, ratios with intervals over scenes and seeds, tables, pictures."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fathom import Evidence, load
from fathom.atomic import write_json, write_text
from fathom.data.dataset import Dataset
from fathom.probing.statistics import METHOD, interval, mean_over_seeds
from fathom.report.figures import FrameRow, frame_grid
from fathom.sample import Batch
from fathom.sobel import sobel
from fathom.training.checkpoint import load_model
from fathom.training.feed import Frames
from fathom.training.holdout import divide
from fathom.training.scoring import MeanMap, frame_scores
from fathom.training.targets import target_of

if TYPE_CHECKING:
    from origin_claims import Plan

GRID = (9, 12)
"""Of the probe: the grid of the autoencoder's code."""
METRICS = ("rmse", "mse", "mae", "absrel", "delta1", "edges")
UNETS = ("unet-mae", "unet-gradient", "unet-ssim")
NAMES = ("autoencoder", "residual_cnn", "plain-relu", "plain-tanh", "gradient", "finetune", *UNETS)
PAIRS = {
    "finetune / plain": ("finetune", "plain-relu"),
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
    floor = MeanMap()
    for batch in batches(kept(plan.train, seed, "train", size)):
        floor.add(*target_of(network, batch.image, batch.depth, batch.valid))
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
            flat = frame_scores(floor.map().expand_as(target), target, valid, depth)
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
    found = interval(mean, counts, seed_variance=variance, seed_df=freedom)
    return as_found(found.estimate, found.low, found.high, len(errors))


def ratio_of(first: Sequence[Array], second: Sequence[Array]) -> Found:
    """Loss of the first over that of the second, paired by scene and by seed."""
    pairs = list(zip(first, second, strict=False))
    ratios = np.array([a.sum() / b.sum() for a, b in pairs])
    variance = float(ratios.var(ddof=1) / len(ratios)) if len(ratios) > 1 else 0.0
    top, bottom = (np.mean([pair[side] for pair in pairs], axis=0) for side in (0, 1))
    found = interval(top, bottom, log=True, seed_variance=variance, seed_df=len(ratios) - 1)
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
            found = interval(own, flat, log=True)
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
        """Losses on the probe's grid: each probe, and the residual CNN's own prediction as the ceiling."""
        folders = self.plan.finished("probe")
        rows: dict[str, list[Array]] = {}
        layers: dict[str, str] = {}
        cells: Array = np.zeros(0)
        for seed, folder in enumerate(folders):
            evidence = Evidence.load(folder / "evidence.json")
            names = {spec: name for name, spec in self.plan.encoders(seed).items()}
            order = np.argsort(evidence.test_scenes)
            for row in evidence.rows:
                name = names.get(row.encoder, row.encoder)
                if row.chosen and row.feature == "depth" and (name in names.values() or row.role == "floor"):
                    rows.setdefault(name, []).append(np.array(row.errors)[order])
                    layers[name], cells = row.layer, np.array(row.cells)[order]
        ceiling, frames = self.errors("residual_cnn", "mse")
        if folders and ceiling:
            assert np.allclose(frames * GRID[0] * GRID[1], cells), "the ceiling and the probes see other cells"
            rows["ceiling"] = [total * GRID[0] * GRID[1] for total in ceiling]
        table = {}
        for name, errors in rows.items():
            table[name] = {"layer": layers.get(name, ""), "mse": mean_of(errors, cells)}
            table[name]["over_null"] = ratio_of(errors, rows["pixels"])
            table[name]["over_autoencoder"] = ratio_of(errors, rows["autoencoder"])
        return table

    def sweep(self) -> list[dict[str, Any]]:
        """The runs of the sweep, with their score on the test rooms."""
        folder = self.plan.out / "sweep"
        if not (folder / "sweep.json").is_file():
            return []
        rows = json.loads((folder / "sweep.json").read_text())["runs"]
        for row in rows:
            if row["value"] is not None:
                total, count = by_scene(measure(folder / row["folder"], self.plan)["parts"]["test"], "rmse")
                row["test"] = mean_of([total], count)
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
            "commands": [json.loads(log.read_text())["command"] for log in logs],
            "parameters": {name: measure(runs[0], self.plan)["parameters"] for name, runs in finished.items()},
            "probe": self.probes(),
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


# Tables and pictures.


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
            + [f"{scores[metric]['estimate']:.3f}" for metric in ("mae", "absrel", "delta1")]
            + [shown(scores.get("edges"), 4)]
            for name in present
            for scores in [found["test"][name]]
        ),
    )


def ratio_table(found: Mapping[str, Any], titles: Sequence[str]) -> str:
    metrics = ("rmse", "mae", "absrel", "edges")
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
        text = "diverged" if run["value"] is None else f"{run['value']:.3f} / {shown(run['test'])}"
        cells.setdefault(settings["optim.lr"], {})[settings["model.activation"]] = text
    return table(
        ["learning rate", "relu: held-out rooms / test rooms", "tanh: held-out rooms / test rooms"],
        ([rate, row.get("relu", "–"), row.get("tanh", "–")] for rate, row in cells.items()),
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
    edge = ["plain-relu", "plain-tanh", "finetune"]
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


def report(results: Results, docs: Path) -> None:
    """Write the JSON, the pictures, and what stands between the markers of docs/results-origin.md."""
    found = results.to_json()
    write_json(docs / "origin-claims.json", found)
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    picture(results.plan, NAMES[1:4] + NAMES[5:], images / "origin-networks.png")
    out = results.plan.out
    copies = {
        "probe-0/predictions.png": "probe",
        "autoencoder-0/pictures/unseen.png": "autoencoder",
        "sweep/sweep.png": "sweep",
    }
    for source, name in copies.items():
        if (out / source).is_file():
            shutil.copyfile(out / source, images / f"origin-{name}.png")
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
