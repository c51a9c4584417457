"""Any module as an encoder: layers by hooks in one pass, token grids, factories, and what they may get wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathom.encoders import as_encoder, open_encoder
from fathom.encoders.base import Encoder
from fathom.encoders.module import IMAGENET_MEAN, IMAGENET_STD, ModuleEncoder, Normalise, as_map, token_grid
from fathom.encoders.whole_cells import WholeCells, nearest_multiple
from fathom.errors import DataError, FathomError, UsageError
from fathom.user_code import code_digest

IMAGES = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def pyramid() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )


class Tokens(nn.Module):
    """Patches of 8 after a class token, in a tuple, as many ViTs give them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 8, 8)
        self.blocks = nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        return self.blocks(torch.cat([torch.full_like(patches[:, :1], 99.0), patches], 1)), None


def test_layers_are_those_of_the_plain_forward_pass_and_read_in_one() -> None:
    net = pyramid()
    passes = []
    net.register_forward_hook(lambda *_: passes.append(1))
    found = ModuleEncoder("x", net, ("2", "4")).encode(IMAGES)
    assert len(passes) == 1
    normal = (IMAGES - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    torch.testing.assert_close(found["2"], net[:3](normal))
    torch.testing.assert_close(found["4"], net[:5](normal))


def test_the_module_is_frozen_in_evaluation_mode_and_keeps_no_hook() -> None:
    net = pyramid().train()
    encoder = ModuleEncoder("x", net, ("1",))
    mean = net.get_submodule("1").get_buffer("running_mean").clone()
    z = encoder.encode(IMAGES)["1"]
    assert not net.training and not z.requires_grad and not any(p.requires_grad for p in net.parameters())
    assert torch.equal(net.get_submodule("1").get_buffer("running_mean"), mean)
    assert not any(module._forward_hooks for module in net.modules())


def test_default_layers_are_the_last_of_each_grid_shallow_to_deep() -> None:
    assert ModuleEncoder("x", pyramid()).layers == ("2", "4")


def test_a_module_may_name_its_layers() -> None:
    net = pyramid()
    net.probe_layers = ["0"]
    assert ModuleEncoder("x", net).layers == ("0",)


def test_an_unknown_layer_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no layer 'patchs'.*did you mean 'patches'"):
        ModuleEncoder("x", Tokens(), ("patchs",))


def test_a_layer_that_does_not_run_is_said() -> None:
    net = pyramid()
    net.unused = nn.Conv2d(3, 3, 1)
    net.forward = lambda images: net[0](images)  # type: ignore[method-assign]
    with pytest.raises(FathomError, match="does not run its layer 'unused'"):
        ModuleEncoder("x", net, ("unused",)).encode(IMAGES)


def test_tokens_lie_on_their_grid_without_the_class_token() -> None:
    net = Tokens()
    encoder = ModuleEncoder("x", net, ("blocks", "patches"), preprocess=nn.Identity())
    found = encoder.encode(IMAGES)
    assert found["blocks"].shape == (2, 5, 4, 6)
    torch.testing.assert_close(found["blocks"], found["patches"])


def test_tokens_lie_on_the_grid_of_what_the_module_was_given() -> None:
    """Resized before the network: 30 x 47 pixels become 32 x 48, and 24 tokens with one more are 4 x 6 of them."""
    encoder = ModuleEncoder("x", Tokens(), ("blocks",), preprocess=WholeCells(8))
    assert encoder.encode(torch.rand(1, 3, 30, 47))["blocks"].shape == (1, 5, 4, 6)


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [(24, (32, 48), (4, 6)), (25, (32, 48), (4, 6)), (29, (32, 48), (4, 6)), (257, (224, 224), (16, 16)),
     (392, (238, 322), (17, 23)), (23, (32, 48), None), (0, (32, 48), None)],
)  # fmt: skip
def test_grids_of_tokens(tokens: int, size: tuple[int, int], grid: tuple[int, int] | None) -> None:
    assert token_grid(tokens, size) == grid


@pytest.mark.parametrize("output", ["text", torch.zeros(2, 7), torch.zeros(2, 23, 4), {}])
def test_what_is_no_feature_map_is_refused(output: Any) -> None:
    with pytest.raises(FathomError, match=r"^Layer 'y' of encoder x gives"):
        as_map("x", "y", output, (32, 48))


@pytest.mark.parametrize(
    ("size", "stride", "fitted"),
    [((240, 320), 14, (238, 322)), ((240, 320), 32, (256, 320)), ((5, 100), 32, (32, 96)), ((64, 96), 32, (64, 96))],
)
def test_sizes_go_to_the_nearest_multiple(size: tuple[int, int], stride: int, fitted: tuple[int, int]) -> None:
    assert nearest_multiple(size, stride) == fitted
    assert WholeCells(stride)(torch.zeros(1, 3, *size)).shape[-2:] == fitted


def test_an_image_that_fits_is_left_as_it_is_and_another_keeps_its_places() -> None:
    assert WholeCells(16)(IMAGES) is IMAGES
    ramp = ((torch.arange(33) + 0.5) / 33).expand(1, 3, 31, 33)
    resized = WholeCells(16)(ramp)
    expected = ((torch.arange(32) + 0.5) / 32).expand(1, 3, 32, 32)
    torch.testing.assert_close(resized[..., 2:-2], expected[..., 2:-2], rtol=0, atol=1e-3)
    assert WholeCells(16, only=(20, 24))(IMAGES).shape[-2:] == (20, 24)
    assert WholeCells(16, least=64)(IMAGES).shape[-2:] == (64, 96)


FACTORY = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4, gain=1.0, name="a"):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 2, 2)
        assert isinstance(width, int) and isinstance(gain, float) and isinstance(name, str)

    def forward(self, x):
        return self.conv(x)


def bare(width=4, gain=1.0, name="a"):
    return Net(width, gain, name)


def prepared():
    return Net(), lambda images: images * 255


def text():
    return "no module"


def broken():
    raise KeyError("weights")
"""


@pytest.fixture
def net(tmp_path: Path) -> Callable[[str], str]:
    (tmp_path / "net.py").write_text(FACTORY)
    return lambda rest: f"module:{tmp_path / 'net.py'}:{rest}"


def test_a_factory_in_a_file_gets_its_options_typed(net: Callable[[str], str]) -> None:
    encoder = open_encoder(net("bare?width=7&gain=2.5&name=b"))
    assert encoder.encode(IMAGES)["conv"].shape == (2, 7, 16, 24)
    assert encoder.name == net("bare?width=7&gain=2.5&name=b") and not encoder.baseline


def test_a_factory_may_bring_its_preprocessing_and_a_spec_may_override_it(net: Callable[[str], str]) -> None:
    own, given = open_encoder(net("prepared")), open_encoder(net("prepared?mean=0.5,0.5,0.5&std=2,2,2"))
    assert isinstance(own, ModuleEncoder) and isinstance(given, ModuleEncoder)
    torch.testing.assert_close(own.preprocess(IMAGES), IMAGES * 255)
    torch.testing.assert_close(given.preprocess(IMAGES), (IMAGES - 0.5) / 2)


def test_a_factory_in_a_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fathom_test_nets").mkdir()
    (tmp_path / "fathom_test_nets" / "one.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    encoder = open_encoder("module:fathom_test_nets.one:bare?width=3@conv")
    assert encoder.encode(IMAGES)["conv"].shape == (2, 3, 16, 24)


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("bare?widht=3", "no option 'widht' .did you mean 'width'"),
        ("missing", "has no factory 'missing'"),
        ("text", "gave str, no torch.nn.Module"),
        ("broken", "its factory failed .KeyError: 'weights'"),
        ("bare@cnov", "no layer 'cnov' .did you mean 'conv'"),
    ],
)
def test_a_factory_that_cannot_be_used_is_one_sentence(net: Callable[[str], str], rest: str, problem: str) -> None:
    with pytest.raises(FathomError, match=problem):
        open_encoder(net(rest))


def test_files_and_packages_that_cannot_be_imported_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.py: does not exist"):
        open_encoder(f"module:{tmp_path / 'none.py'}:factory")
    (tmp_path / "bad.py").write_text("def factory(:\n")
    with pytest.raises(DataError, match=r"bad\.py: cannot be imported .SyntaxError"):
        open_encoder(f"module:{tmp_path / 'bad.py'}:factory")
    with pytest.raises(UsageError, match=r"Module 'no.such.package' cannot be imported"):
        open_encoder("module:no.such.package:factory")
    with pytest.raises(UsageError, match="is not module:"):
        open_encoder("module:torchvision")


def test_normalisation_is_by_channel() -> None:
    found = Normalise((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))(torch.ones(1, 3, 1, 1))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.9, 0.4, 0.175]))


def test_a_module_in_memory_is_read_as_a_frozen_copy() -> None:
    net = pyramid().train()
    encoder = Encoder.from_module(net, layers=["2"], preprocess=lambda images: images * 2, name="mine")
    assert net.training and all(p.requires_grad for p in net.parameters())
    before = encoder.encode(IMAGES)["2"]
    torch.testing.assert_close(before, net.eval()[:3](IMAGES * 2))
    with torch.no_grad():
        net.get_parameter("0.weight").zero_()
    assert torch.equal(encoder.encode(IMAGES)["2"], before)
    assert encoder.name == "mine" and Encoder.from_module(net).name == "Sequential"


def test_a_module_in_memory_has_both_controls_and_a_provenance() -> None:
    net = Tokens()
    encoder = as_encoder(net)
    random, permuted = encoder.random_copy(1), encoder.permuted_copy(1)
    assert isinstance(random, Encoder) and isinstance(permuted, Encoder)
    maps = [one.encode(IMAGES)["patches"] for one in (encoder, random, permuted)]
    assert maps[0].shape == maps[1].shape == maps[2].shape
    assert not torch.allclose(maps[0], maps[1]) and not torch.allclose(maps[0], maps[2])
    known = encoder.provenance()
    assert known.spec is None and known.code == code_digest(Path(__file__))
    assert known.weights == as_encoder(net).provenance().weights != random.provenance().weights


@pytest.mark.usefixtures("unchecked")
def test_a_module_that_cannot_be_copied_is_refused_with_the_remedy() -> None:
    net = pyramid()
    vars(net)["handle"] = (letter for letter in "ab")  # generators cannot be copied
    with pytest.raises(FathomError, match=r"^Sequential cannot be copied .*; give it as module:file\.py:factory"):
        Encoder.from_module(net)
    with pytest.raises(UsageError, match=r"of a torch\.nn\.Module, not of str"):
        Encoder.from_module("pixels")  # type: ignore[arg-type]


def test_a_network_that_fails_on_an_image_is_one_sentence() -> None:
    encoder = ModuleEncoder("x", nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Unflatten(2, (2, 4))), ("0",))
    encoder.encode(torch.rand(1, 3, 32, 32))
    with pytest.raises(FathomError, match=r"^Encoder x fails on images of 20x20 \("):
        encoder.encode(torch.rand(1, 3, 20, 20))


def test_provenance_notices_edited_weights_and_edited_code(net: Callable[[str], str], tmp_path: Path) -> None:
    first, again = (open_encoder(net("bare"), seed=1).provenance() for _ in range(2))
    assert first == again and first.spec == net("bare")
    assert open_encoder(net("bare"), seed=2).provenance().weights != first.weights
    (tmp_path / "net.py").write_text(FACTORY + "# edited")
    edited = open_encoder(net("bare"), seed=1).provenance()
    assert edited.code != first.code and edited.weights == first.weights


def test_a_module_without_normalisation_is_told_which_it_gets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 4, 4, 4))\n"
    )
    open_encoder(f"module:{tmp_path / 'net.py'}:make", size=(32, 48))
    as_encoder(pyramid())
    first, second = capsys.readouterr().err.splitlines()
    assert all("ImageNet's mean and standard deviation are used" in line for line in (first, second))
    open_encoder(f"module:{tmp_path / 'net.py'}:make?mean=0,0,0&std=1,1,1", size=(32, 48))
    Encoder.from_module(pyramid(), preprocess=nn.Identity())
    assert capsys.readouterr().err == ""
