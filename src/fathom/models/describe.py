"""What a network is, in numbers: parameters, receptive field, layers, work and memory.

Everything is counted on the meta device, where tensors have shapes and no content: describing the full-size
autoencoder on large images takes a moment and no memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fathom.models.network import Network
from fathom.sample import Grid

OPTIMISER_COPIES = 4
"""Float32 numbers kept for each trained parameter: itself, its gradient, and Adam's two moments."""


@dataclass(frozen=True)
class Row:
    """One layer that has parameters.

    Attributes:
        name: its path within the network.
        kind: its class.
        output: shape of its output for one image, ``(C, H, W)``, or ``(tokens, C)`` for a linear layer.
        parameters: their count.
        multiplications: multiply-accumulates for one image, 0 for normalisations.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiplications: int


@dataclass(frozen=True)
class Description:
    """What `describe` found.

    Attributes:
        network: class name.
        predicts: what it predicts.
        size, batch: of the input it was described for.
        output: shape of the prediction for one image, ``(C, H, W)``.
        parameters, trained: their count, and of those the ones that are not frozen.
        receptive_field, receptive_fields: in input pixels, of the convolutions, at the output and after each
            stage.
        global_context: whether attention or normalisation sees the whole image beside.
        stride, output_stride: coarsest step of its grids, and step of its output, in input pixels.
        multiplications: multiply-accumulates for one image, as PyTorch's FLOP counter counts them: convolutions, linear
            layers, and attention's products.
        activation_bytes: what the forward pass keeps for the backward pass, for the whole batch, in float32.
        state_bytes: weights, gradients and Adam's moments, in float32.
        rows: the layers, in the order in which they run.
    """

    network: str
    predicts: str
    size: Grid
    batch: int
    output: tuple[int, ...]
    parameters: int
    trained: int
    receptive_field: int
    receptive_fields: dict[str, int]
    global_context: bool
    stride: int
    output_stride: int
    multiplications: int
    activation_bytes: int
    state_bytes: int
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`."""
        return asdict(self)

    def grouped(self, depth: int = 2) -> tuple[Row, ...]:
        """The rows whose names share their first `depth` parts added up, with the shape of the last map."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
        return tuple(
            Row(
                name,
                rows[0].kind if len(rows) == 1 else f"{len(rows)} layers",
                next((row.output for row in reversed(rows) if len(row.output) == 3), rows[-1].output),
                sum(row.parameters for row in rows),
                sum(row.multiplications for row in rows),
            )
            for name, rows in groups.items()
        )

    def table(self, depth: int = 2) -> str:
        """The description as text: a table of the layers, grouped to `depth`, and the totals below."""
        head = ["layer", "kind", "output", "parameters", "multiply-adds"]
        body = [
            [row.name, row.kind, _shape(row.output), f"{row.parameters:,}", _count(row.multiplications)]
            for row in self.grouped(depth)
        ]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        lines = [_line(line, widths) for line in [head, ["-" * width for width in widths], *body]]
        return "\n".join([*lines, "", *self.totals()])

    def totals(self) -> list[str]:
        """One line a fact."""
        still = self.parameters - self.trained
        frozen = f", {still:,} of them frozen" if still else ""
        beyond = "; attention or normalisation sees the whole image" if self.global_context else ""
        fields = ", ".join(f"{name} {field}" for name, field in self.receptive_fields.items())
        return [
            f"{self.network} predicts {self.predicts}: {_shape((3, *self.size))} -> {_shape(self.output)}",
            f"parameters       {self.parameters:,}{frozen}",
            f"receptive field  {self.receptive_field} pixels{beyond}",
            f"  by stage       {fields}",
            f"stride           {self.stride}; output stride {self.output_stride}",
            f"multiply-adds    {_count(self.multiplications)} an image",
            f"training memory  {_bytes(self.state_bytes)} weights, gradients and Adam's moments (float32), "
            f"{_bytes(self.activation_bytes)} activations at batch {self.batch}",
        ]


def describe(model: Network, size: Grid, batch: int = 1) -> Description:
    """Describe `model` for training on `batch` images of `size`; the model itself is not run."""
    with torch.device("meta"):
        twin = type(model)(model.config).train(model.training)
    twin.checkpointing = model.checkpointing
    image = torch.empty(batch, 3, *size, device="meta")
    rows, multiplications = _rows(twin, image[:1])
    kept, output = _kept_bytes(twin, image)
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Description(
        network=type(model).__name__,
        predicts=model.predicts,
        size=size,
        batch=batch,
        output=tuple(output.shape[1:]),
        parameters=parameters,
        trained=trained,
        receptive_field=model.receptive_field,
        receptive_fields=model.receptive_fields(),
        global_context=model.global_context,
        stride=model.stride,
        output_stride=model.output_stride,
        multiplications=multiplications,
        activation_bytes=kept,
        state_bytes=4 * (parameters + (OPTIMISER_COPIES - 1) * trained),
        rows=rows,
    )


def _rows(model: Network, image: Tensor) -> tuple[tuple[Row, ...], int]:
    """A row for each layer with parameters of its own, in the order in which they run on `image`; and the multiply-accumulates
    of the whole pass, attention's products included."""
    seen: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    hooks = [
        layer.register_forward_hook(
            lambda layer, _, output, name=name: seen.append((name, layer, tuple(output.shape[1:])))
        )
        for name, layer in model.named_modules()
        if any(True for _ in layer.parameters(recurse=False))
    ]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    for hook in hooks:
        hook.remove()
    # The counter names a module by its path below the class of the whole, and counts a multiply-add as two operations.
    counts = {path.partition(".")[2]: sum(kinds.values()) // 2 for path, kinds in counter.get_flop_counts().items()}
    rows = tuple(
        Row(
            name,
            type(layer).__name__,
            shape,
            sum(p.numel() for p in layer.parameters(recurse=False)),
            counts.get(name, 0),
        )
        for name, layer, shape in seen
    )
    return rows, counter.get_total_flops() // 2


def _kept_bytes(model: Network, image: Tensor) -> tuple[int, Tensor]:
    """Bytes that autograd keeps of a forward pass, each storage once and weights left out; and the output."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output: Tensor = model(image)
    return sum(kept.values()), output


def _line(cells: list[str], widths: list[int]) -> str:
    """Names to the left, numbers to the right."""
    left = [f"{cell:<{width}}" for cell, width in zip(cells[:2], widths[:2], strict=True)]
    return "  ".join([*left, *(f"{cell:>{w}}" for cell, w in zip(cells[2:], widths[2:], strict=True))])


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _count(number: int) -> str:
    return _scaled(float(number), 1000, ("", " k", " M", " G", " T"))


def _bytes(number: int) -> str:
    return _scaled(float(number), 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    power = 0
    while value >= step and power < len(units) - 1:
        value, power = value / step, power + 1
    return f"{value:.3g}{units[power]}"
