"""Recipes: what is trained, on what, how. Typed, small, TOML on disk.

A recipe is a tree of frozen dataclasses, one a section. A key that does not exist is refused with the nearest
one that does; a value of the wrong type is refused in one sentence. The resolved recipe is saved beside what
it trained, and `train` of the saved file is the same training again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_type_hints

from fathom.errors import DataError, UsageError, nearest
from fathom.files.inputs import exists, parse_toml, read_bytes
from fathom.files.limits import most
from fathom.training.frames.augment import AugmentConfig
from fathom.training.recipe.typed import build


@dataclass(frozen=True, slots=True)
class ModelSection:
    """Which network; `config` is its own typed `Config`, whose keys stand beside `name` in the file."""

    name: str
    config: Any


@dataclass(frozen=True, slots=True)
class DataSection:
    """What the network sees.

    Attributes:
        size: images are brought to this (H, W).
        detail: training frames are read this many times larger, so that `augment.zoom` up to it enlarges no pixel.
        cache: keep fitted frames in memory: `auto` when they take less than `cache_mb`, or `always`, or
            `never`.
        cache_mb: the most that `auto` may take.
        stream: read packed data from front to back (`fathom.training.frames.order`), for disks that seek slowly.
    """

    size: tuple[int, int] = (96, 128)
    detail: float = 1.0
    cache: Literal["auto", "always", "never"] = "auto"
    cache_mb: int = 4096
    stream: bool = False


@dataclass(frozen=True, slots=True)
class LossSection:
    """Weights of the terms; a term of weight 0 is not computed.

    Attributes:
        space: what the terms compare: `linear` (the target as it is: metres for depth), `log` (its logarithm) or `disparity` (10 m /
            depth in [1, 100], the target DenseDepth's weights were chosen for).
        data_range: of the target, for SSIM: the depth cap in metres, 100 for `disparity`, 1 for images.
    """

    mae: float = 0.0
    mse: float = 0.0
    gradient: float = 0.0
    ssim: float = 0.0
    silog: float = 0.0
    berhu: float = 0.0
    space: Literal["linear", "log", "disparity"] = "linear"
    data_range: float = 10.0

    def weights(self) -> dict[str, float]:
        """The terms with a weight, by name."""
        return {name: weight for name in LOSS_TERMS if (weight := getattr(self, name))}


MOST_RATE, MOST_SEED = 1e6, 2**32 - 1

LOSS_TERMS = ("mae", "mse", "gradient", "ssim", "silog", "berhu")


@dataclass(frozen=True, slots=True)
class OptimSection:
    """The optimiser.

    Attributes:
        clip: the largest gradient norm, 0 for no clipping.
        rates: factors of `lr` for the parameters whose names begin with a key: ``rates = {encoder = 0.1}``.
        freeze: beginnings of the names of parameters that stay as they are.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    clip: float = 1.0
    rates: Mapping[str, float] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScheduleSection:
    """The learning rate over time, as a factor of `optim.lr`.

    Attributes:
        name: `cosine` falls to `floor`; `onecycle` rises over the first 30 % and falls; `plateau` multiplies
            by `factor` when the validation loss has not improved for `patience` validations; `constant`.
        warmup: steps over which the rate rises linearly from 0 (not used by `onecycle`).
        floor: the last factor of cosine and one-cycle.
    """

    name: Literal["cosine", "onecycle", "plateau", "constant"] = "cosine"
    warmup: int = 0
    floor: float = 0.01
    factor: float = 0.5
    patience: int = 3


@dataclass(frozen=True, slots=True)
class TrainSection:
    """How long and in what portions.

    Attributes:
        steps: optimiser steps.
        batch: images of one optimiser step, over all processes.
        accumulate: how many parts each process computes its share of the batch in; changes memory, not the
            gradient (batch norm aside, whose statistics are those of a part).
        fraction: share of the training data that is used.
        fraction_by: whether `fraction` counts whole scenes or single frames.
        ema: decay of the exponential moving average of the weights, which is then the model; 0 for none.
        log_every: steps between lines of metrics.jsonl.
        save_every: steps between checkpoints.
        keep: checkpoints kept (the last ones); the best by validation is kept besides.
        compile: compile the network with `torch.compile`.
        tensorboard: write TensorBoard files beside metrics.jsonl.
        timeout: seconds after which a process that hears nothing from the others gives up.
    """

    steps: int = 1000
    batch: int = 16
    accumulate: int = 1
    seed: int = 0
    fraction: float = 1.0
    fraction_by: Literal["scene", "frame"] = "scene"
    ema: float = 0.0
    log_every: int = 10
    save_every: int = 200
    keep: int = 2
    compile: bool = False
    tensorboard: bool = False
    timeout: int = 600


@dataclass(frozen=True, slots=True)
class MemorySection:
    """`checkpoint` recomputes activations in the backward pass; `channels_last` is the memory layout."""

    checkpoint: bool = False
    channels_last: bool = True


@dataclass(frozen=True, slots=True)
class PrecisionSection:
    """Arithmetic of the network; weights and loss are float32 throughout.

    `auto` is bf16 where the device is fast at it, and float32 elsewhere.
    """

    compute: Literal["auto", "float32", "bf16", "fp16"] = "float32"


@dataclass(frozen=True, slots=True)
class ValidationSection:
    """What is held out, and when it is looked at.

    Attributes:
        scenes: share of the scenes held out whole: unseen rooms.
        frames: share of the training scenes' frames held out: new views of seen rooms.
        seed: which scenes and frames are held out; it does not change with `train.seed`, so that seeds can be compared.
        every: steps between validations; 0 for the end alone.
        patience: stop early after this many validations without a better unseen loss, and keep the best; 0
            for never.
        most: frames of each kind looked at while training goes on; the end looks at all.
        pictures: frames of unseen rooms drawn at the end.
    """

    scenes: float = 0.15
    frames: float = 0.1
    seed: int = 0
    every: int = 200
    patience: int = 0
    most: int = 500
    pictures: int = 6


@dataclass(frozen=True, slots=True)
class FirstSection:
    """A network that this one is built upon, trained first.

    Attributes:
        recipe: its recipe; empty where there is none.
        checkpoint: a trained one; when empty, `recipe` is trained first, in the same command.
        steps: optimiser steps of that training; 0 for what its recipe says.
    """

    recipe: str = ""
    checkpoint: str = ""
    steps: int = 0


@dataclass(frozen=True, slots=True)
class StartSection:
    """Weights that training starts from instead of random ones.

    Attributes:
        checkpoint: a run, checkpoint or shipped network of the same kind (`fathom train --from`); empty for none.
        encoder: a safetensors file of ImageNet weights for the encoder of `pretrained_unet`; empty for none.
    """

    checkpoint: str = ""
    encoder: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training, apart from the data."""

    name: str
    model: ModelSection
    data: DataSection = field(default_factory=DataSection)
    loss: LossSection = field(default_factory=lambda: LossSection(mae=1.0))
    optim: OptimSection = field(default_factory=OptimSection)
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    train: TrainSection = field(default_factory=TrainSection)
    memory: MemorySection = field(default_factory=MemorySection)
    precision: PrecisionSection = field(default_factory=PrecisionSection)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    validation: ValidationSection = field(default_factory=ValidationSection)
    first: FirstSection = field(default_factory=FirstSection)
    start: StartSection = field(default_factory=StartSection)

    def table(self) -> dict[str, Any]:
        """The recipe as plain values, in the layout of the file."""
        table = {f.name: to_plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "model"}
        name = table.pop("name")
        return {"name": name, "model": {"name": self.model.name, **to_plain(self.model.config)}, **table}

    def to_toml(self) -> str:
        """The recipe as a TOML document."""
        lines: list[str] = []
        for key, value in self.table().items():
            if isinstance(value, dict):
                lines += ["", f"[{key}]"]
                # TOML has no null: a key that is not there has its default, and None is only ever a default.
                lines += [f"{k} = {_toml_value(v)}" for k, v in value.items() if v is not None]
            else:
                lines.append(f"{key} = {_toml_value(value)}")
        return "\n".join(lines) + "\n"


def to_plain(value: Any) -> Any:
    """Dataclasses to dicts and tuples to lists, as JSON and TOML have them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value)


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files(__package__).joinpath("shipped")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(recipe: str | Path | Recipe, settings: Sequence[str] = ()) -> Recipe:
    """The recipe of a shipped name or a TOML file, with ``section.key=value`` settings applied in order.

    Raises:
        UsageError: the name is not known, or a key or value is not one the recipe has.
        DataError: the file is not TOML.
    """
    if isinstance(recipe, Recipe):
        table, origin = recipe.table(), f"recipe '{recipe.name}'"
    else:
        table, origin = _read_table(recipe)
    for setting in settings:
        _set(table, setting)
    return from_table(table, origin)


def _read_table(recipe: str | Path, inheriting: tuple[Path, ...] = ()) -> tuple[dict[str, Any], str]:
    path = Path(recipe)
    if path in inheriting:
        raise UsageError(f"{path}: base leads back to the recipe itself.")
    if path.suffix == ".toml" or exists(path):
        data = read_bytes(path, "toml-bytes")
        origin: str = str(path)
    elif str(recipe) in (names := recipe_names()):
        data = resources.files(__package__).joinpath("shipped", f"{recipe}.toml").read_bytes()
        origin = f"recipe '{recipe}'"
    else:
        raise UsageError(f"There is no recipe '{recipe}'{nearest(str(recipe), names)}.")
    table = parse_toml(data, path)
    table.setdefault("name", path.stem)
    if "base" in table:
        table = _inherited(table, path, origin, (*inheriting, path))
    return table, origin


def _inherited(table: dict[str, Any], path: Path, origin: str, inheriting: tuple[Path, ...]) -> dict[str, Any]:
    """The keys of `table` over those of the recipe that its ``base`` names: a shipped one, or a file beside it."""
    base = table.pop("base")
    if not isinstance(base, str):
        raise UsageError(f"{origin}: base should be the name of a recipe or a TOML file, not {base!r}.")
    whole, _ = _read_table(path.parent / base if base.endswith(".toml") else base, inheriting)
    for key, value in table.items():
        inner = whole.get(key)
        if key == "model" and isinstance(value, dict) and isinstance(inner, dict):
            other = value.get("name", inner.get("name")) != inner.get("name")
            whole[key] = value if other else {**inner, **value}
        else:
            whole[key] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, dict) else value
    return whole


def _set(table: dict[str, Any], setting: str) -> None:
    """Apply one ``section.key=value``; the value is read as TOML, or taken as text where it is none."""
    key, equals, text = setting.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot or not name:
        hint = _sections_with(section) if equals else ""
        raise UsageError(f"'{setting}' is not a setting; write section.key=value, such as optim.lr=1e-3{hint}.")
    try:
        value = parse_toml(f"value = {text}".encode("utf-8", "surrogateescape"), "--set")["value"]
    except DataError:
        value = text.strip()
    inner = table.setdefault(section, {})
    if not isinstance(inner, dict):
        raise UsageError(f"'{setting}': '{section}' is no section of a recipe.")
    if section == "model" and name == "name" and inner.get("name") != value:
        inner.clear()  # the other network's settings mean nothing here
    inner[name] = value


def _sections_with(key: str) -> str:
    """`` (did you mean 'optim.lr'?)`` for a key that one or more sections have."""
    hints = get_type_hints(Recipe)
    sections = [name for name, kind in hints.items() if dataclasses.is_dataclass(kind) and key in get_type_hints(kind)]
    meant = " or ".join(f"'{section}.{key}'" for section in sections)
    return f" (did you mean {meant}?)" if meant else ""


def from_table(table: Mapping[str, Any], origin: str = "recipe") -> Recipe:
    """A recipe from plain values; `origin` names it in messages."""
    from fathom.models import MODELS

    table = dict(table)
    known = {f.name for f in dataclasses.fields(Recipe)}
    for key in table:
        if key not in known:
            raise UsageError(f"{origin}: there is no section '{key}'{nearest(key, known)}.")
    model = table.pop("model", None)
    if not isinstance(model, Mapping) or "name" not in model:
        raise UsageError(f"{origin}: [model] needs a name (known: {', '.join(sorted(MODELS))}).")
    model_name = model["name"]
    if not isinstance(model_name, str) or model_name not in MODELS:
        raise UsageError(f"{origin}: there is no model '{model_name}'{nearest(str(model_name), MODELS)}.")
    options = {key: value for key, value in model.items() if key != "name"}
    config = build(MODELS[model_name].Config, options, f"{origin}: model")
    hints = get_type_hints(Recipe)
    parts = {
        key: value if key == "name" else build(hints[key], value, f"{origin}: {key}") for key, value in table.items()
    }
    if not isinstance(parts.get("name", ""), str):
        raise UsageError(f"{origin}: name should be text, not {parts['name']!r}.")
    recipe = Recipe(**{"name": model_name, **parts, "model": ModelSection(model_name, config)})
    _check(recipe, origin)
    return recipe


def _check(recipe: Recipe, origin: str) -> None:
    """Refuse values that have the right type and no meaning."""
    rules = (
        (recipe.train.steps > 0, "train.steps should be at least 1"),
        (recipe.train.batch > 0, "train.batch should be at least 1"),
        (
            0 < recipe.train.accumulate <= recipe.train.batch,
            "train.accumulate should be between 1 and train.batch",
        ),
        (0 < recipe.train.fraction <= 1, "train.fraction should be above 0 and at most 1"),
        (0 <= recipe.train.ema < 1, "train.ema should be at least 0 and below 1"),
        (recipe.train.keep > 0, "train.keep should be at least 1"),
        (recipe.train.save_every > 0, "train.save_every should be at least 1"),
        (recipe.train.log_every > 0, "train.log_every should be at least 1"),
        (0 < recipe.optim.lr <= MOST_RATE, f"optim.lr should be above 0 and at most {MOST_RATE:g}"),
        (recipe.optim.weight_decay >= 0, "optim.weight_decay should be at least 0"),
        (all(0 <= beta < 1 for beta in recipe.optim.betas), "optim.betas should be at least 0 and below 1"),
        (0 <= recipe.optim.momentum < 1, "optim.momentum should be at least 0 and below 1"),
        (recipe.optim.clip >= 0, "optim.clip should be at least 0"),
        (all(0 <= rate <= MOST_RATE for rate in recipe.optim.rates.values()), "optim.rates should be at least 0"),
        (0 <= recipe.train.seed <= MOST_SEED, f"train.seed should be from 0 to {MOST_SEED}"),
        (0 <= recipe.validation.seed <= MOST_SEED, f"validation.seed should be from 0 to {MOST_SEED}"),
        (
            recipe.data.size[0] * recipe.data.size[1] <= most("pixels"),
            f"data.size should be at most {most('pixels'):,} pixels",
        ),
        (0 < recipe.validation.scenes < 1, "validation.scenes should be between 0 and 1"),
        (0 <= recipe.validation.frames < 1, "validation.frames should be at least 0 and below 1"),
        (min(recipe.data.size) > 0, "data.size should be height and width in pixels"),
        (bool(recipe.loss.weights()), f"loss needs a weight for one of {', '.join(LOSS_TERMS)}"),
    )
    for holds, problem in rules:
        if not holds:
            raise UsageError(f"{origin}: {problem}.")
