"""``fathom probe``: decide what frozen encoders know of a feature such as depth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fathom.cli.options import Device, Json, Out, Quiet, Seed, SkipBad, Workers, parse_size

WIDTH = 140
"""Of tables where no terminal says how wide it is."""


def probe(
    data: Annotated[str, typer.Argument(help="DATA: rooms, KIND:PATH, or a path whose kind is recognised.")],
    encoder: Annotated[
        list[str] | None, typer.Option("--encoder", "-e", help="Encoder SPEC; repeat for several.")
    ] = None,
    feature: Annotated[list[str] | None, typer.Option("--feature", "-f", help="Feature; repeat for several.")] = None,
    test: Annotated[
        str | None, typer.Option("--test", help="DATA to test on; default: official or a scene split.")
    ] = None,
    fraction: Annotated[
        float, typer.Option("--fraction", help="Share of frames to test on, where scenes are split.")
    ] = 0.25,
    split: Annotated[
        Path | None, typer.Option("--split", help="Saved split (fathom data split) instead of --fraction.")
    ] = None,
    baselines: Annotated[
        str | None, typer.Option("--baselines", help="Comma-separated baselines instead of the default ones.")
    ] = None,
    controls: Annotated[
        int, typer.Option("--controls", min=0, help="Random-weight seeds each encoder is compared with; 0: none.")
    ] = 5,
    upper_bound: Annotated[
        str | None, typer.Option("--upper-bound", help="Supervised checkpoint: the share of the gap refers to it.")
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option("--head", help="mlp or bins, trained beside the linear probes.")
    ] = None,
    cues: Annotated[bool, typer.Option("--cues", help="Test the probes on altered test images too.")] = False,
    label_curve: Annotated[
        bool | None,
        typer.Option(
            "--label-curve/--no-label-curve", help="Loss against training scenes; default: up to 512 channels."
        ),
    ] = None,
    banded: Annotated[
        bool | None,
        typer.Option(
            "--banded/--no-banded", help="A penalty for each layer of the concatenation; default: up to 512 channels."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder that keeps moments and features for the next run.")
    ] = None,
    size: Annotated[str | None, typer.Option("--size", help="Input height x width, such as 240x320.")] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="Grid of the probe; default: input divided by 8.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="Of AbsRel and δ1 at full resolution.")] = None,
    depth_scale: Annotated[str | None, typer.Option("--depth-scale", help="Metres a count, or counts a metre.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Frames encoded at once.")] = 16,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Cross-validation folds over training scenes.")] = 5,
    pictures: Annotated[int, typer.Option("--pictures", min=0, help="Test frames in the picture.")] = 4,
    layers: Annotated[bool, typer.Option("--layers", help="Print every layer, not the chosen one alone.")] = False,
    out: Out = Path("fathom-probe"),
    json: Json = None,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Fit exact linear probes from frozen encoders to features of DATA, and hold them against honest baselines.

    Writes evidence.json, report.html, predictions.png and split.json into --out; prints the table and the verdicts.
    """
    import shlex
    import sys

    from fathom.atomic import write_json
    from fathom.data.sources import load
    from fathom.data.splits import load_split, save_split
    from fathom.devices import resolve_device
    from fathom.errors import DataError, UsageError
    from fathom.probing.probe import probe as run
    from fathom.probing.settings import BASELINES
    from fathom.progress import console, note, set_quiet
    from fathom.report.probe import draw

    set_quiet(quiet)
    options = {"depth_scale": depth_scale} if depth_scale is not None else {}
    train = load(data, skip_bad=skip_bad, **options)
    held_out = load(test, skip_bad=skip_bad, **options) if test else None
    if split is not None:
        if held_out is not None:
            raise UsageError("--split and --test both name the test frames; give one.")
        parts = load_split(split, train)
        if not {"train", "test"} <= set(parts):
            raise DataError(
                split, f"has parts {', '.join(parts)}, not train and test", "make it with 'fathom data split'"
            )
        train, held_out = parts["train"], parts["test"]
    elif held_out is None:
        train, held_out = train.official_split() if train.has_official_split else train.split(fraction, seed)
    chosen_baselines = (
        tuple(name.strip() for name in baselines.split(",") if name.strip()) if baselines is not None else BASELINES
    )
    note(f"{train.source.location} is {train.source.kind}; probing {', '.join(feature or ['depth'])} with "
         f"{len(encoder or [])} encoders and {len(chosen_baselines)} baselines.")  # fmt: skip
    evidence = run(
        encoder or [],
        feature or ["depth"],
        train,
        held_out,
        baselines=chosen_baselines,
        size=parse_size(size) if size else None,
        grid=parse_size(grid) if grid else None,
        protocol=protocol,
        seed=seed,
        batch_size=batch_size,
        folds=folds,
        device=resolve_device(device),
        workers=workers,
        skip_bad=skip_bad,
        pictures=pictures,
        controls=controls,
        upper_bound=upper_bound,
        label_curve=label_curve,
        banded=banded,
        heads=tuple(head or ()),
        cues=cues,
        cache=str(cache) if cache else None,
        command=shlex.join(["fathom", *sys.argv[1:]]),
    )
    path = evidence.save(out)
    if held_out.source is train.source:
        save_split(out / "split.json", {"train": train, "test": held_out}, seed)
    drawn = draw(evidence, out)
    if json:
        write_json(json, evidence.to_json())
    screen = console(WIDTH)
    for name in evidence.features:
        screen.print(evidence.table(name, layers=layers))
    for verdict in evidence.verdicts:
        screen.print(f"{verdict.verdict}: {verdict.sentence}", soft_wrap=True)
    for encoder_name, sentence in evidence.cue_sentences.items():
        screen.print(f"{encoder_name}: {sentence}", soft_wrap=True)
    for line in evidence.notes:
        screen.print(f"note: {line}")
    screen.print(f"Written: {path}" + "".join(f", {item}" for item in drawn), soft_wrap=True)
