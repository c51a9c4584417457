"""A researcher's day, from one's own encoder to the table of the paper and a colleague's repetition:

python examples/researcher_day.py OUT

It runs on the rooms that come with Fathom, in a few minutes on two cores and without a network: a module of one's own and two
backbones of transformers (tiny, with random weights, saved to folders as ``save_pretrained`` writes them) are probed for depth, for
surface normals and for a feature of one's own. Every step is a command that works the same on your own data.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

import fathom
from fathom.cli.main import main as command

MODULE = '''
"""An encoder and a feature of one's own, in one file."""

import torch
from torch import nn


def net(width=16):
    """Two layers of stride 4 and 8."""
    return nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.ReLU(), nn.Conv2d(width, 2 * width, 2, 2), nn.ReLU())


def height(sample):
    """Metres above (or, negative, below) the camera's axis."""
    rows = torch.arange(sample.depth.shape[-2]) + 0.5
    return -(rows - sample.intrinsics.cy)[:, None] / sample.intrinsics.fy * sample.depth[0]
'''

RUN = ["--size", "48x64", "--grid", "6x8", "--controls", "2", "--pictures", "2", "--quiet"]
"""Small, so that it takes minutes; leave these out for real."""


def fathom_command(*words: str | Path) -> None:
    """Run one command of Fathom as the shell would, and stop where it fails."""
    print("$ fathom", *words, flush=True)
    if code := command([str(word) for word in words]):
        raise SystemExit(f"'fathom {words[0]}' ended with code {code}.")


def save_backbones(out: Path) -> dict[str, Path]:
    """Two tiny backbones in the form in which the Hugging Face hub has real ones."""
    from transformers import ConvNextConfig, ConvNextModel, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    backbones = {
        "convnext": ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])),
        "dinov2": Dinov2Model(
            Dinov2Config(hidden_size=24, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14)
        ),
    }
    processor = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_normalize": True}
    for name, model in backbones.items():
        model.save_pretrained(out / name)
        (out / name / "preprocessor_config.json").write_text(json.dumps(processor))
    return {name: out / name for name in backbones}


def probe_and_report(out: Path) -> Path:
    """Several encoders and features in one run; the page, the table, the methods paragraph and the figures of the paper."""
    own = out / "mine.py"
    own.write_text(MODULE)
    encoders = {"mine": f"module:{own}:net", **{name: f"hf:{path}" for name, path in save_backbones(out).items()}}
    run = out / "run"
    named = [word for name, spec in encoders.items() for word in ("-e", f"{name}={spec}")]
    features = ["-f", "depth", "-f", "normals", "-f", f"module:{own}:height"]
    fathom_command("probe", "rooms", *named, *features, *RUN, "--out", run)
    fathom_command("report", run, "--csv", "--latex", "--figures", "svg,pdf")
    return run


def repeat_and_compare(run: Path, out: Path) -> None:
    """A colleague repeats the run from its folder alone, and compares both."""
    trusted = ("--limit", "code-files=2")  # the run names an encoder and a feature of mine.py, which we have read
    fathom_command("probe", "rooms", "--like", run, "--quiet", "--out", out / "again", *trusted)
    fathom_command("compare", run, out / "again")
    first, again = (fathom.Evidence.load(folder) for folder in (run, out / "again"))
    for one, two in zip(first.rows, again.rows, strict=True):
        assert abs(one.test_mse - two.test_mse) <= 1e-6 * one.test_mse, (
            one.encoder,
            one.feature,
            one.test_mse,
            two.test_mse,
        )
    print(f"{len(first.rows)} losses repeated.")


def from_python(out: Path) -> None:
    """The same from Python, with a module that is in memory."""
    net = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 32, 2, 2), nn.ReLU())
    train, test = fathom.load("rooms").official_split()
    evidence = fathom.probe(net, "depth", train, test, size=(48, 64), grid=(6, 8), controls=2, pictures=0)
    print(repr(evidence))
    evidence.save(out / "python")


def main() -> None:
    """All of it, into the folder given."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/researcher_day.py OUT")
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    run = probe_and_report(out)
    repeat_and_compare(run, out)
    from_python(out)


if __name__ == "__main__":
    main()
