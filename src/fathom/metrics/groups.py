"""What `fathom evaluate` can measure: metrics by name, in groups that are asked for together.

A new metric is a function of a `Compared` frame and a line in `GROUPS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.metrics.annotated_edges import depth_boundary_errors
from fathom.metrics.boundaries import boundary_scores, edge_error
from fathom.metrics.depth import metrics_of_rows
from fathom.metrics.normals import normal_scores
from fathom.metrics.ordinal import drawn_pairs, ordinal_accuracy
from fathom.metrics.points import TAUS, point_scores
from fathom.sample import Intrinsics


@dataclass(frozen=True)
class Metric:
    """How a metric is read.

    Attributes:
        label: for people. unit: of its values. higher: whether larger is better; such metrics lie in [0, 1].
    """

    label: str
    unit: str = ""
    higher: bool = False


@dataclass(frozen=True)
class Compared:
    """One prediction beside its truth, cropped, aligned and clamped as the protocol says.

    Attributes:
        prediction, target: metres. valid: the pixels that count.
        camera: of these maps, in their pixels, where the data know it.
        normals: of the data, where they have any. edges: annotated ones, likewise.
    """

    prediction: Float[Tensor, "H W"]
    target: Float[Tensor, "H W"]
    valid: Bool[Tensor, "H W"]
    camera: Intrinsics | None = None
    normals: Float[Tensor, "3 H W"] | None = None
    edges: Bool[Tensor, "H W"] | None = None


@dataclass(frozen=True)
class Group:
    """Metrics that are computed together.

    Attributes:
        metrics: by name, in print order.
        measure: their values for a frame with at least one valid pixel; NaN where one is not defined; an empty mapping
            where the frame lacks what the group `needs`.
        needs: in words, for the note about frames that lack it.
    """

    metrics: Mapping[str, Metric]
    measure: Callable[[Compared], Mapping[str, float]]
    needs: str = ""


def _depth(frame: Compared) -> dict[str, float]:
    found = metrics_of_rows(frame.prediction[None], frame.target, frame.valid)
    return {name: float(values[0]) for name, values in found.items()}


def _boundaries(frame: Compared) -> dict[str, float]:
    return {
        **boundary_scores(frame.prediction, frame.target, frame.valid),
        "edge_error": edge_error(frame.prediction, frame.target, frame.valid),
    }


def _edges(frame: Compared) -> dict[str, float]:
    return {} if frame.edges is None else depth_boundary_errors(frame.prediction, frame.edges)


def _points(frame: Compared) -> dict[str, float]:
    if frame.camera is None:
        return {}
    return point_scores(frame.prediction, frame.target, frame.valid, frame.camera)


def _normals(frame: Compared) -> dict[str, float]:
    if frame.camera is None:
        return {}
    return normal_scores(frame.prediction, frame.target, frame.valid, frame.camera, frame.normals)


def _ordinal(frame: Compared) -> dict[str, float]:
    near, far = drawn_pairs(frame.target, frame.valid)
    return {"ordinal": ordinal_accuracy(frame.prediction, near, far)}


GROUPS: dict[str, Group] = {
    "depth": Group(
        {
            "abs_rel": Metric("AbsRel"),
            "sq_rel": Metric("SqRel", "m"),
            "sq_rel_kitti": Metric("SqRel (KITTI)"),
            "rmse": Metric("RMSE", "m"),
            "rmse_log": Metric("RMSE log"),
            "log10": Metric("log10"),
            "silog": Metric("SILog", "×100"),
            "silog_half": Metric("SILog (½)", "×100"),
            "mae": Metric("MAE", "m"),
            "delta1": Metric("δ1", higher=True),
            "delta2": Metric("δ2", higher=True),
            "delta3": Metric("δ3", higher=True),
        },
        _depth,
    ),
    "boundaries": Group(
        {
            "boundary_f1": Metric("boundary F1", higher=True),
            "boundary_precision": Metric("boundary precision", higher=True),
            "boundary_recall": Metric("boundary recall", higher=True),
            "edge_error": Metric("edge error", "m/px"),
        },
        _boundaries,
    ),
    "edges": Group(
        {"dbe_accuracy": Metric("DBE accuracy", "px"), "dbe_completeness": Metric("DBE completeness", "px")},
        _edges,
        "annotated edges",
    ),
    "points": Group(
        {name: Metric(f"F-score {tau * 100:.0f} cm", higher=True) for name, tau in TAUS.items()},
        _points,
        "a camera",
    ),
    "normals": Group(
        {
            "normal_mean": Metric("normals, mean", "°"),
            "normal_median": Metric("normals, median", "°"),
            "normal_11": Metric("normals < 11.25°", higher=True),
            "normal_22": Metric("normals < 22.5°", higher=True),
            "normal_30": Metric("normals < 30°", higher=True),
        },
        _normals,
        "a camera",
    ),
    "ordinal": Group({"ordinal": Metric("ordinal accuracy", higher=True)}, _ordinal),
}
"""Groups by name, in print order."""

ALL: dict[str, Metric] = {name: metric for group in GROUPS.values() for name, metric in group.metrics.items()}
"""Every metric by name."""


def measured(frame: Compared, groups: tuple[str, ...]) -> dict[str, float]:
    """The metrics of `groups` for one frame: NaN where a metric is not defined for it; empty without a valid pixel."""
    if not bool(torch.any(frame.valid)):
        return {}
    return {name: value for group in groups for name, value in GROUPS[group].measure(frame).items()}
