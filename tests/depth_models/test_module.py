"""Modules of the user's own as depth models, by name and as objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fathom
from fathom.depth_models.model import DepthModel
from fathom.depth_models.opening import is_model, open_depth_model, split_model
from fathom.errors import CheckpointError, FathomError, UsageError
from fathom.models import build
from fathom.models.shipped import DEFAULT

SOURCE = '''
import torch
from torch import nn

class Red(nn.Module):
    """Millimetres: 4000 times the red, at half the size."""
    def __init__(self, factor=4000.0):
        super().__init__()
        self.register_buffer("factor", torch.tensor(float(factor)))
    def forward(self, x):
        return self.factor * torch.nn.functional.avg_pool2d(x[:, :1], 2)

def make(factor=4000.0):
    return Red(factor)
'''


class Green(nn.Module):
    """Ten times the green; it counts in which mode it runs."""

    def __init__(self, kind: str | None = None, wrap: str = "map") -> None:
        super().__init__()
        self.drop, self.wrap, self.modes = nn.Dropout(0.5), wrap, []
        if kind:
            self.depth_kind = kind

    def forward(self, x: Tensor) -> object:
        self.modes.append(self.training)
        depth = 10 * self.drop(x[:, 1])
        return {
            "map": depth,
            "channel": depth[:, None],
            "dict": {"depth": depth},
            "tuple": (depth, None),
            "flat": depth.mean(),
        }[self.wrap]


def picture(value: int = 51, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def test_a_module_in_a_file_gives_metres_from_its_unit(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    name = f"module:{tmp_path / 'mine.py'}:make?kind=metric&unit=mm"
    found = fathom.predict(name, picture(), device="cpu")
    np.testing.assert_allclose(found.depth, 0.8, rtol=1e-5)  # 51 / 255 of 4 m
    assert found.depth.shape == (20, 30) and found.record()["model"]["name"] == name
    np.testing.assert_allclose(fathom.predict(f"{name}&factor=1000", picture(), device="cpu").depth, 0.2, rtol=1e-5)
    with pytest.raises(UsageError, match="does not say which kind"):
        open_depth_model(f"module:{tmp_path / 'mine.py'}:make")
    with pytest.raises(UsageError, match="there is no unit 'miles'"):
        open_depth_model(f"module:{tmp_path / 'mine.py'}:make?kind=metric&unit=miles")
    with pytest.raises(UsageError, match="is not metric"):
        open_depth_model(f"module:{tmp_path / 'mine.py'}:make?kind=affine-depth&unit=m")


@pytest.mark.parametrize("wrap", ["map", "channel", "dict", "tuple"])
def test_any_module_predicts_where_its_kind_is_said(wrap: str) -> None:
    net = Green(wrap=wrap)
    found = fathom.predict(net, picture(), kind="metric")
    np.testing.assert_allclose(found.depth, 2, rtol=1e-5)
    assert net.modes == [False] and net.training and net.drop.training  # as it was, though it ran in evaluation mode
    with pytest.raises(UsageError, match=r"Green.*does not say which kind"):
        fathom.predict(net, picture())
    assert fathom.predict(Green("affine-disparity"), picture()).kind == "affine-disparity"


def test_a_network_of_ours_needs_no_kind() -> None:
    net = build("plain_cnn", {"filters": [4] * 7})
    assert net.training
    found = fathom.predict(net, picture(size=(32, 48)))
    assert found.kind == "metric" and found.depth.shape == (32, 48) and found.input_size == (32, 48)
    assert net.training
    with pytest.raises(UsageError, match="depth edges and no depth"):
        open_depth_model(build("gradient", {"filters": [4] * 7}))


def test_a_list_gives_a_list_and_sizes_may_differ() -> None:
    net = Green("metric")
    found = fathom.predict(net, [picture(51), picture(102), picture(51, (8, 9))], batch_size=2)
    assert [round(float(one.depth[0, 0]), 3) for one in found] == [2, 4, 2]
    assert [one.depth.shape for one in found] == [(20, 30), (20, 30), (8, 9)]
    assert len(net.modes) == 2  # two of one size at once, then the other
    assert len(fathom.predict(net, [])) == 0


def test_outputs_and_sizes_that_do_not_fit_are_explained() -> None:
    with pytest.raises(FathomError, match=r"wanted \(B, 1, h, w\)"):
        fathom.predict(Green("metric", wrap="flat"), picture())

    class Square(nn.Module):
        depth_kind = "metric"

        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(len(x), 3, 16, 16)[:, 0] * 10

    with pytest.raises(FathomError, match=r"does not run on images of 20x30 .* --size"):
        fathom.predict(Square(), picture())
    np.testing.assert_allclose(fathom.predict(Square(), picture(), size=(16, 16)).depth, 2, rtol=1e-5)


def test_the_same_network_has_one_meaning_however_it_is_named() -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    expected = fathom.predict(None, image, device="cpu")
    for name in (DEFAULT, f"checkpoint:{DEFAULT}", open_depth_model(DEFAULT, device="cpu")):
        assert np.array_equal(fathom.predict(name, image, device="cpu").depth, expected.depth)
    assert isinstance(open_depth_model(), DepthModel)


def test_names_that_mean_nothing_list_what_there_is() -> None:
    with pytest.raises(CheckpointError, match=f"does not exist.*{DEFAULT}"):
        open_depth_model("nowhere/run")
    with pytest.raises(UsageError, match=r"no kind of depth model 'modul' \(did you mean 'module'"):
        open_depth_model("modul:x.py:y")
    with pytest.raises(UsageError, match="names nothing after 'hf:'"):
        open_depth_model("hf:")


def test_a_command_line_is_split_into_model_and_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    image, run = str(tmp_path / "a.png"), str(tmp_path / "run")
    assert split_model([image]) == (None, [image])
    assert split_model([image, image]) == (None, [image, image])
    assert split_model([run, image]) == (run, [image])
    assert split_model([DEFAULT, image]) == (DEFAULT, [image])
    assert split_model(["rooms"]) == (None, ["rooms"])
    assert is_model("hf:a/b") and not is_model(str(tmp_path))
    assert split_model([f"{run}?kind=metric", image]) == (f"{run}?kind=metric", [image])
    with pytest.raises(UsageError, match="name the images"):
        split_model([DEFAULT])
    with pytest.raises(CheckpointError, match="does not exist"):
        split_model(["no-such-model", image])


def test_the_camera_of_a_network_that_takes_one_is_in_pixels_of_what_it_sees() -> None:
    from fathom.models.network import Network
    from fathom.sample import Intrinsics

    class Focal(Network):
        """Its depth is the focal length that it is given, in pixels of its input."""

        predicts = "depth"
        takes_camera = True

        def __init__(self) -> None:
            super().__init__()
            self.config = Network.Config()

        def forward(self, image: Tensor, camera: Tensor | None = None) -> Tensor:  # type: ignore[override]
            assert camera is not None
            return camera[:, 0].view(-1, 1, 1, 1).expand(-1, 1, *image.shape[-2:])

    model = open_depth_model(Focal(), input_size=(10, 15))
    assert model.uses_camera
    images = torch.zeros(2, 3, 20, 30, dtype=torch.uint8)
    maps = model.predict(images, [Intrinsics(40, 40, 15, 10), None])
    assert maps.values[0, 0, 0] == 20  # half the size, half the focal length
    assert maps.values[1, 0, 0] == pytest.approx(15 / 2 / np.tan(np.radians(30)), rel=1e-5)
    assert [camera.origin for camera in maps.cameras] == ["data", "assumed"]
