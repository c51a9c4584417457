"""Checkpoints: folders of safetensors and JSON that are either whole or not there.

A checkpoint is written under a temporary name, every file flushed to disk, and renamed in one step.
`manifest.json`, written last, holds the size and SHA-256 of every other file, so that a checkpoint torn later
(a full disk, a bad cable, an editor) is recognised and the one before is used instead. Nothing is ever
unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from torch import Tensor, nn

from fathom.errors import CheckpointError, UsageError
from fathom.files import limits
from fathom.files.atomic import json_text, write_json
from fathom.files.inputs import convert, exists, inside, plain_name, regular_file
from fathom.files.inputs import read_json as read
from fathom.files.tensors import utf8_name
from fathom.models.shipped import shipped, shipped_folder
from fathom.sample import Grid

T = TypeVar("T")
SCHEMA_VERSION = 1
MODEL, CONFIG, MANIFEST = "model.safetensors", "config.json", "manifest.json"
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")

Content = Mapping[str, Mapping[str, Tensor] | Mapping[str, Any]]
"""File name -> tensors (``.safetensors``) or JSON values (``.json``)."""


@dataclass(frozen=True)
class Trained:
    """A trained network and what is known of its training.

    Attributes:
        model: in evaluation mode, on the CPU.
        model_name: its name in `fathom.models.MODELS`.
        recipe: the resolved recipe it was trained by, as the plain table that `config.json` holds.
        input_size: the (H, W) it was trained at.
        train_scenes: the scenes it has seen: no fair test holds any of them.
        info: all of `config.json`.
        path: the checkpoint folder.
    """

    model: nn.Module
    model_name: str
    recipe: Mapping[str, Any]
    input_size: Grid
    train_scenes: tuple[str, ...]
    info: Mapping[str, Any]
    path: Path

    @property
    def run(self) -> Path:
        """The run folder that the checkpoint belongs to, or the checkpoint itself where it stands alone."""
        parent = self.path.parent
        return parent.parent if parent.name == "checkpoints" else self.path

    def summary(self) -> dict[str, Any]:
        """The run's `summary.json`, empty while there is none."""
        return read_summary(self.run)


def write_checkpoint(folder: Path, content: Content, step: int) -> None:
    """Write `content` as the checkpoint `folder`, whole or not at all.

    Raises:
        CheckpointError: it could not be written (disk full, no permission); what was there before is
            untouched.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        files = {name: _write_file(temporary / name, values) for name, values in content.items()}
        _write_file(temporary / MANIFEST, _manifest(step, files))
        _sync_folder(temporary)
        if folder.exists():  # saved twice at one step, or torn before: the new one takes its place
            _discard(folder)
        temporary.rename(folder)
        _sync_folder(folder.parent)
    except OSError as error:
        raise CheckpointError(
            folder,
            f"cannot be saved ({error.strerror})",
            "free some space; --resume continues from the one before",
        ) from error
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _write_file(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Write one file, flushed to disk; returns its line in the manifest."""
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        payload = save({name: tensor.detach().cpu().contiguous() for name, tensor in values.items()})
    else:
        payload = json_text(values).encode()
    with path.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}


def _sync_folder(folder: Path) -> None:
    """Flush the names in `folder`: a rename is durable only when the folder that holds it is."""
    with contextlib.suppress(PermissionError):  # some systems do not open folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _discard(folder: Path) -> None:
    """Remove a checkpoint such that a kill in the middle leaves no folder that looks like one."""
    doomed = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


class _Written(msgspec.Struct):
    """A file in a manifest."""

    bytes: int
    sha256: str


class _Manifest(msgspec.Struct):
    """`manifest.json`."""

    step: int
    files: dict[str, _Written]


def _manifest(step: int, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "step": step, "files": dict(files)}


def write_manifest(folder: Path, names: Sequence[str], step: int) -> None:
    """Write the manifest of a folder whose files `names` stand there already."""
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)} for name in names}
    write_json(folder / MANIFEST, _manifest(step, files))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path) -> frozenset[str]:
    """Check every file of a checkpoint against its manifest; raises `CheckpointError` naming what is torn.

    Returns:
        The names of the files.
    """
    table = folder / MANIFEST
    manifest = _read(table, _Manifest, "a manifest of a checkpoint", version=SCHEMA_VERSION)
    for name, expected in manifest.files.items():
        path = folder / plain_name(name, table)
        if not path.is_file():
            raise CheckpointError(path, "is missing", "use an older checkpoint")
        if path.stat().st_size != expected.bytes:
            problem = f"is cut short or altered ({path.stat().st_size} bytes of {expected.bytes})"
            raise CheckpointError(path, problem, "use an older checkpoint")
        if _sha256(path) != expected.sha256:
            raise CheckpointError(path, "is not what was saved (its checksum differs)", "use an older one")
    return frozenset(manifest.files)


def saved_steps(run: Path) -> list[int]:
    """Steps of which `run` holds a checkpoint folder, in order; whether they are whole is not looked at."""
    folder = run / "checkpoints"
    return (
        sorted(int(entry.name) for entry in folder.iterdir() if re.fullmatch("0|[1-9][0-9]{0,17}", entry.name))
        if folder.is_dir()
        else []
    )


def latest(run: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of a run folder, or None, and a sentence for each torn one after it."""
    notes: list[str] = []
    for step in reversed(saved_steps(run)):
        folder = run / "checkpoints" / str(step)
        try:
            verify(folder)
        except CheckpointError as error:
            notes.append(f"Checkpoint {step} is torn and passed over: {error}")
        else:
            return folder, notes
    return None, notes


def prune(run: Path, keep: int, best: int | None) -> None:
    """Remove all checkpoints but the last `keep` and the `best`, and what killed processes left behind."""
    for step in saved_steps(run)[:-keep]:
        if step != best:
            _discard(run / "checkpoints" / str(step))


def sweep_leftovers(run: Path) -> None:
    """Remove temporary checkpoint folders of processes that were killed while they wrote or removed one."""
    folder = run / "checkpoints"
    for entry in folder.glob(".*") if folder.is_dir() else ():
        if entry.suffix in (".tmp", ".old"):
            shutil.rmtree(entry, ignore_errors=True)


def find_checkpoint(path: str | Path) -> tuple[Path, list[str]]:
    """The checkpoint folder that `path` means (a run, a checkpoint, a model folder, the name of a shipped one), and notes on
    torn ones.

    Of a finished run it is the one that its summary names (the best one where it stopped early, else the
    last), of an unfinished run the newest whole one.
    """
    path = shipped_folder(path) or Path(path)
    if not exists(path):
        known = f", or {' or '.join(shipped())}, which come with the package" if shipped() else ""
        raise CheckpointError(path, "does not exist", f"name a run folder or a checkpoint folder{known}")
    _refuse_pickle(path)
    if path.is_file():
        path = path.parent
    if not (path / "checkpoints").is_dir():
        return path, []
    summary = path / "summary.json"
    notes: list[str] = []
    if summary.is_file():
        try:
            chosen = inside(path, str(read_summary(path).get("checkpoint", "")), summary)
            verify(chosen)
            return chosen, []
        except CheckpointError as error:
            notes.append(f"The checkpoint that the summary names is passed over: {error}")
    found, torn = latest(path)
    notes += torn
    if found is None:
        raise CheckpointError(path, "holds no whole checkpoint" + "".join(f" ({note.rstrip('.')})" for note in notes))
    return found, notes


def is_network(path: str | Path) -> bool:
    """Whether `find_checkpoint` would look for a network of Fathom's here: a run, a checkpoint, or a shipped name."""
    folder = shipped_folder(path) or Path(path)
    return (folder / "checkpoints").is_dir() or (folder / MODEL).is_file()


def _refuse_pickle(path: Path) -> None:
    """Refuse pickles by name, before anything opens them, and other files that are no checkpoint."""
    pickles = [path] if path.is_file() else [entry for entry in path.iterdir() if entry.is_file()]
    pickles = [entry for entry in pickles if entry.suffix.lower() in _PICKLES]
    if pickles and not (path / MODEL).is_file():
        raise CheckpointError(
            pickles[0],
            "is a pickle, which can run any code when it is read, and was not opened",
            "convert its tensors to safetensors where you trust it",
        )
    if path.is_file() and path.suffix != ".safetensors":
        raise CheckpointError(path, "is no checkpoint", "name a run folder or a folder with model.safetensors")


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder, its schema checked."""
    return _read(folder / CONFIG, dict, "a JSON object", version=SCHEMA_VERSION)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; `CheckpointError` where it is missing, cut short or none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not exists(path):
        raise CheckpointError(path, "is missing", "name a folder that holds it")
    try:
        with utf8_name(regular_file(path, CheckpointError)) as name:
            return load_file(name)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(path, "is no whole safetensors file (cut short?)", "use another copy") from error


def read_json(path: Path, *, checksum: bool = False) -> dict[str, Any]:
    """A JSON object; raises `CheckpointError` where the file is missing, holds something else or not what was written."""
    return _read(path, dict, "a JSON object", checksum=checksum)


def read_summary(run: Path) -> dict[str, Any]:
    """A run's `summary.json`, verified by the checksum that it carries; empty while there is none."""
    path = run / "summary.json"
    return _read(path, dict, "a summary of a training", checksum=True) if path.exists() else {}


def _read(path: Path, kind: type[T], what: str, *, version: int | None = None, checksum: bool = False) -> T:
    if not path.exists():
        raise CheckpointError(path, "is missing", "name a folder that Fathom saved")
    return read(
        path, kind, what=what, fix="use another copy", version=version, checksum=checksum, error=CheckpointError
    )


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model` from a safetensors file whose names and shapes must be exactly its own."""
    tensors, own = read_tensors(path), model.state_dict()
    missing, foreign = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    shapes = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    for names, what in ((missing, "lacks"), (foreign, "has the foreign"), (shapes, "has another shape of")):
        if names:
            raise CheckpointError(
                path,
                f"holds the weights of another model than {type(model).__name__}: it {what} '{min(names)}'"
                + (f" and {len(names) - 1} more" if len(names) > 1 else ""),
                "name the checkpoint that belongs to this config.json",
            )
    model.load_state_dict(tensors)


def load_model(path: str | Path, *, trusted: bool = False) -> Trained:
    """The trained network of a run folder, a ``checkpoints/<step>`` folder, or a model folder.

    Python code that it names as its encoder is run only if it is `trusted`, or the limit ``code-files`` allows it.

    Raises:
        CheckpointError: there is none, it is torn, it is of another model, or it is a pickle.
    """
    from fathom.models import MODELS, build
    from fathom.progress import note

    folder, notes = find_checkpoint(path)
    for line in notes:
        note(line)
    if missing := {MODEL, CONFIG} - verify(folder):
        raise CheckpointError(folder / MANIFEST, f"does not list {min(missing)}", "use another copy")
    config = read_config(folder)
    name = config.get("model")
    if not isinstance(name, str) or name not in MODELS:
        raise CheckpointError(folder / CONFIG, f"is of the model {name!r}, which this Fathom does not know")
    what = "a description of a model of this Fathom"
    described = convert(config, folder / CONFIG, _Config, what=what, fix="use another copy", error=CheckpointError)
    section = dict(described.recipe.model)
    if section.pop("name", None) != name:
        problem = f"names the model {name!r} and a recipe of {described.recipe.model.get('name')!r}"
        raise CheckpointError(folder / CONFIG, problem)
    encoder = section.get("encoder")
    elsewhere = isinstance(encoder, str) and ":" in encoder
    if "module:" in str(encoder) and not trusted:  # also random:module: and the like
        limits.check("code-files", 1, folder / CONFIG, "names", CheckpointError)
    try:
        model = build(name, section)
    except (UsageError, KeyError, TypeError, ValueError, IndexError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if elsewhere:
            raise CheckpointError(
                folder / CONFIG, f"needs its encoder: {said}", "put it where its SPEC says"
            ) from error
        raise CheckpointError(folder / CONFIG, f"is not {what} ({said[:200]})") from error
    _same_encoder(folder, config, model)
    load_weights(model, folder / MODEL)
    scenes, recipe = tuple(described.train_scenes), dict(config["recipe"])
    return Trained(model.eval(), name, recipe, described.input_size, scenes, config, folder)


def encoder_origin(model: nn.Module) -> dict[str, Any] | None:
    """SPEC and digests of an encoder that the network took from elsewhere, None where it has none."""
    origin: dict[str, Any] | None = getattr(getattr(model, "encoder", None), "origin", None)
    return origin


def _same_encoder(folder: Path, config: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse an encoder whose code has changed since: the saved weights would mean something else in it."""
    saved, here = config.get("encoder"), encoder_origin(model)
    if isinstance(saved, dict) and here and saved.get("code") != here["code"]:
        raise CheckpointError(
            folder / CONFIG,
            f"was trained with other code of its encoder '{here['spec']}' than the code that is there now",
            "bring back the file of that time",
        )


class _RecipeTable(msgspec.Struct):
    """The recipe in `config.json`."""

    model: dict[str, Any]
    name: str


Side = Annotated[int, msgspec.Meta(gt=0, le=65_536)]


class _Config(msgspec.Struct):
    """What is needed of `config.json`; the rest is for people."""

    model: str
    recipe: _RecipeTable
    input_size: tuple[Side, Side]
    train_scenes: list[str]
    versions: dict[str, str | None] = {}
    target: str = ""
    step: int = 0
    parameters: int = 0
