"""``probe:RUN`` — a fitted linear probe as a depth model: the frozen encoder of a probe run, and the weights that the run found.

``?encoder=``, ``?layer=`` and ``?feature=`` choose among the probes of the run: by default the first encoder, the layer that
cross-validation chose, and ``depth``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.depth_models.forward import TorchDepthModel, image_size
from fathom.depth_models.model import DepthMaps, DepthModel, Images, Kind, known_cameras
from fathom.encoders import Encoder, open_encoder
from fathom.encoders.hub.repository import CARD, find_folder
from fathom.encoders.spec import Spec
from fathom.errors import UsageError, nearest
from fathom.features.feature import ToDepth
from fathom.features.registry import FEATURES
from fathom.files import limits
from fathom.probing.saved.probes import RECORD, TENSORS, SavedProbe, SavedProbes, load_probes
from fathom.sample import Grid, Intrinsics

OPTIONS = ("encoder", "layer", "feature", "revision")

AFFINE = {"relative_depth"}
"""Features that are depth up to a factor and a shift of each frame."""


class ProbeModel(TorchDepthModel):
    """A linear probe of depth.

    Args:
        name: for messages and records.
        run: the probes of the run, which know its input size, grid and training scenes.
        probe: one of them, of a feature that depth follows from.
        encoder: the frozen encoder that it reads.
    """

    def __init__(self, name: str, run: SavedProbes, probe: SavedProbe, encoder: Encoder) -> None:
        self.name, self.run, self.probe, self.encoder = name, run, probe, encoder
        self.kind, self._to_depth = _meaning(probe.feature)
        self.train_scenes = run.train_scenes

    def to(self, device: str | torch.device) -> DepthModel:
        """Move the encoder."""
        self.encoder.to(device)
        return super().to(device)

    def modules(self) -> tuple[()]:
        """None of its own: an encoder is frozen and moves itself."""
        return ()

    def predict(
        self,
        images: Images,
        cameras: Sequence[Intrinsics | None] | None = None,
        *,
        size: Grid | None = None,
        prompts: Sequence[Tensor | None] | None = None,
    ) -> DepthMaps:
        """Depth on the probe's grid, enlarged bilinearly, as the run scored it."""
        known = known_cameras(images, cameras)
        seen = self.seen(images, self.run.size)
        with self.running(seen):
            values = self.probe.predict(self.encoder.encode(seen), self.run.grid)[:, 0]
        depth = self._to_depth(values).float().cpu()
        depth = F.interpolate(depth[:, None], size or image_size(images), mode="bilinear", align_corners=False)[:, 0]
        return DepthMaps(depth, self.kind, known, input_size=self.run.size)

    def facts(self) -> Mapping[str, Any]:
        """What it reads, and on which grid."""
        return {
            "model": "linear probe",
            "encoder": self.probe.encoder,
            "layer": self.probe.layer,
            "feature": self.probe.feature,
            "penalty": self.probe.penalty,
            "grid": list(self.run.grid),
            "train": dict(self.run.train),
        }


def open_probe(spec: Spec, input_size: Grid | None = None) -> ProbeModel:
    """``probe:RUN``, a folder that ``fathom probe`` wrote, or ``probe:ORG/NAME``, what `push_probes` uploaded.

    Python code that it names as its encoder is run only if the limit ``code-files`` allows it.

    Raises:
        DataError: the probes are torn or name code. UsageError: the run has no such probe, or it is of no depth.
    """
    for key in spec.options:
        if key not in OPTIONS:
            raise UsageError(f"Depth model '{spec.text}' has no option '{key}'{nearest(key, OPTIONS)}.")
    options = spec.options
    folder = find_folder("probe", spec.body, options.get("revision"), (RECORD, TENSORS, CARD))
    run = load_probes(folder)
    if input_size is not None and input_size != run.size:
        raise UsageError(
            f"A probe reads images at the size of its run, {run.size[0]}x{run.size[1]} for {spec.text}; leave --size out."
        )
    probe = run.find(options.get("encoder"), options.get("feature", "depth"), options.get("layer"))
    _meaning(probe.feature)
    if "module:" in (probe.spec or probe.encoder):  # also random:module: and the like
        limits.check("code-files", 1, folder / RECORD, "names")
    return ProbeModel(spec.text, run, probe, _open_encoder(probe, run.size).on_grid(run.grid))


def _open_encoder(probe: SavedProbe, size: Grid) -> Encoder:
    """The encoder of a probe: by the SPEC that it was opened by, else by its name."""
    try:
        return open_encoder(probe.spec or probe.encoder, size=size)
    except UsageError as error:
        if probe.spec is not None:
            raise
        raise UsageError(
            f"The encoder '{probe.encoder}' of this probe cannot be opened by its name, as one that was given in memory: {error}"
        ) from error


def _meaning(feature: str) -> tuple[Kind, ToDepth]:
    """The kind of depth of a feature, and how its values become depth; `UsageError` for one that is no depth."""
    found = FEATURES.get(feature)
    if found is not None and found.to_depth is not None:
        return "metric", found.to_depth
    if feature in AFFINE:
        return "affine-depth", lambda values: values
    usable = sorted([*(name for name, one in FEATURES.items() if one.to_depth is not None), *AFFINE])
    raise UsageError(f"A probe of '{feature}' gives no depth; name one of {', '.join(usable)} with ?feature=.")
