"""``timm:`` — any model of timm that reports its intermediate maps; needs the extra ``timm``.

``timm:NAME`` (a name that timm knows, with its tag) takes the weights from the model's repository on the Hugging Face
hub; ``timm:FOLDER`` from a folder of ``config.json`` and ``model.safetensors`` as timm writes it. timm's own loading is
not used, since it falls back to pickles; layers are as in `fathom.encoders.hub.states`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders.base import Provenance
from fathom.encoders.hub.processor import given
from fathom.encoders.hub.repository import (
    CONFIG,
    WEIGHTS,
    check_weights,
    find_folder,
    licence_of,
    load_failure,
    read_object,
    revision_of,
)
from fathom.encoders.hub.states import Maps, StateEncoder
from fathom.encoders.module import Normalise
from fathom.encoders.spec import Spec
from fathom.errors import DataError, FathomError, MissingExtraError, UsageError, nearest
from fathom.files.inputs import expand
from fathom.sample import Grid

OPTIONS = ("mean", "std", "seed")


def open_timm(spec: Spec, size: Grid, seed: int) -> StateEncoder:
    """``timm:NAME`` or ``timm:FOLDER``, with ``?mean=&std=``."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
        raise MissingExtraError("An encoder of timm", "timm") from error
    for key in spec.options:
        if key not in OPTIONS:
            raise UsageError(f"Encoder '{spec.text}' has no option '{key}'{nearest(key, OPTIONS)}.")
    architecture, arguments, folder = _source(timm, spec)

    def fresh(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _create(timm, architecture, arguments)

    network: Any = fresh(0)
    if not hasattr(network, "forward_intermediates"):
        raise FathomError(f"Encoder {spec.text} cannot be read: timm gives no intermediate maps of it.")
    _load(network, folder)
    config = network.pretrained_cfg
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)

    return StateEncoder(
        spec.text,
        network,
        _Intermediates(network),
        spec.layers,
        given(spec) or Normalise(config["mean"], config["std"]),
        patch=int(patch[0]) if isinstance(patch, tuple) else patch,
        made_for=int(config["input_size"][-1]),
        fresh=fresh,
        origin=Provenance(spec=spec.text, revision=revision_of(folder), licence=licence_of(folder)),
    )


@dataclass(frozen=True)
class _Intermediates:
    """One forward pass of a model of timm to its intermediate maps."""

    network: Any

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> Maps:
        maps = self.network.forward_intermediates(images, intermediates_only=True)
        return {f"stage{i}": z.float() for i, z in enumerate(maps, start=1)}


def _source(timm: Any, spec: Spec) -> tuple[str, Mapping[str, Any], Path]:
    """Architecture, its arguments, and the folder of its weights."""
    path = expand(spec.body)
    if path.is_dir() or "/" in spec.body:
        folder = find_folder("timm", spec.body)
        if not (folder / CONFIG).is_file():
            raise DataError(folder, f"holds no {CONFIG}, so it is no model of timm", "name another folder")
        values = read_object(folder / CONFIG)
        if not isinstance(values.get("architecture"), str):
            raise DataError(folder / CONFIG, "names no architecture, so this is no model of timm", "try hf: instead")
        own = values.get("pretrained_cfg") or {}
        config = {"pretrained_cfg": own} if own else {}
        return values["architecture"], {**(values.get("model_args") or {}), **config}, folder
    if not timm.is_model(spec.body):
        raise UsageError(f"timm has no model '{spec.body}'{_closest(timm, spec.body)}.")
    known = timm.get_pretrained_cfg(spec.body)
    repository = getattr(known, "hf_hub_id", None)
    if not repository:
        raise FathomError(f"Encoder {spec.text} has no weights on the hub, and other places hold pickles.")
    return spec.body, {}, find_folder("timm", repository)


def _closest(timm: Any, name: str) -> str:
    close = nearest(name, timm.list_models())
    return close if close.startswith(" (did") else "; timm.list_models() lists them"


def _create(timm: Any, architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The architecture, free to take images of any size where it can be: ViTs by one option, windowed models by another."""
    wishes: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    create: Callable[..., nn.Module] = timm.create_model
    for wish in wishes:
        try:
            return create(architecture, pretrained=False, **{**arguments, **wish})
        except TypeError as error:
            if not wish:
                raise FathomError(f"timm cannot build '{architecture}' ({error}).") from error
        except RuntimeError as error:  # timm's word for an unknown model
            raise FathomError(f"timm cannot build '{architecture}' ({error}).") from error
    raise AssertionError("the last wish asks for nothing")


def _load(network: nn.Module, folder: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_weights(folder)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise load_failure(folder, error) from error
