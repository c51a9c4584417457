"""The table of docs/protocols.md: shipped networks, small ones, a linear probe, mean map and constant on the same held-out rooms.

    python benchmarks/evaluation_table.py nyuv2-train --squeezenet squeezenet1_1-imagenet.safetensors --write docs/protocols.md

takes the official training frames of NYU Depth V2 as a folder (`rgb`, `depth`, `index.csv` with the columns frame and scene), keeps
the rooms aside that no shipped network was trained on or chosen by, trains the small networks and fits the probe on the other rooms,
and evaluates all of them under `nyu-eigen` and `native`. Trainings and the probe are not run again where they are
finished; the evaluations always are. Probe and evaluations took six minutes of processor time. Each command is printed, and so
are the tables; `--write` puts them into the page as well.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fathom import Evaluation, load
from fathom.data.splits import save_split
from fathom.evaluation.result import TESTED, Table
from fathom.metrics.groups import ALL
from fathom.models.saved import read_config
from fathom.models.shipped import FOLDER
from fathom.report.evaluation.tables import heading, with_short_names
from fathom.report.plotly import number

SAME_ROOM = {
    "run_011": "run_009", "run_015": "run_013", "run_029": "run_027", "run_035": "run_033", "run_061": "run_059",
    "run_079": "run_077", "run_109": "run_107", "run_115": "run_113", "run_117": "run_113", "run_131": "run_129",
    "run_135": "run_133", "run_137": "run_133", "run_145": "run_143", "run_199": "run_197", "run_201": "run_197",
    "run_241": "run_239",
}  # fmt: skip
"""Runs of neighbouring frames that show the room of an earlier run, by eye: they stay on one side."""

SQUEEZENET = "module:examples/squeezenet.py:squeezenet?weights="
RECIPES = ("tiny-unet", "tiny-plain_cnn")
SHIPPED = ("nyu-pretrained_unet", "rooms-residual_cnn")
PROTOCOLS = ("nyu-eigen", "native")
NAMES = ("mean map", "constant")
"""Of the baselines, which are no models."""

MARKS = ("<!-- benchmarks/evaluation_table.py -->", "<!-- end -->")
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
    """A command of `fathom`, not run again where `done` exists."""

    argv: tuple[str, ...]
    done: Path | None = None

    def run(self) -> None:
        print(f"\n$ fathom {shlex.join(self.argv)}", flush=True)
        if self.done is None or not self.done.is_file():
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
            runs = [(row["frame"], row["scene"]) for row in csv.DictReader(file)]
        seen = {SAME_ROOM.get(run, run) for run in seen_runs()}
        rows = [(frame, SAME_ROOM.get(run, run)) for frame, run in runs]
        for name, kept in (("all.csv", rows), ("train.csv", [row for row in rows if row[1] in seen])):
            with (self.out / name).open("w", newline="") as file:
                csv.writer(file).writerows([("frame", "scene"), *kept])
        everything = load(self.data("all.csv"))
        parts = {"train": [one for one in everything.scenes if one in seen]}
        parts["test"] = [one for one in everything.scenes if one not in seen]
        save_split(
            self.out / "split.json", {name: everything.of_scenes(scenes, name) for name, scenes in parts.items()}
        )

    def steps(self) -> Iterator[Step]:
        for recipe in RECIPES:
            argv = ("train", self.data("train.csv"), "--recipe", recipe, "--device", "cpu", "--resume")
            yield Step((*argv, "--out", str(self.out / recipe)), self.out / recipe / "summary.json")
        probe: tuple[str, ...] = ("probe", self.data("all.csv"), "--split", str(self.out / "split.json"), "-e")
        probe = (*probe, f"squeezenet={SQUEEZENET}{self.squeezenet}", "--controls", "0", "--no-label-curve")
        probe = (*probe, "--no-banded", "--device", "cpu")
        yield Step((*probe, "--out", str(self.out / "probe")), self.out / "probe" / "evidence.json")
        models = (*SHIPPED, *(str(self.out / recipe) for recipe in RECIPES), f"probe:{self.out / 'probe'}")
        for protocol in PROTOCOLS:
            yield self.evaluation(models, protocol, ("--protocol", protocol))
        for index, options in enumerate(VARIANTS):
            yield self.evaluation(SHIPPED[:1], f"variant-{index}", options)

    def evaluation(self, models: tuple[str, ...], name: str, options: tuple[str, ...]) -> Step:
        argv = ("evaluate", *models, self.data("all.csv"), "--limit", "code-files=1", "--split")
        return Step((*argv, str(self.out / "split.json"), *options, "--out", str(self.out / "evaluations" / name)))

    def table(self, name: str) -> Table:
        (table,) = Evaluation.load(self.out / "evaluations" / name).record.tables
        return with_short_names(table)[0]


def seen_runs() -> set[str]:
    """Runs of frames that a shipped network was trained on or chosen by."""
    configs = [read_config(FOLDER / name) for name in SHIPPED]
    return {scene for config in configs for scene in (*config["train_scenes"], *config["unseen_scenes"])}


def bounds(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({number(interval[0])} – {number(interval[1])})"


def lines(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def shown(name: str) -> str:
    """A model as the page names it."""
    return "probe on SqueezeNet" if name.startswith("probe:") else name if name in NAMES else f"`{name}`"


def scores(table: Table) -> list[str]:
    """Means with intervals over rooms."""
    heads = ["", *(f"{ALL[name].label} (95 % over rooms)" if name == "abs_rel" else heading(name) for name in COLUMNS)]
    rows = []
    for result in table.results:
        found = [result.scores[name] for name in COLUMNS]
        rows.append([shown(result.name), *(number(score.mean) + bounds(score.interval) for score in found)])
    return lines(heads, rows)


def differences(table: Table) -> list[str]:
    """What differs, a row a pair."""
    heads = ["difference, paired over rooms"]
    for metric in TESTED:
        heads += [f"{ALL[metric].label} (95 %)", "p, Holm"]
    cells: dict[tuple[str, str], list[str]] = {}
    for item in table.differences:
        p = "" if item.p_holm is None else number(item.p_holm, ".2g")
        row = cells.setdefault((item.first, item.second), [f"{shown(item.first)} − {shown(item.second)}"])
        row += [number(item.estimate) + bounds(item.interval), f"**{p}**" if item.better else p]
    return lines(heads, cells.values())


def variants(plan: Plan) -> list[str]:
    """One network under every variant, a row each."""
    heads = ["protocol and options", "RMSE, m (95 %)", "RMSE over all pixels", "AbsRel", "log10", "SILog", "δ1"]
    rows = []
    for index, options in enumerate(VARIANTS):
        result = plan.table(f"variant-{index}").results[0]
        found = [number(result.scores[name].mean) for name in ("abs_rel", "log10", "silog", "delta1")]
        rmse = result.scores["rmse"]
        rows.append(
            [f"`{' '.join(options)}`", number(rmse.mean) + bounds(rmse.interval), number(result.pooled_rmse.mean)]
        )
        rows[-1] += found
    return lines(heads, rows)


def page(plan: Plan) -> str:
    """All tables, as docs/protocols.md has them."""
    out = []
    for protocol in PROTOCOLS:
        table = plan.table(protocol)
        counts = f"{table.frames} frames of {len(table.scenes)} rooms, {table.pixels:,} pixels"
        out += [f"`--protocol {protocol}`: {counts}.", "", *scores(table), "", *differences(table), ""]
    out += [f"What protocol and options make of the predictions of `{SHIPPED[0]}` alone:", "", *variants(plan)]
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of NYU Depth V2's official training frames")
    parser.add_argument("--squeezenet", required=True, help="its ImageNet weights, safetensors")
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the page's two marks")
    options = parser.parse_args()
    plan = Plan(options.data, options.squeezenet, options.out)
    plan.write_tables()
    for step in plan.steps():
        step.run()
    tables = page(plan)
    print(f"\n{tables}")
    if options.write is not None:
        before, _, rest = options.write.read_text().partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        options.write.write_text(f"{before}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
