"""Faults injected into every command that writes: ten of a kind in the tests, a hundred in ``benchmarks/soak.py``.

A `Workshop` prepares tiny data and models once, imports what the commands use, and forks a process for each case, so that a case
costs the command and not Python's start. In each case a command runs with one fault; then the folder is read as the next command
would read it, and the same command runs again undisturbed. After a signal, a quarter of the cases strike that second run too, and
a third one must end well.

What must hold: the exit code says interrupted (130), terminated (143) or failed (1, 2); nothing but a sentence is printed; no
temporary file is left after a fault that can be handled; every file that stands there is whole and what an undisturbed run writes,
or is refused in a sentence; the second run ends with all that an undisturbed run writes.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fathom.cli import main as cli
from fathom.errors import FathomError
from tests.data.files import pairs

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120
"""Seconds after which a run hangs."""

MM = "?depth-scale=1000"
Pieces = dict[str, Any]
Reader = Callable[[Path], Any]


def _frames(spec: str) -> Any:
    from fathom.data.sources import load

    return [(s.id, s.scene, s.image.numpy().tobytes(), s.depth.numpy().tobytes()) for s in load(spec)]


def _tensors(folder: Path) -> Any:
    from fathom.models.saved import load_model

    return [tensor.numpy().tobytes() for tensor in load_model(folder).model.state_dict().values()]


def _steps(run: Path) -> Any:
    """The weights that a run offers, and of which step."""
    from fathom.models.saved import find_checkpoint

    folder, _ = find_checkpoint(run)
    return folder.name, _tensors(folder)


def _probe(run: Path) -> Any:
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.saved.probes import load_probes
    from fathom.report.probe.picture_store import load_pictures

    evidence = Evidence.load(run)
    probes = [(probe.encoder, probe.layer, probe.weight.numpy().tobytes()) for probe in load_probes(run).probes]
    return [row.errors for row in evidence.rows], probes, [p.id for p in load_pictures(evidence, run)]


def _evaluation(run: Path) -> Any:
    from fathom.evaluation.result import Evaluation

    return [result.scores for table in Evaluation.load(run).record.tables for result in table.results]


def _calibration(file: Path) -> Any:
    from fathom.depth_models.calibration import read_calibration

    return read_calibration(file).quantiles


def _adapted(folder: Path) -> Any:
    from fathom.depth_models.adapted import open_adapted

    return open_adapted(folder, "x").correction


def _split(file: Path, data: str) -> Any:
    from fathom.data.sources import load
    from fathom.data.splits import load_split

    return {name: sorted(part.ids) for name, part in load_split(file, load(data)).items()}


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        arguments: of the command line; DATA, RUN, PROBE, EVALUATION, IMAGES and OUT stand for paths.
        read: reads what is in the folder OUT, as the next command would; its result is compared.
        again: further arguments of a run over what an earlier one left, once OUT holds the file `once`.
        once: see `again`.
        workers: whether it takes ``--workers``.
    """

    arguments: tuple[str, ...]
    read: Callable[[Path, str], Any]
    again: tuple[str, ...] = ()
    once: str = ""
    workers: bool = False


TINY = (
    "train", "DATA", "--recipe", "tiny-unet", "--set", "model.widths=[8, 16]", "--set", "model.head_width=8",
    "--set", "data.size=16x24", "--set", "train.steps=6", "--set", "train.batch=4", "--set", "train.save_every=2",
    "--set", "train.keep=9", "--device", "cpu", "--out", "OUT",
)  # fmt: skip

COMMANDS: dict[str, Command] = {
    "train": Command(TINY, lambda out, _: _steps(out), ("--resume",), "recipe.toml", workers=True),
    "probe": Command(
        ("probe", "DATA", "-e", "pixels", "--size", "16x24", "--controls", "0", "--pictures", "1", "-o", "OUT",
         "--cache", "OUT/cache", "--no-label-curve", "--baselines", "constant,position"),
        lambda out, _: _probe(out), ("--overwrite",), "evidence.json", workers=True,
    ),
    "evaluate": Command(
        ("evaluate", "RUN", "DATA", "--size", "16x24", "--pictures", "1", "-o", "OUT"),
        lambda out, _: _evaluation(out), workers=True,
    ),
    "predict": Command(
        ("predict", "RUN", "IMAGES", "-o", "OUT", "--npy", "--pointcloud", "ply", "--json", "OUT/all.json"), lambda out, _: None),
    "calibrate": Command(("calibrate", "RUN", "MORE", "-o", "OUT/calibration.json"), lambda out, _: _calibration(out / "calibration.json")),
    "adapt": Command(("adapt", "RUN", "DATA", "-o", "OUT"), lambda out, _: _adapted(out)),
    "pack": Command(("data", "pack", "DATA", "-o", "OUT", "--shard-mb", "0.02"), lambda out, _: _frames(f"packed:{out}?check=true")),
    "export": Command(
        ("data", "export", "DATA", "-o", "OUT"), lambda out, _: _frames(f"folder:{out}{MM}"), ("--overwrite",), "export.json"
    ),
    "split": Command(("data", "split", "DATA", "-o", "OUT/split.json"), lambda out, data: _split(out / "split.json", data)),
    "info": Command(("data", "info", "DATA", "-o", "OUT", "--frames", "1", "--json", "OUT/info.json"), lambda out, _: None),
    "check": Command(("data", "check", "DATA", "--json", "OUT/check.json"), lambda out, _: None),
    "render": Command(
        ("data", "render", "OUT", "--rooms", "2", "--views", "1", "--size", "8x8", "--samples", "1"),
        lambda out, _: _frames(f"rooms:{out}"),
    ),
    "report": Command(("report", "PROBE", "-o", "OUT/report.html", "--csv", "--latex", "--figures", "svg"), lambda out, _: None),
    "compare": Command(("compare", "EVALUATION", "--json", "OUT/compared.json"), lambda out, _: None),
}  # fmt: skip
"""By name. `read` returns None where nothing reads the files again; they are compared all the same."""

KINDS = (
    "kill", "term", "int", "int twice", "disk full", "size limited", "read-only", "data changed", "data cut", "data deleted", "worker killed",
    "clock", "surroundings", "locale", "twice",
)  # fmt: skip

HANDLED = {
    "kill": {-9, 0},
    "term": {143, 0},
    "int": {130, 0},
    "int twice": {130, 0},
    "locale": {0},
    "clock": {0},
    "surroundings": {0},
    "twice": {0},
}
"""Exit codes that are right by kind, 0 where the command was faster than the fault; all others fail in a sentence, with 1 or 2."""

PLACES = ("out", "o u t", "[/n] [red]", os.fsdecode(b"caf\xe9"), "C:\\windows\\style", "é" * 60, "-x=%s{0}", "a&b*c")
"""Names of output folders, one drawn for each case."""

SURROUNDINGS = (
    {"HOME": "/nonexistent"}, {"HOME": None}, {"TZ": "Pacific/Kiritimati"}, {"TMPDIR": "/nonexistent"}, {"COLUMNS": "5"},
    {"TERM": "dumb"}, {"PATH": ""},
)  # fmt: skip
LOCALES = (
    {"LC_ALL": "C", "LANG": "C"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}, {"LC_ALL": "tr_TR.UTF-8"},
    {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
)  # fmt: skip
CLOCKS = (0.0, 86400.0, 315_000_000.0, 4_200_000_000.0, 7_000_000_000.0)
"""Seconds since 1970 that the clock of a machine without a battery, or one gone wrong, may show."""

LOST, SILENT, TRACEBACK, HANG, OTHER = "lost", "silently wrong", "traceback", "hang", "other"
VERDICTS = (LOST, SILENT, TRACEBACK, HANG, OTHER)
"""What can be wrong. Other: an exit code, a failure without a sentence, a temporary file left."""

Wrong = list[tuple[str, str]]
"""(one of `VERDICTS`, a sentence)."""

VOLATILE = re.compile(
    r'"(command|seconds|images_per_second|\w*_seconds|checksum)":\s*("(?:[^"\\]|\\.)*"|[-\d.eE]+|null),?|<dt>command</dt><dd>[^<]*'
)
"""What differs between two undisturbed runs: durations and command lines."""


@dataclass
class Fault:
    """One fault in one run.

    Attributes:
        kind: one of `KINDS`.
        at: the fraction of the run's processor time, or of its changes to the file system, after which it strikes.
        by_change: strike at a change to the file system, where half-written files are most likely.
        workers: whether other processes read the data.
        sizes: of the files that the command writes.
    """

    kind: str
    at: float = 0.0
    by_change: bool = False
    workers: bool = False
    sizes: list[int] = field(default_factory=list)
    rng: random.Random = field(default_factory=random.Random)


@dataclass
class Ended:
    """How a run ended."""

    code: int
    said: str
    seconds: float
    changes: int
    hangs: bool = False


def _changes_to(place: str, strike: Callable[[int], None]) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that counts changes to files below `place`."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not written or not isinstance(path, str):
                return
        elif event not in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        if str(arguments[0]).startswith(place):
            count += 1
            strike(count)

    return hook


class Workshop:
    """Tiny data, models and runs to read, and forked runs of commands over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        import_all()
        self.data = pairs(folder / "data", 4, 3, 16, 24)
        self.more = pairs(folder / "more", 6, 2, 16, 24)
        for child in sorted((self.more / "rgb").iterdir()):
            for kind in ("rgb", "depth"):
                (self.more / kind / child.name).rename(self.more / kind / f"other{child.name}")
        self.names = {
            "DATA": f"{self.data}{MM}", "MORE": f"{self.more}{MM}", "RUN": str(folder / "run"), "PROBE": str(folder / "probe"),
            "EVALUATION": str(folder / "evaluation"), "IMAGES": str(self.data / "rgb" / "scene0"),
        }  # fmt: skip
        self._servers: dict[int, subprocess.Popen[str]] = {}
        self._whole: dict[str, tuple[Ended, Pieces, Any]] = {}

    def close(self) -> None:
        """End the processes of other locales."""
        for server in self._servers.values():
            server.communicate()

    def whole(self, name: str) -> tuple[Ended, Pieces, Any]:
        """An undisturbed run of a command, what it wrote, and what reads it."""
        if name not in self._whole:
            out = self.folder / "whole" / name
            out.mkdir(parents=True)
            done = self.run(name, out)
            if done.code:
                raise AssertionError(f"{name} fails undisturbed: {done.said}")
            second = self.folder / "whole" / f"{name} again"
            second.mkdir()
            self.run(name, second)
            one, two = pieces(out), pieces(second)
            stable = {key: one[key] for key in one if one[key] == two.get(key)}
            if len(stable) < len(one):
                print(f"  {name}: two runs differ in {sorted(set(one) - set(stable))}", file=sys.stderr)
            self._whole[name] = done, stable, self._read(name, out)
        return self._whole[name]

    def _read(self, name: str, out: Path) -> Any:
        return COMMANDS[name].read(out, self.names["DATA"])

    def words(self, name: str, out: Path, more: tuple[str, ...] = ()) -> list[str]:
        """The command line; a run that it reads is made the first time."""
        for word, made_by in (("RUN", "train"), ("PROBE", "probe"), ("EVALUATION", "evaluate")):
            place = Path(self.names[word])
            if word in COMMANDS[name].arguments and not place.exists():
                done = self.run(made_by, place)
                if done.code:
                    raise AssertionError(f"{made_by} fails undisturbed: {done.said}")
        names = {**self.names, "OUT": str(out)}
        pattern = re.compile("|".join(names))
        quiet = () if name in ("report", "compare") else ("-q",)
        return [pattern.sub(lambda m: names[m[0]], word) for word in (*COMMANDS[name].arguments, *more, *quiet)]

    def run(self, name: str, out: Path, fault: Fault | None = None, more: tuple[str, ...] = ()) -> Ended:
        """Run a command in a forked process, with a fault or without."""
        running = self.start(name, out, fault, more)
        outside = fault is not None and not fault.by_change and fault.kind in OUTSIDE
        return wait(running, fault.at if fault and outside else None, lambda pid: self.strike(fault, pid))

    def start(self, name: str, out: Path, fault: Fault | None = None, more: tuple[str, ...] = ()) -> Running:
        """Fork a process that runs a command."""
        if fault is not None and fault.workers:
            more = (*more, "--workers", "2")
        return fork(self.words(name, out, more), out, fault, self._whole[name][0] if fault is not None else None)

    def strike(self, fault: Fault | None, pid: int) -> bool:
        """The fault from outside; whether it could be done."""
        if fault is None:
            return True
        if fault.kind in SIGNALS:
            os.kill(pid, SIGNALS[fault.kind])
            if fault.kind == "int twice":
                time.sleep(fault.rng.choice([0.0, 0.001, 0.01, 0.05]))
                os.kill(pid, signal.SIGINT)
            return True
        if fault.kind == "worker killed":
            workers = [child for child in _descendants(pid) if child != pid]
            if workers:
                with suppress(ProcessLookupError):
                    os.kill(fault.rng.choice(workers), signal.SIGKILL)
            return bool(workers)
        damage(self.data, fault)
        return True

    def case(self, name: str, kind: str, seed: str) -> tuple[Wrong, bool]:
        """One fault in one command: what is wrong afterwards, and whether the command had ended before the fault."""
        _, whole, read = self.whole(name)
        rng = random.Random(seed)
        room = self.folder / "cases" / f"{abs(hash(seed)):x}"
        room.mkdir(parents=True)
        fault = self._fault(name, kind, rng)
        out = room / rng.choice(PLACES)
        size = rng.randrange(1, max(2, _size(self.folder / "whole" / name))) if kind == "disk full" else 0
        if kind == "read-only" and os.geteuid() == 0 and can_mount(room):
            size = 1 << 20  # permissions do not stop root, a file system does
        stack = _full_disk(room, size)
        with stack, _kept(self.data, kind):
            if kind == "twice":
                wrong, code = self._twice(name, out, fault)
            elif kind == "locale":
                wrong, code = self._elsewhere(name, out, rng)
            else:
                if kind == "read-only":
                    _forbid(out, rng)
                    stack.remount("ro")
                ended = self.run(name, out, fault)
                code = ended.code
                wrong = self._complaints(name, kind, ended)
                if kind == "read-only":
                    stack.remount("rw")
                    _allow(out)
                left = [path for path in _all(room) if _leftover(path.name)]
                if left and kind not in ("kill", "int twice"):
                    wrong.append((OTHER, f"left {left[0].name}"))
            same_data = not kind.startswith("data")
            wrong += self._judge(name, out, whole, read, same_data)
            stack.remount("size=500m")
            restored = _restore(self.data)
            if not restored:
                wrong.append((OTHER, "the data could not be restored"))
            if kind in SIGNALS and rng.random() < 0.25:
                ended = self.run(name, out, self._fault(name, kind, rng), self._more(name, out))
                wrong += self._complaints(name, kind, ended)
                wrong += self._judge(name, out, whole, read, same_data)
            wrong += self._again(name, kind, out, whole, read)
        shutil.rmtree(room, ignore_errors=True)
        return wrong, code == 0

    def _fault(self, name: str, kind: str, rng: random.Random) -> Fault:
        """A fault of a kind, drawn from `rng`."""
        sizes = [path.stat().st_size for path in _all(self.folder / "whole" / name) if path.is_file()]
        workers = COMMANDS[name].workers and (kind == "worker killed" or (kind in SIGNALS and rng.random() < 0.25))
        return Fault(kind, rng.uniform(0, 1.02), kind in SIGNALS and rng.random() < 0.5, workers, sizes, rng)

    def _complaints(self, name: str, kind: str, ended: Ended) -> Wrong:
        wrong: Wrong = []
        code, said = ended.code, ended.said
        if ended.hangs:
            return [(HANG, said[-500:])]
        if code not in HANDLED.get(kind, {0, 1, 2}):
            wrong.append((OTHER, f"exit code {code}: {said[-500:]}"))
        if "Invalid thread pool" in said:
            return []  # of PyTorch in a forked process, which users do not have
        if "Traceback" in said:
            wrong.append((TRACEBACK, said[-1500:]))
        elif code in (1, 2) and "error: " not in said and not (name == "check" and kind.startswith("data")):
            # 'data check' tells what is wrong with data on standard output.
            wrong.append((OTHER, f"no sentence: {said[-500:]}"))
        return wrong

    def _twice(self, name: str, out: Path, fault: Fault) -> tuple[Wrong, int]:
        """Two runs at once into one place: one is whole, the other too or says why not."""
        first = self.start(name, out)
        time.sleep(fault.at * self._whole[name][0].seconds)
        second = self.start(name, out)
        ended = [wait(first), wait(second)]
        wrong = [found for each in ended for found in self._complaints(name, "both", each)]
        if all(each.code for each in ended):
            wrong.append((LOST, f"neither run ends well: {[each.said[-300:] for each in ended]}"))
        return wrong, 0

    def _elsewhere(self, name: str, out: Path, rng: random.Random) -> tuple[Wrong, int]:
        """A run forked from a Python that started with another locale and encoding."""
        which = rng.randrange(len(LOCALES))
        if which not in self._servers:
            command = [sys.executable, "-m", "tests.injection"]
            self._servers[which] = subprocess.Popen(
                command, env={**os.environ, **LOCALES[which]}, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                encoding="ascii", start_new_session=True,
            )  # fmt: skip
        server = self._servers[which]
        words = [os.fsencode(word).hex() for word in (str(out), *self.words(name, out))]
        if server.stdin is None or server.stdout is None:
            raise AssertionError("a process without pipes")
        print(json.dumps(words), file=server.stdin, flush=True)
        ended = Ended(**json.loads(server.stdout.readline()))
        return self._complaints(name, "locale", ended), ended.code

    def _judge(self, name: str, out: Path, whole: Pieces, read: Any, same_data: bool) -> Wrong:
        """What is wrong with what stands in the folder."""
        wrong: Wrong = []
        if same_data:
            wrong += [
                (SILENT, f"{key} is half-written or differs")
                for key, content in pieces(out).items()
                if key in whole and content != whole[key] and not _under_way(key)
            ]
        try:
            found = self._read(name, out)
        except FathomError:
            return wrong
        except Exception as error:
            return [
                *wrong,
                (TRACEBACK, f"reading it: {type(error).__name__} {error} {traceback.format_exc()[-900:]}"),
            ]
        if same_data and found != read and not (name == "train" and found[0] != read[0]):
            wrong.append((SILENT, "half-written data were read as whole"))
        return wrong

    def _more(self, name: str, out: Path) -> tuple[str, ...]:
        """Arguments of a run over what an earlier one left."""
        command = COMMANDS[name]
        return command.again if command.once and (out / command.once).exists() else ()

    def _again(self, name: str, kind: str, out: Path, whole: Pieces, read: Any) -> Wrong:
        """The same command once more must end with what an undisturbed run gives."""
        ended = self.run(name, out, more=self._more(name, out))
        if ended.code in (1, 2) and kind.startswith("data") and "error: " in ended.said:
            return []  # what was begun with other data refuses these, in a sentence
        if "Invalid thread pool" in ended.said:
            return self._again(name, kind, out, whole, read)  # as in `_complaints`
        if ended.code:
            return [(LOST, f"the same command fails afterwards ({ended.code}): {ended.said[-900:]}")]
        found = pieces(out)
        wrong: Wrong = [(LOST, f"{key} is missing after the second run") for key in whole if key not in found]
        wrong += [
            (LOST, f"{key} differs after the second run") for key in whole if key in found and found[key] != whole[key]
        ]
        try:
            if self._read(name, out) != read:
                wrong.append((LOST, "the second run gives other data"))
        except FathomError as error:
            wrong.append((LOST, f"after the second run: {error}"))
        left = [path for path in _all(out.parent) if _leftover(path.name)]
        if left:
            wrong.append((OTHER, f"the second run leaves {left[0].relative_to(out.parent)}"))
        return wrong


def fork(words: list[str], out: Path, fault: Fault | None = None, whole: Ended | None = None) -> Running:
    """Fork a process that runs a command line."""
    read_end, write_end = os.pipe()
    counter_read, counter_write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the command has begun
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            os.setpgid(0, 0)
            os.close(read_end)
            os.close(counter_read)
            _child(words, out, fault, whole, write_end, counter_write)
        os._exit(97)
    signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
    os.close(write_end)
    os.close(counter_write)
    return Running(pid, read_end, counter_read, whole.seconds if whole else 0.0)


def wait(running: Running, at: float | None = None, strike: Callable[[int], bool] | None = None) -> Ended:
    """Wait for a forked run, and `strike` its process from outside at a fraction of its processor time, if `at` says one."""
    struck = at is None or strike is None
    said = b""
    limit = time.monotonic() + PATIENCE
    seconds, hangs = 0.0, False
    while True:
        ready, _, _ = select.select([running.output], [], [], 0.002 if not struck else 0.05)
        if ready:
            chunk = os.read(running.output, 65_536)
            said += chunk
            if not chunk:
                break
        seconds = max(seconds, _processor_seconds(running.pid))
        if not struck and at is not None and strike is not None and seconds >= at * running.usual:
            struck = strike(running.pid)
        if time.monotonic() > limit:
            hangs = True
            os.killpg(running.pid, signal.SIGKILL)
            break
    _, status = os.waitpid(running.pid, 0)
    with suppress(ProcessLookupError, PermissionError):  # what it started and left
        os.killpg(running.pid, signal.SIGKILL)
    changes = os.read(running.counter, 64)
    os.close(running.output)
    os.close(running.counter)
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, said.decode(errors="replace"), seconds, int(changes.split()[-1]) if changes else 0, hangs)


def serve() -> None:
    """Run the command lines that standard input gives, each in a forked process; prints how each ended."""
    import_all()
    for line in sys.stdin:
        out, *words = [os.fsdecode(bytes.fromhex(word)) for word in json.loads(line)]
        print(json.dumps(asdict(wait(fork(words, Path(out))))), flush=True)


@dataclass
class Running:
    """A forked run: its process, what it prints, and the processor seconds that it takes undisturbed."""

    pid: int
    output: int
    counter: int
    usual: float


SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT, "int twice": signal.SIGINT}
OUTSIDE = (*SIGNALS, "worker killed", "data changed", "data cut", "data deleted")
"""Kinds that strike from another process, after some processor time of the run."""


def _child(words: list[str], out: Path, fault: Fault | None, whole: Ended | None, output: int, counter: int) -> None:
    """Run a command in this forked process, and end it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(output, 2)
    sys.stdout = os.fdopen(1, "w", errors="replace", closefd=False)
    sys.stderr = os.fdopen(2, "w", errors="backslashreplace", buffering=1, closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    os.environ["OMP_NUM_THREADS"] = "1"
    changes = 0
    strike_at = 0
    if fault is not None and fault.by_change and whole is not None:
        strike_at = 1 + int(fault.at * whole.changes)

    def strike(count: int) -> None:
        nonlocal changes
        changes = count
        if fault is not None and count == strike_at:
            os.kill(os.getpid(), SIGNALS[fault.kind])
            if fault.kind == "int twice":
                signal.setitimer(signal.ITIMER_REAL, fault.rng.choice([0.0001, 0.001, 0.01]))

    sys.addaudithook(_changes_to(str(out), strike))
    if fault is not None:
        _surround(fault, whole)
    code: Any = 96
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        cli.run(words)
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:  # before the first line of the command
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    with suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(counter, f"{changes}\n".encode())
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _surround(fault: Fault, whole: Ended | None) -> None:
    """What is odd around the run from its beginning."""
    rng = fault.rng
    if fault.kind == "size limited":
        written = rng.choice(fault.sizes or [1])
        most = rng.choice([0, 1, written // 2, max(0, written - 1), rng.randrange(max(1, written))])
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    elif fault.kind == "clock":
        shift = rng.choice(CLOCKS) - time.time()
        now = time.time
        time.time = lambda: now() + shift  # type: ignore[assignment]
        local = time.localtime
        time.localtime = lambda seconds=None: local(time.time() if seconds is None else seconds)  # type: ignore[assignment]
    elif fault.kind == "surroundings":
        for key, value in rng.choice(SURROUNDINGS).items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        time.tzset()
        os.umask(rng.choice([0o000, 0o022, 0o077, 0o177 if os.geteuid() == 0 else 0o077]))
        os.chdir(rng.choice(["/", "/tmp"]))


def import_all() -> None:
    """Import the package and what the commands draw with, once for all forked runs."""
    torch.set_num_threads(1)
    for name in cli.COMMANDS:
        cli.load_command(name)
    import matplotlib.pyplot
    import plotly.graph_objects  # noqa: F401
    import typer._adapters  # noqa: F401
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    import fathom

    for module in pkgutil.walk_packages(fathom.__path__, "fathom."):
        if module.name != "fathom.__main__":
            with suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)
    matplotlib.use("Agg")
    # The layout takes half of a command's time, and is of no concern here.
    ConstrainedLayoutEngine.execute = lambda *_: None  # type: ignore[method-assign]
    gc.collect()
    gc.freeze()  # else each forked process copies the memory that it only looks at


def pieces(out: Path) -> Pieces:
    """Every file of a run by its name, without what differs between two undisturbed runs."""
    found: Pieces = {}
    for path in _all(out):
        name = str(path.relative_to(out))
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(out).parts):
            continue
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if path.suffix in (".json", ".jsonl", ".html", ".txt", ".csv", ".toml"):
            found[name] = VOLATILE.sub("", content.decode("utf-8", "surrogateescape"))
        elif path.suffix == ".safetensors":
            found[name] = _tensor_file(content)
        else:
            found[name] = content
    return found


def _tensor_file(content: bytes) -> Any:
    """Header and values, since the library writes the header's entries in any order."""
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        return json.loads(content[8:end]), content[end:]
    except ValueError:
        return content


def _under_way(name: str) -> bool:
    """Files that grow line by line, or that say that a run is under way."""
    return name.endswith(".jsonl")


def _all(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.is_dir() else []


def _leftover(name: str) -> bool:
    from fathom.files.atomic import is_leftover

    # Not .fathom.lock: it is void as soon as its process has ended, and the next run takes it over.
    return is_leftover(name) or name.endswith((".tmp", ".old"))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _all(folder) if path.is_file())


def _processor_seconds(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _descendants(pid: int) -> list[int]:
    """Processes of the group of `pid` that read data, not those that only start others."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == pid and "resource_tracker" not in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
    return found


def damage(data: Path, fault: Fault) -> None:
    """Change, cut or delete one file of the data."""
    file = fault.rng.choice(sorted(path for path in data.rglob("*.png")))
    if fault.kind == "data deleted":
        file.unlink(missing_ok=True)
        return
    content = bytearray(file.read_bytes())
    at = fault.rng.randrange(len(content))
    if fault.kind == "data cut":
        del content[at:]
    else:
        content[at] ^= 1 << fault.rng.randrange(8)
    file.write_bytes(bytes(content))


@contextmanager
def _kept(data: Path, kind: str) -> Any:
    """Put the data back as they were."""
    if not kind.startswith("data"):
        yield
        return
    _KEPT[data] = {path: (path.read_bytes(), path.stat()) for path in data.rglob("*.png")}
    try:
        yield
    finally:
        _restore(data)
        _KEPT.pop(data, None)


_KEPT: dict[Path, Mapping[Path, tuple[bytes, os.stat_result]]] = {}


def _restore(data: Path) -> bool:
    for path, (content, status) in _KEPT.get(data, {}).items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return True


class _full_disk:  # noqa: N801
    """A small file system of its own at `place`; nothing where `size` is 0."""

    def __init__(self, place: Path, size: int) -> None:
        self.place, self.size = place, size

    def __enter__(self) -> _full_disk:
        if self.size:
            kib = max(8, self.size // 1024)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", self.place], check=True)
        return self

    def remount(self, option: str) -> None:
        if self.size:
            subprocess.run(["mount", "-o", f"remount,{option}", self.place], check=True)

    def __exit__(self, *_: object) -> None:
        if self.size:
            subprocess.run(["umount", self.place], check=False)


def can_mount(folder: Path) -> bool:
    """Whether a full disk can be tried here: it needs a file system of its own, which only root can mount."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _full_disk(folder, 8192):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _forbid(out: Path, rng: random.Random) -> None:
    """Make the output a place that cannot be written: a folder without permission, or below a file."""
    if rng.random() < 0.5:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("in the way")
    else:
        out.mkdir(parents=True)
        out.chmod(0o555)
        out.parent.chmod(0o555)


def _allow(out: Path) -> None:
    out.parent.chmod(0o755)
    if out.is_file():
        out.unlink()
    elif out.is_dir():
        out.chmod(0o755)


def commands_for(kind: str) -> list[str]:
    """Names of the commands to which a kind of fault applies."""
    if kind == "worker killed":
        return [name for name, command in COMMANDS.items() if command.workers]
    if kind.startswith("data"):
        return [
            name
            for name, command in COMMANDS.items()
            if any("DATA" in word or "IMAGES" in word for word in command.arguments)
        ]
    return list(COMMANDS)


if __name__ == "__main__":
    serve()
