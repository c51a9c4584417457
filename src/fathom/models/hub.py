"""Trained networks on the Hugging Face Hub: save, load, push, and a model card.

What is saved is the model folder that `load_model` reads (`config.json`, `model.safetensors`) and a README
for people.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from fathom.atomic import write_text
from fathom.errors import CheckpointError
from fathom.models.saved import CONFIG, MANIFEST, MODEL, Trained, load_model, write_manifest

# What its client raises without a network is a sibling of the Hub's own error, of a package that differs by version.
UNREACHABLE = cast("tuple[type[Exception], ...]", (*HfHubHTTPError.__bases__, HFValidationError, OSError))


class HubModel(ModelHubMixin):
    """A `Trained` with the Hub's three methods."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained

    def _save_pretrained(self, save_directory: Path) -> None:
        save_directory.mkdir(parents=True, exist_ok=True)
        for name in (MODEL, CONFIG):
            shutil.copyfile(self.trained.path / name, save_directory / name)
        write_manifest(save_directory, (MODEL, CONFIG), int(self.trained.info.get("step", 0)))
        write_text(save_directory / "README.md", card(self.trained))

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
            allow_patterns=[MODEL, CONFIG, MANIFEST],
        )
        return cls(load_model(folder))


def save_pretrained(trained: Trained, folder: str | Path) -> Path:
    """Write the model folder of `trained` to `folder`, with a model card."""
    HubModel(trained)._save_pretrained(Path(folder))
    return Path(folder)


def from_pretrained(name: str | Path, **options: Any) -> Trained:
    """The trained network of a local model folder or a Hub repository; options as for the Hub's mixin."""
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
        "---",
        f"# {trained.recipe['name']}",
        "",
        f"A `{trained.model_name}` network of {info['parameters']:,} parameters that predicts "
        f"{info['target']} from one RGB image of {height}x{width} (height x width), trained with Fathom "
        f"{info['versions']['fathom']}.",
        "",
        "```python",
        "from fathom.models.hub import from_pretrained",
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
        *_scores(summary),
        "",
        "## Limits",
        "",
        "Trained on the scenes above and nothing else. Metric depth follows the camera: images of another "
        "focal length are read at another scale.",
    ]
    return "\n".join(lines) + "\n"


def _scores(summary: Mapping[str, Any]) -> list[str]:
    """The run's score table in Markdown, or a sentence where the run has not finished."""
    if not summary:
        return ["- Scores: none, the run has not finished."]
    unit = f", in {summary['unit']}" if summary["unit"] else ""
    names = list(summary["scores"]["unseen"]["model"])
    rows = [f"| held-out frames | of | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for part, by_row in summary["scores"].items():
        for row, values in by_row.items():
            cells = " | ".join(f"{values[name]:.4g}" for name in names if name in values)
            rows.append(f"| {part} | {row} | {cells} |")
    return ["", f"## Scores{unit}", "", *rows]
