"""DATA specs: kinds, paths, options."""

from __future__ import annotations

from pathlib import Path

import pytest

from fathom.data.sources import SOURCES, load, parse_spec
from fathom.errors import DataError, UsageError
from tests.data.files import pairs


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing: does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"nothing: does not exist"):
        load(f"nyu-mat:{tmp_path / 'nothing'}")


def test_unrecognised_path_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert "write KIND:PATH" in str(caught.value)
    assert "(it holds notes.txt)" in str(caught.value)
    assert all(kind in str(caught.value) for kind in SOURCES if kind != "rooms")


def test_unknown_kind_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no kind of data 'nyumat' \(did you mean 'nyu-mat'\?\)"):
        load("nyumat:x")


def test_unknown_option_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"folder has no option 'depth-scal' \(did you mean 'depth-scale'\?\)"):
        load(f"folder:{pairs(tmp_path)}?depth-scal=1000")


@pytest.mark.parametrize("value", ["much", "[]"])
def test_option_of_a_wrong_type_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match=f"folder option depth-scale={'.' * len(value)} is not a number"):
        load(f"folder:{pairs(tmp_path)}?depth-scale={value}")


def test_option_that_is_none_of_the_choices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"part=tset is not one of all, train, test\.$"):
        load("rooms?part=tset")


def test_spec_without_a_path_is_refused() -> None:
    with pytest.raises(UsageError, match="names no path; write folder:PATH"):
        load("folder:")


def test_spec_is_split_into_kind_path_and_options() -> None:
    assert parse_spec("folder:/a/b?depth-scale=1000&scene=%5Ea") == (
        "folder",
        Path("/a/b"),
        {"depth_scale": "1000", "scene": "^a"},
    )
    assert parse_spec("rooms") == ("rooms", None, {})
