"""Ten thousand damaged files, and faults injected into every command that writes.

python benchmarks/soak.py cases [--count 10000] [--formats npy+r3d] [--start 0]
python benchmarks/soak.py commands [--count 400]
python benchmarks/soak.py faults [--count 100] [--kinds kill,term,int,...] [--commands export,pack,...]

``cases`` damages a file of each format in turn and reads it, in a process of its own for each format: a crash ends that process
alone, and a case that takes longer than 30 s is a hang. It prints, by format: clean (one sentence), accepted (other values that no
checksum covers), same (the damage does not show), tracebacks, hangs, crashes, and silently wrong (other values although a checksum
covers the file).

``commands`` runs command lines with odd options, drawn from a seed (``tests/commands.py``): each ends with one sentence and 0, 1 or 2.

``faults`` injects one fault into a command, of each kind `count` times over the commands in turn; what must hold afterwards stands in
``tests/injection.py``. A full disk is tried as root alone. All exit with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PATIENCE = 30
"""Seconds after which a single case is a hang."""

COLUMNS = ("cases", "clean", "accepted", "same", "traceback", "hang", "crash", "silently wrong")


class HangError(Exception):
    """A case took too long."""


def run_cases(name: str, start: int, count: int, results: Any) -> None:
    """Damage and read one format `count` times; puts (case, verdict, message) into `results`."""
    import torch

    from tests.layouts import EVERY
    from tests.mutations import Mutant, seeds

    torch.set_num_threads(1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # the EXR library speaks to standard error

    def late(*_: object) -> None:
        raise HangError

    signal.signal(signal.SIGALRM, late)
    with tempfile.TemporaryDirectory() as folder:
        mutant = Mutant(EVERY[name], Path(folder) / "x")
        for number, rng in zip(range(start, start + count), seeds(start, count), strict=True):
            results.put((number, "begun", ""))
            signal.alarm(PATIENCE)
            try:
                verdict, said = mutant.case(rng)
            except HangError:
                verdict, said = "hang", ""
            signal.alarm(0)
            results.put((number, verdict, said))


def cases(names: list[str], start: int, count: int) -> bool:
    """The table of all formats; whether nothing was wrong."""
    each = -(-count // len(names))
    total: Counter[str] = Counter()
    print("| format | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|", flush=True)
    for name in names:
        found = cases_of(name, start, each)
        total += found
        print(f"| {name} | " + " | ".join(str(found[column]) for column in COLUMNS) + " |", flush=True)
    print("| all | " + " | ".join(str(total[column]) for column in COLUMNS) + " |", flush=True)
    return not any(total[column] for column in COLUMNS[4:])


def cases_of(name: str, start: int, count: int) -> Counter[str]:
    """Counts of one format; a process that a case crashes is started again behind that case."""
    context = multiprocessing.get_context("fork")
    found: Counter[str] = Counter(cases=count)
    at, end = start, start + count
    while at < end:
        results = context.SimpleQueue()
        child = context.Process(target=run_cases, args=(name, at, end - at, results))
        child.start()
        begun = at - 1
        while child.is_alive() or not results.empty():
            if results.empty():
                time.sleep(0.01)
                continue
            number, verdict, said = results.get()
            begun = number
            if verdict == "begun":
                continue
            at = number + 1
            found[verdict] += 1
            if verdict in ("traceback", "silently wrong", "hang"):
                print(f"  {name}, case {number}: {verdict} {said[-600:]}", file=sys.stderr, flush=True)
        child.join()
        if at < end:
            found["crash"] += 1
            print(f"  {name}, case {begun}: the process ended with {child.exitcode}", file=sys.stderr, flush=True)
            at = max(at, begun) + 1
    return found


def faults(names: list[str], kinds: list[str], count: int, seed: int) -> bool:
    """Inject `count` faults of each kind, over the commands in turn; prints a table and whether nothing was wrong.

    The kinds take turns, so that an interrupted run (Ctrl-C) has a table of all of them too.
    """
    from tests.injection import COMMANDS, VERDICTS, Workshop, can_mount, commands_for

    table: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # one fault is to have no rights there, which the way there must not take first
        workshop = Workshop(Path(folder))
        if "disk full" in table and not can_mount(Path(folder) / "disk"):
            print("A full disk needs root, to mount a small one: left out.", file=sys.stderr)
            table.pop("disk full")
        with suppress(KeyboardInterrupt):
            for number, kind in itertools.product(range(count), table):
                chosen = [name for name in commands_for(kind) if name in (names or COMMANDS)]
                if not chosen:
                    continue
                name = chosen[number % len(chosen)]
                wrong, early = workshop.case(name, kind, f"{seed} {name} {kind} {number}")
                table[kind] += Counter({"injected": 1, "ended before it": int(early)})
                table[kind] += Counter({verdict for verdict, _ in wrong})
                table[kind]["commands"] = min(len(chosen), number + 1)
                for verdict, sentence in wrong:
                    print(f"  {name}, {kind} {number}: {verdict}: {sentence}", file=sys.stderr, flush=True)
        workshop.close()
    table["all"] = sum(table.values(), Counter())
    table["all"]["commands"] = len(names or COMMANDS)
    columns = ("commands", "injected", "ended before it", *VERDICTS)
    print("| fault | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for kind, found in table.items():
        print(f"| {kind} | " + " | ".join(str(found[column]) for column in columns) + " |")
    return not any(table["all"][verdict] for verdict in VERDICTS)


def commands(start: int, count: int) -> bool:
    """Run odd command lines; prints how they ended and whether each did so in a sentence."""
    from tests.commands import Lines

    os.environ["HF_HUB_OFFLINE"] = "1"
    ended: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        lines = Lines(Path(folder))
        for number in range(start, start + count):
            words, code, wrong = lines.case(random.Random(number))
            ended["wrong" if wrong else f"exit {code}"] += 1
            if wrong:
                print(f"  {number}: {words}: {wrong}", file=sys.stderr, flush=True)
    print(f"{count} command lines: " + ", ".join(f"{ended[key]} {key}" for key in sorted(ended)))
    return not ended["wrong"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cases", "commands", "faults"])
    parser.add_argument("--count", type=int, default=None, help="cases altogether, or faults of each kind")
    parser.add_argument("--start", type=int, default=1000, help="number of the first case, or seed of the faults")
    parser.add_argument("--formats", default="", help="joined by +; all of them by default")
    parser.add_argument("--kinds", default="", help="joined by commas; all of them by default")
    parser.add_argument("--commands", default="", help="joined by commas; all of them by default")
    given = parser.parse_args()
    if given.what == "cases":
        from tests.layouts import EVERY

        names = given.formats.split("+") if given.formats else list(EVERY)
        good = cases(names, given.start, given.count or 10_000)
    elif given.what == "commands":
        good = commands(given.start, given.count or 400)
    else:
        from tests.injection import KINDS

        names = given.commands.split(",") if given.commands else []
        kinds = given.kinds.split(",") if given.kinds else list(KINDS)
        good = faults(names, kinds, given.count or 100, given.start)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
