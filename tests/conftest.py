"""Shared by all tests: shapes and types in signatures are checked while the tests run."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
for _package in ("fathom.grids", "fathom.statistics", "fathom.features", "fathom.metrics", "fathom.models", "fathom.probing", "fathom.evaluation"):
    "fathom.grids",
    "fathom.statistics",
    "fathom.features",
    "fathom.metrics",
    "fathom.models",
    "fathom.probing",
    "fathom.evaluation",
):
    install_import_hook(_package, "beartype.beartype")


@pytest.fixture(autouse=True)
def _not_quiet() -> None:
    """What an earlier test silenced by --quiet is heard again."""
    from fathom.progress import set_quiet

    set_quiet(False)
