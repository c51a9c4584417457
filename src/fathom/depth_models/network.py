"""Fathom's own networks as depth models: a shipped name, a run, a checkpoint or a model folder, or what `train` returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fathom.depth_models.forward import TorchDepthModel, device_of, image_size
from fathom.depth_models.model import DepthMaps, Images, Kind, known_cameras
from fathom.depth_models.resampling import to_image_size, working_size
from fathom.errors import CheckpointError
from fathom.models.network import Network
from fathom.models.saved import Trained, load_model
from fathom.sample import Grid, Intrinsics, camera_row


class NetworkModel(TorchDepthModel):
    """A depth network of Fathom: metres, from an image at the area it was trained at.

    Args:
        network: it predicts depth.
        name: for messages and records.
        trained: what is known of its training, where it was read from a checkpoint.
        input_size: (height, width) at which the network sees every image. None: the area it was trained at and the shape of
            the image, see `working_size`; the image's own size where its training is not known.
    """

    kind: Kind = "metric"

    def __init__(
        self, network: Network, name: str, trained: Trained | None = None, input_size: Grid | None = None
    ) -> None:
        self.network, self.name, self.trained, self.input_size = network, name, trained, input_size
        if trained is not None:
            self.licence = str(trained.info.get("licence", ""))
            self.train_scenes = trained.train_scenes
        self.uses_camera = network.takes_camera
        self.device = device_of(network)

    def modules(self) -> tuple[Network]:
        """The network."""
        return (self.network,)

    def working(self, size: Grid) -> Grid:
        """The (height, width) at which the network sees an image of `size`."""
        if self.input_size is not None or self.trained is None:
            return self.input_size or size
        return working_size(size, self.trained.input_size, self.network.stride)

    def predict(
        self,
        images: Images,
        cameras: Sequence[Intrinsics | None] | None = None,
        *,
        size: Grid | None = None,
        prompts: Sequence[Tensor | None] | None = None,
    ) -> DepthMaps:
        """Metres along the optical axis; NaN at a border that a network without padding leaves out."""
        original = image_size(images)
        working = self.working(original)
        known = known_cameras(images, cameras)
        inputs = [self.seen(images, working)]
        if self.network.takes_camera:
            scale = working[0] / original[0], working[1] / original[1]
            inputs.append(torch.stack([camera_row(camera.scaled(*scale)) for camera in known]).to(self.device))
        with self.running(inputs[0]):
            output: Tensor = self.network(*inputs)[:, 0].float().cpu()
        values = to_image_size(
            output,
            working=working,
            box=self.network.output_crop(working),
            stride=self.network.output_stride,
            original=size or original,
        )
        return DepthMaps(values, self.kind, known, input_size=working)

    def facts(self) -> Mapping[str, Any]:
        """Its folder, architecture, recipe and step, and the canonical focal length where it has one."""
        canonical = getattr(self.network.config, "canonical_focal", None)
        facts: dict[str, Any] = {} if canonical is None else {"canonical_focal": canonical}
        if self.trained is not None:
            facts |= {
                "path": str(self.trained.path),
                "model": self.trained.model_name,
                "recipe": self.trained.recipe.get("name"),
                "step": self.trained.info.get("step"),
            }
        return facts


def open_network(path: str | Path, name: str, input_size: Grid | None = None) -> NetworkModel:
    """The network of a shipped name, a run, a checkpoint or a model folder."""
    return of_trained(load_model(path), name, input_size)


def of_trained(trained: Trained, name: str = "", input_size: Grid | None = None) -> NetworkModel:
    """What `fathom.train` or `load_model` returns, as a depth model."""
    network = trained_depth_network(trained).model
    assert isinstance(network, Network)
    return NetworkModel(network, name or str(trained.path), trained, input_size)


def trained_depth_network(model: Trained | str | Path) -> Trained:
    """The trained depth network at a path, or the one given; `CheckpointError` where it predicts something else."""
    trained = load_model(model) if isinstance(model, str | Path) else model
    predicts = getattr(trained.model, "predicts", None)
    if predicts != "depth":
        what = {"image": "images", "depth_edges": "edges of depth maps"}.get(str(predicts), "something else")
        raise CheckpointError(
            trained.path,
            f"is of '{trained.model_name}', which predicts {what} and no depth",
            "name the checkpoint of a depth network; 'fathom probe' tells what the others know of depth",
        )
    return trained
