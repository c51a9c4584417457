"""Damaged files of every format: one sentence, or values that no checksum covers; never a traceback, a hang or a silent change.

Some twenty cases of each here; ``benchmarks/soak.py`` has ten thousand.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.layouts import EVERY
from tests.mutations import SILENT, TRACEBACK, Mutant, Rng, seeds

SLOW = {"nyu mat": 4, "rooms zip": 10, "rooms.json, resealed": 10, "exr": 12}
"""Formats whose whole file takes long to read -> cases."""


@pytest.mark.parametrize("name", EVERY)
def test_a_damaged_file_is_one_sentence_or_what_no_checksum_covers(name: str, tmp_path: Path) -> None:
    mutant = Mutant(EVERY[name], tmp_path / "x")
    for number, rng in enumerate(seeds(0, SLOW.get(name, 15))):
        verdict, said = mutant.case(rng)
        assert verdict not in (TRACEBACK, SILENT), f"case {number}: {said}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**40), name=st.sampled_from(["npy", "split", "recipe", "pack.json", "splits.mat, plain"]))
def test_any_damage_is_one_sentence(seed: int, name: str, made: dict[str, Mutant]) -> None:
    verdict, said = made[name].case(Rng(seed))
    assert verdict not in (TRACEBACK, SILENT), said


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mutant]:
    names = ("npy", "split", "recipe", "pack.json", "splits.mat, plain")
    return {name: Mutant(EVERY[name], tmp_path_factory.mktemp("made") / "x") for name in names}
