"""Every limit: what is beyond it is refused in a sentence, and the option that the sentence gives lets it through."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image

from fathom.cli.options import parse_size
from fathom.data.formats.benchmarks.mat5 import read_vectors
from fathom.data.formats.exr import read_exr_channels
from fathom.data.formats.files import read_rgb
from fathom.data.formats.recordings.record3d import lzfse
from fathom.data.packed.pack import pack
from fathom.data.sources import load
from fathom.errors import FathomError
from fathom.files import limits
from fathom.files.archives import open_archive
from fathom.files.inputs import parse_json, parse_toml, read_json
from fathom.models import build
from fathom.models.saved import load_model
from fathom.training.recipe import load_recipe
from tests.data.files import pairs
from tests.mutations import _checkpoint, _remanifest, _splits_mat

ROOT = Path(__file__).resolve().parents[2]
MM = "?depth-scale=1000"


def _table(folder: Path) -> object:
    pairs(folder, 1, 1)
    (folder / "index.csv").write_text("id,image,depth\na,rgb/scene0/0.png,depth/scene0/0.png\n")
    return load(f"{folder}{MM}")


def _packed(folder: Path) -> object:
    if not (folder / "p").exists():
        pack(load(f"{pairs(folder / 'd', 2, 2)}{MM}"), folder / "p")
    return load(folder / "p")


def _numbers(folder: Path) -> object:
    pairs(folder, 1, 1)
    for path in (folder / "depth").rglob("*.png"):
        path.unlink()
        np.save(path.with_suffix(".npy"), np.ones((24, 32), np.float32))
    return load(folder)[0]


def _exr(folder: Path) -> object:
    import OpenEXR

    channels = {name: np.ones((4, 6), np.float32) for name in "abc"}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(folder / "a.exr"))
    return read_exr_channels(folder / "a.exr")


def _zip(folder: Path) -> object:
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("a", bytes(500))
        file.writestr("b", b"b")
    with open_archive(folder / "a.zip", "a zip", "") as archive:
        return archive.read("a")


def _lzfse(folder: Path) -> object:
    assert len(lzfse(imagecodecs.lzfse_encode(bytes(500)), folder / "a.r3d")) == 500
    return None


def _json(folder: Path) -> object:
    (folder / "a.json").write_text(json.dumps({"a": [0] * 100}))
    return read_json(folder / "a.json", dict)


def _toml(folder: Path) -> object:
    (folder / "r.toml").write_text(load_recipe("tiny-unet").to_toml())
    return load_recipe(folder / "r.toml")


def _matlab(folder: Path) -> object:
    if not (folder / "m").exists():
        _splits_mat(folder / "m")
    return read_vectors(folder / "m" / "splits.mat", ("trainNdxs",), "")


def _recipe(folder: Path) -> object:
    (folder / "r.toml").write_text('[first]\nrecipe = "tiny-unet"\n[data]\nsize = [40, 50]\n')
    return load_recipe("tiny-unet", ["data.size=40x50"])


def _network(_: Path) -> object:
    return build("autoencoder", {"k": 2, "width": 4, "groups": 2, "blocks": 1, "bottleneck": 4})


def _picture(folder: Path) -> object:
    Image.new("L", (400, 500)).save(folder / "a.png")
    return read_rgb(folder / "a.png")


def _code(folder: Path) -> object:
    """A checkpoint whose encoder is Python code; that it then has other weights is not the limit's concern."""
    if not (folder / "c").exists():
        _checkpoint(folder / "c")
        config = json.loads((folder / "c" / "config.json").read_text())
        name = f"module:{ROOT / 'tests' / 'constant_depth.py'}:model"
        config["recipe"]["model"]["encoder"] = name
        (folder / "c" / "config.json").write_text(json.dumps(config))
        _remanifest(folder / "c")
    try:
        return load_model(folder / "c")
    except FathomError as error:
        if "--limit" in str(error):
            raise
        return None


BEYOND: list[tuple[str, int, Callable[[Path], object]]] = [
    ("pixels", 100, _picture),
    ("pixels", 100, lambda _: parse_size("20x20")),
    ("pixels", 1000, _recipe),
    ("values", 100, _numbers),
    ("values", 60, _exr),
    ("channels", 2, _exr),
    ("member-bytes", 100, _zip),
    ("member-bytes", 100, _lzfse),
    ("members", 1, _zip),
    ("header-bytes", 20, _numbers),
    ("json-bytes", 100, _json),
    ("json-bytes", 10, _matlab),
    ("toml-bytes", 50, _toml),
    ("index-bytes", 10, _table),
    ("nesting", 3, lambda _: parse_json(b"[" * 8 + b"]" * 8, "a.json", list)),
    ("nesting", 3, lambda _: parse_toml(b"a = " + b"[" * 8 + b"]" * 8, "a.toml")),
    ("frames", 3, _packed),
    ("parameters", 100, _network),
    ("layers", 3, _network),
    ("code-files", 0, _code),
]
"""(limit, a value below what the reader meets, what reads)."""


@pytest.mark.parametrize(("name", "value", "read"), BEYOND, ids=lambda given: given if isinstance(given, str) else None)
def test_the_option_in_the_sentence_raises_the_limit(
    name: str, value: int, read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(limits.VARIABLE, raising=False)
    read(tmp_path) if name != "code-files" else None
    if value:
        monkeypatch.setenv(limits.VARIABLE, f"{name}={value}")
    for _ in range(8):  # a sentence that cannot know how far it goes beyond gives a multiple of the limit
        with pytest.raises(FathomError) as refused:
            read(tmp_path)
        option = re.search(rf"--limit ({name}=\d+)", str(refused.value))
        assert option, str(refused.value)
        monkeypatch.setenv(limits.VARIABLE, option[1])
        try:
            read(tmp_path)
            break
        except FathomError:
            continue
    else:
        pytest.fail(f"{refused.value} does not help")


def test_every_limit_is_tried_here_and_stands_in_the_table() -> None:
    assert {name for name, _, _ in BEYOND} == set(limits.LIMITS)
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([\d,]+)( [KM]iB)? \|", (ROOT / "docs" / "limits.md").read_text(), re.MULTILINE
    )
    units = {"": 1, " KiB": 1 << 10, " MiB": 1 << 20}
    shown = {name: int(number.replace(",", "")) * units[unit] for name, number, unit in rows}
    assert shown == {name: limit.default for name, limit in limits.LIMITS.items()}


def test_pictures_beyond_the_limit_of_the_library_are_read_where_ours_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (400, 500)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    monkeypatch.setenv(limits.VARIABLE, "pixels=40000")
    with pytest.raises(FathomError, match=r"claims 200,000 pixels .* --limit pixels=200000"):
        read_rgb(tmp_path / "a.png")
    monkeypatch.setenv(limits.VARIABLE, "pixels=200000")
    assert torch.equal(read_rgb(tmp_path / "a.png"), torch.zeros(3, 500, 400, dtype=torch.uint8))
