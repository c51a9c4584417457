"""Being asked to stop: SIGTERM (a scheduler takes the machine back) and Ctrl-C both save first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fathom.errors import FathomError


class StoppedError(FathomError):
    """Training was asked to stop, and has saved. Exit codes as shells have them: 143 and 130."""

    def __init__(self, number: int, step: int, run: str) -> None:
        self.number, self.step, self.run = number, step, run
        self.exit_code = 128 + number
        name = signal.Signals(number).name
        super().__init__(f"{run}: stopped by {name} after step {step}, which is saved; --resume continues from there.")

    def __reduce__(self) -> tuple[type[StoppedError], tuple[int, int, str]]:
        return type(self), (self.number, self.step, self.run)


class Request:
    """Which signal asked for a stop, 0 while none did."""

    number = 0


@contextmanager
def stop_requests() -> Iterator[Request]:
    """Turn the first SIGTERM or SIGINT into a request, read between steps; a second one acts at once."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may handle signals
        return
    watched = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in watched}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        request.number = number
        restore()

    for number in watched:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
