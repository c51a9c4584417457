"""Ten thousand damaged files, and faults injected into every command that writes.

python benchmarks/soak.py cases [--count 10000] [--formats npy+r3d] [--start 0]
python benchmarks/soak.py faults [--count 100] [--kinds kill,term,int,full,read-only] [--commands export,pack]

``cases`` damages a file of each format in turn and reads it, in a process of its own for each format: a crash ends that process
alone, and a case that takes longer than 30 s is a hang. It prints, by format: clean (one sentence), accepted (other values that no
checksum covers), same (the damage does not show), tracebacks, hangs, crashes, and silently wrong (other values although a checksum
covers the file).

``faults`` runs each command, injects one fault at a random moment, and then looks at what is left: the folder reads as it was
before, or as whole new data, or is refused in a sentence; the same command run again ends with the bytes of a run that was never
disturbed; the exit code says interrupted (130), terminated (143) or failed (1); no temporary file is left after a signal that can
be handled. Both exit with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
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

    from tests.mutations import Mutant, seeds

    torch.set_num_threads(1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # the EXR library speaks to standard error

    def late(*_: object) -> None:
        raise HangError

    signal.signal(signal.SIGALRM, late)
    with tempfile.TemporaryDirectory() as folder:
        mutant = Mutant(name, Path(folder) / "x")
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


@dataclass(frozen=True)
class Command:
    """A command that writes, for fault injection.

    Attributes:
        arguments: of the command line, with DATA and OUT to be replaced.
        read: reads what is in the folder OUT, as the next command would; its result is compared.
        again: further arguments of the second run.
    """

    arguments: tuple[str, ...]
    read: Callable[[Path], Any]
    again: tuple[str, ...] = ()


def read_frames(spec: str) -> Any:
    from fathom.data.sources import load

    return [(s.id, s.scene, s.image.numpy().tobytes(), s.depth.numpy().tobytes()) for s in load(spec)]


def read_weights(run: Path) -> Any:
    from fathom.models.saved import load_model

    trained = load_model(run)
    return trained.info["step"], [tensor.numpy().tobytes() for tensor in trained.model.state_dict().values()]


def read_json_file(path: Path) -> Any:
    from fathom.files.inputs import read_json

    return read_json(path, dict, checksum=False)


COMMANDS = {
    "export": Command(("data", "export", "DATA", "-o", "OUT"), lambda out: read_frames(f"folder:{out}?depth-scale=1000")),
    "pack": Command(("data", "pack", "DATA", "-o", "OUT", "--shard-mb", "0.01"), lambda out: read_frames(f"packed:{out}")),
    "split": Command(("data", "split", "DATA", "-o", "OUT/split.json"), lambda out: read_json_file(out / "split.json")),
    "train": Command(
        (
            "train", "DATA", "--recipe", "tiny-unet", "--set", "model.widths=[8, 16]", "--set", "model.head_width=8",
            "--set", "data.size=16x24", "--set", "train.steps=12", "--set", "train.batch=4", "--set", "train.save_every=2",
            "--set", "train.keep=9", "--device", "cpu", "--out", "OUT",
        ),
        read_weights,
        ("--resume",),
    ),
}  # fmt: skip
"""By name; the last one resumes and must give the same bits."""

KINDS = ("kill", "term", "int", "full", "read-only")
EXITS = {"kill": {-9, 0}, "term": {143, -15, 0}, "int": {130, -2, 0}, "full": {1, 0}, "read-only": {1, 0}}
"""Exit codes that are right; 0 where the command was faster than the fault, or had nothing to write any more."""

ODD = (
    {}, {"LANG": "C", "LC_ALL": "C"}, {"HOME": "/nonexistent"}, {"TZ": "Pacific/Kiritimati"}, {"PYTHONUTF8": "0", "LC_ALL": "C"},
)  # fmt: skip
"""Environments, one drawn for each fault."""

PLACES = ("out", "o u t", "[/n] [red]", os.fsdecode(b"caf\xe9"), "C:\\windows\\style", "é" * 60)
"""Names of output folders, one drawn for each fault."""


def start(
    command: Command, data: Path, out: Path, environment: dict[str, str], **options: Any
) -> subprocess.Popen[str]:
    words = [word.replace("DATA", f"{data}?depth-scale=1000").replace("OUT", str(out)) for word in command.arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "fathom", *words, *options.pop("more", ()), "-q"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, **options,
    )  # fmt: skip


def inject(kind: str, command: Command, data: Path, out: Path, seconds: float, rng: random.Random) -> tuple[int, str]:
    """Run the command with one fault; its exit code and standard error."""
    environment = rng.choice(ODD)
    most = rng.choice([0, 1, 100, 1000, 5000, 20_000])

    def prepare() -> None:
        # A shell starts what runs in the background with Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if kind == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    limits: dict[str, Any] = {"umask": rng.choice([0o022, 0o077]), "preexec_fn": prepare}
    if kind == "read-only":
        # A file stands where the folder should: also root cannot write there.
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("in the way")
    child = start(command, data, out, environment, **limits)
    if kind in ("kill", "term", "int"):
        # The first part of the time is Python's own start.
        time.sleep(rng.uniform(0.2, 1.05) * seconds)
        child.send_signal({"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[kind])
    said = child.communicate(timeout=600)[1]
    if kind == "read-only" and out.is_file():
        out.unlink()
    return child.returncode, said


def judge(kind: str, code: int, said: str, command: Command, out: Path, whole: Any) -> list[str]:
    """What is wrong with what a fault left behind."""
    from fathom.errors import FathomError

    wrong = []
    if code not in EXITS[kind]:
        wrong.append(f"exit code {code} ({said[-300:]})")
    if "Traceback" in said and kind != "kill" and "KeyboardInterrupt" not in said:
        wrong.append(f"traceback: {said[-600:]}")
    left = [path.name for path in out.rglob(".*.part*")] if out.is_dir() else []
    if left and kind in ("term", "int", "full") and code in (1, 130, 143):
        wrong.append(f"left {left[0]}")
    try:
        found = command.read(out)
    except FathomError:
        return wrong
    if found != whole and command is not COMMANDS["train"]:
        wrong.append("half-written data were read as whole")
    return wrong


def faults(names: list[str], kinds: list[str], count: int, seed: int) -> bool:
    """Inject `count` faults of each kind into each command; prints a table and whether nothing was lost."""
    from tests.data.files import pairs

    good = True
    print("| command | fault | injected | finished before it | lost or wrong |\n|---|---|---|---|---|", flush=True)
    for name in names:
        command = COMMANDS[name]
        with tempfile.TemporaryDirectory() as folder:
            data = pairs(Path(folder) / "data", 6, 3)
            began = time.monotonic()
            plain = start(command, data, Path(folder) / "whole", {})
            said = plain.communicate(timeout=900)[1]
            if plain.returncode != 0:
                raise SystemExit(f"{name} fails undisturbed: {said}")
            seconds = time.monotonic() - began
            whole = command.read(Path(folder) / "whole")
            for kind in kinds:
                rng = random.Random(f"{seed} {name} {kind}")
                early, lost = 0, 0
                for number in range(count):
                    out = Path(folder) / f"{kind}-{number}" / rng.choice(PLACES)
                    code, said = inject(kind, command, data, out, seconds, rng)
                    early += code == 0
                    wrong = judge(kind, code, said, command, out, whole)
                    more = command.again if command.again and (out / "recipe.toml").exists() else ()
                    again = start(command, data, out, {}, more=more)
                    told = again.communicate(timeout=900)[1]
                    # The fault came after the last byte: the folder holds the whole result, and says so.
                    finished = again.returncode == 2 and command.read(out) == whole
                    if again.returncode != 0 and not finished:
                        wrong.append(f"the same command fails afterwards: {told[-300:]}")
                    elif command.read(out) != whole:
                        wrong.append("the second run gives other data")
                    lost += bool(wrong)
                    for sentence in wrong:
                        print(f"  {name}, {kind} {number}: {sentence}", file=sys.stderr, flush=True)
                    shutil.rmtree(out.parent, ignore_errors=True)
                print(f"| {name} | {kind} | {count} | {early} | {lost} |", flush=True)
                good &= not lost
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cases", "faults"])
    parser.add_argument("--count", type=int, default=None, help="cases altogether, or faults of each kind and command")
    parser.add_argument("--start", type=int, default=1000, help="number of the first case, or seed of the faults")
    parser.add_argument("--formats", default="", help="joined by +; all of them by default")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--commands", default=",".join(COMMANDS))
    given = parser.parse_args()
    if given.what == "cases":
        from tests.mutations import FORMATS

        names = given.formats.split("+") if given.formats else list(FORMATS)
        good = cases(names, given.start, given.count or 10_000)
    else:
        good = faults(given.commands.split(","), given.kinds.split(","), given.count or 100, given.start)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
