"""The table of docs/protocols.md: shipped networks, small ones, a linear probe, mean map and constant on the same held-out rooms.

    python benchmarks/evaluation_table.py nyuv2-train --squeezenet squeezenet1_1-imagenet.safetensors --out runs/table

takes the official training frames of NYU Depth V2 as a folder (`rgb`, `depth`, `index.csv` with the columns frame and scene), keeps
the nine rooms aside that the shipped network has seen nothing of, trains the small networks and fits the probe on the other rooms,
and evaluates all of them under `nyu-eigen` and `native`. A step that is finished is not run again. Each command is printed, and so
are the tables.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fathom import Evaluation, load
from fathom.data.splits import save_split
from fathom.metrics.groups import ALL
from fathom.report.charts import number

SAME_ROOM = {
    "run_011": "run_009", "run_015": "run_013", "run_029": "run_027", "run_035": "run_033", "run_061": "run_059",
    "run_079": "run_077", "run_109": "run_107", "run_115": "run_113", "run_117": "run_113", "run_131": "run_129",
    "run_135": "run_133", "run_137": "run_133", "run_145": "run_143", "run_199": "run_197", "run_201": "run_197",
    "run_241": "run_239",
}  # fmt: skip
"""Runs of neighbouring frames that show the room of an earlier run, by eye: they stay on one side."""

HELD_OUT = (
    "run_057", "run_063", "run_089", "run_107", "run_143", "run_183", "run_203", "run_207", "run_245",
)  # fmt: skip
"""Rooms that neither trained nor chose anything of the shipped network."""

SQUEEZENET = "module:examples/squeezenet.py:squeezenet?weights="
RECIPES = ("tiny-unet", "tiny-residual_cnn", "tiny-plain_cnn")
SHIPPED = ("nyu-pretrained_unet", "rooms-residual_cnn")
COLUMNS = ("abs_rel", "rmse", "silog", "delta1")
VARIANTS: tuple[tuple[str, ...], ...] = (
    ("--protocol", "nyu-eigen"),
    ("--protocol", "nyu-full"),
    ("--protocol", "native"),
    ("--protocol", "nyu-eigen", "--flip"),
    ("--protocol", "nyu-eigen", "--align", "median"),
    ("--protocol", "nyu-eigen", "--align", "scale"),
    ("--protocol", "nyu-eigen", "--align", "scale-shift"),
)
"""What a protocol and its options make of one network's predictions."""


@dataclass(frozen=True)
class Step:
    """A command of `fathom`, finished where `done` exists."""

    argv: tuple[str, ...]
    done: Path

    def run(self) -> None:
        print(f"\n$ fathom {shlex.join(self.argv)}", flush=True)
        if not self.done.is_file():
            subprocess.run([sys.executable, "-m", "fathom", *self.argv], check=True)


class Plan:
    """The commands, in order."""

    def __init__(self, folder: Path, squeezenet: str, out: Path) -> None:
        self.folder, self.squeezenet, self.out = folder.resolve(), squeezenet, out.resolve()

    def data(self, table: str, border: int = 8) -> str:
        """The frames that a table names. They are mirrored, and so is the camera."""
        return (
            f"folder:{self.folder}?csv={self.out / table}&depth-scale=0.0391979&depth-offset=0.0196&border={border}"
            "&intrinsics=518.858,519.470,314.417,253.736"
        )

    def write_tables(self) -> None:
        """Frames with the names of their rooms: all of them, and those that are trained on; and the split by room."""
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.folder / "index.csv").open(newline="") as file:
            rows = [(row["frame"], SAME_ROOM.get(row["scene"], row["scene"])) for row in csv.DictReader(file)]
        for name, kept in (("all.csv", rows), ("train.csv", [row for row in rows if row[1] not in HELD_OUT])):
            with (self.out / name).open("w", newline="") as file:
                csv.writer(file).writerows([("frame", "scene"), *kept])
        everything = load(self.data("all.csv"))
        train = everything.of_scenes([scene for scene in everything.scenes if scene not in HELD_OUT], "train")
        save_split(self.out / "split.json", {"train": train, "test": everything.of_scenes(HELD_OUT, "test")})

    def steps(self) -> Iterator[Step]:
        for recipe in RECIPES:
            argv = ("train", self.data("train.csv"), "--recipe", recipe, "--device", "cpu", "--resume")
            yield Step((*argv, "--out", str(self.out / recipe)), self.out / recipe / "summary.json")
        probe = ("probe", self.data("all.csv"), "--split", str(self.out / "split.json"), "-e")
        probe = (*probe, f"squeezenet={SQUEEZENET}{self.squeezenet}", "--controls", "0", "--no-label-curve")
        probe = (*probe, "--no-banded", "--device", "cpu")
        yield Step((*probe, "--out", str(self.out / "probe")), self.out / "probe" / "evidence.json")
        models = (*SHIPPED, *(str(self.out / recipe) for recipe in RECIPES), f"probe:{self.out / 'probe'}")
        for protocol in ("nyu-eigen", "native"):
            yield self.evaluation(models, protocol, ("--protocol", protocol))
        for number_, options in enumerate(VARIANTS):
            yield self.evaluation((str(self.out / "tiny-unet"),), f"variant-{number_}", options)

    def evaluation(self, models: tuple[str, ...], name: str, options: tuple[str, ...]) -> Step:
        out = self.out / "evaluations" / name
        argv = (
            "evaluate",
            *models,
            self.data("all.csv"),
            "--limit",
            "code-files=1",
            "--split",
            str(self.out / "split.json"),
            *options,
        )
        return Step((*argv, "--out", str(out)), out / "evaluation.json")


def bounds(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({number(interval[0])} – {number(interval[1])})"


def print_scores(found: Evaluation) -> None:
    """Means with intervals, and what differs, as Markdown."""
    (table,) = found.record.tables
    print(f"\n{table.frames} frames of {len(table.scenes)} rooms, {table.protocol.name}\n")
    print("| |" + "".join(f" {ALL[name].label} |" for name in COLUMNS) + "\n|" + "---|" * (len(COLUMNS) + 1))
    for result in table.results:
        cells = [number(result.scores[name].mean) + bounds(result.scores[name].interval) for name in COLUMNS]
        print(f"| {Path(result.name).name} | " + " | ".join(cells) + " |")
    print("\n| difference | metric | (95 %) | p, Holm |\n|---|---|---|---|")
    for item in table.differences:
        p = "" if item.p_holm is None else number(item.p_holm)
        names = " − ".join(Path(name).name for name in (item.first, item.second))
        print(f"| {names} | {ALL[item.metric].label} | {number(item.estimate)}{bounds(item.interval)} | {p} |")


def print_variants(plan: Plan) -> None:
    """One network under every variant, a line each, as Markdown."""
    print("\n| protocol and options | RMSE, m (95 %) | pooled RMSE | AbsRel | log10 | SILog | δ1 |\n|" + "---|" * 7)
    for index, options in enumerate(VARIANTS):
        result = Evaluation.load(plan.out / "evaluations" / f"variant-{index}").record.tables[0].results[0]
        scores = [number(result.scores[name].mean) for name in ("abs_rel", "log10", "silog", "delta1")]
        rmse = result.scores["rmse"]
        cells = [number(rmse.mean) + bounds(rmse.interval), number(result.pooled_rmse.mean), *scores]
        print(f"| `{' '.join(options[1:])}` | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of NYU Depth V2's official training frames")
    parser.add_argument("--squeezenet", required=True, help="its ImageNet weights, safetensors")
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    options = parser.parse_args()
    plan = Plan(options.data, options.squeezenet, options.out)
    plan.write_tables()
    for step in plan.steps():
        step.run()
    for protocol in ("nyu-eigen", "native"):
        print_scores(Evaluation.load(plan.out / "evaluations" / protocol))
    print_variants(plan)


if __name__ == "__main__":
    main()
