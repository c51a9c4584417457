"""The ``fathom`` command: mounts the commands, and turns errors into one sentence and an exit code.

A command's module is imported only when that command is called, which keeps ``fathom --help`` fast.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import traceback
import warnings
from io import TextIOWrapper
from pathlib import Path
from types import FrameType, TracebackType

import typer

from fathom.errors import FathomError, UsageError

COMMANDS = {
    "probe": ("fathom.cli.probe", "Decide what frozen encoders know of a feature such as depth."),
    "report": ("fathom.cli.report", "Write the page of a probe run or of an evaluation again."),
    "compare": ("fathom.cli.compare", "Compare probe runs, or evaluations, paired on their test scenes."),
    "train": ("fathom.cli.train", "Train a network by a recipe."),
    "evaluate": ("fathom.cli.evaluate", "Measure depth models on the same frames, with paired differences."),
    "calibrate": ("fathom.cli.calibrate", "Find how far a metric depth model is off in new scenes."),
    "adapt": ("fathom.cli.adapt", "Fit a depth model to your room or camera from frames with depth."),
    "predict": ("fathom.cli.predict", "Read depth from images with any depth model."),
    "data": ("fathom.cli.data", "Look at, check, split, render and pack data."),
}
"""name -> (module, one line of help)."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and after SIGTERM, as shells have them; 1 is a failure and 2 a command that cannot be meant."""

LONGEST_MESSAGE = 4000
"""Characters of an error: a file can make its own text part of a sentence about it."""


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
        "Every command takes --limit NAME=VALUE to raise a limit on what is read (docs/limits.md).\n"
    )


def run(arguments: list[str] | None = None) -> None:
    """Entry point of the ``fathom`` script; always ends the process."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        code = main(given)
    except KeyboardInterrupt:  # before or after what `main` guards
        code = INTERRUPTED
    sys.exit(code)


def _plain_warnings() -> None:
    """Warnings about data as one line, the first three of a kind; other libraries' warnings are not the user's concern."""
    seen: dict[type[Warning], int] = {}

    def show(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
        if category.__module__.startswith("fathom"):
            seen[category] = seen.get(category, 0) + 1
            if seen[category] <= 3:
                print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own, but for the thread that hands tensors on: where the other process has ended, the command says so itself."""
    handing_on = trace is not None and trace.tb_frame.f_code.co_filename.endswith("resource_sharer.py")
    if not (handing_on and isinstance(error, ConnectionError | EOFError)):
        sys.__excepthook__(kind, error, trace)


def _unraisablehook(found: sys.UnraisableHookArgs) -> None:
    """Python's own, but for a killed reading process, of which PyTorch may say so while an object is removed, and for a loader that a
    signal interrupted while it was made."""
    name = getattr(found.object, "__qualname__", "")
    if not _of_killed_worker(found.exc_value) and name != "_MultiProcessingDataLoaderIter.__del__":
        sys.__unraisablehook__(found)


def _say(message: object) -> None:
    """Print an error as one line on standard error."""
    from fathom.progress import printable

    text = printable(message, one_line=True)
    print(text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]} ...", file=sys.stderr)


def _limits(arguments: list[str]) -> list[str]:
    """Take ``--limit NAME=VALUE``, which every command has, out of `arguments` and set the limits."""
    from fathom.files.limits import set_limits

    if broken := next((argument for argument in arguments if "\0" in argument), None):
        raise UsageError(f"{broken!r} holds a zero byte, which no name can have.")
    rest, settings, given = [], [], iter(arguments)
    for argument in given:
        if argument == "--":
            rest += [argument, *given]
        elif argument == "--limit":
            settings.append(next(given, ""))
        elif argument.startswith("--limit="):
            settings.append(argument.removeprefix("--limit="))
        else:
            rest.append(argument)
    if "" in settings:
        raise UsageError("--limit needs NAME=VALUE, such as --limit pixels=4e8.")
    set_limits(settings)
    return rest


class Terminated(SystemExit):
    """The end of the program by SIGTERM."""


def _end_on_sigterm() -> None:
    """Let SIGTERM unwind the program as Ctrl-C does, so that temporary files are removed; training saves first."""
    if threading.current_thread() is threading.main_thread():

        def end(number: int, frame: FrameType | None) -> None:
            signal.signal(number, signal.SIG_DFL)
            raise Terminated(TERMINATED)

        signal.signal(signal.SIGTERM, end)


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A frame is called after its file, whose name need not be UTF-8: print it with escapes rather than not at all.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_overview(), end="")
        return 0
    if arguments[0] in ("--version", "-V"):
        from fathom import __version__

        print(f"fathom {__version__}")
        return 0
    _plain_warnings()
    sys.excepthook, sys.unraisablehook = _excepthook, _unraisablehook
    _end_on_sigterm()
    try:
        return _run(*_limits(arguments))
    except FathomError as error:
        _say(f"error: {error}")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted; nothing half-written was left behind")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has gone
        return 1
    except OSError as error:
        if error.strerror is None:
            raise
        _say(f"error: {error.filename or 'A file'}: cannot be read or written ({error.strerror}).")
        return 1
    except MemoryError as error:
        _say(f"error: The memory does not suffice ({error}); use smaller sizes or batches." if str(error) else
             "error: The memory does not suffice; use smaller sizes or batches.")  # fmt: skip
        return 1
    except Exception as error:
        # The argument parser's own errors carry their exit code and know how to show themselves.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        return int(getattr(error, "exit_code", 2))


def _of_killed_worker(error: BaseException | None) -> bool:
    """Whether PyTorch said that a reading process ended: wherever the main process was, so that other errors may come of it.

    So does an EOFError of the pipe from that process, which the argument parser takes for the end of the user's input.
    """
    while error is not None:
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid"):
            return True
        if isinstance(error, EOFError) and any(
            Path(frame.filename).parent.name == "multiprocessing" for frame in traceback.extract_tb(error.__traceback__)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _run(name: str = "", *rest: str) -> int:
    """Run the command `name`; its exit code."""
    if name not in COMMANDS:
        from fathom.errors import nearest

        raise UsageError(f"There is no command '{name}'{nearest(name, COMMANDS)}.")
    command = typer.main.get_command(load_command(name))  # calling the app itself would set another excepthook
    try:
        code = int(command(args=list(rest), prog_name=f"fathom {name}", standalone_mode=False) or 0)
    except Exception as error:
        if not _of_killed_worker(error):
            raise
        said = "A process that reads data was killed, by hand or for lack of memory; use fewer --workers."
        raise FathomError(said) from error
    if code == INTERRUPTED:
        # Some versions of the argument parser turn Ctrl-C into this code themselves.
        raise KeyboardInterrupt
    return code
