"""`evaluate`: a trained depth network, measured on data under a named protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.loading import Pair, Skipped, batches
from fathom.errors import DataError, FathomError, UsageError, nearest
from fathom.evaluation.by_depth import ErrorByDepth
from fathom.evaluation.held_out import Split, choose_frames
from fathom.evaluation.result import Evaluation, ImageScore, Shown
from fathom.metrics.alignment import ALIGNMENTS, Align
from fathom.metrics.depth import metrics_of_rows
from fathom.metrics.protocols import PROTOCOLS, Protocol, choose_protocol
from fathom.models.network import Network
from fathom.progress import note, track
from fathom.sample import Grid, Intrinsics, Sample, camera_row

if TYPE_CHECKING:
    from fathom.models.saved import Trained

T = TypeVar("T")


def evaluate(
    checkpoint: Trained | str | Path,
    data: Dataset | str,
    *,
    protocol: str | Protocol | None = None,
    split: Split | None = None,
    flip: bool = False,
    align: str | None = None,
    size: Grid | None = None,
    batch_size: int = 8,
    device: str = "auto",
    workers: int = 0,
    skip_bad: bool = False,
    pictures: int = 3,
    command: str = "",
) -> Evaluation:
    """Measure a depth network on data.

    Args:
        checkpoint: a trained network, or the path of its run or checkpoint folder.
        data: a spec, of which `split` chooses the frames; or a data set, all of it unless `split` says otherwise.
        protocol: a name of `PROTOCOLS` or one of your own; None chooses by the data.
        split: ``test``, ``val``, ``all`` or None; see `fathom.evaluation.held_out.choose_frames`.
        flip: average with the prediction for the mirrored image, mirrored back.
        align: ``scale``, ``scale-shift`` or ``median`` fits each prediction to its truth first; None compares metres.
        size: (height, width) at which the network sees an image; None is the size it was trained at.
        batch_size: images predicted at once.
        device: ``cpu``, ``cuda``, ``mps`` or ``auto``.
        workers: processes that read data.
        skip_bad: leave out frames that cannot be read, and report them.
        pictures: best frames and worst frames to keep for the picture, each.
        command: recorded in the summary.

    Raises:
        CheckpointError: it is broken, or its network does not predict depth.
        UsageError: an unknown protocol, alignment or part, or a protocol that does not fit the data.
        DataError: data that cannot be read, or of which no pixel counts.
    """
    from fathom.data.sources import load
    from fathom.depth_models.network import trained_depth_network
    from fathom.devices import resolve_device

    fitting = None if align in (None, "none") else named("alignment", align, ALIGNMENTS)
    trained = trained_depth_network(checkpoint)
    if isinstance(data, Dataset):
        part, sentence = choose_frames(data, trained, split or "all")
    else:
        part, sentence = choose_frames(load(data, skip_bad=skip_bad), trained, split)
    if protocol is None:
        protocol = choose_protocol(part)
    measure = Measure(
        trained=trained,
        protocol=protocol if isinstance(protocol, Protocol) else named("protocol", protocol, PROTOCOLS),
        align=fitting,
        flip=flip,
        size=size or trained.input_size,
        device=resolve_device(device),
    )
    note(f"Measuring '{trained.recipe['name']}' on {len(part)} frames of {part.source.location}.")
    skipped, by_depth = Skipped(), ErrorByDepth()
    images: list[ImageScore] = []
    stream = batches(part, measure.size, batch_size=batch_size, workers=workers, skipped=skipped if skip_bad else None)
    for batch in track(stream, f"Evaluating under {measure.protocol.name}", -(-len(part) // batch_size)):
        images += measure.score(batch, by_depth)
    _check(part, images, skipped, measure.protocol)
    found = Evaluation(
        protocol=measure.protocol,
        checkpoint=_checkpoint_record(trained),
        data=_data_record(part),
        settings={**measure.settings(), "align": align or "none"},
        images=tuple(images),
        by_depth=by_depth.bands(),
        left_out=tuple(skipped.frames),
        notes=tuple(_notes(sentence, images, skipped, measure)),
        command=command,
    )
    return replace(found, shown=tuple(_shown(found, part, measure, pictures)))


def named(what: str, name: str, known: Mapping[str, T]) -> T:
    """The member of a registry; `UsageError` with the nearest name where there is none."""
    if name not in known:
        raise UsageError(f"There is no {what} '{name}'{nearest(name, known)}.")
    return known[name]


@dataclass
class Measure:
    """How each frame is predicted and compared.

    Attributes:
        trained: the network. protocol, align, flip, size, device: as `evaluate` takes them.
        broken: predicted pixels that were not finite, over all frames.
    """

    trained: Trained
    protocol: Protocol
    align: Align | None
    flip: bool
    size: Grid
    device: str
    broken: int = 0

    def __post_init__(self) -> None:
        assert isinstance(self.trained.model, Network)
        self.network = self.trained.model.to(self.device)
        self.covered = self.network.output_crop(self.size)

    def score(self, pairs: Sequence[Pair], by_depth: ErrorByDepth) -> list[ImageScore]:
        """Predict and score a batch, and add its errors to `by_depth`."""
        scores = []
        for (_, sample), prediction in zip(pairs, self.predictions(pairs), strict=True):
            region = self.protocol.apply(self.aligned(prediction, sample), sample)
            pixels = int(region.valid.sum())
            metrics: dict[str, float] = {}
            if pixels:
                found = metrics_of_rows(region.predictions, region.target, region.valid)
                metrics = {name: float(values[0]) for name, values in found.items()}
                by_depth.add(sample.scene, region.predictions[0], region.target, region.valid)
            seen = sample.scene in self.trained.train_scenes
            scores.append(ImageScore(sample.id, sample.scene, seen, pixels, metrics))
        return scores

    def predictions(self, pairs: Sequence[Pair]) -> Iterator[Float[Tensor, "H W"]]:
        """Metres for each frame, at the size of its truth."""
        images = torch.stack([fitted.float_image() for fitted, _ in pairs])
        cameras = [fitted.intrinsics for fitted, _ in pairs]
        plain = self._forward(images, cameras)
        width = images.shape[-1]
        flipped = [None if camera is None else camera.flipped(width) for camera in cameras]
        mirrored = self._forward(images.flip(-1), flipped) if self.flip else None
        for index, (_, sample) in enumerate(pairs):
            values = self._at_truth(plain[index], sample.depth_size)
            if mirrored is not None:
                values = (values + self._at_truth(mirrored[index], sample.depth_size).flip(-1)) / 2
            self.broken += int((~torch.isfinite(values)).sum())
            yield values

    def _forward(
        self, images: Float[Tensor, "B 3 H W"], cameras: Sequence[Intrinsics | None]
    ) -> Float[Tensor, "B 1 h w"]:
        inputs = [images.to(self.device)]
        if self.network.takes_camera:
            inputs.append(torch.stack([camera_row(camera) for camera in cameras]).to(self.device))
        try:
            with torch.inference_mode():
                output: Tensor = self.network(*inputs)
        except torch.OutOfMemoryError as error:
            raise FathomError(
                f"Out of memory with {len(images)} images at once: use a smaller --batch-size."
            ) from error
        return output[:, :1].float().cpu()

    def _at_truth(self, values: Float[Tensor, "1 h w"], size: Grid) -> Float[Tensor, "H W"]:
        """Bilinear at the pixel centres of the truth; where the network leaves out a border, its nearest prediction."""
        from fathom.depth_models.resampling import to_image_size

        top, left, height, width = self.covered
        stride = self.network.output_stride
        bottom, right = self.size[0] - top - height, self.size[1] - left - width
        if top or left or bottom or right:
            border = tuple(-(-pixels // stride) for pixels in (left, right, top, bottom))
            values = F.pad(values, border, mode="replicate")
        whole = (0, 0, *self.size)
        return to_image_size(values[0], working=self.size, box=whole, stride=stride, original=size)

    def aligned(self, prediction: Float[Tensor, "H W"], sample: Sample) -> Float[Tensor, "H W"]:
        """The prediction fitted to the truth over the pixels that count, before anything is clamped."""
        if self.align is None:
            return prediction
        rows, columns = self.protocol.window(sample.depth_size)
        counts = torch.zeros(sample.depth_size, dtype=torch.bool)
        counts[rows, columns] = self.protocol.apply(prediction, sample).valid
        counts &= torch.isfinite(prediction)
        return self.align(prediction, sample.depth[0], counts) if counts.any() else prediction

    def shown(self, sample: Sample, score: ImageScore) -> Shown:
        """The frame as it was compared, for a picture."""
        from fathom.data.transforms import fit

        protocol = self.protocol
        prediction = self.aligned(next(self.predictions([(fit(sample, self.size), sample)])), sample)
        region, (rows, columns) = protocol.apply(prediction, sample), protocol.window(sample.depth_size)
        truth = torch.full(sample.depth_size, torch.nan)
        truth[rows, columns] = torch.where(region.valid, region.target, torch.nan)
        whole = torch.nan_to_num(prediction, protocol.least, protocol.most, protocol.least)
        return Shown(score, sample.float_image(), truth, whole.clamp(protocol.least, protocol.most))

    def settings(self) -> dict[str, Any]:
        """For the summary."""
        from fathom.statistics import METHOD

        return {
            "flip": self.flip,
            "input_size": list(self.size),
            "device": self.device,
            "interval_method": METHOD,
            "interval_level": 0.95,
        }


def _check(part: Dataset, images: Sequence[ImageScore], skipped: Skipped, protocol: Protocol) -> None:
    """At least one image must have been scored."""
    location = part.source.location
    if not images:
        raise DataError(location, f"none of the {len(skipped)} frames can be read ({skipped.describe(1)})")
    if not any(image.metrics for image in images):
        raise DataError(
            location,
            f"no pixel of {len(images)} frames counts under {protocol.name} (valid, {protocol.least:g} m to "
            f"{protocol.most:g} m)",
            "check how the depth's counts become metres with 'fathom data info', or choose another protocol",
        )


def _notes(sentence: str, images: Sequence[ImageScore], skipped: Skipped, measure: Measure) -> Iterator[str]:
    from fathom.statistics import LEAST_SCENES

    yield sentence
    scenes = len({image.scene for image in images if image.metrics})
    if scenes < LEAST_SCENES:
        yield f"No intervals: {scenes} scene{'s' if scenes > 1 else ''}, and fewer than {LEAST_SCENES} give none."
    empty = sum(not image.metrics for image in images)
    if empty:
        yield f"{empty} of {len(images)} images have no pixel that counts under {measure.protocol.name}; not in the means."
    if skipped.frames:
        yield f"{len(skipped)} frames left out that cannot be read: {skipped.describe()}"
    if measure.broken:
        yield f"{measure.broken} predicted pixels were not finite; they count as the protocol clamps them."
    _, _, height, width = measure.covered
    if (height, width) != measure.size:
        share = 1 - height * width / (measure.size[0] * measure.size[1])
        yield f"The network leaves out {share:.0%} of the image at its border; its nearest prediction stands in there."


def _shown(found: Evaluation, part: Dataset, measure: Measure, most: int) -> Iterator[Shown]:
    """The best frames, best first, and the worst, worst last; read again, so that none had to be kept."""
    ranked = found.ranked()
    worst = min(most, (len(ranked) + 1) // 2)
    best = min(most, len(ranked) - worst)
    position = {id_: index for index, id_ in enumerate(part.ids)}
    for score in [*ranked[:best], *ranked[len(ranked) - worst :]]:
        yield measure.shown(part[position[score.id]], score)


def _checkpoint_record(trained: Trained) -> dict[str, Any]:
    return {
        "path": str(trained.path),
        "model": trained.model_name,
        "recipe": trained.recipe["name"],
        "step": trained.info.get("step"),
        "train_scenes": len(trained.train_scenes),
        "train_fingerprint": trained.info.get("train_fingerprint"),
    }


def _data_record(part: Dataset) -> dict[str, Any]:
    return {
        "location": part.source.location,
        "kind": part.source.kind,
        "part": part.part,
        "frames": len(part),
        "scenes": len(part.scenes),
        "fingerprint": part.fingerprint(),
        "facts": dict(part.source.facts),
    }
