"""What a run holds its encoders against: random and permuted weights, the upper bound, few labels; and the verdict from it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.data.transforms import fit
from fathom.depth_models.predict import predict
from fathom.encoders.module import ModuleEncoder
from fathom.errors import FathomError, UsageError
from fathom.models.saved import Trained
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.verdict.cases import cases
from fathom.probing.evidence.verdict.findings import LEVEL, weigh_all
from fathom.probing.probe import probe
from fathom.training.recipe import load_recipe
from fathom.training.session import build_network

GRID, SIZE = (3, 4), (24, 32)
QUICK: Any = {"size": SIZE, "grid": GRID, "pictures": 0, "label_curve": False}


def striped(root: Path, scenes: int = 30) -> Path:
    """Pairs whose depth is the strength of upright stripes in each cell, in the dark about which are its mean and level stripes.

    No average over cells knows it, so no baseline does.
    """
    rng = np.random.default_rng(3)
    across, down = (-1.0) ** np.arange(32), (-1.0) ** np.arange(24)[:, None]
    for scene in range(scenes):
        mean, upright, level = (
            rng.uniform(low, high, GRID).repeat(8, 0).repeat(8, 1) for low, high in ((80, 175), (5, 20), (5, 60))
        )
        image = (mean + upright * across + level * down)[..., None].repeat(3, -1)
        depth = 1000 + 200 * upright + rng.normal(0, 400, GRID).repeat(8, 0).repeat(8, 1)
        for folder, array in (("rgb", image.astype(np.uint8)), ("depth", depth.clip(1).astype(np.uint16))):
            path = root / folder / f"scene{scene}" / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(array).save(path)
    return root


class Net(nn.Module):
    """Two layers: rectified differences of neighbours across, and their sum over a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Sequential(nn.Conv2d(3, 1, 2, 2), nn.ReLU()), nn.Conv2d(1, 2, 4, 4)
        with torch.no_grad():
            self.first[0].weight[:] = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
            self.first[0].bias.zero_()
            self.second.weight.fill_(1 / 16)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.first(image))


def encoder() -> ModuleEncoder:
    return ModuleEncoder("module:net", Net(), ("first", "second"), None, SIZE)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    root = striped(tmp_path_factory.mktemp("pairs"))
    return load(f"{root}?depth-scale=1000").split(0.4, seed=1)


@pytest.fixture(scope="module")
def found(parts: tuple[Dataset, Dataset]) -> Evidence:
    return probe(encoder(), ["depth", "luminance"], *parts, **QUICK | {"label_curve": True})


def supervised(scenes: tuple[str, ...] = ()) -> Trained:
    recipe = load_recipe("tiny-plain_cnn", ["data.size=24x32", "model.filters=[4,4,4,4,4,4,4]"])
    return Trained(build_network(recipe).eval(), recipe.model.name, recipe.table(), SIZE, scenes, {}, Path("net"))


def test_each_encoder_meets_its_own_architecture_without_what_it_learned(found: Evidence) -> None:
    roles = {(row.role, row.of, row.seed) for row in found.rows}
    assert {("random", "module:net", 0), ("random", "module:net", 4), ("permuted", "module:net", 0)} <= roles
    losses = {row.seed: row.test_mse for row in found.rows if row.role == "random" and row.chosen}
    assert len(set(losses.values())) == 5


def test_what_was_planted_is_called_implicit(found: Evidence) -> None:
    verdict = next(item for item in found.verdicts if item.feature == "depth")
    # Alone it is implicit; with luminance, which pixels know too, Holm's correction doubles its p-value.
    assert verdict.p_implicit_alone <= LEVEL, verdict.sentence
    assert verdict.p_implicit == pytest.approx(2 * verdict.p_implicit_alone)
    assert {gain.baseline for gain in verdict.gains} >= {
        "pixels",
        "mean-map",
        "random:module:net",
        "permuted:module:net",
    }
    assert next(gain.seeds for gain in verdict.gains if gain.baseline == "random:module:net") == 5
    assert verdict.gap_closed is None


def test_an_untrained_encoder_is_not_called_implicit(parts: tuple[Dataset, Dataset]) -> None:
    torch.manual_seed(0)
    untrained = ModuleEncoder("module:fresh", nn.Sequential(nn.Conv2d(3, 2, 8, 8)), ("0",), None, SIZE)
    evidence = probe(untrained, "depth", *parts, **QUICK)
    assert evidence.verdict in ("inconclusive", "absent")


def test_table_shows_seeds_in_one_line(found: Evidence) -> None:
    table = found.table("depth")
    assert sum("random net" in str(cell) for cell in table.columns[0].cells) == 1
    assert any("5 seeds:" in str(cell) for cell in table.columns[5].cells)


def test_banded_concatenation_has_a_penalty_for_each_layer(found: Evidence) -> None:
    row = found.row("module:net", "depth", "banded")
    assert row.bands is not None and set(row.bands) == {"first", "second"} and row.channels == 3
    assert row.cv_mse <= found.row("module:net", "depth", "all").cv_mse * (1 + 1e-9)


def test_label_curve_ends_at_the_loss_of_the_run(found: Evidence) -> None:
    curves = {(curve.encoder, curve.feature): curve for curve in found.label_curves}
    for name in ("module:net", "pixels", "position"):
        curve = curves[name, "depth"]
        row = found.row(name, "depth", curve.layer)
        assert curve.mse[-1] == pytest.approx(row.test_mse, rel=1e-6) and curve.scenes[-1] == 18
        assert list(curve.scenes) == sorted(curve.scenes) and len(curve.scenes) > 3
    mine = curves["module:net", "depth"]
    assert mine.mse[0] > mine.mse[-1] and mine.scenes_to_beat_baselines is not None


def test_bits_say_what_the_losses_say(found: Evidence) -> None:
    entry = next(item for item in found.information if (item.encoder, item.feature) == ("module:net", "depth"))
    row = found.row("module:net", "depth")
    assert entry.r2.estimate == pytest.approx(row.r2)
    assert entry.v_information.estimate == pytest.approx(-0.5 * np.log2(1 - row.r2))
    assert entry.beyond.low > 0 and entry.code.saved_per_cell > 0
    json.dumps(found.to_json(), allow_nan=False)


def test_upper_bound_is_measured_as_the_network_predicts(parts: tuple[Dataset, Dataset]) -> None:
    train, test = parts
    network = supervised()
    evidence = probe([], ["depth", "luminance"], train, test, **QUICK, upper_bound=network)
    row = next(row for row in evidence.rows if row.role == "upper_bound")
    total, cells = 0.0, 0
    for sample in test:
        depth = torch.from_numpy(predict(network, sample.image).depth)[None, None]
        truth = fit(sample, SIZE).depth[None]
        difference = nn.functional.adaptive_avg_pool2d(depth - truth, GRID)
        total, cells = total + float(difference.double().square().sum()), cells + difference.numel()
    assert row.test_mse == pytest.approx(total / cells, rel=1e-4)
    assert [item.feature for item in evidence.rows if item.role == "upper_bound"] == ["depth"]
    assert any("does not give luminance" in text for text in evidence.notes)


def test_share_of_the_gap_refers_to_the_upper_bound_if_it_beats_the_baseline(parts: tuple[Dataset, Dataset]) -> None:
    network = supervised()
    evidence = probe(encoder(), "depth", *parts, **QUICK, controls=1, upper_bound=network)
    upper_bound = next(row for row in evidence.rows if row.role == "upper_bound")
    assert (
        upper_bound.test_mse > evidence.verdicts[0].baseline_mse and evidence.gap_closed is None
    )  # untrained: no gap, no share
    rows = [
        row if row.role != "upper_bound" else replace(row, errors=tuple(e / 1e3 for e in row.errors))
        for row in evidence.rows
    ]
    case = cases(rows, lambda row: None)[0]
    share = weigh_all([case])[0].gap_closed
    best = evidence.verdicts[0].baseline_mse
    expected = (best - evidence.verdicts[0].encoder_mse) / (best - upper_bound.test_mse / 1e3)
    assert share is not None and share.estimate == pytest.approx(expected)


def test_upper_bound_that_saw_test_scenes_is_refused(parts: tuple[Dataset, Dataset]) -> None:
    train, test = parts
    with pytest.raises(UsageError, match=r"upper bound was trained on 1 of 12 test scenes \(such as 'scene"):
        probe([], "depth", train, test, size=SIZE, grid=GRID, upper_bound=supervised((*train.scenes, test.scenes[0])))


def test_supervised_encoder_that_saw_test_scenes_is_refused(parts: tuple[Dataset, Dataset]) -> None:
    from fathom.encoders.checkpoint import CheckpointEncoder

    train, test = parts
    seen = CheckpointEncoder("checkpoint:net", supervised().model, (), (test.scenes[0],))
    with pytest.raises(UsageError, match="Encoder checkpoint:net was trained on 1 of 12 test scenes"):
        probe(seen, "depth", train, test, size=SIZE, grid=GRID)
    fair = CheckpointEncoder("checkpoint:net", supervised().model, (), train.scenes)
    evidence = probe(fair, "depth", train, test, **QUICK, controls=0)
    assert any("no evidence of implicit learning" in text for text in evidence.notes)


def test_heads_stand_in_the_same_table(parts: tuple[Dataset, Dataset]) -> None:
    evidence = probe(encoder(), "depth", *parts, **QUICK, controls=0, heads=["mlp"])
    row = next(row for row in evidence.rows if row.layer.startswith("mlp"))
    assert row.parameters is not None and row.parameters > 100 and np.isfinite(row.test_mse)


class Other(nn.Module):
    """Another network, wider than `Net`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 40, 8, 8)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)


def other() -> ModuleEncoder:
    torch.manual_seed(5)
    return ModuleEncoder("module:other", Other(), ("layer",), None, SIZE)


def test_company_changes_nothing(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    few = {"baselines": ("constant", "pixels"), "label_curve": True}

    def found(*encoders: ModuleEncoder, cache: str | None = None) -> tuple[dict[object, object], dict[object, object]]:
        evidence = probe(encoders, "depth", *parts, **QUICK | few, controls=1, cache=cache)
        rows = {(row.encoder, row.seed, row.layer): row for row in evidence.rows}
        chosen = {key: (row.penalty, row.chosen, row.bands) for key, row in rows.items()}
        numbers: dict[object, object] = {key: [row.cv_mse, row.test_mse, *row.errors] for key, row in rows.items()}
        numbers |= {item.encoder: [item.p_implicit_alone, item.p_absent_alone] for item in evidence.verdicts}
        return chosen, numbers | {("curve", item.encoder): list(item.mse) for item in evidence.label_curves}

    alone, numbers = found(encoder())
    cache = str(tmp_path / "cache")
    # The first of these fills the cache, the second reads it.
    for chosen, others in (found(other(), encoder(), cache=cache), found(encoder(), cache=cache)):
        assert {key: chosen[key] for key in alone} == alone
        for key, expected in numbers.items():
            # Kernels may order float32 sums by where memory lies: the eighth digit.
            assert others[key] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), key


def test_training_frames_under_another_name_withhold_the_verdict(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for scene in range(14):
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8).repeat(6, 0).repeat(8, 1)
        for folder, array in (("rgb", image), ("depth", rng.integers(500, 5000, (96, 128)).astype(np.uint16))):
            (tmp_path / folder / f"scene{scene}").mkdir(parents=True)
            Image.fromarray(array).save(tmp_path / folder / f"scene{scene}" / "0.png")
            shutil.copytree(tmp_path / folder / f"scene{scene}", tmp_path / folder / f"copy{scene}")
    data = load(f"{tmp_path}?depth-scale=1000")
    first = [i for i, scene in enumerate(data.frame_scenes) if scene.startswith("scene")]
    second = [i for i, scene in enumerate(data.frame_scenes) if scene.startswith("copy")]
    options = QUICK | {"controls": 0, "cache": str(tmp_path / "cache")}
    evidence = probe(encoder(), "depth", data.subset(first), data.subset(second), **options)
    assert evidence.verdict == "withheld"
    assert "14 of 14 test scenes have near-duplicates" in evidence.verdicts[0].sentence
    assert "--split" in evidence.verdicts[0].sentence
    again = probe(encoder(), "depth", data.subset(first), data.subset(second), **options)  # moments from the cache
    assert again.verdicts == evidence.verdicts


def test_frames_taken_for_scenes_withhold_the_verdict(tmp_path: Path) -> None:
    root = striped(tmp_path, scenes=24)
    for folder in ("rgb", "depth"):
        for scene in range(24):
            (root / folder / f"scene{scene}" / "0.png").rename(root / folder / f"{scene:03d}.png")
            (root / folder / f"scene{scene}").rmdir()
    options = QUICK | {"controls": 0}
    guessed = probe(encoder(), "depth", *load(f"{root}?depth-scale=1000").split(0.5), **options)
    assert guessed.verdict == "withheld" and "scene=REGEX" in guessed.verdicts[0].sentence
    said = probe(encoder(), "depth", *load(f"{root}?depth-scale=1000&scene=frame").split(0.5), **options)
    assert said.verdict != "withheld"


class Wavering(nn.Module):
    """Gives other features each time it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Conv2d(3, 2, 8, 8), 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(image * (1 + self.calls % 7))


def test_training_losses_are_computed_again_and_compared(parts: tuple[Dataset, Dataset], found: Evidence) -> None:
    check = found.training_loss_check
    assert check is not None and check.frames >= 1 and check.largest_difference < 1e-3
    torch.manual_seed(0)
    wavering = ModuleEncoder("module:wavering", Wavering(), ("layer",), None, SIZE)
    with pytest.raises(FathomError, match=r"module:wavering, layer .* training loss"):
        probe(wavering, "depth", *parts, **QUICK, controls=0, batch_size=2)


class Faint(nn.Module):
    """Many channels of one pattern, with what matters at a few millionths of it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        generator = torch.Generator().manual_seed(1)
        self.mix = nn.Parameter(torch.randn(2, 200, generator=generator))
        self.layer = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        strong = nn.functional.avg_pool2d(image[:, :1], 8)
        faint = self.net(image)[:, :1]
        both = torch.cat([strong / 0.2, 3e-6 * (faint / 0.03)], 1)
        return self.layer(torch.einsum("bchw,cp->bphw", both, self.mix))


def test_products_in_float64_where_rounding_would_hide_the_signal(parts: tuple[Dataset, Dataset]) -> None:
    faint = ModuleEncoder("module:faint", Faint(), ("layer",), None, SIZE)
    evidence = probe([faint, encoder()], "depth", *parts, **QUICK, controls=0)
    row, plain = evidence.row("module:faint"), evidence.row("module:net", layer="second")
    assert row.penalties_left_out == 0
    assert row.test_mse < 1.2 * plain.test_mse


def test_a_probe_reports_how_often_it_is_clipped(found: Evidence) -> None:
    for row in found.rows:
        assert (row.clipped is None) == (row.encoder == "mean-map")
        assert row.clipped is None or 0 <= row.clipped < 0.2
