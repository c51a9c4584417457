"""Trained networks of ours as encoders: their layers are what the network itself computes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fathom.encoders import open_encoder
from fathom.encoders.checkpoint import CheckpointEncoder, hidden_layers
from fathom.errors import CheckpointError, UsageError
from fathom.models import Autoencoder, Network, build
from fathom.models.saved import load_model, write_checkpoint
from fathom.training.recipe import load_recipe

IMAGES = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
SMALL = {
    "autoencoder": ["model.width=8", "model.k=3", "model.blocks=1", "model.bottleneck=8"],
    "residual_cnn": ["model.width=8", "model.blocks=1"],
    "unet": ["model.widths=[8, 16, 16]", "model.blocks=1", "model.head_width=8"],
    "plain_cnn": ["model.filters=[4, 5, 6]"],
    "gradient": ["model.filters=[4, 5, 6]"],
}


def saved(folder: Path, name: str, *settings: str) -> Path:
    """A model folder with weights that differ from those any seed gives."""
    recipe = load_recipe(name, [*SMALL[name], *settings])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        network = build(name, recipe.model.config)
    state = {key: value + 0.01 if value.is_floating_point() else value for key, value in network.state_dict().items()}
    config = {
        "schema_version": 1,
        "model": name,
        "model_config": asdict(recipe.model.config),
        "recipe": recipe.table(),
        "target": network.predicts,
        "input_size": list(recipe.data.size),
        "train_scenes": ["kitchen", "attic"],
    }
    write_checkpoint(folder, {"model.safetensors": state, "config.json": config}, 7)
    return folder


def opened(spec: str, seed: int = 0) -> CheckpointEncoder:
    encoder = open_encoder(spec, seed=seed)
    assert isinstance(encoder, CheckpointEncoder)
    return encoder


def network_of(path: Path) -> Network:
    model = load_model(path).model
    assert isinstance(model, Network)
    return model


def outputs(network: Network, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every named layer's output in a plain forward pass."""
    found: dict[str, torch.Tensor] = {}
    for name, module in network.layers().items():
        module.register_forward_hook(lambda _, __, output, name=name: found.__setitem__(name, output))
    with torch.no_grad():
        network(images)
    return found


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_named_layer_is_what_the_network_computes(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "net", name)
    expected = outputs(network_of(path), IMAGES)
    found = opened(f"checkpoint:{path}@{','.join(expected)}").encode(IMAGES)
    assert list(found) == list(expected)
    for layer, z in found.items():
        torch.testing.assert_close(z, expected[layer], rtol=1e-4, atol=1e-4)  # channels-last adds up in another order


def test_an_autoencoder_is_read_at_its_code_without_running_the_decoder(tmp_path: Path) -> None:
    path = saved(tmp_path / "net", "autoencoder")
    encoder = opened(f"checkpoint:{path}")
    decoded: list[int] = []
    encoder.module.get_submodule("decoder.input").register_forward_hook(lambda *_: decoded.append(1))
    found = encoder.encode(IMAGES)
    network = network_of(path)
    assert isinstance(network, Autoencoder)
    torch.testing.assert_close(found["code"], network.encode(IMAGES), rtol=1e-4, atol=1e-4)
    assert list(found) == ["code"] and found["code"].shape == (2, 3, 4, 6) and not decoded
    assert opened(f"checkpoint:{path}@decoder.group_1").encode(IMAGES)["decoder.group_1"].shape[-2:] == (4, 6)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("residual_cnn", ("group_1", "group_2", "group_3", "group_4")),
        ("unet", ("down_3", "up_2", "up_1")),
        ("plain_cnn", ("layer_3",)),
    ],
)
def test_other_networks_are_read_at_their_last_hidden_layer_of_each_grid(name: str, layers: tuple[str, ...]) -> None:
    settings = load_recipe(name, SMALL[name]).model.config
    assert hidden_layers(build(name, settings)) == layers


def test_a_size_the_stride_does_not_divide_is_resized_so_that_the_grid_covers_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "net", "autoencoder")
    found = opened(f"checkpoint:{path}").encode(IMAGES[..., :30, :43])["code"]
    resized = F.interpolate(IMAGES[..., :30, :43], (32, 40), mode="bilinear", antialias=True)
    network = network_of(path)
    assert isinstance(network, Autoencoder)
    torch.testing.assert_close(found, network.encode(resized), rtol=1e-4, atol=1e-4)


def test_maps_of_a_network_without_padding_cover_the_image_again(tmp_path: Path) -> None:
    path = saved(tmp_path / "net", "plain_cnn", "model.padding=none")
    expected = outputs(network_of(path), IMAGES)
    found = opened(f"checkpoint:{path}@layer_1,layer_2").encode(IMAGES)
    for layer in ("layer_1", "layer_2"):
        lost = (32 - expected[layer].shape[-2]) // 2
        assert lost > 0 and found[layer].shape[-2:] == (32, 48)
        inside = found[layer][..., lost : 32 - lost, lost : 48 - lost]
        torch.testing.assert_close(inside, expected[layer], rtol=1e-4, atol=1e-4)
        assert torch.equal(found[layer][..., 0, :], found[layer][..., lost, :])
        assert torch.equal(found[layer][..., -1], found[layer][..., -1 - lost])


def test_random_is_the_networks_own_initialisation_and_permuted_its_own_weights(tmp_path: Path) -> None:
    path = saved(tmp_path / "net", "residual_cnn")
    config = network_of(path).config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = build("residual_cnn", config).state_dict()
    random = opened(f"random:checkpoint:{path}", seed=5).module.state_dict()
    assert all(torch.equal(random[name], expected[name]) for name in expected)
    other = opened(f"random:checkpoint:{path}?seed=6", seed=5).module.state_dict()
    assert any(not torch.equal(random[name], other[name]) for name in expected)
    trained, permuted = network_of(path).state_dict(), opened(f"permuted:checkpoint:{path}").module.state_dict()
    for name, before in trained.items():
        assert torch.equal(before.flatten().sort()[0], permuted[name].flatten().sort()[0])


def test_the_scenes_it_was_trained_on_are_known(tmp_path: Path) -> None:
    assert opened(f"checkpoint:{saved(tmp_path / 'net', 'plain_cnn')}").training().scenes == ("kitchen", "attic")


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    path = saved(tmp_path / "net", "residual_cnn")
    for spec, problem in (
        (f"checkpoint:{path}@group_5", "no layer 'group_5' .did you mean 'group_"),
        (f"checkpoint:{path}?width=8", "has no option 'width'"),
        (f"checkpoint:{tmp_path / 'none'}", "does not exist"),
    ):
        with pytest.raises((UsageError, CheckpointError), match=problem):
            open_encoder(spec)
    (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is cut short or altered"):
        open_encoder(f"checkpoint:{path}")
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="is a pickle"):
        open_encoder(f"checkpoint:{tmp_path / 'weights.pt'}")
