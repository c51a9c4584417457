"""Shared by all tests: shapes and types in signatures are checked while the tests run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from jaxtyping import config, install_import_hook

from tests import checking

torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
# All of fathom but `files`, whose readers take generic aliases such as dict[str, Any] where the signature says type[T].
CHECKED = [
    f"fathom.{part.stem}"
    for part in (Path(__file__).parents[1] / "src" / "fathom").iterdir()
    if not part.stem.startswith("__") and part.stem != "files"
]
install_import_hook(CHECKED, f"{checking.__name__}.checked")


@pytest.fixture(autouse=True)
def _not_quiet() -> None:
    """What an earlier test silenced by --quiet is heard again."""
    from fathom.progress import set_quiet

    set_quiet(False)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the check of types: for tests of what a user is told who gives another type."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
