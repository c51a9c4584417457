"""The networks that learn depth, and the autoencoder that does not know it learns any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.errors import UsageError, nearest
from fathom.models.autoencoder import Autoencoder
from fathom.models.edge_guided import EdgeGuidedNetwork, GradientNetwork, PlainCNN
from fathom.models.network import Network, check_size, config_from
from fathom.models.pretrained_unet import PretrainedUNet
from fathom.models.residual_cnn import ResidualCNN
from fathom.models.unet import UNet

MODELS: dict[str, type[Network]] = {
    "autoencoder": Autoencoder,
    "residual_cnn": ResidualCNN,
    "unet": UNet,
    "plain_cnn": PlainCNN,
    "gradient": GradientNetwork,
    "edge_guided": EdgeGuidedNetwork,
    "pretrained_unet": PretrainedUNet,
}


def build(name: str, config: Network.Config | Mapping[str, Any] | None = None) -> Network:
    """The network `name` with fresh weights.

    `config` is its `Config`, or the plain values of one as JSON and TOML hold them; the rest has its
    defaults.
    """
    if name not in MODELS:
        raise UsageError(f"There is no network '{name}'{nearest(name, MODELS)}.")
    model = MODELS[name]
    if not isinstance(config, Network.Config):
        config = config_from(model.Config, config or {})
    if not isinstance(config, model.Config):
        raise UsageError(f"The configuration given for '{name}' belongs to another network.")
    check_size(model, config)
    return model(config)


__all__ = [
    "MODELS",
    "Autoencoder",
    "EdgeGuidedNetwork",
    "GradientNetwork",
    "Network",
    "PlainCNN",
    "PretrainedUNet",
    "ResidualCNN",
    "UNet",
    "build",
]
