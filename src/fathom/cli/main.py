"""The ``fathom`` command: mounts the commands and turns errors into one sentence and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click
import typer.core

from fathom.errors import FathomError

COMMANDS = {
    "probe": ("fathom.cli.probe", "Decide what frozen encoders know of a feature such as depth."),
}
"""name -> (module, one line of help). A module is imported only when its command is called."""


class LazyGroup(typer.core.TyperGroup):
    """A command group that imports a command's module when it is needed, which keeps ``--help`` fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return load_command(name)


def load_command(name: str) -> click.Command:
    """The click command of `name`; its module offers either a Typer ``app`` or a function of the command's name."""
    import typer

    module: Any = importlib.import_module(COMMANDS[name][0])
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command(name=name)(getattr(module, name))
    command: click.Command = typer.main.get_command(app)
    command.name = name
    return command
