"""Random and permuted controls: what of a network they keep, and what they destroy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fathom.encoders import open_encoder
from fathom.encoders.base import Control, Encoder
from fathom.encoders.module import ModuleEncoder
from fathom.encoders.weights import permute_weights, reinitialise

FACTORY = """
import torch
from torch import nn


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((6,), 5.0))
        self.table = nn.Parameter(torch.full((6, 6), 5.0))
        self.shift = nn.Parameter(torch.full((6,), 5.0))

    def forward(self, x):
        return torch.einsum("bchw,dc->bdhw", x * self.weight[:, None, None], self.table) + self.shift[:, None, None]


def factory():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), Scaled())
    net[1].running_mean.fill_(3.0)
    net[1].running_var.fill_(9.0)
    return net
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(FACTORY)
    return f"module:{tmp_path / 'net.py'}:factory@2,3"


def opened(spec: str, seed: int = 0) -> ModuleEncoder:
    encoder = open_encoder(spec, seed=seed)
    assert isinstance(encoder, ModuleEncoder)
    return encoder


def test_random_keeps_architecture_layers_and_preprocessing(spec: str) -> None:
    trained, random = opened(spec), opened(f"random:{spec}")
    assert random.name == f"random:{spec}" and random.layers == trained.layers
    images = torch.rand(2, 3, 16, 20)
    found, expected = random.encode(images), trained.encode(images)
    assert {layer: z.shape for layer, z in found.items()} == {layer: z.shape for layer, z in expected.items()}
    assert not torch.allclose(found["2"], expected["2"])
    assert torch.equal(random.preprocess(images), trained.preprocess(images))


def test_every_weight_is_fresh(spec: str) -> None:
    module = opened(f"random:{spec}", seed=1).module
    norm, scaled = module.get_submodule("1"), module.get_submodule("3")
    assert torch.equal(norm.get_buffer("running_mean"), torch.zeros(6))
    assert torch.equal(norm.get_buffer("running_var"), torch.ones(6))
    # No initialisation of its own: unit scales, zero shifts, Kaiming-normal matrices.
    assert torch.equal(scaled.get_parameter("weight"), torch.ones(6))
    assert torch.equal(scaled.get_parameter("shift"), torch.zeros(6))
    assert 0.2 < float(scaled.get_parameter("table").std()) < 1.2  # √(2/6) = 0.58


def test_seeds_decide_and_the_global_state_is_left_alone(spec: str) -> None:
    state = torch.random.get_rng_state()
    one, again, other = (opened(f"random:{spec}", seed).module.get_parameter("0.weight") for seed in (1, 1, 2))
    named = opened(f"random:{spec.replace('@', '?seed=1@')}", seed=7).module.get_parameter("0.weight")
    assert torch.equal(one, again) and torch.equal(one, named) and not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_own_initialisation_is_preferred() -> None:
    def fresh(seed: int) -> nn.Module:
        net = nn.Conv2d(3, 2, 1)
        nn.init.constant_(net.weight, float(seed))
        return net

    encoder = ModuleEncoder("x", nn.Conv2d(3, 2, 1), ("",), fresh=fresh)
    random = encoder.random_copy(4)
    assert isinstance(random, ModuleEncoder) and random.name == "random:x"
    assert torch.equal(random.module.get_parameter("weight"), torch.full((2, 3, 1, 1), 4.0))


def test_permuted_keeps_the_values_of_each_tensor_and_not_their_places(spec: str) -> None:
    trained, permuted = opened(spec, seed=3).module, opened(f"permuted:{spec}", seed=3).module
    for (name, before), after in zip(trained.named_parameters(), permuted.parameters(), strict=True):
        assert torch.equal(before.flatten().sort()[0], after.flatten().sort()[0]), name
    weights = trained.get_parameter("0.weight"), permuted.get_parameter("0.weight")
    assert not torch.equal(*weights)


def test_permuting_and_reinitialising_can_be_repeated() -> None:
    made = [permute_weights(reinitialise(nn.Conv2d(3, 8, 3), 5), 6).get_parameter("weight") for _ in range(2)]
    assert torch.equal(*made)


def test_a_scale_of_any_name_is_one_and_a_shift_is_zero() -> None:
    """A layer scale of 0 would switch its branch off."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma, self.beta = nn.Parameter(torch.full((3,), 7.0)), nn.Parameter(torch.full((3,), 7.0))

    fresh = reinitialise(Scaled(), 0)
    assert torch.equal(fresh.get_parameter("gamma"), torch.ones(3))
    assert torch.equal(fresh.get_parameter("beta"), torch.zeros(3))


def test_a_copy_leaves_its_encoder_as_it_is_and_says_what_it_is(spec: str) -> None:
    spec = spec.replace("@2,3", "@0")
    encoder = opened(spec)
    images = torch.rand(1, 3, 16, 20)
    before = encoder.encode(images)["0"]
    for copy, kind in ((encoder.random_copy(3), "random"), (encoder.permuted_copy(3), "permuted")):
        assert isinstance(copy, Encoder) and copy.control == Control(kind, spec, 3)
        assert not torch.equal(copy.encode(images)["0"], before)
    assert torch.equal(encoder.encode(images)["0"], before) and encoder.control is None


def test_what_has_no_copy_says_why() -> None:
    class Uncopied(nn.Conv2d):
        def __deepcopy__(self, memo: object) -> nn.Module:
            raise RuntimeError("it holds a handle")

    assert ModuleEncoder("x", nn.AvgPool2d(4), ("",)).random_copy(0) == "x has no weights to make random"
    reason = ModuleEncoder("x", Uncopied(3, 2, 2), ("",)).permuted_copy(0)
    assert reason == "x has a network that cannot be copied (RuntimeError: it holds a handle)"


def test_a_networks_own_initialisation_has_the_last_word_on_its_layers() -> None:
    class Own(nn.Sequential):
        def reset_parameters(self) -> None:
            for child in self:
                nn.init.constant_(child.get_parameter("weight"), 0.25)

    fresh = reinitialise(Own(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)), 0)
    assert all(torch.equal(child.weight, torch.full_like(child.weight, 0.25)) for child in fresh.children())


@pytest.mark.parametrize(
    "name", ["squeezenet.py:squeezenet", "efficientnet_lite.py:lite0", "efficientnet_lite.py:lite2"]
)
def test_the_example_encoders_open_with_live_controls(name: str) -> None:
    """Neither a signal that fades on its way through the layers nor one that grows without bound."""
    encoder = open_encoder(f"module:{Path(__file__).parents[2] / 'examples' / name}", seed=1)
    images = torch.rand(1, 3, 96, 128)
    random = encoder.random_copy(2)
    assert isinstance(random, Encoder)
    for one in (encoder, random):
        maps = one.encode(images)
        assert len(maps) == 4 and all(1e-2 < float(z.std()) < 1e3 for z in maps.values())
    if "lite" in name:
        assert [z.shape[-2:] for z in encoder.encode(torch.rand(1, 3, 100, 140)).values()] == [
            (24, 32), (12, 16), (6, 8), (3, 4),
        ]  # fmt: skip
