"""docs/api.md lists the public names, no more and no fewer, each where it is explained."""

from __future__ import annotations

import re
from pathlib import Path

import fathom

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_index_is_what_fathom_offers() -> None:
    listed = re.findall(r"^\| `fathom\.(\w+)", PAGE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(fathom.__all__)


def test_every_public_name_has_a_docstring() -> None:
    for name in fathom.__all__:
        if name != "__version__":
            assert (getattr(fathom, name).__doc__ or "").strip(), name
