"""Which images are read, and that no two of them share the name of their results."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import DataError, UsageError
from fathom.media.images import _names, find_images


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_folders_are_walked_and_their_shape_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "in"
    touch(root / "a.jpg", root / "sub" / "b.PNG", root / "notes.txt", root / ".hidden.png", root / ".cache" / "c.png")
    found = find_images([root], tmp_path / "out")
    assert [(item.path, item.name) for item in found] == [(root / "a.jpg", "a"), (root / "sub" / "b.PNG", "sub/b")]


def test_equal_names_from_several_folders_are_told_apart(tmp_path: Path) -> None:
    files = [tmp_path / "x" / "room" / "a.jpg", tmp_path / "y" / "room" / "a.jpg", tmp_path / "y" / "b.jpg"]
    touch(*files)
    assert [item.name for item in find_images(files, tmp_path / "out")] == ["x/room/a", "y/room/a", "b"]
    folders = [tmp_path / "x", tmp_path / "y"]
    assert [item.name for item in find_images(folders, tmp_path / "out")] == ["x/room/a", "b", "y/room/a"]


def test_equal_stems_in_one_folder_are_told_apart_by_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg", tmp_path / "in" / "a.png")
    assert [item.name for item in find_images([tmp_path / "in"], tmp_path / "out")] == ["a_jpg", "a_png"]


def test_an_image_named_twice_is_read_once(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg")
    assert (
        len(find_images([tmp_path / "in" / "a.jpg", tmp_path / "in", tmp_path / "in" / "." / "a.jpg"], tmp_path)) == 1
    )


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["r", "R", "s"]), max_size=3),
            st.sampled_from(["a", "A", "a_jpg", "a_png", "a-2"]),
            st.sampled_from([".jpg", ".png", ".JPG"]),
            st.integers(0, 3),
        ),
        max_size=12,
        unique_by=lambda item: ("/".join(item[0]), item[1], item[2]),
    )
)
def test_names_never_meet(items: list[tuple[list[str], str, str, int]]) -> None:
    files = []
    for folders, stem, suffix, above in items:
        path = Path("/root", *folders, stem + suffix)
        root = path.parent
        for _ in range(min(above, len(folders))):
            root = root.parent
        files.append((path, root))
    names = _names(files)
    assert len({name.casefold() for name in names}) == len(files)


def test_results_are_not_mixed_with_images(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg", tmp_path / "in" / "out" / "a_depth.png")
    assert [item.name for item in find_images([tmp_path / "in"], tmp_path / "in" / "out")] == ["a"]
    with pytest.raises(UsageError, match="is the folder of the images"):
        find_images([tmp_path / "in"], tmp_path / "in")
    touch(tmp_path / "x.png", tmp_path / "x_depth.png")
    with pytest.raises(UsageError, match="would replace the image"):
        find_images([tmp_path / "x.png", tmp_path / "x_depth.png"], tmp_path)


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "notes.txt")
    with pytest.raises(DataError, match="holds no image"):
        find_images([tmp_path / "in"], tmp_path / "out")
