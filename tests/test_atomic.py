"""Files that are whole or absent, and JSON that takes any file's name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fathom.atomic import atomic_path, write_json
from fathom.errors import DataError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"x": 1} and [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_a_name_that_is_not_utf8_reads_back_as_it_was(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9/\xff.png")
    write_json(tmp_path / "a.json", {"scene": name, "unit": "m²"})
    back = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert back == {"scene": name, "unit": "m²"} and os.fsencode(back["scene"]) == b"caf\xe9/\xff.png"


def test_a_folder_that_cannot_be_written_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})
