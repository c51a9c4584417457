"""``fathom train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fathom.cli.options import Device, Json, Quiet, Workers

DEFAULT_OUT = Path("runs")


def train(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA...",
            help="rooms, KIND:PATH, or a path whose kind is recognised; several are mixed (--weights).",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="A shipped recipe's name, or a TOML file.", show_default=False)
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="A,B", help="Share of the draws from each DATA; by their frames unless given."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: --set optim.lr=1e-3."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; runs/RECIPE unless given.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that --out holds; DATA and --recipe may be left out.")
    ] = False,
    test: Annotated[
        str | None, typer.Option("--test", help="DATA that is scored at the end, and nothing else.")
    ] = None,
    fraction: Annotated[float | None, typer.Option("--fraction", help="Share of the training data to use.")] = None,
    fraction_by: Annotated[
        str, typer.Option("--fraction-by", help="What --fraction counts: scene (whole rooms) or frame.")
    ] = "scene",
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="CHECKPOINT", help="Fine-tune this network of the same kind: a run or shipped name."
        ),
    ] = None,
    write_recipe: Annotated[
        Path | None, typer.Option("--write-recipe", help="Write the resolved recipe to this file; train nothing.")
    ] = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Show the network and the recipe; train nothing.")
    ] = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Try rising learning rates, and say how to choose one.")
    ] = False,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", metavar="KEY=A,B,C", help="Train once for each value, and compare."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            help="Seed of weights, order and augmentation (train.seed); the held-out rooms stay (validation.seed).",
        ),
    ] = None,
    device: Device = "auto",
    workers: Workers = 0,
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """Train a network by a recipe, and show its scores on seen and unseen rooms."""
    from fathom.errors import UsageError
    from fathom.progress import set_quiet
    from fathom.training.recipe import load_recipe
    from fathom.training.run.resume import RECIPE, Started

    set_quiet(quiet)
    changes = list(settings or ())
    if fraction is not None:
        changes += [f"train.fraction={fraction}", f"train.fraction_by={fraction_by}"]
    if seed is not None:
        changes.append(f"train.seed={seed}")
    if start is not None:
        changes.append(f"start.checkpoint={json.dumps(start)}")
    if weights is not None:
        changes.append(f"data.weights=[{weights}]")
    if resume and out is not None and (recipe is None or not data):
        started = Started.read(out)
        recipe, data, test = recipe or str(out / RECIPE), data or started.data, test or started.test
    if recipe is None:
        raise UsageError("Name a recipe, such as --recipe tiny-unet (docs/training.md says which recipe is for what).")
    resolved = load_recipe(recipe, changes)
    out = out or DEFAULT_OUT / resolved.name
    if write_recipe is not None:
        from fathom.files.atomic import write_text

        write_text(write_recipe, resolved.to_toml())
        print(f"Written: {write_recipe}")
        return
    if describe:
        result = _describe(resolved)
    elif not data:
        raise UsageError("Name DATA to train on: rooms, KIND:PATH or a path.")
    elif find_lr:
        result = _find_lr(resolved, data, out, device, workers)
    elif sweep:
        result = _sweep(resolved, data, sweep, out, resume, test, device, workers)
    else:
        result = _train(resolved, data, out, resume, test, device, workers)
    if json_file is not None:
        from fathom.files.atomic import write_json

        write_json(json_file, result)


def _train(recipe: Any, data: list[str], out: Path, resume: bool, test: str | None, device: str, workers: int) -> Any:
    from fathom.devices import rank
    from fathom.progress import console, note
    from fathom.report.images.training import draw_curves, draw_examples
    from fathom.training.run.summary import sentences, table
    from fathom.training.train import train as run_training

    note(
        f"Training '{recipe.name}' ({recipe.model.name}) for {recipe.train.steps} steps on {' and '.join(data)}: {out}."
    )
    trained = run_training(recipe, data, test=test, out=out, resume=resume, device=device, workers=workers)
    summary = trained.summary()
    if rank() == 0:
        screen = console()
        screen.print(table(summary))
        for line in sentences(summary):
            screen.print(line, soft_wrap=True)
        pictures = [str(path) for path in (draw_curves(trained.run), draw_examples(trained)) if path]
        screen.print(f"Checkpoint: {trained.path}", soft_wrap=True)
        screen.print(f"Pictures: {', '.join(pictures)}", soft_wrap=True)
    return summary


def _describe(recipe: Any) -> Any:
    from fathom.models.describe import describe
    from fathom.training.session import build_network

    network = build_network(recipe)
    network.checkpointing = recipe.memory.checkpoint
    part = -(-recipe.train.batch // recipe.train.accumulate)
    description = describe(network, recipe.data.size, part)
    print(f"{description.table()}\n\n# The recipe, resolved\n{recipe.to_toml()}")
    return description.to_json()


def _find_lr(recipe: Any, data: list[str], out: Path, device: str, workers: int) -> Any:
    from fathom.progress import console
    from fathom.report.images.training import draw_rates
    from fathom.training.search.lr_find import find_rate

    found = find_rate(recipe, data, out=out, device=device, workers=workers)
    for line in found["sentences"]:
        console().print(line, soft_wrap=True)
    console().print(f"Picture: {draw_rates(found, out / 'lr_find' / 'lr_find.png')}", soft_wrap=True)
    return found


def _sweep(
    recipe: Any,
    data: list[str],
    sweep: list[str],
    out: Path,
    resume: bool,
    test: str | None,
    device: str,
    workers: int,
) -> Any:
    from fathom.devices import rank
    from fathom.progress import console
    from fathom.report.images.training import draw_sweep
    from fathom.training.search.sweep import run_sweep, sentences, table

    result = run_sweep(recipe, data, sweep, out=out, resume=resume, test=test, device=device, workers=workers)
    if rank() == 0:
        console().print(table(result))
        for line in sentences(result):
            console().print(line, soft_wrap=True)
        console().print(f"Comparison: {out / 'sweep.json'}, {draw_sweep(result, out)}", soft_wrap=True)
    return result
