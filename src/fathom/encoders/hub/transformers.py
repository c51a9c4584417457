"""``hf:`` — any vision backbone of transformers, from a local folder or the Hugging Face hub.

Its layers are the hidden states that the model itself reports (`fathom.encoders.hub.states`), read in one forward pass. Token
models give the grid of their patches; class and register tokens are dropped.

An input that the coarsest stride does not divide is resized to the nearest multiple, so that each grid covers the whole
image (`fathom.encoders.whole_cells`); position embeddings are interpolated by the model itself.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fathom.encoders.base import Provenance, Training
from fathom.encoders.hub.hidden_states import HiddenStates
from fathom.encoders.hub.processor import normalisation
from fathom.encoders.hub.repository import (
    CONFIG,
    check_weights,
    find_folder,
    licence_of,
    load_failure,
    read_object,
    revision_of,
)
from fathom.encoders.hub.states import StateEncoder
from fathom.encoders.spec import Spec
from fathom.errors import CheckpointError, DataError, FathomError, UsageError, nearest
from fathom.sample import Grid

OPTIONS = ("mean", "std", "revision", "seed")

_POOLER = re.compile(r"(^|\.)(pooler|head)\.")


@contextmanager
def silent() -> Iterator[None]:
    """Within it transformers neither warns nor draws bars: what matters of its loading report is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def read_config(folder: Path) -> Any:
    """The configuration of a model folder, of its vision tower where it has several."""
    from transformers import AutoConfig

    path = folder / CONFIG
    if not path.is_file():
        raise DataError(folder, f"holds no {CONFIG}, so it is no model of transformers", "name another folder")
    values = read_object(path)
    if "model_type" not in values:
        ours = "it was trained by Fathom: write checkpoint:PATH" if "recipe" in values else "name another folder"
        raise DataError(path, "names no model_type, so this is no model of transformers", ours)
    try:
        with silent():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"is of model_type {values['model_type']!r}, which this transformers cannot build from it"
        raise DataError(path, problem, "upgrade transformers, or name another model") from error
    return getattr(config, "vision_config", None) or config


def model_class(name: str, config: Any) -> Any:
    """The class of the bare model of a configuration; for a depth model around a backbone, of the depth model."""
    from transformers import MODEL_FOR_DEPTH_ESTIMATION_MAPPING, MODEL_MAPPING

    mapping = MODEL_FOR_DEPTH_ESTIMATION_MAPPING if _around_backbone(config) else MODEL_MAPPING
    try:
        found = mapping[type(config)]
    except KeyError as error:
        raise FathomError(f"Encoder {name} ({config.model_type}) is no backbone of transformers.") from error
    first = found[0] if isinstance(found, tuple | list) else found
    if getattr(first, "main_input_name", "pixel_values") != "pixel_values":
        raise FathomError(f"Encoder {name} ({config.model_type}) takes {first.main_input_name}, no images.")
    return first


def _around_backbone(config: Any) -> bool:
    """Whether it is a model of one task (Depth Anything, ZoeDepth, DPT on DINOv2) whose backbone has its own config."""
    return getattr(config, "backbone_config", None) is not None and not getattr(config, "is_hybrid", False)


def _predicts_depth(config: Any) -> bool:
    from transformers import MODEL_FOR_DEPTH_ESTIMATION_MAPPING

    return type(config) in MODEL_FOR_DEPTH_ESTIMATION_MAPPING


def load_network(folder: Path, kind: Any, options: Mapping[str, Any], unused: re.Pattern[str] = _POOLER) -> nn.Module:
    """The model of `folder` with all of its weights but `unused` ones; what is missing would be random, and is refused."""
    from safetensors import SafetensorError

    check_weights(folder)
    try:
        with silent():
            network, report = kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
            )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise load_failure(folder, error) from error
    missing = sorted(name for name in report["missing_keys"] if not unused.search(name))
    wrong = sorted(str(item[0] if isinstance(item, tuple) else item) for item in report["mismatched_keys"])
    for names, what in ((missing, "lacks"), (wrong, "has another shape of")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                folder, f"holds the weights of another model than its {CONFIG} says: it {what} '{names[0]}'{more}"
            )
    loaded: nn.Module = network.float()
    return loaded


def open_hub(spec: Spec, size: Grid, seed: int) -> StateEncoder:
    """``hf:FOLDER`` or ``hf:org/name``, with ``?mean=&std=`` (normalisation) and ``?revision=``."""
    from transformers import AutoBackbone

    for key in spec.options:
        if key not in OPTIONS:
            raise UsageError(f"Encoder '{spec.text}' has no option '{key}'{nearest(key, OPTIONS)}.")
    folder = find_folder("hf", spec.body, spec.options.get("revision"))
    config = read_config(folder)
    kind = model_class(spec.text, config)
    # A pooling head is no part of a feature map, and most files of weights do not hold one.
    poolless = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    options = {"add_pooling_layer": False} if poolless else {}

    depth = _predicts_depth(config)
    architecture: Callable[[], nn.Module] = partial(kind, config, **options)
    if _around_backbone(config):
        architecture = partial(AutoBackbone.from_config, config.backbone_config)

    def fresh(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]), silent():
            torch.manual_seed(seed)
            return architecture()

    network = load_network(folder, kind, options)
    if _around_backbone(config):
        network, config = network.get_submodule("backbone"), config.backbone_config
    states = HiddenStates(spec.text, network)
    return StateEncoder(
        spec.text,
        network,
        states,
        spec.layers,
        normalisation(spec, folder),
        patch=_one_side(config, "patch_size"),
        made_for=_one_side(config, "image_size"),
        least=states.least,
        fresh=fresh,
        trained=Training(depth=depth),
        origin=Provenance(spec=spec.text, revision=revision_of(folder), licence=licence_of(folder)),
    )


def _one_side(config: Any, key: str) -> int | None:
    """A side given as a number or as two equal ones."""
    given = getattr(config, key, None)
    sides = list(given) if isinstance(given, Sequence) else [given]
    return sides[0] if len(set(sides)) == 1 and isinstance(sides[0], int) else None
