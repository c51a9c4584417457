"""What a training pass has read so far, on disk: an interrupted run resumes with the same moments as if it had never stopped.

The file holds the sums of every participant over the first frames of the pass, in its order. It is written every few minutes, when
the process is asked to stop (Ctrl-C, SIGTERM), and at the end of a long pass, so that a run that is stopped later reads no training
frame again. It belongs to one run: data, frames, encoders, features and settings are part of its digest.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.loading import Skipped
from fathom.data.tools.leaks import LeakWatch
from fathom.errors import FathomError
from fathom.features.mean_map import MeanMap
from fathom.probing import processes
from fathom.probing.linear.moments import MOMENTS, Moments
from fathom.probing.participants import Participant
from fathom.probing.passes.moments_cache import (
    MEAN_MAP,
    digest_of,
    give_hashes,
    hashes_of,
    identity,
    read_checked,
    target_identity,
    unchanged,
    write_checked,
)
from fathom.probing.plan import Blocks
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup
from fathom.progress import note
from fathom.training.signals import Request, stop_requests

EVERY = 120.0
"""Seconds between two writings, and of a pass that is worth keeping to the end of the run."""

COST = 0.05
"""Largest fraction of the time that may go into writing: the sums of wide encoders take gigabytes."""


class StoppedPassError(FathomError):
    """The training pass was asked to stop, and its sums are kept. Exit codes as shells have them: 143 and 130."""

    def __init__(self, number: int, done: int, frames: int, path: Path) -> None:
        self.exit_code = 128 + number
        super().__init__(
            f"Stopped by {signal.Signals(number).name} after {done} of {frames} training frames. Their sums are in {path}: the same "
            "command continues from there."
        )


class PassCheckpoint:
    """The sums of one training pass, and their file.

    Args:
        folder: of the file; with None nothing is kept.
        participants: that the pass encodes. groups: their targets.
        frames: that this process reads, in order.
        blocks, settings: of the run.

    Attributes:
        done: frames read, those that could not be read included.
        mean_maps: of each target group. skipped: frames that could not be read.
    """

    def __init__(
        self,
        folder: Path | None,
        participants: Sequence[Participant],
        groups: Sequence[TargetGroup],
        frames: Dataset,
        blocks: Blocks,
        settings: ProbeSettings,
    ) -> None:
        self.participants, self.groups, self.frames, self.settings = participants, groups, frames, settings
        self.done, self.mean_maps, self.skipped = 0, dict[str, MeanMap](), Skipped()
        self._started = self._written = time.monotonic()
        self._cost = 0.0
        name, others = "training-pass", processes.count()
        self.path = (
            None
            if folder is None
            else folder
            / (f"{name}.safetensors" if others == 1 else f"{name}-{processes.number() + 1}-of-{others}.safetensors")
        )
        if self.path is not None:
            self._digest = digest_of(self._made_from(blocks))

    def _made_from(self, blocks: Blocks) -> dict[str, object]:
        return {
            "frames": list(self.frames.ids),
            "settings": [self.settings.skip_bad, self.settings.batch_size, self.settings.device],
            "blocks": blocks.of_scene,
            "targets": [target_identity(group) for group in self.groups],
            "participants": [
                [identity(item.encoder, self.frames, self.settings), item.role.name, item.role.seed, item.blocks.count]
                for item in self.participants
            ],
        }

    def requests(self) -> AbstractContextManager[Request]:
        """Signals that ask for a stop become requests, read after each batch; where nothing is kept they act at once."""
        return nullcontext(Request()) if self.path is None else stop_requests()

    def resume(self, leaks: LeakWatch | None) -> None:
        """Take up what an interrupted run with the same content has left."""
        found = None if self.path is None else read_checked(self.path)
        if found is None:
            return
        tensors, facts = found
        same = facts.get("digest") == self._digest and all(
            item.witness is not None and unchanged(tensors[f"{i}.witness"], item.witness)
            for i, item in enumerate(self.participants)
        )
        if not same:
            note(f"{self.path} is of another run; the training frames are read from the start.")
            return
        for j, group in enumerate(self.groups):
            self.mean_maps[group.name] = MeanMap(**{part: tensors[f"map.{j}.{part}"] for part in MEAN_MAP})
            for i, item in enumerate(self.participants):
                own = {part: tensors[f"{i}.{j}.{part}"] for part in MOMENTS}
                item.moments[group.name] = Moments.from_tensors(own)
        if leaks is not None and "seen" in tensors:
            give_hashes(leaks, self.frames, tensors["seen"], tensors["bits"])
        self.done, self.skipped.frames = int(facts["done"]), [(id_, why) for id_, why in facts["skipped"]]
        note(f"Resuming after {self.done} of {len(self.frames)} training frames, whose sums are in {self.path}.")

    def after(self, frames: int, request: Request, leaks: LeakWatch | None) -> None:
        """A batch is added and `frames` are done: write if it is time, and stop where that is asked for."""
        self.done = frames
        if self.path is None:
            return
        wait = max(EVERY, self._cost / COST)
        if request.number or time.monotonic() - self._written >= wait:
            self.write(leaks)
        if request.number:
            raise StoppedPassError(request.number, self.done, len(self.frames), self.path)

    def finish(self, leaks: LeakWatch | None) -> None:
        """The pass is over; keep it until the run is saved where reading again would take long."""
        if self.path is not None and time.monotonic() - self._started >= EVERY:
            self.write(leaks)

    def write(self, leaks: LeakWatch | None) -> None:
        """Write what has been read so far, whole or not at all."""
        assert self.path is not None
        start, tensors = time.monotonic(), dict[str, Tensor]()
        for j, group in enumerate(self.groups):
            tensors |= {f"map.{j}.{part}": getattr(self.mean_maps[group.name], part) for part in MEAN_MAP}
            for i, item in enumerate(self.participants):
                moments = item.moments[group.name]
                tensors |= {f"{i}.{j}.{part}": tensor for part, tensor in moments.tensors().items()}
        for i, item in enumerate(self.participants):
            assert item.witness is not None
            tensors[f"{i}.witness"] = item.witness
        if leaks is not None:
            tensors["seen"], tensors["bits"] = hashes_of(leaks, self.frames)
        write_checked(self.path, tensors, {"digest": self._digest, "done": self.done, "skipped": self.skipped.frames})
        self._written = time.monotonic()
        self._cost = self._written - start


def remove_checkpoints(folder: Path) -> None:
    """The run is saved: its training pass is not needed any more."""
    for path in folder.glob("training-pass*.safetensors"):
        path.unlink(missing_ok=True)


def kept(folder: Path) -> Path | None:
    """The training pass that an interrupted run has left in its folder, if any."""
    return next(iter(sorted(folder.glob("training-pass*.safetensors"))), None)
