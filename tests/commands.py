"""Command lines with options that nobody means: a seeded generator, and the verdict on each."""

from __future__ import annotations

import io
import os
import random
import signal
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import typer.main

from fathom.cli.main import COMMANDS, load_command, main
from tests.data.files import pairs

PATIENCE = 120
"""Seconds after which a command hangs."""

PATHS = (
    "", ".", "~nosuchuser/x", "[/n]", "[red]x", "a\nb", "x" * 300, "y" * 5000, "a\0b", os.fsdecode(b"\xff\xfe"), "-", "--", "é", "NUL",
    "C:\\x", "folder:", "nosuch:x", "folder:?", "rooms:?variant=x", "a?b=c", "?", "&", "=", "hf:", "hf:..", "timm:", "checkpoint:", "checkpoint:[1]",
    "module:", "module:sys:exit", "module:os", "module:x.py:y", "probe:", "packed:.", "tum:.", "\u202e", " ", "²",
)  # fmt: skip
"""None of them leads out of the folder that a command line runs in: the tests may run as root."""

NUMBERS = (
    "nan", "inf", "-inf", "-1", "0", "1e400", "1e-400", "99999999999999999999", "2147483648", "-0", "²", "٣", "1_0", "0x10", "1,2", "", " ", "true", "1e3",
    "0.5", "1", "3", "9" * 5000,
)  # fmt: skip
SIZES = ("0x0", "²x³", "1x1", "99999999x99999999", "240", "x", "-1x5", "16x24", "1e2x3", "24X16", "999999x999999", "")
WORDS = (
    "nosuch", "", "all", "[/n]", "a,b", ",", "none", "depth", "png", "svg,pdf", "key=value", "data.size=1", "optim.lr=nan", "model.name=[1]", "=", "a.b.c=1",
    "train.steps=-5", "[" * 500, "pixels=1", "1,2,3,4", "0,0=1", "5,5=nan", "inf,0,0,0", "unet", "tiny-unet", "cuda:99", "cpu", "meta",
)  # fmt: skip


QUICK = {
    "train": ("-r", "tiny-unet", "--set", "train.steps=1", "--set", "model.widths=[8, 16]", "--set", "data.size=16x24"),
    "render": ("--rooms", "1", "--views", "1", "--size", "8x8", "--samples", "1"),
    "probe": ("-e", "pixels", "--controls", "0"),
}
"""What keeps a command short where nothing odd overrides it."""


class HangError(Exception):
    """A command took too long."""


def _parameters(command: Any, words: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    """Every (command, its parser), sub-commands too."""
    inner = getattr(command, "commands", None)
    if not inner:
        return [(words, command)]
    return [found for name, sub in inner.items() for found in _parameters(sub, (*words, name))]


class Lines:
    """Command lines over tiny data in `folder`, which is also where they may write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = f"{pairs(folder / 'data', 2, 2, 12, 16)}?depth-scale=1000"
        self.parsers = [
            found for name in COMMANDS for found in _parameters(typer.main.get_command(load_command(name)), (name,))
        ]

    def draw(self, rng: random.Random) -> list[str]:
        """A command line: a command with odd arguments and up to four odd options."""
        words, parser = rng.choice(self.parsers)
        line = [*words, *QUICK.get(words[-1], ())]
        for parameter in parser.params:
            if parameter.param_type_name == "argument":
                line += [
                    self._value(parameter, rng) for _ in range(1 if parameter.nargs == 1 else rng.choice([1, 1, 2, 3]))
                ]
        options = [p for p in parser.params if p.param_type_name == "option" and p.opts[0] not in ("--help",)]
        for option in rng.sample(options, min(len(options), rng.randrange(5))):
            line.append(rng.choice(option.opts))
            if not option.is_flag:
                line.append(self._value(option, rng))
        if rng.random() < 0.05:
            line.insert(rng.randrange(len(line)), rng.choice(["--limit", "--nosuch", "--limit=x", "-Z", "\0"]))
        if rng.random() < 0.03:
            line[0] = rng.choice(["", "nosuch", "[/n]", "é", "--", "-q"])
        return line

    def _value(self, parameter: Any, rng: random.Random) -> str:
        kind, name = str(getattr(parameter, "type", "")).lower(), str(parameter.name)
        if name in ("data", "given", "inputs", "arguments", "test", "check") and rng.random() < 0.6:
            return self.data
        if "int" in kind or "float" in kind:
            return rng.choice(NUMBERS)
        if name in ("size", "grid"):
            return rng.choice([*SIZES, rng.choice(WORDS)])
        pool = rng.choice([PATHS, WORDS, NUMBERS]) if rng.random() < 0.4 else PATHS if "path" in kind or name in (
            "data", "runs", "run", "out", "inputs", "model", "encoder", "given", "arguments") else WORDS  # fmt: skip
        return rng.choice(pool)

    def case(self, rng: random.Random) -> tuple[list[str], int, str]:
        """Run one command line in this process; its words, exit code, and what is wrong (empty where nothing is)."""
        line = self.draw(rng)
        out, err = io.StringIO(), io.StringIO()
        before = Path.cwd()
        os.chdir(self.folder)

        def late(*_: object) -> None:
            raise HangError

        old = signal.signal(signal.SIGALRM, late)
        signal.alarm(PATIENCE)
        argv, sys.argv = sys.argv, ["fathom", *line]
        wrong, code = "", -1
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = main(line)
        except HangError:
            wrong = "hang"
        except SystemExit as error:
            wrong = f"ends the program with {error.code}"
        except BaseException:
            wrong = traceback.format_exc()[-1200:]
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, old)
            sys.argv = argv
            os.chdir(before)
        said = err.getvalue()
        if not wrong and code not in (0, 1, 2):
            wrong = f"exit code {code}"
        elif not wrong and "Traceback" in said:
            wrong = said[-800:]
        elif not wrong and code and not ("error: " in said.lower() or "Error" in said or "Usage" in said):
            wrong = f"exit code {code} without a sentence: {said[-300:]}"
        return line, code, wrong
