"""``timm:`` against a stand-in of the package's interface: names, weights from safetensors alone, options, controls.

The package itself needs torchvision and is not among the development dependencies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fathom.encoders import open_encoder
from fathom.encoders.module import ModuleEncoder
from fathom.errors import CheckpointError, DataError, FathomError, MissingExtraError, UsageError

IMAGES = torch.rand(2, 3, 30, 41, generator=torch.Generator().manual_seed(0))


class Windowed(nn.Module):
    """Two stages of stride 4 and 8; refuses sizes other than 32 unless it is told not to be strict."""

    def __init__(self, strict_img_size: bool = True, width: int = 4) -> None:
        super().__init__()
        self.strict = strict_img_size
        self.one, self.two = nn.Conv2d(3, width, 4, 4), nn.Conv2d(width, 6, 2, 2)
        self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "input_size": (3, 32, 32)}

    def forward_intermediates(self, x: Tensor, intermediates_only: bool = False) -> list[Tensor]:
        assert intermediates_only and (not self.strict or x.shape[-2:] == (32, 32)), "Input size does not match"
        one = self.one(x)
        return [one, self.two(one)]


class Stubborn(Windowed):
    """Takes no option, and no size but its own."""

    def __init__(self) -> None:
        super().__init__()


@pytest.fixture(autouse=True)
def timm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    known: dict[str, Any] = {"windowed_tiny": Windowed, "stubborn": Stubborn, "flat": lambda: nn.Conv2d(3, 3, 1)}
    package = ModuleType("timm")

    def create_model(name: str, pretrained: bool = False, pretrained_cfg: Any = None, **options: Any) -> nn.Module:
        assert not pretrained  # would fall back to pickles
        model: nn.Module = known[name.partition(".")[0]](**options)
        if pretrained_cfg:
            model.pretrained_cfg = {**model.pretrained_cfg, **pretrained_cfg}
        return model

    package.__dict__.update(
        create_model=create_model,
        list_models=lambda: sorted(known),
        is_model=lambda name: name.partition(".")[0] in known,
        get_pretrained_cfg=lambda name: SimpleNamespace(hf_hub_id="timm/w.one" if name.endswith(".one") else None),
    )
    monkeypatch.setitem(sys.modules, "timm", package)
    return package


def folder(path: Path, architecture: str = "windowed_tiny", **model_args: Any) -> tuple[Path, dict[str, Tensor]]:
    path.mkdir(parents=True)
    config = {"architecture": architecture, "model_args": model_args, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3]}}
    (path / "config.json").write_text(json.dumps(config))
    model = Stubborn() if architecture == "stubborn" else Windowed(**model_args)
    state = {name: torch.rand_like(tensor) for name, tensor in model.state_dict().items()}
    save_file(state, path / "model.safetensors")
    return path, state


def opened(spec: str, seed: int = 0) -> ModuleEncoder:
    encoder = open_encoder(spec, seed=seed)
    assert isinstance(encoder, ModuleEncoder)
    return encoder


def test_a_folder_gives_its_stages_with_its_own_weights_arguments_and_normalisation(tmp_path: Path) -> None:
    path, state = folder(tmp_path / "net", width=5)
    encoder = opened(f"timm:{path}")
    assert all(torch.equal(value, state[name]) for name, value in encoder.module.state_dict().items())
    found = encoder.encode(IMAGES)
    assert {layer: z.shape for layer, z in found.items()} == {"stage1": (2, 5, 8, 10), "stage2": (2, 6, 4, 5)}
    white = encoder.preprocess(torch.ones(1, 3, 32, 40))
    torch.testing.assert_close(white[0, :, 0, 0], (1 - torch.tensor([0.1, 0.2, 0.3])) / 0.25)


def test_a_name_takes_its_weights_from_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, state = folder(tmp_path / "models--timm--w.one" / "snapshots" / "abc")
    (tmp_path / "models--timm--w.one" / "refs").mkdir()
    (tmp_path / "models--timm--w.one" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoder = opened("timm:windowed_tiny.one@stage2")
    assert torch.equal(encoder.module.get_parameter("two.weight"), state["two.weight"])
    assert list(encoder.encode(IMAGES)) == ["stage2"]


def test_a_model_of_one_size_gets_that_size(tmp_path: Path) -> None:
    path, _ = folder(tmp_path / "net", "stubborn")
    assert opened(f"timm:{path}").encode(IMAGES)["stage2"].shape == (2, 6, 4, 4)


def test_controls_are_made_of_its_architecture(tmp_path: Path) -> None:
    path, state = folder(tmp_path / "net")
    one, again, other = (opened(f"random:timm:{path}", seed).module.get_parameter("one.weight") for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, state["one.weight"])
    permuted = opened(f"permuted:timm:{path}").module.get_parameter("one.weight")
    assert torch.equal(permuted.flatten().sort()[0], state["one.weight"].flatten().sort()[0])


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    path, state = folder(tmp_path / "net")
    save_file({**state, "one.bias": torch.zeros(9)}, path / "model.safetensors")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        open_encoder(f"timm:{path}")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="a pickle can run any code"):
        open_encoder(f"timm:{path}")
    (path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(DataError, match="names no architecture"):
        open_encoder(f"timm:{path}")
    for spec, problem in (
        ("timm:windowed_tinny", "timm has no model 'windowed_tinny' .did you mean 'windowed_tiny'"),
        ("timm:windowed_tiny", "has no weights on the hub"),
        ("timm:windowed_tiny?men=1", "no option 'men' .did you mean 'mean'"),
    ):
        with pytest.raises((FathomError, UsageError), match=problem):
            open_encoder(spec)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"fathom-depth\[timm\]"):
        open_encoder("timm:convnext_tiny.fb_in22k")
