"""What every depth model that runs a PyTorch module does alike: move it, bring images to its size, run it without side effects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.data.transforms import resize_image
from fathom.depth_models.model import DepthModel, Images, float_images
from fathom.errors import FathomError
from fathom.sample import Grid


class TorchDepthModel(DepthModel):
    """A depth model around a module.

    Attributes:
        device: where its module lies, and where images go.
    """

    device: str = "cpu"

    def modules(self) -> tuple[nn.Module, ...]:
        """What moves with the model, and what is in evaluation mode while it predicts."""
        raise NotImplementedError

    def to(self, device: str | torch.device) -> DepthModel:
        """Move its modules."""
        for module in self.modules():
            module.to(device)
        self.device = str(device)
        return self

    def seen(self, images: Images, size: Grid) -> Float[Tensor, "B 3 h w"]:
        """The images at `size`, in [0, 1], on the model's device."""
        if image_size(images) != size:
            images = torch.stack([resize_image(image.cpu(), size) for image in images])
        return float_images(images).to(self.device)

    @contextmanager
    def running(self, images: Tensor, foreign: bool = False) -> Iterator[None]:
        """Within it nothing is recorded and `modules` are in evaluation mode; each has its own mode back at the end.

        Args:
            images: what the module sees, for messages.
            foreign: the module is not ours: whatever it raises is reported in one sentence.

        Raises:
            FathomError: out of memory, or the error of a foreign module.
        """
        training = [part for module in self.modules() for part in module.modules() if part.training]
        for module in self.modules():
            module.eval()
        try:
            with torch.inference_mode():
                yield
        except torch.OutOfMemoryError as error:
            raise FathomError(f"Out of memory with {len(images)} images at once: predict fewer at a time.") from error
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            if not foreign or isinstance(error, FathomError):
                raise
            line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            raise FathomError(
                f"Depth model '{self.name}' does not run on images of {images.shape[-2]}x{images.shape[-1]} "
                f"({line}); give a size that it takes with --size HxW."
            ) from error
        finally:
            for part in training:
                part.training = True


def image_size(images: Tensor) -> Grid:
    """(height, width)."""
    return int(images.shape[-2]), int(images.shape[-1])


def device_of(module: nn.Module) -> str:
    """Where the module's first parameter or buffer lies; the CPU for a module that has none."""
    first = next(iter([*module.parameters(), *module.buffers()]), None)
    return "cpu" if first is None else str(first.device)
