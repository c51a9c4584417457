"""Every metric that `fathom evaluate` knows: a definition with its source in the docs, and an independent implementation here.

A metric that is registered without either fails here by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import feature

from fathom.data.camera import Intrinsics
from fathom.metrics.annotated_edges import canny, stretched
from fathom.metrics.groups import ALL, GROUPS, Compared, measured
from fathom.metrics.ordinal import drawn_pairs
from tests.metrics.test_boundaries import loops, scene
from tests.metrics.test_depth import reference

CAMERA = Intrinsics(40.0, 42.0, 14.5, 11.0)
Frame = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], dict[str, float]]
PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def edge_error(p: np.ndarray, g: np.ndarray, valid: np.ndarray, _: np.ndarray) -> dict[str, float]:
    kernel = np.outer([1, 2, 1], [-1, 0, 1]) / 8
    gaps = []
    for y in range(1, g.shape[0] - 1):
        for x in range(1, g.shape[1] - 1):
            window = np.s_[y - 1 : y + 2, x - 1 : x + 2]
            if valid[window].all():
                gaps += [abs(((p - g)[window] * k).sum()) for k in (kernel, kernel.T)]
    return {"edge_error": float(np.mean(gaps))}


def boundary_errors(p: np.ndarray, _: np.ndarray, __: np.ndarray, annotated: np.ndarray) -> dict[str, float]:
    e, a = np.argwhere(feature.canny(stretched(p), np.sqrt(2), 0.15, 0.3)), np.argwhere(annotated)
    distances = np.linalg.norm(e[:, None] - a[None], axis=2)
    to_annotated, to_predicted = distances.min(1), distances.min(0)
    both = np.minimum(to_annotated, 10).sum() + np.minimum(to_predicted, 10).sum()
    return {
        "dbe_accuracy": to_annotated[to_annotated < 10].mean(),
        "dbe_completeness": both / (len(e) + len(a)),
    }


def f_scores(p: np.ndarray, g: np.ndarray, valid: np.ndarray, _: np.ndarray) -> dict[str, float]:
    clouds = []
    for depth in (p, g):
        places = [(row, column) for row, column in np.ndindex(depth.shape) if valid[row, column]]
        rays = [[(c + 0.5 - CAMERA.cx) / CAMERA.fx, (r + 0.5 - CAMERA.cy) / CAMERA.fy, 1.0] for r, c in places]
        clouds.append(np.array(rays) * np.array([depth[place] for place in places])[:, None])
    distances = np.linalg.norm(clouds[0][:, None] - clouds[1][None], axis=2)
    found = {}
    for name, tau in (("points_f5cm", 0.05), ("points_f10cm", 0.10)):
        precision, recall = (distances.min(1) < tau).mean(), (distances.min(0) < tau).mean()
        found[name] = 2 * precision * recall / (precision + recall)
    return found


def tangent(depth: np.ndarray, valid: np.ndarray, row: int, column: int) -> tuple[np.ndarray | None, float]:
    """The normal, towards the camera, of the quadratic in the image fitted to inverse depth over 5x5 pixels, and its residual."""
    window = np.s_[row - 2 : row + 3, column - 2 : column + 3]
    if min(row, column) < 2 or row > depth.shape[0] - 3 or column > depth.shape[1] - 3 or not valid[window].all():
        return None, np.inf
    y, x = np.mgrid[-2:3, -2:3].reshape(2, -1)
    rho = 1 / depth[window].ravel()
    solved, *_ = np.linalg.lstsq(np.stack([np.ones(25), x, y, x**2, x * y, y**2], 1), rho, rcond=None)
    residual = np.sqrt(np.mean((np.stack([np.ones(25), x, y, x**2, x * y, y**2], 1) @ solved - rho) ** 2))
    # The tangent ρ = a·u + b·v + c at the centre, by its three values at u, v.
    u, v = (column + 0.5 - CAMERA.cx) / CAMERA.fx, (row + 0.5 - CAMERA.cy) / CAMERA.fy
    a, b = solved[1] * CAMERA.fx, solved[2] * CAMERA.fy
    normal = -np.array([a, b, solved[0] - a * u - b * v])
    return normal / np.linalg.norm(normal), residual / rho.mean()


def normals(p: np.ndarray, g: np.ndarray, valid: np.ndarray, _: np.ndarray) -> dict[str, float]:
    degrees = []
    for row, column in np.ndindex(g.shape):
        true, residual = tangent(g, valid, row, column)
        guess, _ = tangent(p, np.ones_like(valid), row, column)
        if true is not None and guess is not None and residual < 0.01:
            degrees.append(np.degrees(np.arccos(np.clip(true @ guess, -1, 1))))
    shares = {
        name: np.mean(np.array(degrees) < t)
        for name, t in (("normal_11", 11.25), ("normal_22", 22.5), ("normal_30", 30))
    }
    return {"normal_mean": np.mean(degrees), "normal_median": np.median(degrees), **shares}


def ordinal(p: np.ndarray, g: np.ndarray, valid: np.ndarray, _: np.ndarray) -> dict[str, float]:
    near, far = (points.tolist() for points in drawn_pairs(torch.from_numpy(g), torch.from_numpy(valid)))
    right = [
        1.0 if p[a[0], a[1]] < p[b[0], b[1]] else 0.5 if p[a[0], a[1]] == p[b[0], b[1]] else 0.0
        for a, b in zip(near, far, strict=True)
    ]
    return {"ordinal": float(np.mean(right))}


INDEPENDENT: dict[str, tuple[Frame, ...]] = {
    "depth": (lambda p, g, valid, _: reference(*(torch.from_numpy(x) for x in (p, g, valid))),),
    "boundaries": (lambda p, g, valid, _: loops(p, g, valid), edge_error),
    "edges": (boundary_errors,),
    "points": (f_scores,),
    "normals": (normals,),
    "ordinal": (ordinal,),
}
"""By group: straightforward code in float64 that shares nothing with the package's."""


@pytest.fixture(scope="module")
def frame() -> tuple[np.ndarray, ...]:
    """Prediction, truth, valid pixels and annotated edges, such that every metric is defined."""
    guess, truth, valid = scene(2)
    valid = valid | (np.arange(truth.shape[1]) % 7 > 1)  # windows without a hole
    truth = truth + 0.03 * np.linspace(-1, 1, truth.shape[1])
    # Boxes a pixel off as they are, noise on the wall a quarter of what it was, and the wall in waves.
    guess = truth + np.where(np.abs(guess - truth) > 0.5, 1.0, 0.25) * (guess - truth)
    guess = guess + 0.15 * np.sin(np.arange(truth.shape[1]) / 2)
    edges = feature.canny(stretched(np.roll(truth, 1, axis=1)), sigma=1)
    return guess.astype(np.float32).astype(float), truth.astype(np.float32).astype(float), valid, edges


@pytest.mark.parametrize("group", GROUPS)
def test_every_metric_equals_its_independent_implementation(group: str, frame: tuple[np.ndarray, ...]) -> None:
    assert group in INDEPENDENT, f"write an independent implementation of the group {group}"
    p, g, valid, edges = frame
    maps = [torch.from_numpy(x.astype(np.float32)) for x in (p, g)]
    compared = Compared(*maps, torch.from_numpy(valid), CAMERA, None, torch.from_numpy(edges))
    found = measured(compared, (group,))
    expected = {name: value for one in INDEPENDENT[group] for name, value in one(p, g, valid, edges).items()}
    assert expected.keys() == found.keys() == GROUPS[group].metrics.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-5, abs=1e-7), name
        assert np.isfinite(value) and value not in (0, 1), f"{name} tells nothing on this frame"


def test_the_edges_of_this_frame_are_found_alike_by_both_detectors(frame: tuple[np.ndarray, ...]) -> None:
    """Canny has ties that rounding decides; on this frame there is none, so that distances may be compared exactly."""
    image = stretched(frame[0])
    assert np.array_equal(canny(image), feature.canny(image, np.sqrt(2), 0.15, 0.3))


def section(group: str) -> str:
    """What the page says of a group: its own section, or the part that its bold name begins."""
    start = PAGE.index("## Depth (always)") if group == "depth" else PAGE.index(f"**`{group}`**")
    ends = [PAGE.find(mark, start + 5) for mark in ("\n**`", "\n## ")]
    return PAGE[start : min(end for end in ends if end > 0)]


@pytest.mark.parametrize("name", ALL)
def test_every_metric_is_documented_with_definition_and_source(name: str) -> None:
    (group,) = (key for key, one in GROUPS.items() if name in one.metrics)
    assert f"**`{group}`**" in PAGE or group == "depth", f"docs/metrics.md has no section on the group {group}"
    said = section(group)
    assert f"`{name}`" in said, f"docs/metrics.md does not define {name}"
    line = next(line for line in said.splitlines() if f"`{name}`" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert not line.startswith("|") or len(cells[1]) > 5, f"the definition of {name} is empty"
    assert re.search(r"(19|20)\d\d|\bours\b", said), f"docs/metrics.md names no source for {group}"
    # The arrow says which way is better.
    arrow = "↑" if ALL[name].higher else "↓"
    assert arrow in said, f"{name} lacks {arrow}"
