"""Safetensors files under any name, and on a full disk."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fathom.errors import DataError
from fathom.files.tensors import utf8_name, write_tensors


def test_a_folder_whose_name_is_not_utf8_holds_them(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    write_tensors(folder / "a.safetensors", {"x": torch.arange(3.0)}, {"about": "me"})
    assert [file.name for file in folder.iterdir()] == ["a.safetensors"]
    with utf8_name(folder / "a.safetensors") as name:
        assert torch.equal(load_file(name)["x"], torch.arange(3.0))


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    before = (tmp_path / "a.safetensors").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(DataError, match=r"a\.safetensors: cannot be written"):
            write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "a.safetensors").read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [
        "a.safetensors"
    ]
