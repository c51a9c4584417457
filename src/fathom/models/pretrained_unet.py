"""A light U-Net decoder on an ImageNet encoder, in metres for any focal length."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fathom.errors import UsageError, nearest
from fathom.models.efficientnet_lite import SCALES, EfficientNetLite
from fathom.models.layers import full_precision
from fathom.models.network import Network, pad_to_multiple
from fathom.models.receptive_field import Step, Upsample, same

POOLS = (1, 2, 3, 6)
"""Grids of the pyramid pooling (Zhao et al. 2017)."""

RAYS = 2


BACKBONES = "fathom.encoders.backbone"
"""The module that opens encoders by their SPEC; it is above this one and imported when used."""


def open_backbone(spec: str) -> Any:
    """The encoder of `spec` as a module from images to maps of strides 2, 4, 8, 16 and 32, with their `widths`."""
    return importlib.import_module(BACKBONES).open_backbone(spec)


class ConvNorm(nn.Sequential):
    """3x3 (or 1x1) convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )


class PyramidPooling(nn.Module):
    """The map beside its own averages over grids of 1, 2, 3 and 6 cells a side: what the whole image looks like."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.Conv2d(inputs, width, 1) for _ in POOLS)
        self.merge = ConvNorm(inputs + width * len(POOLS) + RAYS, outputs, 1)

    def forward(self, x: Float[Tensor, "B c h w"], rays: Float[Tensor, "B 2 h w"]) -> Float[Tensor, "B d h w"]:
        size = x.shape[-2:]
        means = [
            F.interpolate(F.relu(pool(F.adaptive_avg_pool2d(x, grid))), size, mode="bilinear", align_corners=False)
            for pool, grid in zip(self.pools, POOLS, strict=True)
        ]
        merged: Tensor = self.merge(torch.cat([x, *means, rays.to(x.dtype)], 1))
        return merged


class Up(nn.Module):
    """Twice the size, beside the encoder's map and the rays: two 3x3 convolutions, the second one residual."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.mix = ConvNorm(inputs + skip + RAYS, outputs)
        self.refine = ConvNorm(outputs, outputs)

    def forward(
        self, x: Float[Tensor, "B c h w"], skip: Float[Tensor, "B d H W"], rays: Float[Tensor, "B 2 H W"]
    ) -> Float[Tensor, "B e H W"]:
        x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        y: Tensor = self.mix(torch.cat([x, skip, rays.to(x.dtype)], 1))
        refined: Tensor = self.refine(y)
        return y + refined


class PretrainedUNet(Network):
    """Image and camera -> depth in metres, at half the size.

    The network predicts the logarithm of depth for a camera of one canonical focal length; metres follow from the actual focal
    length f by ``depth = canonical depth · f / f_canonical`` (Yin et al. 2023, Metric3D): a longer lens makes the same object
    larger in the image without bringing it nearer. Both are in pixels of the network's input, since it is the size in pixels that
    convolutions see: an image that is made larger, its camera with it, keeps its metres. Where no camera is given, it has the
    canonical focal length and its centre in the middle.
    """

    @dataclass(frozen=True)
    class Config(Network.Config):
        """Defaults: 6 million parameters, 3.6 of them the encoder's.

        Attributes:
            encoder: a network of `fathom.models.efficientnet_lite`, or the SPEC of any encoder (`hf:FOLDER`, `timm:NAME`,
                `module:FILE:FACTORY`), which brings its own weights.
            widths: channels of the decoder at strides 16, 8, 4 and 2.
            context: channels of the pyramid pooling's result at stride 32.
            canonical_focal: the canonical focal length in pixels of the network's input; 281 is that of NYU Depth V2 at 256x352.
            typical_depth: metres predicted where the last activation is 0.
            drop_path: stochastic depth while training: residual branches of the encoder are left out at random, the deepest
                with this probability, the first with 0, linearly between.
        """

        encoder: str = "efficientnet_lite2"
        widths: tuple[int, ...] = (128, 96, 48, 24)
        context: int = 256
        canonical_focal: float = 281.0
        typical_depth: float = 2.5
        drop_path: float = 0.0

        def __post_init__(self) -> None:
            if self.encoder not in SCALES and ":" not in self.encoder:
                raise UsageError(f"There is no encoder '{self.encoder}'{nearest(self.encoder, SCALES)}.")
            if len(self.widths) != 4 or min(self.widths) < 1 or self.context < 1:
                raise UsageError(
                    "The decoder needs a context and four widths, at strides 16, 8, 4 and 2, of at least 1 channel."
                )
            if not 0 <= self.drop_path < 1:
                raise UsageError(f"drop_path is a probability below 1, not {self.drop_path:g}.")
            if not self.typical_depth > 0:
                raise UsageError("typical_depth must be above 0.")
            if not self.canonical_focal >= 10:
                raise UsageError(
                    f"canonical_focal is a focal length in pixels of the network's input, at least 10, not {self.canonical_focal:g}."
                )

    predicts = "depth"
    stride = 32
    output_stride = 2
    global_context = True
    takes_camera = True
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or PretrainedUNet.Config()
        own = config.encoder in SCALES
        self.encoder = EfficientNetLite(config.encoder, config.drop_path) if own else open_backbone(config.encoder)
        *skips, deepest = self.encoder.widths
        self.context = PyramidPooling(deepest, config.context // len(POOLS), config.context)
        self.up = nn.ModuleList()
        inputs = config.context
        for skip, width in zip(reversed(skips), config.widths, strict=True):
            self.up.append(Up(inputs, skip, width))
            inputs = width
        self.output = nn.Conv2d(inputs, 1, 3, padding=1)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def forward(
        self, image: Float[Tensor, "B 3 H W"], camera: Float[Tensor, "B 4"] | None = None
    ) -> Float[Tensor, "B 1 h w"]:
        """Depth in metres; `camera` is (fx, fy, cx, cy) in pixels of `image`, NaN where it is unknown."""
        height, width = image.shape[-2:]
        known = self.camera_or_canonical(image, camera)
        padded = pad_to_multiple(image, self.stride)
        logarithm = self.log_canonical(padded, known)[..., : -(-height // 2), : -(-width // 2)]
        focal = (known[:, 0] * known[:, 1]).sqrt()
        scale = self.config.typical_depth * focal / self.config.canonical_focal
        return full_precision(logarithm).clamp(-7, 7).exp() * scale.view(-1, 1, 1, 1)

    def layers(self) -> dict[str, nn.Module]:
        ups = {f"up_{i + 1}": up for i, up in enumerate(self.up)}
        own = {"context": self.context, **ups, "output": self.output}
        if not isinstance(self.encoder, EfficientNetLite):
            return own
        stages = {f"stage_{i + 1}": stage for i, stage in enumerate(self.encoder.stages)}
        return {"stem": self.encoder.stem, **stages, **own}

    def path(self) -> list[tuple[str, list[Step]]]:
        ups = [(f"up_{i + 1}", [Upsample(2), *same(3, 2)]) for i in range(len(self.up))]
        # What an encoder of another library sees is not known here.
        encoder = self.encoder.path() if isinstance(self.encoder, EfficientNetLite) else []
        return [*encoder, ("context", []), *ups, ("output", same(3))]

    def log_canonical(self, image: Float[Tensor, "B 3 H W"], camera: Float[Tensor, "B 4"]) -> Float[Tensor, "B 1 h w"]:
        """ln(canonical depth / typical depth) for an image whose sides the stride divides."""
        maps = self.encoder(image)
        size = (image.shape[-2], image.shape[-1])
        x = self.context(maps[-1], rays(camera, size, 32))
        for i, (up, skip) in enumerate(zip(self.up, reversed(maps[:-1]), strict=True)):
            x = self._run(up, x, skip, rays(camera, size, 16 >> i))
        logarithm: Tensor = self.output(x)
        return logarithm

    def camera_or_canonical(
        self, image: Float[Tensor, "B 3 H W"], camera: Float[Tensor, "B 4"] | None
    ) -> Float[Tensor, "B 4"]:
        """`camera`, with the canonical one where it is not known."""
        height, width = image.shape[-2:]
        focal = self.config.canonical_focal
        canonical = image.new_tensor([focal, focal, width / 2, height / 2]).float().expand(len(image), 4)
        return canonical if camera is None else torch.where(camera.isfinite(), camera, canonical)


def rays(camera: Float[Tensor, "B 4"], size: tuple[int, int], stride: int) -> Float[Tensor, "B 2 h w"]:
    """``((x − cx)/fx, (y − cy)/fy)`` at the centres of a grid of `stride` pixels: where each cell looks."""
    height, width = size[0] // stride, size[1] // stride
    x = (torch.arange(width, device=camera.device) + 0.5) * stride
    y = (torch.arange(height, device=camera.device) + 0.5) * stride
    fx, fy, cx, cy = camera[:, :, None].unbind(1)
    horizontal, vertical = (x - cx) / fx, (y - cy) / fy
    return torch.stack([horizontal[:, None, :].expand(-1, height, -1), vertical[:, :, None].expand(-1, -1, width)], 1)
