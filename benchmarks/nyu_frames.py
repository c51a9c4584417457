"""Frames of NYU Depth V2 as folders of scenes for training and for calibration, as the shipped network had them.

python benchmarks/nyu_frames.py FRAMES OUT --encoder efficientnet_lite2-imagenet.safetensors

FRAMES holds ``index.csv`` (columns frame and scene), ``rgb/FRAME.jpg`` and ``depth/FRAME.png`` of 8 bits, mirrored left to right,
where depth in metres is (count + 0.5) · 9.99547 / 255. OUT gets ``fit/`` and ``calibrate/`` in the layout of BTS: images the right
way round, depth in millimetres, the white border of 8 pixels without truth. Whoever has the official ``.mat`` file needs none of
this: ``fathom train nyuv2:FILE`` reads it, with the names of its scenes.

Scene names of FRAMES are runs of neighbouring frames. Runs next to each other that look like one room (cosine of the encoder's
standardised mean features above 0.55 for some pair of frames) become one room, and rooms are never divided.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from fathom.files.atomic import write_json
from fathom.models.efficientnet_lite import EfficientNetLite
from fathom.progress import track

ALIKE = 0.55
SHARE = 0.075
"""Of the frames, for choosing and for calibration each."""

MOST_FRAMES = 30
"""Larger rooms stay in training."""

SEED, BORDER = 7, 8


def features(images: list[Path], weights: Path) -> Float[Tensor, "N C"]:
    """Unit vectors: the standardised means of the encoder's two deepest maps, of the images' middle at 128x160."""
    encoder = EfficientNetLite("efficientnet_lite2")
    encoder.load_imagenet(load_file(weights))
    rows = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for path in track(images, "Comparing frames", len(images)):
            image = Image.open(path).crop((10, 10, 630, 470)).resize((160, 128))
            maps = encoder(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255)
            rows.append(torch.cat([m.float().mean((2, 3))[0] for m in (maps[-1], maps[-2])]))
    found = torch.stack(rows)
    return torch.nn.functional.normalize((found - found.mean(0)) / found.std(0), dim=1)


def rooms(scenes: list[str], looks: Float[Tensor, "N C"]) -> dict[str, str]:
    """The room of each scene: the first of a chain of neighbours that look alike."""
    frames: dict[str, list[int]] = defaultdict(list)
    for position, scene in enumerate(scenes):
        frames[scene].append(position)
    names = list(frames)
    found = {names[0]: names[0]}
    for before, after in pairwise(names):
        alike = float((looks[frames[before]] @ looks[frames[after]].T).max()) > ALIKE
        found[after] = found[before] if alike else after
    return found


def held_out(scenes: list[str], room: dict[str, str]) -> tuple[set[str], set[str]]:
    """Rooms that choose, and rooms that calibrate."""
    size: dict[str, int] = defaultdict(int)
    for scene in scenes:
        size[room[scene]] += 1
    order = sorted(size)
    random.Random(SEED).shuffle(order)
    choose, calibrate = set[str](), set[str]()
    for name in order:
        if size[name] > MOST_FRAMES:
            continue
        for part in (choose, calibrate):
            if sum(size[other] for other in part) < SHARE * len(scenes):
                part.add(name)
                break
    return choose, calibrate


def write(source: Path, frame: str, folder: Path) -> None:
    """One frame in the layout of BTS."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.open(source / "rgb" / f"{frame}.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.save(folder / f"rgb_{frame}.jpg", quality=97, subsampling=0)
    counts = np.array(Image.open(source / "depth" / f"{frame}.png"))[:, ::-1].astype(np.float64)
    millimetres = np.zeros(counts.shape, np.uint16)
    inside = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    millimetres[inside] = np.round((counts + 0.5) * 9995.47 / 255)[inside]
    Image.fromarray(millimetres).save(folder / f"sync_depth_{frame}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", type=Path, required=True)
    options = parser.parse_args()
    with (options.frames / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    scenes = [row["scene"] for row in rows]
    looks = features([options.frames / "rgb" / f"{row['frame']}.jpg" for row in rows], options.encoder)
    room = rooms(scenes, looks)
    choose, calibrate = held_out(scenes, room)
    for row in track(rows, "Writing frames", len(rows)):
        name = room[row["scene"]]
        write(options.frames, row["frame"], options.out / ("calibrate" if name in calibrate else "fit") / name)
    write_json(options.out / "parts.json", {"choose": sorted(choose), "calibrate": sorted(calibrate), "room": room})


if __name__ == "__main__":
    main()
