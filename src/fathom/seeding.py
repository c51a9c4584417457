"""The one derivation of random numbers from a seed and names.

Whatever is drawn depends on the seed and on names (of a scene, a frame, a task) alone, never on the order of frames, on the
batch size, on how many processes read, or on what else is drawn. With the parts joined by colons,

    digest(parts)  = SHA-256 of "part:part:..." in UTF-8
    number(parts)  = the first eight bytes of the digest as a little-endian integer

The same parts give the same number on every machine and with every version of Python and PyTorch.
"""

from __future__ import annotations

import hashlib

import numpy as np


def digest(*parts: object) -> bytes:
    """The 32 bytes that belong to these parts; sorting by them is a seeded shuffle."""
    return hashlib.sha256(":".join(str(part) for part in parts).encode("utf-8", "surrogateescape")).digest()


def number(*parts: object, bits: int = 64) -> int:
    """An integer of `bits` bits (at most 64); PyTorch's generators take up to 63."""
    return int.from_bytes(digest(*parts)[:8], "little") % (1 << bits)


def order(count: int, *seeds: int) -> list[int]:
    """A permutation of 0 ... count − 1, the one of NumPy's generator for these seeds."""
    return [int(item) for item in np.random.default_rng(list(seeds)).permutation(count)]
