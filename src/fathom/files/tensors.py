"""Safetensors files: written whole or not at all, under any name, and a full disk is one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fathom.errors import DataError
from fathom.files.atomic import atomic_path

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """A name of the file `path` for a library that takes UTF-8 alone: its own, or one below an open handle of its folder."""
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            yield f"/proc/self/fd/{handle}/{path.name}"
        finally:
            os.close(handle)
    else:
        yield name


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors, which must be contiguous and share no memory, with text about them.

    Raises:
        DataError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary, utf8_name(temporary) as name:
        try:
            save_file(dict(tensors), name, metadata=metadata)
        except SafetensorError as error:  # also what the system says, such as a full disk
            fix = "free some space or choose another folder"
            raise DataError(path, f"cannot be written ({str(error).rpartition(': ')[2]})", fix) from error
