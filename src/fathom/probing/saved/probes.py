"""The fitted linear probes of a run, saved beside its evidence: ``probes.json`` says what they are, ``probes.safetensors`` holds
their numbers.

    x = U z − s        a cell's features z, brought to the probe's grid by U (see `fathom.probing.linear.design`), less the shift s
    y = clip(x W + b, low, high)

A saved probe reads feature maps of the layers that it names, as the encoder of its SPEC gives them for images of the run's input
size, and gives the feature on the run's grid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.errors import DataError, FathomError, UsageError, nearest
from fathom.files.atomic import atomic_path, write_json
from fathom.files.inputs import exists, read_bytes, read_json
from fathom.probing.candidates import Candidate
from fathom.probing.linear.design import Design
from fathom.probing.settings import ProbeSettings
from fathom.sample import Grid

RECORD, TENSORS = "probes.json", "probes.safetensors"

SCHEMA_VERSION = 1

ROLES = ("encoder", "baseline")
"""Whose probes are saved: those of controls with random weights predict nothing that anybody would use."""

PARTS = ("weight", "bias", "shift", "low", "high")


@dataclass(frozen=True)
class LayerShape:
    """A layer that a probe reads: its name, and (channels, height, width) of its map for one image."""

    name: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class _Entry:
    """What ``probes.json`` says of a probe.

    Attributes:
        encoder: name of the encoder. role: ``encoder`` or ``baseline``.
        layer: as in the evidence rows: a layer, ``all`` or ``banded``.
        feature, unit: what it predicts.
        chosen: whether cross-validation chose this layer.
        penalty: λ.
        layers: what it reads, in the order of its columns.
        spec: the SPEC that the encoder was opened by; None for one that was given in memory.
    """

    encoder: str
    role: str
    layer: str
    feature: str
    unit: str
    chosen: bool
    penalty: float
    layers: tuple[LayerShape, ...]
    spec: str | None = None


@dataclass(frozen=True, kw_only=True)
class SavedProbe(_Entry):
    """A linear probe of one encoder, layer and feature: the attributes of its entry, and its numbers.

    Attributes:
        weight: W, ``(p, q)``. bias: b, ``(q,)``. shift: s, ``(p,)``. low, high: range of the training targets, ``(q,)``.
    """

    weight: Float[Tensor, "p q"]
    bias: Float[Tensor, "q"]
    shift: Float[Tensor, "p"]
    low: Float[Tensor, "q"]
    high: Float[Tensor, "q"]

    def predict(self, maps: Mapping[str, Float[Tensor, "B _ _ _"]], grid: Grid) -> Float[Tensor, "B q h w"]:
        """The feature on the grid of the run.

        Args:
            maps: feature maps by layer, as `Encoder.encode` gives them; layers that the probe does not read may be among them.
            grid: of the run.

        Raises:
            FathomError: a layer is missing, or has another shape than it had in the run.
        """
        for layer in self.layers:
            found = tuple(maps[layer.name].shape[1:]) if layer.name in maps else None
            if found != layer.shape:
                what = "is missing" if found is None else f"has shape {found}"
                raise FathomError(
                    f"The probe of {self.encoder} reads layer '{layer.name}' with shape {layer.shape} (channels, height, width); "
                    f"here it {what}. Give the encoder of the run images of the run's input size."
                )
        design = Design(self.encoder, grid, {layer.name: maps[layer.name] for layer in self.layers})
        centred = design.centre(design.place(maps), self.shift)
        bias = self.bias + self.shift @ self.weight
        device = next(iter(maps.values())).device if maps else "cpu"
        values = design.predict(centred, self.weight.float().to(device), bias.float().to(device))
        low, high = (bound.float().to(device)[:, None, None] for bound in (self.low, self.high))
        return torch.minimum(torch.maximum(values, low), high)


@dataclass(frozen=True)
class SavedProbes:
    """All saved probes of one run.

    Attributes:
        size, grid: input and probe grid of the run, (height, width).
        train_scenes: scenes they were fitted on; no fair test holds any of them.
        train: location and fingerprint of the training frames.
        probes: in the order of the evidence rows.
    """

    size: Grid
    grid: Grid
    train_scenes: tuple[str, ...]
    train: dict[str, str]
    probes: tuple[SavedProbe, ...]

    def find(self, encoder: str | None = None, feature: str = "depth", layer: str | None = None) -> SavedProbe:
        """The probe of `encoder` (the first encoder by default) at `layer`, or at its chosen layer; `UsageError` without one."""
        own = [item for item in self.probes if item.feature == feature]
        if not own:
            names = {item.feature for item in self.probes}
            raise UsageError(f"No probe of '{feature}' was fitted in this run{nearest(feature, names)}.")
        if encoder is None:
            encoder = next((item.encoder for item in own if item.role == "encoder"), own[0].encoder)
        for item in own:
            if item.encoder == encoder and (item.layer == layer if layer else item.chosen):
                return item
        names = {item.encoder for item in own}
        if encoder not in names:
            raise UsageError(f"No probe of encoder '{encoder}' was fitted in this run{nearest(encoder, names)}.")
        raise UsageError(
            f"Encoder {encoder} has no probe at layer '{layer}'"
            f"{nearest(str(layer), {item.layer for item in own if item.encoder == encoder})}."
        )

    def save(self, out: str | Path) -> list[Path]:
        """Write both files into folder `out`, the tensors first, so that a record never stands without what it describes."""
        folder = Path(out)
        tensors = {
            f"{index}.{part}": getattr(item, part).detach().cpu().double().clone(memory_format=torch.contiguous_format)
            for index, item in enumerate(self.probes)
            for part in PARTS
        }
        content = save_tensors(tensors)
        with atomic_path(folder / TENSORS) as temporary:
            temporary.write_bytes(content)
        record = _Record(
            schema_version=SCHEMA_VERSION,
            size=self.size,
            grid=self.grid,
            train=self.train,
            train_scenes=self.train_scenes,
            sha256=hashlib.sha256(content).hexdigest(),
            probes=tuple(_Entry(**_entry(item)) for item in self.probes),
        )
        write_json(folder / RECORD, msgspec.to_builtins(record), checksum=True)
        return [folder / RECORD, folder / TENSORS]


@dataclass(frozen=True)
class _Record:
    """``probes.json``; `sha256` is that of ``probes.safetensors``."""

    schema_version: int
    size: Grid
    grid: Grid
    train_scenes: tuple[str, ...]
    sha256: str
    train: dict[str, str] = field(default_factory=dict)
    probes: tuple[_Entry, ...] = ()


def load_probes(run: str | Path) -> SavedProbes:
    """The probes of a run folder (or of its ``probes.json``).

    Raises:
        DataError: there are none, or a file is torn, altered, or of another version.
    """
    path = Path(run) / RECORD if Path(run).is_dir() else Path(run)
    for file in (path, path.parent / TENSORS):
        if not exists(file):
            raise DataError(file, "does not exist", "name a folder that 'fathom probe' wrote, or run the probe again")
    again = "run the probe again"
    record = read_json(path, _Record, what="a record of probes", fix=again, version=SCHEMA_VERSION, checksum=True)
    content = read_bytes(path.parent / TENSORS, "index-bytes")
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise DataError(path.parent / TENSORS, "is torn, altered, or of another run", "run the probe again")
    try:
        tensors = load_tensors(content)
        probes = [
            _probe(entry, {part: tensors[f"{index}.{part}"] for part in PARTS})
            for index, entry in enumerate(record.probes)
        ]
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(path.parent / TENSORS, f"does not fit {RECORD} ({error})", "run the probe again") from error
    return SavedProbes(record.size, record.grid, record.train_scenes, record.train, tuple(probes))


def _probe(entry: _Entry, tensors: Mapping[str, Tensor]) -> SavedProbe:
    """An entry with its numbers; `ValueError` where their shapes contradict each other."""
    columns = sum(layer.shape[0] for layer in entry.layers)
    q = tensors["bias"].shape[0] if tensors["bias"].ndim == 1 else -1
    shapes = {"weight": (columns, q), "bias": (q,), "shift": (columns,), "low": (q,), "high": (q,)}
    for part, shape in shapes.items():
        if tuple(tensors[part].shape) != shape or not torch.isfinite(tensors[part]).all():
            raise ValueError(f"{part} of {entry.encoder} at {entry.layer}")
    numbers: dict[str, Any] = {part: tensors[part] for part in PARTS}
    return SavedProbe(**_entry(entry), **numbers)


def _entry(item: _Entry) -> dict[str, Any]:
    """What ``probes.json`` says of it."""
    return {one.name: getattr(item, one.name) for one in fields(_Entry)}


def save_probes(candidates: Sequence[Candidate], train: Dataset, settings: ProbeSettings) -> SavedProbes:
    """The linear probes of encoders and baselines, a probe for each layer and feature; the control task's are left out."""
    probes = [
        _saved(item, position, feature.name, feature.unit)
        for item in candidates
        if item.participant is not None and item.role.name in ROLES
        for feature in item.group.features
        for position, layer in enumerate(item.layers)
        if layer.probe is not None
    ]
    data = {"location": train.source.location, "fingerprint": train.fingerprint()}
    return SavedProbes(settings.input_size, settings.cells, train.scenes, data, tuple(probes))


def _saved(item: Candidate, position: int, feature: str, unit: str) -> SavedProbe:
    layer, outputs, participant = item.layers[position], item.group.outputs[feature], item.participant
    assert participant is not None and layer.probe is not None and layer.columns is not None
    probe, columns, design = layer.probe, layer.columns, participant.columns
    inside = [name for name, part in design.slices.items() if columns.start <= part.start and part.stop <= columns.stop]
    return SavedProbe(
        encoder=item.encoder,
        role=item.role.name,
        layer=layer.name,
        feature=feature,
        unit=unit,
        chosen=position == item.best(feature),
        penalty=float(layer.penalty[outputs][0]),
        layers=tuple(_shape(name, design) for name in inside),
        weight=probe.weight[:, outputs],
        bias=probe.bias[outputs],
        shift=participant.moments[item.group.name].shift_x[columns],
        low=probe.low[outputs],
        high=probe.high[outputs],
        spec=participant.encoder.provenance().spec,
    )


def _shape(layer: str, design: Design) -> LayerShape:
    channels, height, width = design.shapes[layer]
    return LayerShape(layer, (channels, height, width))
