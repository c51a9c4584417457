"""NumPy files whose text Python cannot hold."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from fathom.data.formats.npy import from_stream
from fathom.errors import DataError


@pytest.mark.parametrize("order", ["<", ">"])
def test_text_beyond_unicode_is_refused(order: str) -> None:
    words = np.array(["scene0", "a", ""], f"{order}U8")
    buffer = BytesIO()
    np.save(buffer, words)
    data = buffer.getvalue()
    found = from_stream(BytesIO(data), len(data), Path("a.npy"), "U")
    assert found.tolist() == ["scene0", "a", ""]
    start = len(data) - words.nbytes
    last = b"\xff\xff\x10\x00" if order == "<" else b"\x00\x10\xff\xff"
    whole = data[:start] + last + data[start + 4 :]
    assert from_stream(BytesIO(whole), len(whole), Path("a.npy"), "U")[0] == "\U0010ffffcene0"
    for at in range(start, start + words.nbytes, 4):
        high = at + (3 if order == "<" else 0)
        damaged = data[:high] + b"\x80" + data[high + 1 :]
        with pytest.raises(DataError, match="text that is not Unicode"):
            from_stream(BytesIO(damaged), len(damaged), Path("a.npy"), "U")
