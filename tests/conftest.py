"""Shared by all tests: shapes and types in signatures are checked while the tests run."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from jaxtyping import config, install_import_hook

torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
CHECKED = (
    "grids", "statistics", "features", "metrics", "models", "encoders", "depth_models", "probing", "evaluation", "report",
    "training",
)  # fmt: skip
for _package in CHECKED:
    install_import_hook(f"fathom.{_package}", "beartype.beartype")


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
