"""What training does to its process."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from fathom.devices import keep_freed_memory
from tests.processes import context


def faults(keep: bool) -> int:
    """Pages faulted in while blocks of 16 MB are taken and given back twenty times."""
    if keep:
        assert keep_freed_memory()
    torch.ones(4 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.ones(4 << 20) for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is on Linux")
def test_memory_that_is_freed_is_kept_for_the_next_step() -> None:
    with context().Pool(1, maxtasksperchild=1) as pool:
        given_back, kept = (pool.apply(faults, (keep,)) for keep in (False, True))
    every = 20 * 3 * 1000  # 4096 pages a block, unless the kernel gives larger ones
    assert kept < every
    if given_back < every:
        pytest.skip("this allocator keeps blocks of this size by itself, or its pages are large")
    assert kept < given_back / 4
