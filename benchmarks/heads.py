"""Heads beyond linear against the linear probe: test loss, control task, parameters and seconds.

python benchmarks/heads.py DATA --encoder SPEC [--feature depth] [--head mlp --head bins] [--seeds 0 1] [--json FILE]

The split, grid and control task are those of `fathom probe`; every head is trained by itself, so that its seconds are its own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from fathom.atomic import write_json
from fathom.data.dataset import Dataset
from fathom.data.loading import batches, readable
from fathom.data.sources import load
from fathom.data.transforms import fit
from fathom.encoders import open_encoder
from fathom.features import feature
from fathom.probing.candidates import ReadBatch, Role
from fathom.probing.controls import donor_positions
from fathom.probing.fitted_head import FittedHead
from fathom.probing.head_training import HeadSettings, train_heads
from fathom.probing.passes import Reading, Support, add_errors, empty_errors, images_of, supports
from fathom.probing.plan import default_grid, default_size
from fathom.probing.run import DONORS, probe
from fathom.probing.statistics import ratio_interval
from fathom.sample import Grid

BATCH = 16


def measure(
    heads: list[FittedHead], kind: Support, test: Dataset, size: Grid, grid: Grid, reading: Reading
) -> list[dict]:
    """Test MSE with its interval over scenes, and R² on the feature and on the control, of each head."""
    scenes = {scene: index for index, scene in enumerate(test.scenes)}
    q = len(heads[0].layers[0].penalty)
    errors = [empty_errors(len(scenes), 1, q) for _ in heads]
    mean = torch.zeros(q)
    for pairs in batches(test, size, batch_size=BATCH):
        samples = [sample for sample, _ in pairs]
        placed = {id(reading): reading.place(images_of(samples, "cpu"), grid)}
        Y, valid = kind.targets(samples, grid)
        batch = ReadBatch(samples, samples, placed, {kind.name: (Y, valid)})
        for head, sums in zip(heads, errors, strict=True):
            add_errors(sums, head.predict(batch), Y, valid, mean, [scenes[sample.scene] for sample in samples])
    return [score(kind, sums) for sums in errors]


def score(kind: Support, sums) -> dict:
    """Of the support's first feature."""
    name = kind.features[0].name
    squared, cells = sums.squared[:, 0, kind.outputs[name]].sum(1).numpy(), sums.cells.numpy()
    interval = ratio_interval(squared, cells)
    control = sums.squared[:, 0, kind.control(name)].sum(1).numpy()
    return {
        "test_mse": float(squared.sum() / cells.sum()),
        "interval": [float(interval.low), float(interval.high)],
        "control_mse": float(control.sum() / cells.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--feature", default="depth")
    parser.add_argument("--head", action="append", choices=["mlp", "bins"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the heads; the split is that of seed 0")
    parser.add_argument("--loss", default="mse")
    parser.add_argument("--validation", type=float, default=HeadSettings.validation)
    parser.add_argument("--rate", type=float, default=HeadSettings.rate)
    parser.add_argument("--decay", type=float, default=HeadSettings.decay)
    parser.add_argument("--cells", type=int, default=HeadSettings.cells)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--skip-linear", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    train, test = load(options.data).split(0.25, 0)
    size = default_size(train[0].image_size)
    grid = default_grid(size)
    rows: list[dict] = []

    def show(row: dict) -> None:
        rows.append(row)
        print(
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )

    print(f"{len(train)} training frames of {len(train.scenes)} scenes, {len(test)} test frames of {len(test.scenes)}")
    if not options.skip_linear:
        start = time.monotonic()
        evidence = probe(options.encoder, options.feature, train, test, pictures=0)
        seconds = time.monotonic() - start
        for row in evidence.rows:
            if row.encoder == options.encoder and row.feature == options.feature:
                show({"head": "linear", "layer": row.layer, "chosen": row.chosen, "parameters": row.channels + 1,
                      "train_mse": row.train_mse, "cv_mse": row.cv_mse, "test_mse": row.test_mse,
                      "interval": list(row.interval or ()), "r2": row.r2, "control_r2": row.control_r2,
                      "seconds_of_whole_run": seconds})  # fmt: skip
    reading = Reading(open_encoder(options.encoder, size=size))
    kind = supports([feature(options.feature, train)])[0]
    frames = [fit(sample, size) for sample in readable(train, donor_positions(train, DONORS, 0), False)]
    kind = kind.with_donors(frames, grid, 0)
    for name in options.head or ["mlp", "bins"]:
        for seed in options.seeds:
            settings = HeadSettings(
                name,
                options.loss,
                validation=options.validation,
                rate=options.rate,
                decay=options.decay,
                cells=options.cells,
            )
            start = time.monotonic()
            (head,) = train_heads(
                [reading], {id(reading): Role("encoder")}, [kind], train, [settings],
                size=size, grid=grid, seed=seed, cache=options.cache,
            )  # fmt: skip
            seconds = time.monotonic() - start
            own, control = head.networks
            show({"head": name, "seed": seed, "parameters": head.parameters_of[options.feature],
                  "epochs": len(own.history), "best": own.best, "control_epochs": len(control.history),
                  "train_mse": float(own.train_mse.sum()), "validation_mse": float(own.validation_mse.sum()),
                  **measure([head], kind, test, size, grid, reading)[0],
                  "seconds_training": head.seconds, "seconds_with_reading": seconds})  # fmt: skip
            print("    validation by epoch:", np.array([epoch.validation_mse for epoch in own.history]).round(3))
    if options.json:
        write_json(options.json, {"data": options.data, "encoder": options.encoder, "rows": rows})


if __name__ == "__main__":
    main()
