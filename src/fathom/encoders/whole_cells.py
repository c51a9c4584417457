"""Input sizes that a network's stride divides, so that its grid covers the image and nothing else.

A network whose stride does not divide its input drops the rest of the image or pads it; its cells then no longer lie
where the probe's grid takes them to lie. A probe would pay for that shift, and more so at the coarse layers.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fathom.sample import Grid


def nearest_multiple(size: Grid, stride: int, least: int = 1) -> Grid:
    """The multiple of `stride` nearest to each side (half a stride goes up), at least one stride.

    A size whose shorter side is below `least` is enlarged to it first.
    """
    shorter = min(size)
    if shorter < least:
        size = (round(size[0] * least / shorter), round(size[1] * least / shorter))
    height, width = (max((side + stride // 2) // stride, 1) * stride for side in size)
    return height, width


class WholeCells(nn.Module):
    """Resize an image to the nearest multiple of `stride` (bilinear, antialiased), then hand it on to `then`.

    An image whose size `stride` divides is left as it is. A network that needs a shorter side of so many pixels is given
    `least`, and one that takes images of one size alone `only`: every image is resized to it.
    """

    def __init__(self, stride: int, then: nn.Module | None = None, least: int = 1, only: Grid | None = None) -> None:
        super().__init__()
        self.stride, self.least, self.only = stride, least, only
        self.then = then or nn.Identity()

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 h w"]:
        size = (int(images.shape[-2]), int(images.shape[-1]))
        fitted = self.only or nearest_multiple(size, self.stride, self.least)
        if fitted != size:
            images = F.interpolate(images, fitted, mode="bilinear", antialias=True, align_corners=False)
        prepared: Tensor = self.then(images)
        return prepared
