"""Named evaluation protocols: which pixels count, at what resolution, within what range.

The same predictions under different protocols give different numbers, so every number carries its protocol's name. The
exact definitions, with their sources, are in docs/protocols.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from fathom.data.dataset import Dataset
from fathom.errors import UsageError
from fathom.sample import Grid, Sample

GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
"""Top, bottom, left and right of the Garg crop (Garg et al. 2016)."""

NYU = (480, 640)
"""Size of an NYU Depth V2 frame: the crops below are in its coordinates."""


class Region(NamedTuple):
    """What is compared: predictions ``(R, H, W)``, truth and validity ``(H, W)``, cropped and clamped."""

    predictions: Float[Tensor, "R H W"]
    target: Float[Tensor, "H W"]
    valid: Bool[Tensor, "H W"]


@dataclass(frozen=True)
class Protocol:
    """One way of comparing a prediction with the truth.

    Attributes:
        name: as on the command line.
        description: one sentence.
        least, most: metres; true depth outside is not counted, predictions are clamped into it.
        rows, columns: the crop, half-open, in the coordinates of a frame of size `frame`; None for all of it.
        frame: the size the crop belongs to, or None where there is no crop.
        fractions: a crop for frames of any size instead: top, bottom, left and right as fractions of height and width.
        groups: of metrics that the protocol reports (`fathom.metrics.groups`).
    """

    name: str
    description: str
    least: float
    most: float
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None
    frame: Grid | None = None
    fractions: tuple[float, float, float, float] | None = None
    groups: tuple[str, ...] = ("depth",)

    def window(self, size: Grid) -> tuple[slice, slice]:
        """The crop in a ground truth of `size`; frames whose borders were cut evenly are understood.

        Raises `UsageError` for sizes the crop was not made for.
        """
        if self.fractions is not None:
            top, bottom, left, right = self.fractions
            height, width = size
            return slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
        if self.rows is None or self.columns is None or self.frame is None:
            return slice(None), slice(None)
        top, left = (self.frame[0] - size[0]) // 2, (self.frame[1] - size[1]) // 2
        even = (self.frame[0] - size[0]) % 2 == 0 and top == left and top >= 0
        if not even or top > self.rows[0] or left > self.columns[0] or self.frame[0] - top < self.rows[1]:
            raise UsageError(
                f"protocol {self.name} is defined on {self.frame[0]}x{self.frame[1]} frames (or ones with an even border "
                f"cut away), not on {size[0]}x{size[1]}; use --protocol native."
            )
        rows = slice(self.rows[0] - top, self.rows[1] - top)
        columns = slice(self.columns[0] - left, self.columns[1] - left)
        if columns.stop > size[1] or rows.stop > size[0]:
            raise UsageError(
                f"protocol {self.name}: the crop leaves a frame of {size[0]}x{size[1]}; use --protocol native."
            )
        return rows, columns

    def apply_rows(self, predictions: Float[Tensor, "R h w"], sample: Sample) -> Region:
        """Bring R predictions of a frame to its ground truth's size (bilinear), crop, and clamp.

        Infinite predictions become the largest depth, NaN the least.
        """
        rows, columns = self.window(sample.depth_size)
        full = predictions
        if tuple(predictions.shape[-2:]) != sample.depth_size:
            full = F.interpolate(predictions[None], sample.depth_size, mode="bilinear", align_corners=False)[0]
        clamped = full[:, rows, columns].clamp(self.least, self.most)
        if bool(clamped.sum().isnan()):  # a clamp keeps NaN, and only NaN
            clamped = torch.nan_to_num(clamped, nan=self.least)
        target = sample.depth[0, rows, columns]
        return Region(clamped, target, self.counted(target, sample.valid[0, rows, columns]))

    def counted(self, target: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
        """Valid pixels whose true depth lies strictly inside the range."""
        g = target.numpy()  # NumPy compares several times faster than PyTorch on a CPU
        found = np.greater(g, self.least)
        found &= np.less(g, self.most)
        found &= valid.numpy()
        return torch.from_numpy(found)

    def apply(self, prediction: Float[Tensor, "h w"], sample: Sample) -> Region:
        """`apply_rows` of one prediction."""
        return self.apply_rows(prediction[None], sample)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "nyu-eigen",
            "NYUv2, Eigen crop (rows 45:471, columns 41:601 of 480x640), 1 mm to 10 m, mean over images",
            1e-3,
            10.0,
            (45, 471),
            (41, 601),
            NYU,
        ),
        Protocol("nyu-full", "NYUv2, all valid pixels, 1 mm to 10 m, mean over images", 1e-3, 10.0),
        Protocol(
            "probe3d",
            "480x480 centre crop of 480x640, truth above 10 m invalid, mean over images",
            1e-3,
            10.0,
            (0, 480),
            (80, 560),
            NYU,
        ),
        Protocol(
            "kitti-eigen",
            "KITTI, Garg crop (fractions of height and width), 1 mm to 80 m, mean over images",
            1e-3,
            80.0,
            fractions=GARG,
        ),
        Protocol("diode", "DIODE, mask and depth above 0, up to 350 m, mean over images", 1e-3, 350.0),
        Protocol("diode-indoor", "DIODE indoors, mask, up to 10 m, mean over images", 1e-3, 10.0),
        Protocol("diode-outdoor", "DIODE outdoors, mask, up to 80 m, mean over images", 1e-3, 80.0),
        Protocol(
            "ibims",
            "iBims-1, valid and not transparent, up to 50 m, with the boundary errors, mean over images",
            1e-3,
            50.0,
            groups=("depth", "boundaries", "edges"),
        ),
        Protocol(
            "seven-scenes",
            "7-Scenes, all known pixels (0 and 65535 unknown), 1 mm to 10 m, mean over images",
            1e-3,
            10.0,
        ),
        Protocol("native", "all valid pixels at the data's own size, 1 mm to 1 km, mean over images", 1e-3, 1000.0),
    )
}
"""Protocols by name."""

PROTOCOL_OF_KIND = {
    "nyu-mat": "nyu-eigen",
    "nyu-folder": "nyu-eigen",
    "nyu-hdf5": "nyu-eigen",
    "diode": "diode",
    "kitti": "kitti-eigen",
    "ibims": "ibims",
    "seven-scenes": "seven-scenes",
}
"""What suits a kind of data when nobody says; every other kind is measured on all its valid pixels."""


def choose_protocol(dataset: Dataset) -> Protocol:
    """What suits the data when nobody says: `PROTOCOL_OF_KIND`, else ``native``."""
    return PROTOCOLS[PROTOCOL_OF_KIND.get(dataset.source.kind, "native")]
