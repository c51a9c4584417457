"""``checkpoint:PATH`` — a network that Fathom trained, as an encoder.

Layers are those that the network names (`Network.layers`), or any of its submodules. An autoencoder is read at its code
unless told otherwise; any other network at its last hidden layer of each grid: its prediction is the upper bound's business.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders.base import Provenance, Training
from fathom.encoders.module import ModuleEncoder
from fathom.encoders.spec import Spec
from fathom.encoders.whole_cells import WholeCells
from fathom.errors import UsageError, nearest
from fathom.models import MODELS, Autoencoder, Network
from fathom.models.saved import load_model
from fathom.sample import Grid
from fathom.training.scoring.targets import predicted


class CheckpointEncoder(ModuleEncoder):
    """A trained network of ours."""

    module: Network

    def __init__(self, name: str, network: Network, layers: tuple[str, ...], train_scenes: tuple[str, ...]) -> None:
        own = network.layers()
        super().__init__(
            name,
            network,
            layers or hidden_layers(network),
            WholeCells(network.stride),
            named={**{n: m for n, m in network.named_modules() if n}, **own},
            # The code needs no decoder: half the work of a forward pass.
            run=network.encode if isinstance(network, Autoencoder) and set(layers) <= own.keys() else None,
            fresh=_initialiser(network),
            trained=Training(scenes=train_scenes, depth=predicted(network).from_depth),
            origin=Provenance(spec=name),
        )

    @torch.inference_mode()
    def encode(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """Every layer's map from one forward pass; borders that an unpadded network lost are repeated."""
        maps = super().encode(images)
        size = (int(images.shape[-2]), int(images.shape[-1]))
        if self.module.output_crop(size) == (0, 0, *size):
            return maps
        return {layer: restore_border(z, size) for layer, z in maps.items()}


def _initialiser(network: Network) -> Callable[[int], nn.Module]:
    """The network's class and configuration with fresh weights, seeded, the global random state left as it was."""
    kind, config = type(network), network.config

    def fresh(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return kind(config)

    return fresh


def hidden_layers(network: Network) -> tuple[str, ...]:
    """The layers read by default: the code of an autoencoder, else the last layer of each grid but the output."""
    if isinstance(network, Autoencoder):
        return ("code",)
    named = list(network.layers().items())[:-1]
    # Small, so that it costs nothing, and yet larger than what the convolutions of an unpadded network take away.
    side = 4 * network.stride + 2 * sum(len(steps) for _, steps in network.path())
    grids: dict[Grid, str] = {}
    hooks = []
    for name, module in named:

        def note(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
            grids[int(output.shape[-2]), int(output.shape[-1])] = name

        hooks.append(module.register_forward_hook(note))
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, side, side))
    finally:
        for hook in hooks:
            hook.remove()
    chosen = set(grids.values())
    return tuple(name for name, _ in named if name in chosen)


def restore_border(z: Float[Tensor, "B C h w"], size: Grid) -> Float[Tensor, "B C H W"]:
    """Repeat the outermost cells of a map of stride 1 until it covers the image again."""
    top, left = (size[0] - z.shape[-2]) // 2, (size[1] - z.shape[-1]) // 2
    return F.pad(z, (left, size[1] - z.shape[-1] - left, top, size[0] - z.shape[-2] - top), mode="replicate")


def open_checkpoint(spec: Spec, size: Grid, seed: int) -> CheckpointEncoder:
    """The encoder of ``checkpoint:PATH``: a run folder, a checkpoint folder, or a model folder."""
    for key in spec.options:
        if key != "seed":  # of random:checkpoint:PATH
            raise UsageError(f"Encoder '{spec.text}' has no option '{key}'{nearest(key, ['seed'])}.")
    trained = load_model(spec.body)
    assert isinstance(trained.model, MODELS[trained.model_name])
    return CheckpointEncoder(spec.text, trained.model, spec.layers, trained.train_scenes)
