"""Alterations: the same frame with one cue taken away or moved, to learn what a fixed probe relies on.

An alteration turns a frame at the input size into another of that size. What it does to the image alone (colour, light, texture)
leaves the ground truth; what moves the image moves the truth with it. Two conventions keep the comparison fair:

- cells that have no counterpart before or after carry no weight on either side (`Altered.before`, `Altered.after`);
- where the surroundings of a place are exchanged, the place itself stays where it was, and it alone is measured: a probe
  that relies on position or by what is in the cell is then not touched by the exchange.

Whatever is drawn depends on the seed and the frame's name alone, so that no batch size or order of frames changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.transforms import crop, fit
from fathom.grids import area_sum
from fathom.probing.cues import recolour
from fathom.probing.evidence.records import Group
from fathom.sample import Grid, Sample
from fathom.seeding import number

if TYPE_CHECKING:
    from fathom.data.dataset import Dataset

GROUPS: tuple[Group, ...] = ("colour", "light", "texture", "shape", "position")
"""What an alteration takes away, in the order of the chart."""

ZOOM = 1.5
"""Magnification of the central crop: enough that size speaks clearly, and 44 % of the frame stay in sight."""

Weights = Float[Tensor, "1 h w"]
Maps = Float[Tensor, "*B h w"]


@dataclass(frozen=True)
class Draw:
    """What alterations draw from: a seed, and the looks of frames of other scenes."""

    seed: int
    looks: tuple[tuple[str, recolour.Look], ...] = ()

    @staticmethod
    def of(frames: Iterable[Sample], seed: int) -> Draw:
        """Looks of `frames`, best one of each of several scenes."""
        return Draw(seed, tuple((frame.scene, recolour.look(frame.float_image())) for frame in frames))

    def number(self, sample: Sample, purpose: str) -> int:
        """A number of 62 bits that is always the same for this frame, purpose and seed."""
        return number(purpose, self.seed, sample.id) >> 2

    def generator(self, sample: Sample, purpose: str) -> torch.Generator:
        """A generator started with `number`."""
        return torch.Generator().manual_seed(self.number(sample, purpose))

    def look(self, sample: Sample) -> recolour.Look:
        """The look of a frame of another scene; of its own where there is no other."""
        start = self.number(sample, "look") % len(self.looks)
        ordered = self.looks[start:] + self.looks[:start]
        return next((look for scene, look in ordered if scene != sample.scene), ordered[0][1])


@dataclass(frozen=True)
class Altered:
    """A frame after an alteration.

    Attributes:
        sample: the frame, image float32 in [0, 1].
        before, after: weights in [0, 1] of the grid's cells in the original and in the altered frame; None is 1 everywhere.
    """

    sample: Sample
    before: Weights | None = None
    after: Weights | None = None


@dataclass(frozen=True)
class Alteration:
    """One alteration.

    Attributes:
        name: in JSON.
        group: the cue that it takes away.
        words: what is done, for chart and sentence.
        apply: the frame, what it may draw from, and the probe's grid, to the altered frame; None where there is none of this frame.
        decides: whether the sentence may rest on it; not where several cues go at once.
        move: maps on the grid moved as the image is, or None where nothing moves.
        moves_target: whether the truth is the original's moved by `move`, rather than made anew from the altered frame: for
            moves after which the frame has no camera any more.
        borrows: whether it needs the look of another scene.
        exact: whether the frame was made anew and not worked over: the same geometry, rendered otherwise.
    """

    name: str
    group: Group
    words: str
    apply: Callable[[Sample, Draw, Grid], Altered | None]
    decides: bool = True
    move: Callable[[Maps], Maps] | None = None
    moves_target: bool = False
    borrows: bool = False
    exact: bool = False


Picture = Callable[[Float[Tensor, "3 H W"]], Float[Tensor, "3 H W"]]


def _of_image(change: Picture) -> Callable[[Sample, Draw, Grid], Altered]:
    """The alteration that changes the image alone."""

    def apply(sample: Sample, draw: Draw, grid: Grid) -> Altered:
        return Altered(replace(sample, image=change(sample.float_image())))

    return apply


def _other_colours(sample: Sample, draw: Draw, grid: Grid) -> Altered:
    return Altered(replace(sample, image=recolour.with_colours_of(sample.float_image(), draw.look(sample))))


def _other_light(sample: Sample, draw: Draw, grid: Grid) -> Altered:
    return Altered(replace(sample, image=recolour.with_light_of(sample.float_image(), draw.look(sample))))


def mirror(sample: Sample, axis: Literal[-1, -2]) -> Sample:
    """Left and right (-1) or up and down (-2) exchanged: image, truth and camera. The pose is dropped: no camera has it."""
    height, width = sample.image_size
    camera, normals = sample.intrinsics, sample.normals
    if camera is not None:
        camera = camera.flipped(width) if axis == -1 else replace(camera, cy=height - camera.cy)
    if normals is not None:
        sign = torch.ones(3)
        sign[0 if axis == -1 else 1] = -1
        normals = normals.flip(axis) * sign[:, None, None]
    return replace(
        sample,
        image=sample.float_image().flip(axis),
        depth=sample.depth.flip(axis),
        valid=sample.valid.flip(axis),
        labels=None if sample.labels is None else sample.labels.flip(axis),
        normals=normals,
        intrinsics=camera,
        pose=None,
    )


def _mirror(name: str, words: str, axis: Literal[-1, -2]) -> Alteration:
    return Alteration(
        name,
        "position",
        words,
        lambda sample, draw, grid: Altered(mirror(sample, axis)),
        decides=False,  # what lies above or beside what is turned round as well
        move=lambda m: m.flip(axis),
    )


def _halves(name: str, words: str, axis: Literal[-1, -2]) -> Alteration:
    """The halves of a frame exchanged: everything stays upright, and nothing stays in its place.

    Cells within an eighth of the frame of the seam or of the border across it are not measured: their neighbours have changed.
    """

    def apply(sample: Sample, draw: Draw, grid: Grid) -> Altered:
        # By whole cells, so that the cells keep what they hold.
        cells = grid[axis] // 2
        pixels = round(cells * sample.image_size[axis] / grid[axis])
        at = torch.arange(grid[axis]) + 0.5
        seams = torch.tensor([0.0, cells, grid[axis]])
        far = ((at[:, None] - seams).abs().amin(1) > grid[axis] / 8).float()
        after = (far[:, None] if axis == -2 else far).expand(1, *grid)
        altered = replace(sample, image=sample.float_image().roll(pixels, axis), pose=None)
        return Altered(altered, before=after.roll(-cells, axis), after=after)

    return Alteration(
        name, "position", words, apply, move=lambda m: m.roll(m.shape[axis] // 2, axis), moves_target=True
    )


def _window(size: Grid, zoom: float) -> tuple[int, int, int, int]:
    """Top, left, height, width of the central window that is enlarged."""
    height, width = (max(round(side / zoom), 1) for side in size)
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def _zoom(sample: Sample, draw: Draw, grid: Grid) -> Altered:
    """The central window enlarged to the frame, as a longer lens would see it: the metres stay what they are."""
    height, width = sample.image_size
    window = _window((height, width), ZOOM)
    top, left, rows, columns = window
    inside = torch.zeros(1, height, width)
    inside[:, top : top + rows, left : left + columns] = 1
    share = area_sum(inside, grid) * (grid[0] * grid[1] / (height * width))
    enlarged = fit(crop(replace(sample, image=sample.float_image()), *window), (height, width))
    return Altered(enlarged, before=share.clamp(0, 1))


def _zoom_map(maps: Maps) -> Maps:
    """A map on the grid, its central window enlarged to the grid, bilinearly."""
    height, width = maps.shape[-2:]
    y, x = (((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5) / ZOOM * n + (n - 1) / 2 for n in (height, width))
    rows, columns = (_linear(at, n).to(maps) for at, n in ((y, height), (x, width)))
    return rows @ maps @ columns.T


def _linear(at: Float[Tensor, "n"], size: int) -> Float[Tensor, "n size"]:
    """Linear interpolation of `size` samples at the points `at`, one axis, edges repeated."""
    distance = (at.clamp(0, size - 1)[:, None] - torch.arange(size, dtype=torch.float64)).abs()
    return (1 - distance).clamp(min=0)


def _pieces(count: int) -> Alteration:
    """The frame cut like a chessboard, `count` pieces to its shorter side; those of one colour are exchanged, those of the other
    stay and are measured."""

    def apply(sample: Sample, draw: Draw, grid: Grid) -> Altered:
        height, width = sample.image_size
        # Pieces of whole cells, so that a cell lies in one piece.
        cells = max(round(min(grid) / count), 1)
        piece = (max(round(cells * height / grid[0]), 1), max(round(cells * width / grid[1]), 1))
        kept = draw.number(sample, f"kept {count}") % 2
        generator = draw.generator(sample, f"pieces {count}")
        image, stays = exchange_pieces(sample.float_image(), piece, kept, generator)
        share = area_sum(stays, grid) * (grid[0] * grid[1] / (height * width))
        whole = (share > 0.99).float()  # cells that lie in a piece that stayed, and in no other
        return Altered(replace(sample, image=image), before=whole, after=whole)

    return Alteration(f"pieces-{count}", "shape", f"surroundings in pieces of 1/{count}", apply)


def exchange_pieces(
    image: Float[Tensor, "3 H W"], piece: Grid, kept: int, generator: torch.Generator
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "1 H W"]]:
    """The image with every second piece put in the place of another, and where it stayed as it was (1, else 0).

    Args:
        image: RGB.
        piece: height and width; those at the right and lower border may be smaller, and change places among their like.
        kept: 0 keeps the pieces whose row and column add up to an even number, 1 the others.
        generator: draws one cycle through the pieces of one size, so that none remains where it was unless it is alone.
    """
    height, width = image.shape[-2:]
    boxes: dict[Grid, list[tuple[slice, slice]]] = {}
    stays = torch.ones(1, height, width)
    for i, top in enumerate(range(0, height, piece[0])):
        for j, left in enumerate(range(0, width, piece[1])):
            if (i + j) % 2 == kept:
                continue
            box = slice(top, min(top + piece[0], height)), slice(left, min(left + piece[1], width))
            boxes.setdefault((box[0].stop - top, box[1].stop - left), []).append(box)
            stays[:, box[0], box[1]] = 0
    out = image.clone()
    for like in boxes.values():
        order = torch.randperm(len(like), generator=generator).tolist()
        for source, target in zip(order, [*order[1:], *order[:1]], strict=True):
            out[:, like[target][0], like[target][1]] = image[:, like[source][0], like[source][1]]
    return out, stays


RENDERED: dict[str, tuple[Group, str, bool]] = {
    "colours": ("colour", "rendered in other colours", True),
    "light": ("light", "rendered in other light", True),
    "textures": ("texture", "rendered with other textures", True),
    # One grey everywhere: colours, their lightness and all texture go at once.
    "grey": ("colour", "rendered in one grey", False),
}
"""What each re-rendering of ``rooms`` changes, and whether that is one cue. Geometry and camera are the same to the last bit."""


def rendered(variant: str, frames: Dataset, size: Grid) -> Alteration:
    """The alteration that takes the frame of the same name from `frames`, brought to the input size."""
    by_id = {id_: position for position, id_ in enumerate(frames.ids)}

    def apply(sample: Sample, draw: Draw, grid: Grid) -> Altered | None:
        return Altered(fit(frames[by_id[sample.id]], size)) if sample.id in by_id else None

    group, words, decides = RENDERED[variant]
    return Alteration(f"rendered-{variant}", group, words, apply, decides=decides, exact=True)


ALTERATIONS: dict[str, Alteration] = {
    made.name: made
    for made in (
        Alteration("grey", "colour", "without colour", _of_image(recolour.grey)),
        Alteration("hue", "colour", "hue turned by 180°", _of_image(recolour.complement)),
        Alteration("recoloured", "colour", "colours of another scene", _other_colours, borrows=True),
        Alteration("brighter", "light", "one stop brighter", _of_image(recolour.brighter)),
        Alteration("darker", "light", "one stop darker", _of_image(recolour.darker)),
        Alteration("relit", "light", "light of another scene", _other_light, borrows=True),
        Alteration("smoothed", "texture", "texture smoothed away", _of_image(recolour.smoothed)),
        Alteration("blurred", "texture", "blurred", _of_image(recolour.blurred)),
        # What is left is outlines: colour, shading and texture go at once.
        Alteration("outlines", "texture", "outlines only", _of_image(recolour.outlines), decides=False),
        _pieces(3),
        _pieces(6),
        _pieces(12),
        _mirror("mirrored", "left and right exchanged", -1),
        _mirror("upside-down", "upside down", -2),
        _halves("halves-sideways", "left and right half exchanged", -1),
        _halves("halves-upright", "upper and lower half exchanged", -2),
        # Place, size and sharpness change at once; what a probe makes of it is read from `shift` and `in_place`.
        Alteration("zoomed", "position", f"middle enlarged {ZOOM:g} times", _zoom, decides=False, move=_zoom_map),
    )
}
"""The shipped alterations by name."""
