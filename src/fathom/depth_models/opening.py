"""Opening depth models: what a person names, to a `DepthModel`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from fathom.depth_models.model import DepthModel
from fathom.encoders.hub.repository import read_object
from fathom.encoders.spec import Spec
from fathom.encoders.spec import parse as parse_spec
from fathom.errors import CheckpointError, UsageError, nearest
from fathom.files.inputs import exists, expand
from fathom.models.network import Network
from fathom.models.saved import Trained
from fathom.models.shipped import DEFAULT, shipped
from fathom.sample import Grid

DEPTH_MODELS = {
    "adapted": "fathom.depth_models.adapted:open_folder",
    "checkpoint": "fathom.depth_models.opening:open_checkpoint",
    "hf": "fathom.depth_models.hub:open_hf",
    "probe": "fathom.probing.saved.depth_model:open_probe",
    "module": "fathom.depth_models.module:open_module",
}
"""kind -> ``module:function`` called with (spec, input size); imported when used."""

Openable = DepthModel | Trained | nn.Module | str | Path


def open_depth_model(
    model: Openable | None = None, *, device: str = "auto", input_size: Grid | None = None, kind: str | None = None
) -> DepthModel:
    """The depth model that a name, a path or an object means.

    Args:
        model: the name of a shipped network; a run, checkpoint or model folder (also as ``checkpoint:NAME``);
            ``module:FILE:FACTORY?kind=...``; what `fathom.train` returns; any `nn.Module`; a `DepthModel`, which is
            returned as it is; None for the shipped default.
        device: ``cpu``, ``cuda``, ``mps`` or ``auto``, which leaves a module of yours where it is.
        input_size: (height, width) at which the model sees every image; by default its own choice.
        kind: of depth, for a module that does not declare it.

    Raises:
        UsageError: there is no such model, or it does not say which kind of depth it gives.
        CheckpointError: the files are broken, or of a model that predicts no depth.
    """
    from fathom.devices import resolve_device

    if isinstance(model, DepthModel | nn.Module):
        opened = model if isinstance(model, DepthModel) else of_module(model, input_size, kind)
        return opened if device == "auto" else opened.to(resolve_device(device))
    if isinstance(model, Trained):
        from fathom.depth_models.network import of_trained

        opened = of_trained(model, input_size=input_size)
    else:
        opened = _named(DEFAULT if model is None else str(model), input_size, kind)
    return opened.to(resolve_device(device))


def of_module(module: nn.Module, input_size: Grid | None = None, kind: str | None = None) -> DepthModel:
    """A module as a depth model: a network of Fathom's gives metres, another one says or is asked."""
    from fathom.depth_models.module import ModuleModel
    from fathom.depth_models.network import NetworkModel

    name = type(module).__name__
    if isinstance(module, Network):
        if module.predicts != "depth":
            raise UsageError(f"A network '{name}' predicts {module.predicts.replace('_', ' ')} and no depth.")
        return NetworkModel(module, name, input_size=input_size)
    return ModuleModel(module, name, kind=kind, input_size=input_size)


def _named(text: str, input_size: Grid | None, kind: str | None) -> DepthModel:
    spec = recognise(text)
    if kind is not None:
        spec = replace(spec, options={**spec.options, "kind": kind})
    module, _, function = DEPTH_MODELS[spec.kind].partition(":")
    opener: Callable[[Spec, Grid | None], DepthModel] = getattr(importlib.import_module(module), function)
    return opener(spec, input_size)


def recognise(text: str) -> Spec:
    """A model's name as a SPEC whose kind is one of `DEPTH_MODELS`; `UsageError` where it means nothing."""
    spec = parse_spec(text)
    body = text.partition("?")[0]
    if body in shipped() or exists(expand(body)):
        return Spec(text, _kind_of(expand(body)), body, spec.options, ())
    if spec.kind in DEPTH_MODELS:
        if not spec.body:
            raise UsageError(f"Depth model '{text}' names nothing after '{spec.kind}:'.")
        return spec
    if spec.kind != text and spec.kind.isalnum() and len(spec.kind) > 1:
        raise UsageError(f"There is no kind of depth model '{spec.kind}'{nearest(spec.kind, DEPTH_MODELS)}.")
    raise CheckpointError(
        text,
        "does not exist",
        f"name a run or checkpoint folder, KIND:NAME with a kind of {', '.join(DEPTH_MODELS)}, or {' or '.join(shipped())}, "
        "which come with the package",
    )


def _kind_of(path: Path) -> str:
    """The kind of model in a folder (or file), by the names and keys of its files; a network of Fathom's unless others say so."""
    if (path / "adapt.json").is_file():
        return "adapted"
    config = path / "config.json"
    if config.is_file() and "model_type" in read_object(config):
        return "hf"
    return "probe" if (path / "probes.json").is_file() else "checkpoint"


def split_model(given: Sequence[str]) -> tuple[str | None, list[str]]:
    """What a command line names: (model, inputs); the model is None where the first word is an input.

    Raises:
        UsageError: a model is named and no input, or the first word is neither.
    """
    first, *rest = given
    if not is_model(first):
        if rest and not _is_input(first):
            recognise(first)  # says that there is no such model
        return None, list(given)
    if not rest:
        raise UsageError(f"'{first}' is a depth model; name the images to predict after it.")
    return first, rest


def is_model(text: str) -> bool:
    """Whether a word names a depth model rather than images."""
    body = text.partition("?")[0]
    path = expand(body)
    if path.is_dir():
        return any((path / name).exists() for name in ("config.json", "checkpoints", "probes.json", "adapt.json"))
    if path.is_file():
        return path.suffix.lower() in (".safetensors", ".onnx")
    return body in shipped() or text.partition(":")[0] in DEPTH_MODELS


def _is_input(text: str) -> bool:
    """Whether a word can be an input: a path, a pattern, or data."""
    from fathom.data.sources import SOURCES

    body = text.partition("?")[0]
    return Path(text).exists() or any(c in body for c in "*[") or body.partition(":")[0] in SOURCES


def open_checkpoint(spec: Spec, input_size: Grid | None = None) -> DepthModel:
    """``checkpoint:NAME``: a network that Fathom trained."""
    from fathom.depth_models.network import open_network

    for key in spec.options:
        raise UsageError(f"Depth model '{spec.text}' has no option '{key}': a network of Fathom gives metres.")
    return open_network(spec.body, spec.text, input_size)
