"""``fathom probe``: decide what frozen encoders know of a feature such as depth."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli.options import Device, Json, Out, Quiet, Seed, SkipBad, Workers, parse_size
from fathom.errors import FathomError, UsageError
from fathom.files import limits
from fathom.files.atomic import write_json

if TYPE_CHECKING:
    from rich.console import Console

    from fathom.data.dataset import Dataset
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.settings import ProbeSettings

CONTROLS = 5
"""As in `fathom.probing.settings`, which is heavy to import for a help text."""

WIDTH = 140
"""Of tables where no terminal says how wide it is."""


def probe(
    context: typer.Context,
    data: Annotated[
        str, typer.Argument(help="Data to probe on: rooms, KIND:PATH, or a path whose kind is recognised.")
    ] = "",
    encoder: Annotated[
        list[str] | None,
        typer.Option("--encoder", "-e", help="Encoder to probe, as SPEC or NAME=SPEC; repeat for several."),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option("--feature", "-f", help="Feature to probe for; repeat for several. Default: depth."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option("--test", help="Data to test on. Default: the official test part, else a split of the scenes."),
    ] = None,
    fraction: Annotated[
        float, typer.Option("--fraction", help="Fraction of the frames to test on, where scenes are split.")
    ] = 0.25,
    split: Annotated[
        Path | None, typer.Option("--split", help="Saved split to use (see 'fathom data split') instead of --fraction.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            "--like",
            metavar="RUN",
            help="Repeat the run in this folder: its encoders, features, settings and split, except for options given here.",
        ),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            "--runs",
            metavar="FILE",
            help="Make all runs of this TOML file instead, each in a folder of its own in --out.",
        ),
    ] = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Print what would be run, with every setting, and run nothing.")
    ] = False,
    self_check: Annotated[
        bool,
        typer.Option(
            "--self-check",
            help="Instead of probing, count how often the verdict is false on this data, with random copies of one encoder.",
        ),
    ] = False,
    baselines: Annotated[
        str | None, typer.Option("--baselines", help="Baselines to compare with, separated by commas.")
    ] = None,
    controls: Annotated[
        int,
        typer.Option(
            "--controls", min=0, help="Number of random-weight copies to compare each encoder with; 0 for none."
        ),
    ] = CONTROLS,
    upper_bound: Annotated[
        str | None,
        typer.Option("--upper-bound", help="Supervised depth model that the fraction of the gap closed refers to."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option("--head", help="Type of non-linear head (mlp or bins) to train as well; repeat for several."),
    ] = None,
    penalties: Annotated[
        str | None,
        typer.Option("--penalties", help="Values of the ridge penalty λ to choose from, separated by commas."),
    ] = None,
    cues: Annotated[bool, typer.Option("--cues", help="Also test the probes on altered test images.")] = False,
    label_curve: Annotated[
        bool | None,
        typer.Option(
            "--label-curve/--no-label-curve",
            help="Measure the loss against the number of training scenes. Default: for layers of up to 512 channels.",
        ),
    ] = None,
    banded: Annotated[
        bool | None,
        typer.Option(
            "--banded/--no-banded",
            help="Fit the concatenation of layers with a penalty for each. Default: for up to 512 channels.",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            help="Folder that keeps moments and features, so that the next run need not read the training frames.",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Size that images are brought to, height x width, such as 240x320.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option("--grid", help="Grid of the probe, height x width. Default: the size divided by 8.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Protocol of AbsRel and δ1 at full resolution.")
    ] = None,
    depth_scale: Annotated[
        str | None,
        typer.Option(
            "--depth-scale",
            help="Depth unit of the files: metres per count (below 1) or counts per metre (1 and above).",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Number of frames encoded at once.")] = 16,
    folds: Annotated[
        int, typer.Option("--folds", min=2, help="Number of cross-validation folds over training scenes.")
    ] = 5,
    pictures: Annotated[int, typer.Option("--pictures", min=0, help="Number of test frames in the picture.")] = 4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that --out holds already.")] = False,
    each_layer: Annotated[
        bool, typer.Option("--each-layer", help="Also give a verdict for every layer of each encoder.")
    ] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Print every layer, not only the chosen one.")] = False,
    out: Out = Path("fathom-probe"),
    json: Json = None,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Fit linear probes from frozen encoders to features of DATA and compare them with baselines on unseen scenes.

    Writes evidence.json, report.html, predictions.png, split.json and the fitted probes into --out; prints the table and the
    verdicts. An interrupted run resumes with the same command.
    """
    from fathom.devices import rank as process
    from fathom.devices import resolve_device
    from fathom.probing import processes
    from fathom.probing.evidence.comparison.differences import losses_agree, why_different
    from fathom.probing.evidence.evidence import FILE, Evidence
    from fathom.probing.probe import measure, plan
    from fathom.probing.run_folder import run_folder, save_run
    from fathom.probing.settings import ProbeSettings
    from fathom.probing.sweep import data_parts
    from fathom.progress import console, count, note, set_quiet

    # Of several processes the first speaks.
    set_quiet(quiet or process() > 0)
    given = {name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")}
    if runs is not None:
        _sweep(runs, out, overwrite, given, resolve_device(device), workers)
        return
    earlier = Evidence.load(like) if like is not None else None
    if not data and earlier is not None:
        raise UsageError(
            f"--like {like} needs DATA to repeat the run on. Its command was: {earlier.command or 'not recorded'}"
        )
    if not data:
        raise UsageError("fathom probe needs DATA, such as rooms or KIND:PATH, or --runs FILE.")
    if not (describe or overwrite) and (out / FILE).exists():
        raise UsageError(f"{out} holds a run already; choose another --out, or add --overwrite to replace it.")
    values = {
        "baselines": _words(baselines),
        "size": parse_size(size) if size else None,
        "grid": parse_size(grid) if grid else None,
        "penalties": _numbers(penalties),
        "heads": tuple(head or ()),
        "cache": str(cache) if cache else None,
        "device": resolve_device(device),
    } | {
        name: context.params[name]
        for name in (
            "controls", "protocol", "seed", "folds", "banded", "label_curve", "cues", "each_layer", "skip_bad", "pictures", "batch_size",
            "workers",
        )
    }  # fmt: skip
    option_of = {"heads": "head"}
    # What is not given on the command line has its default, or stays as it was in the run that is repeated.
    changes = {
        name: value
        for name, value in values.items()
        if option_of.get(name, name) in given or name == "device" or (earlier is None and value is not None)
    }
    settings = (earlier.settings if earlier else ProbeSettings()).changed(changes)
    encoders, features = list(encoder or ()), list(feature or ())
    if earlier is not None:
        recorded = ([] if encoders else earlier.specs()) + ([] if features else earlier.feature_specs())
        # Code that the user names runs; code that a file names runs only where the limit allows it.
        limits.check("code-files", sum("module:" in spec for spec in recorded), like or out, "names")
        encoders, features = encoders or earlier.specs(), features or earlier.feature_specs()
        upper_bound = upper_bound or earlier.upper_bound
        depth_scale = depth_scale or _given_in(earlier.command, "--depth-scale")
        saved = (like if like is not None and like.is_dir() else out) / "split.json"
        if not given & {"split", "test", "fraction"} and saved.is_file():
            split = saved
    train, held_out = data_parts(data, test, split, fraction, settings.seed, skip_bad, depth_scale)
    features = features or ["depth"]
    screen = console(WIDTH)
    if describe:
        for key, value in plan(encoders, features, train, held_out, upper_bound, settings).describe():
            screen.print(f"{key}: {value}", soft_wrap=True, markup=False)
        return
    if self_check:
        _self_check(encoders, features, train, held_out, settings, out)
        return
    note(f"{train.source.location}, read as {train.source.kind}: probing {', '.join(features)} with "
         f"{count(len(encoders), 'encoder')} and {count(len(settings.baselines), 'baseline')}.")  # fmt: skip
    with processes.joined(), run_folder(out, overwrite):
        run = plan(encoders, features, train, held_out, upper_bound, settings)
        evidence = measure(run, out)
        evidence.command = shlex.join(["fathom", *sys.argv[1:]])
        if earlier is not None:
            different = tuple(f"Unlike {like}, this run has {text}" for text in why_different(earlier, evidence))
            evidence.notes += different or (
                f"This run repeats {like}: data, settings, weights, code and versions are the same, and "
                f"{losses_agree(earlier, evidence)}.",
            )
        written = save_run(evidence, out, run.train, run.test)
    if process() == 0:
        if json:
            write_json(json, evidence.to_json())
        _show(screen, evidence, layers)
        screen.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True)


def _sweep(file: Path, out: Path, overwrite: bool, given: set[str], device: str, workers: int) -> None:
    """Make the runs of a file, and print the rankings."""
    from fathom.probing.sweep import sweep
    from fathom.progress import console

    allowed = {"runs", "out", "overwrite", "device", "workers", "quiet"}
    if other := sorted(given - allowed):
        raise UsageError(f"--{other[0].replace('_', '-')} does not go with --runs; write it into {file}.")
    found = sweep(file, out, overwrite=overwrite, changes={"device": device, "workers": workers})
    screen = console(WIDTH)
    for group, ranking in found.rankings:
        screen.print(f"runs {', '.join(group)}:", soft_wrap=True)
        screen.print(ranking.table())
        screen.print(ranking.pairs_table())
    for name, evidence in found.runs.items():
        for verdict in evidence.verdicts:
            screen.print(f"{name}: {verdict.verdict}: {verdict.sentence}", soft_wrap=True)
    screen.print(f"Written: {out / 'index.html'}", soft_wrap=True)
    if found.failed:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.failed.items())
        raise FathomError(f"{len(found.failed)} of {len(found.runs) + len(found.failed)} runs failed. {reasons}")


def _show(screen: Console, evidence: Evidence, layers: bool) -> None:
    """Print tables, rankings, verdicts and notes."""
    from fathom.probing.evidence.comparison.ranking import rank
    from fathom.probing.evidence.table import layer_table

    for name in evidence.features:
        screen.print(evidence.table(name, layers=layers))
        ranking = rank(evidence, name)
        if ranking is not None:
            screen.print(ranking.table())
        if evidence.layer_verdicts:
            screen.print(layer_table(evidence, name))
    for verdict in evidence.verdicts:
        screen.print(f"{verdict.verdict}: {verdict.sentence}", soft_wrap=True)
    for encoder_name, sentence in evidence.cue_sentences.items():
        screen.print(f"{encoder_name}: {sentence}", soft_wrap=True)
    for line in evidence.notes:
        screen.print(f"note: {line}")


def _self_check(
    encoders: list[str], features: list[str], train: Dataset, test: Dataset, settings: ProbeSettings, out: Path
) -> None:
    """Print how often the verdict is false on this data, and write ``self-check.json``."""
    from fathom.features import feature
    from fathom.probing.self_check import self_check
    from fathom.progress import console

    if len(encoders) != 1 or len(features) != 1:
        raise UsageError("--self-check takes one --encoder, whose random copies are drawn, and one --feature.")
    found = self_check(encoders[0], feature(features[0], train), train, test, settings=settings)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "self-check.json"
    write_json(path, found.to_json())
    screen = console(WIDTH)
    screen.print(found.table())
    screen.print(f"Written: {path}", soft_wrap=True)


def _given_in(command: str, option: str) -> str | None:
    """The value of an option in the command of an earlier run; None where it was not given."""
    words = shlex.split(command)
    for position, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name == option:
            return value if sign else next(iter(words[position + 1 :]), None)
    return None


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(word) for word in _words(text) or ())
    except ValueError:
        raise UsageError(f"--penalties {text}: wanted numbers separated by commas, such as 0.01,0.1,1.") from None
