"""Everything that is read: regular, bounded, of its type, in its folder."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.data.sources import load
from fathom.errors import DataError, FathomError, UsageError
from fathom.files import limits
from fathom.files.atomic import write_json
from fathom.files.inputs import (
    below,
    expand,
    inside,
    matching,
    parse_json,
    parse_toml,
    plain_name,
    read_bytes,
    read_json,
    regular_file,
)
from fathom.media.images import find_images
from tests.data.files import pairs


class Part(msgspec.Struct):
    ids: list[str]
    share: float = 0.5


def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, problem in (
        ("pipe", "is a pipe, device or socket"),
        (".", "is a folder"),
        ("none", "does not exist"),
        ("x" * 300, "cannot be read"),
        ("a\0b", "not a name of a file"),
    ):
        with pytest.raises(DataError, match=problem):
            regular_file(f"{tmp_path}/{name}")
    with pytest.raises(DataError, match="device"):
        read_bytes("/dev/zero")


def test_bytes_are_bounded_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no space
    with pytest.raises(DataError, match=r"1,099,511,627,776 bytes.*--limit json-bytes=1099511627776"):
        read_json(path, dict)
    path.write_text('{"ids": ["a"]}')
    monkeypatch.setenv(limits.VARIABLE, "json-bytes=5")
    with pytest.raises(DataError, match="beyond the limit of 5"):
        read_json(path, Part)
    monkeypatch.setenv(limits.VARIABLE, "json-bytes=1e3")
    assert read_json(path, Part) == Part(["a"])


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '["]]]", ['])
def test_json_nested_deeper_than_the_limit_is_refused_without_being_parsed(opening: str) -> None:
    with pytest.raises(DataError, match="levels of lists and objects"):
        parse_json((opening * 100_000).encode(), "a.json", dict)


def test_brackets_in_texts_are_no_nesting() -> None:
    assert parse_json(json.dumps({"a": "[" * 1000 + '\\"'}).encode(), "a.json", dict)["a"].startswith("[[")
    assert parse_toml(b"a = '" + b"[" * 1000 + b'\'\nb = """' + b"{" * 500 + b'"""', "a.toml")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "{b=" * 9999, "a" + ".a" * 9999 + " = 1", "a = \xff", "=", "[a"]
)
def test_toml_of_any_depth_and_form_gets_one_sentence(text: str) -> None:
    with pytest.raises(DataError, match=r"a\.toml: "):
        parse_toml(text.encode("latin-1"), "a.toml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "Expected `object`"),
        ('{"ids": "a"}', r"\$\.ids"),
        ('{"ids": [1]}', r"\$\.ids\[0\]"),
        ('{"ids": [], "share": NaN}', "NaN"),
        ('{"ids": [], "share": Infinity}', "Infinity"),
        ('{"ids": [], "share": true}', "bool"),
        ("9" * 5000, "digits"),
        ("\xff", "codec"),
        ("{", "property name"),
    ],
)
def test_json_of_another_shape_is_one_sentence(text: str, problem: str) -> None:
    with pytest.raises(DataError, match=rf"^a\.json: is not a part \(.*{problem}"):
        parse_json(text.encode("latin-1"), "a.json", Part, what="a part")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["ids", "share", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(values, st.binary(max_size=3), st.integers(0, 200))
def test_any_json_is_the_type_or_a_data_error(value: object, noise: bytes, at: int) -> None:
    data = json.dumps(value).encode()
    data = data[:at] + noise + data[at:]
    try:
        part = parse_json(data, "a.json", Part)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(name, str) for name in part.ids) and isinstance(part.share, float)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_any_toml_is_a_table_or_a_data_error(text: str) -> None:
    with suppress(DataError):
        assert isinstance(parse_toml(text.encode("utf-8", "surrogatepass"), "a.toml"), dict)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "a", "b.png", "", "~", "C:", "\\", "a b"]), min_size=1, max_size=5))
def test_names_lead_into_the_folder_or_are_refused(parts: list[str]) -> None:
    name, root = "/".join(parts), Path("/data/set")
    try:
        path = inside(root, name, "index.csv")
    except DataError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "/a", "a\0"])
def test_a_plain_name_has_no_folder(name: str) -> None:
    with pytest.raises(DataError, match="not the plain name"):
        plain_name(name, "pack.json")
    assert plain_name("..a", "pack.json") == "..a"


def test_a_user_that_does_not_exist_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="home folder"):
        expand("~nosuchuserhere/data")


def test_limits_are_named_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(limits.VARIABLE, raising=False)
    with pytest.raises(FathomError, match="did you mean 'pixels'"):
        limits.set_limits(["pixel=3"])
    for wrong in ("pixels=", "pixels=x", "pixels=nan", "pixels=-1", "pixels=inf", "pixels"):
        with pytest.raises(UsageError, match="not a number"):
            limits.set_limits([wrong])
    assert limits.most("pixels") == limits.LIMITS["pixels"].default


def test_a_folder_that_cannot_be_listed_is_one_sentence_and_not_fewer_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pairs(tmp_path / "d", 3)
    assert sorted(path for path in below(root) if path.is_file()) == sorted(p for p in root.rglob("*") if p.is_file())
    assert not list(below(tmp_path / "nowhere"))
    scandir = os.scandir

    def forbidden(path: str) -> object:  # permissions do not stop root
        if str(path).endswith("scene1"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(DataError, match=r"scene1: cannot be listed \(Permission denied\)"):
        load(f"{root}?depth-scale=1000")
    with pytest.raises(DataError, match=r"scene1: cannot be listed"):
        find_images([root], tmp_path / "out")


@pytest.mark.parametrize(
    "pattern",
    ["*", "*/*.png", "rgb/*/0.png", "**/*.png", "rgb/**", "*/scene?/[01].png", "nowhere/*", "rgb/scene0"],
)
def test_patterns_match_as_those_of_the_library(pattern: str, tmp_path: Path) -> None:
    root = pairs(tmp_path / "d", 2)
    (root / ".hidden.png").touch()
    assert matching(root, pattern) == sorted(root.glob(pattern))


@pytest.mark.parametrize(
    ("name", "kind", "closed"),
    [
        ("7-scenes pose", "seven-scenes", "seq-02"), ("polycam camera", "polycam", "cameras"), ("sun camera", "sun-rgbd", "SUNRGBD"),
        ("scannet pose", "scannet", "pose"), ("virtual kitti pose", "virtual-kitti", "Scene01"), ("hypersim depth", "hypersim", "ai_001_002"),
    ],
)  # fmt: skip
def test_readers_say_which_folder_cannot_be_listed(
    name: str, kind: str, closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.layouts import EVERY

    EVERY[name].make(tmp_path / "d")
    assert len(load(f"{kind}:{tmp_path / 'd'}"))
    listdir = os.listdir

    def forbidden(path: str | Path) -> object:  # permissions do not stop root
        if str(path).endswith(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", forbidden)
    with pytest.raises(DataError, match=rf"{closed}: cannot be listed \(Permission denied\)"):
        load(f"{kind}:{tmp_path / 'd'}")


def test_nesting_is_counted_exactly() -> None:
    for text in (b"[" * 64 + b"]" * 64, b"[" + b"[[]]," * 100 + b"[]]", b'["' + b"[{" * 100 + b'\\"[["]'):
        parse_json(text, "a.json", list)
    with pytest.raises(DataError, match=r"a\.json: has 65 levels"):
        parse_json(b"[" * 65 + b"]" * 65, "a.json", list)
    with pytest.raises(DataError, match=r"a\.json: has 70 levels"):
        parse_json(b'{"a":' * 70 + b"1" + b"}" * 70, "a.json", dict)


def test_a_checksum_that_is_there_is_verified_though_none_is_demanded(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1}, checksum=True)
    whole = (tmp_path / "a.json").read_text()
    assert read_json(tmp_path / "a.json", dict)["a"] == 1
    (tmp_path / "a.json").write_text(whole.replace('"a": 1', '"a": 2'))
    with pytest.raises(DataError, match="its checksum differs"):
        read_json(tmp_path / "a.json", dict)
