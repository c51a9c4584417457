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
from fathom.probing.run import probe
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
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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
    train, test = memory.split(0.25)
    disk_train, disk_test = data.split(0.25)
    opened = open_encoder(encoder, size=size)
    batches = [Batch.of(samples[start : start + BATCH]).image for start in range(0, len(samples), BATCH)]
    floors = ("constant", "position", "pixels", "pixels+position", "patch")
    settings = {"size": size, "grid": grid, "pictures": 0, "batch_size": BATCH}

    def forward() -> None:
        for images in batches:
            opened.encode(images)

    cases = {
        "one encoder, frames in memory": lambda: probe(encoder, "depth", train, test, floors=("constant",), **settings),
        "with five floors, frames in memory": lambda: probe(encoder, "depth", train, test, floors=floors, **settings),
        "with five floors, frames on disk": lambda: probe(
            encoder, "depth", disk_train, disk_test, floors=floors, **settings
        ),
    }
    print(f"{len(samples)} frames of {size[0]}x{size[1]}, {encoder}, {torch.get_num_threads()} threads")
    for name, run in cases.items():
        mine, bare, ratio = paired(run, forward, rounds)
        print(f"  whole run, {name}: {mine:.1f} s; one bare forward pass {bare:.1f} s; ratio {ratio:.2f}")


def closed_form_against_adam(data: Dataset, encoder: str) -> None:
    """Fit one probe on cached features by the closed form (λ path and cross-validation included) and by Adam."""
    from fathom.probing.moments import Moments
    from fathom.probing.ridge import cross_validate

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
    found: dict[str, float] = {}

    def closed() -> None:
        moments = Moments.zeros(len(scenes), X.shape[1], 1)
        for scene in range(len(scenes)):
            rows = groups == scene
            moments.add(X[rows].float(), y[rows].float(), scene)
        folds = [list(range(k, len(scenes), 5)) for k in range(5)]
        chosen = cross_validate(moments, folds)
        found["closed"] = float(((X @ chosen.probe.weight + chosen.probe.bias - y) ** 2).mean())

    took = seconds(closed)
    mean, deviation = X.mean(0), X.std(0).clamp(min=1e-9)
    Z, t = ((X - mean) / deviation).float(), y.float()
    best, spent = None, 0.0
    for rate in (1e-1, 1e-2, 1e-3):
        torch.manual_seed(0)
        weight = torch.zeros(Z.shape[1], 1, requires_grad=True)
        bias = y.mean().float().reshape(1).clone().requires_grad_(True)
        optimiser = torch.optim.Adam([weight, bias], lr=rate)
        start, loss, epoch = time.perf_counter(), float("inf"), 0
        while time.perf_counter() - start < max(60.0, 120 * took) and loss > found["closed"] * 1.01:
            order = torch.randperm(len(Z))
            for rows in order.split(4096):
                optimiser.zero_grad(set_to_none=True)
                ((Z[rows] @ weight + bias - t[rows]) ** 2).mean().backward()
                optimiser.step()
            epoch += 1
            with torch.no_grad():
                loss = float(((Z @ weight + bias - t) ** 2).mean())
        spent = time.perf_counter() - start
        reached = loss <= found["closed"] * 1.01
        print(f"  Adam lr {rate:g}: {spent:.1f} s, {epoch} epochs, training loss {loss:.4f} "
              f"({'within' if reached else 'not within'} 1 % of {found['closed']:.4f})")  # fmt: skip
        if reached and (best is None or spent < best):
            best = spent
    print(f"  closed form with path and cross-validation: {took:.2f} s" + (f"; Adam takes {best / took:.0f}x" if best else
          "; Adam did not get there at any rate"))  # fmt: skip


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
