"""What `fathom data info` says of data as they are, and with depth mirrored, moved and turned into distance along the ray.

python benchmarks/data_checks.py DATA [DATA ...] --frames 30
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch

from fathom.data.sources import load
from fathom.data.tools.alignment import describe_alignment, match_edges
from fathom.data.tools.planes import describe_rays, ray_exponents
from fathom.data.tools.survey import spread
from fathom.sample import Sample

MOVED = (0.025, 0.05)
"""Of the longer side."""
WAYS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1), "right and down": (1, 1)}


def mirrored(sample: Sample) -> Sample:
    return replace(sample, depth=sample.depth.flip(-1), valid=sample.valid.flip(-1))


def moved(part: float, right: int, down: int) -> Callable[[Sample], Sample]:
    """Depth moved by a part of the longer side; what it leaves is unknown."""

    def change(sample: Sample) -> Sample:
        height, width = sample.depth_size
        dx, dy = (round(part * max(height, width)) * way for way in (right, down))
        target = slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0))
        origin = slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0))
        depth, valid = torch.zeros_like(sample.depth), torch.zeros_like(sample.valid)
        depth[:, *target], valid[:, *target] = sample.depth[:, *origin], sample.valid[:, *origin]
        return replace(sample, depth=depth, valid=valid)

    return change


def along_rays(sample: Sample) -> Sample:
    if sample.intrinsics is None:
        return sample
    (height, width), image = sample.depth_size, sample.image_size
    camera = sample.intrinsics.scaled(height / image[0], width / image[1])
    u = (torch.arange(width) + 0.5 - camera.cx) / camera.fx
    v = ((torch.arange(height) + 0.5 - camera.cy) / camera.fy)[:, None]
    return replace(sample, depth=sample.depth * (1 + u**2 + v**2).sqrt())


CHANGES: dict[str, Callable[[Sample], Sample]] = {
    "as it is": lambda sample: sample,
    "mirrored": mirrored,
    **{f"moved {100 * part:g} % {name}": moved(part, *way) for part in MOVED for name, way in WAYS.items()},
    "along rays": along_rays,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--frames", type=int, default=30)
    given = parser.parse_args()
    for spec in given.data:
        data = load(spec)
        samples = [data[position] for position in spread(len(data), given.frames)]
        print(f"{spec}: {len(samples)} frames")
        for name, change in CHANGES.items():
            changed = [change(sample) for sample in samples]
            matches = [match for match in map(match_edges, changed) if match is not None]
            rays = [ray_exponents(sample) for sample in changed]
            said = [text for text in (describe_alignment(matches), describe_rays(rays)) if text]
            windows = sum(len(rows) for rows in rays)
            print(f"  {name}: {'; '.join(said) or 'nothing'} ({windows} flat windows)")


if __name__ == "__main__":
    main()
