"""Speed of training: the step as the recipe runs it against plain eager float32, and the input against tensors in memory.

Both sides of a comparison run in turns, block by block, so that a busy machine slows both; the ratio reported is the
median over the blocks of each block's ratio. Steps are compared in a process each, since the recipe's step changes how
its process allocates memory; the plain step is PyTorch's own, without Fabric. Processor time is given beside wall time:
on a shared machine it says what the step costs by itself. Run it as

    python benchmarks/train.py --data rooms --json out.json

on an idle machine where the times themselves matter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from fathom import load
from fathom.devices import resolve_device
from fathom.models import MODELS
from fathom.sample import Batch
from fathom.training.devices import make_fabric, resolve_precision
from fathom.training.frames.feed import Frames, Portion, feed
from fathom.training.loop import batch_gradient
from fathom.training.losses import objective
from fathom.training.optim.optimiser import make_optimiser
from fathom.training.recipe import Recipe, load_recipe
from fathom.training.scoring.targets import target_of
from fathom.training.session import make_augment

CASES = {
    # The published widths take minutes a step on a small CPU; these are the same networks, narrower or on fewer images.
    "autoencoder": ["model.width=64", "data.size=128x128", "train.batch=4", "train.accumulate=1"],
    "unet": ["train.batch=8"],
    "tiny-autoencoder": [],
    "tiny-unet": [],
}
FULL = {"autoencoder": ["train.batch=32", "train.accumulate=1"], "unet": ["train.batch=64"]}
"""On a GPU: the recipes' own sizes."""


def stepper(recipe: Recipe, device: str) -> Callable[[Batch], None]:
    """One optimiser step of `recipe` on a batch, as the loop does it."""
    torch.manual_seed(0)
    network = MODELS[recipe.model.name](recipe.model.config).train()
    layout = torch.channels_last if recipe.memory.channels_last else torch.contiguous_format
    network.checkpointing = recipe.memory.checkpoint
    network.to(memory_format=layout)
    fabric = make_fabric(recipe, device)
    network.to(fabric.device)
    optimiser = make_optimiser(network, recipe.optim, fused=True)
    made: Any = torch.compile(network) if recipe.train.compile else network
    model, wrapped = fabric.setup(made, optimiser)
    loss = objective(recipe.loss)

    def step(batch: Batch) -> None:
        wrapped.zero_grad(set_to_none=True)
        batch_gradient(fabric, model, network, loss, [batch], len(batch.ids), layout)
        fabric.clip_gradients(model, wrapped, max_norm=recipe.optim.clip, error_if_nonfinite=False)
        wrapped.step()

    return step


def plain_stepper(recipe: Recipe, device: str) -> Callable[[Batch], None]:
    """The same step as PyTorch has it: eager, float32, channels first, the default optimiser."""
    torch.manual_seed(0)
    network = MODELS[recipe.model.name](recipe.model.config).train().to(device)
    optimiser = make_optimiser(network, recipe.optim, fused=False)
    loss = objective(recipe.loss)

    def step(batch: Batch) -> None:
        optimiser.zero_grad()
        image, depth, valid = batch.image.to(device), batch.depth.to(device), batch.valid.to(device)
        value, _ = loss(network(image), *target_of(network, image, depth, valid))
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.optim.clip)
        optimiser.step()

    return step


def serve(connection: Connection, recipe: Recipe, device: str, fast: bool) -> None:
    """In a process of its own: take a step whenever asked, and answer its wall and processor seconds."""
    batch = random_batch(recipe)
    step = (stepper if fast else plain_stepper)(recipe, device)
    while connection.recv():
        processor = time.process_time()
        wall = seconds(lambda: step(batch), device)
        connection.send((wall, time.process_time() - processor))


def random_batch(recipe: Recipe) -> Batch:
    count, size = recipe.train.batch, recipe.data.size
    generator = torch.Generator().manual_seed(0)
    return Batch(
        torch.rand(count, 3, *size, generator=generator),
        1 + 4 * torch.rand(count, 1, *size, generator=generator),
        torch.ones(count, 1, *size, dtype=torch.bool),
        ("scene",) * count,
        tuple(map(str, range(count))),
    )


def seconds(work: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def paired(a: Callable[[], None], b: Callable[[], None], blocks: int, device: str) -> dict[str, float]:
    """Median seconds of `a` and `b` and the median of a/b, measured in turns; the first two blocks warm up."""
    times = [(seconds(a, device), seconds(b, device)) for _ in range(blocks + 2)][2:]
    return {
        "a_seconds": statistics.median(x for x, _ in times),
        "b_seconds": statistics.median(y for _, y in times),
        "ratio": statistics.median(x / y for x, y in times),
    }


def step_speed(name: str, settings: list[str], device: str, blocks: int) -> dict[str, Any]:
    """Throughput of the recipe's step over that of plain eager float32; the first two blocks warm up."""
    recipe = resolve_precision(load_recipe(name, settings), device)
    context = multiprocessing.get_context("spawn")
    sides = []
    for fast in (False, True):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, recipe, device, fast), daemon=True)
        process.start()
        sides.append((here, process))
    times = [[_asked(connection) for connection, _ in sides] for _ in range(blocks + 2)][2:]
    for connection, process in sides:
        connection.send(False)
        process.join()
    print(f"{name}: {len(times)} blocks measured", file=sys.stderr, flush=True)
    wall, processor = ([[side[i] for side in block] for block in times] for i in (0, 1))
    return {
        "recipe": name,
        "settings": settings,
        "precision": recipe.precision.compute,
        "images_per_second": recipe.train.batch / statistics.median(fast for _, fast in wall),
        "plain_images_per_second": recipe.train.batch / statistics.median(plain for plain, _ in wall),
        "speed_up": statistics.median(plain / fast for plain, fast in wall),
        "processor_speed_up": statistics.median(plain / fast for plain, fast in processor),
    }


def _asked(connection: Connection) -> tuple[float, float]:
    connection.send(True)
    wall, processor = connection.recv()
    return float(wall), float(processor)


def input_speed(name: str, data: str, device: str, blocks: int, cached: bool, workers: int) -> dict[str, Any]:
    """Throughput of steps fed by the input pipeline over the same steps on one batch already in memory."""
    recipe = resolve_precision(load_recipe(name), device)
    frames = Frames(load(data), recipe.data.size)
    if cached:
        frames.keep(workers, "Reading frames")
    step, each = stepper(recipe, device), 4
    held = random_batch(recipe)
    portion, augment = Portion(recipe.train.batch), make_augment(recipe)
    pipeline: Iterator[list[Batch]] = feed(
        frames, portion, range((blocks + 2) * each), augment=augment, workers=0 if cached else workers
    )

    def from_memory() -> None:
        for _ in range(each):
            step(held)

    def from_pipeline() -> None:
        for _ in range(each):
            (batch,) = next(pipeline)
            step(batch)

    result = paired(from_memory, from_pipeline, blocks, device)
    return {"recipe": name, "data": data, "cached": cached, "workers": workers, "relative_throughput": result["ratio"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="rooms")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--compile", action="store_true", help="compile the fast form too")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="threads of the arithmetic; all cores unless given")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # for the processes of the steps
        torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    cases = {**CASES, **FULL} if device.startswith("cuda") else CASES
    more = ["train.compile=true"] if options.compile else []
    report: dict[str, Any] = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    report["step"] = [step_speed(name, [*settings, *more], device, options.blocks) for name, settings in cases.items()]
    report["input"] = [
        input_speed(name, options.data, device, options.blocks, cached, options.workers)
        for name in ("tiny-unet", "tiny-autoencoder")
        for cached in ((True, False) if options.workers else (True,))
    ]
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
