"""Rendering a `Room` with Mitsuba 3: colour by path tracing, geometry exactly at pixel centres.

Colour is averaged over random points of each pixel; depth, normals, object ids and labels belong to the ray through the pixel's
centre, so that no depth is a mixture of near and far. Mitsuba gives the distance along the ray; z-depth is that distance
times the cosine between the ray and the optical axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.errors import MissingExtraError
from fathom.render.layout import CLASSES, Camera, Room, Solid
from fathom.render.materials import Palette
from fathom.sample import Grid, Intrinsics
from fathom.signals import signals_later

UNLABELLED = 255


@dataclass(frozen=True)
class View:
    """One rendered frame.

    Attributes:
        rgb: ``(H, W, 3)`` uint8, sRGB. depth: z-depth in metres, 0 where the ray hits nothing, ``(H, W)`` float32.
        normals: camera coordinates (x right, y down, z forward), ``(H, W, 3)``. objects: ids, 0 is the room, ``(H, W)``.
        labels: places in `CLASSES`, `UNLABELLED` where the ray hits nothing, ``(H, W)``.
        intrinsics: pixels. pose: camera to world, ``(4, 4)``.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    normals: NDArray[np.float32]
    objects: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    intrinsics: Intrinsics
    pose: NDArray[np.float32]


def load_mitsuba() -> Any:
    """The ``mitsuba`` module in its scalar variant, or `MissingExtraError`."""
    with signals_later():  # its compiled part aborts the process where a signal interrupts the import
        try:
            import mitsuba
        except ImportError:
            raise MissingExtraError("Rendering rooms", "render") from None
        if mitsuba.variant() != "scalar_rgb":
            mitsuba.set_variant("scalar_rgb")
    return mitsuba


def intrinsics_of(camera: Camera, size: Grid) -> Intrinsics:
    """Pinhole of a camera with square pixels: f = W / (2 tan(fov/2)), the principal point in the middle."""
    focal = size[1] / (2 * math.tan(math.radians(camera.field_of_view) / 2))
    return Intrinsics(focal, focal, size[1] / 2, size[0] / 2)


def pose_of(camera: Camera) -> NDArray[np.float64]:
    """Camera to world for x right, y down, z forward, in a world with z up."""
    origin = np.array(camera.origin)
    forward = np.array(camera.target) - origin
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, origin
    return pose


def _transform(mi: Any, solid: Solid, half: bool) -> Any:
    T = mi.ScalarTransform4f
    scale = [s / 2 for s in solid.size] if half else list(solid.size)
    turn = T().translate(list(solid.centre)) @ T().rotate([0, 0, 1], math.degrees(solid.yaw))
    return turn @ T().scale(scale)


def _shape(mi: Any, solid: Solid, palette: Palette) -> dict[str, Any]:
    if solid.kind == "glow":
        shape = _glow(mi, solid, palette)
    elif solid.kind == "box":
        shape = {"type": "cube", "to_world": _transform(mi, solid, half=True)}
    elif solid.kind == "sphere":
        shape = {"type": "sphere", "to_world": _transform(mi, solid, half=True)}
    else:
        # The cylinder plugin is an open tube of radius 1 from z = 0 to 1.
        T = mi.ScalarTransform4f
        base = [solid.centre[0], solid.centre[1], solid.centre[2] - solid.size[2] / 2]
        to_world = T().translate(base) @ T().scale([solid.size[0] / 2, solid.size[1] / 2, solid.size[2]])
        shape = {"type": "cylinder", "to_world": to_world}
    if solid.kind != "glow":
        shape["bsdf"] = _surface(mi, solid, palette)
    return shape


def _surface(mi: Any, solid: Solid, palette: Palette) -> dict[str, Any]:
    texture = palette.texture(solid.material, solid.key)
    # One repeat of the pattern a metre or so, whatever the size of the surface.
    repeat = max(1.0, max(solid.size) / 1.2) if solid.kind == "box" else 1.0
    reflectance = {
        "type": "bitmap",
        "bitmap": mi.Bitmap(texture),
        "raw": True,
        "to_uv": mi.ScalarTransform4f().scale([repeat, repeat, 1]),
    }
    if solid.material == "metal":
        return {"type": "roughconductor", "alpha": 0.3}
    return {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": reflectance}}


def _glow(mi: Any, solid: Solid, palette: Palette) -> dict[str, Any]:
    light = np.random.default_rng([palette.light_seed, 1])
    warm = np.array([1.0, light.uniform(0.7, 0.9), light.uniform(0.4, 0.75)]) * light.uniform(8, 26)
    day = np.array([light.uniform(0.7, 1.0), 0.9, light.uniform(0.85, 1.1)]) * light.uniform(1.5, 7)
    if light.uniform() < 0.15:
        day = day * 0.05  # evening: lamps alone
    radiance = [float(v) for v in (day if solid.material == "daylight" else warm)]
    emitter = {"type": "area", "radiance": {"type": "rgb", "value": radiance}}
    kind = "sphere" if solid.material == "warm" else "cube"
    return {"type": kind, "to_world": _transform(mi, solid, half=True), "emitter": emitter}


def _is_mesh(solid: Solid) -> bool:
    """Whether Mitsuba keeps the solid as triangles."""
    return solid.kind == "box" or (solid.kind == "glow" and solid.material == "daylight")


def build_scene(mi: Any, room: Room, palette: Palette) -> Any:
    """The room as a Mitsuba scene, without a sensor; the same room and palette give the same light paths."""
    scene: dict[str, Any] = {"type": "scene", "integrator": {"type": "path", "max_depth": 6}}
    # Light paths depend on the order of lights: round shapes first, as the embedded rooms were rendered.
    for index, solid in sorted(enumerate(room.solids), key=lambda item: _is_mesh(item[1])):
        scene[f"shape_{index}"] = {**_shape(mi, solid, palette), "id": f"solid_{index}_{solid.object}_{solid.label}"}
    try:
        # Merging meshes would order the lights among them by memory address: other noise in each process.
        return mi.load_dict(scene, optimize=False)
    except TypeError:
        return mi.load_dict(scene)  # Mitsuba before 3.7 neither merges nor knows the option


def render_view(mi: Any, scene: Any, camera: Camera, size: Grid, spp: int, seed: int) -> View:
    """One frame of a scene that `build_scene` made."""
    height, width = size
    sensor = mi.load_dict(
        {
            "type": "perspective",
            "fov": camera.field_of_view,
            "fov_axis": "x",
            "to_world": mi.ScalarTransform4f().look_at(
                origin=list(camera.origin), target=list(camera.target), up=[0, 0, 1]
            ),
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "rfilter": {"type": "box"},
                "pixel_format": "rgb",
            },
            "sampler": {"type": "independent", "sample_count": spp},
        }
    )
    light = np.array(mi.render(scene, sensor=sensor, spp=spp, seed=seed))
    depth, normals, objects, labels = geometry(mi, scene, camera, size)
    rgb = tone_map(denoise(without_fireflies(light), depth, normals))
    return View(rgb, depth, normals, objects, labels, intrinsics_of(camera, size), pose_of(camera).astype(np.float32))


def geometry(
    mi: Any, scene: Any, camera: Camera, size: Grid
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
    """z-depth, camera-space normals, object ids and labels on the rays through pixel centres."""
    height, width = size
    pose, k = pose_of(camera), intrinsics_of(camera, size)
    v, u = np.mgrid[0:height, 0:width]
    rays = np.stack([(u + 0.5 - k.cx) / k.fx, (v + 0.5 - k.cy) / k.fy, np.ones(size)], -1)
    length = np.linalg.norm(rays, axis=-1)
    world = (rays / length[..., None]) @ pose[:3, :3].T
    depth = np.zeros(size, np.float32)
    normals = np.zeros((*size, 3), np.float32)
    objects, labels = np.zeros(size, np.uint8), np.full(size, UNLABELLED, np.uint8)
    origin = mi.ScalarPoint3f(*camera.origin)
    for row in range(height):
        for column in range(width):
            hit = scene.ray_intersect(mi.Ray3f(origin, mi.ScalarVector3f(*world[row, column])))
            if not hit.is_valid():
                continue
            # Distance along the ray to distance along the axis: the unit ray's z component is 1 / length.
            depth[row, column] = hit.t / length[row, column]
            normal = np.array(hit.n) @ pose[:3, :3]
            normals[row, column] = normal if normal @ rays[row, column] < 0 else -normal
            _, _, thing, label = hit.shape.id().split("_")
            objects[row, column], labels[row, column] = int(thing) % 256, CLASSES.index(label)
    return depth, normals, objects, labels


def without_fireflies(light: NDArray[np.floating]) -> NDArray[np.floating]:
    """A pixel much brighter than the brightest but one of its neighbours is a rare path: scaled down to that neighbour."""
    luminance = light.mean(-1)
    around = np.stack([np.roll(luminance, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx])
    second = np.sort(around, axis=0)[-2]
    share = np.minimum(1.0, np.maximum(second, 1e-4) / np.maximum(luminance, 1e-6))
    return np.asarray(light * share[..., None])


def denoise(
    light: NDArray[np.floating], depth: NDArray[np.float32], normals: NDArray[np.float32]
) -> NDArray[np.floating]:
    """A 5x5 cross-bilateral filter of the logarithm of light, guided by light, depth and normals (Petschnigg et al. 2004)."""
    log = np.log1p(np.maximum(light, 0) * 4)
    total, weight = np.zeros_like(log), np.zeros(log.shape[:2])
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            moved, near, facing = (np.roll(a, (dy, dx), (0, 1)) for a in (log, depth, normals))
            w = np.exp(-(dx * dx + dy * dy) / 4.0)
            w = w * np.exp(-((moved - log) ** 2).sum(-1) / (2 * 0.22**2))
            w = w * np.exp(-(((near - depth) / (0.04 * depth + 0.02)) ** 2))
            w = w * np.exp(-(1 - (facing * normals).sum(-1)) / 0.05)
            total += w[..., None] * moved
            weight += w
    return np.asarray(np.expm1(total / weight[..., None]) / 4)


def tone_map(light: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Exposure by the image's own median, a soft shoulder, the sRGB curve."""
    luminance = light @ np.array([0.2126, 0.7152, 0.0722])
    exposed = light * (0.25 / max(float(np.median(luminance)), 1e-4))
    soft = exposed * (1 + exposed / 9.0) / (1 + exposed)
    soft = np.clip(soft, 0, 1)
    srgb = np.where(soft <= 0.0031308, 12.92 * soft, 1.055 * soft ** (1 / 2.4) - 0.055)
    return np.asarray((np.clip(srgb, 0, 1) * 255).round().astype(np.uint8))
