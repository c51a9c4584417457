"""`metrics.jsonl`: what happened, a line each time; TensorBoard beside it where asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fathom.errors import DataError, MissingExtraError
from fathom.files.atomic import write_text

NAME = "metrics.jsonl"


class Journal:
    """Appends lines to `metrics.jsonl` of a run. Lines beyond the step that is resumed from are dropped."""

    def __init__(self, run: Path, step: int, tensorboard: bool = False) -> None:
        self.path = run / NAME
        _truncate(self.path, step)
        try:
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise DataError(self.path, f"cannot be written ({error.strerror})", "choose another --out") from error
        self._board = _board(run, step) if tensorboard else None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one line: the step and `values` (numbers, or one level of numbers by name)."""
        try:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            raise DataError(self.path, f"cannot be written ({error.strerror})", "free some space") from error
        if self._board is not None:
            for name, value in _flat(values):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read(run: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's `metrics.jsonl`, without a last one that a killed process left torn."""
    path = run / NAME
    lines = []
    # A damaged byte costs its line, not the run.
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int) and "\ufffd" not in line:
            lines.append(value)
    return lines


def _truncate(path: Path, step: int) -> None:
    if path.is_file():
        kept = [line for line in read(path.parent) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    flat: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat.append((prefix + name, float(value)))
    return flat


def _board(run: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("train.tensorboard", "tensorboard") from error
    # purge_step hides what an interrupted run wrote beyond the checkpoint.
    return SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)  # type: ignore[no-untyped-call]
