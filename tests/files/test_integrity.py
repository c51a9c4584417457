"""Every file that is written and read again is verified on every way to it: one bit that differs is one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.layouts import EVERY
from tests.mutations import CLEAN, SAME, Mutant, Rng, seeds

KINDS = [name for name, form in EVERY.items() if form.sealed] + ["split", "pictures of a probe"]
"""Files with a checksum, in themselves or in a file beside them."""


def one_bit(data: bytes, rng: Rng) -> bytes:
    content = bytearray(data)
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_bit_is_one_sentence(name: str, tmp_path: Path) -> None:
    mutant = Mutant(dataclasses.replace(EVERY[name], mutate=one_bit), tmp_path / "x")
    found = [mutant.case(rng) for rng in seeds(0, 12)]
    # The same values: a bit of a date in an archive, or of the name of the key that holds the checksum itself.
    assert {verdict for verdict, _ in found} <= {CLEAN, SAME}, found
    assert sum(verdict == CLEAN for verdict, _ in found) >= 6
