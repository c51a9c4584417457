"""Trained networks on the Hugging Face Hub: save, load, push, and a model card.

What is saved is the model folder that `load_model` reads (`config.json`, `model.safetensors`) and a README
for people.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from huggingface_hub import ModelHubMixin, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from fathom.errors import CheckpointError
from fathom.files.atomic import write_json, write_text
from fathom.files.tensors import write_tensors
from fathom.models.saved import CONFIG, MANIFEST, MODEL, Trained, load_model, read_json, read_tensors, write_manifest
from fathom.progress import significant
from fathom.reachable import reachable

CALIBRATION = "calibration.json"
"""What `fathom calibrate` writes beside the weights."""

# What its client raises without a network is a sibling of the Hub's own error, of a package that differs by version.
UNREACHABLE = cast("tuple[type[Exception], ...]", (*HfHubHTTPError.__bases__, HFValidationError, OSError))


class HubModel(ModelHubMixin):
    """A `Trained` with the Hub's three methods."""

    def __init__(self, trained: Trained, half: bool = False, about: Mapping[str, Any] | None = None) -> None:
        self.trained, self.half, self.about = trained, half, dict(about or {})

    def _save_pretrained(self, save_directory: Path) -> None:
        save_directory.mkdir(parents=True, exist_ok=True)
        if self.half:
            write_half(self.trained.path / MODEL, save_directory / MODEL)
        else:
            shutil.copyfile(self.trained.path / MODEL, save_directory / MODEL)
        write_json(save_directory / CONFIG, {**self.trained.info, **self.about})
        # Not in the manifest: it carries its own checksum, and `fathom calibrate` may replace it.
        if (self.trained.path / CALIBRATION).is_file():
            shutil.copyfile(self.trained.path / CALIBRATION, save_directory / CALIBRATION)
        write_manifest(save_directory, [MODEL, CONFIG], int(self.trained.info.get("step", 0)))
        write_text(save_directory / "README.md", card(replace(self.trained, info={**self.trained.info, **self.about})))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **_: Any,
    ) -> HubModel:
        if Path(model_id).is_dir():
            return cls(load_model(model_id))
        folder = snapshot_download(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=[MODEL, CONFIG, MANIFEST, CALIBRATION],
        )
        return cls(load_model(folder))


def save_pretrained(
    trained: Trained, folder: str | Path, *, half: bool = False, about: Mapping[str, Any] | None = None
) -> Path:
    """Write the model folder of `trained` to `folder`, with its calibration where it has one and a model card.

    Args:
        trained: the network.
        folder: made if missing.
        half: weights in float16, half the size; a network computes in float32 again when it is loaded.
        about: added to `config.json` and told in the card: ``licence``, ``provenance``, ``results`` (lines of text).
    """
    HubModel(trained, half, about)._save_pretrained(Path(folder))
    return Path(folder)


def write_half(source: Path, target: Path) -> None:
    """A copy of a safetensors file whose floating-point tensors are float16; `CheckpointError` where one does not fit."""
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in read_tensors(source).items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(source, f"holds values beyond float16 in '{name}'", "save it in float32")
    write_tensors(target, tensors)


def from_pretrained(name: str | Path, **options: Any) -> Trained:
    """The trained network of a local model folder or a Hub repository; options as for the Hub's mixin."""
    if not Path(name).is_dir() and not constants.HF_HUB_OFFLINE and not reachable(constants.ENDPOINT):
        options["local_files_only"] = True
    try:
        return HubModel.from_pretrained(str(name), **options).trained
    except UNREACHABLE as error:  # OSError: the network, or not in the cache
        problem = f"is neither a folder nor a repository that can be reached ({type(error).__name__})"
        raise CheckpointError(name, problem, "check the name and the network") from error


def push_to_hub(trained: Trained, repository: str, **options: Any) -> str:
    """Upload the model folder to ``org/name`` on the Hub; returns the commit's address.

    Raises:
        CheckpointError: the Hub cannot be reached, or does not take it (name, token, rights).
    """
    try:
        return str(HubModel(trained).push_to_hub(repository, **options))
    except UNREACHABLE as error:
        problem = f"could not be uploaded to '{repository}' ({type(error).__name__}: {str(error).splitlines()[0]})"
        raise CheckpointError(trained.path, problem, "check the name, the network and your token") from error


def card(trained: Trained) -> str:
    """The model card, filled from the run: what it is, how to load it, its training data and its scores."""
    info, summary = trained.info, trained.summary()
    height, width = trained.input_size
    lines = [
        "---",
        "library_name: fathom-depth",
        f"pipeline_tag: {'image-to-image' if info['target'] == 'image' else 'depth-estimation'}",
        f"tags: [fathom, {trained.model_name}]",
        *([f"license: {json.dumps(info['licence'])}"] if info.get("licence") else []),
        "---",
        f"# {trained.recipe['name']}",
        "",
        f"A `{trained.model_name}` network of {info['parameters']:,} parameters that predicts "
        f"{info['target']} from one RGB image of {height}x{width} (height x width), trained with Fathom "
        f"{info['versions']['fathom']}.",
        "",
        "```python",
        "from fathom.models.hub import from_pretrained",
        "",
        'trained = from_pretrained("this folder or repository")',
        "prediction = trained.model(images)  # (B, 3, H, W) in [0, 1]",
        "```",
        "",
        "## Training",
        "",
        f"- Recipe `{trained.recipe['name']}`, step {info['step']}, seed {trained.recipe['train']['seed']}; every "
        "setting is in `config.json`.",
        f"- {len(trained.train_scenes)} training scenes, fingerprint `{info['train_fingerprint']}`. "
        "They are listed in `config.json`: no fair test holds any of them.",
        *[f"- {line}" for line in info.get("provenance", [])],
        *(_scores(summary) if summary or not info.get("results") else []),
        *_results(info.get("results", [])),
        *_intervals(trained.path / CALIBRATION),
        "",
        "## Kind of depth and camera",
        "",
        *_camera(trained),
        "",
        "## Limits",
        "",
        "It is no measuring instrument and not made for navigation or safety. It has learned from the scenes above: places, cameras "
        "and distances unlike theirs are outside of what its scores and intervals say. `fathom adapt` fits it to a place from a few "
        "frames with depth.",
    ]
    return "\n".join(lines) + "\n"


def _results(lines: Sequence[str]) -> list[str]:
    return ["", "## Measured besides", "", *[f"- {line}" for line in lines]] if lines else []


def _intervals(file: Path) -> list[str]:
    """The calibration's measured coverage, each scene left out of its own calibration."""
    if not file.is_file():
        return ["", "Intervals: none; `fathom calibrate` makes them."]
    table = read_json(file)
    rows = [
        f"| {level} | {found['coverage']:.3f} ({found['low']:.3f} - {found['high']:.3f}) | {found['relative_width']:.2f} |"
        for level, found in table["facts"].get("left_out", {}).items()
    ]
    head = ["| interval | pixels inside, scenes left out (95 % interval) | width / depth |", "|---|---|---|"]
    promise = f"Calibrated on {table['scenes']} scenes of {table['data']}: {table['facts'].get('promise', '')}."
    return ["", "## Intervals (`predict --interval`)", "", promise, "", *head, *rows]


def _camera(trained: Trained) -> list[str]:
    if trained.info["target"] != "depth":
        return ["It predicts no depth."]
    line = "Metric: metres along the optical axis (z-depth), not along the ray."
    canonical = trained.info.get("model_config", {}).get("canonical_focal")
    if canonical is None:
        return [line, "It is told no camera: images of another focal length are read at another scale."]
    return [
        line,
        f"Metres are those of a canonical focal length of {canonical:g} pixels of the network's input, times f / f_canonical. The focal length comes from --fov or --intrinsics, the data, the photo's EXIF, or is assumed, in this order; "
        "an error of 10 % in it is an error of 10 % in the metres.",
    ]


def _scores(summary: Mapping[str, Any]) -> list[str]:
    """The run's score table in Markdown, or a sentence where the run has not finished."""
    if not summary:
        return ["- Scores: none, the run has not finished."]
    unit = f", in {summary['unit']}" if summary["unit"] else ""
    names = list(summary["scores"]["unseen"]["model"])
    rows = [f"| held-out frames | of | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for part, by_row in summary["scores"].items():
        for row, values in by_row.items():
            cells = " | ".join(significant(values[name]) for name in names if name in values)
            rows.append(f"| {part} | {row} | {cells} |")
    return ["", f"## Scores{unit}", "", *rows]
