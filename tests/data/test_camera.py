"""Cameras by field of view, by EXIF and by assumption, from photographs that the tests make."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fathom.data.camera import assumed, checked, exif_camera, from_35mm, from_fov
from fathom.data.formats.files import read_exif, read_rgb
from fathom.errors import MissingExtraError, UsageError
from fathom.sample import Grid, Intrinsics


def photo(path: Path, size: Grid = (300, 400), focal: object = 26, orientation: int = 1) -> Path:
    """A photograph with a 35 mm equivalent focal length, its upper left quarter red."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[: size[0] // 2, : size[1] // 2, 0] = 200
    exif = Image.Exif()
    exif[0x0112] = orientation
    if focal is not None:
        exif.get_ifd(0x8769)[0xA405] = focal
    if path.suffix == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.fromarray(pixels).save(path, exif=exif.tobytes(), quality=95)
    return path


def test_the_35mm_focal_length_is_taken_by_the_diagonal(tmp_path: Path) -> None:
    camera = exif_camera(read_exif(photo(tmp_path / "x.jpg")), (300, 400))
    assert camera is not None and camera.origin == "exif"
    assert camera.fx == camera.fy == pytest.approx(26 * 500 / math.sqrt(36**2 + 24**2))
    assert (camera.cx, camera.cy) == (200, 150)
    # The angle across the diagonal is that of the lens on film: 2 atan(43.27 / (2 · 26)).
    angle = 2 * math.atan(500 / (2 * camera.fx))
    assert math.degrees(angle) == pytest.approx(2 * math.degrees(math.atan(math.hypot(36, 24) / 52)))
    # A 3:2 image of a 50 mm lens has the focal length that its width says, since film is 3:2 too.
    assert from_35mm((240, 360), 50).fx == pytest.approx(360 * 50 / 36)


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_turned_photo_has_the_camera_of_what_is_seen(orientation: int, tmp_path: Path) -> None:
    path = photo(tmp_path / "x.jpg", orientation=orientation)
    pixels = read_rgb(path)
    size = (pixels.shape[1], pixels.shape[2])
    assert size == ((300, 400) if orientation == 1 else (400, 300))
    camera = exif_camera(read_exif(path), size)
    assert camera is not None and (camera.cx, camera.cy) == (size[1] / 2, size[0] / 2)
    assert camera.fx == pytest.approx(26 * 500 / math.hypot(36, 24))


@pytest.mark.parametrize("focal", [None, 0, 65535])
def test_a_focal_length_that_is_unknown_is_no_camera(focal: object, tmp_path: Path) -> None:
    assert exif_camera(read_exif(photo(tmp_path / "x.jpg", focal=focal)), (300, 400)) is None
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "bare.png")
    assert exif_camera(read_exif(tmp_path / "bare.png"), (4, 4)) is None


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_read_with_its_orientation_and_its_camera(orientation: int, tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    path = photo(tmp_path / "x.heic", orientation=orientation)
    pixels = read_rgb(path)
    assert tuple(pixels.shape) == ((3, 300, 400) if orientation == 1 else (3, 400, 300))
    # Orientation 6 is turned by 90 degrees clockwise: what was upper left is upper right.
    red = pixels[0] > 100
    rows, columns = red.shape
    corner = red[: rows // 2 - 8, : columns // 2 - 8] if orientation == 1 else red[: rows // 2 - 8, columns // 2 + 8 :]
    assert corner.float().mean() > 0.99 and red.float().mean() < 0.3
    camera = exif_camera(read_exif(path), (pixels.shape[1], pixels.shape[2]))
    assert camera is not None and camera.fx == pytest.approx(26 * 500 / math.hypot(36, 24))


def test_heic_without_the_plug_in_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for plugin in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, plugin, None)
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(
        MissingExtraError, match=r"x\.heic needs an optional package: pip install 'fathom-depth\[heif\]'"
    ):
        read_rgb(tmp_path / "x.heic")


def test_the_assumed_camera_is_sixty_degrees_across_the_longer_side() -> None:
    for size in ((480, 640), (640, 480)):
        camera = assumed(size)
        assert camera.origin == "assumed"
        assert 2 * math.degrees(math.atan(max(size) / (2 * camera.fx))) == pytest.approx(60)


def test_a_camera_of_another_image_size_is_refused() -> None:
    vga = Intrinsics(525, 525, 319.5, 239.5, origin="given")
    assert checked(vga, (480, 640)) == vga
    for size in ((3000, 4000), (240, 320), (200, 640)):
        with pytest.raises(UsageError, match="about 639 wide and 479 high"):
            checked(vga, size)


@pytest.mark.parametrize("centre", [(320.0, 240.0), (325.6, 253.7), (310.0, 230.0)])
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_camera_of_half_or_twice_the_image_size_contradicts_it(centre: tuple[float, float], factor: float) -> None:
    camera = Intrinsics(518.9, 519.5, *centre)
    assert checked(camera, (480, 640)) is camera
    with pytest.raises(UsageError, match="pixels of this image"):
        checked(camera.scaled(factor, factor), (480, 640))


def test_the_origin_stays_when_the_image_changes() -> None:
    camera = from_fov((480, 640), 90)
    assert camera.origin == "given" and camera.fx == pytest.approx(320)
    for changed in (camera.scaled(0.5, 0.5), camera.cropped(8, 8), camera.flipped(640)):
        assert changed.origin == "given"
    assert camera.scaled(0.5, 0.25).fx == pytest.approx(80)
