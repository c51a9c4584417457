"""A user's own module as a depth model: ``module:FILE:FACTORY?kind=metric``, or an `nn.Module` from Python.

The module maps RGB in [0, 1], ``(B, 3, H, W)``, to ``(B, 1, h, w)`` or ``(B, h, w)``. Its factory may return ``(module,
preprocess)``. The kind of its values is stated by ``?kind=``, or by the module's attribute ``depth_kind``, and metric values by
``?unit=`` or ``depth_unit`` (m, cm or mm; metres by default).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.depth_models.forward import TorchDepthModel, device_of, image_size
from fathom.depth_models.model import DepthMaps, Images, ask_for_kind, known_cameras, parse_kind
from fathom.encoders.module import Preprocess, build
from fathom.encoders.spec import Spec
from fathom.errors import FathomError, UsageError, nearest
from fathom.sample import Grid, Intrinsics

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Metres to each unit that a module may give."""


class ModuleModel(TorchDepthModel):
    """Any module from images to a depth map.

    Args:
        module: the network.
        name: for messages and records.
        kind: of its values; None reads the module's ``depth_kind``, and where there is none the user is asked.
        unit: of metric values: ``m``, ``cm`` or ``mm``; None reads the module's ``depth_unit``.
        preprocess: from RGB in [0, 1] to the module's input.
        input_size: (height, width) at which it sees every image; None is the image's own size.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        *,
        kind: str | None = None,
        unit: str | None = None,
        preprocess: Preprocess | None = None,
        input_size: Grid | None = None,
    ) -> None:
        declared = kind or getattr(module, "depth_kind", None)
        if declared is None:
            raise ask_for_kind(name, "give kind= (in a name on the command line ?kind=) as")
        self.module, self.name, self.preprocess, self.input_size = module, name, preprocess, input_size
        self.kind = parse_kind(declared, name)
        self.factor = _factor(name, unit or getattr(module, "depth_unit", None), metric=self.kind == "metric")
        self.device = device_of(module)

    def modules(self) -> tuple[nn.Module, ...]:
        """The module, and its preprocessing where that is one."""
        return (self.module, self.preprocess) if isinstance(self.preprocess, nn.Module) else (self.module,)

    def predict(
        self,
        images: Images,
        cameras: Sequence[Intrinsics | None] | None = None,
        *,
        size: Grid | None = None,
        prompts: Sequence[Tensor | None] | None = None,
    ) -> DepthMaps:
        """The module's map, interpolated bilinearly to the size of the images."""
        original = image_size(images)
        known = known_cameras(images, cameras)
        seen = self.input_size or original
        batch = self.seen(images, seen)
        with self.running(batch, foreign=True):
            output = self.module(self.preprocess(batch) if self.preprocess else batch)
        values = self._map(output, len(images)) * self.factor
        wanted = size or original
        if tuple(values.shape[-2:]) != wanted:
            values = F.interpolate(values[:, None], wanted, mode="bilinear", align_corners=False)[:, 0]
        return DepthMaps(values, self.kind, known, input_size=seen)

    def _map(self, output: Any, count: int) -> Float[Tensor, "B h w"]:
        """The depth map in what the module returned."""
        if isinstance(output, Mapping):
            output = output.get("predicted_depth", output.get("depth"))
        elif hasattr(output, "predicted_depth"):
            output = output.predicted_depth
        if isinstance(output, tuple | list) and output:
            output = output[0]
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == 1:
            output = output[:, 0]
        if not isinstance(output, Tensor) or output.ndim != 3 or len(output) != count:
            got = f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise FathomError(f"Depth model '{self.name}' gives {got}; wanted (B, 1, h, w) or (B, h, w).")
        return output.float().cpu()

    def facts(self) -> Mapping[str, Any]:
        """The module's class."""
        return {"model": type(self.module).__name__}


def open_module(spec: Spec, input_size: Grid | None = None) -> ModuleModel:
    """``module:FILE:FACTORY`` with ``?kind=``, ``?unit=``, ``?mean=&std=`` and the factory's own options."""
    options = dict(spec.options)
    kind, unit = options.pop("kind", None), options.pop("unit", None)
    module, preprocess, _ = build(Spec(spec.text, spec.kind, spec.body, options, ()), int(options.get("seed", 0)))
    return ModuleModel(module, spec.text, kind=kind, unit=unit, preprocess=preprocess, input_size=input_size)


def _factor(name: str, unit: str | None, *, metric: bool) -> float:
    if unit is None:
        return 1.0
    if not metric:
        raise UsageError(f"Depth model '{name}' has a unit, '{unit}', and is not metric; leave the unit out.")
    if unit not in UNITS:
        raise UsageError(f"Depth model '{name}': there is no unit '{unit}'{nearest(unit, UNITS)}.")
    return UNITS[unit]
