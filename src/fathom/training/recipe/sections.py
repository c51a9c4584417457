"""The sections of a recipe: every key with its type, its bounds, its default and its meaning.

The meanings are read by people too: docs/training.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

LOSS_TERMS = ("mae", "mse", "gradient", "ssim", "silog", "berhu")


def key(meaning: str, **bounds: int | float) -> msgspec.Meta:
    """The meaning of a key and the bounds of its value (`ge`, `gt`, `le`, `lt`)."""
    return msgspec.Meta(description=meaning, **bounds)  # type: ignore[call-overload,no-any-return]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys that belong together."""


class ModelSection(Section, frozen=True):
    """Which network; `config` is its own typed `Config`, whose keys stand beside `name` in the file."""

    name: str
    config: Any


class DataSection(Section, frozen=True):
    """What the network sees."""

    size: Annotated[tuple[int, int], key("height and width that images are brought to, also written HxW")] = (96, 128)
    detail: Annotated[
        float,
        key("training frames are read this many times larger, so that a zoom up to it enlarges no pixel", ge=1, le=8),
    ] = 1.0
    cache: Annotated[
        Literal["auto", "always", "never"],
        key("keep fitted frames in memory; auto: where they take less than cache_mb"),
    ] = "auto"
    cache_mb: Annotated[int, key("the most that cache = auto may take, in MB", ge=0)] = 4096
    weights: Annotated[
        tuple[Annotated[float, msgspec.Meta(gt=0)], ...],
        key("share of the draws from each of several data sets (--weights), in their order; empty: by their frames"),
    ] = ()
    stream: Annotated[
        bool, key("read packed data from front to back, for disks that seek slowly (docs/scaling.md)")
    ] = False


class LossSection(Section, frozen=True):
    """Weights of the terms; a term of weight 0 is not computed."""

    mae: Annotated[float, key("weight of the mean absolute error (L1)", ge=0)] = 0.0
    mse: Annotated[float, key("weight of the mean squared error (L2)", ge=0)] = 0.0
    gradient: Annotated[float, key("weight of the error of horizontal and vertical differences", ge=0)] = 0.0
    ssim: Annotated[float, key("weight of (1 - SSIM) / 2", ge=0)] = 0.0
    silog: Annotated[float, key("weight of the scale-invariant logarithmic error", ge=0)] = 0.0
    berhu: Annotated[float, key("weight of the reverse Huber loss", ge=0)] = 0.0
    space: Annotated[
        Literal["linear", "log", "disparity"],
        key("what the terms compare: the target itself (metres), its logarithm, or 10 m / depth in [1, 100]"),
    ] = "linear"
    data_range: Annotated[
        float, key("range of the target, for SSIM: the depth cap in metres, 100 for disparity, 1 for images", gt=0)
    ] = 10.0

    def weights(self) -> dict[str, float]:
        """The terms with a weight, by name."""
        return {name: weight for name in LOSS_TERMS if (weight := getattr(self, name))}


class OptimSection(Section, frozen=True):
    """The optimiser."""

    name: Annotated[Literal["adamw", "adam", "sgd"], key("the optimiser")] = "adamw"
    lr: Annotated[float, key("learning rate at the schedule's peak", gt=0, le=1e6)] = 1e-3
    weight_decay: Annotated[float, key("weight decay; biases and norms are spared", ge=0)] = 0.01
    betas: Annotated[
        tuple[Annotated[float, msgspec.Meta(ge=0, lt=1)], Annotated[float, msgspec.Meta(ge=0, lt=1)]],
        key("decay of Adam's averages of the gradient and its square"),
    ] = (0.9, 0.999)
    momentum: Annotated[float, key("Nesterov momentum of sgd", ge=0, lt=1)] = 0.9
    clip: Annotated[float, key("largest norm of the gradient; 0: no limit", ge=0)] = 1.0
    rates: Annotated[
        Mapping[str, Annotated[float, msgspec.Meta(ge=0, le=1e6)]],
        key("factors of lr for parameters whose names begin with a key: rates = {encoder = 0.1}"),
    ] = {}
    freeze: Annotated[tuple[str, ...], key("beginnings of names of parameters that stay as they are")] = ()


class ScheduleSection(Section, frozen=True):
    """The learning rate over time, as a factor of `optim.lr`."""

    name: Annotated[
        Literal["cosine", "onecycle", "plateau", "constant"],
        key(
            "cosine falls to floor; onecycle rises over the first 30 % and falls; plateau falls when validation stalls"
        ),
    ] = "cosine"
    warmup: Annotated[int, key("steps over which the rate rises linearly from 0 (not with onecycle)", ge=0)] = 0
    floor: Annotated[float, key("last factor of cosine and onecycle", ge=0, le=1)] = 0.01
    factor: Annotated[float, key("what plateau multiplies the rate by", gt=0, lt=1)] = 0.5
    patience: Annotated[int, key("validations without a better loss before plateau lowers the rate", ge=1)] = 3


class TrainSection(Section, frozen=True):
    """How long and in what portions."""

    steps: Annotated[int, key("optimiser steps", ge=1)] = 1000
    batch: Annotated[int, key("images of one optimiser step, over all processes", ge=1)] = 16
    accumulate: Annotated[
        int, key("parts that each process computes its share of the batch in; less memory, the same gradient", ge=1)
    ] = 1
    seed: Annotated[int, key("first weights, order of the frames, augmentation", ge=0, le=2**32 - 1)] = 0
    fraction: Annotated[float, key("share of the training data that is used", gt=0, le=1)] = 1.0
    fraction_by: Annotated[Literal["scene", "frame"], key("what fraction counts: whole scenes or frames")] = "scene"
    ema: Annotated[
        float, key("decay of the moving average of the weights, which is then the model; 0: none", ge=0, lt=1)
    ] = 0.0
    log_every: Annotated[int, key("steps between lines of metrics.jsonl", ge=1)] = 10
    save_every: Annotated[int, key("steps between checkpoints", ge=1)] = 200
    keep: Annotated[int, key("last checkpoints kept, besides the best by validation", ge=1)] = 2
    compile: Annotated[bool, key("compile the network with torch.compile")] = False
    tensorboard: Annotated[bool, key("write TensorBoard files next to metrics.jsonl")] = False
    timeout: Annotated[
        int, key("seconds after which a process that hears nothing from the others gives up", ge=1, le=10**6)
    ] = 600


class MemorySection(Section, frozen=True):
    """Memory against time."""

    checkpoint: Annotated[bool, key("recompute activations in the backward pass instead of keeping them")] = False
    channels_last: Annotated[bool, key("memory layout of images and weights")] = True


class PrecisionSection(Section, frozen=True):
    """Arithmetic of the network; weights and loss are float32 throughout."""

    compute: Annotated[
        Literal["auto", "float32", "bf16", "fp16"],
        key("auto: bf16 where the device is fast at it, else float32; fp16 needs a GPU"),
    ] = "float32"


class AugmentSection(Section, frozen=True):
    """What augmentation draws, and how far."""

    flip: Annotated[float, key("probability of a left-right flip", ge=0, le=1)] = 0.5
    zoom: Annotated[
        float,
        key("largest magnification: a window of 1 to 1/zoom of the frame is brought back to full size", ge=1, le=8),
    ] = 1.0
    keep: Annotated[
        Literal["depth", "focal"],
        key(
            "what a zoom keeps: depth (a longer lens; for networks that know the camera) or focal (a nearer camera; "
            "depth is divided by the magnification)"
        ),
    ] = "depth"
    brightness: Annotated[float, key("factor drawn from [1 - value, 1 + value]", ge=0, le=1)] = 0.0
    contrast: Annotated[float, key("factor drawn from [1 - value, 1 + value]", ge=0, le=1)] = 0.0
    saturation: Annotated[float, key("factor drawn from [1 - value, 1 + value]", ge=0, le=1)] = 0.0
    hue: Annotated[float, key("turn of the colours drawn from [-value, value], in whole turns", ge=0, le=0.5)] = 0.0
    gamma: Annotated[
        float, key("exponent drawn from [1/(1 + value), 1 + value], evenly in its logarithm", ge=0, le=8)
    ] = 0.0
    turn: Annotated[
        float,
        key("degrees that the camera is turned by, at most, about each of its axes, where it is known", ge=0, le=30),
    ] = 0.0
    cut_depth: Annotated[
        float,
        key(
            "probability of a vertical strip, up to 3/4 of the width, that shows the depth (vertical CutDepth)",
            ge=0,
            le=1,
        ),
    ] = 0.0


class ValidationSection(Section, frozen=True):
    """What is held out, and when it is looked at."""

    scenes: Annotated[float, key("share of the scenes held out whole: unseen rooms", gt=0, lt=1)] = 0.15
    frames: Annotated[
        float, key("share of the training scenes' frames held out: new views of seen rooms", ge=0, lt=1)
    ] = 0.1
    seed: Annotated[int, key("which scenes and frames are held out, whatever train.seed is", ge=0, le=2**32 - 1)] = 0
    every: Annotated[int, key("steps between validations; 0: at the end alone", ge=0)] = 200
    patience: Annotated[
        int, key("validations without a better unseen loss before training stops and keeps the best; 0: never", ge=0)
    ] = 0
    most: Annotated[int, key("frames of each kind looked at while training goes on; the end looks at all", ge=1)] = 500
    pictures: Annotated[int, key("unseen frames kept for pictures", ge=0, le=1000)] = 6


class FirstSection(Section, frozen=True):
    """A network that this one is built upon, trained first."""

    recipe: Annotated[str, key("its recipe; empty: none")] = ""
    checkpoint: Annotated[str, key("a trained one; empty: recipe is trained first, in the same command")] = ""
    steps: Annotated[int, key("optimiser steps of that training; 0: what its recipe says", ge=0)] = 0


class StartSection(Section, frozen=True):
    """Weights that training starts from instead of random ones."""

    checkpoint: Annotated[str, key("a run, checkpoint or shipped network of the same kind (--from); empty: none")] = ""
    encoder: Annotated[
        str, key("a safetensors file of ImageNet weights for an EfficientNet-Lite encoder; empty: none")
    ] = ""
