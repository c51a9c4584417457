"""Where a training computes: one device, or one process of many that `torchrun` started."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from fathom.errors import FathomError, UsageError
from fathom.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PRECISIONS: dict[str, Any] = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def world_size() -> int:
    """Processes of this job, as `torchrun` says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them."""
    return int(os.environ.get("RANK", "0"))


def resolve_device(name: str) -> str:
    """`name` itself, or for ``auto`` the best device at hand."""
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"Device '{name}': this PyTorch sees no GPU; use cpu.")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"There is no device '{name}' here; use cpu, cuda, cuda:1, mps or auto.") from error
    return name


def fast_bf16(device: str) -> bool:
    """Whether `device` multiplies bfloat16 in hardware."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device == "cpu" and any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def resolve_precision(recipe: Recipe, device: str) -> Recipe:
    """The recipe with `auto` decided for `device`."""
    compute = recipe.precision.compute
    if compute == "auto":
        compute = "bf16" if fast_bf16(device) else "float32"
    if compute == "fp16" and not device.startswith("cuda"):
        raise UsageError(f"precision.compute = 'fp16' needs a GPU, not {device}; use bf16 or float32.")
    return replace(recipe, precision=replace(recipe.precision, compute=compute))


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_MAPPED_FROM = (1 << 30, 32 << 20)
"""Bytes from which a block is mapped from the system by itself; older glibc takes nothing above the second."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, as GPU allocators do; whether the system offers that.

    glibc gives large blocks back when they are freed. Activations are allocated and freed at every step, so that each
    step would fault all of its pages in again: a third of the processor time of a small network's step. In return the
    process stays as large as it has once been.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library than glibc
        return False
    return any(mallopt(_M_MMAP_THRESHOLD, size) for size in _MAPPED_FROM) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def make_fabric(recipe: Recipe, device: str) -> Fabric:
    """A launched Fabric: on `device`, or as this process of a `torchrun` job (gloo on CPUs, NCCL on GPUs)."""
    from lightning_fabric import Fabric
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
