"""The ``fathom`` command: mounts the commands, and turns errors into one sentence and an exit code.

A command's module is imported only when that command is called, which keeps ``fathom --help`` fast.
"""

from __future__ import annotations

import importlib
import sys
import warnings

import typer

from fathom.errors import FathomError

COMMANDS = {
    "probe": ("fathom.cli.probe", "Decide what frozen encoders know of a feature such as depth."),
    "report": ("fathom.cli.report", "Write the page of a probe run."),
    "compare": ("fathom.cli.compare", "Compare probe runs, paired on their test scenes."),
    "train": ("fathom.cli.train", "Train a network by a recipe."),
    "evaluate": ("fathom.cli.evaluate", "Measure a trained network under a named protocol."),
    "predict": ("fathom.cli.predict", "Read depth from images with a trained network."),
    "data": ("fathom.cli.data", "Look at, check, split, render and pack data."),
}
"""name -> (module, one line of help)."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def load_command(name: str) -> typer.Typer:
    """The Typer app of a command: its module's ``app``, or one around the function of the command's name."""
    module = importlib.import_module(COMMANDS[name][0])
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command(name=name)(getattr(module, name))
    return app


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = "\n".join(f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items())
    return (
        "Usage: fathom COMMAND [OPTIONS]\n\n"
        "What does a vision model know about depth, and how well can depth be read from one image?\n\n"
        f"Commands:\n{lines}\n\n"
        "fathom COMMAND --help tells each command's options; fathom --version the version.\n"
    )


def run(arguments: list[str] | None = None) -> None:
    """Entry point of the ``fathom`` script; always ends the process."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(main(given))


def _plain_warnings() -> None:
    """Warnings about data as one line, the first three of a kind; other libraries' warnings are not the user's concern."""
    seen: dict[type[Warning], int] = {}

    def show(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
        if category.__module__.startswith("fathom"):
            seen[category] = seen.get(category, 0) + 1
            if seen[category] <= 3:
                print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_overview(), end="")
        return 0
    if arguments[0] in ("--version", "-V"):
        from fathom import __version__

        print(f"fathom {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        from fathom.errors import nearest

        print(f"error: There is no command '{name}'{nearest(name, COMMANDS)}.", file=sys.stderr)
        return 2
    _plain_warnings()
    try:
        code = int(load_command(name)(args=rest, prog_name=f"fathom {name}", standalone_mode=False) or 0)
        if code != INTERRUPTED:
            return code
        # Some versions of the argument parser turn Ctrl-C into this code themselves.
        raise KeyboardInterrupt
    except FathomError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        # The argument parser's own errors carry their exit code and know how to show themselves.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        return int(getattr(error, "exit_code", 2))
