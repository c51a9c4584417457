"""Any folder of pairs: pairing, units, scenes, and one sentence for each thing that can be wrong."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from fathom.data.formats.files import DepthUnitWarning
from fathom.data.sources import load
from fathom.errors import DataError, UsageError
from tests.data.files import counts, pairs, picture

DEPTH = np.full((12, 16), 2500, np.uint16)


def test_pairs_by_sub_folder_with_scenes(tmp_path: Path) -> None:
    dataset = load(f"{pairs(tmp_path)}?depth-scale=1000")
    assert len(dataset) == 12 and len(dataset.scenes) == 4
    assert dataset.ids[0] == "scene0/0" and 1 < float(dataset[0].depth.mean()) < 4


@pytest.mark.parametrize("scale", ["1000", "0.001"])
def test_scale_is_counts_a_metre_or_metres_a_count(tmp_path: Path, scale: str) -> None:
    picture(tmp_path / "rgb" / "a.png")
    counts(tmp_path / "depth" / "a.png", DEPTH)
    assert float(load(f"{tmp_path}?depth-scale={scale}")[0].depth.max()) == pytest.approx(2.5)


def test_integer_depth_without_a_scale_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    counts(tmp_path / "depth" / "a.png", DEPTH)
    with pytest.raises(
        DataError, match=r"a\.png: holds uint16 counts.*'PATH\?depth-scale=...' \(1000 for millimetres\)"
    ):
        load(tmp_path)[0]


def write_exr(path: Path, metres: np.ndarray) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": metres}).write(str(path))


@pytest.mark.filterwarnings("ignore::fathom.data.formats.files.DepthUnitWarning")
@pytest.mark.parametrize("suffix", [".npy", ".exr", ".tiff"])
def test_floating_point_maps_are_metres(tmp_path: Path, suffix: str) -> None:
    picture(tmp_path / "rgb" / "a.png")
    metres = np.linspace(1, 3, 12 * 16, dtype=np.float32).reshape(12, 16)
    path = tmp_path / "depth" / f"a{suffix}"
    path.parent.mkdir()
    if suffix == ".npy":
        np.save(path, metres)
    elif suffix == ".exr":
        write_exr(path, metres)
    else:
        Image.fromarray(metres).save(path)
    assert np.array_equal(load(tmp_path)[0].depth[0].numpy(), metres)
    # Floating-point millimetres are no metres until the option says so.
    assert load(f"{tmp_path}?depth-scale=1000")[0].depth[0].numpy() == pytest.approx(metres / 1000)


def test_pairs_by_marks_in_one_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}_rgb.png")
        counts(tmp_path / f"{name}_depth.png", DEPTH)
    assert load(f"folder:{tmp_path}?depth-scale=1000").ids == ("a", "b")


def test_pairs_and_scenes_from_a_table(tmp_path: Path) -> None:
    picture(tmp_path / "x.png")
    counts(tmp_path / "y.png", DEPTH)
    (tmp_path / "index.csv").write_text("name,rgb,depth,room\nfirst,x.png,y.png,kitchen\n")
    dataset = load(f"{tmp_path}?depth-scale=1000")
    assert dataset.ids == ("first",) and dataset.scenes == ("kitchen",)


def test_pairs_by_patterns(tmp_path: Path) -> None:
    picture(tmp_path / "left" / "rgb_1.png")
    counts(tmp_path / "left" / "sync_depth_1.png", DEPTH)
    spec = f"folder:{tmp_path}?images=left/rgb_*.png&depths=left/sync_*.png&depth-scale=1000"
    assert load(spec).ids == ("left/1",)
    with pytest.raises(UsageError, match="go together"):
        load(f"folder:{tmp_path}?images=left/*.png")


def test_scene_by_regular_expression(tmp_path: Path) -> None:
    for name in ("kitchen_1", "kitchen_2", "hall_1"):
        picture(tmp_path / "rgb" / f"{name}.png")
        counts(tmp_path / "depth" / f"{name}.png", DEPTH)
    assert load(f"{tmp_path}?depth-scale=1000&scene=^([a-z]%2B)_").scenes == ("hall", "kitchen")
    assert "wrong for video" in load(f"{tmp_path}?depth-scale=1000").source.facts["scene"]


def test_offset_border_and_labels(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    counts(tmp_path / "depth" / "a.png", np.zeros((12, 16), np.uint8))
    counts(tmp_path / "labels" / "a.png", np.full((12, 16), 5, np.uint8))
    sample = load(f"{tmp_path}?depth-scale=0.04&depth-offset=0.5&border=2")[0]
    assert sample.image_size == (8, 12) and sample.valid.all() and float(sample.depth[0, 0, 0]) == pytest.approx(0.5)
    assert sample.labels is not None and sample.labels.unique().tolist() == [5]


def test_grey_palette_alpha_and_16_bit_images_become_rgb(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(12, 16))
    for name, image in {
        "grey": grey,
        "palette": grey.convert("P"),
        "alpha": grey.convert("RGBA"),
        "deep": Image.fromarray((np.arange(192).reshape(12, 16) * 256).astype(np.uint16)),
    }.items():
        (tmp_path / "rgb").mkdir(exist_ok=True)
        image.save(tmp_path / "rgb" / f"{name}.png")
        counts(tmp_path / "depth" / f"{name}.png", DEPTH)
    for sample in load(f"{tmp_path}?depth-scale=1000"):
        assert sample.image.shape == (3, 12, 16), sample.id
        assert int(sample.image[0, 5, 7]) == 5 * 16 + 7, sample.id


def broken(tmp_path: Path, image: bytes | None = None, depth: bytes | None = None, suffix: str = ".png") -> Path:
    """A folder with one whole pair `a` and a pair `b` whose image or depth holds the given bytes."""
    for name in ("a", "b"):
        picture(tmp_path / "rgb" / f"{name}.png")
        counts(tmp_path / "depth" / f"{name}.png", DEPTH)
    if image is not None:
        (tmp_path / "rgb" / "b.png").unlink()
        (tmp_path / "rgb" / f"b{suffix}").write_bytes(image)
    if depth is not None:
        (tmp_path / "depth" / "b.png").unlink()
        (tmp_path / "depth" / f"b{suffix}").write_bytes(depth)
    return tmp_path


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (body, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_truncated_png_is_named(tmp_path: Path) -> None:
    whole = (broken(tmp_path) / "rgb" / "a.png").read_bytes()
    (tmp_path / "rgb" / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"rgb/b\.png: cannot be read as an image"):
        load(f"{tmp_path}?depth-scale=1000")[1]


def test_jpeg_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rgb/b\.jpg: is not an image"):
        load(f"{broken(tmp_path, image=b'hello', suffix='.jpg')}?depth-scale=1000")[1]


def test_header_of_50000_squared_pixels_is_refused_undecoded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rgb/b\.png: claims [0-9,]+ pixels of one image or map, beyond the limit"):
        load(f"{broken(tmp_path, image=png_header(50_000, 50_000))}?depth-scale=1000")[1]
    (tmp_path / "rgb" / "b.png").write_bytes(png_header(11_000, 11_000))
    with pytest.raises(DataError, match=r"rgb/b\.png: claims 121,000,000 pixels"):
        load(f"{tmp_path}?depth-scale=1000")[1]


def test_depth_all_zero_has_no_valid_pixel(tmp_path: Path) -> None:
    broken(tmp_path)
    counts(tmp_path / "depth" / "b.png", np.zeros((12, 16), np.uint16))
    assert not load(f"{tmp_path}?depth-scale=1000")[1].valid.any()


def test_nan_and_infinite_depth_are_invalid(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    depth = np.full((12, 16), 2.0, np.float32)
    depth[0], depth[1], depth[2], depth[3] = np.nan, np.inf, -np.inf, -1
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", depth)
    sample = load(tmp_path)[0]
    assert not sample.valid[0, :4].any() and sample.valid[0, 4:].all()
    assert bool(np.isfinite(sample.depth.numpy()).all())


@pytest.mark.parametrize("shape", [(12,), (2, 12, 16), (0, 16), (1, 1, 12, 16)])
def test_array_of_a_wrong_shape_is_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    picture(tmp_path / "rgb" / "a.png")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", np.ones(shape, np.float32))
    with pytest.raises(DataError, match=r"a\.npy: has shape .*; wanted \(H, W\)"):
        load(tmp_path)[0]


def test_array_that_is_pickled_or_cut_short_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    (tmp_path / "depth").mkdir()
    path = tmp_path / "depth" / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: is not a NumPy array"):
        load(tmp_path)[0]
    np.save(path, np.ones((12, 16), np.float32))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.npy: holds 72 bytes where its header wants 768"):
        load(tmp_path)[0]


def test_exr_that_is_none_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "a.exr").write_bytes(b"v/1\x01 garbage")
    with pytest.raises(DataError, match=r"a\.exr: is not a readable EXR image"):
        load(tmp_path)[0]


def test_colour_image_given_as_depth_is_named(tmp_path: Path) -> None:
    broken(tmp_path)
    picture(tmp_path / "depth" / "b.png")
    with pytest.raises(DataError, match=r"depth/b\.png: is a colour image"):
        load(f"{tmp_path}?depth-scale=1000")[1]


def test_pair_without_its_other_half_is_named_or_left_out(tmp_path: Path) -> None:
    broken(tmp_path)
    (tmp_path / "depth" / "b.png").unlink()
    with pytest.raises(DataError, match=r"rgb/b\.png: has no depth map beside it"):
        load(f"{tmp_path}?depth-scale=1000")
    assert load(f"{tmp_path}?depth-scale=1000", skip_bad=True).ids == ("a",)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    broken(tmp_path)
    picture(tmp_path / "rgb" / "b.jpg")
    with pytest.raises(DataError, match=r"b\.png: has the same name as b\.jpg"):
        load(f"{tmp_path}?depth-scale=1000")


def test_duplicate_frame_names_in_a_table_are_refused(tmp_path: Path) -> None:
    broken(tmp_path)
    rows = "image,depth,name\nrgb/a.png,depth/a.png,x\nrgb/b.png,depth/b.png,x\n"
    (tmp_path / "index.csv").write_text(rows)
    with pytest.raises(DataError, match="two frames are called 'x'"):
        load(f"{tmp_path}?depth-scale=1000")


def test_table_with_a_missing_file_says_the_line(tmp_path: Path) -> None:
    broken(tmp_path)
    (tmp_path / "index.csv").write_text("image,depth\nrgb/a.png,depth/a.png\nrgb/z.png,depth/b.png\n")
    with pytest.raises(DataError, match=r"index\.csv: line 3 names .*rgb/z\.png, which does not exist"):
        load(f"{tmp_path}?depth-scale=1000")
    assert len(load(f"{tmp_path}?depth-scale=1000", skip_bad=True)) == 1


def test_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    picture(tmp_path / "rgb" / "x.png")
    counts(tmp_path / "depth" / "x.png", DEPTH)
    for folder in (b"rgb", b"depth"):
        path = tmp_path / os.fsdecode(folder)
        (path / "x.png").rename(path / os.fsdecode(b"caf\xe9.png"))
    dataset = load(f"{tmp_path}?depth-scale=1000")
    assert dataset[0].valid.all() and len(dataset.fingerprint()) == 16


def test_millimetres_read_as_metres_are_warned_of(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", DEPTH.astype(np.float32))
    with pytest.warns(DepthUnitWarning, match=r"a\.npy: median depth is 2500 m; .*give 'PATH\?depth-scale=1000'"):
        load(tmp_path)[0]


def test_empty_folder_and_folder_without_pairs_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: is empty"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match="empty: holds no pair"):
        load(f"folder:{tmp_path / 'empty'}")


@pytest.mark.parametrize(
    ("images", "depths"),
    [
        (("frame-000007.color.jpg", "frame-000010.color.jpg"), ("frame-000007.depth.png", "frame-000010.depth.png")),
        (("rgb/rgb00002.png", "rgb/rgb00014.png"), ("depths/depth00002.png", "depths/depth00014.png")),
        (("images/1.jpg", "images/12.jpg"), ("depth_map/0001.png", "depth_map/0012.png")),
        (("Colors/IMG_1.jpg", "Colors/IMG_2.jpg"), ("Depths/IMG_1-depth.png", "Depths/IMG_2-depth.png")),
        (("a/left1.png", "a/left2.png"), ("a/gt1.png", "a/gt2.png")),
        (("x_image.png", "y_image.png"), ("x_sync_depth.png", "y_sync_depth.png")),
    ],
)
def test_common_names_pair_themselves(tmp_path: Path, images: tuple[str, str], depths: tuple[str, str]) -> None:
    for index, (image, depth) in enumerate(zip(images, depths, strict=True)):
        picture(tmp_path / image, seed=index)
        counts(tmp_path / depth, DEPTH + index)
    (tmp_path / "readme.txt").write_text("x")
    data = load(f"folder:{tmp_path}?depth-scale=1000")
    assert [float(sample.depth.max()) for sample in data] == pytest.approx([2.5, 2.501])
    assert len(set(data.ids)) == 2


def _numbers(root: Path, image: str, depth: str, names: tuple[str, ...] = ("0", "1", "2")) -> None:
    for index, name in enumerate(names):
        picture(root / image.format(name), seed=index)
        counts(root / depth.format(name), DEPTH + index)


@pytest.mark.parametrize(
    ("image", "depth", "first", "scenes"),
    [
        ("Image/{}.jpg", "Depths/{}.png", "0", 3),
        ("images/img_{}.jpg", "depth/depth_00{}.png", "img_0", 3),
        ("frame000{}.color.jpg", "frame000{}.depth.png", "frame0", 3),
        ("Meine Küche/Foto {} (Tür).jpg", "Meine Küche/Foto {} (Tür) depth.png", "Meine Küche/Foto 0 (Tür)", 1),
        ("RGB/IMG_{}.JPG", "DEPTH/IMG_{}.PNG", "IMG_0", 3),
        ("house 1/bath room/color/{}.png", "house 1/bath room/depth/{}.png", "house 1/bath room/0", 1),
        ("train/rgb/bath/{}.png", "train/depth/bath/{}.png", "train/bath/0", 1),
        ("my_images/bath/{}.png", "my_depths/bath/{}.png", "bath/0", 1),
        ("rgb_images/{}.png", "depth_images/{}.png", "0", 3),
        ("a/0000{}_colors.png", "a/0000{}_depth.png", "a/0", 1),
    ],
)
def test_folders_as_people_name_them_load_from_a_bare_path(
    tmp_path: Path, image: str, depth: str, first: str, scenes: int
) -> None:
    root = tmp_path / "my data"
    _numbers(root, image, depth)
    data = load(f"{root}?depth-scale=1000")
    assert data.source.kind == "folder" and data.ids[0] == first and len(data.scenes) == scenes
    assert [float(sample.depth.max()) for sample in data] == pytest.approx([2.5, 2.501, 2.502])
    with pytest.raises(DataError, match=r"nothing says how many make a metre; give 'PATH\?depth-scale="):
        load(root)[0]


@pytest.mark.parametrize(
    ("image", "depth", "option"),
    [
        ("room_{}_rgb.png", "room_{}_d.png", "images=*_rgb.png&depths=*_d.png"),
        ("{}.jpg", "{}.png", "images=*.jpg&depths=*.png"),
        ("f/rgb_{}.png", "f/d_{}.png", "images=f/rgb_*.png&depths=f/d_*.png"),
        ("RGB/{}.jpg", "D/{}.png", "images=RGB/*.jpg&depths=D/*.png"),
        ("eye/s{}/7.jpg", "range/s{}/7.png", "images=eye/**/*.jpg&depths=range/**/*.png"),
        ("s{}/eye/7.jpg", "s{}/range/7.png", "images=*/eye/*.jpg&depths=*/range/*.png"),
    ],
)
def test_the_option_that_is_named_pairs_all_frames(tmp_path: Path, image: str, depth: str, option: str) -> None:
    root = tmp_path / "no depth in this name"
    _numbers(root, image, depth)
    with pytest.raises(DataError) as caught:
        load(root)
    assert f"give 'PATH?{option}'" in str(caught.value)
    assert Path(image.format(0)).name in str(caught.value) and Path(depth.format(0)).name in str(caught.value)
    data = load(f"{root}?{option}&depth-scale=1000")
    assert [float(sample.depth.max()) for sample in data] == pytest.approx([2.5, 2.501, 2.502])


def test_names_that_no_option_pairs_ask_for_a_table(tmp_path: Path) -> None:
    _numbers(tmp_path / "a", "eye/x{}.jpg", "range/y9{}.png")
    with pytest.raises(
        DataError, match=r"3 x eye/\*\.jpg .*no names of images and depth maps agree: list the pairs in index"
    ):
        load(tmp_path / "a")
    _numbers(tmp_path / "b", "rgb/x{}.jpg", "depth/y9{}.png")
    with pytest.raises(
        DataError, match=r"b: holds 3 images such as x0\.jpg and x1\.jpg, and 3 depth maps such as y90\.png"
    ):
        load(tmp_path / "b")


def test_a_scale_is_that_of_counts_where_other_maps_are_floating_point(tmp_path: Path) -> None:
    _numbers(tmp_path, "rgb/{}.jpg", "depth/{}.png")
    for name in ("1", "2"):
        (tmp_path / "depth" / f"{name}.png").unlink()
    np.save(tmp_path / "depth" / "1.npy", np.full((12, 16), 3.25, np.float32))
    write_exr(tmp_path / "depth" / "2.exr", np.full((12, 16), 1.75, np.float32))
    data = load(f"{tmp_path}?depth-scale=1000")
    assert [float(sample.depth.max()) for sample in data] == pytest.approx([2.5, 3.25, 1.75])
    assert data.source.facts["depth"].endswith("; floating-point maps are metres")


def test_other_pictures_beside_marked_pairs_are_left_alone(tmp_path: Path) -> None:
    for name in ("1.mask", "1.rgb", "1.preview"):
        picture(tmp_path / f"{name}.png")
    counts(tmp_path / "1.depth.png", DEPTH)
    data = load(f"{tmp_path}?depth-scale=1000")
    assert len(data) == 1 and data.frame(0).files[0].name == "1.rgb.png"


def test_names_that_do_not_tell_say_what_is_there_and_the_option_that_helps(tmp_path: Path) -> None:
    for index in range(3):
        picture(tmp_path / "eye" / f"{index}.jpg", seed=index)
        counts(tmp_path / "range" / f"{index}.png", DEPTH + index)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    said = str(caught.value)
    assert "3 x eye/*.jpg (0.jpg, 1.jpg); 3 x range/*.png (0.png, 1.png)" in said
    option = said.split("give 'PATH?")[1].split("'")[0]
    assert option == "images=eye/*.jpg&depths=range/*.png"
    data = load(f"{tmp_path}?{option}&depth-scale=1000")
    assert [float(sample.depth.max()) for sample in data] == pytest.approx([2.5, 2.501, 2.502])


def test_images_without_depth_say_what_is_there(tmp_path: Path) -> None:
    for index in range(2):
        picture(tmp_path / f"holiday{index}.jpg", seed=index)
    with pytest.raises(DataError, match=r"holds no pair .*: 2 x \*\.jpg \(holiday0\.jpg, holiday1\.jpg\)"):
        load(tmp_path)


def test_patterns_that_match_nothing_say_so(tmp_path: Path) -> None:
    picture(tmp_path / "eye" / "0.jpg")
    with pytest.raises(DataError, match=r"left/\*\.jpg 0 files, range/\*\.png 0 files; it holds 1 x eye/\*\.jpg"):
        load(f"folder:{tmp_path}?images=left/*.jpg&depths=range/*.png")
