"""Depth along the optical axis or distance along the ray? Walls and floors tell: under the right reading they are planes.

Seen by a pinhole camera, a plane has ``1/z = a u + b v + c`` in the image coordinates u = (x - cx)/fx, v = (y - cy)/fy. Of a
distance r along the ray, ``s / r`` with s = sqrt(1 + u² + v²) is that instead. So ``s^α / d`` of stored depth d is planar for
α = 0 or for α = 1, and α can be fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.transforms import fit
from fathom.sample import Sample

LONGER_SIDE = 120
"""Pixels of the longer side to which frames are brought."""

WINDOW = 0.35
"""Side of a window, as a share of the shorter side: small enough to lie on one wall, large enough for rays to differ."""

PLANAR = 0.01
"""Root mean square residual, as a share of 1/d, up to which a window shows a plane. Corners of rooms, which are not planar,
pull α below 0."""

LEAST_WINDOWS, LEAST_FRAMES = 12, 4
"""That a finding needs."""

WIDEST_FOCAL = 1.6
"""Focal length, in longer sides, beyond which a camera sees too narrow a field for rays to differ from the axis."""


def ray_exponents(sample: Sample) -> Float[Tensor, "n 2"]:
    """α and its weight for each window that shows a plane under some α; no row without a camera or anything flat.

    With y = 1/d, g = y ln s and P the projection away from planes, ``s^α y ≈ y + α g``, so that the least squares of
    ``P (y + α g)`` are at ``α = -(Py · Pg) / (Pg · Pg)``; the weight is ``Pg · Pg`` relative to y².
    """
    nothing = torch.zeros(0, 2)
    height, width = sample.image_size
    if sample.intrinsics is None or sample.intrinsics.fx > WIDEST_FOCAL * max(height, width):
        return nothing
    scale = LONGER_SIDE / max(height, width)
    small = fit(sample, (max(8, round(height * scale)), max(8, round(width * scale))))
    camera, valid = small.intrinsics, small.valid[0]
    assert camera is not None
    rows, columns = valid.shape
    u = ((torch.arange(columns, dtype=torch.float64) + 0.5 - camera.cx) / camera.fx).expand(rows, columns)
    v = ((torch.arange(rows, dtype=torch.float64) + 0.5 - camera.cy) / camera.fy)[:, None].expand(rows, columns)
    inverse = torch.where(valid, small.depth[0].double(), 1.0).clamp(min=1e-3).reciprocal()
    bent = inverse * (1 + u**2 + v**2).sqrt().log()
    side = int(min(rows, columns) * WINDOW)
    found = []
    for top in range(0, rows - side + 1, max(1, side // 2)):
        for left in range(0, columns - side + 1, max(1, side // 2)):
            window = (slice(top, top + side), slice(left, left + side))
            inside = valid[window]
            if float(inside.double().mean()) < 0.8:
                continue
            both = torch.stack([inverse[window][inside], bent[window][inside]], 1)
            design = torch.stack([u[window][inside], v[window][inside], torch.ones(len(both), dtype=torch.float64)], 1)
            away = both - design @ torch.linalg.lstsq(design, both).solution
            power = float(away[:, 1].square().sum())
            mean = float(both[:, 0].mean())
            if power < 1e-12 * mean**2:
                continue
            exponent = -float(away[:, 0] @ away[:, 1]) / power
            residual = float((away[:, 0] + exponent * away[:, 1]).square().mean().sqrt()) / mean
            if residual < PLANAR:
                found.append((exponent, power / mean**2))
    return torch.tensor(found, dtype=torch.float32).reshape(-1, 2)


def describe_rays(exponents: Sequence[Float[Tensor, "_ 2"]]) -> str | None:
    """A sentence on depth that is distance along the ray, None where nothing speaks for it; the standard error is over frames."""
    frames = [rows for rows in exponents if len(rows)]
    windows = sum(map(len, frames))
    if len(frames) < LEAST_FRAMES or windows < LEAST_WINDOWS:
        return None
    weights = torch.stack([rows[:, 1].sum() for rows in frames])
    means = torch.stack([(rows[:, 0] * rows[:, 1]).sum() for rows in frames]) / weights
    mean = float((weights * means).sum() / weights.sum())
    error = float((weights * (means - mean)).square().sum().sqrt() / weights.sum())
    if mean < 0.6 or mean - 2 * error < 0.5:
        return None
    return (
        "depth looks like distance along the ray rather than along the optical axis: walls and floors become planes when it is "
        f"read so (exponent {mean:.2f} ± {error:.2f}, 0 is axis and 1 is ray; {windows} windows of {len(frames)} frames)"
    )
