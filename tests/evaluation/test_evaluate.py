"""The whole evaluation against an independent float64 computation, and what is measured when nobody says."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fathom.data.dataset import Dataset, Frame
from fathom.data.transforms import fit
from fathom.errors import CheckpointError, DataError, UsageError
from fathom.evaluation.by_depth import ErrorByDepth
from fathom.evaluation.evaluate import evaluate
from fathom.evaluation.held_out import choose_frames
from fathom.metrics.depth import METRICS
from fathom.metrics.protocols import PROTOCOLS, Protocol
from fathom.models.saved import Trained
from fathom.sample import Sample
from fathom.training.recipe import load_recipe
from fathom.training.session import build_network

H, W = 40, 56
SIZE = (24, 32)
CROP = Protocol("crop", "a crop", 1e-3, 10.0, (5, 35), (7, 49), (H, W))
RNG = np.random.default_rng


@dataclass
class Walls:
    """Frames of two views a scene, with holes in their truth."""

    scenes: int = 7
    empty: Sequence[int] = ()
    broken: Sequence[int] = ()
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kind: str = "walls"
    location: str = "walls"
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.frames = [Frame(f"wall{s}/{v}", f"wall{s}") for s in range(self.scenes) for v in range(2)]

    def read(self, index: int) -> Sample:
        if index in self.broken:
            raise DataError(f"wall-{index}.png", "is cut short")
        g = torch.Generator().manual_seed(index)
        image = torch.randint(0, 255, (3, H, W), generator=g, dtype=torch.uint8)
        depth = 0.3 + 11 * torch.rand(1, H, W, generator=g) * torch.rand(1, generator=g)
        valid = torch.rand(1, H, W, generator=g) > (1.0 if index in self.empty else 0.3)
        depth = torch.where(valid, depth, 0.0)
        return Sample(image, depth, valid, self.frames[index].scene, self.frames[index].id)


def trained(name: str = "tiny-plain_cnn", *settings: str, scenes: Sequence[str] = (), **info: Any) -> Trained:
    recipe = load_recipe(name, ["data.size=24x32", *settings])
    model = build_network(recipe).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.6)  # fresh weights predict almost the same depth everywhere
    return Trained(model, recipe.model.name, recipe.table(), SIZE, tuple(scenes), info, Path("checkpoint"))


@pytest.fixture(scope="module")
def network() -> Trained:
    return trained("tiny-plain_cnn", "model.filters=[4,4,4,4,4,4,4]")


def enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear in float64, pixel centres aligned, edges repeated."""
    for axis, length in enumerate(size):
        cells = values.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * cells / length - 0.5, 0, cells - 1)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        high = np.minimum(low + 1, cells - 1)
        values = np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight
    return values


def raw(network: Trained, sample: Sample, flip: bool = False) -> np.ndarray:
    """The network's output in float64."""
    image = fit(sample, SIZE).float_image()
    with torch.no_grad():
        return network.model((image.flip(-1) if flip else image)[None])[0, 0].double().numpy()


def reference(p: np.ndarray, sample: Sample, protocol: Protocol) -> dict[str, float]:
    """One image under a protocol, straight from the definitions, in float64."""
    g, known = sample.depth[0].double().numpy(), sample.valid[0].numpy()
    inside = np.zeros(g.shape, dtype=bool)
    if protocol.rows is None:
        inside[:] = True
    else:
        inside[slice(*protocol.rows), slice(*protocol.columns)] = True
    keep = known & inside & (g > protocol.least) & (g < protocol.most)
    p, g = np.clip(p, protocol.least, protocol.most)[keep], g[keep]
    d, e, worse = p - g, np.log(p) - np.log(g), np.maximum(p / g, g / p)
    return {
        "abs_rel": np.mean(abs(d) / g),
        "sq_rel": np.mean(d**2 / g),
        "rmse": np.sqrt(np.mean(d**2)),
        "rmse_log": np.sqrt(np.mean(e**2)),
        "log10": np.mean(abs(np.log10(p) - np.log10(g))),
        "silog": 100 * np.sqrt(np.mean(e**2) - np.mean(e) ** 2),
        "mae": np.mean(abs(d)),
        **{f"delta{k}": np.mean(worse < 1.25**k) for k in (1, 2, 3)},
        "pixels": keep.sum(),
        "squared": (d**2).sum(),
    }


def fitted(p: np.ndarray, sample: Sample, protocol: Protocol, align: str) -> np.ndarray:
    g, keep = sample.depth[0].double().numpy(), sample.valid[0].numpy().copy()
    keep &= (g > protocol.least) & (g < protocol.most)
    if align == "median":
        # The lower of the two middle values, as PyTorch has it.
        middle = [np.sort(x[keep])[(keep.sum() - 1) // 2] for x in (g, p)]
        return p * middle[0] / middle[1]
    columns = [p[keep]] + ([np.ones(keep.sum())] if align == "scale-shift" else [])
    solution = np.linalg.lstsq(np.stack(columns, 1), g[keep], rcond=None)[0]
    return p * solution[0] + (solution[1] if align == "scale-shift" else 0)


@pytest.mark.parametrize(
    ("protocol", "flip", "align"),
    [
        (CROP, False, "none"),
        (PROTOCOLS["native"], True, "none"),
        (PROTOCOLS["nyu-full"], False, "scale"),
        (PROTOCOLS["nyu-full"], True, "scale-shift"),
        (PROTOCOLS["nyu-full"], False, "median"),
    ],
)
def test_every_number_equals_an_independent_float64_computation(
    network: Trained, protocol: Protocol, flip: bool, align: str
) -> None:
    source = Walls(empty=[3])
    found = evaluate(network, Dataset.whole(source), protocol=protocol, flip=flip, align=align, batch_size=3)
    expected = []
    for index, image in enumerate(found.images):
        sample = source.read(index)
        assert image.id == sample.id
        p = enlarged(raw(network, sample), (H, W))
        if flip:
            p = (p + enlarged(raw(network, sample, flip=True), (H, W))[:, ::-1]) / 2
        if index == 3:
            assert image.pixels == 0
            assert not image.metrics
            continue
        sheet = reference(p if align == "none" else fitted(p, sample, protocol, align), sample, protocol)
        expected.append(sheet)
        assert image.pixels == sheet["pixels"]
        for name in METRICS:
            assert image.metrics[name] == pytest.approx(sheet[name], rel=1e-6, abs=1e-9), (index, name)
    for name in METRICS:
        assert found.mean(name).mean == pytest.approx(np.mean([sheet[name] for sheet in expected]), rel=1e-6)
    pooled = np.sqrt(sum(s["squared"] for s in expected) / sum(s["pixels"] for s in expected))
    assert found.pooled_rmse().mean == pytest.approx(pooled, rel=1e-6)
    assert any("1 of 14 images have no pixel that counts" in note for note in found.notes)


def test_the_batch_size_changes_nothing_that_matters(network: Trained) -> None:
    one, many = (evaluate(network, Dataset.whole(Walls()), batch_size=n, pictures=0) for n in (1, 5))
    for name in METRICS:
        assert one.mean(name).mean == pytest.approx(many.mean(name).mean, rel=1e-6)


def test_intervals_come_from_scenes_and_enclose_the_mean(network: Trained) -> None:
    found = evaluate(network, Dataset.whole(Walls()), pictures=0)
    for estimate in (*map(found.mean, METRICS), found.pooled_rmse()):
        assert estimate.interval is not None
        assert estimate.interval[0] <= estimate.mean <= estimate.interval[1]
    few = evaluate(network, Dataset.whole(Walls(scenes=4)), pictures=0)
    assert few.mean("rmse").interval is None
    assert any("No intervals" in note for note in few.notes)


def test_a_share_of_good_pixels_has_the_interval_of_its_complement(network: Trained) -> None:
    from fathom.statistics import loss_interval

    found = evaluate(network, Dataset.whole(Walls()), pictures=0)
    bad = np.array([1 - image.metrics["delta1"] for image in found.images]).reshape(7, 2).sum(1)
    expected = loss_interval(bad, np.full(7, 2.0))
    assert found.mean("delta1").interval == pytest.approx((1 - expected.high, 1 - expected.low))


def test_a_network_that_loses_its_border_is_held_against_the_whole_frame() -> None:
    network = trained("tiny-plain_cnn", "model.filters=[4,4,4,4,4,4,4]", "model.padding=none")
    source = Walls()
    found = evaluate(network, Dataset.whole(source), protocol="native", pictures=0)
    top, left, height, width = network.model.output_crop(SIZE)
    assert top > 0
    p = np.pad(
        raw(network, source.read(0)), ((top, SIZE[0] - top - height), (left, SIZE[1] - left - width)), mode="edge"
    )
    expected = reference(enlarged(p, (H, W)), source.read(0), PROTOCOLS["native"])
    assert found.images[0].pixels == expected["pixels"]
    assert found.images[0].metrics["abs_rel"] == pytest.approx(expected["abs_rel"], rel=1e-6)
    assert any("border" in note for note in found.notes)


def test_predictions_that_are_not_finite_are_clamped_and_said(network: Trained) -> None:
    class Broken(type(network.model)):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            out = torch.full((len(image), 1, *image.shape[-2:]), 2.0)
            out[..., 0, 0], out[..., -1, -1] = float("nan"), float("inf")
            return out

    broken = replace(network, model=Broken(network.model.config).eval())
    found = evaluate(broken, Dataset.whole(Walls()), protocol="nyu-full", align="scale")
    assert all(np.isfinite(list(image.metrics.values())).all() for image in found.images)
    assert any("not finite" in note for note in found.notes)


def test_the_scenes_that_were_trained_on_are_left_out_unless_asked_for() -> None:
    source = Walls()
    network = trained(scenes=["wall0", "wall1", "wall2"], train_fingerprint="other", unseen_scenes=["wall5"])
    data = Dataset.whole(source)
    part, sentence = choose_frames(data, network)
    assert part.scenes == ("wall3", "wall4", "wall5", "wall6")
    assert "8 frames of the 4 of 7 scenes" in sentence
    part, sentence = choose_frames(data, network, "all")
    assert len(part) == 14
    assert "6 of them are of scenes that the checkpoint was trained on" in sentence
    assert choose_frames(data, network, "val")[0].scenes == ("wall5",)
    with pytest.raises(UsageError, match="has no 'test' part"):
        choose_frames(data, network, "test")


def test_data_that_the_checkpoint_never_saw_are_measured_whole() -> None:
    part, sentence = choose_frames(Dataset.whole(Walls()), trained(scenes=["elsewhere"]))
    assert len(part) == 14
    assert "trained on none" in sentence


def test_an_official_test_part_goes_first_and_what_was_seen_of_it_is_said() -> None:
    data = Dataset.whole(Walls(official={"train": range(0, 8), "test": range(8, 14)}))
    part, sentence = choose_frames(data, trained(scenes=["wall0"]))
    assert part.scenes == ("wall4", "wall5", "wall6")
    assert "trained on none" in sentence
    part, sentence = choose_frames(data, trained(scenes=["wall4"]))
    assert "2 of them are of scenes that the checkpoint was trained on" in sentence


def test_no_fair_frame_is_an_error_that_names_the_way_out() -> None:
    data = Dataset.whole(Walls())
    with pytest.raises(DataError, match="--split all"):
        choose_frames(data, trained(scenes=data.scenes))


def test_the_very_data_of_the_training_are_recognised_by_their_fingerprint() -> None:
    from fathom.training.holdout import divide
    from fathom.training.recipe import from_table

    network, data = trained(), Dataset.whole(Walls())
    recipe = from_table(network.recipe)
    parts = divide(data, recipe.validation.scenes, recipe.validation.frames, seed=recipe.train.seed)
    seen = replace(network, train_scenes=parts.train.scenes, info={"train_fingerprint": parts.train.fingerprint()})
    part, sentence = choose_frames(data, seen)
    assert "these very data" in sentence
    assert set(part.scenes) == set(parts.unseen.scenes)
    _, sentence = choose_frames(Dataset.whole(Walls(scenes=8)), seen)
    assert "scenes of these names" in sentence


def test_a_network_without_depth_is_refused() -> None:
    with pytest.raises(CheckpointError, match="predicts images and no depth"):
        evaluate(trained("tiny-autoencoder"), Dataset.whole(Walls()))


@pytest.mark.parametrize(("option", "named"), [("protocol", "nyu-eigen"), ("align", "scale-shift")])
def test_an_unknown_name_gets_the_nearest(network: Trained, option: str, named: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{named}'"):
        evaluate(network, Dataset.whole(Walls()), **{option: named[:-1] + "x"})


def test_a_broken_frame_ends_it_or_is_left_out(network: Trained, tmp_path: Path) -> None:
    data = Dataset.whole(Walls(broken=[2, 9]))
    with pytest.raises(DataError, match=r"wall-2\.png"):
        evaluate(network, data)
    found = evaluate(network, data, skip_bad=True, pictures=0)
    assert [name for name, _ in found.left_out] == ["wall1/0", "wall4/1"]
    assert len(found.images) == 12
    with pytest.raises(DataError, match="none of the 14 frames"):
        evaluate(network, Dataset.whole(Walls(broken=range(14))), skip_bad=True)
    with pytest.raises(DataError, match="no pixel of 14 frames counts"):
        evaluate(network, Dataset.whole(Walls(empty=range(14))))


def test_the_saved_files_hold_the_numbers(network: Trained, tmp_path: Path) -> None:
    found = evaluate(network, Dataset.whole(Walls(empty=[3])), protocol=CROP)
    found.save(tmp_path)
    with (tmp_path / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [image.id for image in found.images]
    for row, image in zip(rows, found.images, strict=True):
        assert int(row["pixels"]) == image.pixels
        for name in METRICS:
            assert row[name] == "" if not image.metrics else float(row[name]) == image.metrics[name]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["images"] == 13
    assert summary["without_truth"] == ["wall1/1"]
    assert summary["metrics"]["rmse"]["mean"] == found.mean("rmse").mean
    assert summary["pooled_rmse"]["interval"] == list(found.pooled_rmse().interval)
    assert summary["worst"][0] == max(found.scored, key=lambda image: image.metrics["abs_rel"]).id
    assert sum(band["pixels"] for band in summary["by_depth"]) == summary["pixels"]


def test_the_best_and_worst_frames_are_shown_as_they_were_compared(network: Trained) -> None:
    found = evaluate(network, Dataset.whole(Walls()), protocol=CROP, pictures=2)
    order = [image.id for image in found.ranked()]
    assert [frame.score.id for frame in found.shown] == [*order[:2], *order[-2:]]
    for frame in found.shown:
        known = torch.isfinite(frame.truth)
        assert int(known.sum()) == frame.score.pixels
        relative = ((frame.prediction - frame.truth).abs() / frame.truth)[known]
        assert float(relative.mean()) == pytest.approx(frame.score.metrics["abs_rel"], rel=1e-5)


def test_error_by_depth_adds_up_to_the_error_of_all_pixels() -> None:
    g = torch.Generator().manual_seed(1)
    total, gathered = [], ErrorByDepth()
    for scene in range(6):
        target = 0.5 + 20 * torch.rand(30, 40, generator=g) ** 2
        prediction = target * (0.7 + 0.6 * torch.rand(30, 40, generator=g))
        valid = torch.rand(30, 40, generator=g) > 0.2
        gathered.add(f"s{scene}", prediction, target, valid)
        total.append(torch.stack([prediction[valid], target[valid]]).double())
    p, t = torch.cat(total, 1)
    bands = gathered.bands()
    assert sum(band.pixels for band in bands) == len(p)
    squares = sum(band.pixels * band.rmse**2 for band in bands)
    assert squares == pytest.approx(float((p - t).square().sum()), rel=1e-6)
    for band in bands:
        inside = (t >= band.nearest) & (t < band.farthest)
        assert abs(int(inside.sum()) - band.pixels) <= 1  # a pixel on an edge may round to either side
        assert band.bias == pytest.approx(float((p - t)[inside].mean()), abs=0.02)
        assert band.bias_interval[0] < band.bias < band.bias_interval[1]
        assert band.rmse_interval[0] < band.rmse < band.rmse_interval[1]
