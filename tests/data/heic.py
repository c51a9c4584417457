"""A HEIC photo with a depth map inside, as phones write it: pillow-heif writes the two images, this file relates them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

DEPTH_URN = b"urn:mpeg:hevc:2015:auxid:2\0"


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes in `data`, one after the other."""
    place = 0
    while place < len(data):
        size = struct.unpack(">I", data[place : place + 4])[0] or len(data) - place
        yield data[place + 4 : place + 8], data[place + 8 : place + size]
        place += size


class Bits:
    """Bits written from the left."""

    def __init__(self) -> None:
        self.text = ""

    def put(self, value: int, count: int) -> None:
        self.text += format(value, f"0{count}b")

    def golomb(self, value: int) -> None:
        digits = format(value + 1, "b")
        self.text += "0" * (len(digits) - 1) + digits

    def number(self, value: float) -> None:
        """Sign, exponent, length and bits of the mantissa (H.265, depth_rep_info_element)."""
        mantissa, exponent = np.frexp(np.float64(abs(value)))
        self.put(int(value < 0), 1)
        self.put(int(exponent) - 1 + 31, 7)
        self.put(22 - 1, 5)
        self.put(round((2 * mantissa - 1) * 2**22), 22)

    def bytes(self) -> bytes:
        padded = self.text + "1"
        padded += "0" * (-len(padded) % 8)
        return bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))


def representation(kind: int, numbers: Mapping[str, float]) -> bytes:
    """The supplemental message that says what a depth map holds (H.265, payload 177), as an auxiliary subtype."""
    bits = Bits()
    names = ("z_near", "z_far", "d_min", "d_max")
    for name in names:
        bits.put(int(name in numbers), 1)
    bits.golomb(kind)
    if "d_min" in numbers or "d_max" in numbers:
        bits.golomb(0)
    for name in names:
        if name in numbers:
            bits.number(numbers[name])
    payload = bits.bytes()
    message = bytes([39 << 1, 1, 177, len(payload)]) + payload
    unit = struct.pack(">I", len(message)) + message
    return struct.pack(">I", len(unit)) + unit


def portrait(
    path: Path, rgb: np.ndarray, depth: np.ndarray, kind: int | None = None, exif: bytes = b"", **numbers: float
) -> None:
    """Write `rgb` (H, W, 3) and, related to it as its depth, `depth` (h, w), both uint8.

    `kind` and `numbers` (z_near, z_far, d_min, d_max) are what the file says of the depth; nothing where `kind` is None.
    """
    import pillow_heif

    photo = pillow_heif.from_pillow(Image.fromarray(rgb))
    photo.add_from_pillow(Image.fromarray(depth))
    photo.save(path, save_all=True, quality=100, chroma=444, exif=exif or None)
    parts = dict(boxes(path.read_bytes()))
    meta = dict(boxes(parts[b"meta"][4:]))
    properties = dict(boxes(meta[b"iprp"]))
    # Items are two images and perhaps EXIF: their number and, after four more bytes, their kind.
    items = [struct.unpack(">HH4s", entry[4:12]) for _, entry in boxes(meta[b"iinf"][6:])]
    first, second = [number for number, _, kind_of in items if kind_of == b"hvc1"]
    count = sum(1 for _ in boxes(properties[b"ipco"]))
    subtype = b"" if kind is None else representation(kind, numbers)
    properties[b"ipco"] += box(b"auxC", bytes(4) + DEPTH_URN + subtype)
    properties[b"ipma"] = associate(properties[b"ipma"], item=second, index=count + 1)
    meta[b"iprp"] = b"".join(box(name, content) for name, content in properties.items())
    reference = box(b"auxl", struct.pack(">HHH", second, 1, first))
    meta[b"iref"] = meta.get(b"iref", bytes(4)) + reference
    before = len(parts[b"meta"])
    grown = 4 + sum(len(content) + 8 for content in meta.values()) - before
    meta[b"iloc"] = moved(meta[b"iloc"], grown)
    parts[b"meta"] = parts[b"meta"][:4] + b"".join(box(name, content) for name, content in meta.items())
    path.write_bytes(b"".join(box(name, content) for name, content in parts.items()))


def associate(ipma: bytes, item: int, index: int) -> bytes:
    """The table of properties with property `index` (below 128) added to `item`."""
    version_flags, entries = struct.unpack(">II", ipma[:8])
    assert version_flags == 0
    place, rows = 8, []
    for _ in range(entries):
        number, count = struct.unpack(">HB", ipma[place : place + 3])
        links = ipma[place + 3 : place + 3 + count]
        place += 3 + count
        rows.append(struct.pack(">HB", number, count + (number == item)) + links + bytes([index] * (number == item)))
    return ipma[:8] + b"".join(rows)


def moved(iloc: bytes, by: int) -> bytes:
    """The table of places with every offset into the file `by` bytes later."""
    version = iloc[0]
    sizes = struct.unpack(">H", iloc[4:6])[0]
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    assert version in (0, 1) and offset_size == 4 and base_size in (0, 4)
    count = struct.unpack(">H", iloc[6:8])[0]
    out, place = bytearray(iloc), 8
    for _ in range(count):
        place += 2 + (2 if version else 0)
        method = struct.unpack(">H", iloc[place - 2 : place])[0] & 15 if version else 0
        place += 2 + base_size
        extents = struct.unpack(">H", iloc[place : place + 2])[0]
        place += 2
        for _ in range(extents):
            place += index_size if version else 0
            if method == 0:
                value = struct.unpack(">I", iloc[place : place + 4])[0]
                out[place : place + 4] = struct.pack(">I", value + by)
            place += 4 + length_size
    return bytes(out)
