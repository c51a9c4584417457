"""Heads beyond linear against the linear probe: test loss, control task, parameters and processor seconds.

python benchmarks/heads.py DATA --encoder SPEC [--feature depth] [--head mlp --head bins] [--seeds 0 1] [--json FILE]

Split, grid, folds and control task are those of `fathom probe` with seed 0; `--seeds` are of the heads. Every head is trained by
itself, so that its seconds are its own. All candidates are measured in one pass over the test frames.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fathom.atomic import write_json
from fathom.data.dataset import Dataset
from fathom.data.loading import batches, readable
from fathom.data.sources import load
from fathom.data.transforms import fit
from fathom.encoders import open_encoder
from fathom.features import feature
from fathom.probing.candidates import Candidate, FittedProbe, ReadBatch, Role
from fathom.probing.heads.fitted import FittedHead
from fathom.probing.heads.training import HeadSettings, train_heads
from fathom.probing.linear.ridge import cross_validate
from fathom.probing.passes import (
    Reading,
    Support,
    add_errors,
    empty_errors,
    images_of,
    most_blocks,
    supports,
    train_pass,
)
from fathom.probing.plan import default_grid, default_size, plan_blocks
from fathom.probing.targets import donor_positions
from fathom.progress import set_quiet
from fathom.sample import Grid
from fathom.statistics import loss_interval

BATCH, DONORS, FOLDS = 16, 32, 5


def linear(reading: Reading, kind: Support, train: Dataset, size: Grid, grid: Grid) -> tuple[FittedProbe, Any]:
    """The exact probe of every layer, and the mean of the training targets."""
    reading.place(images_of([fit(train[0], size)], "cpu"), grid)
    assert reading.design is not None
    blocks = plan_blocks(train, most_blocks(reading.design.channels, len(train.scenes), 1, 1), FOLDS, 0)
    ordered = train.subset(blocks.order(train))
    stream = ([sample for sample, _ in pairs] for pairs in batches(ordered, size, batch_size=BATCH))
    means = train_pass(stream, [reading], [kind], grid, blocks, "cpu")
    moments = reading.moments[kind.name]
    chosen = {
        layer: cross_validate(moments.select(columns), blocks.folds, tie=kind.ties)
        for layer, columns in reading.layers.items()
    }
    return FittedProbe(reading, kind, Role("encoder"), chosen, "cpu"), means[kind.name].mean()


def measure(
    candidates: Sequence[Candidate], kind: Support, test: Dataset, size: Grid, grid: Grid, reading: Reading, mean: Any
) -> list[list[dict[str, Any]]]:
    """For each candidate and layer: test MSE of the support's first feature with its interval, R² of it and of the control."""
    scenes = {scene: index for index, scene in enumerate(test.scenes)}
    sums = [empty_errors(len(scenes), len(c.layers), len(c.layers[0].penalty)) for c in candidates]
    for pairs in batches(test, size, batch_size=BATCH):
        samples = [sample for sample, _ in pairs]
        placed = {id(reading): reading.place(images_of(samples, "cpu"), grid)}
        Y, valid = kind.targets(samples, grid)
        batch = ReadBatch(samples, samples, placed, {kind.name: (Y, valid)})
        for candidate, errors in zip(candidates, sums, strict=True):
            add_errors(errors, candidate.predict(batch), Y, valid, mean, [scenes[sample.scene] for sample in samples])
    name = kind.features[0].name
    own, control = kind.outputs[name], kind.control(name)
    found = []
    for errors in sums:
        rows = []
        for layer in range(errors.squared.shape[1]):
            squared, cells = errors.squared[:, layer, own].sum(1).numpy(), errors.cells.numpy()
            interval = loss_interval(squared, cells)
            rows.append({
                "test_mse": float(squared.sum() / cells.sum()),
                "interval": [float(interval.low), float(interval.high)],
                "r2": 1 - float(squared.sum() / errors.target[:, own].sum()),
                "control_r2": 1 - float(errors.squared[:, layer, control].sum() / errors.target[:, control].sum()),
            })  # fmt: skip
        found.append(rows)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--feature", default="depth")
    parser.add_argument("--head", action="append", choices=["mlp", "bins"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--loss", default="mse")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    set_quiet(True)
    train, test = load(options.data).split(0.25, 0)
    size = default_size(train[0].image_size)
    grid = default_grid(size)
    reading = Reading(open_encoder(options.encoder, size=size))
    kind = supports([feature(options.feature, train)])[0]
    frames = [fit(sample, size) for sample in readable(train, donor_positions(train, DONORS, 0), False)]
    kind = kind.with_donors(frames, grid, 0)
    print(f"{len(train)} training frames of {len(train.scenes)} scenes, {len(test)} test frames of {len(test.scenes)}")

    start = time.process_time()
    probe, mean = linear(reading, kind, train, size, grid)
    print(f"linear: {time.process_time() - start:.0f} processor seconds with reading", flush=True)
    heads: list[tuple[FittedHead, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.head or ["mlp", "bins"]:
            for seed in options.seeds:
                start = time.process_time()
                (head,) = train_heads(
                    [reading], {id(reading): Role("encoder")}, [kind], train, [HeadSettings(name, options.loss)],
                    size=size, grid=grid, seed=seed, cache=options.cache or Path(temporary),
                )  # fmt: skip
                heads.append((head, time.process_time() - start))
                print(f"{name}, seed {seed}: {heads[-1][1]:.0f} processor seconds with reading", flush=True)
    measured = measure([probe, *(head for head, _ in heads)], kind, test, size, grid, reading, mean)
    rows: list[dict[str, Any]] = [
        {"head": f"linear:{layer.name}", "parameters": layer.channels + 1, "train_mse": float(layer.train_mse[0]),
         "cv_mse": float(layer.cv_mse[0]), **numbers}
        for layer, numbers in zip(probe.layers, measured[0], strict=True)
    ]  # fmt: skip
    for (head, seconds), (numbers,) in zip(heads, measured[1:], strict=True):
        own, control = head.networks
        rows.append({
            "head": head.layers[0].name, "parameters": head.parameters, "train_mse": float(own.train_mse.sum()),
            "validation_mse": float(own.validation_mse.sum()), "control_train_mse": float(control.train_mse.sum()),
            "epochs": [len(own.history), len(control.history)], "best": [own.best, control.best], **numbers,
            "processor_seconds": seconds,
        })  # fmt: skip
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
    if options.json:
        write_json(options.json, {"data": options.data, "encoder": options.encoder, "rows": rows})


if __name__ == "__main__":
    main()
