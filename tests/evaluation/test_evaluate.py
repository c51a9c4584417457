"""The whole evaluation against an independent float64 computation; which frames are measured; what is refused."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fathom.data.dataset import Dataset, Frame
from fathom.depth_models.model import DepthMaps, DepthModel, known_cameras
from fathom.errors import CheckpointError, DataError, UsageError
from fathom.evaluation.by_depth import ErrorByDepth
from fathom.evaluation.compare import compare
from fathom.evaluation.evaluate import evaluate
from fathom.evaluation.held_out import choose_frames
from fathom.evaluation.result import Evaluation
from fathom.files.atomic import write_json
from fathom.metrics.depth import METRICS
from fathom.metrics.protocols import PROTOCOLS, Protocol
from fathom.models.saved import Trained
from fathom.report.evaluation.page import page
from fathom.sample import Intrinsics, Sample
from fathom.statistics import loss_interval, scene_interval
from fathom.training.recipe import load_recipe
from fathom.training.session import build_network

H, W = 40, 56
SIZE = (24, 32)
CROP = Protocol("crop", "a crop", 1e-3, 10.0, (5, 35), (7, 49), (H, W))
CAMERA = Intrinsics(50.0, 50.0, 28.0, 20.0)


@dataclass
class Walls:
    """Frames of two views a scene, with holes in their truth; the image holds the depth, so that a model can read it."""

    scenes: int = 7
    empty: Sequence[int] = ()
    broken: Sequence[int] = ()
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kind: str = "walls"
    location: str = "walls"
    facts: Mapping[str, str] = field(default_factory=dict)
    camera: Intrinsics | None = CAMERA

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
        return Sample(image, depth, valid, self.frames[index].scene, self.frames[index].id, intrinsics=self.camera)


class Painted(DepthModel):
    """Reads a number out of the image: `scale` x mean of the channels + `shift`, of any kind."""

    def __init__(
        self, kind: str = "metric", scale: float = 6.0, shift: float = 0.5, name: str = "", **more: Any
    ) -> None:
        self.kind, self.scale, self.shift, self.name = kind, scale, shift, name or f"{kind}-{scale:g}"
        self.train_scenes = tuple(more.get("scenes", ()))
        self.hole = more.get("hole", False)
        self.seen: list[Any] = []

    def predict(self, images, cameras=None, *, size=None, prompts=None) -> DepthMaps:  # type: ignore[no-untyped-def]
        self.seen += cameras
        values = self.scale * images.float().mean(1) / 255 + self.shift
        if self.hole:
            values[:, :, :2] = torch.nan
        assert size == (H, W)
        return DepthMaps(values, self.kind, known_cameras(images, cameras), input_size=(H, W))

    def to(self, device: object) -> Painted:
        return self


class Prompted(Painted):
    """Gives back the depth that it is prompted with, twice as far."""

    takes_prompt = True

    def predict(self, images, cameras=None, *, size=None, prompts=None) -> DepthMaps:  # type: ignore[no-untyped-def]
        self.seen += [image.float().mean(0) for image in images]
        assert len(prompts) == len(images) and all(bool((prompt > 0).any()) for prompt in prompts)
        return DepthMaps(2 * torch.stack(list(prompts)), "metric", tuple(cameras), input_size=(H, W))


def trained(name: str = "tiny-plain_cnn", *settings: str, scenes: Sequence[str] = (), **info: Any) -> Trained:
    recipe = load_recipe(name, ["data.size=24x32", *settings])
    return Trained(build_network(recipe).eval(), recipe.model.name, recipe.table(), SIZE, tuple(scenes), info, Path("checkpoint"))  # fmt: skip


def raw(model: Painted, sample: Sample) -> np.ndarray:
    return model.scale * sample.image.double().mean(0).numpy() / 255 + model.shift


def reference(p: np.ndarray, sample: Sample, protocol: Protocol) -> dict[str, float]:
    """One frame under a protocol, straight from the definitions, in float64."""
    p, g = np.clip(p, protocol.least, protocol.most)[kept(sample, protocol)], truth(sample, protocol)
    d, e, worse = p - g, np.log(p) - np.log(g), np.maximum(p / g, g / p)
    return {
        "abs_rel": np.mean(abs(d) / g),
        "sq_rel": np.mean(d**2 / g),
        "sq_rel_kitti": np.mean(d**2 / g**2),
        "rmse": np.sqrt(np.mean(d**2)),
        "rmse_log": np.sqrt(np.mean(e**2)),
        "log10": np.mean(abs(np.log10(p) - np.log10(g))),
        "silog": 100 * np.sqrt(np.mean(e**2) - np.mean(e) ** 2),
        "silog_half": 100 * np.sqrt(np.mean(e**2) - np.mean(e) ** 2 / 2),
        "mae": np.mean(abs(d)),
        **{f"delta{k}": np.mean(worse < 1.25**k) for k in (1, 2, 3)},
        "pixels": len(g),
        "squared": (d**2).sum(),
    }


def kept(sample: Sample, protocol: Protocol) -> np.ndarray:
    g, inside = sample.depth[0].numpy(), np.zeros((H, W), dtype=bool)
    inside[slice(*(protocol.rows or (0, H))), slice(*(protocol.columns or (0, W)))] = True
    return sample.valid[0].numpy() & inside & (g > protocol.least) & (g < protocol.most)


def truth(sample: Sample, protocol: Protocol) -> np.ndarray:
    return sample.depth[0].double().numpy()[kept(sample, protocol)]


def fitted(p: np.ndarray, sample: Sample, protocol: Protocol, align: str) -> np.ndarray:
    keep, g = kept(sample, protocol), truth(sample, protocol)
    if align == "none":
        return p
    if align == "median":
        return p * np.median(g) / np.median(p[keep])
    target = 1 / g if align == "scale-shift-disparity" else g
    columns = [p[keep]] + ([] if align == "scale" else [np.ones(keep.sum())])
    solution = np.linalg.lstsq(np.stack(columns, 1), target, rcond=None)[0]
    p = p * solution[0] + (0 if align == "scale" else solution[1])
    return 1 / np.clip(p, 1 / protocol.most, 1 / protocol.least) if align == "scale-shift-disparity" else p


@pytest.mark.parametrize(
    ("protocol", "kind", "align", "expected"),
    [
        (CROP, "metric", None, "none"),
        (PROTOCOLS["native"], "metric", "median", "median"),
        (PROTOCOLS["nyu-full"], "scale-invariant", None, "scale"),
        (CROP, "affine-depth", None, "scale-shift"),
        (PROTOCOLS["nyu-full"], "affine-disparity", None, "scale-shift-disparity"),
    ],
)
def test_every_number_equals_an_independent_float64_computation(
    protocol: Protocol, kind: str, align: str | None, expected: str
) -> None:
    source, model = Walls(empty=[3]), Painted(kind)
    found = evaluate(model, Dataset.whole(source), protocol=protocol, align=align, batch_size=3, pictures=0)
    table, sheets = found.record.tables[0], []
    assert table.results[0].alignment == expected
    for index, frame in enumerate(found.frames[0]):
        sample = source.read(index)
        if index == 3:
            assert frame.pixels == 0 and not frame.metrics
            continue
        sheet = reference(fitted(raw(model, sample), sample, protocol, expected), sample, protocol)
        sheets.append(sheet)
        assert frame.pixels == sheet["pixels"]
        for name in METRICS:
            assert frame.metrics[model.name][name] == pytest.approx(sheet[name], rel=2e-5, abs=1e-7), (index, name)
    for name in METRICS:
        assert found.score(name).mean == pytest.approx(np.mean([sheet[name] for sheet in sheets]), rel=2e-5)
    pooled = np.sqrt(sum(s["squared"] for s in sheets) / sum(s["pixels"] for s in sheets))
    assert table.results[0].pooled_rmse.mean == pytest.approx(pooled, rel=2e-5)
    assert table.without_truth == ("wall1/1",)
    assert any("1 of 14 frames have no pixel that counts" in note for note in table.notes)


def test_models_are_compared_on_the_same_frames_paired_over_scenes() -> None:
    data = Dataset.whole(Walls())
    models = [Painted(scale=6.0, name="a"), Painted(scale=5.0, name="b")]
    found = evaluate(models, data, pictures=0)
    table = found.record.tables[0]
    assert [result.name for result in table.results] == ["a", "b", "mean map", "constant"]
    assert {(d.first, d.second) for d in table.differences} == {("b", "a"), ("a", "mean map"), ("b", "mean map")}
    gaps = np.array([frame.metrics["b"]["rmse"] - frame.metrics["a"]["rmse"] for frame in found.frames[0]])
    expected = scene_interval(gaps.reshape(7, 2).sum(1), np.full(7, 2.0))
    rmse = next(d for d in table.differences if (d.metric, d.first, d.second) == ("rmse", "b", "a"))
    assert rmse.estimate == pytest.approx(gaps.mean())
    assert rmse.interval == pytest.approx((expected.low, expected.high))
    assert rmse.p == pytest.approx(min(1.0, 2 * min(expected.p_above, expected.p_below)))
    # Holm over all nine tests: the k-th smallest of m p-values is multiplied by m − k + 1, and none falls below the one before.
    tested = sorted((d for d in table.differences if d.p is not None), key=lambda d: d.p)
    running = 0.0
    for rank, item in enumerate(tested):
        running = max(running, min(1.0, (len(tested) - rank) * item.p))
        assert item.p_holm == pytest.approx(running)
        assert (item.better != "") == (running < 0.05)
    assert len(tested) == 9


def test_a_clear_difference_names_the_better_one_and_the_same_model_twice_is_no_comparison() -> None:
    data = Dataset.whole(Walls(scenes=12))
    table = evaluate([Painted(scale=5.0), Painted(scale=40.0), Painted(scale=5.0)], data, pictures=0).record.tables[0]
    assert [r.name for r in table.results][:3] == ["metric-5", "metric-40", "metric-5 (2)"]
    for item in table.differences:
        if {item.first, item.second} == {"metric-5", "metric-40"}:
            assert item.better == "metric-5", item
        if {item.first, item.second} == {"metric-5", "metric-5 (2)"}:
            assert item.p is None and item.better == "" and item.estimate == pytest.approx(0, abs=1e-6)


def test_models_with_different_alignments_are_not_paired_and_baselines_are_aligned_as_they_are() -> None:
    models = [Painted(name="metres"), Painted("affine-depth", name="relative")]
    table = evaluate(models, Dataset.whole(Walls()), pictures=0).record.tables[0]
    assert [(r.name, r.alignment) for r in table.results] == [
        ("metres", "none"),
        ("relative", "scale-shift"),
        ("mean map", "none"),
        ("constant", "none"),
        ("mean map, scale-shift", "scale-shift"),
        ("constant, scale-shift", "scale-shift"),
    ]
    pairs = {(d.first, d.second) for d in table.differences}
    assert pairs == {("metres", "mean map"), ("relative", "mean map, scale-shift")}
    assert any("not paired" in note for note in table.notes)
    same = evaluate(models, Dataset.whole(Walls()), align="scale-shift", pictures=0).record.tables[0]
    assert ("relative", "metres") in {(d.first, d.second) for d in same.differences}


def test_the_mean_map_leaves_its_own_scene_out_or_is_made_of_other_frames() -> None:
    source = Walls(camera=None)
    found = evaluate(Painted(), Dataset.whole(source), protocol="native", pictures=0)
    assert "for each scene of all the others" in found.record.tables[0].baseline
    depth, valid = (
        torch.stack([getattr(source.read(i), n)[0] for i in range(14)]).double() for n in ("depth", "valid")
    )
    others = torch.arange(14) >= 2
    constant = found.frames[0][0].metrics["constant"]["mae"]
    own, mask = depth[0].numpy(), valid[0].numpy() > 0
    # The constant is the mean over cells, which is the mean over pixels up to how they fill the cells.
    mean = float((depth * valid)[others].sum() / valid[others].sum())
    assert constant == pytest.approx(np.abs(mean - own[mask]).mean(), rel=0.03)
    spoilt = Walls(camera=None)
    read = spoilt.read
    spoilt.read = lambda i: replace(read(i), depth=read(i).depth * (3 if i < 2 else 1))  # type: ignore[method-assign]
    again = evaluate(Painted(), Dataset.whole(spoilt), protocol="native", pictures=0)
    # What scene 0 holds does not change its own baseline, and changes that of the others.
    prediction = lambda e, i: e.frames[0][i].metrics["constant"]["rmse"]  # noqa: E731
    assert prediction(again, 4) != pytest.approx(prediction(found, 4))
    spoilt.official = {"train": range(0, 8), "test": range(8, 14)}
    official = evaluate(Painted(), Dataset.whole(spoilt), split="test", pictures=0).record.tables[0]
    assert "8 frames of 4 other scenes of this source" in official.baseline


def test_one_scene_has_no_baseline_no_interval_and_says_so() -> None:
    table = evaluate(Painted(), Dataset.whole(Walls(scenes=1)), pictures=0).record.tables[0]
    assert [r.name for r in table.results] == ["metric-6"] and table.differences == ()
    assert table.results[0].scores["rmse"].interval is None
    assert any("No intervals" in note for note in table.notes) and any("No mean map" in note for note in table.notes)


def test_intervals_come_from_scenes_and_a_fraction_has_that_of_its_complement() -> None:
    found = evaluate(Painted(), Dataset.whole(Walls()), pictures=0)
    for name in METRICS:
        score = found.score(name)
        assert score.interval[0] <= score.mean <= score.interval[1]
    bad = np.array([1 - frame.metrics["metric-6"]["delta1"] for frame in found.frames[0]]).reshape(7, 2).sum(1)
    expected = loss_interval(bad, np.full(7, 2.0))
    assert found.score("delta1").interval == pytest.approx((max(0.0, 1 - expected.high), 1 - expected.low))


def test_flip_averages_with_the_mirrored_image_and_its_mirrored_camera() -> None:
    model = Painted()
    plain = evaluate(model, Dataset.whole(Walls()), pictures=0)
    model.seen.clear()
    both = evaluate(model, Dataset.whole(Walls()), flip=True, batch_size=14, pictures=0)
    # The painted model sees each pixel alone, so that the mirror changes nothing but the camera it is given.
    assert both.score("rmse").mean == pytest.approx(plain.score("rmse").mean, rel=1e-6)
    assert model.seen[0] == CAMERA and model.seen[-1] == CAMERA.flipped(W)


def test_pixels_that_the_model_leaves_out_have_the_nearest_prediction() -> None:
    source, model = Walls(), Painted(hole=True)
    found = evaluate(model, Dataset.whole(source), protocol="native", pictures=0)
    sample = source.read(0)
    p = raw(model, sample)
    p[:, :2] = p[:, 2:3]
    expected = reference(p, sample, PROTOCOLS["native"])
    assert found.frames[0][0].metrics[model.name]["rmse"] == pytest.approx(expected["rmse"], rel=1e-4)
    result = found.record.tables[0].results[0]
    assert result.missing == pytest.approx(2 / W)
    assert any("3.6% of the predicted pixels are not finite" in note for note in found.record.tables[0].notes)


def test_any_module_can_be_measured() -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1 + 4 * x.mean(1, keepdim=True)

    found = evaluate(Net(), Dataset.whole(Walls()), kind="metric", pictures=0)
    with pytest.raises(UsageError, match="does not say which kind of depth"):
        evaluate(Net(), Dataset.whole(Walls()))
    same = evaluate(Painted(scale=4.0, shift=1.0), Dataset.whole(Walls()), pictures=0)
    assert found.score("abs_rel").mean == pytest.approx(same.score("abs_rel").mean, rel=1e-5)


def test_more_groups_of_metrics_and_what_the_data_lack_is_said() -> None:
    groups = ("boundaries", "points", "normals", "ordinal", "edges")
    table = evaluate(Painted(), Dataset.whole(Walls()), metrics=groups, pictures=0).record.tables[0]
    for name in ("boundary_f1", "points_f5cm", "ordinal", "edge_error"):
        assert name in table.results[0].scores, name
    assert "dbe_accuracy" not in table.metrics
    assert any("group 'edges'" in note and "annotated edges" in note for note in table.notes)
    bare = evaluate(Painted(), Dataset.whole(Walls(camera=None)), metrics=["points"], pictures=0).record.tables[0]
    assert any("group 'points': they need a camera" in note for note in bare.notes)


def test_the_official_test_part_is_measured_unless_told_otherwise() -> None:
    source = Walls(official={"train": [0, 1, 2, 3], "test": [10, 11, 12, 13]})
    model = Painted(scenes=("wall0", "wall6"))
    part, sentence = choose_frames(Dataset.whole(source), [model])
    assert part.ids == ("wall5/0", "wall5/1", "wall6/0", "wall6/1")
    assert "test part, 4 of 14" in sentence and "2 of them are of scenes that metric-6 was trained on" in sentence
    with pytest.raises(UsageError, match="has no 'val' part"):
        choose_frames(Dataset.whole(source), [model], "val")


def test_scenes_that_any_model_was_trained_on_are_left_out_or_marked() -> None:
    data = Dataset.whole(Walls())
    assert "the model was trained on none of their 7 scenes" in choose_frames(data, [Painted()])[1]
    assert "no model was trained on any of their 7 scenes" in choose_frames(data, [Painted(), Painted()])[1]
    assert "the model was trained on none of their scenes" in choose_frames(data, [Painted()], "all")[1]
    models = [Painted(name="a", scenes=("wall0",)), Painted(name="b", scenes=("wall1", "wall2"))]
    part, sentence = choose_frames(data, models)
    assert part.scenes == ("wall3", "wall4", "wall5", "wall6")
    assert "none was trained on" in sentence
    table = evaluate(models, data, split="all", pictures=0).record.tables[0]
    assert [r.seen_scenes for r in table.results] == [1, 2, 0, 0]
    assert "too good for new scenes" in table.notes[0]
    everything = [Painted(scenes=data.scenes)]
    with pytest.raises(DataError, match="nothing here is a fair test; name other data"):
        choose_frames(data, everything)


def test_the_same_data_are_told_from_scenes_of_the_same_name() -> None:
    from fathom.depth_models.opening import open_depth_model
    from fathom.training.frames.holdout import divide

    recipe = load_recipe("tiny-plain_cnn")
    data = Dataset.whole(Walls(scenes=30))
    parts = divide(data, recipe.validation.scenes, recipe.validation.frames, seed=recipe.train.seed)
    seen = trained(scenes=parts.train.scenes)
    seen = replace(seen, info={"train_fingerprint": parts.train.fingerprint()})
    part, sentence = choose_frames(data, [open_depth_model(seen)])
    assert "these very data" in sentence
    assert set(part.scenes) == set(parts.unseen.scenes)
    _, sentence = choose_frames(Dataset.whole(Walls(scenes=8)), [open_depth_model(seen)])
    assert "scenes of these names" in sentence


def test_what_cannot_be_measured_is_refused_before_anything_is_read() -> None:
    unread = Dataset.whole(Walls(broken=range(14)))
    with pytest.raises(CheckpointError, match="predicts images and no depth"):
        evaluate(trained("tiny-autoencoder"), unread)
    with pytest.raises(UsageError, match="'none' means nothing for a prediction of kind 'affine-disparity'"):
        evaluate(Painted("affine-disparity"), unread, align="none")
    for option, value, known in (
        ("protocol", "nyu-eigex", "nyu-eigen"),
        ("align", "scale-shifx", "scale-shift"),
        ("metrics", ["normalx"], "normals"),
    ):
        with pytest.raises(UsageError, match=f"did you mean '{known}'"):
            evaluate(Painted(), unread, **{option: value})
    with pytest.raises(UsageError, match="at least one model"):
        evaluate([], unread)


def test_a_broken_frame_ends_it_or_is_left_out() -> None:
    data = Dataset.whole(Walls(broken=[2, 9]))
    with pytest.raises(DataError, match=r"wall-2\.png"):
        evaluate(Painted(), data)
    found = evaluate(Painted(), data, skip_bad=True, pictures=0)
    assert [item.id for item in found.record.tables[0].left_out] == ["wall1/0", "wall4/1"]
    assert len(found.frames[0]) == 12
    with pytest.raises(DataError, match="none of the 14 frames"):
        evaluate(Painted(), Dataset.whole(Walls(broken=range(14))), skip_bad=True)
    with pytest.raises(DataError, match="no pixel of 14 frames counts"):
        evaluate(Painted(), Dataset.whole(Walls(empty=range(14))))


def test_the_saved_files_hold_the_numbers_and_read_back(tmp_path: Path) -> None:
    found = evaluate([Painted(), Painted(scale=3.0)], [Dataset.whole(Walls(empty=[3])), Dataset.whole(Walls(scenes=5))], metrics=["boundaries"])  # fmt: skip
    found.save(tmp_path)
    assert Evaluation.load(tmp_path).record == found.record
    with (tmp_path / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (14 + 10) * 4
    for row, (frame, name) in zip(rows, [(f, r.name) for t, fs in zip(found.record.tables, found.frames, strict=True) for f in fs for r in t.results], strict=True):  # fmt: skip
        assert (row["id"], row["model"], int(row["pixels"])) == (frame.id, name, frame.pixels)
        value = frame.metrics.get(name, {}).get("rmse", math.nan)
        assert row["rmse"] == "" if math.isnan(value) else float(row["rmse"]) == value
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["schema_version"] == 2 and len(record["tables"]) == 2
    assert record["tables"][0]["results"][0]["scores"]["rmse"]["mean"] == found.score("rmse").mean
    bands = record["tables"][0]["results"][0]["by_depth"]
    assert sum(band["pixels"] for band in bands) == record["tables"][0]["pixels"]


@pytest.mark.parametrize("flip", [False, True])
def test_a_model_that_takes_a_prompt_gets_the_depth_and_is_marked(flip: bool) -> None:
    data = Dataset.whole(Walls(empty=[3]))
    model = Prompted(name="lidar")
    found = evaluate([model, Painted(name="eyes")], data, protocol="native", flip=flip, pictures=1)
    table = found.record.tables[0]
    result = table.result("lidar")
    assert result.prompted and not table.result("eyes").prompted
    assert result.scores["abs_rel"].mean == pytest.approx(
        1.0, abs=1e-6
    )  # the prompt was that frame's, mirrored with it
    assert len(model.seen) == (13 + 2) * (1 + flip)  # every frame with depth, and two shown
    assert {(d.first, d.second) for d in table.differences} == {("eyes", "mean map")}
    assert any("lidar was given each frame's depth as its prompt" in note for note in table.notes)
    said = compare([found], ["run"], against="eyes").notes
    assert "lidar was given the measured depth as its prompt: not paired with eyes." in said


def test_frames_and_pictures_read_back_as_they_were(tmp_path: Path) -> None:
    found = evaluate(
        [Painted(), Painted(scale=3.0)],
        [Dataset.whole(Walls(empty=[3])), Dataset.whole(Walls(scenes=5))],
        metrics=["boundaries"],
        pictures=1,
    )
    found.save(tmp_path)
    again = Evaluation.load(tmp_path, frames=True)
    assert Evaluation.load(tmp_path).frames == () and len(again.shown) == len(found.shown) == 4
    for own, other in zip(found.frames, again.frames, strict=True):
        for one, two in zip(own, other, strict=True):
            assert (one.id, one.scene, one.pixels, one.metrics.keys()) == (
                two.id,
                two.scene,
                two.pixels,
                two.metrics.keys(),
            )
            for name, values in one.metrics.items():
                assert values == pytest.approx(dict(two.metrics[name]), abs=0, nan_ok=True)
    assert page(again) == page(found)


def resealed(folder: Path, file: str) -> None:
    """Let `evaluation.json` name the checksum that `file` has now."""
    record = json.loads((folder / "evaluation.json").read_bytes())
    del record["checksum"]
    record["sha256"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    write_json(folder / "evaluation.json", record, checksum=True)


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("per_image.csv", lambda text: text.replace(b"mean map", b"middle"), "lacks a row of mean map"),
        ("per_image.csv", lambda text: text + text.splitlines()[1] + b"\n", "more frames than its evaluation"),
        ("per_image.csv", lambda text: b"\n".join(text.splitlines()[:-1]), "lacks a row of"),
        ("per_image.csv", lambda text: text.replace(b"0.", b"zero", 1), "something else than numbers"),
        ("per_image.csv", lambda text: b"id,model\n", "no table of frames"),
        ("pictures.npz", lambda text: text[: len(text) // 2], "pictures"),
        ("pictures.npz", lambda text: b"PK", "is not the pictures of an evaluation"),
    ],
)
def test_files_that_do_not_belong_to_an_evaluation_are_refused(
    tmp_path: Path, file: str, damage: Callable[[bytes], bytes], said: str
) -> None:
    evaluate(Painted(), Dataset.whole(Walls()), pictures=1).save(tmp_path)
    (tmp_path / file).write_bytes(damage((tmp_path / file).read_bytes()))
    with pytest.raises(DataError, match=f"{file}: is damaged or belongs to another evaluation"):
        Evaluation.load(tmp_path, frames=True)
    resealed(tmp_path, file)
    with pytest.raises(DataError, match=said) as error:
        Evaluation.load(tmp_path, frames=True)
    assert file in str(error.value) and "\n" not in str(error.value)


def test_pictures_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    evaluate(Painted(), Dataset.whole(Walls()), pictures=1).save(tmp_path)
    evaluate(Painted(scale=2.0), Dataset.whole(Walls(scenes=9)), pictures=3).save(tmp_path / "other")
    (tmp_path / "pictures.npz").write_bytes((tmp_path / "other" / "pictures.npz").read_bytes())
    resealed(tmp_path, "pictures.npz")
    with pytest.raises(DataError, match="something else for frame"):
        Evaluation.load(tmp_path, frames=True)
    evaluate(Painted(), Dataset.whole(Walls()), pictures=0).save(tmp_path)
    assert Evaluation.load(tmp_path, frames=True).shown == ()


def test_a_file_that_is_no_evaluation_is_one_sentence(tmp_path: Path) -> None:
    for content in ("{", "{}", '{"schema_version": 1}'):
        (tmp_path / "evaluation.json").write_text(content)
        with pytest.raises(DataError, match=r"evaluation\.json") as error:
            Evaluation.load(tmp_path)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="does not exist"):
        Evaluation.load(tmp_path / "nowhere")


def test_the_best_and_worst_frames_are_shown_as_they_were_compared() -> None:
    found = evaluate(Painted(), Dataset.whole(Walls()), protocol=CROP, pictures=2)
    order = sorted(found.frames[0], key=lambda frame: frame.metrics["metric-6"]["abs_rel"])
    assert [shown.scores.id for shown in found.shown] == [f.id for f in (*order[:2], *order[-2:])]
    assert [shown.place for shown in found.shown] == ["best 1", "best 2", "worst 2", "worst 1"]
    for shown in found.shown:
        assert int(shown.valid.sum()) == shown.scores.pixels
        gap = ((shown.predictions["metric-6"] - shown.depth[0]).abs() / shown.depth[0])[shown.valid[0]]
        assert float(gap.mean()) == pytest.approx(shown.scores.metrics["metric-6"]["abs_rel"], rel=1e-5)


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


def test_ibims_is_measured_against_its_annotated_edges(tmp_path: Path) -> None:
    from PIL import Image

    from fathom.data.sources import load
    from fathom.metrics.annotated_edges import depth_boundary_errors

    root, generator = tmp_path / "ibims1_core_raw", np.random.default_rng(0)
    for name in ("rgb", "depth", "calib", "edges", "mask_invalid", "mask_transp"):
        (root / name).mkdir(parents=True)
    for index in range(6):
        image, depth = generator.integers(0, 60, (H, W, 3), np.uint8), np.full((H, W), 4000, np.uint16)
        image[8:30, 10:40], depth[8:30, 10:40] = image[8:30, 10:40] + 150, 2000 + 100 * index
        edges = np.zeros((H, W), np.uint8)
        edges[8:30, [12, 37]] = 255
        for folder, values in (("rgb", image), ("depth", depth), ("edges", edges), ("mask_invalid", np.full((H, W), 255, np.uint8))):  # fmt: skip
            Image.fromarray(values).save(root / folder / f"room{index}.png")
        (root / "calib" / f"room{index}.txt").write_text("50 50 28 20")
    (root / "imagelist.txt").write_text("\n".join(f"room{index}" for index in range(6)))
    data, model = load(f"ibims:{root}"), Painted(scale=-4.0, shift=4.0)
    table = evaluate(model, data, pictures=0)
    assert table.record.tables[0].protocol.name == "ibims"
    for index, frame in enumerate(table.frames[0]):
        prediction = torch.from_numpy(np.clip(raw(model, data[index]), 1e-3, 50)).float()
        edges = torch.zeros(H, W, dtype=torch.bool)
        edges[8:30, [12, 37]] = True
        expected = depth_boundary_errors(prediction, edges)
        assert 1 < expected["dbe_accuracy"] < 5
        found = frame.metrics[model.name]
        assert {name: found[name] for name in expected} == pytest.approx(expected)
