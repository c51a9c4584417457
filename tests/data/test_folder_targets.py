"""Folder data with targets that are not depth: every format, pairing, and one sentence for each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from fathom.data.loading import Skipped
from fathom.data.packed.pack import pack
from fathom.data.sources import load
from fathom.data.tools.survey import survey
from fathom.data.transforms import fit
from fathom.errors import DataError, UsageError
from fathom.features import feature
from fathom.training.frames.augment import augment
from fathom.training.recipe import AugmentSection
from tests.data.files import counts, picture

H, W = 12, 16
MAP = np.random.default_rng(5).normal(size=(3, H, W)).astype(np.float32)
DEPTH = np.full((H, W), 2500, np.uint16)


def write_exr(path: Path, channels: dict[str, np.ndarray]) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))


def write_bands(path: Path, chw: np.ndarray) -> None:
    """An interleaved TIFF."""
    bands = np.ascontiguousarray(chw.transpose(1, 2, 0))
    path.write_bytes(imagecodecs.tiff_encode(bands, photometric="rgb", planarconfig="contig"))


def write_pages(path: Path, chw: np.ndarray) -> None:
    first, *rest = (Image.fromarray(band) for band in chw)
    first.save(path, save_all=True, append_images=rest)


def folder(root: Path, name: str, write: Callable[[Path], object], frames: tuple[str, ...] = ("a",)) -> Path:
    """Images and targets in rgb/ and target/; `name` has the place of the frame's id as {}."""
    for frame in frames:
        picture(root / "rgb" / f"{frame}.png", H, W)
        path = root / "target" / name.format(frame)
        path.parent.mkdir(exist_ok=True)
        write(path)
    return root


def npy(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, array)


@pytest.mark.parametrize(
    ("name", "write", "options", "expected"),
    [
        ("{}.npy", npy(MAP[0]), "", MAP[:1]),
        ("{}.npy", npy(MAP.transpose(1, 2, 0)), "?target-layout=hwc", MAP),
        ("{}.npy", npy(MAP), "?target-layout=chw&target-channels=3", MAP),
        ("{}.npy", npy(MAP.astype(np.float16)), "?target-layout=chw", MAP.astype(np.float16)),
        ("{}.npy", npy(MAP[0] > 0), "", MAP[:1] > 0),
        ("{}.tif", lambda path: write_bands(path, MAP), "", MAP),
        ("{}.tif", lambda path: write_bands(path, np.arange(3 * H * W).reshape(3, H, W).astype(np.uint16)), "",
         np.arange(3 * H * W).reshape(3, H, W)),
        ("{}.tif", lambda path: path.write_bytes(imagecodecs.tiff_encode(MAP, photometric="rgb", planarconfig="separate")),
         "", MAP),
        ("{}.tiff", lambda path: write_pages(path, MAP), "", MAP),
        ("{}.tiff", lambda path: write_pages(path, MAP[:1]), "", MAP[:1]),
        ("{}.exr", lambda path: write_exr(path, dict(zip("RGB", MAP, strict=True))), "", MAP),
        ("{}.exr", lambda path: write_exr(path, dict(zip("XYZ", MAP, strict=True))), "?target-channels=Z,X", MAP[[2, 0]]),
        ("{}.png", lambda path: counts(path, DEPTH), "", DEPTH[None]),
        ("{}.png", lambda path: picture(path, H, W, seed=2), "", None),
    ],
)  # fmt: skip
def test_every_format_is_read_as_stored_with_its_channels_in_order(
    tmp_path: Path, name: str, write: Callable[[Path], object], options: str, expected: np.ndarray | None
) -> None:
    data = load(f"{folder(tmp_path, name, write)}{options}")
    target = data[0].target
    assert target is not None and target.dtype == torch.float32
    if expected is None:
        expected = np.asarray(Image.open(tmp_path / "target" / "a.png")).transpose(2, 0, 1)
    assert np.array_equal(target.numpy(), expected.astype(np.float32))
    assert feature("target", data).channels == len(expected)


def test_data_without_depth_have_empty_depth_maps_of_the_images_size(tmp_path: Path) -> None:
    data = load(folder(tmp_path, "{}.npy", npy(MAP[0, ::2, ::2])))
    sample = data[0]
    assert sample.depth_size == (H, W) and not sample.valid.any() and not sample.depth.any()
    assert data.source.facts["depth"].startswith("none") and data.source.facts["target"] == "1 channel"
    found = survey(data)
    assert found.empty == [] and found.with_targets == 1 and not found.depth


def test_depth_target_and_labels_together_by_folder_by_table_and_by_pattern(tmp_path: Path) -> None:
    folder(tmp_path, "{}.npy", npy(MAP[0]), ("a", "b"))
    for name in ("a", "b"):
        counts(tmp_path / "depth" / f"{name}.png", DEPTH)
        counts(tmp_path / "labels" / f"{name}.png", np.full((H, W), 255, np.uint8))
    by_folder = load(f"{tmp_path}?depth-scale=1000&unlabelled=255")
    sample = by_folder[1]
    assert sample.valid.all() and np.array_equal(sample.target[0].numpy(), MAP[0])
    assert sample.labels.unique().tolist() == [-1]
    assert [path.parent.name for path in by_folder.frame(0).files] == ["rgb", "depth", "labels", "target"]
    spec = "depth-scale=1000&images=rgb/*.png&depths=depth/*.png&targets=target/*.npy"
    assert torch.equal(load(f"folder:{tmp_path}?{spec}")[1].target, sample.target)
    (tmp_path / "list.csv").write_text("image,target,scene\nrgb/a.png,target/a.npy,x\nrgb/b.png,target/b.npy,y\n")
    by_table = load(f"folder:{tmp_path}?csv=list.csv")
    assert by_table.scenes == ("x", "y") and not by_table[0].valid.any()
    assert torch.equal(by_table[1].target, sample.target)


def test_pairs_by_marks_in_one_folder(tmp_path: Path) -> None:
    picture(tmp_path / "a_rgb.png", H, W)
    np.save(tmp_path / "a_target.npy", MAP[1])
    data = load(f"folder:{tmp_path}")
    assert data.ids == ("a",) and np.array_equal(data[0].target[0].numpy(), MAP[1])


def test_unknown_values_become_nan_and_nothing_else_does(tmp_path: Path) -> None:
    stored = MAP[0].copy()
    stored[0, :4], stored[1, :4] = -9999, np.nan
    target = load(f"{folder(tmp_path, '{}.npy', npy(stored))}?target-invalid=-9999")[0].target[0]
    assert target.isnan().sum() == 8 and target[:2, :4].isnan().all()
    assert np.array_equal(target[2:].numpy(), MAP[0, 2:])


def test_a_border_is_cut_from_the_target_at_its_own_resolution_and_fitting_leaves_it_alone(tmp_path: Path) -> None:
    data = load(f"{folder(tmp_path, '{}.npy', npy(MAP[0, ::2, ::2]))}?border=2")
    sample = data[0]
    assert sample.image_size == (8, 12) and np.array_equal(sample.target[0].numpy(), MAP[0, ::2, ::2][1:-1, 1:-1])
    assert torch.equal(fit(sample, (4, 6)).target, sample.target)


def test_a_flip_drops_the_target_whose_meaning_under_a_flip_nobody_knows(tmp_path: Path) -> None:
    sample = load(folder(tmp_path, "{}.npy", npy(MAP[0])))[0]
    assert augment(sample, torch.Generator().manual_seed(0), AugmentSection(flip=1.0)).target is None
    assert augment(sample, torch.Generator().manual_seed(0), AugmentSection(flip=0.0)).target is not None


def test_a_pack_keeps_the_target_and_its_unit(tmp_path: Path) -> None:
    data = load(f"{folder(tmp_path / 'd', '{}.npy', npy(MAP))}?target-layout=chw&target-unit=mT")
    pack(data, tmp_path / "p")
    packed = load(tmp_path / "p")
    assert torch.equal(packed[0].target, data[0].target)
    assert feature("target", packed).unit == feature("target", data).unit == "mT"


def test_the_camera_is_of_the_stored_image(tmp_path: Path) -> None:
    root = folder(tmp_path, "{}.npy", npy(MAP[0]))
    camera = load(f"{root}?intrinsics=20,21,8.5,6&border=2")[0].intrinsics
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (20, 21, 6.5, 4)
    for text in ("20,21,8", "20,x,8,6", "0,21,8,6", "20,nan,8,6"):
        with pytest.raises(UsageError, match=f"intrinsics={text}"):
            load(f"{root}?intrinsics={text}")


def cut_short(path: Path, whole: Callable[[Path], object]) -> None:
    whole(path)
    path.write_bytes(path.read_bytes()[:150])


@pytest.mark.parametrize(
    ("name", "write", "options", "sentence"),
    [
        ("{}.npy", npy(MAP), "", r"a\.npy: has shape \(3, 12, 16\), and nothing says which axis .*target-layout=hwc"),
        ("{}.npy", npy(MAP), "?target-layout=hwc", r"is a map of 3x12 with 16 channels, which cannot cover .* 12x16"),
        ("{}.npy", npy(MAP[0, :-2]), "", r"a\.npy: is a map of 10x16 with 1 channel, which cannot cover .* 12x16"),
        ("{}.npy", npy(MAP), "?target-layout=chw&target-channels=4", r"has 3 channels where 4 are wanted"),
        ("{}.npy", npy(MAP[0, 0]), "", r"has shape \(16,\); wanted \(H, W\), \(H, W, C\) or \(C, H, W\)"),
        ("{}.npy", npy(MAP[:, :0]), "?target-layout=chw", r"of shape \(3, 0, 16\), no map of numbers"),
        ("{}.npy", npy(MAP[0] * 1j), "", r"holds complex64 values"),
        ("{}.npy", npy(np.full((H, W), np.inf)), "", r"a\.npy: holds infinite values; write NaN"),
        ("{}.npy", lambda path: cut_short(path, npy(MAP[0])), "", r"a\.npy: holds 22 bytes where its header wants 768"),
        ("{}.exr", lambda path: write_exr(path, {"X": MAP[0]}), "?target-channels=X,Q", r"has channels X, but no Q"),
        ("{}.exr", lambda path: path.write_bytes(b"v/1\x01"), "", r"a\.exr: is not a readable EXR image"),
        ("{}.tif", lambda path: write_bands(path, MAP), "?target-channels=4", r"a\.tif: has 3 channels where 4"),
        ("{}.tif", lambda path: path.write_bytes(b"II*\0nothing at all"), "", r"a\.tif: is not a readable TIFF"),
        ("{}.tif", lambda path: cut_short(path, lambda p: write_bands(p, MAP)), "", r"a\.tif: is not a readable TIFF"),
        ("{}.png", lambda path: path.write_bytes(imagecodecs.png_encode(np.ones((H, W, 3), np.uint16))), "",
         r"a\.png: is a colour image of 16 bits, of which 8 would be read"),
    ],
)  # fmt: skip
def test_a_bad_target_gets_one_sentence_with_its_name(
    tmp_path: Path, name: str, write: Callable[[Path], object], options: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        load(f"{folder(tmp_path, name, write)}{options}")[0]
    assert "\n" not in str(caught.value)


def test_a_tiff_that_claims_too_much_is_refused_undecoded(tmp_path: Path) -> None:
    root = folder(tmp_path, "{}.tif", lambda path: write_bands(path, MAP))
    path = root / "target" / "a.tif"
    data = path.read_bytes()
    order = "little" if data[:2] == b"II" else "big"
    at = int.from_bytes(data[4:8], order) + 2
    while int.from_bytes(data[at : at + 2], order) not in (256, 257):
        at += 12
    kind = int.from_bytes(data[at + 2 : at + 4], order)
    size = {3: 2, 4: 4}[kind]
    for entry in (at, at + 12):
        data = data[: entry + 8] + (50_000).to_bytes(size, order) + data[entry + 8 + size :]
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tif: claims 2,500,000,000 pixels of one image or map, beyond the limit"):
        load(root)[0]


def test_a_tiff_whose_pages_differ_is_refused(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        Image.fromarray(MAP[0]).save(path, save_all=True, append_images=[Image.fromarray(MAP[1, ::2])])

    with pytest.raises(DataError, match=r"a\.tif: has pages of different sizes"):
        load(folder(tmp_path, "{}.tif", write))[0]


def test_one_file_of_another_size_or_channel_count_is_named_or_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path, "{}.npy", npy(MAP), ("a", "b", "c"))
    np.save(root / "target" / "b.npy", MAP[:2])
    data = load(f"{root}?target-layout=chw")
    with pytest.raises(DataError, match=r"b\.npy: has 2 channels where 3 are wanted"):
        data[1]
    np.save(root / "target" / "a.npy", MAP[0, 0])
    with pytest.raises(DataError, match=r"a\.npy: has shape \(16,\)"):
        load(f"{root}?target-layout=chw")
    lenient = load(f"{root}?target-layout=chw", skip_bad=True)
    skipped = Skipped()
    survey(lenient, skipped=skipped)
    assert [id_ for id_, _ in skipped.frames] == ["a", "c"]  # b, the first that can be read, sets the number
    assert feature("target", lenient).channels == 2


def test_an_image_without_its_target_is_named_or_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path, "{}.npy", npy(MAP[0]), ("a", "b"))
    (root / "target" / "b.npy").unlink()
    with pytest.raises(DataError, match=r"rgb/b\.png: has no target beside it"):
        load(root)
    lenient = load(root, skip_bad=True)
    assert lenient.ids == ("a",)
    assert lenient.source.left_out == (f"{root}/rgb/b.png: has no target beside it",)
    (root / "index.csv").write_text("image,target\nrgb/a.png,target/a.npy\nrgb/b.png,\n")
    with pytest.raises(DataError, match=r"index\.csv: line 3 lacks target"):
        load(root)


@pytest.mark.parametrize("text", ["0", "-3", "R,R", ",", "R,2"])
def test_an_option_that_is_neither_count_nor_names_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=f"target-channels={text} is neither a count"):
        load(f"{folder(tmp_path, '{}.npy', npy(MAP[0]))}?target-channels={text}")


def test_data_without_targets_or_with_none_that_can_be_read_say_so(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "rgb" / "a.png", H, W)
    counts(tmp_path / "d" / "depth" / "a.png", DEPTH)
    with pytest.raises(UsageError, match="d has no targets; put their maps in a folder target/"):
        feature("target", load(f"{tmp_path / 'd'}?depth-scale=1000"))
    root = folder(tmp_path / "e", "{}.npy", npy(MAP))
    with pytest.raises(DataError, match="which cannot cover the image"):
        feature("target", load(f"{root}?target-layout=hwc"))
