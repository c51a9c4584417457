"""Procedural textures and colours of a room's materials, from a seed: small RGB bitmaps, linear colours.

`Palette` decides colours and patterns separately, so that a room can be given other colours, or other textures, and stay
the same room.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Texture = NDArray[np.float32]
SIDE = 128

PATTERNS = {
    "floor": ("planks", "tiles", "carpet", "planks"),
    "rug": ("stripes", "checks", "rings", "carpet"),
    "wall": ("plaster", "plaster", "wallpaper", "stripes", "brick", "panel"),
    "feature-wall": ("brick", "wallpaper", "panel", "plaster", "stripes"),
    "ceiling": ("plaster",),
    "trim": ("plain",),
    "wood": ("grain", "grain", "plain"),
    "fabric": ("carpet", "stripes", "checks", "plain"),
    "plain": ("plain",),
    "accent": ("plain", "stripes", "rings"),
    "book": ("plain",),
    "leaf": ("carpet",),
    "metal": ("plain",),
    "card": ("grain", "plain"),
    "picture": ("painting",),
}
"""Patterns that a material may have, drawn with equal chance."""

COLOURS = {
    "floor": ((0.04, 0.12), (0.25, 0.6), (0.25, 0.6)),
    "rug": ((0.0, 1.0), (0.2, 0.7), (0.25, 0.7)),
    "wall": ((0.0, 1.0), (0.02, 0.3), (0.6, 0.92)),
    "feature-wall": ((0.0, 1.0), (0.1, 0.6), (0.35, 0.85)),
    "ceiling": ((0.05, 0.15), (0.0, 0.08), (0.85, 0.95)),
    "trim": ((0.05, 0.15), (0.0, 0.3), (0.4, 0.95)),
    "wood": ((0.04, 0.11), (0.2, 0.7), (0.2, 0.75)),
    "fabric": ((0.0, 1.0), (0.15, 0.7), (0.2, 0.8)),
    "plain": ((0.0, 1.0), (0.0, 0.1), (0.75, 0.95)),
    "accent": ((0.0, 1.0), (0.4, 0.9), (0.3, 0.9)),
    "book": ((0.0, 1.0), (0.2, 0.8), (0.2, 0.85)),
    "leaf": ((0.22, 0.4), (0.4, 0.8), (0.2, 0.5)),
    "metal": ((0.0, 1.0), (0.0, 0.1), (0.4, 0.8)),
    "card": ((0.06, 0.11), (0.3, 0.55), (0.45, 0.7)),
    "picture": ((0.0, 1.0), (0.3, 0.8), (0.4, 0.9)),
}
"""Ranges of hue, saturation and value."""


@dataclass(frozen=True)
class Palette:
    """How a room looks.

    Attributes:
        colour_seed, texture_seed, light_seed: each decides its part; a variant changes one of them.
        textured: False gives every surface one grey.
    """

    colour_seed: int
    texture_seed: int
    light_seed: int
    textured: bool = True

    def texture(self, material: str, key: int) -> Texture:
        """``(SIDE, SIDE, 3)`` linear RGB in [0, 1] of a material; `key` tells objects apart that need not look alike."""
        # Walls, floor and wood look alike all over a room; accents, books and pictures differ from object to object.
        key = key if material in ("accent", "book", "picture", "fabric", "rug", "card") else 0
        code = sum(map(ord, material))
        colours = np.random.default_rng([self.colour_seed, code, key])
        pattern = np.random.default_rng([self.texture_seed, code, key])
        if not self.textured:
            return np.full((SIDE, SIDE, 3), 0.5, dtype=np.float32)
        base, other = _colour(colours, material), _colour(colours, material)
        names = PATTERNS[material]
        return _draw(str(names[int(pattern.integers(len(names)))]), pattern, base, other)


def _colour(g: Generator, material: str) -> NDArray[np.float32]:
    hue, saturation, value = (g.uniform(*bounds) for bounds in COLOURS[material])
    srgb = np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)
    return srgb**2.2


def _noise(g: Generator, cells: int) -> Texture:
    """Smooth noise in [0, 1], ``(SIDE, SIDE, 1)``: bilinear between random values of a grid."""
    grid = g.uniform(size=(cells + 1, cells + 1))
    at = np.linspace(0, cells, SIDE, endpoint=False)
    low = at.astype(int)
    share = at - low
    rows = grid[low] * (1 - share[:, None]) + grid[low + 1] * share[:, None]
    both = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    return np.asarray(both[..., None].astype(np.float32))


def _draw(pattern: str, g: Generator, base: NDArray[np.float32], other: NDArray[np.float32]) -> Texture:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
    grain = 0.85 + 0.3 * _noise(g, 24)
    flat = np.broadcast_to(base, (SIDE, SIDE, 3))
    if pattern == "plain":
        texture = flat * (0.95 + 0.1 * _noise(g, 8))
    elif pattern == "plaster":
        texture = flat * (0.9 + 0.2 * _noise(g, 40) * _noise(g, 6))
    elif pattern == "carpet":
        texture = flat * (0.7 + 0.6 * g.uniform(size=(SIDE, SIDE, 1)))
    elif pattern == "grain":
        waves = np.sin(2 * np.pi * (x * g.integers(3, 9) + 0.6 * _noise(g, 5)[..., 0]))[..., None]
        texture = flat * (0.85 + 0.2 * waves) * grain
    elif pattern in ("planks", "panel"):
        rows = int(g.integers(5, 9))
        index = (x * rows).astype(int)
        tone = g.uniform(0.7, 1.2, size=rows)[index][..., None]
        seam = ((x * rows) % 1 < 0.05)[..., None]
        texture = np.where(seam, 0.35, 1.0) * flat * tone * grain
    elif pattern in ("tiles", "checks"):
        count = int(g.integers(3, 7))
        odd = (((x * count).astype(int) + (y * count).astype(int)) % 2)[..., None]
        seam = (((x * count) % 1 < 0.06) | ((y * count) % 1 < 0.06))[..., None]
        texture = (
            np.where(odd == 1, flat, other if pattern == "checks" else flat * 0.85) * np.where(seam, 0.6, 1.0) * grain
        )
    elif pattern == "brick":
        rows = int(g.integers(7, 11))
        row = (y * rows).astype(int)
        shifted = x * rows / 2 + 0.5 * (row % 2)
        seam = ((y * rows) % 1 < 0.12) | (shifted % 1 < 0.06)
        tone = g.uniform(0.65, 1.2, size=(rows, rows + 2))[row, shifted.astype(int) % (rows + 2)][..., None]
        texture = np.where(seam[..., None], 0.55, flat * tone) * grain
    elif pattern == "stripes":
        count = int(g.integers(4, 12))
        texture = np.where(((x * count) % 1 < 0.5)[..., None], flat, 0.6 * flat + 0.4 * other) * (
            0.95 + 0.1 * _noise(g, 20)
        )
    elif pattern == "wallpaper":
        count = int(g.integers(3, 6))
        u, v = (x * count) % 1 - 0.5, (y * count) % 1 - 0.5
        motif = (np.hypot(u, v) < g.uniform(0.15, 0.35)) ^ (np.abs(u) + np.abs(v) < 0.2)
        texture = np.where(motif[..., None], 0.7 * flat + 0.3 * other, flat) * (0.97 + 0.06 * _noise(g, 30))
    elif pattern == "rings":
        texture = np.where(((np.hypot(x - 0.5, y - 0.5) * 9) % 1 < 0.5)[..., None], flat, other)
    else:  # painting: sky, land and a few blobs
        land = (y > 0.5 + 0.2 * _noise(g, 4)[..., 0])[..., None]
        texture = np.where(land, base * _noise(g, 9) * 1.4, other * (0.6 + 0.5 * _noise(g, 3)))
        for _ in range(5):
            cx, cy, r = g.uniform(0, 1), g.uniform(0.2, 0.9), g.uniform(0.04, 0.16)
            texture = np.where((np.hypot(x - cx, y - cy) < r)[..., None], g.uniform(0, 1, 3), texture)
    return np.clip(texture, 0.01, 0.95).astype(np.float32)
