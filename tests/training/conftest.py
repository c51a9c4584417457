"""Child processes for the training tests: forked from a server that has imported everything once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.processes import context
from tests.training import painted

Start = Callable[..., Any]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a training in a process of its own; whatever is left of it ends with the test."""
    children = []

    def go(table: Mapping[str, Any], out: Path, environment: Mapping[str, str] | None = None, **options: Any) -> Any:
        child = context().Process(target=painted.run, args=(table, str(out), options, dict(environment or {})))
        child.start()
        children.append(child)
        return child

    yield go
    for child in children:
        child.kill()
        child.join()
