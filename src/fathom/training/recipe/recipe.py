"""Recipes: what is trained, on what, how. Typed, small, TOML on disk.

A recipe is a tree of frozen structs, one a section. A key that does not exist is refused with the nearest one that
does; a value of the wrong type or out of its bounds is refused in one sentence. The resolved recipe is saved beside
what it trained, and `train` of the saved file is the same training again.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from fathom.errors import DataError, UsageError, nearest
from fathom.files.inputs import exists, parse_toml, read_bytes
from fathom.files.limits import most
from fathom.models import MODELS
from fathom.training.recipe.conversion import OTHER_NAMES, convert
from fathom.training.recipe.sections import (
    LOSS_TERMS,
    AugmentSection,
    DataSection,
    FirstSection,
    LossSection,
    MemorySection,
    ModelSection,
    OptimSection,
    PrecisionSection,
    ScheduleSection,
    Section,
    StartSection,
    TrainSection,
    ValidationSection,
)


class Recipe(Section, frozen=True):
    """Everything that decides a training, apart from the data."""

    name: str
    model: ModelSection
    data: DataSection = DataSection()
    loss: LossSection = LossSection(mae=1.0)
    optim: OptimSection = OptimSection()
    schedule: ScheduleSection = ScheduleSection()
    train: TrainSection = TrainSection()
    memory: MemorySection = MemorySection()
    precision: PrecisionSection = PrecisionSection()
    augment: AugmentSection = AugmentSection()
    validation: ValidationSection = ValidationSection()
    first: FirstSection = FirstSection()
    start: StartSection = StartSection()

    def table(self) -> dict[str, Any]:
        """The recipe as plain values, in the layout of the file."""
        # Not by msgspec: it leaves out the defaults of dataclasses that it made.
        model = {"name": self.model.name, **dataclasses.asdict(self.model.config)}
        return {**msgspec.to_builtins(self), "model": model}

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


def _toml_value(value: Any) -> str:
    """A value on one line, lists and tables too (tomli-w gives every item of a list a line)."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


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
    key = OTHER_NAMES.get(key, key)
    found = [f"'{name}.{key}'" for name, kind in get_type_hints(Recipe).items() if key in get_type_hints(kind)]
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def from_table(table: Mapping[str, Any], origin: str = "recipe") -> Recipe:
    """A recipe from plain values; `origin` names it in messages."""
    model = table.get("model")
    if not isinstance(model, Mapping) or "name" not in model:
        raise UsageError(f"{origin}: [model] needs a name (known: {', '.join(sorted(MODELS))}).")
    name, options = model["name"], {key: value for key, value in model.items() if key != "name"}
    if not isinstance(name, str) or name not in MODELS:
        raise UsageError(f"{origin}: there is no model '{name}'{nearest(str(name), MODELS)}.")
    plain = {"name": name, **table, "model": ModelSection(name, convert(options, MODELS[name].Config, origin, "model"))}
    if isinstance(data := plain.get("data"), Mapping) and isinstance(data.get("size"), str):
        plain["data"] = {**data, "size": _size(data["size"])}
    recipe: Recipe = convert(plain, Recipe, origin)
    _check(recipe, origin)
    return recipe


def _size(text: str) -> list[int] | str:
    """``HxW``, as on the command line, as two numbers; other text as it is."""
    return [int(side) for side in text.split("x")] if re.fullmatch(r"\d{1,6}x\d{1,6}", text) else text


def _check(recipe: Recipe, origin: str) -> None:
    """Refuse values that mean nothing together."""
    height, width = recipe.data.size
    rules = (
        (recipe.train.accumulate <= recipe.train.batch, "train.accumulate should be at most train.batch"),
        (min(height, width) > 0, "data.size should be height and width in pixels"),
        (
            height * width <= most("pixels"),
            f"data.size should be at most {most('pixels'):,} pixels, or --limit pixels={height * width} given",
        ),
        (bool(recipe.loss.weights()), f"loss needs a weight for one of {', '.join(LOSS_TERMS)}"),
    )
    for holds, problem in rules:
        if not holds:
            raise UsageError(f"{origin}: {problem}.")
