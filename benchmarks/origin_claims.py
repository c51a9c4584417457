"""Trains and measures what the projects before this one claimed, at a size for one processor core, and writes the tables.

    python benchmarks/origin_claims.py "folder:../shared/data/nyuv2-train?depth-scale=0.0391979&depth-offset=0.0196&border=8" \\
        --squeezenet squeezenet1_1-imagenet.safetensors --lite2 efficientnet_lite2-imagenet.safetensors

runs every `fathom` command that docs/results-origin.md names, in an order that gives each claim one seed before any gets
its second. A finished command is not run again and a killed one goes on where it was saved, so this may be stopped at any
time; `--report` makes the tables of what there is. Written are docs/origin-claims.json, the pictures, and in
docs/results-origin.md what stands between its markers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from origin_plan import IMAGENET, LARGE, Plan, Step
from origin_results import Results
from origin_tables import report

from fathom import load
from fathom.data.packed.pack import pack
from fathom.data.splits import load_split
from fathom.files.atomic import write_json


def execute(step: Step, log: Path) -> None:
    """Run the command unless it is done; its output and the seconds that it took are kept in `log`."""
    if step.done.is_file():
        return
    log.mkdir(parents=True, exist_ok=True)
    print(time.strftime("%H:%M:%S"), step.command, flush=True)
    start = time.monotonic()
    with (log / f"{step.name}.txt").open("a", encoding="utf-8") as output:
        result = subprocess.run([sys.executable, "-m", "fathom", *step.argv], stdout=output, stderr=output, check=False)
    if result.returncode:
        raise SystemExit(f"{step.name} ended with code {result.returncode}; see {log / step.name}.txt")
    seconds = log / f"{step.name}.json"
    before = json.loads(seconds.read_text())["seconds"] if seconds.is_file() else 0.0
    write_json(seconds, {"command": step.command, "seconds": round(before + time.monotonic() - start, 1)})


def prepare(plan: Plan, log: Path) -> None:
    """The split, and its frames at the larger input size, so that no training waits for JPEG files."""
    execute(plan.split(), log)
    if any(not (plan.out / "frames" / part / "pack.json").is_file() for part in ("train", "test")):
        for name, part in load_split(plan.out / "split.json", load(plan.data)).items():
            pack(part, plan.out / "frames" / name, size=LARGE, threads=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", help="DATA of NYU Depth V2's training frames")
    for name in IMAGENET:
        parser.add_argument(f"--{name}", metavar="FILE", help=f"safetensors of {name} with ImageNet weights")
    parser.add_argument("--out", type=Path, default=Path("runs/origin"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="run nothing; report what is there")
    options = parser.parse_args()
    imagenet = {name: path for name in IMAGENET if (path := getattr(options, name))}
    plan = Plan(options.data, options.out, imagenet)
    log = options.out / "logs"
    if not options.report:
        prepare(plan, log)
        for step in plan.steps(options.seeds):
            execute(step, log)
    report(Results(plan), options.docs)


if __name__ == "__main__":
    main()
