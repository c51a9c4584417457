"""Moments on disk: with the same data, encoders and settings a second run need not read the training frames again.

FOLDER/moments-<key>.safetensors holds the moments of one encoder and one target group, FOLDER/target-<key>.safetensors the mean
map of a target group. The key is a digest of everything they depend on: the content of the training frames, the encoder's SPEC, layers
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.tools.leaks import CELLS, LeakWatch
from fathom.encoders.base import Encoder
from fathom.features.mean_map import MeanMap
from fathom.files.tensors import utf8_name, write_tensors
from fathom.probing.linear.moments import MOMENTS, Moments
from fathom.probing.participants import Participant
from fathom.probing.plan import Blocks
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup
from fathom.progress import note

FORMAT = 4
"""Raised when what is stored changes; older files are then not found."""

MEAN_MAP = ("sums", "squares", "counts")
HASH, HASH_BITS = "difference 16x16", 2 * CELLS**2


WITNESS = 0.02
"""How far features of the first frame may be from the stored ones, relative to 1 + |z|: float16 rounding is 40 times less."""


class MomentsCache:
    """What one run looks up and leaves in a folder.

    Args:
        folder: made when something is stored.
        train: the training frames.
        blocks: of its scenes.
        groups: the target groups, with their control tasks.
        settings: of the run; size, grid and whether broken frames are left out decide what is summed.
    """

    def __init__(
        self,
        folder: Path,
        train: Dataset,
        blocks: Blocks,
        groups: Sequence[TargetGroup],
        settings: ProbeSettings,
    ) -> None:
        self.folder, self._train, self._groups, self._settings = folder, train, groups, settings
        self._common = {
            "format": FORMAT,
            "fingerprint": train.fingerprint(),
            "frames": list(train.ids),
            "skip_bad": settings.skip_bad,
            "size": settings.input_size,
            "grid": settings.cells,
        }
        self._blocks = {"blocks": blocks.of_scene}
        self._targets = {group.name: target_identity(group) for group in groups}

    def load(self, participants: Sequence[Participant]) -> tuple[list[Participant], dict[str, MeanMap]]:
        """Give moments to every participant that has them here; returns those without, and the mean maps found."""
        missing = [participant for participant in participants if not self._load_moments(participant)]
        maps = {}
        for group in self._groups:
            found = read_checked(self._path("target", self._targets[group.name] | self._blocks), MEAN_MAP)
            if found is not None:
                maps[group.name] = MeanMap(**found[0])
        return missing, maps

    def save(self, participants: Sequence[Participant], groups: Sequence[TargetGroup]) -> None:
        """Keep the moments of participants for some target groups."""
        for participant in participants:
            made_from = self._encoder(participant)
            if made_from is None or participant.witness is None:
                continue
            for group in groups:
                tensors = participant.moments[group.name].tensors() | {"witness": participant.witness}
                write_checked(self._path("moments", made_from | self._targets[group.name]), tensors)

    def save_targets(self, maps: Mapping[str, MeanMap], leaks: LeakWatch | None) -> None:
        """Keep the mean maps, and the hashes by which near-duplicates across the split are found."""
        for name, average in maps.items():
            tensors = {part: getattr(average, part) for part in MEAN_MAP}
            write_checked(self._path("target", self._targets[name] | self._blocks), tensors)
        if leaks is not None:
            position, bits = hashes_of(leaks, self._train)
            write_checked(self._path("hashes", {"hash": HASH}), {"position": position, "bits": bits})

    def load_hashes(self, leaks: LeakWatch | None) -> bool:
        """Give the hashes of the training frames to `leaks`; whether it has all it needs."""
        if leaks is None:
            return True
        found = read_checked(self._path("hashes", {"hash": HASH}), ("position", "bits"))
        if found is None:
            return False
        tensors, _ = found
        give_hashes(leaks, self._train, tensors["position"], tensors["bits"])
        return True

    def _load_moments(self, participant: Participant) -> bool:
        made_from, now = self._encoder(participant), participant.witness
        if made_from is None or now is None:
            return False
        found = {}
        for group in self._groups:
            path = self._path("moments", made_from | self._targets[group.name])
            read = read_checked(path, (*MOMENTS, "witness"))
            if read is None:
                return False
            tensors, _ = read
            if not unchanged(tensors["witness"], now):
                name = participant.encoder.name
                note(f"The cached moments of {name} are not of what it gives now; they are computed again.")
                return False
            found[group.name] = Moments.from_tensors(tensors)
        participant.moments = found
        return True

    def _encoder(self, participant: Participant) -> dict[str, Any] | None:
        """What the moments of an encoder depend on; None for one whose content cannot be seen."""
        encoder = participant.encoder
        if not encoder.baseline and encoder.provenance().weights is None:
            return None
        return identity(encoder, self._train, self._settings) | {"blocks": participant.blocks.of_scene}

    def _path(self, what: str, made_from: Mapping[str, Any]) -> Path:
        return self.folder / f"{what}-{digest_of({**self._common, **made_from})[:24]}.safetensors"


def identity(encoder: Encoder, train: Dataset, settings: ProbeSettings) -> dict[str, Any]:
    """All that an encoder's features depend on, but for code whose digest it does not know."""
    return {
        "format": FORMAT,
        "data": train.fingerprint(),
        "encoder": encoder.name,
        "layers": list(encoder.layers),
        "provenance": asdict(encoder.provenance()),
        "size": list(settings.input_size),
        "grid": list(settings.cells),
    }


def target_identity(group: TargetGroup) -> dict[str, Any]:
    """What identifies the targets of a group: names, and the values on the frames of the control task."""
    control = group.control_targets
    return {
        "group": group.name,
        "features": [[one.name, one.channels] for one in group.features],
        "control_seed": None if control is None else control.seed,
        "control": None if control is None else _crc(control.targets),
    }


def hashes_of(leaks: LeakWatch, frames: Dataset) -> tuple[Tensor, Tensor]:
    """The hashes that `leaks` has of training frames: positions in `frames` ``(n,)``, and bits ``(n, HASH_BITS)`` as uint8."""
    order = {id_: position for position, id_ in enumerate(frames.ids)}
    hashes = {order[id_]: bits for id_, bits in leaks.bits.items() if len(bits)}
    bits = np.array(list(hashes.values()), dtype=np.uint8).reshape(len(hashes), HASH_BITS)
    return torch.tensor(list(hashes), dtype=torch.int64), torch.from_numpy(bits)


def give_hashes(leaks: LeakWatch, frames: Dataset, position: Tensor, bits: Tensor) -> None:
    """Give `leaks` what `hashes_of` has taken from another."""
    for index, row in zip(position.tolist(), bits.numpy().astype(bool), strict=True):
        leaks.bits[frames.ids[index]] = row


def unchanged(stored: Float[Tensor, "_"], now: Float[Tensor, "_"]) -> bool:
    """Whether the witness of an encoder is the one that was stored, up to the rounding of its features."""
    return stored.shape == now.shape and bool(((stored - now).abs() <= WITNESS * (1 + stored.abs())).all())


def digest_of(made_from: Mapping[str, Any]) -> str:
    """SHA-256 of what a file is made from."""
    content = json.dumps(made_from, sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


def write_checked(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> None:
    """Write tensors and facts about them with a checksum of each, whole or not at all."""
    saved = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    sums = {name: _sum(item) for name, item in saved.items()}
    text = json.dumps(facts or {}, sort_keys=True)
    metadata = {"crc32": json.dumps(sums), "facts": text, "facts_crc32": str(zlib.crc32(text.encode()))}
    write_tensors(path, saved, metadata)


def read_checked(path: Path, names: Sequence[str] | None = None) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors of a file (all by default) and its facts; None where it is absent, or damaged, which is said."""
    if not path.is_file():
        return None
    try:
        with utf8_name(path) as known, safe_open(known, framework="pt") as file:  # type: ignore[no-untyped-call]
            metadata = file.metadata()
            sums, text = json.loads(metadata["crc32"]), metadata["facts"]
            tensors = {name: file.get_tensor(name) for name in (sums if names is None else names)}
        whole = all(_sum(tensor) == sums[name] for name, tensor in tensors.items())
        if not whole or zlib.crc32(text.encode()) != int(metadata["facts_crc32"]):
            raise ValueError("a checksum does not fit")
        return tensors, json.loads(text)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        note(f"{path}: the cached file is damaged ({error}) and is made again.")
        return None


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(torch.as_tensor(tensor).contiguous().numpy().tobytes())


def _sum(tensor: Tensor) -> str:
    """Checksum of a tensor with its type and shape, which stand in the header of the file."""
    return f"{_crc(tensor)} {tensor.dtype} {list(tensor.shape)}"
