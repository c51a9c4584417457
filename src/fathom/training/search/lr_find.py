"""The learning-rate finder: one short training with a rising rate (Smith 2017, section 3.3).

Where the loss falls fastest the rate is good; where it turns up the rate is too high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace

from fathom.devices import resolve_device, world_size
from fathom.errors import UsageError
from fathom.files.atomic import write_json
from fathom.files.lock import output_lock
from fathom.progress import track
from fathom.sample import Batch
from fathom.training.devices import explained, resolve_precision
from fathom.training.loop import batch_gradient
from fathom.training.losses import Objective, objective
from fathom.training.recipe import Recipe, load_recipe
from fathom.training.scoring.targets import target_of
from fathom.training.session import Session, spread
from fathom.training.train import Data, open_data

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
SMOOTHING = 0.6
BLOWN_UP = 4.0
"""The ramp ends when the loss exceeds this many times the first one."""
MARKED = (1e-4, 1e-2, 1e-1)
"""Rates whose loss is reported by itself: those that the edge-guided networks were first tried at."""
PROBE_BATCHES = 3
"""Batches' worth of training frames whose loss is watched."""


def find_rate(
    recipe: str | Path | Recipe,
    data: Data,
    *,
    out: str | Path,
    settings: Sequence[str] = (),
    steps: int = STEPS,
    device: str = "auto",
    workers: int = 0,
) -> dict[str, Any]:
    """Train `steps` steps at rates rising from 1e-6 to 1, and suggest one.

    Writes `lr_find.json` in the folder `lr_find` of `out`.

    Returns:
        ``rates``, ``losses`` (smoothed), ``raw``, ``marked`` (the smoothed loss at the rates of `MARKED` that were
        reached), ``suggested``, ``limit`` (the rate at which the loss turned up, or None) and ``sentences``: the suggestion and how to choose by it.
    """
    if world_size() > 1:
        raise UsageError("--find-lr runs in one process; start it without torchrun.")
    resolved = load_recipe(recipe, settings)
    resolved = replace(resolved, train=replace(resolved.train, steps=steps, ema=0.0))
    device = resolve_device(device)
    resolved = resolve_precision(resolved, device)
    sets, _ = open_data(data, None)
    out = Path(out) / "lr_find"
    with output_lock(out, "a search for the learning rate"), explained(resolved):
        session = Session.open(resolved, sets, None, out, False, device, workers)
        rates, raw = ramp(session, steps)
    losses = smooth(raw)
    found = suggest(rates, losses)
    sentences = [found.pop("sentence"), *advice(found["suggested"], resolved)]
    result = {"recipe": resolved.name, "rates": rates, "raw": raw, "losses": losses, **found, "sentences": sentences}
    result["marked"] = {f"{rate:g}": losses[nearest_rate(rates, rate)] for rate in MARKED if rate <= rates[-1] * 1.01}
    write_json(out / "lr_find.json", result)
    return result


def ramp(session: Session, steps: int) -> tuple[list[float], list[float]]:
    """Rates tried and the loss after a step at each, up to where the loss blows up or is not finite.

    The loss is that of a fixed set of training frames: the loss of the changing batches varies by more than a
        short
    training lowers it.
    """
    recipe = session.recipe
    model, optimiser = session.wrapped()
    loss = objective(recipe.loss)
    layout = torch.channels_last if recipe.memory.channels_last else torch.contiguous_format
    frames = session.frames["train"]
    watched = Batch.of([frames[i] for i in spread(len(frames), PROBE_BATCHES * recipe.train.batch)])
    rates, losses = list[float](), list[float]()
    for parts in track(session.batches(), "Trying learning rates", steps):
        rate = LOWEST * (HIGHEST / LOWEST) ** (len(rates) / max(steps - 1, 1))
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        batch_gradient(session.fabric, model, session.network, loss, parts, recipe.train.batch, layout)
        session.fabric.clip_gradients(
            model, optimiser, max_norm=recipe.optim.clip or math.inf, error_if_nonfinite=False
        )
        optimiser.step()
        value = watched_loss(session, model, loss, watched)
        if not math.isfinite(value):
            break
        rates.append(rate)
        losses.append(value)
        if len(losses) > 10 and losses[-1] > BLOWN_UP * losses[0]:
            break
    return rates, losses


@torch.no_grad()
def watched_loss(session: Session, model: torch.nn.Module, loss: Objective, watched: Batch) -> float:
    """The loss of the frames that are watched, in training mode, as the optimiser sees it."""
    total = 0.0
    for chunk in (
        slice(i, i + session.recipe.train.batch) for i in range(0, len(watched.ids), session.recipe.train.batch)
    ):
        image, depth, valid = (
            x[chunk].to(session.fabric.device) for x in (watched.image, watched.depth, watched.valid)
        )
        value, _ = loss(model(image), *target_of(session.network, image, depth, valid))
        total += float(value) * len(image)
    return total / len(watched.ids)


def smooth(losses: Sequence[float]) -> list[float]:
    """Exponential moving average, corrected for its start."""
    average, smoothed = 0.0, list[float]()
    for i, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**i))
    return smoothed


def nearest_rate(rates: Sequence[float], rate: float) -> int:
    """Where in `rates` the one nearest to `rate` stands, by ratio."""
    return min(range(len(rates)), key=lambda i: abs(math.log(rates[i] / rate)))


def advice(suggested: float | None, recipe: Recipe) -> list[str]:
    """How to choose a rate by the suggestion, and why the recipe's may differ from it."""
    own, peaks = recipe.optim.lr, recipe.schedule.name == "onecycle" or recipe.schedule.warmup > 0
    why = (
        f"The recipe's rate is {own:g}. It is the peak of its schedule ({recipe.schedule.name}), which rises to it and falls "
        "again, so that it can be higher than a rate that is good from the first step on."
        if peaks
        else f"The recipe's rate is {own:g}, from which its schedule ({recipe.schedule.name}) falls."
    )
    lines = [f"{why} The search sees the first {recipe.train.steps} steps alone, and no frame that is held out."]
    if suggested is not None:
        tried = ",".join(f"{rate:.1e}" for rate in dict.fromkeys((suggested, 3 * suggested, 10 * suggested)))
        lines.append(
            f"To choose: train from the suggestion up to ten times it and compare unseen rooms: --sweep optim.lr={tried}."
        )
    return lines


def suggest(rates: Sequence[float], losses: Sequence[float]) -> dict[str, Any]:
    """The rate of steepest descent of the smoothed loss over log rate, before its least; where it turns up
    again.

    The suggestion is at most a third of the rate at the least loss: there the loss is about to turn.
    """
    if len(rates) < 5:
        raise UsageError("The loss is not finite within five steps, so no rate can be suggested; check the data.")
    least = min(range(len(losses)), key=losses.__getitem__)
    start = losses[0]
    if least < 3 or losses[least] > 0.99 * start:
        return {
            "suggested": None,
            "limit": rates[least + 1] if least + 1 < len(rates) else None,
            "sentence": "No rate from 1e-6 to 1 lowered the loss in this short training; none is suggested.",
        }
    slopes = [(losses[i + 1] - losses[i - 1]) / 2 for i in range(1, least)]
    steepest = 1 + min(range(len(slopes)), key=slopes.__getitem__)
    suggested = float(f"{min(rates[steepest], rates[least] / 3):.1e}")
    turned = least + 1 < len(rates) and losses[-1] > 1.1 * losses[least]
    limit = rates[least] if turned else None
    above = "it never rose up to the highest rate tried" if limit is None else f"above {limit:.1e} it rises"
    return {
        "suggested": suggested,
        "limit": limit,
        "sentence": f"Suggested rate: --set optim.lr={suggested:g} (the loss fell fastest there; {above}).",
    }
