"""`predict`: a depth model and images in, depth at each image's own size out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from fathom.data.camera import exif_camera
from fathom.data.dataset import Dataset
from fathom.depth_models.calibration import Calibration, calibration_of
from fathom.depth_models.model import DepthMaps, DepthModel
from fathom.depth_models.opening import Openable, open_depth_model
from fathom.depth_models.prediction import LEAST_METRES, Prediction, given_camera
from fathom.depth_models.scale import Known
from fathom.errors import DataError, UsageError
from fathom.sample import Grid, Intrinsics, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | Image | NDArray[np.uint8] | Tensor | Sample
    """A file, a Pillow image, ``(H, W, 3)`` uint8, a tensor ``(3, H, W)``, uint8 or float in [0, 1], or a frame of data."""


@overload
def predict(
    model: Openable | None,
    image: Picture,
    *,
    size: Grid | None = None,
    device: str = "auto",
    kind: str | None = None,
    fov: float | None = None,
    intrinsics: Intrinsics | None = None,
    known: Sequence[Known] = (),
    batch_size: int = 1,
    interval: float | None = None,
) -> Prediction: ...
@overload
def predict(
    model: Openable | None,
    image: list[Any] | tuple[Any, ...] | Dataset,
    *,
    size: Grid | None = None,
    device: str = "auto",
    kind: str | None = None,
    fov: float | None = None,
    intrinsics: Intrinsics | None = None,
    known: Sequence[Known] = (),
    batch_size: int = 1,
    interval: float | None = None,
) -> list[Prediction]: ...
def predict(
    model: Openable | None,
    image: Picture | list[Any] | tuple[Any, ...] | Dataset,
    *,
    size: Grid | None = None,
    device: str = "auto",
    kind: str | None = None,
    fov: float | None = None,
    intrinsics: Intrinsics | None = None,
    known: Sequence[Known] = (),
    batch_size: int = 1,
    interval: float | None = None,
) -> Prediction | list[Prediction]:
    """Read depth from one image, or from several.

    Args:
        model: whatever `open_depth_model` opens: a name, a path, an `nn.Module`; None is the network that comes with the
            package.
        image: a file, a Pillow image, ``(H, W, 3)`` uint8, a tensor ``(3, H, W)``, uint8 or float in [0, 1], or a frame
            (`Sample`); a list of these, or a `Dataset`, gives a list.
        size: (height, width) at which the model sees each image; by default its own choice.
        device: ``cpu``, ``cuda``, ``mps`` or ``auto``.
        kind: of depth, for a module that does not declare it.
        fov: horizontal field of view in degrees, where the camera is known by it.
        intrinsics: the camera in pixels of the image; without both, it is that of the data, of the photo's EXIF, the model's
            estimate, or assumed, in this order; `Prediction.camera` says which.
        known: points of known distance, which fix the scale.
        batch_size: neighbouring images of one size that are predicted at once.
        interval: probability of a calibrated interval, such as 0.9: `Prediction.interval` holds lower and upper metres.

    Raises:
        UsageError: there is no such model; metres are wanted of a relative one; the camera belongs to another image size.
        CheckpointError: the checkpoint is broken, or its network does not predict depth.
        DataError: the file is no image that can be read.
    """
    opened = open_depth_model(model, device=device, input_size=size, kind=kind)
    several = isinstance(image, list | tuple | Dataset)
    calibration = None if interval is None else calibration_of(opened)
    options = Options(fov, intrinsics, tuple(known), batch_size, interval, calibration)
    found = list(predictions(opened, image if several else [image], options))  # type: ignore[arg-type, list-item]
    return found if several else found[0]


@dataclass(frozen=True)
class Options:
    """How images are predicted; see `predict` for the fields."""

    fov: float | None = None
    intrinsics: Intrinsics | None = None
    known: tuple[Known, ...] = ()
    batch_size: int = 1
    interval: float | None = None
    calibration: Calibration | None = None


def predictions(
    model: DepthModel, images: Iterable[Picture | Scene], options: Options = Options()
) -> Iterator[Prediction]:
    """Predict images (or what `read_scene` made of them) one after the other, neighbours of one size together; memory is flat in their number."""
    group: list[Scene] = []
    first: Grid | None = None
    for image in images:
        scene = image if isinstance(image, Scene) else read_scene(image, options)
        first = first or scene.size
        if options.intrinsics is not None and scene.size != first:
            sizes = " and ".join(f"{width}x{height}" for height, width in (first, scene.size))
            raise UsageError(
                f"Intrinsics are in pixels of one image size, and the images have several ({sizes}, width x height); give the "
                "field of view (--fov), or predict each size by itself."
            )
        if group and (len(group) >= options.batch_size or group[0].size != scene.size):
            yield from _predict_group(model, group, options)
            group = []
        group.append(scene)
    if group:
        yield from _predict_group(model, group, options)


@dataclass(frozen=True)
class Scene:
    """One image ready for a model: its pixels, its camera where known, its name, and coarse depth where the data has it."""

    pixels: UInt8[Tensor, "3 H W"]
    camera: Intrinsics | None
    source: str
    prompt: Tensor | None = None

    @property
    def size(self) -> Grid:
        return int(self.pixels.shape[-2]), int(self.pixels.shape[-1])


def read_scene(image: Picture, options: Options = Options()) -> Scene:
    """Read an image and resolve its camera: given, of the data, of the photo's EXIF; None leaves it to the model."""
    if isinstance(image, Sample):
        prompt = torch.where(image.valid, image.depth, 0.0)[0] if bool(image.valid.any()) else None
        pixels = image.image if image.image.dtype == torch.uint8 else (image.image * 255).round().byte()
        scene = Scene(pixels, image.intrinsics, image.id, prompt)
    else:
        pixels, source, camera = _pixels(image)
        scene = Scene(pixels, camera, source)
    given = given_camera(scene.size, intrinsics=options.intrinsics, fov=options.fov, what=scene.source)
    return scene if given is None else Scene(scene.pixels, given, scene.source, scene.prompt)


def _predict_group(model: DepthModel, group: Sequence[Scene], options: Options) -> Iterator[Prediction]:
    maps = model.predict(
        torch.stack([scene.pixels for scene in group]),
        [scene.camera for scene in group],
        prompts=[scene.prompt for scene in group] if model.takes_prompt else None,
    )
    about = {"name": model.name, "licence": model.licence or None, **model.facts()}
    for index, scene in enumerate(group):
        prediction = _prediction(scene, maps, index, about)
        if options.known:
            prediction = prediction.scaled(*options.known)
        if options.interval is not None:
            prediction = prediction.with_interval(options.calibration or calibration_of(model), options.interval)
        yield prediction


def _prediction(scene: Scene, maps: DepthMaps, index: int, about: dict[str, Any]) -> Prediction:
    values = maps.values[index]
    if not torch.isfinite(values).any():
        raise DataError(scene.source or "image", f"got no finite depth from {about['name']}")
    values = torch.where(torch.isfinite(values), values, torch.nan)
    if maps.kind == "metric":
        values = values.clamp(min=LEAST_METRES)
    return Prediction(
        image=scene.pixels.permute(1, 2, 0).numpy(),
        values=values.numpy(),
        kind=maps.kind,
        camera=maps.cameras[index],
        input_size=maps.input_size,
        source=scene.source,
        model=about,
        confidence=None if maps.confidence is None else maps.confidence[index].numpy(),
    )


def _pixels(image: Any) -> tuple[UInt8[Tensor, "3 H W"], str, Intrinsics | None]:
    """The image as uint8, its file's name, and the camera of its EXIF."""
    if isinstance(image, (str, Path)):
        from fathom.data.formats.files import read_exif, read_rgb

        pixels = read_rgb(image)
        return pixels, str(image), exif_camera(read_exif(image), (int(pixels.shape[1]), int(pixels.shape[2])))
    camera = None
    if isinstance(image, Tensor):
        pixels = image if image.dtype == torch.uint8 else (image.float() * 255).round().clamp(0, 255).byte()
        pixels = pixels.cpu()
    elif isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3:
            raise UsageError(f"The image is {image.dtype} of shape {image.shape}; wanted uint8 (H, W, 3).")
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    elif hasattr(image, "getexif"):
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(image).convert("RGB")
        pixels = torch.from_numpy(np.array(upright)).permute(2, 0, 1)
        camera = exif_camera(image.getexif(), (upright.height, upright.width))
    else:
        raise UsageError(f"An image is a file, a Pillow image, an array or a tensor, not {type(image).__name__}.")
    if pixels.ndim != 3 or pixels.shape[0] != 3 or 0 in pixels.shape:
        raise UsageError(f"The image is {tuple(pixels.shape)} as channels, height, width; wanted three channels.")
    return pixels, "", camera
