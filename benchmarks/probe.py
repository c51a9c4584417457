"""The whole probe run against one bare forward pass, the closed form against Adam, and memory against frames.

python benchmarks/probe.py DATA --encoder SPEC [--frames N]

Every comparison runs both sides alternately in this process and gives the ratio of the medians.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fathom.data.dataset import Dataset, Frame
from fathom.data.sources import load
from fathom.data.transforms import fit
from fathom.encoders import open_encoder
from fathom.probing.plan import default_size
from fathom.probing.probe import probe
from fathom.probing.settings import BASELINES
from fathom.progress import set_quiet
from fathom.sample import Batch, Sample

BATCH = 16


@dataclass
class Decoded:
    """Frames of a data set, decoded and resized once, kept in memory."""

    samples: list[Sample]
    kind: str = "decoded"
    location: str = "memory"

    def __post_init__(self) -> None:
        self.frames = tuple(Frame(sample.id, sample.scene) for sample in self.samples)
        self.facts: dict[str, str] = {}
        self.official: dict[str, list[int]] = {}

    def read(self, index: int) -> Sample:
        return self.samples[index]


def seconds(work: Callable[[], object]) -> float:
    """Processor time of this process, all its threads: a machine that others use too does not distort it."""
    start = time.process_time()
    work()
    return time.process_time() - start


def paired(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, run alternately, and the median of the ratios of neighbours."""
    times = [(seconds(one), seconds(other)) for _ in range(rounds)]
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(a / b for a, b in times),
    )


def whole_run(data: Dataset, encoder: str, rounds: int, grid: tuple[int, int] | None) -> None:
    size = default_size(data[0].image_size)
    samples = [fit(sample, size) for sample in data]
    memory = Dataset.whole(Decoded(samples))
    opened = open_encoder(encoder, size=size)
    batches = [Batch.of(samples[start : start + BATCH]).image for start in range(0, len(samples), BATCH)]
    settings = {"size": size, "grid": grid, "pictures": 0, "batch_size": BATCH, "controls": 0}

    def forward() -> None:
        for images in batches:
            opened.encode(images)

    def run(parts: tuple[Dataset, Dataset], baselines: tuple[str, ...], **more: int) -> Callable[[], object]:
        return lambda: probe(encoder, "depth", *parts, baselines=baselines, **{**settings, **more})

    in_memory, on_disk = memory.split(0.25), data.split(0.25)
    cases = {
        "the encoder alone, frames in memory": (run(in_memory, ("constant",)), 1),
        "the encoder and five baselines, frames in memory": (run(in_memory, BASELINES), 1),
        "the encoder, five baselines and six controls, frames in memory": (run(in_memory, BASELINES, controls=5), 7),
        "the encoder and five baselines, frames on disk": (run(on_disk, BASELINES), 1),
    }
    print(f"{len(samples)} frames of {size[0]}x{size[1]}, {encoder}, {torch.get_num_threads()} threads")
    for name, (whole, encoders) in cases.items():
        mine, bare, ratio = paired(whole, forward, rounds)
        print(
            f"  whole run, {name}: {mine:.1f} s; one bare forward pass {bare:.1f} s; "
            f"ratio for each of {encoders} encoders {ratio / encoders:.2f}",
            flush=True,
        )


def closed_form_against_adam(data: Dataset, encoder: str) -> None:
    """Fit one probe on cached features by the closed form (λ path and cross-validation included) and by Adam."""
    from fathom.probing.linear.moments import Moments
    from fathom.probing.linear.ridge import PATH, cross_validate, decompose

    size = default_size(data[0].image_size)
    opened = open_encoder(encoder, size=size)
    X, y, groups = [], [], []
    scenes = {scene: index for index, scene in enumerate(data.scenes)}
    for start in range(0, len(data), BATCH):
        samples = [fit(data[i], size) for i in range(start, min(start + BATCH, len(data)))]
        features = opened.encode(Batch.of(samples).image)
        layer = features[opened.layers[-1]]
        cells = layer.shape[-2:]
        for sample, values in zip(samples, layer, strict=True):
            X.append(values.flatten(1).T.double())
            y.append(torch.nn.functional.adaptive_avg_pool2d(sample.depth.double(), cells).flatten()[:, None])
            groups.append(torch.full((len(y[-1]),), scenes[sample.scene]))
    X, y, groups = torch.cat(X), torch.cat(y), torch.cat(groups)
    folds = [list(range(k, len(scenes), 5)) for k in range(5)]

    def moments_of() -> Moments:
        moments = Moments.zeros(len(scenes), X.mean(0), y.mean(0))
        for scene in range(len(scenes)):
            rows = groups == scene
            moments.add(scene, X[rows].float(), y[rows].float())
        return moments

    chosen = cross_validate(moments_of(), folds)
    lam = float(chosen.probe.penalty[0])
    one = statistics.median(seconds(lambda: decompose(moments_of().total()).solve(lam)) for _ in range(3))
    path = statistics.median(seconds(lambda: cross_validate(moments_of(), folds)) for _ in range(3))
    mean, deviation = X.mean(0), X.std(0, correction=0).clamp(min=1e-9)
    Z, t = ((X - mean) / deviation).float(), y.float()

    def objective(weight: torch.Tensor, bias: torch.Tensor) -> float:
        return float(((Z @ weight + bias - t) ** 2).mean() + lam * weight.square().sum())

    exact = (chosen.probe.weight * deviation[:, None]).float()
    optimum = objective(exact, (mean @ chosen.probe.weight + chosen.probe.bias).float())
    print(f"  {len(Z)} cells x {Z.shape[1]} channels, λ {lam:g}, optimum {optimum:.4f}")
    best = None
    for rate in (1e-1, 1e-2, 1e-3):
        torch.manual_seed(0)
        weight = torch.zeros(Z.shape[1], 1, requires_grad=True)
        bias = t.mean().reshape(1).clone().requires_grad_(True)
        optimiser = torch.optim.Adam([weight, bias], lr=rate)
        spent, loss, epoch = 0.0, float("inf"), 0
        while spent < 60 and loss > optimum * 1.01:
            start = time.process_time()
            for rows in torch.randperm(len(Z)).split(4096):
                optimiser.zero_grad(set_to_none=True)
                (((Z[rows] @ weight + bias - t[rows]) ** 2).mean() + lam * weight.square().sum()).backward()
                optimiser.step()
            spent, epoch = spent + time.process_time() - start, epoch + 1
            with torch.no_grad():
                loss = objective(weight, bias)
        reached = loss <= optimum * 1.01
        print(
            f"  Adam lr {rate:g}: {spent:.2f} s, {epoch} epochs, {'within' if reached else 'not within'} 1 % (loss {loss:.4f})"
        )
        best = min(spent, best or spent) if reached else best
    fits = len(PATH) * len(folds) + 1
    print(f"  closed form: one fit {one:.2f} s, the path of {len(PATH)} penalties in {len(folds)} folds {path:.2f} s")
    if best is not None:
        print(f"  Adam at its best rate: one fit {best / one:.1f}x as long; {fits} fits, at {best:.2f} s each, "
              f"{fits * best / path:.0f}x as long as the path")  # fmt: skip
    else:
        print("  Adam came within 1 % of the optimum at no rate in 60 s")


def memory(data: str, encoder: str, frames: int) -> None:
    """Peak resident memory of a run over `frames` and over ten times as many, each in a process of its own."""
    peaks = []
    for count in (frames // 10, frames):
        command = [sys.executable, __file__, data, "--encoder", encoder, "--frames", str(count), "--peak"]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]))
    print(f"  peak memory: {peaks[0]:.0f} MB for {frames // 10} frames, {peaks[1]:.0f} MB for {frames}: "
          f"ratio {peaks[1] / peaks[0]:.3f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--frames", type=int, default=0, help="use this many frames, spread evenly (default all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--grid", help="probe grid HxW")
    parser.add_argument("--peak", action="store_true", help="one run, then print its peak memory in MB")
    parser.add_argument("--only", choices=("run", "adam", "memory"))
    options = parser.parse_args()
    set_quiet(True)
    data = load(options.data)
    if options.frames:
        step = max(1, len(data) // options.frames)
        data = data.subset(range(0, len(data), step)[: options.frames])
    if options.peak:
        train, test = data.split(0.25)
        probe(options.encoder, "depth", train, test, pictures=0)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    grid = tuple(int(v) for v in options.grid.split("x")) if options.grid else None
    if options.only in (None, "run"):
        whole_run(data, options.encoder, options.rounds, grid)
    if options.only in (None, "adam"):
        closed_form_against_adam(data, options.encoder)
    if options.only in (None, "memory"):
        memory(options.data, options.encoder, len(data))


if __name__ == "__main__":
    main()
