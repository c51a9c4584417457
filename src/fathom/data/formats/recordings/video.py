"""Frames of a video file by their number, through PyAV (extra ``video``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from fathom.errors import DataError, MissingExtraError
from fathom.files import limits
from fathom.files.inputs import regular_file

AHEAD = 60
"""Frames that are decoded and dropped rather than sought: about the distance between two key frames."""


@dataclass
class Video:
    """One video file; opens when a frame is asked for, and pickles without its decoder.

    Frames are numbered in the order in which they are shown, from 0.
    """

    path: Path
    _container: Any = field(default=None, repr=False)
    _frames: Any = field(default=None, repr=False)
    _times: tuple[int, ...] = ()
    _next: int = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_container": None, "_frames": None, "_times": self._times, "_next": 0}

    def __len__(self) -> int:
        return len(self._opened())

    def frame(self, number: int) -> UInt8[Tensor, "3 H W"]:
        """Frame `number` as stored, without the rotation that a player would apply."""
        times = self._opened()
        import av

        if not 0 <= number < len(times):
            raise DataError(self.path, f"has {len(times)} frames and no frame {number}", "record or copy it again")
        try:
            if self._frames is None or not self._next <= number < self._next + AHEAD:
                stream = self._container.streams.video[0]
                self._container.seek(times[number], stream=stream)
                self._frames = self._container.decode(stream)
            for picture in self._frames:
                if picture.pts is not None and picture.pts >= times[number]:
                    limits.check("pixels", picture.width * picture.height, self.path)
                    self._next = number + 1
                    array: np.ndarray = picture.to_ndarray(format="rgb24")
                    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DataError(
                self.path, f"cannot be decoded at frame {number} ({error})", "copy the file again"
            ) from error
        raise DataError(self.path, f"ends before frame {number}", "copy the file again")

    def _opened(self) -> tuple[int, ...]:
        """The time of each frame, in the stream's own unit; opens the file where it is not open."""
        if self._container is not None:
            return self._times
        try:
            import av
        except ImportError:
            raise MissingExtraError(f"Reading the video {self.path}", "video") from None
        regular_file(self.path)
        try:
            container = av.open(str(self.path))
            if not container.streams.video:
                raise DataError(self.path, "has no picture", "name a video")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise DataError(self.path, "is of a codec that is not known here", "copy the file again")
            limits.check("pixels", stream.width * stream.height, self.path)
            if not self._times:
                # Packets carry the times without being decoded, in coding order.
                self._times = tuple(sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DataError(self.path, f"is not a readable video ({error})", "copy the file again") from error
        self._container, self._frames = container, None
        return self._times
