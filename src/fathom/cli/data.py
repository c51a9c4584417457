"""``fathom data``: look at data, check every frame, split by scene, render rooms, export and pack."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fathom.cli.options import Json, Out, Quiet, Seed, SkipBad, parse_size

if TYPE_CHECKING:
    from fathom.data.dataset import Dataset
    from fathom.data.loading import Skipped
    from fathom.data.packed.members import DepthFormat, ImageFormat
    from fathom.data.tools.survey import Survey
    from fathom.sample import Sample

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Look at, check, split, render, export and pack data."
)


Data = Annotated[str, typer.Argument(help="DATA: rooms, KIND:PATH, or a path whose kind is recognised.")]
Scale = Annotated[str | None, typer.Option("--depth-scale", help="Metres a count, or counts a metre.")]


def _open(data: str, depth_scale: str | None, skip_bad: bool = False) -> Dataset:
    from fathom.data.sources import load

    return load(data, skip_bad=skip_bad, **({"depth_scale": depth_scale} if depth_scale is not None else {}))


def _write_json(path: Path, record: dict[str, object]) -> None:
    from fathom.files.atomic import write_json

    write_json(path, {"schema_version": 1, **record})


def _shown(sample: Sample) -> Sample:
    """The sample under a name that fits above a picture and that every font can draw."""
    name = sample.id.encode("utf-8", "backslashreplace").decode()
    return replace(sample, id=name if len(name) <= 24 else "…" + name[-23:])


def _report(dataset: Dataset, skipped: Skipped | None) -> None:
    """Say what --skip-bad left out: incomplete frames when the data were opened, unreadable ones since."""
    if (incomplete := dataset.source.facts.get("left out")) is not None:
        typer.echo(f"left out {incomplete}", err=True)
    if skipped:
        typer.echo(f"left out {len(skipped)} frames: {skipped.describe()}", err=True)


@app.command()
def info(
    data: Data,
    frames: Annotated[int, typer.Option("--frames", min=0, help="Frames to read, spread evenly; 0 reads all.")] = 200,
    depth_scale: Scale = None,
    out: Out = Path("fathom-data"),
    json: Json = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Print what DATA holds, and draw a contact sheet into --out."""
    from fathom.data.formats.files import DepthUnitWarning
    from fathom.data.loading import Skipped
    from fathom.data.tools.survey import examples, survey
    from fathom.errors import DataError
    from fathom.progress import console, set_quiet
    from fathom.report.images.contact import contact_sheet

    set_quiet(quiet)
    dataset = _open(data, depth_scale, skip_bad)
    skipped = Skipped() if skip_bad else None
    found = survey(dataset, most=frames or None, skipped=skipped)
    console(140).print(_table(dataset, found))
    location = dataset.source.location
    if json:
        record = {"kind": dataset.source.kind, "location": location, "facts": dict(dataset.source.facts)}
        _write_json(json, {**record, **found.to_json()})
    _report(dataset, skipped)
    for warning in [
        *found.warnings[:3],
        *(f"{text}." for text in found.findings),
        *_without_depth(dataset, found.empty)[:3],
    ]:
        typer.echo(f"warning: {warning}", err=True)
    if not found.read:
        raise DataError(location, "has no frame that can be read", "see 'fathom data check'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DepthUnitWarning)  # told above
        samples = [_shown(sample) for sample in examples(dataset, 12)]
    title = f"{location} ({dataset.source.kind})".encode("utf-8", "backslashreplace").decode()
    typer.echo(f"Written: {contact_sheet(samples, out / 'contact.png', title=title)}")
    if len(found.empty) == found.read:
        raise DataError(location, "has no valid pixel in any frame that was read", "see what the files hold")


def _without_depth(dataset: Dataset, ids: Sequence[str]) -> list[str]:
    """A sentence for each frame without a valid pixel, naming the file that should hold some."""
    frames = {frame.id: frame for frame in map(dataset.frame, range(len(dataset)))} if ids else {}
    sentences = []
    for id_ in ids:
        files = frames[id_].files  # the image first, then what is known of it
        sentences.append(f"{files[min(1, len(files) - 1)]}: has no valid depth in frame {id_}." if files else id_)
    return sentences


def _table(dataset: Dataset, found: Survey) -> object:
    from rich.table import Table

    from fathom.data.tools.survey import PERCENTILES
    from fathom.progress import count

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    percentiles = ", ".join(f"{p} %: {v:.3g}" for p, v in zip(PERCENTILES, found.depth, strict=False))
    read = "all" if found.read + len(found.broken) == found.frames else f"{found.read} spread evenly"
    rows = {
        "data": f"{dataset.source.location} ({dataset.source.kind})",
        "frames": f"{found.frames}, of {count(found.scenes, 'scene')}; {read} read for what follows",
        "image sizes, HxW": ", ".join(f"{size} ({n})" for size, n in found.image_sizes.items()) or "-",
        "depth sizes, HxW": ", ".join(f"{size} ({n})" for size, n in found.depth_sizes.items()) or "-",
        "depth, metres": percentiles or "no valid pixel",
        "valid pixels": f"{100 * found.valid:.1f} %"
        + (f"; none in {', '.join(found.empty[:3])}" if found.empty else ""),
        "unit": found.unit_evidence(),
        "also": f"intrinsics in {found.with_intrinsics}, labels in {found.with_labels}, normals in {found.with_normals}, "
        f"targets in {found.with_targets}, poses in {found.with_poses}, times in {found.with_times} frames",
        **{f"source: {key}": value for key, value in dataset.source.facts.items()},
    }
    for name, part in dataset.source.official.items():
        rows[f"official {name}"] = f"{len(part)} frames"
    for key, value in rows.items():
        table.add_row(key, value)
    return table


@app.command()
def check(data: Data, depth_scale: Scale = None, json: Json = None, quiet: Quiet = False) -> None:
    """Read every frame of DATA and list what is broken, by file; the exit code is 1 if anything is."""
    from fathom.data.loading import Skipped
    from fathom.data.tools.survey import survey
    from fathom.progress import set_quiet

    set_quiet(quiet)
    dataset = _open(data, depth_scale, skip_bad=True)
    found = survey(dataset, skipped=Skipped(), look=False)
    problems = [reason for _, reason in found.broken]
    problems += _without_depth(dataset, found.empty)
    incomplete = [f"{text}." for text in dataset.left_out]
    if not incomplete and (told := dataset.source.facts.get("left out")):
        incomplete = [f"left out {told}."]
    problems += incomplete
    for problem in [*problems, *(f"warning: {text}" for text in found.warnings)]:
        typer.echo(problem)
    if json:
        _write_json(json, {"problems": problems, **found.to_json()})
    typer.echo(
        f"{found.frames} frames, {len(found.broken)} broken, {len(found.empty)} without valid depth, "
        f"{len(found.warnings)} with a doubtful unit."
    )
    if problems or found.warnings:
        raise typer.Exit(1)


@app.command()
def split(
    data: Data,
    fraction: Annotated[float, typer.Option("--fraction", help="Share of frames that becomes the test part.")] = 0.25,
    folds: Annotated[int, typer.Option("--folds", min=0, help="Make this many folds instead.")] = 0,
    official: Annotated[bool, typer.Option("--official", help="Take the source's own split.")] = False,
    leak_check: Annotated[
        bool, typer.Option("--leak-check", help="Look for near-duplicates across the split.")
    ] = False,
    depth_scale: Scale = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file, or its folder; folds are numbered.")] = Path(
        "split.json"
    ),
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Split DATA by scene, no scene on both sides, and save it; --leak-check warns of near-duplicate frames."""
    from fathom.data.loading import Skipped
    from fathom.data.splits import kfold_split, save_split
    from fathom.data.tools.leaks import describe, find_leaks
    from fathom.errors import UsageError
    from fathom.progress import count, set_quiet

    set_quiet(quiet)
    if official and folds:
        raise UsageError("--official and --folds exclude each other.")
    dataset = _open(data, depth_scale, skip_bad)
    if official:
        pairs = [dataset.official_split()]
    else:
        pairs = kfold_split(dataset, folds, seed) if folds else [dataset.split(fraction, seed)]
    target = out / "split.json" if out.suffix != ".json" else out
    skipped = Skipped() if skip_bad else None
    for number, (train, test) in enumerate(pairs):
        path = target.with_stem(f"{target.stem}-{number}") if folds else target
        save_split(path, {"train": train, "test": test}, None if official else seed)
        typer.echo(
            f"{path}: train {count(len(train), 'frame')} of {count(len(train.scenes), 'scene')}, "
            f"test {count(len(test), 'frame')} of {count(len(test.scenes), 'scene')}"
        )
        if leak_check:
            leaks = find_leaks(train, test, skipped=skipped)
            if leaks:
                typer.echo(f"warning: {len(leaks)} near-duplicates across the split: {describe(leaks)}", err=True)
            else:
                typer.echo("no near-duplicate across the split")
    _report(dataset, skipped)


@app.command()
def render(
    out: Annotated[Path, typer.Argument(help="Folder for the rooms; an interrupted run goes on where it was.")],
    rooms: Annotated[int, typer.Option("--rooms", min=1, help="How many.")] = 112,
    views: Annotated[int, typer.Option("--views", min=1, help="Views of each.")] = 4,
    size: Annotated[str, typer.Option("--size", help="Height x width.")] = "96x128",
    samples: Annotated[int, typer.Option("--samples", min=1, help="Light paths a pixel.")] = 40,
    variants: Annotated[str, typer.Option("--variants", help="Comma-separated: colours,textures,grey,light.")] = "",
    variant_rooms: Annotated[
        int, typer.Option("--variant-rooms", min=0, help="Test rooms that get the variants.")
    ] = 20,
    seed: Seed = 2026,
    quiet: Quiet = False,
) -> None:
    """Render furnished rooms with exact depth (needs the extra "render"); read them as rooms:OUT."""
    from fathom.progress import set_quiet
    from fathom.render import render_rooms

    set_quiet(quiet)
    names = [name.strip() for name in variants.split(",") if name.strip()]
    render_rooms(out, rooms, views, parse_size(size), seed, names, samples, variant_rooms)
    typer.echo(f"Written: {out} (read it as rooms:{out})")


@app.command()
def export(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for rgb/, depth/ and index.csv.")],
    depth_scale: Scale = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that --out holds.")] = False,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Write DATA as a plain folder: PNG images, depth in 16-bit millimetres, index.csv with scenes."""
    from fathom.data.loading import Skipped
    from fathom.data.tools.export import export as write
    from fathom.progress import set_quiet

    set_quiet(quiet)
    skipped = Skipped() if skip_bad else None
    dataset = _open(data, depth_scale, skip_bad)
    written = write(dataset, out, skipped=skipped, overwrite=overwrite)
    _report(dataset, skipped)
    typer.echo(f"Written: {written} frames to {out} (read it as 'folder:{out}?depth-scale=1000')")


@app.command()
def pack(
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the shards; an interrupted packing goes on where it was.")
    ],
    shard_mb: Annotated[float, typer.Option("--shard-mb", help="Millions of bytes a shard.")] = 256.0,
    image: Annotated[str, typer.Option("--image", help="png keeps every bit; jpeg is about a third the size.")] = "png",
    quality: Annotated[int, typer.Option("--quality", help="Of JPEG, 1 to 100.")] = 95,
    depth: Annotated[str, typer.Option("--depth", help="float32 keeps every bit; mm16 rounds to mm.")] = "float32",
    size: Annotated[str | None, typer.Option("--size", help="Height x width to bring every frame to.")] = None,
    depth_scale: Scale = None,
    json: Json = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Write DATA as few large files with checksums; read them as packed:OUT, check them with 'fathom data verify'."""
    from fathom.data.loading import Skipped
    from fathom.data.packed.pack import pack as write
    from fathom.progress import set_quiet

    set_quiet(quiet)
    grid = parse_size(size) if size else None
    skipped = Skipped() if skip_bad else None
    dataset = _open(data, depth_scale, skip_bad)
    packed = write(
        dataset,
        out,
        shard_mb=shard_mb,
        image=cast("ImageFormat", image),  # any other name is refused there
        quality=quality,
        depth=cast("DepthFormat", depth),
        size=grid,
        skipped=skipped,
    )
    _report(dataset, skipped)
    if json:
        counts = {name: getattr(packed, name) for name in ("frames", "shards", "bytes", "kept")}
        left_out = [{"id": id_, "problem": problem} for id_, problem in packed.left_out]
        _write_json(json, {"folder": str(out), **counts, "left_out": left_out})
    kept = f", {packed.kept} of them kept from before" if packed.kept else ""
    typer.echo(
        f"Written: {packed.frames} frames in {packed.shards} shards, {packed.bytes / 1e6:.1f} MB, to {out}{kept} "
        f"(read it as packed:{out})"
    )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that 'fathom data pack' wrote.")],
    quiet: Quiet = False,
) -> None:
    """Compare every shard of packed data with its checksum; the first that differs ends it with exit code 1."""
    from fathom.data.packed.source import verify as compare
    from fathom.progress import set_quiet

    set_quiet(quiet)
    shards = compare(folder)
    typer.echo(f"{folder}: {shards} shards are what was packed")
