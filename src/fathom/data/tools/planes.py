"""Depth along the optical axis or distance along the ray? Walls and floors tell: under the right reading they are planes.

Seen by a pinhole camera, a plane has ``1/z = a u + b v + c`` in the image coordinates u = (x - cx)/fx, v = (y - cy)/fy. Of a
distance r along the ray, ``sqrt(1 + u² + v²) / r`` is that instead. Both are fitted in large windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.data.transforms import fit
from fathom.sample import Sample

LONGER_SIDE = 120
PLANAR = 0.01
"""Root mean square residual, as a share of 1/z, up to which a window shows a plane."""

LEAST_WINDOWS = 12
WIDEST_FOCAL = 1.6
"""Focal length, in longer sides, beyond which a camera sees too narrow a field for rays to differ from the axis."""


def plane_residuals(sample: Sample) -> Float[Tensor, "n 2"]:
    """Relative residuals of windows that show a plane under either reading: as depth along the axis, as distance along the ray.

    Without a camera, and where nothing is planar, there is no row.
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
    ray = (1 + u**2 + v**2).sqrt() * inverse
    side = min(rows, columns) // 2
    found = []
    for top in range(0, rows - side + 1, max(1, side // 2)):
        for left in range(0, columns - side + 1, max(1, side // 2)):
            window = (slice(top, top + side), slice(left, left + side))
            inside = valid[window]
            if float(inside.double().mean()) < 0.9:
                continue
            found.append([_residual(values[window], u[window], v[window], inside) for values in (inverse, ray)])
    residuals = torch.tensor(found).reshape(-1, 2)
    return residuals[residuals.amin(1) < PLANAR]


def _residual(
    values: Float[Tensor, "h w"], u: Float[Tensor, "h w"], v: Float[Tensor, "h w"], inside: Bool[Tensor, "h w"]
) -> float:
    """Root mean square of ``values - (a u + b v + c)`` at the least-squares a, b, c, as a share of the mean."""
    wanted = values[inside]
    design = torch.stack([u[inside], v[inside], torch.ones_like(wanted)], 1)
    fitted = design @ torch.linalg.lstsq(design, wanted[:, None]).solution
    return float((wanted - fitted[:, 0]).square().mean().sqrt() / wanted.mean())


def describe_rays(residuals: Sequence[Float[Tensor, "n 2"]]) -> str | None:
    """A sentence on depth that is distance along the ray, None where nothing speaks for it."""
    rows = torch.cat([torch.zeros(0, 2), *residuals])
    if len(rows) < LEAST_WINDOWS:
        return None
    better = rows[:, 1] < 0.7 * rows[:, 0]
    worse = rows[:, 0] < 0.7 * rows[:, 1]
    if float(better.float().mean()) < 0.5 or float(worse.float().mean()) > 0.1:
        return None
    along, axis = (float(rows[:, column].median()) for column in (1, 0))
    return (
        f"depth looks like distance along the ray rather than along the optical axis: walls and floors become planes when it is "
        f"read so (residual {100 * along:.2f} % instead of {100 * axis:.2f} %, {len(rows)} windows)"
    )
