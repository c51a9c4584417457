"""``hf:`` — any depth model of transformers, from a local folder or the Hugging Face hub.

What kind of depth a checkpoint gives is read from its configuration or from `KNOWN`; where neither says, the user is asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fathom.data.camera import from_fov
from fathom.depth_models.forward import TorchDepthModel, image_size
from fathom.depth_models.model import DepthMaps, Images, Kind, ask_for_kind, known_cameras, parse_kind
from fathom.depth_models.processors import Processor, open_processor
from fathom.encoders.hub.repository import CONFIG, find_folder, licence_of, read_object
from fathom.encoders.hub.transformers import load_network, read_config
from fathom.encoders.spec import Spec
from fathom.errors import CheckpointError, UsageError, nearest
from fathom.sample import Grid, Intrinsics

OPTIONS = ("kind", "revision")

BY_TYPE: dict[str, Kind] = {
    "depth_pro": "metric",
    "zoedepth": "metric",
    "glpn": "metric",
    "tipsv2_dpt": "metric",
}
"""model_type -> kind, where all checkpoints of an architecture have one: its head ends in metres."""

KNOWN: tuple[tuple[str, Kind], ...] = (
    # MiDaS 3.0 and 3.1 (Ranftl et al. 2021, Birkl et al. 2023): inverse depth up to scale and shift.
    (r"dpt-(large|hybrid-midas|beit-(base|large)-\d+|swinv2-(tiny|base|large)-\d+)", "affine-disparity"),
    # Heads of DINOv2 (Oquab et al. 2023), trained on metres of NYU or KITTI.
    (r"dpt-dinov2-(small|base|large|giant)-(nyu|kitti)", "metric"),
)
"""Names of published `dpt` checkpoints, whose configuration does not tell MiDaS from a network fine-tuned on metres."""

UNUSED = re.compile(r"(^|\.)pooler\.|fusion_stage\.layers\.0\.residual_layer1\.")
"""Weights that no forward pass reads and published files leave out: poolers, and the first fusion's branch for a second input."""


class HubModel(TorchDepthModel):
    """A depth model of transformers with its checkpoint's own processor.

    Args:
        name: the SPEC.
        network: a ``*ForDepthEstimation``.
        processor: of the same checkpoint.
        kind: of its values.
        licence: as its model card says.
        input_size: (height, width) at which it sees every image; None is the processor's choice.
        prompted: whether it runs with a depth prompt.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        processor: Processor,
        kind: Kind,
        *,
        licence: str = "",
        input_size: Grid | None = None,
        prompted: bool = False,
    ) -> None:
        self.name, self.network, self.processor, self.kind = name, network, processor, kind
        self.licence, self.input_size, self.takes_prompt = licence, input_size, prompted
        self.config: Any = getattr(network, "config")  # noqa: B009 (typed as a tensor or a module)
        self.uses_camera = self.config.model_type == "depth_pro"
        self.estimates_camera = self.uses_camera and bool(self.config.use_fov_model)

    def modules(self) -> tuple[nn.Module]:
        """The network."""
        return (self.network,)

    def predict(
        self,
        images: Images,
        cameras: Sequence[Intrinsics | None] | None = None,
        *,
        size: Grid | None = None,
        prompts: Sequence[Tensor | None] | None = None,
    ) -> DepthMaps:
        """As calling transformers by hand: processor, network, post-processing."""
        original = image_size(images)
        counts = images if images.dtype == torch.uint8 else (images * 255).round().clamp(0, 255).byte()
        inputs = self.processor.prepare(counts.cpu(), self.input_size, self._prompts(prompts, len(images)))
        seen = image_size(inputs["pixel_values"])
        with self.running(inputs["pixel_values"], foreign=True):
            outputs = self.network(**{key: value.to(self.device) for key, value in inputs.items()})
        known = self._cameras(outputs, images, cameras)
        values = self.processor.restore(outputs, original, size or original).cpu()
        return DepthMaps(values, self.kind, known, input_size=seen)

    def _prompts(self, prompts: Sequence[Tensor | None] | None, count: int) -> list[Tensor] | None:
        if not self.takes_prompt:
            return None
        found = [prompt for prompt in prompts or [] if prompt is not None]
        if len(found) != count:
            raise UsageError(
                f"{self.name} takes a coarse depth map in metres beside each image, such as a phone's LiDAR; name data that has "
                "one (an .r3d capture), or give ?kind= to run it on images alone."
            )
        return found

    def _cameras(
        self, outputs: Any, images: Images, cameras: Sequence[Intrinsics | None] | None
    ) -> tuple[Intrinsics, ...]:
        """The cameras used; a field of view in `outputs` is replaced where the camera is known, since metres depend on it."""
        known = known_cameras(images, cameras)
        if not self.uses_camera:
            return known
        size = (int(images.shape[-2]), int(images.shape[-1]))
        if self.estimates_camera:
            angles = [float(angle) for angle in outputs.field_of_view]
            known = tuple(
                from_fov(size, min(max(angle, 1.0), 179.0), origin="model") if camera.origin == "assumed" else camera
                for camera, angle in zip(known, angles, strict=True)
            )
        angles = [math.degrees(2 * math.atan(size[1] / (2 * camera.fx))) for camera in known]
        outputs.field_of_view = torch.tensor(angles, device=outputs.predicted_depth.device)
        return known

    def facts(self) -> Mapping[str, Any]:
        """Its architecture, its largest depth where it has one, and the version of transformers."""
        from transformers import __version__

        most = getattr(self.config, "max_depth", None) if self.kind == "metric" else None
        facts = {"model": self.config.model_type, "transformers": __version__}
        return facts if most is None else {**facts, "max_depth": most}


def open_hf(spec: Spec, input_size: Grid | None = None) -> HubModel:
    """``hf:FOLDER`` or ``hf:ORG/NAME``, with ``?kind=`` and ``?revision=``."""
    for key in spec.options:
        if key not in OPTIONS:
            raise UsageError(f"Depth model '{spec.text}' has no option '{key}'{nearest(key, OPTIONS)}.")
    folder = find_folder("hf", spec.body, spec.options.get("revision"))
    config = read_config(folder)
    kind_of_model = _class(folder, config)
    stated = spec.options.get("kind")
    prompted = config.model_type == "prompt_depth_anything" and stated is None
    kind = parse_kind(stated, spec.text) if stated else declared_kind(config, spec.body)
    if kind is None:
        raise ask_for_kind(spec.text, "add ?kind= with")
    network = load_network(folder, kind_of_model, {}, unused=UNUSED)
    return HubModel(
        spec.text,
        network.eval(),
        open_processor(folder, config.model_type),
        kind,
        licence=licence_of(folder) or "",
        input_size=input_size,
        prompted=prompted,
    )


def declared_kind(config: Any, name: str) -> Kind | None:
    """The kind that a checkpoint's configuration or its published name states; None where neither does."""
    if config.model_type == "depth_anything":
        return "metric" if config.depth_estimation_type == "metric" else "affine-disparity"
    if config.model_type == "prompt_depth_anything":
        return "metric"  # the prompt is in metres, and so is what is made of it
    if config.model_type in BY_TYPE:
        return BY_TYPE[config.model_type]
    if config.model_type == "dpt":
        names = {name.rstrip("/").rsplit("/", 1)[-1], str(getattr(config, "_name_or_path", "")).rsplit("/", 1)[-1]}
        return next((kind for pattern, kind in KNOWN if any(re.fullmatch(pattern, n) for n in names)), None)
    return None


def _class(folder: Path, config: Any) -> Any:
    """The depth model's class of a configuration; `CheckpointError` where the folder holds a model of another task."""
    from transformers import MODEL_FOR_DEPTH_ESTIMATION_MAPPING

    architectures = [str(name) for name in read_object(folder / CONFIG).get("architectures") or []]
    other = [name for name in architectures if not name.endswith(("ForDepthEstimation", "ForDensePrediction"))]
    try:
        found = MODEL_FOR_DEPTH_ESTIMATION_MAPPING[type(config)]
    except KeyError:
        other = other or [str(config.model_type)]
    if other:
        raise CheckpointError(
            folder,
            f"is a model of another task ({other[0]}), which gives no depth",
            "name a depth model; 'fathom probe -e hf:...' tells what this one knows of depth",
        )
    return found
