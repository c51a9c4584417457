"""One array of an HDF5 file, safely: every way the file can be broken is a `DataError` that names it."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np

from fathom.errors import DataError
from fathom.files import limits
from fathom.files.inputs import regular_file

SKIP = "replace the file or leave the frame out with --skip-bad"


def read_hdf5(path: Path, name: str, data: bytes | None = None) -> np.ndarray:
    """Array `name` of the file (or of `data` from an archive member called `path`), numbers of any shape."""
    import h5py

    if data is None:
        regular_file(path)
    try:
        with h5py.File(BytesIO(data) if data is not None else path, "r") as file:
            if not isinstance(file.get(name), h5py.Dataset):
                raise DataError(path, f"has no array '{name}' (it has {', '.join(file) or 'nothing'})", SKIP)
            held = file[name]
            if held.dtype.kind not in "iuf":
                raise DataError(path, f"holds {held.dtype} in '{name}', no numbers", SKIP)
            limits.check("values", float(np.prod(held.shape, dtype=np.float64)), path)
            # A frame is unpacked in whole storage blocks.
            limits.check("values", math.prod(held.chunks or (1,)), path, "is stored in blocks of")
            array: np.ndarray = held[()]
            return array
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(path, f"is not a readable HDF5 file ({error})", SKIP) from error
