"""Code of the user's own: found by name, with its neighbours, and its digest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fathom.errors import DataError, UsageError
from fathom.user_code import find_function, typed_options


def folder(path: Path, value: int) -> str:
    """A folder whose ``net.py`` imports ``layers.py`` at once and ``late.py`` when it is called."""
    path.mkdir(exist_ok=True)
    (path / "net.py").write_text(
        "import layers\n\n\ndef make():\n    import late\n    return layers.VALUE, late.VALUE\n"
    )
    (path / "layers.py").write_text(f"VALUE = {value}\n")
    (path / "late.py").write_text(f"VALUE = -{value}\n")
    return f"{path / 'net.py'}:make"


def test_a_file_imports_its_neighbours_and_not_those_of_another_folder(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", 1), folder(tmp_path / "two", 2)
    before = list(sys.path)
    found = [find_function("x", body) for body in (one, two)]
    assert [function() for function in (found[0], found[1], find_function("x", one))] == [(1, -1), (2, -2), (1, -1)]
    assert sys.path == before


def test_an_edited_neighbour_is_read_again_and_changes_the_digest(tmp_path: Path) -> None:
    first = find_function("x", folder(tmp_path, 1))
    first()
    digest = first.digest()
    again = find_function("x", folder(tmp_path, 1))
    again()
    assert digest is not None and again.digest() == digest
    (tmp_path / "layers.py").write_text("VALUE = 55\n")
    edited = find_function("x", f"{tmp_path / 'net.py'}:make")
    assert edited() == (55, -1) and edited.digest() != digest


def test_a_file_does_not_hide_an_installed_package(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('the wrong torch')\n")
    (tmp_path / "net.py").write_text("import torch\n\n\ndef make():\n    return torch.tensor(3)\n")
    assert int(find_function("x", f"{tmp_path / 'net.py'}:make")()) == 3


@pytest.mark.parametrize("body", ["net", "net.py", ":make"])
def test_half_a_name_is_refused(body: str) -> None:
    with pytest.raises(UsageError, match=r"^Thing is not module:package.module:maker or module:file.py:maker"):
        find_function("Thing", body, "maker")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.py: does not exist"):
        find_function("x", f"{tmp_path / 'none.py'}:make")
    with pytest.raises(UsageError, match=r"has no factory 'made'"):
        find_function("x", f"{folder(tmp_path, 1).rpartition(':')[0]}:made")


def test_options_become_numbers_where_they_read_as_some() -> None:
    def make(width: int, gain: float, name: str) -> None: ...

    assert typed_options(make, {"width": "8", "gain": "0.5", "name": "a1"}) == {"width": 8, "gain": 0.5, "name": "a1"}
    with pytest.raises(UsageError, match=r"no option 'widht' .did you mean 'width'"):
        typed_options(make, {"widht": "8"})
