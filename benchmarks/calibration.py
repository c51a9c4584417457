"""Error rates of the verdict and coverage of its intervals, in simulated worlds where the truth is known.

A world is a test set of scenes and the errors that an encoder, baselines and random copies make in each. Scenes have 1 to 14
frames and a difficulty that is log-normal with skewness 3.3 (NYUv2 under linear probes: 3.1 to 3.5); the losses of random copies
have skewness 5; predictors differ scene by scene. Expected losses are set, so every truth is known. The verdict is the product's
own (`weigh_all`, `holm`, `decide`), on the sums by scene that a run would hand it.

One world is simulated cell by cell, through the product's moments, ridge and clip: random copies with a channel that is nearly dead in
training and fires in one test frame.

    python benchmarks/calibration.py                 # about ten minutes of one core
    python benchmarks/calibration.py --worlds 100    # a look

writes docs/calibration.json and docs/images/calibration.png and prints the tables of docs/method.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fathom.files.atomic import atomic_path, write_json
from fathom.probing.evidence.verdict import LEVEL, MARGIN, Baseline, Case, Control, decide, weigh_all
from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import Probe, decompose
from fathom.statistics import Interval, Ratio, scene_intervals

Array = NDArray[np.float64]

SCENES = (10, 12, 25, 50, 60, 120, 500)
DIFFICULTY = 0.75
"""Spread of the log of a scene's difficulty: (e^σ² + 2)√(e^σ² − 1) = 3.3 is its skewness."""
OWN = 0.15
"""Spread of the log of what one predictor makes of a scene, beside its difficulty."""
NESTED = 0.02
"""The same between baselines of which one contains the other, such as position and pixels+position."""
SEEDS = 5
SEED_TAIL = 0.92
"""Spread of the log of a random copy's excess loss: skewness 5."""
SEED_SPREAD = 0.04
"""Standard deviation of the losses of random copies, relative."""
FOLDS_SPREAD = 0.02
"""Standard deviation of cross-validated losses about the true ones, relative: other folds, other training scenes."""
UPPER_BOUND = 0.4
RESAMPLES = 1000
"""A tenth of the product's, for speed: quantiles are a little noisier, so what is measured here is no better than the product."""


@dataclass(frozen=True)
class World:
    """What is planted; losses are relative to the position baseline's.

    Attributes:
        name: of the setting.
        false: the verdict that would be wrong: `implicit`, `absent` or none.
        encoder: its expected loss; None: one more draw of the random copies.
        baselines: expected loss of each.
        nested: baselines err nearly alike.
        random: mean expected loss of the random copies, None for none.
        control: expected loss of the encoder on the control task; the baselines' is 1 each.
        skew: the encoder's loss is that much larger in the hardest fifth of the scenes, and smaller elsewhere.
        building: share of the scenes that lie in one building, and have half of what is their own in common.
    """

    name: str
    false: str = ""
    encoder: float | None = 1.0
    baselines: tuple[float, ...] = (1.3, 1.0, 0.85)
    nested: bool = False
    random: float | None = None
    control: float = 1.0
    skew: float = 0.0
    building: float = 0.0


WORLDS = (
    World("position only", "implicit", 1.0, (1.3, 1.0, 1.0), nested=True, random=1.0),
    World("one more random draw", "implicit", None, (1.3, 1.06, 1.05), random=1.0),
    World("exact tie", "implicit", 0.85),
    World("exact tie, skewed", "implicit", 0.85, skew=0.3),
    World("exact tie, nested", "implicit", 0.85, (1.3, 0.85, 0.85, 0.85), nested=True),
    World("exact tie, one building", "implicit", 0.85, building=0.4),
    World("finer place", "implicit", 0.7, control=0.7 / 0.85, baselines=(1.3, 0.87, 0.85)),
    World("removes 10 %", "", 0.9 * 0.85, random=0.9),
    World("removes 20 %", "", 0.8 * 0.85, random=0.9),
    World("removes the margin", "absent", (1 - MARGIN) * 0.85),
    World("removes the margin, nested", "absent", (1 - MARGIN) * 0.85, (1.3, 0.85, 0.85, 0.85), nested=True),
    World("removes the margin, tied", "absent", (1 - MARGIN) * 0.85, (1.3, 0.85, 0.85, 0.85)),
    World("removes the margin, skewed", "absent", (1 - MARGIN) * 0.85, skew=0.3),
    World("removes the margin, one building", "absent", (1 - MARGIN) * 0.85, building=0.4),
)


@dataclass(frozen=True)
class Planted:
    """A case and what is true of it."""

    case: Case
    encoder: float
    baselines: tuple[float, ...]


def plant(world: World, scenes: int, rng: np.random.Generator) -> Planted:
    """Draw the scenes of a world and everybody's errors there."""
    cells = 1200 * np.clip(np.rint(rng.lognormal(1.2, 0.6, scenes)), 1, 14)
    together = np.arange(scenes) < world.building * scenes

    def own(spread: float) -> Array:
        """Factors of mean 1, one a scene; those of one building have half of their variance in common."""
        z = rng.standard_normal(scenes)
        z = np.where(together, (rng.standard_normal() + z) / 2**0.5, z)
        return np.asarray(np.exp(spread * z - spread**2 / 2))

    difficulty = cells * own(DIFFICULTY)

    def losses(mean: float, alike: Array | None = None) -> Array:
        return np.asarray(mean * difficulty * (own(OWN) if alike is None else alike * own(NESTED)))

    def drawn(mean: float) -> float:
        excess = rng.lognormal(0, SEED_TAIL)
        centre, sd = np.exp(SEED_TAIL**2 / 2), np.exp(SEED_TAIL**2 / 2) * np.sqrt(np.exp(SEED_TAIL**2) - 1)
        return float(mean * (1 + SEED_SPREAD * (excess - centre) / sd))

    alike = own(OWN) if world.nested else None
    control = cells * own(0.4)

    def on_control(mean: float) -> Array:
        return np.asarray(mean * control * own(0.05))

    def cv(mean: float) -> float:
        return float(mean * (1 + FOLDS_SPREAD * rng.standard_normal()))

    baselines = [
        Baseline(f"baseline {index}", (losses(mean, alike),), cv(mean), on_control(1.0))
        for index, mean in enumerate(world.baselines)
    ]
    if world.random is not None:
        means = [drawn(world.random) for _ in range(SEEDS)]
        errors = tuple(losses(mean) for mean in means)
        baselines.append(Baseline("random:encoder", errors, cv(float(np.mean(means))), on_control(1.0)))
    mean = drawn(world.random or 1.0) if world.encoder is None else world.encoder
    errors = losses(mean) * _harder(difficulty / cells, world.skew)
    case = Case(
        "encoder",
        "depth",
        cells,
        errors,
        tuple(baselines),
        Control(errors=on_control(world.control), around=losses(1.4), control_around=on_control(1.2)),
        losses(UPPER_BOUND),
    )
    return Planted(case, mean, world.baselines)


def _harder(difficulty: Array, skew: float) -> Array:
    """Factors of mean 1 under the difficulty as weight, larger by `skew` in the hardest fifth of the scenes."""
    from scipy.stats import norm

    hard = norm.ppf(0.8) * DIFFICULTY - DIFFICULTY**2 / 2
    share = float(norm.sf((hard - DIFFICULTY**2 / 2) / DIFFICULTY))  # of the squared error that those scenes hold
    return np.asarray(np.where(np.log(difficulty) > hard, 1 + skew, 1 - skew * share / (1 - share)))


def measure(world: World, scenes: int, worlds: int, seed: int = 0) -> dict[str, Any]:
    """Rates over many worlds of one setting."""
    rng = np.random.default_rng([seed, scenes, WORLDS.index(world)])
    planted = [plant(world, scenes, rng) for _ in range(worlds)]
    found = weigh_all([item.case for item in planted], resamples=RESAMPLES)
    kinds = [decide(item, item.p_implicit, item.p_absent).kind for item in found]
    # `implicit` is looked at first; how often `absent` alone would be said is what its level is about.
    absent = [item.p_absent <= LEVEL for item in found]
    losses = scene_intervals(
        [Ratio(item.case.errors, item.case.cells, log=True) for item in planted], resamples=RESAMPLES
    )
    held: dict[str, list[bool]] = {"loss": [], "gain": [], "relative": [], "share": []}
    for item, findings, loss in zip(planted, found, losses, strict=True):
        held["loss"].append(_holds(loss, item.encoder))
        names = [baseline.name for baseline in item.case.baselines]
        reference = names.index(findings.reference.baseline)
        if reference < len(item.baselines):  # the expectation over seeds is no single probe's
            baseline = item.baselines[reference]
            held["gain"].append(_holds(findings.reference.interval, baseline - item.encoder))
            held["relative"].append(_holds(findings.relative, 1 - item.encoder / baseline))
            if findings.share is not None:
                held["share"].append(_holds(findings.share, (baseline - item.encoder) / (baseline - UPPER_BOUND)))
    return {
        "world": world.name,
        "false": world.false,
        "scenes": scenes,
        "worlds": worlds,
        "implicit": kinds.count("implicit") / worlds,
        "absent": kinds.count("absent") / worlds,
        "absent alone": sum(absent) / worlds,
        **{f"coverage {name}": sum(v) / len(v) if len(v) >= worlds / 2 else None for name, v in held.items()},
    }


def _holds(interval: Interval, truth: float) -> bool:
    return bool(interval.low <= truth <= interval.high)


# --- Cell by cell: a channel that is nearly dead in training and fires in one test frame -----------------------------------

CELLS, CHANNELS, TRAIN_SCENES, FRAMES = 24, 6, 40, 4
FIRES = 51_020.0
"""Standard deviations that such a channel reached in one frame of NYUv2."""
EXPLODING = 3 / 40
"""Share of untrained networks that had one."""


def exploding(scenes: int, worlds: int, clip: bool, seed: int = 0) -> dict[str, Any]:
    """Rates where the encoder removes 20 % and random copies may have an exploding channel, with the clip or without."""
    rng = np.random.default_rng([seed, scenes, 77])
    cases = [_exploding_case(scenes, clip, rng) for _ in range(worlds)]
    found = weigh_all(cases, resamples=RESAMPLES)
    kinds = [decide(item, item.p_implicit, item.p_absent).kind for item in found]
    rates = {kind: kinds.count(kind) / worlds for kind in ("implicit", "absent")}
    name = "removes 20 %, exploding copies" + ("" if clip else ", no clip")
    return {"world": name, "false": "", "scenes": scenes, "worlds": worlds, **rates}


def _exploding_case(scenes: int, clip: bool, rng: np.random.Generator) -> Case:
    rows = FRAMES * CELLS
    total = TRAIN_SCENES + scenes
    tau = np.exp(0.5 * rng.standard_normal((total, 1)) - 0.25)
    shared = rng.standard_normal((total, 2)) @ rng.standard_normal((2, rows)) / 2**0.5
    residual = tau * (shared + rng.standard_normal((total, rows)))
    signal = tau * rng.standard_normal((total, rows))
    depth = np.clip(3 + residual + 0.5 * 2**0.5 * signal, 0.5, 10)
    given = np.roll(depth, 1 + int(rng.integers(total - 1)), axis=0)

    def view(known: bool, fires: bool) -> Array:
        X = rng.standard_normal((total, rows, CHANNELS))
        if known:
            X[..., 0] = signal
        if fires:
            X[..., 1] *= 1e-3 * (rng.random((total, rows)) < 0.02)
            X[TRAIN_SCENES + int(rng.integers(scenes)), :CELLS, 1] = FIRES * X[:TRAIN_SCENES, :, 1].std()
        return X

    def measured(X: Array) -> tuple[Array, Array]:
        y = np.stack([depth, given], axis=-1)
        flat = [torch.from_numpy(part[:TRAIN_SCENES].reshape(TRAIN_SCENES * rows, part.shape[-1])) for part in (X, y)]
        probe = decompose(Moments.of(*flat)).solve(1e-4)
        predicted = _predict(probe, X[TRAIN_SCENES:], clip)
        squared = ((predicted - y[TRAIN_SCENES:]) ** 2).sum(1)
        return squared[:, 0], squared[:, 1]

    encoder, control = measured(view(known=True, fires=False))
    constant, constant_control = measured(np.zeros((total, rows, 0)))
    copies = [measured(view(known=False, fires=bool(rng.random() < EXPLODING))) for _ in range(SEEDS)]
    cells = np.full(scenes, float(rows))
    return Case(
        "encoder",
        "depth",
        cells,
        encoder,
        (
            Baseline("constant", (constant,), 1.0, constant_control),
            Baseline("random:encoder", tuple(e for e, _ in copies), 1.0, np.mean([c for _, c in copies], axis=0)),
        ),
        Control(errors=control, around=constant, control_around=constant_control),
    )


def _predict(probe: Probe, X: Array, clip: bool) -> Array:
    flat = torch.from_numpy(X.reshape(X.shape[0] * X.shape[1], X.shape[-1]))
    predicted = probe.predict(flat) if clip else flat @ probe.weight + probe.bias
    return predicted.numpy().reshape(*X.shape[:2], -1)


# --- Tables and picture ----------------------------------------------------------------------------------------------------


def tables(records: Sequence[dict[str, Any]]) -> str:
    """The tables of docs/method.md in Markdown."""
    counts = sorted({record["scenes"] for record in records})
    names = list(dict.fromkeys(record["world"] for record in records))
    lines = []

    def rows(title: str, key: str, chosen: Sequence[str]) -> None:
        lines.extend(
            [
                f"\n{title}\n",
                "| world | " + " | ".join(f"{n} scenes" for n in counts) + " |",
                "|---" * (len(counts) + 1) + "|",
            ]
        )
        for name in chosen:
            values = {r["scenes"]: r.get(key) for r in records if r["world"] == name}
            cells = ["" if values.get(n) is None else f"{100 * values[n]:.1f}" for n in counts]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")

    def of(false: str) -> list[str]:
        return [name for name in names if any(r["world"] == name and r["false"] == false for r in records)]

    rows("False `implicit`, % of worlds:", "implicit", of("implicit"))
    rows("False `absent`, % of worlds:", "absent alone", of("absent"))
    rows("`implicit` where it is true, %:", "implicit", of(""))
    rows("`absent` where the encoder has nothing over the baselines, %:", "absent", of("implicit")[:5])
    for key in ("loss", "gain", "relative", "share"):
        rows(
            f"Coverage of the 95 % interval of the {key}, %:",
            f"coverage {key}",
            [n for n in names if "exploding" not in n],
        )
    return "\n".join(lines)


def draw(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Four panels: false `implicit`, false `absent`, power, coverage."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(17, 4.2), constrained_layout=True)
    panels = (
        ("false `implicit`, % (goal: at most 5)", "implicit", "implicit"),
        ("false `absent`, % (goal: at most 5)", "absent", "absent alone"),
        ("`implicit` where it is true, %", "", "implicit"),
        ("coverage of 95 % intervals of the gain, %", None, "coverage gain"),
    )
    for axis, (title, false, key) in zip(axes, panels, strict=True):
        for name in dict.fromkeys(r["world"] for r in records):
            points = [
                (r["scenes"], 100 * r[key])
                for r in records
                if r["world"] == name and r.get(key) is not None and false in (None, r["false"])
            ]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", ms=3, label=name)
        axis.set(title=title, xlabel="test scenes", xscale="log")
        axis.set_xticks(SCENES, [str(count) for count in SCENES], fontsize=7)
        axis.minorticks_off()
        axis.legend(fontsize=6)
    for axis in axes[:2]:
        axis.axhline(5, color="0.4", lw=0.8)
        axis.set_ylim(-0.3, 10)
    axes[3].axhspan(93, 97, color="0.85")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=1000, help="of each setting")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, records = time.process_time(), []
    for world in WORLDS:
        records += [measure(world, scenes, options.worlds) for scenes in SCENES]
        print(json.dumps(records[-len(SCENES) :]), flush=True)
    for clip in (True, False):
        records += [exploding(scenes, options.worlds, clip) for scenes in (12, 50)]
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(
        options.out / "calibration.json",
        {
            "command": f"python benchmarks/calibration.py --worlds {options.worlds}",
            "python": platform.python_version(),
            "numpy": np.__version__,
            "processor_seconds": round(time.process_time() - start),
            "settings": {"level": LEVEL, "margin": MARGIN, "resamples": RESAMPLES, "seeds": SEEDS},
            "worlds": [asdict(world) for world in WORLDS],
            "records": records,
        },
    )
    draw(records, options.out / "images" / "calibration.png")
    print(tables(records))


if __name__ == "__main__":
    main()
