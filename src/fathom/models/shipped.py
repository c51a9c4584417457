"""Networks that come with the package, so that probing, evaluating and predicting can be tried before anything is trained.

`nyu-pretrained_unet` reads metric depth from photographs of rooms (docs/results-network.md). The others were trained on the
training scenes of `rooms` by the recipe that their folder's `config.json` holds; docs/rooms.md has the
commands.
"""

from __future__ import annotations

from pathlib import Path

DEFAULT = "nyu-pretrained_unet"
"""The network that is used where none is named."""

FOLDER = Path(__file__).parent / "shipped_models"


def shipped() -> list[str]:
    """Names of the networks that come with the package."""
    return (
        sorted(folder.name for folder in FOLDER.iterdir() if (folder / "config.json").is_file())
        if FOLDER.is_dir()
        else []
    )


def shipped_folder(path: str | Path) -> Path | None:
    """The folder of the shipped network of this name, where there is no file of it."""
    name = str(path)
    return FOLDER / name if name in shipped() and not Path(path).exists() else None
