"""`train`: a recipe and a data set in, a trained network and a run folder out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from msgspec.structs import replace

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.devices import rank, resolve_device
from fathom.errors import UsageError
from fathom.files.lock import output_lock
from fathom.models.saved import Trained
from fathom.progress import note, set_quiet
from fathom.training.devices import explained, resolve_precision
from fathom.training.frames.mixture import mixed
from fathom.training.recipe import Recipe, load_recipe
from fathom.training.run.resume import RECIPE, Started
from fathom.training.session import Session
from fathom.training.signals import stop_requests

Data = Dataset | str | Sequence[Dataset | str]
"""A data set, its spec, or several of them."""


def train(
    recipe: str | Path | Recipe | None = None,
    data: Data | None = None,
    *,
    test: Dataset | str | None = None,
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    workers: int = 0,
) -> Trained:
    """Train the network of `recipe` on `data`.

    Args:
        recipe: a shipped name, a TOML file, or a `Recipe`. With `resume` it may be left out: the run's own.
        data: a data set or its spec, or several, drawn from as `data.weights` of the recipe says. Of a spec with an
            official split, training takes the training part and `test` is the test part, unless another is given. With
            `resume` it may be left out: the specs that the run was started with.
        test: frames scored at the end besides, and by nothing else.
        out: the run folder; ``runs/<recipe>`` unless given.
        settings: ``section.key=value`` over the recipe.
        resume: continue what the run folder holds; where it holds nothing, start.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``auto``.
        workers: processes that read data.

    Returns:
        The network of the chosen checkpoint: the best one after an early stop, else the last.

    Raises:
        UsageError, DataError, CheckpointError: input that cannot be used, or a run folder that another process writes.
        DivergedError: NaN in the loss.
        StoppedError: SIGTERM or Ctrl-C; saved.
    """
    device = resolve_device(device)
    started = Started.read(out) if resume and out is not None and (recipe is None or data is None) else None
    if started is not None and recipe is None:
        recipe = Path(str(out)) / RECIPE
    if started is not None and data is None:
        data, test = started.data, started.test if test is None else test
    if recipe is None or data is None:
        raise UsageError(
            "A training needs DATA and a recipe; with resume, out may name a run that was started with both."
        )
    resolved = resolve_precision(load_recipe(recipe, settings), device)
    specs = Started.of(data, test)
    sets, test = open_data(data, test)
    run = Path(out) if out is not None else Path("runs") / resolved.name
    if rank() > 0:
        set_quiet(True)
    with output_lock(run, "a training") if rank() == 0 else nullcontext():
        resolved = _with_first(resolved, sets, run, resume, device, workers)
        with explained(resolved):
            session = Session.open(resolved, sets, test, run, resume, device, workers)
            if rank() == 0 and specs is not None:
                specs.write(run)
            with stop_requests() as request:
                return session.train(request)


def open_data(data: Data, test: Dataset | str | None) -> tuple[list[Dataset], Dataset | None]:
    """Data sets of specs; without `test`, the official splits of the specs that have one."""
    part, sets, tests = None if test is None else _opened(test), list[Dataset](), list[Dataset]()
    for one in [data] if isinstance(data, Dataset | str) else data:
        whole = _opened(one)
        if isinstance(one, str) and part is None and whole.has_official_split:
            whole, official = whole.official_split()
            tests.append(official)
        sets.append(whole)
    return sets, part or (mixed(tests, "test") if tests else None)


def _opened(data: Dataset | str) -> Dataset:
    return data if isinstance(data, Dataset) else load(data)


def _with_first(recipe: Recipe, data: Sequence[Dataset], run: Path, resume: bool, device: str, workers: int) -> Recipe:
    """Train the network that this one is built upon, where the recipe names one; the recipe with its
    checkpoint.

    It is trained on the same frames, sizes and holdout: what is unseen stays unseen.
    """
    first = recipe.first
    if not first.recipe or first.checkpoint:
        return recipe
    inner = load_recipe(first.recipe)
    if inner.first.recipe and not inner.first.checkpoint:
        raise UsageError(
            f"Recipe '{recipe.name}' is built upon '{inner.name}', which is built upon '{inner.first.recipe}' itself; "
            "train that one first and name its run as first.checkpoint."
        )
    held_out = {key: getattr(recipe.validation, key) for key in ("scenes", "frames", "seed")}
    inner = replace(
        inner,
        data=recipe.data,
        train=replace(
            inner.train,
            steps=first.steps or inner.train.steps,
            fraction=recipe.train.fraction,
            fraction_by=recipe.train.fraction_by,
            seed=recipe.train.seed,
        ),
        validation=replace(inner.validation, **held_out),
        model=replace(inner.model, config=recipe.model.config.gradient()),
    )
    folder = run / "first"
    if (folder / "summary.json").is_file() and resume:
        note(f"The first network is trained already: {folder}")
    else:
        note(f"First the network that this one builds upon: {inner.name}, in {folder}")
        train(inner, data, out=folder, resume=resume, device=device, workers=workers)
    return replace(recipe, first=replace(first, checkpoint=str(folder)))
