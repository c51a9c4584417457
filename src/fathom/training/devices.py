"""The precision and the processes of a training, through Lightning Fabric."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from msgspec.structs import replace

from fathom.devices import fast_bf16, keep_freed_memory, rank, world_size
from fathom.errors import FathomError, UsageError
from fathom.training.recipe import Recipe

_PRECISIONS: dict[str, Any] = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def resolve_precision(recipe: Recipe, device: str) -> Recipe:
    """The recipe with `auto` decided for `device`."""
    compute = recipe.precision.compute
    if compute == "auto":
        compute = "bf16" if fast_bf16(device) else "float32"
    if compute == "fp16" and not device.startswith("cuda"):
        raise UsageError(f"precision.compute = 'fp16' needs a GPU, not {device}; use bf16 or float32.")
    return replace(recipe, precision=replace(recipe.precision, compute=compute))


def make_fabric(recipe: Recipe, device: str) -> Fabric:
    """A launched Fabric: on `device`, or as this process of a `torchrun` job (gloo on CPUs, NCCL on GPUs)."""
    from lightning_fabric.strategies import DDPStrategy

    # It announces every precision; the name of its logger differs between its two packages.
    for name in ("lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    kind, _, number = device.partition(":")
    if kind == "cpu":
        keep_freed_memory()
    world = world_size()
    if world == 1:
        devices: Any = [int(number)] if number else 1
        fabric = Fabric(accelerator=kind, devices=devices, precision=_PRECISIONS[recipe.precision.compute])
    else:
        if recipe.train.batch < world:
            raise UsageError(f"train.batch = {recipe.train.batch} is less than the {world} processes of this job.")
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        strategy = DDPStrategy(timeout=timedelta(seconds=recipe.train.timeout))
        fabric = Fabric(
            accelerator=kind,
            devices=local,
            num_nodes=world // local,
            strategy=strategy,
            precision=_PRECISIONS[recipe.precision.compute],
        )
    fabric.launch()
    return fabric


@contextmanager
def explained(recipe: Recipe) -> Iterator[None]:
    """Turn what a device or another process does to a training into one sentence."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(recipe) from error
    except RuntimeError as error:
        text = str(error)
        if "DefaultCPUAllocator" in text or "can't allocate memory" in text:
            raise _out_of_memory(recipe) from error
        if world_size() > 1 and (isinstance(error, torch.distributed.DistError) or "gloo" in text or "NCCL" in text):
            raise FathomError(
                f"Process {rank()} of {world_size()} lost contact with the others: one ended, or was silent "
                f"for {recipe.train.timeout} s; start again with --resume ({text.splitlines()[0][:150]})."
            ) from error
        raise


def _out_of_memory(recipe: Recipe) -> FathomError:
    size = "x".join(map(str, recipe.data.size))
    advice = [f"--set train.accumulate={recipe.train.accumulate * 2} (the same result in smaller parts)"]
    if not recipe.memory.checkpoint:
        advice.append("--set memory.checkpoint=true")
    advice.append(f"a smaller data.size (now {size}) or train.batch (now {recipe.train.batch})")
    return FathomError(f"Out of memory while training '{recipe.name}': try {', then '.join(advice)}.")
