"""Where an encoder's files lie: a local folder, or a repository of the Hugging Face hub brought into the local cache.

Weights are safetensors. A repository that offers pickles alone is refused: reading one can run any code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fathom.errors import CheckpointError, DataError, FathomError, UsageError
from fathom.files.inputs import expand, read_json
from fathom.reachable import reachable

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
CARD = "README.md"
_WANTED = [CONFIG, CARD, *PROCESSORS, WEIGHTS, INDEX, "model-*-of-*.safetensors"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def find_folder(kind: str, name: str, revision: str | None = None, wanted: Sequence[str] = _WANTED) -> Path:
    """The folder of a model: `name` itself where it is a folder, else its snapshot in the hub's cache.

    Args:
        kind: ``hf`` or ``timm``, for messages.
        name: a path or ``org/name``.
        revision: branch, tag or commit of a repository.
        wanted: files of a repository to fetch; the first one is what a folder must hold.

    Raises:
        FathomError: it is neither, or the hub cannot be reached and the cache does not hold it.
    """
    path = expand(name)
    if path.is_dir():
        return path
    if path.exists():
        raise DataError(path, "is a file, and a model is a folder", f"name the folder that holds {wanted[0]}")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise DataError(
            path, "does not exist", f"name a folder that holds {wanted[0]}, or a repository as {kind}:org/name"
        )
    return _snapshot(f"{kind}:{name}", name, revision, wanted)


def _snapshot(label: str, repository: str, revision: str | None, wanted: Sequence[str]) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        offline = constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)
        folder = snapshot_download(repository, revision=revision, allow_patterns=list(wanted), local_files_only=offline)
        return Path(folder)
    except HFValidationError as error:
        raise UsageError(f"'{label}' is neither a folder nor a name of the form org/name.") from error
    except GatedRepoError as error:
        raise FathomError(f"{label} is gated: accept its terms on the hub and log in, then try again.") from error
    except RevisionNotFoundError as error:
        raise FathomError(f"{label} has no revision '{revision}'.") from error
    except RepositoryNotFoundError as error:
        raise FathomError(f"{label} is neither a folder here nor a repository of the hub; check its name.") from error
    except LocalEntryNotFoundError as error:  # offline by choice, or no network
        raise FathomError(
            f"{label} is neither a folder here nor in the local cache, and the hub cannot be reached; "
            "connect once, or name a folder that holds the model."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise FathomError(f"{label} could not be fetched ({type(error).__name__}: {_first_line(error)}).") from error


def check_weights(folder: Path) -> None:
    """Raise unless `folder` holds safetensors; says so where it holds pickles."""
    if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        return
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    raise CheckpointError(
        folder,
        f"holds no {WEIGHTS}"
        + (f", only {pickles[0]}, which is not opened: a pickle can run any code" if pickles else ""),
        "convert the weights with save_pretrained() where you trust them" if pickles else "name the model's folder",
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`."""
    return read_json(path, dict[str, Any], what="a JSON object", fix="use another copy")


def revision_of(folder: Path) -> str | None:
    """The commit of a folder in the hub's cache (``models--ORG--NAME/snapshots/COMMIT``); None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def licence_of(folder: Path) -> str | None:
    """The licence that the front matter of the model's card states, None where there is no card or it says nothing."""
    try:
        card = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    if not card.startswith("---"):
        return None
    found = re.search(r"^license(?:_name)?:[ \t]*(\S.*)$", card[3:].partition("\n---")[0], re.MULTILINE)
    return found[1].strip().strip("\"'") if found else None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def load_failure(folder: Path, error: BaseException) -> CheckpointError:
    """Weights that could not be read into the architecture of their own config.json."""
    return CheckpointError(
        folder,
        f"holds weights that cannot be loaded ({type(error).__name__}: {_first_line(error).rstrip('.')})",
        "use another copy",
    )
