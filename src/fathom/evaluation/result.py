"""What an evaluation found: every image's metrics, their means with intervals over scenes, and how it was measured."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.atomic import atomic_path, write_json
from fathom.evaluation.by_depth import Band
from fathom.metrics.depth import HIGHER_IS_BETTER, METRICS
from fathom.metrics.protocols import Protocol

if TYPE_CHECKING:
    from jaxtyping import Float
    from rich.table import Table
    from torch import Tensor

SCHEMA_VERSION = 1
RANKED_BY = "abs_rel"
"""The metric that says which frames are best and worst: unlike the RMSE it does not single out the largest rooms."""

UNITS = {"sq_rel": "m", "rmse": "m", "mae": "m", "silog": "×100"}


@dataclass(frozen=True)
class ImageScore:
    """One image.

    Attributes:
        id, scene: of the frame. trained_scene: whether the checkpoint was trained on that scene.
        pixels: that count under the protocol.
        metrics: by name; empty where no pixel counts.
    """

    id: str
    scene: str
    trained_scene: bool
    pixels: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval over scenes, None where there are too few scenes for one."""

    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Shown:
    """A frame for the picture of the best and worst.

    Attributes:
        score: of the image. image: float in [0, 1].
        truth: metres where the protocol counts, else NaN. prediction: metres, as compared, for the whole frame.
    """

    score: ImageScore
    image: Float[Tensor, "3 H W"]
    truth: Float[Tensor, "h w"]
    prediction: Float[Tensor, "h w"]


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint measured on data under a protocol.

    Attributes:
        protocol: which pixels count, and how.
        checkpoint, data, settings: what was measured and how, as `summary.json` has it.
        images: every image that could be read, in the order of the data.
        by_depth: errors against true depth, near to far.
        left_out: (frame id, reason) of frames that could not be read.
        notes: sentences that the reader should know.
        shown: best frames, best first, then worst ones, worst last.
        command: the command line, where there was one.
    """

    protocol: Protocol
    checkpoint: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    images: tuple[ImageScore, ...]
    by_depth: tuple[Band, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()
    command: str = ""

    @property
    def scored(self) -> tuple[ImageScore, ...]:
        """Images with at least one pixel that counts."""
        return tuple(image for image in self.images if image.metrics)

    @property
    def scenes(self) -> tuple[str, ...]:
        """Scenes of the scored images."""
        return tuple(dict.fromkeys(image.scene for image in self.scored))

    def mean(self, metric: str) -> Estimate:
        """The mean over images of `metric`, with its interval over scenes.

        The interval is the bootstrap-t of Σ over images / number of images, by scene; that of a share δ is taken from
        1 − δ, which is the positive quantity that gets small.
        """
        values = [1 - i.metrics[metric] if metric in HIGHER_IS_BETTER else i.metrics[metric] for i in self.scored]
        found = self._interval(values, [1.0] * len(values))
        if metric not in HIGHER_IS_BETTER:
            return found
        turned = None if found.interval is None else (max(0.0, 1 - found.interval[1]), 1 - found.interval[0])
        return Estimate(1 - found.mean, turned)

    def pooled_rmse(self) -> Estimate:
        """The root of the squared error averaged over all pixels of all images: not the mean of the images' RMSE."""
        images = self.scored
        found = self._interval([i.metrics["rmse"] ** 2 * i.pixels for i in images], [float(i.pixels) for i in images])
        interval = None if found.interval is None else (math.sqrt(found.interval[0]), math.sqrt(found.interval[1]))
        return Estimate(math.sqrt(found.mean), interval)

    def _interval(self, values: list[float], weights: list[float]) -> Estimate:
        from fathom.statistics import loss_interval

        number = {scene: index for index, scene in enumerate(self.scenes)}
        index = [number[image.scene] for image in self.scored]
        errors, counts = np.zeros(len(number)), np.zeros(len(number))
        np.add.at(errors, index, values)
        np.add.at(counts, index, weights)
        found = loss_interval(errors, counts)
        interval = (found.low, found.high)
        return Estimate(found.estimate, None if any(map(math.isnan, interval)) else interval)

    def ranked(self) -> list[ImageScore]:
        """Scored images from best to worst."""
        return sorted(self.scored, key=lambda image: image.metrics[RANKED_BY])

    def to_json(self) -> dict[str, Any]:
        """`summary.json`; its keys are documented in docs/protocols.md."""
        from fathom.training.summary import versions

        pooled, ranked = self.pooled_rmse(), [_text(image.id) for image in self.ranked()]
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "versions": versions(),
            "checkpoint": dict(self.checkpoint),
            "data": dict(self.data),
            "protocol": {**asdict(self.protocol)},
            "settings": dict(self.settings),
            "images": len(self.scored),
            "scenes": len(self.scenes),
            "pixels": sum(image.pixels for image in self.scored),
            "metrics": {name: _record(self.mean(name)) for name in METRICS},
            "pooled_rmse": _record(pooled),
            "by_depth": [asdict(band) for band in self.by_depth],
            "ranked_by": RANKED_BY,
            "best": ranked[:10],
            "worst": ranked[::-1][:10],
            "without_truth": [_text(image.id) for image in self.images if not image.metrics],
            "left_out": [{"id": _text(name), "reason": _text(reason)} for name, reason in self.left_out],
            "notes": list(self.notes),
        }

    def save(self, out: str | Path) -> list[Path]:
        """Write `per_image.csv` and `summary.json` into the folder `out`."""
        folder = Path(out)
        write_json(folder / "summary.json", self.to_json())
        with (
            atomic_path(folder / "per_image.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["id", "scene", "trained_scene", "pixels", *METRICS])
            for image in self.images:
                numbers = [repr(image.metrics[name]) if image.metrics else "" for name in METRICS]
                writer.writerow([image.id, image.scene, int(image.trained_scene), image.pixels, *numbers])
        return [folder / "summary.json", folder / "per_image.csv"]

    def table(self) -> Table:
        """Means over images with their intervals, and the RMSE pooled over pixels below."""
        from rich.table import Table

        title = (
            f"{self.checkpoint['recipe']} on {self.data['location']} ({self.data['part']})\n"
            f"protocol {self.protocol.name}: {len(self.scored)} images of {len(self.scenes)} scenes"
        )
        table = Table(title=_text(title))
        table.add_column("metric")
        for heading in ("mean over images", "95 % interval", "unit"):
            table.add_column(heading, justify="right")
        table.add_column("better")
        for name in METRICS:
            better = "higher" if name in HIGHER_IS_BETTER else "lower"
            table.add_row(name, *_cells(self.mean(name)), UNITS.get(name, ""), better, end_section=name == METRICS[-1])
        table.add_row("rmse, pooled over pixels", *_cells(self.pooled_rmse()), "m", "lower")
        return table


def _cells(found: Estimate) -> tuple[str, str]:
    return f"{found.mean:.4g}", "–" if found.interval is None else f"{found.interval[0]:.4g} – {found.interval[1]:.4g}"


def _record(found: Estimate) -> dict[str, Any]:
    return {"mean": found.mean, "interval": None if found.interval is None else list(found.interval)}


def _text(value: str) -> str:
    """Text that JSON and a terminal can hold, whatever bytes a file's name is made of."""
    return value.encode("utf-8", "replace").decode()
