"""Each alteration takes away what it says and leaves the rest, and moves the truth as it moves the image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fathom.encoders.baselines import pixels
from fathom.features import feature
from fathom.grids import masked_average
from fathom.probing.cues import recolour
from fathom.probing.cues.alterations import ALTERATIONS, ZOOM, Altered, Draw, exchange_pieces, mirror
from fathom.sample import Intrinsics, Sample

SIZE, GRID = (48, 64), (6, 8)


def frame(seed: int = 0, scene: str = "a", name: str = "a/0") -> Sample:
    """A smooth, coloured frame with depth of a tilted plane and a hole."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.nn.functional.interpolate(
        0.25 + 0.5 * torch.rand(1, 3, 6, 8, generator=generator), SIZE, mode="bilinear"
    )[0]
    camera = Intrinsics(60.0, 62.0, 30.0, 25.0)
    v, u = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    # n · X = 2 with n = (0.2, 0.3, 1): a plane, whose normal is known everywhere.
    depth = 2 / (0.2 * (u - camera.cx) / camera.fx + 0.3 * (v - camera.cy) / camera.fy + 1)
    valid = torch.ones(1, *SIZE, dtype=torch.bool)
    valid[:, 10:20, 4:12] = False
    return Sample(image, depth[None], valid, scene, name, camera)


DRAW = Draw.of([frame(5, "b"), frame(6, "c")], seed=0)


def altered(name: str, sample: Sample | None = None, draw: Draw = DRAW) -> Altered:
    made = ALTERATIONS[name].apply(sample or frame(), draw, GRID)
    assert made is not None
    return made


@pytest.mark.parametrize("name", sorted(ALTERATIONS))
def test_frames_keep_size_range_and_type_and_the_original_is_not_touched(name: str) -> None:
    sample = replace(frame(), image=(frame().image * 255).to(torch.uint8))
    before = sample.image.clone()
    image = altered(name, sample).sample.image
    assert image.shape == (3, *SIZE) and image.dtype == torch.float32
    assert float(image.min()) >= 0 and float(image.max()) <= 1
    assert torch.equal(sample.image, before)


@pytest.mark.parametrize("name", ["grey", "hue", "recoloured"])
def test_changes_of_colour_keep_luma_and_truth(name: str) -> None:
    sample = frame()
    made = altered(name).sample
    assert torch.allclose(recolour.luma(made.image), recolour.luma(sample.image), atol=1e-6)
    assert float((made.image - sample.image).abs().mean()) > 0.01
    assert torch.equal(made.depth, sample.depth) and torch.equal(made.valid, sample.valid)


def test_a_turned_colour_that_does_not_fit_is_made_paler_at_its_luma() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 2, 2)
    cyan = recolour.complement(red)
    assert torch.allclose(recolour.luma(cyan), recolour.luma(red), atol=1e-6)
    assert float(cyan[0].max()) == 0 and torch.allclose(cyan[1], cyan[2]) and float(cyan[1].min()) > 0.4
    twice = recolour.complement(recolour.complement(frame().image))
    assert torch.allclose(twice, frame().image, atol=1e-6)


def test_colours_and_light_of_another_frame_become_its_statistics() -> None:
    sample, other = frame(), frame(5).image * 0.6 + 0.1
    look = recolour.look(other)
    colours = recolour.look(recolour.with_colours_of(sample.image, look))
    assert torch.allclose(colours.colour_mean, look.colour_mean, atol=1e-6)
    assert torch.allclose(colours.colour_cov, look.colour_cov, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(recolour.look(sample.image).colour_cov, look.colour_cov, rtol=0.2)
    light = recolour.look(recolour.with_light_of(sample.image, look)).light
    assert light == pytest.approx(look.light, rel=1e-4)
    assert recolour.look(sample.image).light != pytest.approx(look.light, rel=0.1)


def test_a_frame_without_colour_gets_no_noise_blown_up() -> None:
    grey = recolour.grey(frame().image) + 1e-4 * torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    vivid = recolour.look(torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1)))
    colour = recolour.with_colours_of(grey, vivid)
    spread = recolour.look(colour).colour_cov.diagonal().sqrt()
    assert float(spread.max()) < 0.05 < float(vivid.colour_cov.diagonal().sqrt().min())


def test_the_look_is_of_another_scene_and_always_the_same_one() -> None:
    own = Draw.of([frame(0, "a"), frame(5, "b")], seed=0)
    for name in ("a/0", "a/1", "a/2"):
        sample = frame(name=name)
        assert own.look(sample) is own.looks[1][1] is own.look(sample)
    names = [frame(name=str(index)) for index in range(20)]
    assert len({id(DRAW.look(sample)) for sample in names}) == 2


def test_a_stop_is_twice_the_light() -> None:
    image = torch.full((3, 2, 2), 0.4)
    assert torch.allclose(recolour.brighter(image) ** 2.2, 2 * image**2.2)
    assert torch.allclose(recolour.darker(image) ** 2.2, image**2.2 / 2)


def stripes_and_step() -> tuple[Tensor, Tensor]:
    """Fine stripes of contrast 0.1 everywhere, and a step of 0.5 in the middle, 120 x 160."""
    stripes = 0.05 * torch.where(torch.arange(160) // 2 % 2 == 0, 1.0, -1.0)
    step = torch.where(torch.arange(160) < 80, 0.25, 0.75)
    return (stripes + step).expand(3, 120, 160).clone(), step


def test_smoothing_takes_texture_and_keeps_the_edge_that_blur_takes() -> None:
    image, step = stripes_and_step()
    smoothed, blurred = recolour.smoothed(image)[0, 60], recolour.blurred(image)[0, 60]
    assert float((smoothed - step)[10:60].abs().max()) < 0.01 and float((image[0, 60] - step).abs().min()) > 0.04
    assert float(smoothed[81] - smoothed[78]) > 0.4 > float(blurred[81] - blurred[78])


def test_outlines_are_grey_dark_at_edges_and_blank_elsewhere() -> None:
    image, _ = stripes_and_step()
    lines = recolour.outlines(image * torch.tensor([1.0, 0.5, 0.8])[:, None, None])
    assert torch.equal(lines[0], lines[1]) and torch.equal(lines[0], lines[2])
    ground = float(lines[0, 60, 20])
    assert float(lines[0, 60, 79:81].max()) < 0.2 * ground
    assert float((lines[0, :, 10:60] - ground).abs().max()) < 0.05 * ground


@pytest.mark.parametrize("axis", [-1, -2])
def test_a_mirrored_frame_has_the_mirrored_geometry(axis: int) -> None:
    """Normals from mirrored depth and camera are the mirrored normals, with the sign of the axis turned."""
    sample, normals = frame(), feature("normals")
    there, known = normals.of(sample, GRID)
    here, known_too = normals.of(mirror(sample, axis), GRID)
    sign = torch.tensor([-1.0, 1, 1] if axis == -1 else [1.0, -1, 1])[:, None, None]
    assert torch.equal(known.flip(axis), known_too)
    assert torch.allclose(there.flip(axis) * sign, here, atol=1e-4)
    stored = replace(sample, normals=torch.tensor([0.6, 0.64, -0.48])[:, None, None].expand(3, *SIZE))
    assert torch.allclose(mirror(stored, axis).normals, stored.normals * sign)


@pytest.mark.parametrize("name", ["mirrored", "upside-down", "halves-sideways", "halves-upright"])
def test_cells_of_the_moved_image_are_the_moved_cells(name: str) -> None:
    sample, move = frame(), ALTERATIONS[name].move
    assert move is not None
    made = altered(name, sample)
    assert torch.allclose(pixels(made.sample.image[None], GRID), move(pixels(sample.image[None], GRID)), atol=1e-6)
    weights = [torch.ones(1, *GRID) if weight is None else weight for weight in (made.before, made.after)]
    assert torch.equal(move(weights[0]), weights[1])
    if not ALTERATIONS[name].moves_target:
        averages = [masked_average(item.depth, item.valid, GRID) for item in (sample, made.sample)]
        assert torch.equal(move(averages[0][1]), averages[1][1])
        assert torch.allclose(move(averages[0][0]), averages[1][0], atol=1e-6)


def test_halves_are_not_measured_at_their_seams() -> None:
    after = altered("halves-upright").after
    assert after is not None
    assert after[0, :, 0].tolist() == [0, 1, 0, 0, 1, 0] and torch.equal(after, after[..., :1].expand(1, *GRID))


def test_an_enlarged_window_keeps_its_metres_and_gets_a_longer_lens() -> None:
    sample = frame()
    made = altered("zoomed")
    camera, old = made.sample.intrinsics, sample.intrinsics
    assert camera is not None and old is not None
    assert (camera.fx / old.fx, camera.fy / old.fy) == pytest.approx((ZOOM, ZOOM), rel=0.01)
    # The same plane, seen with the new camera: n · X = 2 holds for the new pixels.
    v, u = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    plane = 2 / (0.2 * (u - camera.cx) / camera.fx + 0.3 * (v - camera.cy) / camera.fy + 1)
    assert float((made.sample.depth[0] - plane)[made.sample.valid[0]].abs().max()) < 0.02
    assert made.before is not None and float(made.before.sum()) == pytest.approx(48 / ZOOM**2, rel=0.02)


def test_a_map_is_enlarged_as_the_frame_is() -> None:
    move = ALTERATIONS["zoomed"].move
    assert move is not None
    coarse = torch.rand(1, 3, 2, 3, generator=torch.Generator().manual_seed(2))
    image = torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")[0]  # smooth over several cells
    sample = replace(frame(), image=image)
    made = altered("zoomed", sample).sample
    moved, direct = move(pixels(sample.image[None], GRID)), pixels(made.image[None], GRID)
    unmoved = float((pixels(sample.image[None], GRID) - direct).abs().mean())
    assert float((moved - direct).abs().mean()) < 0.25 * unmoved
    ramp = torch.arange(8.0).expand(1, 6, 8)
    assert torch.allclose(move(ramp), 3.5 + (ramp - 3.5) / ZOOM)


def test_every_second_piece_changes_its_place_and_the_others_stay() -> None:
    image = torch.arange(48 * 64.0).reshape(1, 48, 64).expand(3, 48, 64) / (48 * 64)
    out, stays = exchange_pieces(image, (16, 16), 0, torch.Generator().manual_seed(3))
    same = (out == image).all(0, keepdim=True)
    assert torch.equal(same, stays.bool())
    board = stays[0, ::16, ::16]
    assert board.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]
    assert torch.equal(out.flatten(1).sort(1).values, image.flatten(1).sort(1).values)


@pytest.mark.parametrize("name", ["pieces-3", "pieces-6", "pieces-12"])
def test_only_cells_of_pieces_that_stayed_are_measured(name: str) -> None:
    sample = frame()
    made = altered(name, sample)
    assert made.after is not None and made.before is not None and torch.equal(made.before, made.after)
    assert 0.4 < float(made.after.mean()) < 0.6
    there, here = pixels(sample.image[None], GRID)[0], pixels(made.sample.image[None], GRID)[0]
    measured = made.after[0] > 0
    assert torch.allclose(there[:, measured], here[:, measured], atol=1e-6)
    assert float((there - here)[:, ~measured].abs().max()) > 0.05
    kept = {float(altered(name, frame(name=str(index))).after[0, 0, 0]) for index in range(20)}
    assert kept == {0.0, 1.0}  # of some frames the one half is measured, of others the other


def test_what_is_drawn_depends_on_seed_and_frame_alone() -> None:
    one = altered("pieces-6").sample.image
    assert torch.equal(one, altered("pieces-6").sample.image)
    assert not torch.equal(one, altered("pieces-6", draw=Draw(1, DRAW.looks)).sample.image)
    assert not torch.equal(one, altered("pieces-6", frame(name="a/1")).sample.image)
