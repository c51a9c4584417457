"""Where something is computed: the devices of this machine, and the processes of a job that `torchrun` started."""

from __future__ import annotations

import ctypes
import os
import re
import sys

import torch

from fathom.errors import UsageError


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
    if not re.fullmatch(r"(cpu|cuda|mps|xpu)(:[0-9]{1,3})?", name):
        raise UsageError(f"There is no device '{name}'; use cpu, cuda, cuda:1, mps or auto.")
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
