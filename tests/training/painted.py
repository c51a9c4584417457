"""A source of painted rooms for the training tests, and what child processes run on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fathom.data.dataset import Dataset, Frame
from fathom.sample import Sample

H, W = 16, 24


@dataclass
class Painted:
    """Walls at random distances: brightness falls with depth, so that a network can learn it."""

    scenes: int = 6
    views: int = 4
    size: tuple[int, int] = (H, W)
    kind: str = "painted"
    location: str = "painted"
    holes: bool = False
    blind: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    frames: Sequence[Frame] = ()

    def __post_init__(self) -> None:
        self.frames = [Frame(f"room{s}/{v}", f"room{s}") for s in range(self.scenes) for v in range(self.views)]

    def read(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        height, width = self.size
        slope = torch.rand(3, generator=generator)
        x = torch.linspace(0, 1, width).expand(height, width)
        depth = (1 + 4 * slope[0] + 2 * slope[1] * x)[None]
        shade = (255 / (1 + depth)).expand(3, -1, -1) + 8 * torch.rand(3, height, width, generator=generator)
        valid = torch.ones(1, height, width, dtype=torch.bool)
        if self.holes:
            valid = torch.rand(1, height, width, generator=generator) > 0.3
        if self.blind:
            valid = torch.zeros_like(valid)
        frame = self.frames[index]
        return Sample(shade.clamp(0, 255).to(torch.uint8), depth, valid, frame.scene, frame.id)


def painted(**options: Any) -> Dataset:
    return Dataset.whole(Painted(**options))


def recipe(steps: int = 6, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """A U-Net of a few thousand parameters, as a table; keyword arguments change its sections."""
    table: dict[str, Any] = {
        "name": "test",
        "model": {"name": "unet", "widths": [8, 16], "blocks": 1, "attention_levels": 0},
        "data": {"size": [H, W]},
        "loss": {"mae": 1.0, "gradient": 0.5},
        "optim": {"lr": 1e-2},
        "train": {"steps": steps, "batch": 4, "save_every": 3, "log_every": 2},
        "augment": {"flip": 0.5, "brightness": 0.2},
        "validation": {"every": 4, "scenes": 0.3, "frames": 0.2, "pictures": 0},
    }
    for name, values in sections.items():
        table[name] = {**table.get(name, {}), **values}
    return table


def run(table: Mapping[str, Any], out: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """What a child process does: train, and end as the command line does on an error of the user's."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    from fathom.errors import FathomError
    from fathom.training.recipe import from_table
    from fathom.training.train import train

    source = dict(options)
    resume = bool(source.pop("resume", False))
    try:
        train(from_table(table), painted(**source), out=out, resume=resume, device="cpu")
    except FathomError as error:
        Path(out).mkdir(parents=True, exist_ok=True)
        (Path(out) / f"error-{environment.get('RANK', '0')}.txt").write_text(str(error))
        sys.exit(error.exit_code)
