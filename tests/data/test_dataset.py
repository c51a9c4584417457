"""Data sets as values."""

from __future__ import annotations


def test_a_data_set_is_described_in_one_short_line() -> None:
    from fathom.data.sources import load

    said = repr(load("rooms"))
    assert said.startswith("<Dataset rooms:") and said.endswith("scenes>")
    assert " frames of " in said and len(said) < 200
