"""Planted encoders that rely on one cue each: the profile tells them apart, and its numbers are those of a plain computation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from fathom.data.dataset import Dataset, Frame
from fathom.data.formats.rooms import variants_of
from fathom.data.sources import load
from fathom.encoders.baselines import BASELINES, Baseline, Columns, pixels
from fathom.errors import UsageError
from fathom.features import feature
from fathom.probing.candidates import Candidate
from fathom.probing.cues.alterations import ALTERATIONS, rendered
from fathom.probing.cues.ledger import place_of
from fathom.probing.cues.measurement import ROLES, Cues, measure_cues
from fathom.probing.cues.rule import MARGIN, profile, sentence
from fathom.probing.evidence.records import Cue
from fathom.probing.fit import fit_probes
from fathom.probing.participants import Participant, Role
from fathom.probing.passes.training import training_pass
from fathom.probing.plan import plan_blocks
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import target_groups
from fathom.report.images.cues import draw_cues
from fathom.sample import Grid, Sample

SIZE, GRID = (64, 64), (8, 8)


def luma(images: Tensor) -> Tensor:
    return (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def redness(images: Tensor, grid: Grid) -> Tensor:
    """Red beyond luma, averaged over the cell."""
    return pixels(images, grid)[:, :1] - luma(pixels(images, grid))


def lightness(images: Tensor, grid: Grid) -> Tensor:
    return luma(pixels(images, grid))


def detail(images: Tensor, grid: Grid) -> Tensor:
    """Mean steepness of luma inside the cell; no pixel outside it has a say."""
    cells = F.unfold(luma(images), 8, stride=8).reshape(len(images), 8, 8, *grid)
    return (cells[:, 1:] - cells[:, :-1]).abs().mean((1, 2))[:, None]


def surroundings(images: Tensor, grid: Grid) -> Tensor:
    """The lightness of the 5x5 cells around the cell, less its own."""
    own = luma(pixels(images, grid))
    return F.avg_pool2d(F.pad(own, (2, 2, 2, 2), mode="replicate"), 5, stride=1) * 2.5 - own * 0.1


CUES: Mapping[str, Columns] = {
    "colour": redness,
    "light": lightness,
    "texture": detail,
    "shape": surroundings,
    "position": BASELINES["position"],
}


def image_of(seed: int) -> Tensor:
    """Blocks of 8x8 pixels of random colour and random luma, each with fine stripes of random contrast."""
    rng = torch.Generator().manual_seed(seed)
    light = 0.35 + 0.3 * torch.rand(1, *GRID, generator=rng)
    tint = 0.15 * (torch.rand(3, *GRID, generator=rng) - 0.5)
    tint = tint - luma(tint[None])[0]
    contrast = 0.15 * torch.rand(1, *GRID, generator=rng)
    rows = torch.where(torch.arange(SIZE[0]) // 2 % 2 == 0, 1.0, -1.0)[:, None]
    light, tint, contrast = (x.repeat_interleave(8, -1).repeat_interleave(8, -2) for x in (light, tint, contrast))
    return light + tint + contrast * rows


@dataclass
class World:
    """Frames whose depth is one cue, and a little noise of the scene's own."""

    cue: str
    scenes: int = 40
    views: int = 1
    kind: str = "world"
    location: str = "world"
    facts: Mapping[str, str] = field(default_factory=dict)
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def frames(self) -> list[Frame]:
        return [Frame(f"s{s}/{v}", f"s{s}") for s in range(self.scenes) for v in range(self.views)]

    def read(self, index: int) -> Sample:
        frame = self.frames[index]
        seed = int.from_bytes(hashlib.sha256(frame.id.encode()).digest()[:4], "little")
        image = image_of(seed)
        values = CUES[self.cue](image[None], GRID)[0]
        if self.cue == "position":
            values = values[:1] + 0.5 * values[1:2]
        rng = torch.Generator().manual_seed(seed + 1)
        depth = 3 + 10 * values + 0.1 * torch.randn(1, *GRID, generator=rng)
        depth = depth.repeat_interleave(8, -1).repeat_interleave(8, -2)
        valid = torch.rand(1, *GRID, generator=rng).repeat_interleave(8, -1).repeat_interleave(8, -2) > 0.05
        return Sample(image, depth, valid, frame.scene, frame.id)


@dataclass
class Fitted:
    """Probes of planted encoders, and all that cues are measured from."""

    settings: ProbeSettings
    candidates: list[Candidate]
    means: dict[str, Tensor]
    test: Dataset

    def cues(
        self, *names: str, roles: Sequence[str] = ("encoder",), measured: Sequence[Candidate] | None = None
    ) -> Cues:
        settings = replace(self.settings, cues=names or True)
        return measure_cues(measured or self.candidates, self.means, self.test, settings, roles=roles)


def fit(encoders: Sequence[Participant], train: Dataset, test: Dataset, settings: ProbeSettings) -> Fitted:
    groups = target_groups([feature("depth")])
    blocks = plan_blocks(train, settings.folds, settings.seed)
    for participant in encoders:
        participant.planned = blocks
    mean_maps = training_pass(encoders, groups, train, blocks, settings, [])
    candidates = fit_probes(encoders, groups, mean_maps, train, blocks, settings)
    return Fitted(settings, candidates, {name: average.mean() for name, average in mean_maps.items()}, test)


def fitted(cue: str, encoders: Mapping[str, Columns], batch_size: int = 16, scenes: int = 40) -> Fitted:
    train, test = Dataset.whole(World(cue, scenes)).split(0.5, seed=0)
    participants = [Participant(Baseline(name, columns, GRID), Role("encoder")) for name, columns in encoders.items()]
    return fit(participants, train, test, ProbeSettings(size=SIZE, grid=GRID, batch_size=batch_size))


def measured(cue: str, names: Sequence[str] = (), batch_size: int = 16, scenes: int = 40) -> Cues:
    return fitted(cue, {cue: CUES[cue]}, batch_size, scenes).cues(*names)


@lru_cache(maxsize=8)
def profile_of(cue: str) -> Cues:
    return measured(cue)


def changes(cue: str) -> dict[str, Cue]:
    return {item.alteration: item for item in profile_of(cue).cues}


def unharmed(cues: Mapping[str, Cue], *names: str) -> bool:
    return all(abs(cues[name].change) < 1e-4 * cues[name].gain for name in names)


def hurt(cues: Mapping[str, Cue], *names: str) -> bool:
    return all((cues[name].low or 0) > 0.1 * cues[name].gain for name in names)


PLACE = ("mirrored", "upside-down", "halves-sideways", "halves-upright")
PIECES = ("pieces-3", "pieces-6", "pieces-12")


def test_a_probe_by_colour_is_hurt_by_colour_and_not_by_place_or_surroundings() -> None:
    cues = changes("colour")
    assert hurt(cues, "grey", "hue")
    assert unharmed(cues, *PLACE, *PIECES)
    assert all(cues[name].moves == pytest.approx(1, abs=1e-4) for name in PLACE)
    # Grey frames tell it nothing: all that it knows is lost, and turned colours cost three times more besides.
    assert cues["grey"].lost == pytest.approx(1, abs=0.1) and cues["hue"].lost == pytest.approx(4, rel=0.15)
    said = profile_of("colour").sentences()["colour"]
    assert said.startswith("Relies on colour (") and "does without texture, shape and position" in said
    assert "more by colour than by" in said or "light" not in said.split("does without")[0]


def test_a_probe_by_position_is_hurt_by_place_alone() -> None:
    cues = changes("position")
    still = [name for name, item in ALTERATIONS.items() if item.group != "position"]
    assert all(cues[name].change == 0 and cues[name].low == 0 for name in still)
    assert hurt(cues, *PLACE, "zoomed")
    for name in PLACE:
        assert (cues[name].moves, cues[name].stays) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))
    said = profile_of("position").sentences()["position"]
    assert said.startswith("Relies on position (") and "does without colour, light, texture and shape" in said
    assert "enlarged" not in said  # the change at the same point of the scene is one of place


def test_a_probe_by_fine_detail_is_hurt_by_blur_and_takes_what_is_enlarged_for_less() -> None:
    cues = changes("texture")
    # The stripes are fine, but of strong contrast: smoothing along edges leaves them where blur does not.
    assert hurt(cues, "blurred") and cues["smoothed"].change < 0.1 * cues["blurred"].change
    assert unharmed(cues, "grey", "hue", "recoloured", *PLACE, *PIECES)
    said = profile_of("texture").sentences()["texture"]
    assert said.startswith("Relies on texture (") and "does without colour, shape and position" in said
    assert "enlarged things are taken for nearer" in said


def test_a_probe_by_surroundings_is_hurt_by_pieces_and_by_no_change_of_colour() -> None:
    cues = changes("shape")
    assert hurt(cues, *PIECES) and unharmed(cues, "grey", "hue", "recoloured", "mirrored", "upside-down")
    # Exchanged halves break what lies around the seam. That is no knowledge of place, and not called so.
    assert hurt(cues, "halves-sideways")
    said = profile_of("shape").sentences()["shape"]
    assert "shape (surroundings in pieces" in said and "position is open" in said
    assert "does without colour and texture" in said


def test_a_probe_by_lightness_takes_lighter_frames_for_farther() -> None:
    cues = changes("light")
    assert hurt(cues, "brighter", "darker") and unharmed(cues, "grey", "hue", "recoloured", *PLACE, *PIECES)
    assert (cues["brighter"].shift or 0) > 0 > (cues["darker"].shift or 0)
    said = profile_of("light").sentences()["light"]
    assert said.startswith("Relies on light (") and "lighter frames are taken for farther (+" in said and " m)" in said


def test_changes_are_those_of_a_plain_computation() -> None:
    """Upside down, with a probe fitted by least squares on the whole matrix: loss, change and mean shift."""
    run = fitted("colour", {"pixels": pixels})
    found = run.cues("upside-down", "hue")
    probe = next(item for item in run.candidates if item.encoder == "pixels").layers[0].probe
    weight, bias = probe.weight[:, 0], probe.bias[0]
    for cue in found.cues:
        base, after, cells, moved = 0.0, 0.0, 0.0, 0.0
        for sample in run.test:
            Y, valid = feature("depth").of(sample, GRID)
            image = sample.image
            if cue.alteration == "hue":
                image = 2 * luma(image[None])[0] - image
            else:
                image, Y, valid = image.flip(-2), Y.flip(-2), valid.flip(-2)
            there, here = (
                (pixels(x[None], GRID)[0].double() * weight[:, None, None]).sum(0) + bias for x in (sample.image, image)
            )
            there = there.flip(-2) if cue.alteration == "upside-down" else there
            inside = valid[0]
            cells += float(inside.sum())
            base += float((Y[0] - there)[inside].square().sum())
            after += float((Y[0] - here)[inside].square().sum())
            moved += float((here - there)[inside].sum())
        assert cue.base_mse == pytest.approx(base / cells, rel=1e-4)
        assert cue.mse == pytest.approx(after / cells, rel=1e-4)
        assert cue.change == pytest.approx((after - base) / cells, rel=1e-4, abs=1e-5)
        assert cue.relative == pytest.approx(after / base - 1, rel=1e-3, abs=1e-5)
        assert cue.shift == pytest.approx(moved / cells, rel=1e-3, abs=1e-5)


def test_numbers_do_not_depend_on_batches() -> None:
    names = ["recoloured", "pieces-6", "zoomed", "halves-upright"]
    reference, other = (measured("colour", names, batch_size).cues for batch_size in (16, 3))
    for one, same in zip(reference, other, strict=True):
        for key, value in asdict(one).items():
            assert getattr(same, key) == (
                pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value
            )


def test_an_encoder_runs_once_for_each_batch_and_alteration_and_only_if_it_is_measured() -> None:
    calls = {"colour": 0, "idle": 0}

    def counted(name: str) -> Columns:
        def columns(images: Tensor, grid: Grid) -> Tensor:
            calls[name] += 1
            return redness(images, grid)

        return columns

    run = fitted("colour", {name: counted(name) for name in calls})
    measuring = [item for item in run.candidates if item.encoder != "idle"]
    before = dict(calls)
    run.cues("grey", "mirrored", measured=measuring)
    batches = -(-len(run.test) // run.settings.batch_size)
    assert batches > 1
    assert {name: calls[name] - before[name] for name in calls} == {"colour": 3 * batches, "idle": 0}


def test_what_is_not_known_is_not_said() -> None:
    few = measured("colour", ["grey"], scenes=14).sentences()["colour"]
    assert few == "Not said: 7 test scenes are too few, at least 10 are needed."
    cues = fitted("position", {"colour": redness}).cues("grey")
    assert cues.cues[0].lost is None
    assert "does not predict depth better than the training mean" in cues.sentences()["colour"]


def test_the_mean_map_relies_on_position_and_constant_is_left_out() -> None:
    train, test = Dataset.whole(World("position")).split(0.5, seed=0)
    named = replace(Baseline("constant", BASELINES["constant"]), cells=GRID)
    run = fit([Participant(named, Role("baseline"))], train, test, ProbeSettings(size=SIZE, grid=GRID))
    cues = run.cues("grey", "halves-upright", roles=ROLES)
    assert {cue.encoder for cue in cues.cues} == {"mean-map"}
    assert cues.sentences()["mean-map"].startswith("Relies on position (")


def test_bad_requests_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no alteration 'gray'.*'grey'"):
        fitted("colour", {"colour": redness}).cues("gray")
    with pytest.raises(UsageError, match="no cue to draw"):
        draw_cues([], "nowhere.png")


def test_with_one_scene_nothing_is_borrowed() -> None:
    run = fitted("colour", {"colour": redness})
    one = replace(run, test=run.test.of_scenes(run.test.scenes[:1]))
    cues = one.cues("grey", "recoloured", "relit")
    assert {cue.alteration for cue in cues.cues} == {"grey"}
    assert cues.cues[0].low is None and cues.cues[0].scenes == 1


# Re-rendered rooms


def test_variants_of_rooms_are_the_same_frames_in_the_same_order() -> None:
    test = load("rooms").official_split()[1].subset(range(0, 60, 7))
    found = variants_of(test)
    assert set(found) == {"colours", "textures", "grey", "light"}
    for other in found.values():
        chosen = [position for position, id_ in enumerate(test.ids) if id_ in set(other.ids)]
        assert other.ids == tuple(test.ids[position] for position in chosen) and len(other)
        first, same = test[chosen[0]], other[0]
        assert torch.equal(first.depth, same.depth) and not torch.equal(first.image, same.image)
    # One grey everywhere takes texture with colour: nothing is concluded from it.
    decides = {variant: rendered(variant, frames, SIZE).decides for variant, frames in found.items()}
    assert decides == {"colours": True, "light": True, "textures": True, "grey": False}
    assert variants_of(load("rooms?variant=grey")) == {} and variants_of(Dataset.whole(World("light"))) == {}


def test_re_rendered_rooms_change_nothing_for_a_probe_by_position() -> None:
    train, test = load("rooms").official_split()
    ids = set(variants_of(test)["colours"].ids)
    of_variant = [position for position, id_ in enumerate(test.ids) if id_ in ids][::4]
    without = [position for position, id_ in enumerate(test.ids) if id_ not in ids][:4]
    few = test.subset([*without, *of_variant])
    settings = ProbeSettings(size=(48, 64), grid=(6, 8))
    encoders = [
        Participant(Baseline(name, BASELINES[name], (6, 8)), Role("encoder")) for name in ("position", "pixels")
    ]
    cues = fit(encoders, train.subset(range(0, 48, 2)), few, settings).cues("rendered-colours", "rendered-light")
    exact = {(cue.encoder, cue.alteration): cue for cue in cues.cues}
    assert len(exact) == 4 and all(cue.exact and cue.scenes == 20 for cue in cues.cues)
    for name in ("rendered-colours", "rendered-light"):
        assert exact["position", name].change == 0 and exact["position", name].shift == 0
        assert abs(exact["pixels", name].change) > 1e-4
    assert exact["pixels", "rendered-colours"].group == "colour"


# The rule


def cue(group: str, low: float, high: float, name: str = "x", **more: object) -> Cue:
    """Gain 2: the change counts above 0.2."""
    margin = 2 * MARGIN
    base = Cue("e", "l", "depth", "m", name, f"{group} gone", group, True, False, 30, 1.0, 1.5, 0.5, 0.4, 0.6, 0.5, 2.0, 1.5,
               (low + high) / 4, low, high, low - margin, high - margin)  # fmt: skip
    return replace(base, **more)


def test_the_rule_claims_what_the_intervals_allow_and_no_more() -> None:
    found = profile(
        [
            cue("colour", 0.5, 0.9),
            cue("colour", -0.1, 0.1),
            cue("light", 0.21, 0.4),
            cue("texture", -0.2, 0.19),
            cue("shape", 0.19, 0.6),
            cue("position", 0.5, 0.8, stays_low=0.0),
        ]
    )
    assert [item.group for item in found.relies_on] == ["colour", "light"]
    assert (found.without, found.open) == (("texture",), ("shape", "position"))
    assert found.less == ("light", "texture")
    moved = cue("position", 0.5, 0.8, stays_low=0.2)
    assert [item.group for item in profile([moved, cue("shape", 0.0, 0.4)]).relies_on] == ["position"]
    assert profile([moved, cue("shape", 0.0, 0.6)]).open == ("shape", "position")
    assert profile([cue("colour", 0.5, 0.9, decides=False)]).relies_on == ()
    unknown = profile([cue("colour", 0.5, 0.9), cue("colour", 0.0, 0.0, over_low=None)])
    assert unknown.open == ("colour",) and unknown.relies_on == ()


def test_sentences_name_amounts_and_take_a_direction_only_from_two_intervals() -> None:
    said = sentence([cue("colour", 1.2, 1.6), cue("shape", -0.1, 0.05)])
    assert said == "Relies on colour (colour gone costs 70% of its gain); does without shape."
    lighter = cue("light", 0.3, 0.4, "brighter", shift=0.2, shift_low=0.1, shift_high=0.3)
    darker = cue("light", 0.3, 0.4, "darker", shift=-0.2, shift_low=-0.3, shift_high=-0.1)
    assert "lighter frames are taken for farther (+0.2 m)" in sentence([lighter, darker])
    assert "lighter" not in sentence([lighter, replace(darker, shift_low=-0.3, shift_high=0.1)])
    assert "lighter" not in sentence([lighter, replace(darker, shift_low=0.1, shift_high=0.3)])
    curved = [replace(item, feature="curvature", unit="") for item in (lighter, darker)]
    assert "lighter frames are taken for more curvature (+0.2)" in sentence(curved)


def mixture(moves: float, stays: float, noise: float) -> dict[str, tuple[float, float, float]]:
    rng = np.random.default_rng(0)
    q = rng.normal(size=(40, 50)) + np.linspace(-1, 1, 50)
    p = np.roll(q, 25, 1)
    u = moves * p + stays * q + noise * rng.normal(size=q.shape)
    sums = {"pp": p * p, "pq": p * q, "qq": q * q, "up": u * p, "uq": u * q}
    return place_of({name: values.sum(1) for name, values in sums.items()}, 0.95)


def test_moves_and_stays_tell_place_from_disturbance() -> None:
    found = mixture(0.6, 0.3, 0.5)
    assert found["moves"][1] < 0.6 < found["moves"][2] and found["stays"][1] < 0.3 < found["stays"][2]
    disturbed = mixture(0.4, 0.0, 1.0)
    assert disturbed["stays"][1] < 0 < disturbed["stays"][2] and disturbed["moves"][1] > 0.3
    same = np.ones(40)
    assert place_of({"pp": same, "pq": same, "qq": same, "up": same, "uq": same}, 0.95) == {}


# The chart


def test_the_chart_shows_every_encoder_and_alteration_in_one_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    inner: Callable[..., None] = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), inner(self, *a, **k))[1])
    records = [*profile_of("colour").cues, *profile_of("position").cues]
    path = draw_cues(records, tmp_path / "cues.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (axes,) = drawn[0].axes
    labels = [label.get_text().removesuffix(" *") for label in axes.get_yticklabels()]
    assert sorted(labels) == sorted(item.words for item in ALTERATIONS.values())
    assert [bar.get_label() for bar in axes.containers] == ["colour", "position"]
    marks = axes.containers[0].lines[0].get_xdata()
    by_label = dict(zip(labels, marks, strict=True))
    for record in records[: len(ALTERATIONS)]:
        assert by_label[record.words] == pytest.approx(100 * record.relative)
