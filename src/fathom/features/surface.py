"""Features of the surface in space: they need the camera's intrinsics, or normals that the data bring along.

Camera coordinates: x right, y down, z forward. Normals point towards the camera; a wall that faces it has (0, 0, −1).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.errors import UsageError
from fathom.features.feature import Target
from fathom.features.local_fit import fit_disparity, window_reach
from fathom.grids import masked_average
from fathom.sample import Grid, Intrinsics, Sample

NORMAL_WINDOW = 32
"""The window of a normal has about a 32nd of the shorter side of the map: a grid cell of the probe, by default."""

CURVATURE_WINDOW = 16
"""The window of a curvature is twice as wide: second derivatives are that much noisier."""


def normals(sample: Sample, grid: Grid) -> Target:
    """Unit surface normals in camera coordinates: ``(3, h, w)``, no unit.

    Those of the data where they come with some, else those of a local fit to the depth map (`normals_from_depth`); averaged
    over the cell and made unit again.
    """
    values, valid = masked_average(*_full_normals(sample), grid)
    length = values.norm(dim=0, keepdim=True)
    valid = valid & (length > 1e-3)
    return torch.where(valid, values / length.clamp(min=1e-3), 0.0), valid


def plane_offset(sample: Sample, grid: Grid) -> Target:
    """Signed distance of the camera from the surface's tangent plane, −n·X: ``(1, h, w)``, metres.

    X is the point seen by a pixel and n its normal, averaged over the cell. Constant over a wall or floor, however oblique:
    with the normal it is the plane that the pixel lies on (Hessian normal form n·X + offset = 0). Positive on the side that
    the normal points to, which is the camera's for normals that belong to the depth map.
    """
    camera = _camera(sample, "The plane offset")
    unit, known = _full_normals(sample)
    u, v = _rays(sample.depth_size, camera)
    points = torch.stack([u, v, torch.ones_like(u)]) * sample.depth
    return masked_average(-(unit * points).sum(0, keepdim=True), known & sample.valid, grid)


def curvature(sample: Sample, grid: Grid) -> Target:
    """Mean curvature H = (κ₁ + κ₂)/2 of the surface, averaged over the cell: ``(1, h, w)``, 1/m.

    Positive where the surface bulges towards the camera (a ball of radius r has 1/r, a round pillar 1/(2r)), negative in
    hollows, 0 on planes of any tilt. From the first and second fundamental forms (do Carmo 1976, sec. 3-3) of the quadratic
    fitted to inverse depth over a window of about a 16th of the map's shorter side; a window that holds an invalid pixel or
    two surfaces (`fathom.features.local_fit`) does not count. An edge between two walls reads as its angle over the window's
    width, so that the value depends on the scale of the window there.
    """
    camera = _camera(sample, "The curvature")
    size = sample.depth_size
    fit = fit_disparity(sample.depth, sample.valid, window_reach(size, CURVATURE_WINDOW))
    u, v = (ray.double() for ray in _rays(size, camera))
    rho = torch.where(fit.known, fit.value, 1.0)
    pu, pv = camera.fx * fit.x, camera.fy * fit.y
    # X = q/ρ with q = (u, v, 1): X_uu = −2(ρ_u/ρ) X_u − (ρ_uu/ρ²) q and so on, so the second form is the Hessian of ρ,
    # scaled; the normal is along a = (ρ_u, ρ_v, ρ − uρ_u − vρ_v), with q·a = ρ.
    a = (pu.square() + pv.square() + (rho - u * pu - v * pv).square()).sqrt()
    second = [
        part / (rho * a) for part in (camera.fx**2 * fit.xx, camera.fx * camera.fy * fit.xy, camera.fy**2 * fit.yy)
    ]
    r, t, q = pu / rho, pv / rho, u * u + v * v + 1
    first = [
        part / rho**2 for part in (1 - 2 * u * r + q * r * r, q * r * t - u * t - v * r, 1 - 2 * v * t + q * t * t)
    ]
    area = a.square() / rho**6
    bend = -(first[0] * second[2] - 2 * first[1] * second[1] + first[2] * second[0]) / (2 * area)
    return masked_average(bend.float()[None], fit.known[None], grid)


def normals_from_depth(
    depth: Float[Tensor, "1 h w"], valid: Bool[Tensor, "1 h w"], fx: float, fy: float, cx: float, cy: float
) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "1 h w"]]:
    """Unit normals, towards the camera, of planes fitted to inverse depth over a window around each pixel.

    The window has about a 32nd of the map's shorter side: differences of neighbouring pixels would show little but the
    steps of stored depth. Known where the window is valid and holds one surface.

    Args:
        depth, valid: metres. fx, fy, cx, cy: of this map, in its pixels.
    """
    fit = fit_disparity(depth, valid, window_reach((depth.shape[-2], depth.shape[-1]), NORMAL_WINDOW))
    u, v = _rays((depth.shape[-2], depth.shape[-1]), Intrinsics(fx, fy, cx, cy))
    pu, pv = fx * fit.x, fy * fit.y
    along = torch.stack([pu, pv, fit.value - u * pu - v * pv])
    length = along.norm(dim=0, keepdim=True)
    known = fit.known[None] & (length > 1e-9)
    return torch.where(known, -along / length.clamp(min=1e-9), 0.0).float(), known


def _full_normals(sample: Sample) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "1 h w"]]:
    """Normals at the resolution of the depth map."""
    if sample.normals is not None:
        return sample.normals, sample.normals.square().sum(0, keepdim=True) > 0.25
    camera = _camera(sample, "Normals", " or stored normals")
    return normals_from_depth(sample.depth, sample.valid, camera.fx, camera.fy, camera.cx, camera.cy)


def _camera(sample: Sample, what: str, otherwise: str = "") -> Intrinsics:
    """The camera of the depth map."""
    if sample.intrinsics is None:
        raise UsageError(
            f"{what} of frame {sample.id} cannot be had without camera intrinsics{otherwise}, and its source gives none; "
            "folder data take the option intrinsics=fx,fy,cx,cy."
        )
    return sample.intrinsics.scaled(
        sample.depth_size[0] / sample.image_size[0], sample.depth_size[1] / sample.image_size[1]
    )


def _rays(size: Grid, camera: Intrinsics) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """u and v of each pixel: its centre in image coordinates at depth 1."""
    v = ((torch.arange(size[0]) + 0.5 - camera.cy) / camera.fy)[:, None].expand(size)
    u = ((torch.arange(size[1]) + 0.5 - camera.cx) / camera.fx)[None].expand(size)
    return u, v
