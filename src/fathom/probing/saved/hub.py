"""The probes of a run on the Hugging Face Hub: `push_probes` uploads them with a card, ``probe:ORG/NAME`` reads them back."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from fathom.encoders.hub.repository import CARD
from fathom.errors import DataError
from fathom.files.atomic import write_text
from fathom.models.hub import UNREACHABLE
from fathom.probing.saved.probes import RECORD, TENSORS, SavedProbes, load_probes
from fathom.progress import count


def save_pretrained(run: str | Path, folder: str | Path) -> Path:
    """Copy the probes of the run folder `run` to `folder`, with a card for people."""
    source = Path(run) if Path(run).is_dir() else Path(run).parent
    probes, out = load_probes(source), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for name in (RECORD, TENSORS):
        shutil.copyfile(source / name, out / name)
    write_text(out / CARD, card(probes))
    return out


def push_probes(run: str | Path, repository: str, **options: Any) -> str:
    """Upload the probes of a run to ``org/name`` on the Hub; returns the commit's address.

    Args:
        run: a folder that ``fathom probe`` wrote.
        repository: ``org/name``; made if it does not exist.
        options: ``token``, ``private`` and what else `huggingface_hub.HfApi.create_repo` takes.

    Raises:
        DataError: the run holds no probes, or the Hub cannot be reached or does not take them.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=options.pop("token", None))
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(run, temporary)
        try:
            api.create_repo(repository, exist_ok=True, **options)
            return str(api.upload_folder(repo_id=repository, folder_path=folder))
        except UNREACHABLE as error:
            problem = f"could not be uploaded to '{repository}' ({type(error).__name__}: {str(error).splitlines()[0]})"
            raise DataError(run, problem, "check the name, the network and your token") from error


def card(probes: SavedProbes) -> str:
    """The card: what the probes read, how to use them, what they were fitted on."""
    height, width = probes.size
    rows = [
        f"| `{item.encoder}` | {item.layer}{' (chosen)' if item.chosen else ''} | {item.feature} | {item.unit} | {item.penalty:.3g} |"
        for item in probes.probes
    ]
    lines = [
        "---", "library_name: fathom-depth", "pipeline_tag: depth-estimation", "tags: [fathom, linear-probe]", "---",
        "# Linear probes of frozen encoders",
        "",
        f"Exact ridge probes, fitted with Fathom on images of {height}x{width} (height x width) and a grid of "
        f"{probes.grid[0]}x{probes.grid[1]}. The encoder is not included: it is opened by its name.",
        "",
        "```", "fathom predict probe:ORG/NAME photo.jpg", "```",
        "",
        "| encoder | layer | feature | unit | penalty |", "|---|---|---|---|---|", *rows,
        "",
        "## Training",
        "",
        f"{count(len(probes.train_scenes), 'scene')}, listed in `{RECORD}`: no fair test holds any of them.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
