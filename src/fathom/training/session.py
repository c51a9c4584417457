"""A training with its data, network and state at hand: from opening to the report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.errors import CheckpointError, DataError, UsageError
from fathom.features.mean_map import MeanMap
from fathom.files.atomic import write_json, write_text
from fathom.files.tensors import write_tensors
from fathom.models import build
from fathom.models import saved as checkpoints
from fathom.models.efficientnet_lite import EfficientNetLite
from fathom.models.network import Network
from fathom.models.pretrained_unet import PretrainedUNet
from fathom.models.saved import SCHEMA_VERSION, Trained, load_model, load_weights
from fathom.progress import note
from fathom.sample import Batch, Grid
from fathom.training.devices import make_fabric
from fathom.training.frames.augment import augment
from fathom.training.frames.feed import Augment, Frames, Portion, feed, keep_in_memory
from fathom.training.frames.holdout import Parts, divide
from fathom.training.frames.mixture import mixed, mixed_parts, shares
from fathom.training.frames.order import Order, shards_of
from fathom.training.loop import Loop, lies_channels_last
from fathom.training.optim.average import moving_average
from fathom.training.optim.optimiser import make_optimiser
from fathom.training.optim.schedule import Schedule
from fathom.training.recipe import AugmentSection, Recipe
from fathom.training.run.journal import Journal
from fathom.training.run.resume import RECIPE, prepare_run, same_data
from fathom.training.run.state import State
from fathom.training.run.summary import SCHEMA_VERSION as SUMMARY_VERSION
from fathom.training.run.summary import comparisons, versions
from fathom.training.scoring import scoring
from fathom.training.scoring.targets import predicted, target_of
from fathom.training.signals import Request

EXAMPLES = "examples.safetensors"
"""Some unseen frames of a finished run with truth and prediction, for its pictures."""

MEAN_FRAMES = 2000
"""Frames that the mean map of a training set too large for memory is taken over."""


@dataclass
class Session:
    """A training with all that it needs at hand."""

    recipe: Recipe
    run: Path
    fabric: Fabric
    data: Dataset
    parts: Parts
    frames: dict[str, Frames]
    network: Network
    state: State
    baseline: MeanMap
    baseline_frames: int
    order: Order
    workers: int
    notes: list[str]

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        sets: Sequence[Dataset],
        test: Dataset | None,
        run: Path,
        resume: bool,
        device: str,
        workers: int,
    ) -> Session:
        """Divide and read the data, build the network, and take up the last checkpoint if asked to."""
        found = prepare_run(recipe, run, resume)
        data, parts = mixed(sets), divide_by(recipe, sets)
        notes = list(parts.notes)
        shards = shards_of(parts.train) if recipe.data.stream else None
        lengths = parts.lengths or (len(parts.train),)
        drawn = list(zip(lengths, shares(recipe.data.weights, lengths), strict=True)) if recipe.data.weights else []
        order = Order(len(parts.train), recipe.train.seed, shards, drawn)
        frames = {
            "train": Frames(parts.train, train_size(recipe)),
            "unseen": Frames(parts.unseen, recipe.data.size),
        }
        if parts.seen is not None:
            frames["seen"] = Frames(parts.seen, recipe.data.size)
        if test is not None:
            frames["test"] = Frames(test, recipe.data.size)
            notes += _overlap(test.scenes, parts.train.scenes, "test")
        network = build_network(recipe)
        fabric = make_fabric(recipe, device)
        if keep_in_memory(list(frames.values()), recipe.data.cache, recipe.data.cache_mb):
            for name, part in frames.items():
                part.keep(workers, f"Reading {name} frames")
        plain = frames["train"] if train_size(recipe) == recipe.data.size else Frames(parts.train, recipe.data.size)
        positions = spread(len(plain), None if plain.kept is not None else MEAN_FRAMES)
        baseline = _baseline(network, plain, positions, recipe, workers)
        if predicted(network).from_depth and not bool(baseline.counts.any()):
            raise DataError(
                data.source.location,
                f"no pixel of {len(positions)} training frames has a valid depth",
                "check the depth files and how their counts become metres",
            )
        if found is None:
            notes += [*_load_first(recipe, network, parts), *_load_start(recipe, network, parts)]
        state = _new_state(recipe, network, fabric)
        if found is not None:
            same_data(found, parts)
            state.restore(found)
            note(f"Resuming after step {state.step} of {recipe.train.steps}: {found}")
        if fabric.is_global_zero:
            write_text(run / RECIPE, recipe.to_toml())
        return cls(
            recipe, run, fabric, data, parts, frames, network, state, baseline, len(positions), order, workers, notes
        )

    def train(self, request: Request) -> Trained:
        """Train to the end, score, write the report; returns the network of the chosen checkpoint."""
        start, first_step = time.monotonic(), self.state.step
        recipe, train = self.recipe, self.recipe.train
        self.network.checkpointing = recipe.memory.checkpoint
        finished = self.state.step >= train.steps or self._stopped_early()
        early = self._stopped_early()
        if not finished:
            model, optimiser = self.wrapped()
            zero = self.fabric.is_global_zero
            journal = Journal(self.run, self.state.step, train.tensorboard) if zero else None
            loop = Loop(
                self.fabric,
                model,
                optimiser,
                self.state,
                recipe,
                self.run,
                journal,
                self._config(),
                lambda: self._scores(("seen", "unseen"), None, recipe.validation.most),
                scoring.metric(self.network.predicts),
                request,
            )
            try:
                early = not loop.fit(self.batches())
            finally:
                if journal is not None:
                    journal.close()
        seconds = time.monotonic() - start
        return self._finish(early, seconds, self.state.step - first_step)

    def wrapped(self) -> tuple[torch.nn.Module, Any]:
        """The network and its optimiser as Fabric wraps them."""
        model: Any = torch.compile(self.network) if self.recipe.train.compile else self.network
        model.train()
        wrapped, optimiser = self.fabric.setup(model, self.state.optimiser)
        if self.state.scaler:
            self.fabric.strategy.precision.load_state_dict(self.state.scaler)
        return wrapped, optimiser

    def batches(self) -> Iterator[list[Batch]]:
        train = self.recipe.train
        portion = Portion(train.batch, train.accumulate, self.fabric.global_rank, self.fabric.world_size)
        return feed(
            self.frames["train"],
            portion,
            range(self.state.step, train.steps),
            order=self.order,
            seed=train.seed,
            augment=make_augment(self.recipe),
            workers=self.workers,
            pin=self.fabric.device.type == "cuda",
        )

    def _scores(self, names: Sequence[str], baseline: MeanMap | None, most: int | None = None) -> dict[str, Any]:
        """Scores of the parts that exist: of the network alone; with a `baseline` of the baselines beside it, and by scene."""
        self._share_statistics()
        result: dict[str, Any] = {}
        for name in names:
            if name in self.frames:
                frames = self.frames[name]
                count = len(frames)
                positions = spread(count, most)
                own = scoring.in_batches(
                    len(positions), self.recipe.train.batch, self.fabric.global_rank, self.fabric.world_size
                )
                batches = stacked(frames, [[positions[i] for i in batch] for batch in own], self.workers)
                scores, scenes = scoring.score(
                    self.network, self._predict, batches, baseline, self.fabric.device, self._gather
                )
                result[name] = (scores, scenes) if baseline is not None else scores["model"]
        return result

    def _predict(self, batch: Batch) -> Float[Tensor, "B C h w"]:
        """Prediction by the weights that are the result, as `load_model` will have them."""
        network: Any = self.network if self.state.average is None else self.state.average.module
        network.eval()
        inputs: Any = (batch.image.to(self.fabric.device),)
        if network.takes_camera and batch.camera is not None:
            inputs = (*inputs, batch.camera.to(self.fabric.device))
        with torch.no_grad(), self.fabric.autocast():
            prediction: Tensor = network(*inputs)
        return prediction

    def _share_statistics(self) -> None:
        """Give every process the first one's buffers (batch norm's statistics), which are those that are
        saved."""
        if self.fabric.world_size > 1:
            weights = self.state.weights()
            for name, _ in self.network.named_buffers():
                torch.distributed.broadcast(weights[name], src=0)

    def _gather(self, sheets: list[scoring.Sheet]) -> list[scoring.Sheet]:
        """The sheets of all processes, each frame once."""
        if self.fabric.world_size == 1:
            return sheets
        everyone: list[list[scoring.Sheet]] = [[] for _ in range(self.fabric.world_size)]
        torch.distributed.all_gather_object(everyone, sheets)
        return [sheet for part in everyone for sheet in part]

    def _stopped_early(self) -> bool:
        patience = self.recipe.validation.patience
        return bool(patience) and self.state.stopping.since >= patience

    def _finish(self, early: bool, seconds: float, steps: int) -> Trained:
        """Score the chosen checkpoint on every held-out part and write `summary.json` and the example frames."""
        chosen = self.run / "checkpoints" / str(self.state.step)
        best = self.run / "checkpoints" / str(self.state.stopping.best_step)
        if self.recipe.validation.patience and best.is_dir() and best != chosen:
            chosen = best
            self.state.restore(best)
        scored = self._scores(("seen", "unseen", "test"), self.baseline)
        self.fabric.barrier()
        if self.fabric.is_global_zero:
            decides = scoring.metric(self.network.predicts)
            summary = self._facts(chosen, early, seconds, steps) | comparisons(scored, decides)
            summary |= {"examples": self._keep_examples()}
            write_json(self.run / "summary.json", summary, checksum=True)
        self.fabric.barrier()
        return load_model(chosen, trusted=True)

    def _facts(self, chosen: Path, early: bool, seconds: float, steps: int) -> dict[str, Any]:
        """All that is known of a finished run but its scores, as JSON values; the keys are documented in docs/training.md."""
        recipe, network = self.recipe, self.network
        notes = list(self.notes)
        if early:
            notes.append(
                "Stopped early by the score on unseen rooms, which is therefore a little too good; see --test."
            )
        return {
            "schema_version": SUMMARY_VERSION,
            "recipe": recipe.name,
            "model": recipe.model.name,
            "target": network.predicts,
            "unit": predicted(network).unit,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "receptive_field": network.receptive_field,
            "input_size": list(recipe.data.size),
            "checkpoint": f"checkpoints/{chosen.name}",
            "steps": self.state.step,
            "stopped_early": early,
            "best_step": self.state.stopping.best_step,
            "seconds": round(seconds, 3),
            "images_per_second": round(steps * recipe.train.batch / seconds, 3) if steps else None,
            "device": str(self.fabric.device),
            "processes": self.fabric.world_size,
            "precision": recipe.precision.compute,
            "seed": recipe.train.seed,
            "data": {
                "location": self.data.source.location,
                "kind": self.data.source.kind,
                "train_fingerprint": self.parts.train.fingerprint(),
                "frames": {name: len(frames) for name, frames in self.frames.items()},
                "scenes": {name: len(frames.data.scenes) for name, frames in self.frames.items()},
                "fraction": recipe.train.fraction,
                "fraction_by": recipe.train.fraction_by,
                "mean_map_frames": self.baseline_frames,
            },
            "notes": notes,
            "versions": versions(),
        }

    def _keep_examples(self) -> list[str]:
        """Write some unseen frames with their predictions as `EXAMPLES`; returns the frames' ids."""
        frames = self.frames["unseen"]
        positions = spread(len(frames), self.recipe.validation.pictures)
        if not positions:
            return []
        batch = Batch.of([frames[position] for position in positions])
        prediction = self._predict(batch).float().cpu()
        target, valid = target_of(self.network, batch.image, batch.depth, batch.valid)
        tensors = {"image": batch.image, "target": target, "valid": valid.byte(), "prediction": prediction}
        contiguous = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        write_tensors(self.run / EXAMPLES, contiguous)
        return list(batch.ids)

    def _config(self) -> dict[str, Any]:
        """What every checkpoint says of itself, beside its step."""
        recipe, network = self.recipe, self.network
        return {
            "schema_version": SCHEMA_VERSION,
            "model": recipe.model.name,
            "model_config": asdict(recipe.model.config),
            "encoder": checkpoints.encoder_origin(network),
            "recipe": recipe.table(),
            "target": network.predicts,
            "input_size": list(recipe.data.size),
            "output_stride": network.output_stride,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "receptive_field": network.receptive_field,
            "data": self.data.source.location,
            "train_scenes": list(self.parts.train.scenes),
            "unseen_scenes": list(self.parts.unseen.scenes),
            "train_fingerprint": self.parts.train.fingerprint(),
            "versions": versions(),
        }


def divide_by(recipe: Recipe, sets: Sequence[Dataset]) -> Parts:
    """The data sets divided as the recipe says, each by itself, as one."""
    held, train = recipe.validation, recipe.train
    return mixed_parts(
        [
            divide(
                one,
                held.scenes,
                held.frames,
                fraction=train.fraction,
                fraction_by=train.fraction_by,
                seed=held.seed,
            )
            for one in sets
        ]
    )


def build_network(recipe: Recipe) -> Network:
    """The recipe's network with fresh weights, a function of the recipe's seed."""
    torch.manual_seed(recipe.train.seed)
    network = build(recipe.model.name, recipe.model.config)
    if min(recipe.data.size) < network.stride:
        size = "x".join(map(str, recipe.data.size))
        raise UsageError(
            f"Images of {size} are smaller than the stride {network.stride} of '{recipe.model.name}'; "
            f"use at least --set data.size={network.stride}x{network.stride}."
        )
    return network


def make_augment(recipe: Recipe) -> Augment | None:
    """The recipe's augmentation, or None where it asks for none."""
    if recipe.augment == AugmentSection(flip=0) and train_size(recipe) == recipe.data.size:
        return None
    size = recipe.data.size if train_size(recipe) != recipe.data.size else None
    return partial(augment, config=recipe.augment, size=size)


def train_size(recipe: Recipe) -> Grid:
    """The (height, width) at which training frames are kept: so large that a zoom does not enlarge pixels."""
    height, width = (round(length * recipe.data.detail) for length in recipe.data.size)
    return height, width


def spread(count: int, most: int | None) -> list[int]:
    """Up to `most` of the positions 0..count-1, evenly spread."""
    if most is None or count <= most:
        return list(range(count))
    return [round((i + 0.5) * count / most - 0.5) for i in range(most)]


def stacked(frames: Frames, batches: Sequence[Sequence[int]], workers: int) -> Iterator[Batch]:
    """The frames at the positions of each batch, stacked, read ahead by `workers` processes."""
    stream = frames.stream(workers, [position for batch in batches for position in batch])
    for batch in batches:
        yield Batch.of([next(stream) for _ in batch])


def _baseline(network: Network, frames: Frames, positions: Sequence[int], recipe: Recipe, workers: int) -> MeanMap:
    """The mean target over the training frames at `positions`: all, or `MEAN_FRAMES` of a set too large for memory."""
    batches = [positions[i : i + recipe.train.batch] for i in range(0, len(positions), recipe.train.batch)]
    return scoring.mean_map(network, stacked(frames, batches, workers))


def _new_state(recipe: Recipe, network: Network, fabric: Fabric) -> State:
    if lies_channels_last(recipe, network):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.to(fabric.device)
    # Gradient scaling of fp16 and the fused kernels unscale at different places.
    fused = recipe.precision.compute != "fp16" and fabric.device.type in ("cpu", "cuda")
    optimiser = make_optimiser(network, recipe.optim, fused)
    average = moving_average(network, recipe.train.ema) if recipe.train.ema else None
    return State(network, optimiser, Schedule(recipe.schedule, recipe.train.steps), average, recipe.train.seed)


def _load_first(recipe: Recipe, network: Network, parts: Parts) -> list[str]:
    """Fill the network inside from its own checkpoint; notes what that one has seen of the unseen."""
    if not recipe.first.checkpoint:
        return []
    first = load_model(recipe.first.checkpoint)
    inner: Any = getattr(network, "gradient", None)
    if inner is None:
        raise UsageError(f"'{recipe.model.name}' is not built upon another network; leave out first.checkpoint.")
    if not isinstance(first.model, type(inner)):
        raise CheckpointError(
            first.path, f"is of '{first.model_name}', and '{recipe.model.name}' needs a gradient network"
        )
    load_weights(inner, first.path / checkpoints.MODEL)
    return _overlap(parts.unseen.scenes, first.train_scenes, "unseen", f" by {first.path}")


def _load_start(recipe: Recipe, network: Network, parts: Parts) -> list[str]:
    """Fill the network from the weights that the recipe starts from; notes what they have seen of the unseen."""
    start = recipe.start
    if start.encoder:
        if not isinstance(network, PretrainedUNet):
            raise UsageError(f"'{recipe.model.name}' has no ImageNet encoder; leave out start.encoder.")
        if not isinstance(network.encoder, EfficientNetLite):
            raise UsageError(f"Encoder '{network.config.encoder}' brings its own weights; leave out start.encoder.")
        try:
            network.encoder.load_imagenet(checkpoints.read_tensors(Path(start.encoder)))
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(start.encoder, f"does not fit {network.config.encoder} ({error})") from error
    if not start.checkpoint:
        return []
    before = load_model(start.checkpoint)
    load_weights(network, before.path / checkpoints.MODEL)
    return _overlap(parts.unseen.scenes, before.train_scenes, "unseen", f" by {before.path}")


def _overlap(held: Sequence[str], trained: Sequence[str], what: str, by: str = "") -> list[str]:
    shared = sorted(set(held) & set(trained))
    if not shared:
        return []
    return [f"The {what} score is too good: {len(shared)} of its scenes were trained on{by}, such as '{shared[0]}'."]
