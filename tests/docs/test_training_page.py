"""docs/training.md and docs/own-loop.md say what the code does: every recipe key, every recipe, and a loop that runs."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from fathom.models import MODELS
from fathom.training.recipe import Recipe, recipe_names

DOCS = Path(__file__).parents[2] / "docs"


def rows() -> list[str]:
    """A row of the table for every key of a recipe, as the code has it."""
    found = []
    for section, kind in get_type_hints(Recipe).items():
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)) or section == "model":
            continue
        hints = get_type_hints(kind, include_extras=True)
        for field in msgspec.structs.fields(kind):
            assert get_origin(hints[field.name]) is Annotated
            meta = next(part for part in hints[field.name].__metadata__ if isinstance(part, msgspec.Meta))
            default = getattr(getattr(Recipe(name="", model=None), section), field.name)  # type: ignore[arg-type]
            found.append(
                f"| `{section}.{field.name}` | {shown(default)} | {choices(hints[field.name])}{meta.description} |"
            )
    return found


def shown(default: Any) -> str:
    if isinstance(default, tuple | dict) and not default:
        return "`[]`" if isinstance(default, tuple) else "`{}`"
    return f"`{json.dumps(default)}`"


def choices(hint: Any) -> str:
    inner = get_args(hint)[0]
    return f"{', '.join(f'`{value}`' for value in get_args(inner))}: " if "Literal" in str(get_origin(inner)) else ""


def test_every_key_of_a_recipe_stands_in_the_page_with_its_meaning_and_default() -> None:
    page = (DOCS / "training.md").read_text()
    missing = [row for row in rows() if row not in page]
    assert not missing, "\n".join(rows())
    assert page.count("\n| `loss.") == sum(row.startswith("| `loss.") for row in rows())


def test_every_setting_of_a_network_stands_in_the_page() -> None:
    page = (DOCS / "models.md").read_text()
    settings = page[page.index("## Settings") : page.index("## Losses")]
    for name, model in MODELS.items():
        assert f"**`{name}`**" in settings, name
        for field in dataclasses.fields(model.Config):
            shown = "gradient_*" if field.name.startswith("gradient_") else field.name
            assert f"`{shown}`" in settings, f"{name}: {field.name}"


def test_every_recipe_is_named_for_what_it_is() -> None:
    page = (DOCS / "training.md").read_text()
    table = page[page.index("## Which recipe for what") : page.index("## Recipes")]
    assert set(re.findall(r"`([\w-]+)`", table)) >= {name for name in recipe_names() if not name.startswith("tiny-")}


def test_the_loop_of_your_own_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "own-loop.md").read_text(), re.DOTALL)
    space: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "own-loop.md", "exec"), space)
    losses = space["losses"]
    assert sum(losses[-8:]) < sum(losses[:8])
