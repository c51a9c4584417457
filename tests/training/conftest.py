"""Child processes for the training tests: forked from a server that has imported everything once."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.training import painted

Start = Callable[..., Any]


@pytest.fixture(scope="session")
def context() -> Any:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["torch", "lightning_fabric", "tests.training.painted", "fathom.training.session"])
    return made


@pytest.fixture
def start(context: Any) -> Iterator[Start]:
    """Start a training in a process of its own; whatever is left of it ends with the test."""
    children = []

    def go(table: Mapping[str, Any], out: Path, environment: Mapping[str, str] | None = None, **options: Any) -> Any:
        child = context.Process(target=painted.run, args=(table, str(out), options, dict(environment or {})))
        child.start()
        children.append(child)
        return child

    yield go
    for child in children:
        child.kill()
        child.join()


@pytest.fixture
def ranks() -> Callable[[int], list[dict[str, str]]]:
    """Environments of the processes of one job, as torchrun sets them."""

    def make(world: int) -> list[dict[str, str]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = {
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test",
            "GROUP_RANK": "0",
        }
        return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]

    return make
