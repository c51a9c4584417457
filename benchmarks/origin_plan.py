"""The `fathom` commands behind docs/results-origin.md: what is trained and probed, at which size, in which order."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGENET = {
    "squeezenet": "examples/squeezenet.py:squeezenet",
    "lite0": "examples/efficientnet_lite.py:lite0",
    "lite2": "examples/efficientnet_lite.py:lite2",
}
"""Networks with ImageNet weights that may take part, by the file and factory that build them."""

GRID = (9, 12)
"""Of the probe: the grid of the autoencoder's code."""
LARGE, SMALL = (72, 96), (48, 64)
"""Inputs of the autoencoder's comparison, and of the edge-guided networks and U-Nets."""
HOLDOUT = ["--set", "validation.scenes=0.1", "--set", "validation.frames=0.1"]
RATES = ("1e-4", "1e-2", "1e-1")
STEPS = {"autoencoder": 1200, "residual_cnn": 1200, "plain_cnn": 600, "unet": 400}
PLAIN = ["--set", "precision.compute=bf16", "--set", "train.batch=8", "--set", f"train.steps={STEPS['plain_cnn']}"]
UNET = ["--set", "train.batch=8", "--set", f"train.steps={STEPS['unet']}"]
LOSSES = {"mae": (1.0, 0.0, 0.0), "gradient": (1.0, 0.5, 0.0), "ssim": (1.0, 0.5, 0.5)}
"""Weights of MAE, edge gradient and SSIM; the last is the shipped recipe."""


@dataclass(frozen=True)
class Step:
    """One command of `fathom`, finished where `done` exists."""

    name: str
    argv: tuple[str, ...]
    done: Path

    @property
    def command(self) -> str:
        return shlex.join(["fathom", *self.argv])


class Plan:
    """The commands, in order; later ones depend on what earlier ones found."""

    def __init__(self, data: str, out: Path, imagenet: Mapping[str, str]) -> None:
        """`imagenet`: name in `IMAGENET` -> its safetensors."""
        self.data, self.out, self.imagenet = data, out, imagenet
        self.train, self.test = (f"packed:{out / 'frames' / part}" for part in ("train", "test"))

    def split(self) -> Step:
        path = self.out / "split.json"
        argv = ("data", "split", self.data, "--fraction", "0.25", "--leak-check", "--seed", "0", "--out", str(path))
        return Step("split", argv, path)

    def training(self, name: str, recipe: str, size: tuple[int, int], seed: int, settings: Sequence[str]) -> Step:
        folder = self.out / f"{name}-{seed}"
        argv = ["train", self.train, "--test", self.test, "--recipe", recipe, "--set", f"data.size={size[0]}x{size[1]}"]
        argv += [*HOLDOUT, *settings, "--seed", str(seed), "--device", "cpu", "--out", str(folder), "--resume"]
        return Step(folder.name, tuple(argv), folder / "summary.json")

    def sweep(self) -> Step:
        folder = self.out / "sweep"
        argv = [*self.training("sweep", "tiny-plain_cnn", SMALL, 0, PLAIN).argv[:-3], "--out", str(folder), "--resume"]
        argv += ["--sweep", f"optim.lr={','.join(RATES)}", "--sweep", "model.activation=relu,tanh"]
        return Step("sweep", tuple(argv), folder / "sweep.json")

    def rate(self, activation: str) -> str:
        """The learning rate that the held-out rooms of the sweep (not the test rooms) prefer."""
        runs = json.loads((self.out / "sweep" / "sweep.json").read_text())["runs"]
        own = [run for run in runs if f"model.activation={activation}" in run["settings"] and run["value"] is not None]
        best = min(own, key=lambda run: run["value"])
        rates = [str(item).partition("=")[2] for item in best["settings"] if item.startswith("optim.lr=")]
        return rates[0]

    def plain_folder(self, activation: str, seed: int) -> Path:
        """Seed 0 was trained by the sweep."""
        if seed == 0:
            return self.out / "sweep" / f"optim.lr={self.rate(activation)},model.activation={activation}"
        return self.out / f"plain-{activation}-{seed}"

    def plain(self, activation: str, seed: int) -> Step:
        settings = [*PLAIN, "--set", f"optim.lr={self.rate(activation)}", "--set", f"model.activation={activation}"]
        return self.training(f"plain-{activation}", "tiny-plain_cnn", SMALL, seed, settings)

    def edge_guided(self, seed: int) -> Iterator[Step]:
        yield self.training("gradient", "tiny-gradient", SMALL, seed, PLAIN)
        first = ["--set", f"first.checkpoint={self.out / f'gradient-{seed}'}", "--set", f"optim.lr={self.rate('relu')}"]
        yield self.training("edge_guided", "tiny-edge_guided", SMALL, seed, [*PLAIN, *first])

    def unets(self, seed: int) -> Iterator[Step]:
        for name, weights in LOSSES.items():
            terms = zip(("mae", "gradient", "ssim"), weights, strict=True)
            settings = [item for term, weight in terms for item in ("--set", f"loss.{term}={weight}")]
            yield self.training(f"unet-{name}", "tiny-unet", SMALL, seed, [*UNET, *settings])

    def autoencoders(self, seed: int) -> Iterator[Step]:
        for recipe in ("autoencoder", "residual_cnn"):
            settings = ["--set", f"train.steps={STEPS[recipe]}"]
            yield self.training(recipe, f"tiny-{recipe}", LARGE, seed, settings)
        yield self.probe(seed)

    def encoders(self, seed: int) -> dict[str, str]:
        """Name -> SPEC, given as NAME=SPEC; the probe adds the baselines, and each architecture with random and with permuted weights."""
        trained = {name: f"checkpoint:{self.out / f'{name}-{seed}'}" for name in ("autoencoder", "residual_cnn")}
        pretrained = {name: f"module:{IMAGENET[name]}?weights={path}" for name, path in self.imagenet.items()}
        return {**trained, **pretrained}

    def probe(self, seed: int) -> Step:
        folder = self.out / f"probe-{seed}"
        argv = ["probe", self.train, "--test", self.test]
        for name, spec in self.encoders(seed).items():
            argv += ["--encoder", f"{name}={spec}"]
        argv += ["--size", f"{LARGE[0]}x{LARGE[1]}", "--grid", f"{GRID[0]}x{GRID[1]}", "--seed", str(seed)]
        argv += ["--device", "cpu", "--out", str(folder)]
        return Step(folder.name, tuple(argv), folder / "evidence.json")

    def steps(self, seeds: int) -> Iterator[Step]:
        yield from self.autoencoders(0)
        yield self.sweep()
        yield from self.edge_guided(0)
        yield from self.unets(0)
        for seed in range(1, seeds):
            yield from (self.plain(activation, seed) for activation in ("relu", "tanh"))
            yield from self.edge_guided(seed)
        for more in (self.unets, self.autoencoders):
            for seed in range(1, seeds):
                yield from more(seed)

    def finished(self, name: str) -> list[Path]:
        """Run folders of `name`, by seed, as far as they are there without a gap."""
        found: list[Path] = []
        while True:
            seed = len(found)
            plain = name.removeprefix("plain-")
            if plain != name:
                if not (self.out / "sweep" / "sweep.json").is_file():
                    return []
                folder = self.plain_folder(plain, seed)
            else:
                folder = self.out / f"{name}-{seed}"
            if not ((folder / "summary.json").is_file() or (folder / "evidence.json").is_file()):
                return found
            found.append(folder)
