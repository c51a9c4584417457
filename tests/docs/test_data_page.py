"""docs/data.md names every kind of data and every option."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from fathom.data.sources import SOURCES

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
ELSEWHERE = {"rooms": "rooms.md", "packed": "packing.md"}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_is_in_the_table_with_its_options(kind: str) -> None:
    assert re.search(rf"^\| \[?`{kind}`", PAGE, re.MULTILINE)
    if kind in ELSEWHERE:
        return
    section = PAGE.split(f"\n### {kind}\n")[1].split("\n### ")[0].split("\n## ")[0]
    common = PAGE.split("Options that several sources take")[1].split("\n\n")[0]
    options = [
        name.replace("_", "-")
        for name, parameter in inspect.signature(SOURCES[kind].load()).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "skip_bad"
    ]
    missing = [option for option in options if f"`{option}" not in section + common and f", `{option}" not in section]
    # Options of targets are explained with the features.
    assert [option for option in missing if not option.startswith("target")] == []
