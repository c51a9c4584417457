"""Heads beyond linear against the linear probe: test loss, control task, parameters and processor seconds.

python benchmarks/heads.py DATA --encoder SPEC [--feature depth] [--head mlp --head bins] [--seeds 0 1] [--json FILE]

Split, grid, folds and control task are those of `fathom probe` with seed 0; `--seeds` are of the heads. Every head is trained by
itself, so that its seconds are its own. All candidates are measured in one pass over the test frames.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fathom.data.sources import load
from fathom.files.atomic import write_json
from fathom.metrics.protocols import PROTOCOLS
from fathom.probing.candidates import Candidate
from fathom.probing.fit import fit_probes
from fathom.probing.heads.fitted import FittedHead
from fathom.probing.heads.training import HeadSettings, fit_heads
from fathom.probing.passes.measuring import measuring_pass
from fathom.probing.passes.training import training_pass
from fathom.probing.probe import plan
from fathom.probing.settings import ProbeSettings
from fathom.progress import set_quiet
from fathom.statistics import loss_interval


def numbers(item: Candidate) -> list[dict[str, Any]]:
    """For each layer: test MSE of the group's first feature with its interval, R² of it and of the control."""
    name, errors = item.group.features[0].name, item.sums
    own, control = item.group.outputs[name], item.group.control(name)
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
    return rows


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
    settings = ProbeSettings(baselines=(), controls=0, banded=False, label_curve=False, pictures=0)
    run = plan(options.encoder, options.feature, train, test, None, settings)
    settings = run.settings
    print(f"{len(train)} training frames of {len(train.scenes)} scenes, {len(test)} test frames of {len(test.scenes)}")

    start = time.process_time()
    mean_maps = training_pass(run.participants, run.groups, train, run.blocks, settings, [])
    probe = fit_probes(run.participants, run.groups, mean_maps, train, run.blocks, settings)[-1]
    print(f"linear: {time.process_time() - start:.0f} processor seconds with reading", flush=True)
    heads: list[tuple[FittedHead, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        cache = str(options.cache or temporary)
        for name in options.head or ["mlp", "bins"]:
            for seed in options.seeds:
                start = time.process_time()
                of_head = [HeadSettings(name, options.loss)]
                own = replace(settings, seed=seed, cache=cache)
                (head,) = fit_heads(run.participants, run.groups, train, of_head, own)
                heads.append((head, time.process_time() - start))
                print(f"{name}, seed {seed}: {heads[-1][1]:.0f} processor seconds with reading", flush=True)
    candidates = [probe, *(head.candidate for head, _ in heads)]
    means = {name: average.mean() for name, average in mean_maps.items()}
    measuring_pass(candidates, [], means, test, PROTOCOLS[str(settings.protocol)], settings, [])
    rows: list[dict[str, Any]] = [
        {"head": f"linear:{layer.name}", "parameters": layer.channels + 1, "train_mse": float(layer.train_mse[0]),
         "cv_mse": float(layer.cv_mse[0]), **found}
        for layer, found in zip(probe.layers, numbers(probe), strict=True)
    ]  # fmt: skip
    for head, seconds in heads:
        trained, control = head.networks
        rows.append({
            "head": head.candidate.layers[0].name, "parameters": head.parameters,
            "train_mse": float(trained.train_mse.sum()), "validation_mse": float(trained.validation_mse.sum()),
            "control_train_mse": float(control.train_mse.sum()), "epochs": [len(trained.history), len(control.history)],
            "best": [trained.best, control.best], **numbers(head.candidate)[0], "processor_seconds": seconds,
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
