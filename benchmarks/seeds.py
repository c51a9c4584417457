"""How far a verdict depends on the run's seed: the same encoders, frames and split, probed with several seeds.

    python benchmarks/seeds.py DATA -e ENCODER -e ENCODER

Another seed means other folds, another control task and other random copies of each encoder. A p-value is *near* where it lies within a
factor of two of the level of the test; there a verdict may depend on the seed.
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch
from calibration_real import pair

import fathom
from fathom.probing.evidence.records import VerdictRecord
from fathom.probing.evidence.verdict.findings import LEVEL
from fathom.probing.probe import probe


def near(verdict: VerdictRecord) -> bool:
    """Whether a p-value that decides lies within a factor of two of the level."""
    deciding = [verdict.p_implicit] + ([] if verdict.p_implicit <= LEVEL / 2 else [verdict.p_absent])
    return any(LEVEL / 2 < p < LEVEL * 2 for p in deciding)


def agreement(verdicts: list[VerdictRecord]) -> str:
    """How many runs give the verdict that most give, over all of them and over those without a p-value near the level."""
    common, count = Counter(item.verdict for item in verdicts).most_common(1)[0]
    clear = [item for item in verdicts if not near(item)]
    same = sum(item.verdict == common for item in clear)
    return (
        f"{common} in {count} of {len(verdicts)} runs; in {same} of the {len(clear)} without a p-value near the level"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("-e", "--encoder", action="append", required=True)
    parser.add_argument("-f", "--feature", default="depth")
    parser.add_argument("--fraction", type=float, default=0.25, help="of the frames to test on, where scenes are split")
    parser.add_argument("--size", type=pair, default=None)
    parser.add_argument("--grid", type=pair, default=None)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = fathom.load(options.data).split(options.fraction, 0)
    found: dict[str, list[VerdictRecord]] = {}
    print(
        "| encoder | seed | verdict | p implicit | p absent | gain over the strongest baseline, % |\n"
        + "|---" * 6
        + "|"
    )
    for seed in range(options.seeds):
        evidence = probe(
            options.encoder, options.feature, train, test, size=options.size, grid=options.grid, seed=seed, pictures=0,
            label_curve=False, banded=False,
        )  # fmt: skip
        for item in evidence.verdicts:
            found.setdefault(item.encoder, []).append(item)
            gain = item.relative_gain
            interval = f"{100 * (gain.estimate or 0):.1f} ({100 * (gain.low or 0):.1f} to {100 * (gain.high or 0):.1f})"
            numbers = f"{item.p_implicit:.4f} | {item.p_absent:.4f} | {interval}"
            print(f"| {item.encoder} | {seed} | {item.verdict} | {numbers} |", flush=True)
    for name, verdicts in found.items():
        print(f"{name}: {agreement(verdicts)}")


if __name__ == "__main__":
    main()
