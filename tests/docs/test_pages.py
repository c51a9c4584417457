"""The pages for readers: links lead somewhere, commands and options exist, code compiles, words are plain."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import typer

from fathom.cli.main import COMMANDS, load_command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERYWHERE = {"--help", "--version"}

STALE = (
    r"held against|goes by|\bafresh\b|\banew\b|\bwhereof\b|\bof old\b|\bsurely\b|\bceilings?\b|not shown|"
    r"\bis no (?:evidence|ceiling|backbone|image)\b"
)
"""Words that the project replaced or does not use; `ceiling` and `floor` remain as parts of a room."""


def options_of(command: typer.models.CommandInfo | object) -> set[str]:
    """Every option of a command and its sub-commands."""
    found: set[str] = set()
    for parameter in getattr(command, "params", []):
        found |= {*parameter.opts, *parameter.secondary_opts}
    for sub in getattr(command, "commands", {}).values():
        found |= options_of(sub)
    return found


@cache
def known(command: str) -> set[str]:
    return options_of(typer.main.get_command(load_command(command))) | EVERYWHERE


def commands(page: Path) -> list[tuple[str, str]]:
    """Each ``fathom COMMAND ...`` of a page with the text that follows it on its line."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    code = [*re.findall(r"```(?:bash|console|)\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
    return [
        found.groups()
        for block in code
        for line in block.splitlines()
        for found in [re.search(r"(?:^|[\s/])fathom ([a-z]+)\b(.*)", line.split(" #")[0])]
        if found is not None
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_exists(page: Path) -> None:
    wrong = []
    for command, rest in commands(page):
        if command not in COMMANDS:
            wrong.append(f"fathom {command}")
            continue
        options = re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", rest)
        wrong += [f"fathom {command} {option}" for option in options if option not in known(command)]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        if not block.startswith("# in "):  # a line for a registry, which test_extending runs
            compile(block, page.name, "exec", dont_inherit=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_words_are_those_of_the_project(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if re.search(STALE, line, re.IGNORECASE) and not re.search(r"walls?, |floor", line)]
    assert not found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help_phrase_in_plain_words(command: str) -> None:
    def check(group: object) -> None:
        for parameter in getattr(group, "params", []):
            text = getattr(parameter, "help", None)
            if parameter.name in ("help", "install_completion", "show_completion") or getattr(
                parameter, "hidden", False
            ):
                continue
            assert text and len(text.split()) >= 2 and text.rstrip().endswith((".", ")")), (
                command,
                parameter.name,
                text,
            )
            assert not re.search(STALE, text, re.IGNORECASE), (command, parameter.name, text)
        for sub in getattr(group, "commands", {}).values():
            check(sub)

    check(typer.main.get_command(load_command(command)))
