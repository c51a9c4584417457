"""What a transformers checkpoint does before and after its network: its own image processor, and what stands in for the
processors that need torchvision where torchvision is not installed.

The stand-ins do on tensors what `DepthProImageProcessor`, `Tipsv2DptImageProcessor`, `CHMv2ImageProcessor` and ZoeDepth's
post-processing do in transformers 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from fathom.encoders.hub.repository import PROCESSORS, read_object
from fathom.encoders.hub.transformers import silent
from fathom.errors import DataError, FathomError, UsageError
from fathom.sample import Grid

Sizes = Sequence[Grid]


@runtime_checkable
class Processor(Protocol):
    """Pixels to a network's inputs, and its outputs to maps."""

    def prepare(
        self, images: UInt8[Tensor, "B 3 H W"], size: Grid | None, prompts: Sequence[Tensor] | None
    ) -> dict[str, Tensor]:
        """The network's keyword arguments; `size` is the (height, width) that it should see, where one is asked for."""
        ...

    def restore(self, outputs: Any, original: Grid, size: Grid) -> Float[Tensor, "B H W"]:
        """Maps of `size` for images of size `original`."""
        ...


def open_processor(folder: Path, model_type: str) -> Processor:
    """The processor of a checkpoint's folder.

    Raises:
        DataError: the folder holds none, or one that cannot be read.
        FathomError: it needs torchvision, which is not installed.
    """
    found = next((folder / name for name in PROCESSORS if (folder / name).is_file()), None)
    if found is None:
        raise DataError(
            folder,
            f"holds no {PROCESSORS[0]}, so the input that its network wants is not known",
            "add the file of the checkpoint that it comes from",
        )
    values = read_object(found)
    values = values.get("image_processor", values)
    if not _has_torchvision() and model_type in STAND_INS:
        return STAND_INS[model_type](values, found)
    from transformers import AutoImageProcessor

    try:
        with silent():
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        if not _has_torchvision():
            raise FathomError(
                f"{folder}: its processor ({values.get('image_processor_type', 'unknown')}) needs torchvision, which is not "
                "installed: pip install torchvision."
            ) from error
        raise DataError(found, "describes no image processor of this transformers", "use another copy") from error
    kind = ZoeProcessor if model_type == "zoedepth" else OwnProcessor
    return kind(processor)


def _has_torchvision() -> bool:
    from transformers.utils import is_torchvision_available

    return bool(is_torchvision_available())


class OwnProcessor:
    """The checkpoint's own processor of transformers."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def prepare(
        self, images: UInt8[Tensor, "B 3 H W"], size: Grid | None, prompts: Sequence[Tensor] | None
    ) -> dict[str, Tensor]:
        """As `processor(images)`; a size asked for replaces the processor's own, and is held exactly."""
        options: dict[str, Any] = {}
        if size is not None:
            if not hasattr(self.processor, "keep_aspect_ratio"):
                from fathom.data.transforms import resize_image

                images = torch.stack([resize_image(image, size) for image in images])
            else:
                options |= {"size": {"height": size[0], "width": size[1]}, "keep_aspect_ratio": False}
        if prompts is not None:
            options |= {"prompt_depth": [filled(prompt).numpy() for prompt in prompts], "prompt_scale_to_meter": 1.0}
        pictures = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]
        with silent():
            inputs = self.processor(images=pictures, return_tensors="pt", **options)
        return {key: value for key, value in inputs.items() if isinstance(value, Tensor)}

    def restore(self, outputs: Any, original: Grid, size: Grid) -> Float[Tensor, "B H W"]:
        """As `processor.post_process_depth_estimation`."""
        maps = self.processor.post_process_depth_estimation(outputs, target_sizes=[size] * len(outputs.predicted_depth))
        return torch.stack([found["predicted_depth"].reshape(size) for found in maps]).float()


class ZoeProcessor(OwnProcessor):
    """ZoeDepth's: it pads the image by reflection, and takes the padding away from the map."""

    FACTOR = 3

    def restore(self, outputs: Any, original: Grid, size: Grid) -> Float[Tensor, "B H W"]:
        """The map enlarged to the padded image, cropped, and brought to `size`, bicubic both times."""
        depth = outputs.predicted_depth[:, None]
        top, left = (int(math.sqrt(side / 2) * self.FACTOR) if self.processor.do_pad else 0 for side in original)
        depth = F.interpolate(depth, (original[0] + 2 * top, original[1] + 2 * left), mode="bicubic")
        depth = depth[:, :, top : top + original[0], left : left + original[1]]
        if size != original:
            depth = F.interpolate(depth, size, mode="bicubic")
        return depth[:, 0].float()


class StandIn:
    """A processor that needs nothing but PyTorch, from the values of its JSON file.

    Attributes:
        values: of the file. path: of the file, for messages.
    """

    defaults: Mapping[str, Any] = {}

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.values, self.path = {**self.defaults, **values}, path

    def sized(self, size: Grid | None) -> Grid:
        """The (height, width) that the network sees."""
        given = self.values.get("size") or {}
        if size is None and not {"height", "width"} <= given.keys():
            raise DataError(self.path, "names no height and width of the input", "use another copy")
        return size or (int(given["height"]), int(given["width"]))

    def normalised(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Counts (0-255) rescaled, and (x − mean) / std, as the file says."""
        if self.values.get("do_rescale", True):
            images = images * self.values.get("rescale_factor", 1 / 255)
        if not self.values.get("do_normalize", True):
            return images
        mean, std = (images.new_tensor(self.values[key]).view(-1, 1, 1) for key in ("image_mean", "image_std"))
        return (images - mean) / std


class DepthProStandIn(StandIn):
    """Normalised first, then resized without antialiasing; inverse depth back to metres by the field of view."""

    defaults: Mapping[str, Any] = {
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 1536, "width": 1536},
    }  # fmt: skip

    def prepare(
        self, images: UInt8[Tensor, "B 3 H W"], size: Grid | None, prompts: Sequence[Tensor] | None
    ) -> dict[str, Tensor]:
        """Pixel values of the one size that the network takes."""
        if size is not None and size != self.sized(None):
            raise UsageError(
                f"Depth Pro sees every image at {self.sized(None)[0]}x{self.sized(None)[1]}; leave --size out."
            )
        images = self.normalised(images.float())
        return {"pixel_values": F.interpolate(images, self.sized(size), mode="bilinear", align_corners=False)}

    def restore(self, outputs: Any, original: Grid, size: Grid) -> Float[Tensor, "B H W"]:
        """``1 / (v · W / f)``: the network gives inverse depth for a focal length of one image width."""
        inverse = outputs.predicted_depth[:, None]
        if outputs.field_of_view is not None:
            inverse = inverse * (2 * torch.tan(torch.deg2rad(outputs.field_of_view) / 2)).view(-1, 1, 1, 1)
        inverse = F.interpolate(inverse, size, mode="bilinear", align_corners=False)
        return 1 / inverse[:, 0].float().clamp(1e-4, 1e4)


class TipsStandIn(StandIn):
    """Resized, in [0, 1] without a normalisation; the map is bilinear."""

    defaults: Mapping[str, Any] = {"do_normalize": False, "size": {"height": 448, "width": 448}}

    def prepare(
        self, images: UInt8[Tensor, "B 3 H W"], size: Grid | None, prompts: Sequence[Tensor] | None
    ) -> dict[str, Tensor]:
        """Counts are resized with antialiasing, and rounded, before they are rescaled."""
        seen = F.interpolate(images.float(), self.sized(size), mode="bilinear", antialias=True).round_().clamp_(0, 255)
        return {"pixel_values": self.normalised(seen)}

    def restore(self, outputs: Any, original: Grid, size: Grid) -> Float[Tensor, "B H W"]:
        """Bilinear at pixel centres."""
        maps = F.interpolate(outputs.predicted_depth[:, None], size, mode="bilinear", align_corners=False)
        return maps[:, 0].float()


class CanopyStandIn(StandIn):
    """CHMv2: the image as it is, padded evenly to whole patches; the map is bilinear, corners aligned."""

    defaults: Mapping[str, Any] = {
        "image_mean": [0.420, 0.411, 0.296], "image_std": [0.213, 0.156, 0.143], "do_resize": False, "size_divisor": 16,
    }  # fmt: skip

    def prepare(
        self, images: UInt8[Tensor, "B 3 H W"], size: Grid | None, prompts: Sequence[Tensor] | None
    ) -> dict[str, Tensor]:
        """Normalised, then zeros around it."""
        if self.values["do_resize"] and size is None:
            raise FathomError(
                f"{self.path}: resizing by this processor needs torchvision; install it, or give --size HxW."
            )
        if size is not None:
            images = F.interpolate(images.float(), size, mode="bicubic", antialias=True).round_().clamp_(0, 255)
        height, width = (-side % self.values["size_divisor"] for side in images.shape[-2:])
        edges = (width // 2, width - width // 2, height // 2, height - height // 2)
        return {"pixel_values": F.pad(self.normalised(images.float()), edges)}

    def restore(self, outputs: Any, original: Grid, size: Grid) -> Float[Tensor, "B H W"]:
        """As transformers does: the padding stays in."""
        maps = F.interpolate(outputs.predicted_depth[:, None], size, mode="bilinear", align_corners=True)
        return maps[:, 0].float()


STAND_INS: dict[str, type[DepthProStandIn] | type[TipsStandIn] | type[CanopyStandIn]] = {
    "depth_pro": DepthProStandIn,
    "tipsv2_dpt": TipsStandIn,
    "chmv2": CanopyStandIn,
}
"""model_type -> what stands in for its processor where torchvision is not installed."""


def filled(prompt: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """A depth prompt whose unknown pixels (0 or NaN) have the value of the nearest known one."""
    from scipy.ndimage import distance_transform_edt

    known = torch.isfinite(prompt) & (prompt > 0)
    if known.all():
        return prompt.float()
    if not known.any():
        raise UsageError("A depth prompt without any known pixel is no prompt; leave the frame out.")
    rows, columns = distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    return prompt[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()].float()
