"""Error rates of the verdict and coverage of its intervals on real data, with the user's own scenes.

    python benchmarks/calibration_real.py DATA -e ENCODER

encodes random copies of the encoder once, and draws test sets from the errors by scene (`fathom.probing.self_check`). With
``--page docs/method.md`` the table is put into that page.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import torch

import fathom
from fathom.features import feature
from fathom.files.atomic import write_json, write_text
from fathom.probing.self_check import DRAWS, HEADS, WORLDS, SelfCheck, cells, self_check
from fathom.probing.settings import ProbeSettings

BEGIN, END = "<!-- table of calibration_real.py -->", "<!-- end of table -->"


def markdown(found: SelfCheck) -> str:
    """The table."""
    lines = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(cells(item)) + " |" for item in found.checks)])


def pair(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("-e", "--encoder", required=True)
    parser.add_argument("-f", "--feature", default="depth")
    parser.add_argument("--fraction", type=float, default=0.5, help="of the frames to test on")
    parser.add_argument("--size", type=pair, default=None)
    parser.add_argument("--grid", type=pair, default=None)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--scenes", type=int, nargs="*", default=())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--page", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = fathom.load(options.data).split(options.fraction, options.seed)
    settings = ProbeSettings(size=options.size, grid=options.grid, seed=options.seed)
    found = self_check(
        options.encoder, feature(options.feature, train), train, test, settings=settings, draws=options.draws,
        worlds=options.worlds, sizes=options.scenes,
    )  # fmt: skip
    if options.json is not None:
        write_json(options.json, {"command": shlex.join(["python", *sys.argv]), **found.to_json()})
    if options.page is not None:
        before, rest = options.page.read_text(encoding="utf-8").split(BEGIN)
        write_text(options.page, f"{before}{BEGIN}\n\n{markdown(found)}\n\n{END}{rest.split(END)[1]}")
    print(markdown(found))
    print(f"spread of the logarithm of the loss over {found.draws} draws: {found.spread:.3f}")


if __name__ == "__main__":
    main()
