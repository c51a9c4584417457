"""Depth models of transformers give what calling transformers by hand gives."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fathom
from fathom.depth_models.hub import KNOWN, declared_kind
from fathom.depth_models.opening import open_depth_model
from fathom.depth_models.processors import filled
from fathom.encoders.hub.repository import licence_of
from fathom.errors import CheckpointError, DataError, FathomError, UsageError
from fathom.sample import Intrinsics


def _tiny() -> Any:
    unit = importlib.util.spec_from_file_location("tiny_depth_models", Path(__file__).with_name("tiny.py"))
    assert unit is not None and unit.loader is not None
    module = importlib.util.module_from_spec(unit)
    unit.loader.exec_module(module)
    return module


tiny = _tiny()
STATED = {"dpt": "?kind=affine-disparity", "chmv2": "?kind=metric"}
"""What has to be said of checkpoints whose configuration does not tell."""


def image(height: int = 90, width: int = 120, seed: int = 0) -> Tensor:
    """Smooth colours with some noise, uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
    return (smooth * 235 + torch.rand(3, height, width, generator=generator) * 20).byte()


def by_hand(folder: Path, model: Any, pixels: Tensor, **inputs: Any) -> Tensor:
    """Processor, network, post-processing, as the documentation of transformers has it."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder)
    prepared = processor(images=[pixels.permute(1, 2, 0).numpy()], return_tensors="pt", **inputs)
    with torch.no_grad():
        outputs = model(**prepared)
    size = (pixels.shape[-2], pixels.shape[-1])
    return processor.post_process_depth_estimation(outputs, target_sizes=[size])[0]["predicted_depth"]


@pytest.mark.parametrize("name", ["depth_anything", "dpt", "glpn"])
@pytest.mark.parametrize("size", [(90, 120), (131, 77)])
def test_it_equals_transformers_by_hand(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    folder, model = tiny.make(name, tmp_path / name)
    pixels = image(*size)
    expected = by_hand(folder, model, pixels)
    maps = open_depth_model(f"hf:{folder}{STATED.get(name, '')}", device="cpu").predict(pixels[None])
    assert expected.std() > 1e-3
    torch.testing.assert_close(maps.values[0], expected, atol=1e-5, rtol=1e-5)


def test_a_batch_gives_what_its_images_give(tmp_path: Path) -> None:
    folder, _ = tiny.make("depth_anything", tmp_path / "m")
    model = open_depth_model(str(folder), device="cpu")
    images = torch.stack([image(seed=seed) for seed in range(3)])
    together = model.predict(images).values
    alone = torch.cat([model.predict(one[None]).values for one in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_metric_depth_anything_is_metres(tmp_path: Path) -> None:
    folder, model = tiny.make("depth_anything", tmp_path / "m", kind="metric")
    opened = open_depth_model(f"hf:{folder}", device="cpu")
    assert (opened.kind, opened.unit, opened.facts()["max_depth"]) == ("metric", "m", 20)
    pixels = image()
    torch.testing.assert_close(
        opened.predict(pixels[None]).values[0], by_hand(folder, model, pixels), atol=1e-5, rtol=1e-5
    )
    relative, _ = tiny.make("depth_anything", tmp_path / "r")
    assert open_depth_model(f"hf:{relative}", device="cpu").kind == "affine-disparity"


def test_a_lidar_prompt_is_used_and_its_holes_are_filled(tmp_path: Path) -> None:
    folder, model = tiny.make("prompt_depth_anything", tmp_path / "m")
    opened = open_depth_model(f"hf:{folder}", device="cpu")
    pixels, prompt = image(), torch.linspace(0.5, 3, 24 * 32).view(24, 32)
    counts = (prompt * 1000).numpy()
    expected = by_hand(folder, model, pixels, prompt_depth=[counts])
    maps = opened.predict(pixels[None], prompts=[prompt])
    assert opened.takes_prompt and maps.kind == "metric"
    torch.testing.assert_close(maps.values[0], expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="coarse depth map"):
        opened.predict(pixels[None])
    holes = prompt.clone()
    holes[3, 4], holes[10, 20] = 0, torch.nan
    whole = filled(holes)
    assert whole[3, 4] in (prompt[3, 3], prompt[3, 5], prompt[2, 4], prompt[4, 4]) and torch.isfinite(whole).all()
    alone = open_depth_model(f"hf:{folder}?kind=affine-depth", device="cpu")
    assert alone.predict(pixels[None]).kind == "affine-depth"


def test_zoedepth_takes_its_padding_away(tmp_path: Path) -> None:
    from transformers import AutoImageProcessor

    folder, model = tiny.make("zoedepth", tmp_path / "m")
    pixels = image()
    prepared = AutoImageProcessor.from_pretrained(folder)(images=[pixels.permute(1, 2, 0).numpy()], return_tensors="pt")
    with torch.no_grad():
        raw = model(**prepared).predicted_depth[None]
    rows, columns = int(math.sqrt(90 / 2) * 3), int(math.sqrt(120 / 2) * 3)
    padded = torch.nn.functional.interpolate(
        raw, (90 + 2 * rows, 120 + 2 * columns), mode="bicubic", align_corners=False
    )
    expected = padded[0, 0, rows:-rows, columns:-columns]
    maps = open_depth_model(f"hf:{folder}", device="cpu").predict(pixels[None])
    assert expected.std() > 1e-4
    torch.testing.assert_close(maps.values[0], expected, atol=1e-5, rtol=1e-5)


def _depth_pro_by_hand(model: Any, pixels: Tensor, angle: float | None = None) -> tuple[Tensor, float]:
    """Depth Pro's paper: depth = f / (W · C), C the network's map; written pixel by pixel apart from the interpolation."""
    normal = (pixels.double() / 255 - 0.5) / 0.5
    seen = torch.nn.functional.interpolate(normal[None].float(), (64, 64), mode="bilinear")
    with torch.no_grad():
        output = model(pixel_values=seen)
    angle = float(output.field_of_view) if angle is None else angle
    focal = pixels.shape[-1] / (2 * math.tan(math.radians(angle) / 2))
    size = (pixels.shape[-2], pixels.shape[-1])
    inverse = torch.nn.functional.interpolate(
        output.predicted_depth[None] * pixels.shape[-1] / focal, size, mode="bilinear"
    )
    return 1 / inverse[0, 0].clamp(1e-4, 1e4), angle


def test_depth_pro_estimates_its_camera_and_takes_a_known_one(tmp_path: Path) -> None:
    folder, model = tiny.make("depth_pro", tmp_path / "m")
    with torch.no_grad():  # a plausible angle and depths
        model.fov_model.head.layers[-1].bias.fill_(55.0)
        model.head.layers[-2].bias.fill_(3.0)
    tiny.save(model, folder)
    pixels = image()
    opened = open_depth_model(f"hf:{folder}", device="cpu")
    maps = opened.predict(pixels[None])
    expected, angle = _depth_pro_by_hand(model, pixels)
    assert opened.uses_camera and opened.estimates_camera and maps.cameras[0].origin == "model"
    assert maps.cameras[0].fx == pytest.approx(60 / math.tan(math.radians(angle) / 2), rel=1e-5)
    torch.testing.assert_close(maps.values[0], expected, atol=1e-5, rtol=1e-5)
    known = Intrinsics(150, 150, 60, 45, origin="exif")
    expected, _ = _depth_pro_by_hand(model, pixels, angle=math.degrees(2 * math.atan(60 / 150)))
    maps = opened.predict(pixels[None], [known])
    assert maps.cameras == (known,)
    torch.testing.assert_close(maps.values[0], expected, atol=1e-5, rtol=1e-5)


def test_tipsv2_and_chmv2_without_torchvision(tmp_path: Path) -> None:
    pixels = image()
    folder, model = tiny.make("tipsv2_dpt", tmp_path / "tips")
    seen = (
        torch.nn.functional.interpolate(pixels[None].float(), (56, 56), mode="bilinear", antialias=True).round() / 255
    )
    with torch.no_grad():
        raw = model(pixel_values=seen).predicted_depth[None]
    expected = torch.nn.functional.interpolate(raw, (90, 120), mode="bilinear")[0, 0]
    maps = open_depth_model(f"hf:{folder}", device="cpu").predict(pixels[None])
    assert maps.kind == "metric" and expected.std() > 1e-3
    torch.testing.assert_close(maps.values[0], expected, atol=1e-5, rtol=1e-5)

    folder, model = tiny.make("chmv2", tmp_path / "chm")
    with pytest.raises(
        UsageError, match=r"\?kind="
    ):  # it gives the height of trees: nobody but the user knows what is wanted
        open_depth_model(f"hf:{folder}", device="cpu")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.420, 0.411, 0.296], [0.213, 0.156, 0.143]))
    padded = torch.nn.functional.pad((pixels / 255 - mean) / std, (4, 4, 3, 3))
    with torch.no_grad():
        raw = model(pixel_values=padded[None]).predicted_depth[None]
    expected = torch.nn.functional.interpolate(raw, (90, 120), mode="bilinear", align_corners=True)[0, 0]
    maps = open_depth_model(f"hf:{folder}?kind=metric", device="cpu").predict(pixels[None])
    torch.testing.assert_close(maps.values[0], expected, atol=1e-5, rtol=1e-5)


def test_every_architecture_of_this_transformers_is_tested() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES

    assert set(MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES) == set(tiny.MAKERS)


def test_a_size_asked_for_is_the_size_seen(tmp_path: Path) -> None:
    for name, size in (("depth_anything", (56, 84)), ("glpn", (64, 64)), ("dpt", (48, 48))):
        folder, _ = tiny.make(name, tmp_path / name)
        model = open_depth_model(f"hf:{folder}{STATED.get(name, '')}", device="cpu", input_size=size)
        maps = model.predict(image()[None])
        assert maps.input_size == size and maps.values.shape == (1, 90, 120)
    fixed = open_depth_model(f"hf:{tmp_path / 'dpt'}?kind=metric", device="cpu", input_size=(32, 48))
    with pytest.raises(FathomError, match="does not run on images of 32x48"):  # this architecture takes squares alone
        fixed.predict(image()[None])
    folder, _ = tiny.make("depth_pro", tmp_path / "pro")
    with pytest.raises(UsageError, match="64x64"):
        open_depth_model(f"hf:{folder}", device="cpu", input_size=(32, 32)).predict(image()[None])


def test_the_kind_of_published_dpt_checkpoints_is_known_and_of_others_is_asked(tmp_path: Path) -> None:
    config = tiny.dpt().config
    assert (
        declared_kind(config, "Intel/dpt-large")
        == declared_kind(config, "Intel/dpt-beit-base-384")
        == "affine-disparity"
    )
    assert declared_kind(config, "facebook/dpt-dinov2-small-kitti") == "metric"
    assert declared_kind(config, "somebody/dpt-large-finetuned") is None
    assert {kind for _, kind in KNOWN} <= {"metric", "affine-disparity"}
    folder, _ = tiny.make("dpt", tmp_path / "mine")
    with pytest.raises(UsageError, match=r"\?kind="):
        open_depth_model(f"hf:{folder}")
    with pytest.raises(UsageError, match="did you mean 'metric'"):
        open_depth_model(f"hf:{folder}?kind=metrik")


def test_a_bare_folder_is_recognised_and_predicts(tmp_path: Path) -> None:
    folder, _ = tiny.make("depth_anything", tmp_path / "m")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# A model\n", encoding="utf-8")
    prediction = fathom.predict(str(folder), np.zeros((60, 80, 3), np.uint8), device="cpu")
    assert prediction.kind == "affine-disparity" and prediction.values.shape == (60, 80)
    assert prediction.record()["model"]["licence"] == licence_of(folder) == "apache-2.0"
    with pytest.raises(UsageError, match="no unit"):
        _ = prediction.depth


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    from transformers import DPTForSemanticSegmentation, ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=32)
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    DPTForSemanticSegmentation(tiny.dpt().config).save_pretrained(tmp_path / "seg")
    for name in ("vit", "seg"):
        with pytest.raises(CheckpointError, match="another task"):
            open_depth_model(f"hf:{tmp_path / name}?kind=metric")


def test_weights_that_are_missing_and_files_that_are_missing_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder, _ = tiny.make("depth_anything", tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    unread = [key for key in weights if "fusion_stage.layers.0.residual_layer1" in key]
    assert unread  # published files leave these out, and no pass reads them
    save_file({k: v for k, v in weights.items() if k not in unread}, folder / "model.safetensors", {"format": "pt"})
    before = open_depth_model(f"hf:{folder}", device="cpu").predict(image()[None]).values
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    torch.testing.assert_close(open_depth_model(f"hf:{folder}", device="cpu").predict(image()[None]).values, before)
    head = {k: v for k, v in weights.items() if not k.startswith("head.")}
    save_file(head, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 'head\."):
        open_depth_model(f"hf:{folder}")
    (folder / "preprocessor_config.json").unlink()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"preprocessor_config\.json"):
        open_depth_model(f"hf:{folder}")


def test_a_processor_that_needs_torchvision_says_so(tmp_path: Path) -> None:
    if importlib.util.find_spec("torchvision"):
        pytest.skip("torchvision is installed")
    folder, _ = tiny.make("depth_anything", tmp_path / "m")
    values = {"image_processor_type": "DepthProImageProcessor", "size": {"height": 64, "width": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(FathomError, match="pip install torchvision"):
        open_depth_model(f"hf:{folder}")


def test_a_hub_name_without_a_network_is_one_sentence() -> None:
    with pytest.raises(FathomError, match="the hub cannot be reached"):
        open_depth_model("hf:nobody/no-such-depth-model")
