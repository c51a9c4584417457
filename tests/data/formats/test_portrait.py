"""HEIC photos with a depth map inside: what it holds is what its metadata say."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fathom.data.sources import load
from fathom.errors import DataError, MissingExtraError
from tests.data.heic import portrait

pillow_heif = pytest.importorskip("pillow_heif")

Y, X = np.mgrid[:48, :64]
RGB = np.stack([X * 3, Y * 5, 90 + 0 * X], -1).astype(np.uint8)
COUNTS = (X[::2, ::2] * 4).astype(np.uint8)
SHARE = COUNTS / 255


@pytest.mark.parametrize(
    ("kind", "numbers", "expected"),
    [
        (1, {"d_min": 0.5, "d_max": 2.5}, 0.5 + 2 * SHARE),
        (0, {"z_near": 0.5, "z_far": 4.0}, 1 / (SHARE * (2 - 0.25) + 0.25)),
        (2, {"z_near": 1.0, "z_far": 3.0}, 1 + 2 * SHARE),
        (1, {}, SHARE),
    ],
)
def test_the_map_is_a_target_as_its_metadata_say(
    tmp_path: Path, kind: int, numbers: dict[str, float], expected: np.ndarray
) -> None:
    portrait(tmp_path / "a.heic", RGB, COUNTS, kind, **numbers)
    data = load(tmp_path / "a.heic")
    sample = data[0]
    assert data.source.kind == "portrait" and data.scenes == ("a",)
    assert not sample.valid.any(), "nothing relative is depth in metres"
    assert sample.target is not None
    # HEVC is lossy: within two counts.
    assert sample.target[0].numpy() == pytest.approx(expected, rel=0.03, abs=0.02)
    assert np.abs(sample.image.permute(1, 2, 0).numpy().astype(int) - RGB).mean() < 3


def test_a_photo_without_a_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    portrait(tmp_path / "a.heic", RGB, COUNTS, 2)
    whole = pillow_heif.open_heif

    def empty(*given: object, **options: object) -> object:
        photo = whole(*given, **options)
        photo._images.clear()
        return photo

    monkeypatch.setattr(pillow_heif, "open_heif", empty)
    with pytest.raises(DataError, match=r"a\.heic: is not a readable HEIC photo \(it holds no picture\)"):
        load(f"portrait:{tmp_path / 'a.heic'}")[0]


def test_depth_of_a_stated_range_becomes_metres_by_the_user_alone(tmp_path: Path) -> None:
    portrait(tmp_path / "a.heic", RGB, COUNTS, 2, z_near=100.0, z_far=300.0)
    sample = load(f"{tmp_path / 'a.heic'}?depth-scale=0.01")[0]
    assert sample.depth[0].numpy() == pytest.approx(1 + 2 * SHARE, abs=0.02) and sample.target is None
    portrait(tmp_path / "b.heic", RGB, COUNTS, 1)
    with pytest.raises(DataError, match=r"b\.heic: holds disparity of an unknown scale"):
        load(f"{tmp_path / 'b.heic'}?depth-scale=0.01")[0]


def test_a_map_of_an_unknown_kind_is_asked_for(tmp_path: Path) -> None:
    portrait(tmp_path / "a.heic", RGB, COUNTS)
    with pytest.raises(DataError, match=r"whether its map is depth or disparity; give 'PATH\?stored=disparity'"):
        load(tmp_path / "a.heic")[0]
    assert load(f"{tmp_path / 'a.heic'}?stored=disparity")[0].target is not None


def test_the_focal_length_of_the_photo_is_its_camera(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 52
    portrait(tmp_path / "a.heic", RGB, COUNTS, 1, exif=exif.tobytes())
    camera = load(tmp_path / "a.heic")[0].intrinsics
    assert camera is not None and camera.origin == "exif"
    assert camera.fx == pytest.approx(52 * 80 / np.hypot(36, 24)) and (camera.cx, camera.cy) == (32, 24)


def test_a_folder_without_maps_is_left_out_or_named(tmp_path: Path) -> None:
    portrait(tmp_path / "a.heic", RGB, COUNTS, 1)
    pillow_heif.from_pillow(Image.fromarray(RGB)).save(tmp_path / "b.heic")
    (tmp_path / "c.heic").write_bytes(b"no photo")
    Image.fromarray(RGB).save(tmp_path / "d.avif")
    data = load(tmp_path)
    for index, said in (
        (1, r"b\.heic: has no depth map inside"),
        (2, r"c\.heic: is not a readable"),
        (3, r"d\.avif: "),
    ):
        with pytest.raises(DataError, match=said):
            data[index]
    kept = load(tmp_path, skip_bad=True)
    assert kept.ids == ("a",) and len(kept.left_out) == 3


def test_photos_without_a_map_are_no_data(tmp_path: Path) -> None:
    pillow_heif.from_pillow(Image.fromarray(RGB)).save(tmp_path / "b.heic")
    with pytest.raises(
        DataError, match=r"holds no pair .*1 x \*\.heic \(b\.heic\).*none of these looks like a depth map"
    ):
        load(tmp_path)


def test_without_the_extra_one_sentence_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    portrait(tmp_path / "a.heic", RGB, COUNTS, 1)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        MissingExtraError, match=r"a\.heic needs an optional package: pip install 'fathom-depth\[heif\]'"
    ):
        load(tmp_path / "a.heic")[0]
