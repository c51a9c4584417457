"""One forward pass of a transformers model to its hidden states as feature maps."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders.hub.states import Maps
from fathom.encoders.module import as_map
from fathom.sample import Grid

_HALVING = re.compile(r"^(encoder\.)?(layers|stages|levels)\.\d+\.downsample$")


class HiddenStates:
    """One forward pass of a transformers model: prepared images to its hidden states as maps ``(B, C, h, w)``.

    The maps are empty for a model that reports none.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        self.name, self.network = name, network
        self.config: Any = getattr(network, "config")  # noqa: B009 (typed as a tensor or a module)
        self.options: dict[str, Any] = {"output_hidden_states": True, "return_dict": True}
        if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
            self.options["interpolate_pos_encoding"] = True
        # A masked autoencoder hides most patches and shuffles the rest, unless it is told not to and in which order.
        self.masks = self.config.model_type == "vit_mae"
        if self.masks:
            self.config.mask_ratio = 0.0
        # Swin and its kin report a stage after it was halved; what enters the halving is the stage's own output.
        self.halvings = [module for path, module in network.named_modules() if _HALVING.match(path)]
        # Its blocks shrink their window for good when they see a small image: they are set back before each pass.
        self.windows = [
            (module, {key: getattr(module, key) for key in ("window_size", "shift_size")})
            for module in network.modules()
            if hasattr(module, "set_shift_and_window_size")
        ]

    @property
    def least(self) -> int:
        """The side of an image whose coarsest grid holds a whole window: position biases are of whole windows."""
        if not self.windows:
            return 1
        return int(self.config.window_size * self.config.patch_size * 2 ** (len(self.config.depths) - 1))

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> Maps:
        for module, own in self.windows:
            for key, value in own.items():
                setattr(module, key, value)
        before: list[Any] = []
        hooks = [m.register_forward_pre_hook(lambda _, args: before.append(args[0])) for m in self.halvings]
        try:
            output = self.network(**self._inputs(images), **self.options)
        finally:
            for hook in hooks:
                hook.remove()
        states = getattr(output, "reshaped_hidden_states", None) or getattr(output, "hidden_states", None) or ()
        named = dict(zip(state_names(self.config, len(states)), states, strict=True))
        for stage, state in enumerate(before, start=1):
            if f"stage{stage}" in named:
                named[f"stage{stage}"] = state
        last = getattr(output, "last_hidden_state", None)
        if isinstance(last, Tensor) and last.ndim > 2:
            named["last"] = last
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return {layer: as_map(self.name, layer, channels_first(state, size), size) for layer, state in named.items()}

    def _inputs(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        if self.config.model_type == "siglip2_vision_model":
            return patches(images, self.config.patch_size)
        if not self.masks:
            return {"pixel_values": images}
        cells = math.prod(side // self.config.patch_size for side in images.shape[-2:])
        order = torch.arange(cells, dtype=torch.float32, device=images.device).expand(len(images), -1)
        return {"pixel_values": images, "noise": order}


def patches(images: Float[Tensor, "B 3 H W"], side: int) -> dict[str, Tensor]:
    """What SigLIP 2 in its form for any size takes: an image's patches row by row, each as its rows of RGB values."""
    height, width = images.shape[-2] // side, images.shape[-1] // side
    cut = images.reshape(len(images), 3, height, side, width, side).permute(0, 2, 4, 3, 5, 1)
    tokens = cut.reshape(len(images), height * width, -1)
    return {
        "pixel_values": tokens,
        "pixel_attention_mask": tokens.new_ones(tokens.shape[:2], dtype=torch.int64),
        "spatial_shapes": torch.tensor([[height, width]], device=images.device).expand(len(images), 2),
    }


def state_names(config: Any, states: int) -> list[str]:
    """Names of `states` hidden states: ``stem`` first where there is one more of them than stages."""
    depths = getattr(config, "depths", None)
    stages = len(depths) if isinstance(depths, Sequence) else getattr(config, "num_hidden_layers", states - 1)
    if states == stages:
        return [f"stage{i + 1}" for i in range(states)]
    return ["stem", *(f"stage{i}" for i in range(1, states))] if states else []


def channels_first(state: Tensor, size: Grid) -> Tensor:
    """A map ``(B, h, w, C)`` turned to ``(B, C, h, w)``, told by the shape of the image; anything else as it is."""
    if not isinstance(state, Tensor) or state.ndim != 4:
        return state
    height, width = size
    _, a, b, c = state.shape
    if b * width != c * height and a * width == b * height:
        return state.permute(0, 3, 1, 2)
    return state
