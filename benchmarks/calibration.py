"""Error rates of the verdict and coverage of the intervals, in planted worlds where the truth is known.

A world is a training and a test set of rooms: rooms have unequal numbers of frames, their own scale (deep rooms are harder),
and residuals that are smooth over a frame and shared by the frames of a room, so that cells are far from independent. Probes
are fitted by the code of the product on the world's training moments and measured on its test rooms; the verdict is the
product's. What is true of a fitted probe follows in closed form. Beside it stands the naive method: cells as independent.

    python benchmarks/calibration.py                 # about ten minutes on two cores
    python benchmarks/calibration.py --worlds 100    # a look

writes docs/calibration.json and docs/images/calibration.png.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fathom.atomic import atomic_path, write_json
from fathom.probing.evidence.verdict import LEVEL, MARGIN, Baseline, Case, Control, Verdict, verdicts
from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import Probe, cross_validate
from fathom.statistics import Interval, scene_interval

Array = NDArray[np.float64]

ROWS, COLUMNS = 4, 6
SCALE = 0.2
"""Spread of ln τ, a room's scale. With it the log of a room's loss varies by 0.64 and losses have skewness 2.0; on 36 rooms of
NYUv2, linear probes gave 0.46 to 0.65 and 1.2 to 1.7."""
UPPER_BOUND = 0.6
"""Share of the position's loss that the supervised network removes."""
TRAIN_SCENES = 40
DONORS = 32
PENALTY = (1e-4,)
FOLDS = ((0,), (1,))
RESAMPLES = 2000
"""A fifth of the product's, for speed: quantiles are a little noisier, so what is measured here is no better than the product."""


@dataclass(frozen=True)
class World:
    """What is planted.

    Attributes:
        name: of the setting. null: whether `implicit` would be false.
        share: of the position's loss that the encoder's signal removes.
        spread: if not 0, the shares of the encoder and of every seed are drawn between 0 and this.
        seeds: random-weight encoders to be compared with.
        tie: no probe is fitted; encoder and strongest baseline have the same expected loss, exactly: the boundary of the null.
        gain: the encoder's is smaller by this share after all, exactly.
        skew: of a tie: the encoder's loss is that much larger in deep rooms, and smaller elsewhere to make up for it.
    """

    name: str
    null: bool
    share: float = 0.0
    spread: float = 0.0
    seeds: int = 0
    tie: bool = False
    gain: float = 0.0
    skew: float = 0.0


WORLDS = (
    World("position only", null=True, seeds=5),
    World("one more random draw", null=True, seeds=5, spread=0.3),
    World("exact tie", null=True, tie=True),
    World("exact tie, skewed", null=True, tie=True, skew=0.3),
    World("removes 10 %", null=False, share=0.10, seeds=5),
    World("removes 20 %", null=False, share=0.20, seeds=5),
    World("removes the margin", null=False, tie=True, gain=MARGIN),
)
SCENES = (10, 20, 50, 100, 500)

V, U = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, ROWS), np.linspace(-1, 1, COLUMNS), indexing="ij"))
PLACE = np.stack([U, V, U * V, U * U, V * V], axis=1)
MEAN_MAP = 3.0 + PLACE @ np.array([0.1, -0.7, 0.0, -0.2, 0.4])
"""The mean depth by place, in the span of the position baseline."""
SMOOTH = np.concatenate([np.ones((ROWS * COLUMNS, 1)), PLACE[:, :3]], axis=1)
SMOOTH /= np.sqrt((SMOOTH**2).mean(0) * SMOOTH.shape[1])
"""Basis of smooth residuals: with unit coefficients the variance is one on average over the cells."""


class Rooms:
    """Frames of some rooms: 1 to 14 a room (coefficient of variation near 0.6), and a scale τ a room with E τ² = 1.

    Attributes:
        room: of each frame, ``(N,)``. tau: of each frame's room, ``(N, 1)``. cells: of each room, ``(S,)``.
    """

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        frames = np.clip(np.rint(rng.lognormal(1.2, 0.6, count)), 1, 14).astype(int)
        self.count, self._rng = count, rng
        self.room = np.repeat(np.arange(count), frames)
        self.tau = np.exp(SCALE * rng.standard_normal(count) - SCALE**2)[self.room, None]
        self.cells = frames * float(ROWS * COLUMNS)

    def field(self) -> Array:
        """A residual of unit variance, ``(N, cells)``: half of the room, four tenths of the frame, a tenth of the cell."""
        k = SMOOTH.shape[1]
        shared = self._rng.standard_normal((self.count, k))[self.room]
        own = self._rng.standard_normal((len(self.room), k))
        white = self._rng.standard_normal((len(self.room), ROWS * COLUMNS))
        return np.asarray((np.sqrt(0.5) * shared + np.sqrt(0.4) * own) @ SMOOTH.T + np.sqrt(0.1) * white)

    def given(self, donors: Array) -> Array:
        """The control target: one of the maps ``(D, cells)`` for each frame, ``(N, cells)``."""
        return donors[self._rng.integers(len(donors), size=len(self.room))]

    def sums(self, values: Array) -> Array:
        """Σ over the cells of each room, of ``(N, cells)``."""
        return np.bincount(self.room, values.sum(1), minlength=self.count).astype(np.float64)


def draw_donors(rng: np.random.Generator) -> Array:
    """Depth of one frame of each of `DONORS` other rooms, ``(DONORS, cells)``."""
    scale = np.exp(SCALE * rng.standard_normal((DONORS, 1)) - SCALE**2)
    smooth, white = rng.standard_normal((DONORS, SMOOTH.shape[1])), rng.standard_normal((DONORS, len(SMOOTH)))
    return np.asarray(MEAN_MAP + scale * (np.sqrt(0.9) * smooth @ SMOOTH.T + np.sqrt(0.1) * white))


class Drawn:
    """Rooms, their depth, and what encoders and baselines show of them: ``(N, cells, p)``.

    y = m + τ (√a · signal + √(κ − a) · known to the upper bound alone + √(1 − κ) · known to nobody), a the largest share.
    """

    def __init__(self, shares: Sequence[float], scenes: int, donors: Array, rng: np.random.Generator) -> None:
        self.rooms = rooms = Rooms(scenes, rng)
        largest, tau = max(shares), rooms.tau
        signal = rooms.field()
        self.upper_bound_residual = np.sqrt(1 - UPPER_BOUND) * tau * rooms.field()
        known = np.sqrt(largest) * signal + np.sqrt(UPPER_BOUND - largest) * rooms.field()
        self.depth = MEAN_MAP + tau * known + self.upper_bound_residual
        self.given = rooms.given(donors)
        place = np.broadcast_to(PLACE, (len(rooms.room), *PLACE.shape))

        def beside_place(*channels: Array) -> Array:
            return np.concatenate([place, np.stack(channels, axis=-1)], axis=-1)

        def view(share: float) -> Array:
            # So much noise that the best linear reading removes `share`.
            q = share / largest if largest else 0.0
            return np.asarray(tau * (np.sqrt(q) * signal + np.sqrt(1 - q) * rooms.field()))

        self.encoders = [beside_place(view(share), rooms.field(), rooms.field()) for share in shares]
        self.baselines = {"constant": place[..., :0], "position": place, "pixels+position": beside_place(rooms.field())}

    def moments(self, X: Array) -> Moments:
        """Two groups, every other room, for they serve as folds; outputs are depth and control."""
        y = np.stack([self.depth, self.given], axis=-1) - MEAN_MAP.mean()
        transposed = np.swapaxes(X, 1, 2)
        frames = {"n": np.full(len(y), float(y.shape[1])), "x": X.sum(1), "y": y.sum(1), "yy": (y**2).sum(1)}
        frames |= {"xx": transposed @ X, "xy": transposed @ y}
        index, summed = torch.from_numpy(self.rooms.room % 2), {}
        for name, value in frames.items():
            tensor = torch.from_numpy(np.ascontiguousarray(value))
            summed[name] = tensor.new_zeros(2, *tensor.shape[1:]).index_add_(0, index, tensor)
        shift = torch.full((2,), float(MEAN_MAP.mean()), dtype=torch.float64)
        reach = torch.full((2, 2), torch.inf, dtype=torch.float64)
        zero = torch.zeros(X.shape[-1], dtype=torch.float64)
        return Moments(**summed, low=-reach, high=reach, shift_x=zero, shift_y=shift)

    def residuals(self, probe: Probe, X: Array) -> tuple[Array, Array]:
        """y − prediction of depth, ``(N, cells)``, and squared errors of the control by room, ``(S,)``."""
        predicted = X @ probe.weight.numpy() + probe.bias.numpy()
        return self.depth - predicted[..., 0], self.rooms.sums((self.given - predicted[..., 1]) ** 2)


def true_loss(probe: Probe, share: float, largest: float) -> float:
    """Expected squared error of a fitted probe: E τ² = 1, fields have unit variance and do not depend on place."""
    w, place = probe.weight[:, 0].numpy(), PLACE.shape[1]
    bend = PLACE @ w[:place] if len(w) else 0.0
    loss = float(((MEAN_MAP - bend - float(probe.bias[0])) ** 2).mean()) + 1.0
    if len(w) > place:
        q = share / largest if largest else 0.0
        loss += float(-2 * w[place] * np.sqrt(q * largest) + (w[place:] ** 2).sum())
    return loss


@dataclass(frozen=True)
class Outcome:
    """What one world gave: the verdict, and whether each interval held the truth (None: the truth has no closed form)."""

    kind: str
    naive_implicit: bool
    loss: bool | None = None
    gain: bool | None = None
    share: bool | None = None
    naive_loss: bool | None = None
    naive_gain: bool | None = None


def simulate(world: World, scenes: int, rng: np.random.Generator) -> Outcome:
    """Plant one world, decide, and compare with the truth."""
    if world.tie:
        return _tie(world, scenes, rng)
    shares = [world.share] + [0.0] * world.seeds
    if world.spread:
        shares = list(rng.uniform(0, world.spread, 1 + world.seeds))
    donors = draw_donors(rng)
    train, test = Drawn(shares, TRAIN_SCENES, donors, rng), Drawn(shares, scenes, donors, rng)
    fits = [cross_validate(train.moments(X), FOLDS, PENALTY) for X in train.encoders]
    baseline_fits = {name: cross_validate(train.moments(X), FOLDS, PENALTY) for name, X in train.baselines.items()}
    measured = [test.residuals(fit.probe, X) for fit, X in zip(fits, test.encoders, strict=True)]
    baseline_measured = {name: test.residuals(fit.probe, test.baselines[name]) for name, fit in baseline_fits.items()}
    residual, rooms = measured[0][0], test.rooms
    baselines = [
        Baseline(name, (rooms.sums(baseline_measured[name][0] ** 2),), float(fit.cv_mse[0]), baseline_measured[name][1])
        for name, fit in baseline_fits.items()
    ]
    if world.seeds:
        seeds = tuple(rooms.sums(other**2) for other, _ in measured[1:])
        cv_mse = float(np.mean([float(fit.cv_mse[0]) for fit in fits[1:]]))
        baselines.append(Baseline("random", seeds, cv_mse, np.mean([control for _, control in measured[1:]], axis=0)))
    found = _verdict(test.rooms, test.depth, residual, test.given, measured[0][1], baselines, test.upper_bound_residual)
    own = true_loss(fits[0].probe, shares[0], max(shares))
    losses = scene_interval(rooms.sums(residual**2), rooms.cells, log=True, resamples=RESAMPLES)
    naive_loss = naive_mean(residual**2)
    # The expectation over seeds is no single probe's, and the naive method knows no seeds: there position stands in.
    fixed = found.findings.reference.seeds == 1
    reference = found.findings.reference.baseline if fixed else "position"
    baseline = true_loss(baseline_fits[reference].probe, 0.0, 0.0)
    naive = naive_mean(baseline_measured[reference][0] ** 2 - residual**2)
    return Outcome(
        kind=found.kind,
        naive_implicit=naive[2],
        loss=_holds(losses, own),
        gain=_holds(found.findings.reference.interval, baseline - own) if fixed else None,
        share=_holds(found.findings.share, (baseline - own) / (baseline - (1 - UPPER_BOUND))) if fixed else None,
        naive_loss=naive_loss[0] <= own <= naive_loss[1],
        naive_gain=naive[0] <= baseline - own <= naive[1] if fixed else None,
    )


DEEP = 1.3
"""Rooms of a scale above this are deep; they hold `DEEP_SHARE` of the squared error."""


def _tie(world: World, scenes: int, rng: np.random.Generator) -> Outcome:
    """Encoder and strongest baseline err by as much in expectation, four fifths of it in common."""
    from scipy.stats import norm

    rooms = Rooms(scenes, rng)
    # Under the weight τ², ln τ has mean σ² and spread σ.
    deep_share = float(norm.sf((np.log(DEEP) - SCALE**2) / SCALE))
    ratio = np.where(rooms.tau > DEEP, 1 + world.skew, 1 - world.skew * deep_share / (1 - deep_share))
    common, spread = rooms.field(), 0.85**0.5 * rooms.tau
    encoder = spread * np.sqrt((1 - world.gain) * ratio) * (np.sqrt(0.8) * common + np.sqrt(0.2) * rooms.field())
    baseline = spread * (np.sqrt(0.8) * common + np.sqrt(0.2) * rooms.field())
    above = rooms.tau * rooms.field()
    donors = draw_donors(rng)
    given = rooms.given(donors)
    control = rooms.sums((given - donors.mean(0)) ** 2)
    baselines = [
        Baseline("constant", (rooms.sums((above + MEAN_MAP - MEAN_MAP.mean()) ** 2),), 1.3, control),
        Baseline("position", (rooms.sums(above**2),), 1.0, control),
        Baseline("pixels+position", (rooms.sums(baseline**2),), 0.85, control),
    ]
    found = _verdict(rooms, MEAN_MAP + above, encoder, given, control, baselines, None)
    naive = naive_mean(baseline**2 - encoder**2)
    truth = 0.85 * world.gain
    held = _holds(found.findings.reference.interval, truth)
    return Outcome(found.kind, naive[2], gain=held, naive_gain=naive[0] <= truth <= naive[1])


def _verdict(
    rooms: Rooms,
    depth: Array,
    residual: Array,
    given: Array,
    control_errors: Array,
    baselines: Sequence[Baseline],
    upper_bound: Array | None,
) -> Verdict:
    """The product's verdict on one encoder."""
    control = Control(
        errors=control_errors,
        around=rooms.sums((depth - MEAN_MAP.mean()) ** 2),
        control_around=rooms.sums((given - MEAN_MAP.mean()) ** 2),
    )
    most = None if upper_bound is None else rooms.sums(upper_bound**2)
    case = Case("encoder", "depth", rooms.cells, rooms.sums(residual**2), tuple(baselines), control, most)
    return verdicts([case], resamples=RESAMPLES)[0]


def naive_mean(values: Array) -> tuple[float, float, bool]:
    """The 95 % interval of a mean with cells taken as independent, and whether it is above 0, one-sided at 5 %."""
    mean, se = float(values.mean()), float(values.std() / np.sqrt(values.size))
    return mean - 1.96 * se, mean + 1.96 * se, mean > 1.645 * se


def _holds(interval: Interval | None, truth: float) -> bool | None:
    return None if interval is None or np.isnan(interval.low) else bool(interval.low <= truth <= interval.high)


def measure(world: World, scenes: int, worlds: int, seed: int = 0) -> dict[str, Any]:
    """Rates over many worlds of one setting."""
    torch.set_num_threads(1)
    rng = np.random.default_rng([seed, scenes, WORLDS.index(world)])
    outcomes = [simulate(world, scenes, rng) for _ in range(worlds)]
    record: dict[str, Any] = {"world": world.name, "null": world.null, "scenes": scenes, "worlds": worlds}
    record |= {kind: sum(o.kind == kind for o in outcomes) / worlds for kind in ("implicit", "inconclusive", "absent")}
    record["naive implicit"] = sum(o.naive_implicit for o in outcomes) / worlds
    for name in ("loss", "gain", "share", "naive_loss", "naive_gain"):
        held = [value for o in outcomes if (value := getattr(o, name)) is not None]
        record[f"coverage {name}".replace("_", " ")] = sum(held) / len(held) if len(held) >= worlds / 2 else None
    return record


def _job(arguments: tuple[World, int, int]) -> dict[str, Any]:
    return measure(*arguments)


def draw(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Three panels: false `implicit`, power, coverage; the naive method dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    names = list(dict.fromkeys(r["world"] for r in records))
    colours = {name: f"C{index}" for index, name in enumerate(names)}

    def line(axis: Any, name: str, key: str, dashed: bool = False) -> None:
        points = [(r["scenes"], 100 * r[key]) for r in records if r["world"] == name and r.get(key) is not None]
        if points:
            style = {"ls": "--", "marker": "x", "alpha": 0.6} if dashed else {"ls": "-", "marker": "o", "label": name}
            axis.plot(*zip(*points, strict=True), color=colours[name], **style)

    for name in names:
        null = next(r["null"] for r in records if r["world"] == name)
        line(axes[0] if null else axes[1], name, "implicit")
        line(axes[0] if null else axes[1], name, "naive implicit", dashed=True)
        line(axes[2], name, "coverage gain")
        line(axes[2], name, "coverage naive gain", dashed=True)
    axes[0].axhline(5, color="0.4", lw=0.8)
    axes[1].axhline(95, color="0.4", lw=0.8)
    axes[2].axhspan(93, 97, color="0.85")
    titles = ("false ‘implicit’, % (goal: under 5)", "‘implicit’ where true, %", "coverage of 95 % intervals, %")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="test scenes", xscale="log", ylim=(-3, 103))
        axis.set_xticks(SCENES, [str(count) for count in SCENES])
        axis.minorticks_off()
    for axis in axes[:2]:  # the third has the colours of both
        axis.legend(fontsize=8, loc="center right")
    figure.suptitle("Solid: the method of fathom. Dashed: cells taken as independent.", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=1000, help="of each setting")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    options = parser.parse_args()
    start = time.perf_counter()
    jobs = [(world, scenes, options.worlds) for scenes in SCENES for world in WORLDS]
    with ProcessPoolExecutor(options.workers) as pool:
        records = []
        for record in pool.map(_job, jobs):
            records.append(record)
            print(json.dumps(record), flush=True)
    order = [world.name for world in WORLDS]
    records.sort(key=lambda record: (order.index(record["world"]), record["scenes"]))
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(
        options.out / "calibration.json",
        {
            "command": f"python benchmarks/calibration.py --worlds {options.worlds}",
            "python": platform.python_version(),
            "numpy": np.__version__,
            "seconds": round(time.perf_counter() - start),
            "settings": {
                "level": LEVEL,
                "resamples": RESAMPLES,
                "train_scenes": TRAIN_SCENES,
                "upper_bound": UPPER_BOUND,
            },
            "worlds": [asdict(world) for world in WORLDS],
            "records": records,
        },
    )
    draw(records, options.out / "images" / "calibration.png")


if __name__ == "__main__":
    main()
