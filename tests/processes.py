"""Processes of the tests, forked from a server that has imported once what they need: a start costs no import of PyTorch."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

IMPORTED = (
    "torch", "lightning_fabric", "scipy.stats", "matplotlib.figure", "tests.training.painted", "fathom.training.session",
    "fathom.cli.probe", "fathom.probing.probe", "fathom.probing.run_folder", "fathom.report.probe.draw",
)  # fmt: skip


@cache
def context() -> Any:
    """The server of this test process."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(IMPORTED))
    return made


def ranks(world: int) -> list[dict[str, str]]:
    """Environments of the processes of one job, as torchrun sets them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0",
    }  # fmt: skip
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


class Command:
    """``fathom ARGUMENTS`` in a process of its own; what it prints goes into files in `folder`.

    Args:
        before: called in the process, ahead of the command.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"said-{len(list(folder.iterdir()))}"
        self._out, self._err = (folder / f"{name}.{stream}" for stream in ("out", "err"))
        self._err.touch()
        self.process = context().Process(
            target=_run, args=(list(arguments), dict(environment or {}), str(self._out), str(self._err), before)
        )
        self.process.start()

    @property
    def running(self) -> bool:
        return bool(self.process.exitcode is None)

    @property
    def printed(self) -> str:
        """On its standard output until now."""
        return self._out.read_text()

    @property
    def said(self) -> str:
        """On its standard error until now."""
        return self._err.read_text()

    def send(self, signal: int) -> None:
        os.kill(self.process.pid, signal)

    def wait(self, seconds: float) -> int | None:
        """Its exit code; minus the signal that killed it; None if it goes on."""
        self.process.join(seconds)
        code: int | None = self.process.exitcode
        return code


def _run(
    arguments: list[str], environment: dict[str, str], out: str, err: str, before: Callable[[], None] | None
) -> None:
    os.environ.update(environment)
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666), stream)
    import torch

    from fathom.cli.main import run

    torch.set_num_threads(1)
    sys.argv = ["fathom", *arguments]
    if before is not None:
        before()
    run(arguments)
