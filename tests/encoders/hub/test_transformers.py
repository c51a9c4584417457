"""Backbones of transformers as encoders, compared with the hidden states that the models report of themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fathom.encoders import open_encoder
from fathom.encoders.hub.states import chosen_layers
from fathom.encoders.module import ModuleEncoder
from fathom.errors import CheckpointError, DataError, FathomError, UsageError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
TOKENS = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
PYRAMID = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1]}
SWIN = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "image_size": 64, "window_size": 2}
FOUR = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
TEXT = {
    **TOKENS,
    "vocab_size": 50,
    "max_position_embeddings": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "convnext": ("ConvNext", PYRAMID),
    "convnextv2": ("ConvNextV2", PYRAMID),
    "resnet": ("ResNet", {**PYRAMID, "embedding_size": 8, "layer_type": "basic"}),
    "vit": ("ViT", {**TOKENS, "image_size": 32, "patch_size": 16}),
    "dinov2": ("Dinov2", {**TOKENS, "image_size": 28, "patch_size": 14}),
    "registers": ("Dinov2WithRegisters", {**TOKENS, "image_size": 28, "patch_size": 14, "num_register_tokens": 4}),
    "mae": ("ViTMAE", {**TOKENS, "image_size": 32, "patch_size": 16}),
    "swin": ("Swin", SWIN),
    "swinv2": ("Swinv2", SWIN),
    "hiera": ("Hiera", {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8], "image_size": [64, 64]}),
    "dinov3": ("DINOv3ViT", {**TOKENS, "image_size": 32, "patch_size": 16, "num_register_tokens": 4}),
    "dinov3-convnext": ("DINOv3ConvNext", PYRAMID),
    "regnet": ("RegNet", {**PYRAMID, "embedding_size": 8, "groups_width": 4}),
    "beit": ("Beit", {**TOKENS, "image_size": 32, "patch_size": 16, "use_relative_position_bias": True}),
    "data2vec": ("Data2VecVision", {**TOKENS, "image_size": 32, "patch_size": 16, "use_relative_position_bias": True}),
    "segformer": ("Segformer", FOUR),
    "pvt_v2": ("PvtV2", {**FOUR, "image_size": 64}),
    "mobilenet_v2": ("MobileNetV2", {"depth_multiplier": 0.25}),
    "focalnet": ("FocalNet", {"image_size": 64, "embed_dim": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}),
    "ijepa": ("IJepa", {**TOKENS, "image_size": 32, "patch_size": 16}),
    "levit": ("Levit", {"image_size": 64, "hidden_sizes": [8, 12, 16], "num_attention_heads": [1, 2, 2],
                        "depths": [1, 1, 1], "key_dim": [4, 4, 4]}),
    "vitdet": ("VitDet", {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32,
                          "pretrain_image_size": 32, "patch_size": 16, "window_size": 2}),
    "dpt": ("DPT", {**TOKENS, "num_hidden_layers": 4, "image_size": 32, "patch_size": 16,
                    "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [4, 4, 8, 8], "fusion_hidden_size": 8}),
    "glpn": ("GLPN", {**FOUR, "decoder_hidden_size": 8}),
    "siglip": ("Siglip", {"text_config": TEXT, "vision_config": {**TOKENS, "image_size": 32, "patch_size": 16}}),
    "siglip2": ("Siglip2", {"text_config": TEXT, "vision_config": {**TOKENS, "patch_size": 16, "num_patches": 16}}),
    "clip": ("CLIP", {"text_config": TEXT, "vision_config": {**TOKENS, "image_size": 32, "patch_size": 16}}),
}  # fmt: skip
IMAGES = torch.rand(2, 3, 60, 90, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model, as transformers saves it, with a preprocessor of odd means."""
    import transformers

    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            family, options = MODELS[name]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                model = getattr(transformers, f"{family}Model")(getattr(transformers, f"{family}Config")(**options))
                for parameter in model.parameters():  # unlike any initialisation
                    parameter.data += 0.1 * torch.randn_like(parameter)
                model.save_pretrained(path)
            processor = {"image_mean": MEAN, "image_std": STD, "do_normalize": True, "rescale_factor": 1 / 255}
            (path / "preprocessor_config.json").write_text(json.dumps(processor))
        return path

    return folder


@pytest.fixture
def copied(folders: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a model's folder that a test may damage."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(folders(name), tmp_path / name))

    return copy


def opened(spec: str, seed: int = 0) -> ModuleEncoder:
    encoder = open_encoder(spec, seed=seed)
    assert isinstance(encoder, ModuleEncoder)
    return encoder


def prepared(size: tuple[int, int]) -> torch.Tensor:
    """The images at `size`, normalised by hand."""
    images = F.interpolate(IMAGES, size, mode="bilinear", antialias=True)
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def own_output(path: Path, size: tuple[int, int], **options: Any) -> Any:
    """What transformers itself computes."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(path).eval()
    with torch.no_grad():
        return model(pixel_values=prepared(size), output_hidden_states=True, **options)


@pytest.mark.parametrize("name", MODELS)
def test_every_family_opens_and_has_both_controls(name: str, folders: Callable[[str], Path]) -> None:
    encoder = opened(f"hf:{folders(name)}")
    maps = encoder.encode(IMAGES)
    assert tuple(maps) == encoder.layers and len(maps) >= 2
    for z in maps.values():
        assert z.ndim == 4 and len(z) == 2 and torch.isfinite(z).all() and float(z.std()) > 0
    for copy in (encoder.random_copy(0), encoder.permuted_copy(0)):
        assert isinstance(copy, ModuleEncoder)
        other = copy.encode(IMAGES)
        assert {layer: z.shape for layer, z in other.items()} == {layer: z.shape for layer, z in maps.items()}
        assert not any(torch.allclose(other[layer], maps[layer]) for layer in maps)
    again = encoder.encode(IMAGES)
    assert all(torch.equal(again[layer], z) for layer, z in maps.items())
    assert encoder.training().depth == (name in ("dpt", "glpn"))


@pytest.mark.parametrize("side", [64, 256, 320])
def test_a_sam_gets_images_of_its_own_size(side: int, tmp_path: Path) -> None:
    """At 256 the size that it was made for is the one that other models are tried at."""
    from transformers import SamConfig, SamModel

    vision = {"hidden_size": 8, "output_channels": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": side,
              "patch_size": 16, "window_size": 2, "global_attn_indexes": [1], "mlp_dim": 16, "num_pos_feats": 4}  # fmt: skip
    prompt = {"hidden_size": 8, "image_size": side, "patch_size": 16, "mask_input_channels": 4}
    mask = {"hidden_size": 8, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 8}
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=mask)).eval()
    model.save_pretrained(tmp_path)
    found = opened(f"hf:{tmp_path}?mean=0,0,0&std=1,1,1").encode(IMAGES)
    images = F.interpolate(IMAGES, (side, side), mode="bilinear", antialias=True)
    with torch.no_grad():
        states = model.vision_encoder(images, output_hidden_states=True).hidden_states
    for z, state in zip(found.values(), states[1:], strict=True):
        torch.testing.assert_close(z, state.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


def depth_model(name: str) -> Any:
    """A tiny depth model around a backbone that has a configuration of its own."""
    import transformers as t

    vit = {
        **TOKENS,
        "num_hidden_layers": 4,
        "out_features": [f"stage{i}" for i in range(1, 5)],
        "reshape_hidden_states": False,
    }
    dino = t.Dinov2Config(**vit, image_size=28, patch_size=14)
    neck = {"neck_hidden_sizes": [4, 4, 8, 8], "fusion_hidden_size": 8}
    if name == "depth_anything":
        config = t.DepthAnythingConfig(
            backbone_config=dino, reassemble_hidden_size=8, head_hidden_size=4, patch_size=14, **neck
        )
        return t.DepthAnythingForDepthEstimation(config)
    if name == "dpt":
        return t.DPTForDepthEstimation(t.DPTConfig(backbone_config=dino, **neck))
    beit = t.BeitConfig(**vit, image_size=32, patch_size=16, use_relative_position_bias=True)
    small = {"bottleneck_features": 8, "num_relative_features": 4, "bin_embedding_dim": 8, "num_attractors": [2, 2, 2, 1],
             "patch_transformer_hidden_size": 8, "patch_transformer_intermediate_size": 8,
             "patch_transformer_num_attention_heads": 2, "patch_transformer_num_hidden_layers": 1}  # fmt: skip
    return t.ZoeDepthForDepthEstimation(t.ZoeDepthConfig(backbone_config=beit, **neck, **small))


@pytest.mark.parametrize("name", ["depth_anything", "dpt", "zoedepth"])
def test_of_a_depth_model_the_backbone_is_read(name: str, tmp_path: Path) -> None:
    model = depth_model(name).eval()
    model.save_pretrained(tmp_path)
    encoder = opened(f"hf:{tmp_path}?mean=0,0,0&std=1,1,1")
    found = encoder.encode(IMAGES)
    patch = model.config.backbone_config.patch_size
    images = F.interpolate(IMAGES, (4 * patch, 6 * patch), mode="bilinear", antialias=True)
    with torch.no_grad():
        states = model.backbone(images, output_hidden_states=True).hidden_states
    assert encoder.layers == ("stage1", "stage2", "stage3", "stage4")
    for z, state in zip(found.values(), states[1:], strict=True):
        torch.testing.assert_close(z, state[:, 1:].reshape(2, 4, 6, 8).permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)
    random = encoder.random_copy(0)
    assert isinstance(random, ModuleEncoder) and random.encode(IMAGES)["stage4"].shape == found["stage4"].shape
    assert encoder.training().depth and not random.training().depth


def test_a_siglip2_of_any_size_reads_the_patches_that_its_own_processor_cuts(folders: Callable[[str], Path]) -> None:
    import transformers

    images = torch.rand(1, 3, 64, 96)
    # Row by row, each patch as rows of RGB values: written out, independently of how it is computed.
    cut = [
        images[0, :, r : r + 16, c : c + 16].permute(1, 2, 0).flatten()
        for r in range(0, 64, 16)
        for c in range(0, 96, 16)
    ]
    model = transformers.Siglip2Model.from_pretrained(folders("siglip2")).eval()
    with torch.no_grad():
        output = model.vision_model(
            pixel_values=torch.stack(cut)[None],
            pixel_attention_mask=torch.ones(1, 24, dtype=torch.int64),
            spatial_shapes=torch.tensor([[4, 6]]),
            output_hidden_states=True,
        )
    found = opened(f"hf:{folders('siglip2')}?mean=0,0,0&std=1,1,1").encode(images)
    for z, state in zip(found.values(), output.hidden_states[1:], strict=True):
        torch.testing.assert_close(z, state.reshape(1, 4, 6, 8).permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


def test_provenance_holds_the_commit_and_the_licence_of_the_card(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--someone--net"
    shutil.copytree(folders("convnext"), repository / "snapshots" / "abc")
    (repository / "snapshots" / "abc" / "README.md").write_text(
        "---\ntags:\n- vision\nlicense: apache-2.0\n---\n# A net\n"
    )
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found, local = opened("hf:someone/net").provenance(), opened(f"hf:{folders('convnext')}").provenance()
    assert (found.spec, found.revision, found.licence) == ("hf:someone/net", "abc", "apache-2.0")
    assert (local.revision, local.licence) == (None, None)
    assert found.weights == local.weights and found.weights is not None


@pytest.mark.parametrize("name", ["convnext", "convnextv2", "resnet"])
def test_the_stages_of_a_convolutional_pyramid_are_its_hidden_states(name: str, folders: Callable[[str], Path]) -> None:
    found = opened(f"hf:{folders(name)}@stem,stage1,stage2,stage3,stage4,last").encode(IMAGES)
    output = own_output(folders(name), (64, 96))
    for layer, state in zip(found, [*output.hidden_states, output.last_hidden_state], strict=True):
        torch.testing.assert_close(found[layer], state, rtol=1e-4, atol=1e-5)
    assert opened(f"hf:{folders(name)}").layers == ("stage1", "stage2", "stage3", "stage4")


@pytest.mark.parametrize(("name", "patch", "first"), [("vit", 16, 1), ("dinov2", 14, 1), ("registers", 14, 5)])
def test_the_blocks_of_a_vit_are_its_hidden_states_without_class_and_register_tokens(
    name: str, patch: int, first: int, folders: Callable[[str], Path]
) -> None:
    grid = {16: (4, 6), 14: (4, 6)}[patch]
    found = opened(f"hf:{folders(name)}@stem,stage1,stage2,stage3,last").encode(IMAGES)
    options = {"interpolate_pos_encoding": True} if name == "vit" else {}
    output = own_output(folders(name), (grid[0] * patch, grid[1] * patch), **options)
    for layer, state in zip(found, [*output.hidden_states, output.last_hidden_state], strict=True):
        expected = state[:, first:].reshape(2, *grid, 8).permute(0, 3, 1, 2)
        torch.testing.assert_close(found[layer], expected, rtol=1e-4, atol=1e-5)


def test_a_masked_autoencoder_sees_every_patch_in_its_place(folders: Callable[[str], Path]) -> None:
    encoder = opened(f"hf:{folders('mae')}")
    first, again = encoder.encode(IMAGES), encoder.encode(IMAGES)
    assert all(z.shape[-2:] == (4, 6) and torch.equal(z, again[layer]) for layer, z in first.items())
    # One patch of the image changed: its own cell changes most at the first block, wherever it lies.
    altered = F.interpolate(IMAGES, (64, 96), mode="bilinear", antialias=True)
    altered[:, :, 32:48, 64:80] = 0
    change = (encoder.encode(altered)["stage1"] - first["stage1"]).square().sum(1)
    assert (change.flatten(1).argmax(1) == 2 * 6 + 4).all()


@pytest.mark.parametrize("name", ["swin", "swinv2"])
def test_the_stages_of_a_swin_are_those_before_they_are_halved(name: str, folders: Callable[[str], Path]) -> None:
    import transformers

    found = opened(f"hf:{folders(name)}@stem,stage1,stage2,stage3,stage4").encode(IMAGES)
    model = transformers.AutoModel.from_pretrained(folders(name)).eval()
    with torch.no_grad():
        embedded, size = model.embeddings(prepared((64, 96)), interpolate_pos_encoding=True)
        output = model.encoder(
            embedded, size, output_hidden_states=True, output_hidden_states_before_downsampling=True, return_dict=True
        )
    shapes = [tuple(z.shape[1:]) for z in found.values()]
    assert shapes == [(8, 16, 24), (8, 16, 24), (16, 8, 12), (32, 4, 6), (64, 2, 3)]
    for z, state in zip(found.values(), output.reshaped_hidden_states, strict=True):
        torch.testing.assert_close(z, state, rtol=1e-4, atol=1e-5)


def test_an_image_too_small_for_the_windows_of_a_swin_is_enlarged(tmp_path: Path) -> None:
    from transformers import SwinConfig, SwinModel

    model = SwinModel(SwinConfig(**{**SWIN, "window_size": 4})).eval()
    model.save_pretrained(tmp_path)
    encoder = opened(f"hf:{tmp_path}?mean=0,0,0&std=1,1,1")
    for _ in range(2):  # an image of exactly one window, then a larger one, each as a fresh model sees it
        for size, fitted in (((60, 90), (128, 192)), ((256, 192), (256, 192))):
            images = F.interpolate(IMAGES, size)
            found = encoder.encode(images)["stage4"]
            fresh = SwinModel.from_pretrained(tmp_path).eval()
            with torch.no_grad():
                enlarged = F.interpolate(images, fitted, mode="bilinear", antialias=True)
                state = fresh(
                    enlarged, interpolate_pos_encoding=True, output_hidden_states=True
                ).reshaped_hidden_states[-1]
            torch.testing.assert_close(found, state, rtol=1e-4, atol=1e-5)


def test_a_model_that_takes_one_size_alone_gets_that_size(folders: Callable[[str], Path]) -> None:
    found = opened(f"hf:{folders('hiera')}").encode(IMAGES)
    output = own_output(folders("hiera"), (64, 64))
    for layer, state in zip(found, output.reshaped_hidden_states[1:], strict=True):
        torch.testing.assert_close(found[layer], state.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


def test_all_layers_come_from_one_forward_pass(folders: Callable[[str], Path]) -> None:
    encoder = opened(f"hf:{folders('vit')}@stem,stage2,network.layernorm")
    passes: list[int] = []
    encoder.module.register_forward_hook(lambda *_: passes.append(1))
    found = encoder.encode(IMAGES)
    assert len(passes) == 1 and list(found) == ["stem", "stage2", "network.layernorm"]
    assert found["network.layernorm"].shape == (2, 8, 4, 6)
    torch.testing.assert_close(found["network.layernorm"], opened(f"hf:{folders('vit')}@last").encode(IMAGES)["last"])


@pytest.mark.parametrize(
    ("blocks", "layers"),
    [(12, (3, 6, 9, 12)), (24, (6, 12, 18, 24)), (6, (1, 3, 4, 6)), (3, (1, 2, 3)), (1, (1,))],
)
def test_a_model_on_one_grid_is_read_at_its_quarters(blocks: int, layers: tuple[int, ...]) -> None:
    shapes = {"stem": (4, 4), **{f"stage{i}": (4, 4) for i in range(1, blocks + 1)}, "last": (4, 4)}
    assert chosen_layers("x", shapes) == tuple(f"stage{i}" for i in layers)


def test_normalisation_is_the_models_own_else_imagenets_else_as_given(
    copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied("convnext")
    white = torch.ones(1, 3, 32, 32)

    def normal(spec: str) -> list[float]:
        return [round(float(v), 4) for v in opened(spec).preprocess(white)[0, :, 0, 0]]

    own = [round((1 - m) / s, 4) for m, s in zip(MEAN, STD, strict=True)]
    assert normal(f"hf:{path}") == own
    assert normal(f"hf:{path}?mean=0,0.5,1&std=1,1,2") == [1.0, 0.5, 0.0]
    processor = path / "preprocessor_config.json"
    values = {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 127.5}  # white becomes 2
    processor.write_text(json.dumps(values))
    assert normal(f"hf:{path}") == [round((2 - m) / s, 4) for m, s in zip(MEAN, STD, strict=True)]
    processor.rename(path / "processor_config.json")
    (path / "processor_config.json").write_text(json.dumps({"image_processor": values, "processor_class": "X"}))
    assert normal(f"hf:{path}") == [round((2 - m) / s, 4) for m, s in zip(MEAN, STD, strict=True)]
    assert "normalisation" not in capsys.readouterr().err
    (path / "processor_config.json").unlink()
    assert normal(f"hf:{path}") == [2.2489, 2.4286, 2.64]
    assert (
        "says nothing of its normalisation; ImageNet's mean and standard deviation are used" in capsys.readouterr().err
    )


def test_a_model_that_takes_bgr_unnormalised_gets_it(copied: Callable[[str], Path]) -> None:
    path = copied("convnext")
    values = {"do_normalize": False, "do_flip_channel_order": True, "do_rescale": True, "rescale_factor": 1 / 255}
    (path / "preprocessor_config.json").write_text(json.dumps(values))
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(opened(f"hf:{path}").preprocess(images), images[:, [2, 1, 0]])


def test_random_is_the_same_architecture_with_fresh_weights_by_seed(folders: Callable[[str], Path]) -> None:
    from transformers import AutoConfig, ConvNextModel

    spec = f"hf:{folders('convnext')}"
    trained, one, again, other = (opened(s, n) for s, n in ((spec, 0), (f"random:{spec}", 1), (f"random:{spec}", 1),
                                                          (f"random:{spec}", 2)))  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = ConvNextModel(AutoConfig.from_pretrained(folders("convnext"))).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in one.module.state_dict().items())
    maps = [encoder.encode(IMAGES) for encoder in (trained, one, again, other)]
    assert [m["stage4"].shape for m in maps] == [maps[0]["stage4"].shape] * 4
    assert torch.equal(maps[1]["stage4"], maps[2]["stage4"])
    assert not torch.allclose(maps[0]["stage4"], maps[1]["stage4"])
    assert not torch.allclose(maps[1]["stage4"], maps[3]["stage4"])


def test_permuted_keeps_the_values_of_the_weights(folders: Callable[[str], Path]) -> None:
    spec = f"hf:{folders('dinov2')}@stage3"
    trained, permuted = opened(spec), opened(f"permuted:{spec}")
    for (name, before), after in zip(trained.module.named_parameters(), permuted.module.parameters(), strict=True):
        assert torch.equal(before.flatten().sort()[0], after.flatten().sort()[0]), name
    assert not torch.allclose(trained.encode(IMAGES)["stage3"], permuted.encode(IMAGES)["stage3"])


def test_a_classifier_gives_its_backbone(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    model = ViTForImageClassification(ViTConfig(**MODELS["vit"][1])).eval()
    model.save_pretrained(tmp_path)
    weights = opened(f"hf:{tmp_path}").module.state_dict()
    expected = model.vit.state_dict()
    assert weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in weights)


def test_of_an_image_and_text_model_the_vision_tower_is_read(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    text = {**TOKENS, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=MODELS["vit"][1])).eval()
    model.save_pretrained(tmp_path)
    found = opened(f"hf:{tmp_path}?mean=0,0,0&std=1,1,1").encode(IMAGES)
    images = F.interpolate(IMAGES, (64, 96), mode="bilinear", antialias=True)
    with torch.no_grad():
        states = model.vision_model(images, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
    for layer, state in zip(found, states[1:], strict=True):
        torch.testing.assert_close(found[layer], state[:, 1:].reshape(2, 4, 6, 8).permute(0, 3, 1, 2))


def test_a_repository_in_the_cache_is_read_without_the_network(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--someone--net"
    shutil.copytree(folders("convnext"), repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found, expected = opened("hf:someone/net").encode(IMAGES), opened(f"hf:{folders('convnext')}").encode(IMAGES)
    assert all(torch.equal(found[layer], expected[layer]) for layer in expected)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("hf:someone/there-is-none", "^hf:someone/there-is-none is neither a folder here nor in the local cache, and"),
        ("hf:some one/x", "neither a folder nor a name of the form org/name"),
        ("hf:./there/is/none", "does not exist"),
        ("hf:a/b/c", "does not exist"),
        ("hf:org/name?revison=1", "no option 'revison' .did you mean 'revision'"),
    ],
)
def test_what_is_not_there_is_one_sentence(spec: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FathomError, match=problem):
        open_encoder(spec)


def test_an_unreachable_hub_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not told to be offline, but with no server behind the address."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(FathomError, match=r"^hf:someone/net is neither a folder here .* the hub cannot be reached"):
        open_encoder("hf:someone/net")


def test_folders_that_hold_no_model_are_one_sentence(copied: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no config\.json"):
        open_encoder(f"hf:{tmp_path / 'empty'}")
    path = copied("vit")
    with pytest.raises(DataError, match="is a file, and a model is a folder"):
        open_encoder(f"hf:{path / 'config.json'}")
    for content, problem in (
        ('{"recipe": {}}', "write checkpoint:PATH"),
        ('{"x": 1}', "names no model_type"),
        ('{"model_type": "no-such-model"}', "model_type 'no-such-model', which this transformers cannot build"),
        ("[1]", "is not a JSON object"),
        ("{", "is not a JSON object"),
    ):
        (path / "config.json").write_text(content)
        with pytest.raises(DataError, match=problem):
            open_encoder(f"hf:{path}")


def test_weights_that_are_torn_missing_foreign_or_pickled_are_refused(copied: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file, save_file

    path = copied("vit")
    weights, whole = path / "model.safetensors", (path / "model.safetensors").read_bytes()
    weights.write_bytes(whole[:-50])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        open_encoder(f"hf:{path}")
    weights.write_bytes(whole)
    tensors = load_file(weights)
    dropped = next(name for name in tensors if name.endswith("layernorm.weight"))
    save_file({name: tensor for name, tensor in tensors.items() if name != dropped}, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"another model than its config.json says: it lacks 'layernorm.weight'"):
        open_encoder(f"hf:{path}")
    save_file({**tensors, dropped: torch.ones(9)}, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match="vit: holds"):
        open_encoder(f"hf:{path}")
    weights.unlink()
    torch.save(tensors, path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pytorch_model.bin, which is not opened: a pickle"):
        open_encoder(f"hf:{path}")


def test_models_that_take_no_images_are_refused(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig(**TOKENS).save_pretrained(tmp_path)
    with pytest.raises(FathomError, match="takes input_ids, no images"):
        open_encoder(f"hf:{tmp_path}")


def test_unknown_layers_get_the_names_there_are(folders: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match=r"no layer 'stage5' .it has stem, stage1, stage2, stage3, stage4, last"):
        open_encoder(f"hf:{folders('convnext')}@stage5")
    with pytest.raises(UsageError, match=r"did you mean 'network\.layernorm'"):
        open_encoder(f"hf:{folders('vit')}@network.layernrm")
    with pytest.raises(UsageError, match="std is three numbers"):
        open_encoder(f"hf:{folders('vit')}?mean=1,1,1&std=1,0,1")


def test_the_probe_command_takes_a_local_backbone(
    folders: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fathom.cli.main import main
    from tests.data.files import pairs

    data = f"{pairs(tmp_path / 'd', scenes=6, views=1, height=48, width=64)}?depth-scale=1000"
    spec = f"hf:{folders('convnext')}"
    code = main(["probe", data, "-e", spec, "-e", f"random:{spec}", "--baselines", "constant,pixels", "--pictures", "0",
                 "--controls", "1", "--no-label-curve", "-o", str(tmp_path / "out"), "-q"])  # fmt: skip
    assert code == 0, capsys.readouterr().err
    rows = json.loads((tmp_path / "out" / "evidence.json").read_text())["rows"]
    for encoder in (spec, f"random:{spec}"):
        found = {row["layer"]: row["channels"] for row in rows if row["encoder"] == encoder}
        assert found == {"stage1": 8, "stage2": 12, "stage3": 16, "stage4": 20, "all": 56, "banded": 56}
    capsys.readouterr()
    assert main(["probe", data, "-e", f"hf:{tmp_path / 'd'}", "-o", str(tmp_path / "none"), "-q"]) == 1
    assert capsys.readouterr().err.strip().startswith(f"error: {tmp_path / 'd'}: holds no config.json")
