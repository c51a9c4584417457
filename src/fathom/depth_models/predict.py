"""Depth in metres from one image, at the image's own size."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from fathom.atomic import atomic_path
from fathom.errors import CheckpointError, DataError, UsageError
from fathom.models.network import Box, Network
from fathom.sample import Grid, Intrinsics

if TYPE_CHECKING:
    from PIL.Image import Image

    from fathom.models.saved import Trained

MOST_METRES = 65.535
"""The largest depth that 16 bits of millimetres hold."""

LEAST_METRES = 1e-3
"""Predictions are held above it, as all scores hold them: a linear output may fall below zero."""


class DepthRangeWarning(UserWarning):
    """Depth that a 16-bit map in millimetres cannot hold."""


@dataclass(frozen=True)
class Prediction:
    """Depth of one image.

    Attributes:
        image: the image as it is seen (EXIF orientation applied), ``(H, W, 3)`` uint8.
        depth: metres along the optical axis, ``(H, W)`` float32, at least 1 mm; NaN where the network gives none (a
            network without padding leaves out the image's border).
        input_size: the (height, width) at which the network saw the image.
        source: the file, for messages; empty for an image from memory.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    input_size: Grid
    source: str = ""

    def beyond_png(self) -> int:
        """Pixels deeper than a 16-bit map in millimetres can say."""
        return int(np.count_nonzero(self.depth > MOST_METRES))

    def save_png16(self, path: str | Path) -> Path:
        """Write millimetres as 16-bit PNG; 0 is unknown, 65535 is 65.535 m *or more* (with a `DepthRangeWarning`)."""
        from PIL import Image

        beyond = self.beyond_png()
        if beyond:
            warnings.warn(
                f"{path}: {beyond} pixels lie beyond {MOST_METRES} m and are stored as {MOST_METRES} m; "
                "save NPY to keep them.",
                DepthRangeWarning,
                stacklevel=2,
            )
        millimetres = np.nan_to_num(self.depth.astype(np.float64), nan=0.0).clip(0, MOST_METRES) * 1000
        with atomic_path(path) as temporary:
            Image.fromarray(millimetres.round().astype(np.uint16)).save(temporary, format="PNG")
        return Path(path)

    def save_npy(self, path: str | Path) -> Path:
        """Write the depth in metres as it is: ``(H, W)`` float32 NPY, NaN where unknown."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, self.depth, allow_pickle=False)
        return Path(path)

    def save_colour(self, path: str | Path, *, near: float | None = None, far: float | None = None) -> Path:
        """Write a PNG of the depth in colour beside a scale in metres.

        The scale runs from `near` to `far` metres; by default over this image's depths but for 1 % at either end.
        """
        from fathom.media.colour_map import save_colour_map

        return save_colour_map(self.depth, path, near=near, far=far)

    def pointcloud(self, path: str | Path, *, intrinsics: Intrinsics | None = None, fov: float | None = None) -> Path:
        """Write a binary PLY of coloured points; see `fathom.media.pointcloud.camera` for `intrinsics` and `fov`."""
        from fathom.media.pointcloud import camera, save_ply, unproject

        height, width = self.depth.shape
        points, known = unproject(self.depth, camera((height, width), intrinsics=intrinsics, fov=fov))
        return save_ply(path, points, self.image[known])


def predict(
    model: Trained | str | Path,
    image: str | Path | Image | NDArray[np.uint8] | Tensor,
    *,
    size: Grid | None = None,
    device: str = "auto",
) -> Prediction:
    """Read depth from one image.

    Args:
        model: a trained depth network, or the path of its run or checkpoint folder.
        image: a file, a Pillow image, ``(H, W, 3)`` uint8, or a tensor ``(3, H, W)``, uint8 or float in [0, 1].
        size: (height, width) at which the network sees it; see `working_size` for the default.
        device: ``cpu``, ``cuda``, ``mps`` or ``auto``.

    Raises:
        CheckpointError: the checkpoint is broken, or its network does not predict depth.
        DataError: the file is no image that can be read.
    """
    from fathom.devices import resolve_device

    trained = open_depth_model(model)
    network = trained.model
    assert isinstance(network, Network)
    pixels, source = _pixels(image)
    original = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    working = size or working_size(original, trained.input_size, network.stride)
    values = _run(network, pixels, working, resolve_device(device))
    depth = to_image_size(
        values, working=working, box=network.output_crop(working), stride=network.output_stride, original=original
    )
    if not torch.isfinite(depth).any():
        raise DataError(source or "image", f"got no finite depth from the network in {trained.path}")
    depth = torch.where(torch.isfinite(depth), depth.clamp(min=LEAST_METRES), torch.nan)
    return Prediction(pixels.permute(1, 2, 0).numpy(), depth.numpy(), working, source)


def open_depth_model(model: Trained | str | Path) -> Trained:
    """The trained depth network at a path, or the one given; `CheckpointError` where it predicts something else."""
    from fathom.models.saved import load_model

    trained = load_model(model) if isinstance(model, str | Path) else model
    predicts = getattr(trained.model, "predicts", None)
    if predicts != "depth":
        what = {"image": "images", "depth_edges": "edges of depth maps"}.get(str(predicts), "something else")
        raise CheckpointError(
            trained.path,
            f"is of '{trained.model_name}', which predicts {what} and no depth",
            "name the checkpoint of a depth network; 'fathom probe' tells what the others know of depth",
        )
    return trained


def _pixels(image: str | Path | Image | NDArray[np.uint8] | Tensor) -> tuple[UInt8[Tensor, "3 H W"], str]:
    """The image as uint8, and its file's name."""
    if isinstance(image, (str, Path)):
        from fathom.data.formats.files import read_rgb

        return read_rgb(image), str(image)
    if isinstance(image, Tensor):
        pixels = image if image.dtype == torch.uint8 else (image.float() * 255).round().clamp(0, 255).byte()
        pixels = pixels.cpu()
    elif isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3:
            raise UsageError(f"The image is {image.dtype} of shape {image.shape}; wanted uint8 (H, W, 3).")
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    else:
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(image).convert("RGB")
        pixels = torch.from_numpy(np.array(upright)).permute(2, 0, 1)
    if pixels.ndim != 3 or pixels.shape[0] != 3 or 0 in pixels.shape:
        raise UsageError(f"The image is {tuple(pixels.shape)} as channels, height, width; wanted three channels.")
    return pixels, ""


def working_size(original: Grid, trained: Grid, stride: int) -> Grid:
    """The size at which a network sees an image unless told otherwise.

    It has the area of the training size and the shape of the image, in multiples of `stride`: nothing looks stretched
    that did not in training. An image of the training shape is seen at exactly the training size.
    """
    height, width = original
    scale = (trained[0] * trained[1] / (height * width)) ** 0.5
    if max(abs(height * scale - trained[0]), abs(width * scale - trained[1])) < stride / 2:
        return trained
    rows, columns = (max(round(length * scale / stride), 1) * stride for length in original)
    return rows, columns


@torch.inference_mode()
def _run(network: Network, pixels: UInt8[Tensor, "3 H W"], working: Grid, device: str) -> Float[Tensor, "h w"]:
    from fathom.data.transforms import resize_image

    batch = resize_image(pixels, working)[None].to(device).float() / 255
    output: Tensor = network.to(device)(batch)
    return output[0, 0].float().cpu()


def to_image_size(
    values: Float[Tensor, "h w"], *, working: Grid, box: Box, stride: int, original: Grid
) -> Float[Tensor, "H W"]:
    """Bilinear interpolation of a network's output at the pixel centres of the original image.

    Output cell ``(i, j)`` covers `stride` x `stride` pixels of the network's input, of size `working`, from
    ``(box.top + i * stride, box.left + j * stride)``. Pixels outside `box`, of which the network says nothing, are NaN.
    """
    top, left, height, width = box
    rows = _between(original[0], working[0], top, height, stride, values.shape[0])
    columns = _between(original[1], working[1], left, width, stride, values.shape[1])
    values = torch.lerp(values[rows.low], values[rows.high], rows.weight[:, None])
    values = torch.lerp(values[:, columns.low], values[:, columns.high], columns.weight[None])
    values[~rows.inside] = torch.nan
    values[:, ~columns.inside] = torch.nan
    return values


@dataclass(frozen=True)
class _Between:
    """Where the pixels of one axis lie between the cells of the output: two neighbours and the weight of the second."""

    low: Tensor
    high: Tensor
    weight: Tensor
    inside: Tensor


def _between(pixels: int, working: int, start: int, extent: int, stride: int, cells: int) -> _Between:
    centres = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (working / pixels) - start
    at = (centres / stride - 0.5).clamp(0, cells - 1)
    low = at.floor().long()
    return _Between(low, (low + 1).clamp(max=cells - 1), (at - low).float(), (centres >= 0) & (centres <= extent))
