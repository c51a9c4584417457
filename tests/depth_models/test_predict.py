"""Depth of one image: at the right place, in the right unit, at the image's own size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import fathom
from fathom.data.camera import assumed
from fathom.depth_models.predict import predict
from fathom.depth_models.prediction import Prediction
from fathom.depth_models.resampling import to_image_size, working_size
from fathom.errors import CheckpointError, DataError, UsageError
from fathom.media.depth_files import DepthRangeWarning
from fathom.models import build
from fathom.models.network import Box, Network
from fathom.models.saved import Trained
from fathom.sample import Grid
from fathom.training.recipe import load_recipe


class Redness(Network):
    """Depth is ten metres times the red of a cell; it may lose borders, as networks without padding do."""

    predicts = "depth"

    def __init__(self, stride: int = 1, lost: int = 0, factor: float = 10.0) -> None:
        super().__init__()
        self.config = Network.Config()
        self.stride = self.output_stride = stride
        self.lost, self.factor = lost, factor

    def output_crop(self, size: Grid) -> Box:
        return self.lost, self.lost, size[0] - 2 * self.lost, size[1] - 2 * self.lost

    def forward(self, image: Tensor) -> Tensor:
        top, left, height, width = self.output_crop((image.shape[-2], image.shape[-1]))
        inside = image[:, :1, top : top + height, left : left + width]
        return self.factor * F.avg_pool2d(inside, self.stride)


def trained(network: Network, size: Grid = (24, 32), name: str = "plain_cnn") -> Trained:
    return Trained(network.eval(), name, load_recipe("tiny-plain_cnn").table(), size, (), {}, Path("somewhere"))


def ramp(height: int, width: int) -> np.ndarray:
    """Red grows from left to right, by the same step a pixel."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(20, 220, width).round().astype(np.uint8)
    return pixels


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("size", [(24, 32), (48, 64), (37, 91), (64, 24)])
def test_depth_is_at_the_size_and_at_the_place_of_the_image(stride: int, size: Grid) -> None:
    image = ramp(*size)
    prediction = predict(trained(Redness(stride)), image, device="cpu")
    assert prediction.depth.shape == size
    assert prediction.depth.dtype == np.float32
    # On a ramp, averaging and interpolation change nothing but at the sides.
    expected = 10 / 255 * image[..., 0]
    side = max(1, size[1] // 6)
    assert np.abs(prediction.depth - expected)[:, side:-side].max() < 0.06


def test_restoring_agrees_with_bilinear_interpolation() -> None:
    values = torch.rand(6, 8, generator=torch.Generator().manual_seed(0))
    restored = to_image_size(values, working=(24, 32), box=(0, 0, 24, 32), stride=4, original=(50, 70))
    expected = F.interpolate(values[None, None], (50, 70), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(restored, expected, atol=1e-5, rtol=1e-5)


def test_a_grid_that_overhangs_the_input_is_not_squeezed() -> None:
    # 3 cells of stride 4 stand for 10 pixels: cell centres at 2, 6 and 10, whatever the original's size.
    values = torch.tensor([[0.0, 1.0, 2.0]])
    restored = to_image_size(values, working=(4, 10), box=(0, 0, 4, 10), stride=4, original=(1, 10))
    centres = torch.arange(10) + 0.5
    torch.testing.assert_close(restored[0], ((centres - 2) / 4).clamp(0, 2))


def test_lost_borders_are_unknown_and_the_rest_stays_in_place(tmp_path: Path) -> None:
    image = ramp(48, 64)
    prediction = predict(trained(Redness(lost=3)), image, device="cpu")
    unknown = np.isnan(prediction.depth)
    assert unknown[:6].all() and unknown[-6:].all() and unknown[:, :6].all() and unknown[:, -6:].all()
    assert not unknown[6:-6, 6:-6].any()
    assert np.abs(prediction.depth - 10 / 255 * image[..., 0])[8:-8, 8:-8].max() < 0.06
    counts = np.array(Image.open(prediction.save_png16(tmp_path / "d.png")))
    assert (counts == 0)[unknown].all() and (counts > 0)[~unknown].all()


def test_a_real_network_without_padding_covers_what_it_says() -> None:
    network = build("plain_cnn", {"filters": [4] * 7, "padding": "none"})
    depth = predict(trained(network, (48, 64)), ramp(96, 128), device="cpu").depth
    assert np.isnan(depth[:12]).all() and np.isnan(depth[:, -12:]).all()
    assert np.isfinite(depth[12:-12, 12:-12]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_image_and_depth(orientation: int, tmp_path: Path) -> None:
    upright = ramp(40, 60)
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = Image.fromarray(upright)
    stored = stored.transpose(undo[orientation]) if orientation in undo else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    prediction = predict(trained(Redness()), tmp_path / "photo.png", device="cpu")
    assert np.array_equal(prediction.image, upright)
    assert prediction.depth.shape == (40, 60)
    assert (prediction.depth[:, -10:] > prediction.depth[:, :10] + 3).all()


def test_every_form_of_an_image_gives_the_same_depth(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    model = trained(Redness())
    forms = [tmp_path / "x.png", str(tmp_path / "x.png"), Image.fromarray(pixels), pixels, tensor, tensor.float() / 255]
    depths = [predict(model, form, device="cpu").depth for form in forms]
    assert all(np.array_equal(depth, depths[0]) for depth in depths)
    for wrong in (pixels[..., :2], pixels.astype(np.float32), tensor[:2]):
        with pytest.raises(UsageError, match="wanted"):
            predict(model, wrong, device="cpu")


def test_the_working_size_keeps_area_and_shape() -> None:
    assert working_size((480, 640), (240, 320), 8) == (240, 320)
    assert working_size((482, 640), (240, 320), 8) == (240, 320)
    assert working_size((640, 480), (240, 320), 8) == (320, 240)
    rows, columns = working_size((1000, 3000), (240, 320), 16)
    assert rows % 16 == columns % 16 == 0
    assert abs(columns / rows - 3) < 0.2 and abs(rows * columns / (240 * 320) - 1) < 0.1
    assert min(working_size((1, 5000), (240, 320), 16)) == 16
    assert predict(trained(Redness()), ramp(30, 40), size=(8, 16), device="cpu").input_size == (8, 16)


def test_linear_outputs_below_zero_are_a_millimetre() -> None:
    assert predict(trained(Redness(factor=-1.0)), ramp(24, 32), device="cpu").depth.max() == np.float32(1e-3)


def test_a_network_that_gives_nothing_finite_is_an_error() -> None:
    with pytest.raises(DataError, match="no finite depth"):
        predict(trained(Redness(factor=float("nan"))), ramp(24, 32), device="cpu")


@pytest.mark.parametrize(("name", "what"), [("autoencoder", "images"), ("gradient", "edges")])
def test_networks_of_something_else_are_refused(name: str, what: str) -> None:
    tiny = {"width": 4, "blocks": 1, "code": 2} if name == "autoencoder" else {"filters": [4] * 7}
    known = {key: value for key, value in tiny.items() if key in _config_fields(name)}
    with pytest.raises(CheckpointError, match=f"'{name}', which predicts {what}"):
        predict(trained(build(name, known), name=name), ramp(24, 32), device="cpu")


def _config_fields(name: str) -> set[str]:
    from dataclasses import fields

    from fathom.models import MODELS

    return {field.name for field in fields(MODELS[name].Config)}


def metric(depth: np.ndarray) -> Prediction:
    """A prediction in metres of a black image."""
    return Prediction(np.zeros((*depth.shape, 3), np.uint8), depth, "metric", assumed(depth.shape))


@dataclass
class _Depths:
    values: list[list[float]]

    def prediction(self) -> Prediction:
        return metric(np.array(self.values, np.float32))


def test_millimetres_are_rounded_and_read_back(tmp_path: Path) -> None:
    depth = np.random.default_rng(1).uniform(0.001, 65.0, (50, 60)).astype(np.float32)
    prediction = metric(depth)
    assert prediction.beyond_png() == 0
    counts = np.array(Image.open(prediction.save_png16(tmp_path / "d.png")))
    assert counts.dtype in (np.uint16, np.int32)
    assert np.abs(counts / 1000 - depth).max() <= 0.000501


def test_depth_beyond_sixteen_bits_is_said_and_never_wrapped(tmp_path: Path) -> None:
    prediction = _Depths([[65.534, 65.6, 70.0], [131.072, 1e9, float("nan")]]).prediction()
    assert prediction.beyond_png() == 4
    with pytest.warns(DepthRangeWarning, match="4 pixels lie beyond"):
        prediction.save_png16(tmp_path / "d.png")
    assert np.array(Image.open(tmp_path / "d.png")).tolist() == [[65534, 65535, 65535], [65535, 65535, 0]]
    assert np.array_equal(
        np.load(prediction.save_npy(tmp_path / "d.npy"), allow_pickle=False), prediction.depth, equal_nan=True
    )


@pytest.mark.parametrize("size", [(1, 1), (30, 50), (240, 320)])
def test_the_colour_map_shows_every_pixel_and_a_scale_beside_it(size: Grid, tmp_path: Path) -> None:
    from fathom.media.colour import colourise

    depth = np.linspace(1, 5, size[0] * size[1], dtype=np.float32).reshape(size)
    depth[0, 0] = np.nan if depth.size > 1 else 1
    prediction = metric(depth)
    picture = np.array(Image.open(prediction.save_colour(tmp_path / "c.png", near=1.0, far=5.0)).convert("RGB"))
    assert np.array_equal(picture[: size[0], : size[1]], colourise(depth, 1, 5))
    beside = picture[:, size[1] :]
    assert beside.shape[1] > 50 and len(np.unique(beside.reshape(-1, 3), axis=0)) > 50
    assert (beside < 60).all(axis=2).any()  # figures
    with pytest.raises(UsageError, match="far must be beyond near"):
        prediction.save_colour(tmp_path / "e.png", near=3.0, far=2.0)
    assert not (tmp_path / "e.png").exists()


def test_it_is_a_public_name() -> None:
    assert fathom.predict is predict
