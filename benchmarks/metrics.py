"""Speed of one protocol's metrics against the loop that the field's repositories have, and how closely the two agree.

python benchmarks/metrics.py [--protocol nyu-eigen] [--images 48] [--threads 2]

Both sides take the same predictions at the size of the truth, clamp, crop, mask and compute all metrics, image by image.
The other side is plain NumPy in float32: boolean indexing, then one expression a metric. They run in turns within one
process, round by round; the ratio is the median over rounds, with one thread of processor time, which other work on the machine
disturbs less. Agreement is against the same loop in float64.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fathom.evaluation.evaluate import SCORERS
from fathom.metrics.depth import METRICS, metrics_of_rows
from fathom.metrics.protocols import PROTOCOLS, Protocol
from fathom.sample import Sample

Scores = list[dict[str, float]]


def frames(count: int, size: tuple[int, int], holes: float) -> tuple[list[Sample], list[torch.Tensor]]:
    """Smooth rooms with a share of `holes` in their truth, and predictions some 20 % off."""
    generator = torch.Generator().manual_seed(0)
    samples, predictions = [], []
    for index in range(count):
        coarse = torch.rand(2, 1, 6, 8, generator=generator)
        depth, error = torch.nn.functional.interpolate(coarse, size, mode="bicubic")[:, 0]
        depth = 0.7 + 8.5 * depth.abs()
        valid = torch.rand(size, generator=generator) >= holes
        image = torch.zeros(3, *size, dtype=torch.uint8)
        samples.append(Sample(image, depth[None], valid[None], "scene", str(index)))
        predictions.append(depth * (0.8 + 0.4 * error) + 0.05 * torch.randn(size, generator=generator))
    return samples, predictions


def loop_metrics(p: NDArray[np.floating], g: NDArray[np.floating]) -> dict[str, float]:
    """Every metric by its own expression."""
    worse = np.maximum(g / p, p / g)
    e = np.log(p) - np.log(g)
    values = {
        "abs_rel": np.mean(np.abs(g - p) / g),
        "sq_rel": np.mean((g - p) ** 2 / g),
        "sq_rel_kitti": np.mean((g - p) ** 2 / g**2),
        "rmse": np.sqrt(np.mean((g - p) ** 2)),
        "rmse_log": np.sqrt(np.mean((np.log(g) - np.log(p)) ** 2)),
        "log10": np.mean(np.abs(np.log10(g) - np.log10(p))),
        "silog": 100 * np.sqrt(np.mean(e**2) - np.mean(e) ** 2),
        "silog_half": 100 * np.sqrt(np.mean(e**2) - np.mean(e) ** 2 / 2),
        "mae": np.mean(np.abs(g - p)),
        "delta1": np.mean(worse < 1.25),
        "delta2": np.mean(worse < 1.25**2),
        "delta3": np.mean(worse < 1.25**3),
    }
    return {name: float(value) for name, value in values.items()}


def loop(protocol: Protocol, truths: list[NDArray], masks: list[NDArray], predictions: list[NDArray]) -> Scores:
    """The protocol and its metrics for one image after another, in NumPy."""
    scores = []
    for truth, known, prediction in zip(truths, masks, predictions, strict=True):
        p = prediction.copy()
        p[p < protocol.least] = protocol.least
        p[p > protocol.most] = protocol.most
        p[np.isinf(p)] = protocol.most
        p[np.isnan(p)] = protocol.least
        valid = np.logical_and(np.logical_and(truth > protocol.least, truth < protocol.most), known)
        if protocol.rows and protocol.columns:
            inside = np.zeros(valid.shape, dtype=bool)
            inside[slice(*protocol.rows), slice(*protocol.columns)] = True
            valid = np.logical_and(valid, inside)
        scores.append(loop_metrics(p[valid], truth[valid]))
    return scores


def ours(
    protocol: Protocol, samples: list[Sample], predictions: list[torch.Tensor], pool: ThreadPoolExecutor
) -> Scores:
    """The same by `fathom evaluate`'s own functions, on its threads."""

    def scored(pair: tuple[Sample, torch.Tensor]) -> dict[str, float]:
        region = protocol.apply(pair[1], pair[0])
        found = metrics_of_rows(region.predictions, region.target, region.valid)
        return {name: float(values[0]) for name, values in found.items()}

    return list(pool.map(scored, zip(samples, predictions, strict=True)))


def largest_gap(mine: Scores, other: Scores) -> dict[str, float]:
    """The largest difference of any image, by metric, relative to the value where that is above 1."""
    return {
        name: max(abs(a[name] - b[name]) / max(abs(b[name]), 1) for a, b in zip(mine, other, strict=True))
        for name in METRICS
    }


def paired(
    one: Callable[[], object], other: Callable[[], object], rounds: int, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Median seconds of both, run in turns after one warm-up each, and the median of other / one."""
    one(), other()
    times = []
    for _ in range(rounds):
        start = clock()
        one()
        middle = clock()
        other()
        times.append((middle - start, clock() - middle))
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", default="nyu-eigen", choices=sorted(PROTOCOLS))
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="that score frames; those of `fathom evaluate` unless given")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    threads = options.threads or SCORERS
    pool = ThreadPoolExecutor(threads)
    protocol = PROTOCOLS[options.protocol]
    size = (768, 1024) if options.protocol.startswith("diode") else (480, 640)
    record = []
    print(f"{protocol.name}, {options.images} images of {size[0]}x{size[1]}, {threads} threads")
    for holes in (0.0, 0.3):
        samples, predictions = frames(options.images, size, holes)
        truths = [sample.depth[0].numpy() for sample in samples]
        masks = [sample.valid[0].numpy() for sample in samples]
        guesses = [prediction.numpy() for prediction in predictions]
        mine, other, ratio = paired(
            lambda s=samples, p=predictions: ours(protocol, s, p, pool),
            lambda t=truths, m=masks, g=guesses: loop(protocol, t, m, g),
            options.rounds,
            time.process_time if threads == 1 else time.perf_counter,
        )
        exact = loop(protocol, [t.astype(np.float64) for t in truths], masks, [g.astype(np.float64) for g in guesses])
        gap = largest_gap(ours(protocol, samples, predictions, pool), exact)
        worst = max(gap, key=gap.__getitem__)
        print(f"  {holes:.0%} of the truth missing: ours {1e3 * mine / options.images:.2f} ms an image, NumPy loop "
              f"{1e3 * other / options.images:.2f} ms: {ratio:.1f} times; largest difference {gap[worst]:.1e} ({worst})")  # fmt: skip
        record.append({"holes": holes, "seconds": mine, "numpy_seconds": other, "ratio": ratio, "largest_gap": gap})
    if options.json:
        settings = {"protocol": protocol.name, "images": options.images, "threads": threads}
        options.json.write_text(json.dumps({**settings, "results": record}, indent=2) + "\n")


if __name__ == "__main__":
    main()
