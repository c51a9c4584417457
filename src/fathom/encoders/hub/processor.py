"""The normalisation of a model's input: what the SPEC says, else what the model's own files say, else ImageNet's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders.hub.repository import PROCESSORS, read_object
from fathom.encoders.module import IMAGENET_MEAN, IMAGENET_STD, NO_NORMALISATION, Normalise
from fathom.encoders.spec import Spec
from fathom.errors import DataError, UsageError


class Processor(nn.Module):
    """The normalisation of an image processor of transformers, for RGB in [0, 1].

    The processor works on counts (0-255): x · rescale_factor, then (x − mean) / std. Its resizing and cropping are left
    out, since a probe decides the size of its input.

    Args:
        mean, std: of the channels, for images in [0, 1].
        swap: give BGR.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], swap: bool = False) -> None:
        super().__init__()
        self.normalise, self.swap = Normalise(mean, std), swap

    @classmethod
    def read(cls, folder: Path) -> Processor | None:
        """From ``preprocessor_config.json`` or ``processor_config.json``; None where the folder has neither."""
        found = next((folder / name for name in PROCESSORS if (folder / name).is_file()), None)
        if found is None:
            return None
        values = read_object(found)
        values = values.get("image_processor", values)
        factor = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0
        if not isinstance(factor, int | float) or not factor > 0:
            raise DataError(found, f"has rescale_factor {factor!r}, no positive number", "use another copy")
        mean, std = [0.0] * 3, [1.0] * 3
        if values.get("do_normalize", "image_mean" in values):
            mean, std = (
                _triple(values, "image_mean", IMAGENET_MEAN, found),
                _triple(values, "image_std", IMAGENET_STD, found),
            )
        top = 255 * factor  # what white becomes before the mean is taken away
        return cls([m / top for m in mean], [s / top for s in std], bool(values.get("do_flip_channel_order")))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        normal: Tensor = self.normalise(images)
        return normal.flip(1) if self.swap else normal


def _triple(values: Mapping[str, Any], key: str, default: Sequence[float], path: Path) -> list[float]:
    given = values.get(key) or default
    numbers = [given] * 3 if isinstance(given, int | float) else given
    if (
        not isinstance(numbers, list | tuple)
        or len(numbers) != 3
        or not all(isinstance(n, int | float) for n in numbers)
    ):
        raise DataError(path, f"has {key} {given!r}, not three numbers", "give ?mean=r,g,b&std=r,g,b after the name")
    return [float(n) for n in numbers]


def normalisation(spec: Spec, folder: Path) -> nn.Module:
    """What the SPEC says, else the model's own, else ImageNet's, with a note."""
    from fathom.progress import note

    own = given(spec) or Processor.read(folder)
    if own is None:
        note(f"{spec.text} {NO_NORMALISATION} (else give ?mean=r,g,b&std=r,g,b).")
    return own or Normalise()


def given(spec: Spec) -> Normalise | None:
    """The normalisation of ``?mean=r,g,b&std=r,g,b``, None where the SPEC has neither."""
    if "mean" not in spec.options and "std" not in spec.options:
        return None
    return Normalise(_numbers(spec, "mean", "0,0,0"), _numbers(spec, "std", "1,1,1"))


def _numbers(spec: Spec, key: str, default: str) -> list[float]:
    try:
        numbers = [float(part) for part in spec.options.get(key, default).split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or (key == "std" and not all(numbers)):
        raise UsageError(f"Encoder '{spec.text}': {key} is three numbers such as 0.5,0.5,0.5.")
    return numbers
