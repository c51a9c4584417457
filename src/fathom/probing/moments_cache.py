"""Moments on disk: with the same data, encoders and settings a second run need not read the training frames again.

FOLDER/moments-<key>.safetensors holds the moments of one encoder and one support, FOLDER/target-<key>.safetensors the mean map
of a support. The key is a digest of everything they depend on: the content of the training frames, the encoder's SPEC, layers
and weights, size, grid, blocks of scenes, features and control task. What a digest cannot see is witnessed: the column means of
the first frame's features are computed again and compared with those stored, and the targets of the frames that serve as the
control task are part of the key, so that changed code of an encoder or a feature finds no old file. A file that is torn or
altered fails its checksum and is made again.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fathom.atomic import atomic_path
from fathom.data.dataset import Dataset
from fathom.probing.feature_cache import WITNESS, identity
from fathom.probing.linear.moments import Moments
from fathom.probing.passes import Reading, Support
from fathom.probing.plan import Blocks
from fathom.probing.targets import MeanMap
from fathom.progress import note
from fathom.sample import Grid

FORMAT = 2
"""Raised when what is stored changes; older files are then not found."""

MOMENTS = ("n", "x", "y", "xx", "xy", "yy", "low", "high", "shift_x", "shift_y")
MEAN_MAP = ("sums", "squares", "counts")


class MomentsCache:
    """What one run looks up and leaves in a folder.

    Args:
        folder: made when something is stored.
        train: the training frames.
        size, grid: of the run.
        blocks: of its scenes.
        kinds: its supports, with their control tasks.
        skip_bad: whether broken frames are left out, which decides what is summed.
    """

    def __init__(
        self,
        folder: Path,
        train: Dataset,
        size: Grid,
        grid: Grid,
        blocks: Blocks,
        kinds: Sequence[Support],
        skip_bad: bool,
    ) -> None:
        self.folder, self._train, self._size, self._grid = folder, train, size, grid
        self._kinds = kinds
        self._common = {
            "format": FORMAT,
            "fingerprint": train.fingerprint(),
            "frames": list(train.ids),
            "blocks": blocks.of_scene,
            "skip_bad": skip_bad,
        }
        self._targets = {kind.name: _target(kind) for kind in kinds}
        self._witnesses: dict[int, Tensor] = {}

    def load(
        self, readings: Sequence[Reading], witnesses: Mapping[int, Tensor]
    ) -> tuple[list[Reading], dict[str, MeanMap]]:
        """Give moments to every reading that has them here; returns the readings without, and the mean maps found.

        `witnesses` are the column means of each reading's features of the first frame, by `id`.
        """
        self._witnesses = dict(witnesses)
        missing = [reading for reading in readings if not self._load_moments(reading)]
        maps = {}
        for kind in self._kinds:
            tensors = _read(self._path("target", self._targets[kind.name]), MEAN_MAP)
            if tensors is not None:
                maps[kind.name] = MeanMap(**tensors)
        return missing, maps

    def save(self, readings: Sequence[Reading], maps: Mapping[str, MeanMap]) -> None:
        """Keep what was computed."""
        for reading in readings:
            made_from = self._encoder(reading)
            for kind in self._kinds if made_from is not None else ():
                moments = reading.moments[kind.name]
                tensors = {name: getattr(moments, name) for name in MOMENTS}
                tensors["witness"] = self._witnesses[id(reading)]
                tensors["rounding"] = torch.tensor(moments.rounding, dtype=torch.float64)
                _write(self._path("moments", {**(made_from or {}), **self._targets[kind.name]}), tensors)
        for name, average in maps.items():
            _write(self._path("target", self._targets[name]), {part: getattr(average, part) for part in MEAN_MAP})

    def _load_moments(self, reading: Reading) -> bool:
        made_from = self._encoder(reading)
        if made_from is None:
            return False
        found = {}
        for kind in self._kinds:
            path = self._path("moments", {**made_from, **self._targets[kind.name]})
            tensors = _read(path, (*MOMENTS, "witness", "rounding"))
            if tensors is None:
                return False
            stored, now = tensors.pop("witness"), self._witnesses[id(reading)]
            if stored.shape != now.shape or bool(((stored - now).abs() > WITNESS * (1 + stored.abs())).any()):
                note(f"The cached moments of {reading.encoder.name} are not of what it gives now; they are made again.")
                return False
            found[kind.name] = Moments(rounding=float(tensors.pop("rounding")), **tensors)
        reading.moments = found
        return True

    def _encoder(self, reading: Reading) -> dict[str, Any] | None:
        """What the moments of an encoder depend on; None for one whose content cannot be seen."""
        encoder = reading.encoder
        if not encoder.baseline and not isinstance(getattr(encoder, "module", None), nn.Module):
            return None
        return identity(encoder, self._train, self._size, self._grid)

    def _path(self, what: str, made_from: Mapping[str, Any]) -> Path:
        content = json.dumps({**self._common, **made_from, "size": self._size, "grid": self._grid}, sort_keys=True)
        digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return self.folder / f"{what}-{digest}.safetensors"


def _target(kind: Support) -> dict[str, Any]:
    """What identifies the targets of a support: names, and the values on the frames of the control task."""
    donors = kind.donors
    return {
        "support": kind.name,
        "features": [[one.name, one.channels] for one in kind.features],
        "control_seed": None if donors is None else donors.seed,
        "control": None if donors is None else zlib.crc32(donors.targets.contiguous().numpy().tobytes()),
    }


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(kept, temporary, metadata={"crc32": json.dumps({name: _crc(item) for name, item in kept.items()})})


def _read(path: Path, names: Sequence[str]) -> dict[str, Tensor] | None:
    """The tensors of a file; None where it is absent, or damaged, which is said."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            sums = json.loads(file.metadata()["crc32"])
            tensors = {name: file.get_tensor(name) for name in names}
        if any(_crc(tensor) != sums[name] for name, tensor in tensors.items()):
            raise ValueError("a checksum does not fit")
        return tensors
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        note(f"{path}: the cached file is damaged ({error}) and is made again.")
        return None


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(torch.as_tensor(tensor).contiguous().numpy().tobytes())
