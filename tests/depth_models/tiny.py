"""Tiny depth models of transformers with random weights, saved as folders with their processors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def dinov2(side: int = 70, patch: int = 14, **more: Any) -> Any:
    from transformers import Dinov2Config

    settings = {
        "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "image_size": side,
        "patch_size": patch, **more,
    }  # fmt: skip
    return Dinov2Config(**settings)


def _pyramid() -> Any:
    return dinov2(out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True)


def depth_anything(kind: str = "relative", **more: Any) -> Any:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    return DepthAnythingForDepthEstimation(DepthAnythingConfig(
        backbone_config=_pyramid(), reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=4, patch_size=14, depth_estimation_type=kind, max_depth=20 if kind == "metric" else 1, **more,
    ))  # fmt: skip


def prompt_depth_anything() -> Any:
    from transformers import PromptDepthAnythingConfig, PromptDepthAnythingForDepthEstimation

    return PromptDepthAnythingForDepthEstimation(PromptDepthAnythingConfig(
        backbone_config=_pyramid(), reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=4, patch_size=14, depth_estimation_type="metric", max_depth=None,
    ))  # fmt: skip


def dpt() -> Any:
    from transformers import DPTConfig, DPTForDepthEstimation

    return DPTForDepthEstimation(DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, is_hybrid=False,
    ))  # fmt: skip


def glpn() -> Any:
    from transformers import GLPNConfig, GLPNForDepthEstimation

    return GLPNForDepthEstimation(GLPNConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8, max_depth=10,
    ))  # fmt: skip


def zoedepth() -> Any:
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation

    backbone = BeitConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=64, patch_size=16,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, use_relative_position_bias=True,
    )  # fmt: skip
    return ZoeDepthForDepthEstimation(ZoeDepthConfig(
        backbone_config=backbone, backbone_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        bottleneck_features=8, num_relative_features=8, bin_embedding_dim=8, num_attractors=[2, 2, 1, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}], patch_transformer_hidden_size=8,
        patch_transformer_intermediate_size=16, patch_transformer_num_attention_heads=2,
    ))  # fmt: skip


def depth_pro() -> Any:
    from transformers import DepthProConfig, DepthProForDepthEstimation

    inner = dinov2(side=32, patch=16, num_hidden_layers=2).to_dict()
    return DepthProForDepthEstimation(DepthProConfig(
        patch_size=32, fusion_hidden_size=16, intermediate_hook_ids=[1, 0], intermediate_feature_dims=[16, 8],
        scaled_images_ratios=[0.5, 1.0], scaled_images_overlap_ratios=[0.0, 0.2], scaled_images_feature_dims=[16, 16],
        merge_padding_value=0, image_model_config=inner, patch_model_config=inner, fov_model_config=inner, use_fov_model=True,
        num_fov_head_layers=0,
    ))  # fmt: skip


def tipsv2_dpt() -> Any:
    from transformers import Tipsv2DptConfig, Tipsv2DptForDepthEstimation

    return Tipsv2DptForDepthEstimation(Tipsv2DptConfig(
        backbone_config={
            "model_type": "tipsv2_vision_model", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
            "intermediate_size": 32, "image_size": 56, "patch_size": 14, "out_indices": [1, 2, 3, 4], "apply_layernorm": True,
            "reshape_hidden_states": False,
        },
        neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, num_depth_bins=16,
    ))  # fmt: skip


def chmv2() -> Any:
    from transformers import CHMv2Config, CHMv2ForDepthEstimation

    return CHMv2ForDepthEstimation(CHMv2Config(
        backbone_config={
            "model_type": "dinov3_vit", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
            "intermediate_size": 32, "image_size": 64, "patch_size": 16, "num_register_tokens": 1, "out_indices": [1, 2, 3, 4],
            "reshape_hidden_states": True, "apply_layernorm": True, "return_class_token": True,
        },
        post_process_channels=[8, 8, 8, 8], fusion_hidden_size=8, head_hidden_size=8, number_output_channels=16,
    ))  # fmt: skip


DPT_LIKE = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_pad": False,
    "keep_aspect_ratio": True,
    "resample": 3,
}
PROCESSORS: dict[str, dict[str, Any]] = {
    "depth_anything": {
        "image_processor_type": "DPTImageProcessor", "ensure_multiple_of": 14, "size": {"height": 70, "width": 70},
        **DPT_LIKE, **IMAGENET,
    },
    "prompt_depth_anything": {
        "image_processor_type": "PromptDepthAnythingImageProcessor", "ensure_multiple_of": 14,
        "size": {"height": 70, "width": 70}, **DPT_LIKE, **IMAGENET,
    },
    "dpt": {
        "image_processor_type": "DPTImageProcessor", "ensure_multiple_of": 16, "size": {"height": 64, "width": 64},
        **DPT_LIKE, "keep_aspect_ratio": False, **HALF,
    },
    "glpn": {"image_processor_type": "GLPNImageProcessor", "size_divisor": 32, "do_resize": True, "do_rescale": True},
    "zoedepth": {
        "image_processor_type": "ZoeDepthImageProcessor", "ensure_multiple_of": 32, "size": {"height": 64, "width": 96},
        "do_pad": True, "do_resize": True, "do_rescale": True, "do_normalize": True, "keep_aspect_ratio": True, "resample": 2,
        **HALF,
    },
    "depth_pro": {"image_processor_type": "DepthProImageProcessor", "size": {"height": 64, "width": 64}, **HALF},
    "tipsv2_dpt": {"image_processor_type": "Tipsv2DptImageProcessor", "size": {"height": 56, "width": 56}},
    "chmv2": {"image_processor_type": "CHMv2ImageProcessor", "do_resize": False, "size_divisor": 16},
}  # fmt: skip
"""What each architecture's published checkpoints have in preprocessor_config.json, at a small size."""

MAKERS = {
    maker.__name__: maker
    for maker in (depth_anything, prompt_depth_anything, dpt, glpn, zoedepth, depth_pro, tipsv2_dpt, chmv2)
}


def save(model: Any, folder: Path) -> Path:
    """`model` and the processor of its architecture, as a folder."""
    model.save_pretrained(folder)
    values = PROCESSORS[model.config.model_type]
    (folder / "preprocessor_config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def make(name: str, folder: Path, seed: int = 0, **settings: Any) -> tuple[Path, Any]:
    """The tiny model `name`, saved in `folder`, and the network itself."""
    torch.manual_seed(seed)
    model = MAKERS[name](**settings).eval()
    with torch.no_grad():  # the library's own first weights are so small that every map is flat
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=1 / parameter[0].numel() ** 0.5)
    return save(model, folder), model
