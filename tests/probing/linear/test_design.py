"""The algebra on native grids equals the moments of the matrix that it never forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fathom.errors import FathomError
from fathom.probing.linear.design import Design, bilinear_weights, flat, resampling_weights
from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import standardise

GRID = (6, 8)


def maps(batch: int = 3) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    shapes = {"fine": (4, 13, 17), "same": (5, 6, 8), "half": (7, 3, 4), "half2": (2, 3, 4), "deep": (6, 2, 2)}
    return {name: torch.randn(batch, *shape, generator=g) + 2 for name, shape in shapes.items()}


def formed(design: Design, z: dict[str, torch.Tensor]) -> torch.Tensor:
    """The design matrix by PyTorch's own interpolation, columns in the design's order."""
    columns = []
    for layer in sorted(design.slices, key=lambda name: design.slices[name].start):
        if z[layer].shape[-2] > GRID[0]:
            rows, cols = (resampling_weights(n, m) for n, m in zip(GRID, z[layer].shape[-2:], strict=True))
            columns.append(rows.to(z[layer]) @ z[layer] @ cols.T.to(z[layer]))
        else:
            columns.append(F.interpolate(z[layer], GRID, mode="bilinear", align_corners=False))
    return torch.cat(columns, 1)


@pytest.mark.parametrize(("cells", "size"), [(8, 3), (30, 14), (5, 5), (7, 1)])
def test_bilinear_weights_are_pytorchs(cells: int, size: int) -> None:
    signal = torch.randn(1, 1, size)
    expected = F.interpolate(signal, cells, mode="linear", align_corners=False)
    torch.testing.assert_close(signal @ bilinear_weights(cells, size).T, expected)


@pytest.mark.parametrize("holes", [False, True])
def test_moments_equal_those_of_the_formed_matrix(holes: bool) -> None:
    z = maps()
    g = torch.Generator().manual_seed(1)
    Y = torch.randn(3, 2, *GRID, generator=g)
    valid = torch.rand(3, 1, *GRID, generator=g) > 0.3 if holes else torch.ones(3, 1, *GRID, dtype=torch.bool)
    design = Design("test", GRID, z)
    placed = design.place(z)
    moments = Moments.zeros(2, design.means(placed), torch.zeros(2))
    design.accumulate(moments, 1, design.centre(placed, moments.shift_x), valid, Y)
    keep = flat(valid.float())[:, 0] > 0
    X, T = flat(formed(design, z))[keep].double(), flat(Y)[keep].double()
    expected = Moments.of(X, T).about(moments.shift_x, moments.shift_y)
    for name in ("n", "x", "y", "xx", "xy", "yy"):
        torch.testing.assert_close(getattr(moments, name)[1], getattr(expected, name)[0], rtol=1e-4, atol=1e-3)
    assert float(moments.n[0]) == 0


def test_predictions_equal_the_formed_matrix_times_the_weights() -> None:
    z = maps()
    design = Design("test", GRID, z)
    weight, bias = torch.randn(design.channels, 2), torch.randn(2)
    expected = torch.einsum("bchw,cq->bqhw", formed(design, z), weight) + bias[:, None, None]
    torch.testing.assert_close(design.predict(design.place(z), weight, bias), expected, rtol=1e-4, atol=1e-4)


def test_an_encoder_without_channels_predicts_the_bias() -> None:
    z = {"constant": torch.zeros(2, 0, *GRID)}
    design = Design("constant", GRID, z)
    prediction = design.predict(design.place(z), torch.zeros(0, 1), torch.tensor([1.5]))
    assert prediction.shape == (2, 1, *GRID)
    assert (prediction == 1.5).all()


def test_another_grid_on_a_later_image_is_refused() -> None:
    design = Design("wobbly", GRID, maps())
    changed = maps() | {"deep": torch.zeros(3, 6, 2, 3)}
    with pytest.raises(FathomError, match="wobbly gave layer deep"):
        design.place(changed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers_of_any_scale_give_the_moments_of_float64(dtype: torch.dtype) -> None:
    z = maps()
    sizes = {"fine": 1e-24, "same": 1.0, "half": 1e17, "half2": 1e-12, "deep": 1e30}
    z = {name: (value * sizes[name]).float() for name, value in z.items()}
    design = Design("test", GRID, z)
    placed = design.place(z)
    Y = torch.randn(3, 2, *GRID, generator=torch.Generator().manual_seed(1))
    valid = torch.rand(3, 1, *GRID, generator=torch.Generator().manual_seed(2)) > 0.3
    shift, scale = design.means(placed), design.scales(placed)
    moments = Moments.zeros(1, shift, torch.zeros(2))
    design.accumulate(moments, 0, design.centre(placed, moments.shift_x, scale, dtype), valid, Y, scale)
    keep = flat(valid.float())[:, 0] > 0
    X, T = flat(formed(design, {name: value.double() for name, value in z.items()}))[keep], flat(Y)[keep].double()
    exact = Moments.of(X, T).about(moments.shift_x, moments.shift_y)
    rms = exact.xx[0].diagonal().sqrt()
    got, want = moments.xx[0] / torch.outer(rms, rms), exact.xx[0] / torch.outer(rms, rms)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moments.xy[0] / rms[:, None], exact.xy[0] / rms[:, None], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moments.low[0], T.amin(0))
    torch.testing.assert_close(moments.high[0], T.amax(0))


def test_targets_of_any_scale_keep_their_squares() -> None:
    z = maps()
    design = Design("test", GRID, z)
    placed = design.place(z)
    Y = 1e-24 * torch.randn(3, 1, *GRID, generator=torch.Generator().manual_seed(1))
    moments = Moments.zeros(1, design.means(placed), torch.zeros(1))
    valid = torch.ones(3, 1, *GRID, dtype=torch.bool)
    design.accumulate(moments, 0, design.centre(placed, moments.shift_x), valid, Y)
    assert float(moments.yy[0, 0]) == pytest.approx(float(Y.double().square().sum()), rel=1e-5)


def test_a_channel_that_dies_after_the_first_batch_is_no_contradiction() -> None:
    grid = (60, 80)
    g = torch.Generator().manual_seed(0)
    first = {"layer": torch.randn(16, 3, *grid, generator=g)}
    first["layer"][:, 1] = 0.0
    first["layer"][3, 1, 5, 7] = 7.3
    design = Design("test", grid, first)
    shift = design.means(design.place(first))
    moments = Moments.zeros(1, shift, torch.zeros(1))
    valid = torch.ones(16, 1, *grid, dtype=torch.bool)
    for batch in range(4):
        maps = first if batch == 0 else {"layer": torch.randn(16, 3, *grid, generator=g)}
        maps["layer"][:, 1] *= batch == 0
        Y = torch.randn(16, 1, *grid, generator=g)
        placed = design.centre(design.place(maps), moments.shift_x)
        design.accumulate(moments, 0, placed, valid, Y)
    mean = 7.3 / moments.n[0]
    assert float(moments.x[0, 1] / moments.n[0] + moments.shift_x[1]) == pytest.approx(float(mean), rel=1e-4)
    standardise(moments)
