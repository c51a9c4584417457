"""Saved probes give the numbers of the evidence that they were saved with, and damaged files are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.data.transforms import fit
from fathom.encoders.baselines import open_baseline
from fathom.encoders.module import ModuleEncoder
from fathom.errors import DataError, FathomError, UsageError
from fathom.features import feature
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.probe import probe
from fathom.probing.saved.probes import SavedProbes, load_probes
from tests.data.files import pairs
from tests.mutations import seal_json

GRID, SIZE = (3, 4), (24, 32)


class Net(nn.Module):
    """A layer on the probe's grid, and one coarser than it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine, self.coarse = nn.Conv2d(3, 5, 8, 8), nn.Conv2d(5, 4, 2, 2, padding=(1, 0))

    def forward(self, image: Tensor) -> Tensor:
        return self.coarse(self.fine(image))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path, Dataset]:
    root = pairs(tmp_path_factory.mktemp("pairs"), scenes=12, views=2, planted=True)
    train, test = load(f"{root}?depth-scale=1000").split(0.4)
    encoder = ModuleEncoder("module:net", Net(), ("fine", "coarse"), None, SIZE)
    features = ["depth", "log_depth", "luminance"]
    evidence = probe(encoder, features, train, test, size=SIZE, grid=GRID, pictures=0, controls=1, label_curve=False)
    out = tmp_path_factory.mktemp("run")
    evidence.save(out)
    return evidence, out, test


def test_the_numbers_of_the_evidence_come_back(run: tuple[Evidence, Path, Dataset]) -> None:
    evidence, out, test = run
    probes = load_probes(out)
    assert (probes.size, probes.grid) == (SIZE, GRID) and not set(probes.train_scenes) & set(test.scenes)
    frames = [fit(sample, SIZE) for sample in test]
    images = torch.stack([frame.float_image() for frame in frames])
    encoders = {"module:net": ModuleEncoder("module:net", Net(), ("fine", "coarse"), None, SIZE)}
    for name in ("constant", "position", "pixels+position", "patch"):
        baseline = open_baseline(name)
        assert baseline is not None
        encoders[name] = baseline.on_grid(GRID)  # type: ignore[assignment]
    checked = set()
    for name, encoder in encoders.items():
        maps = encoder.encode(images)
        for saved in (item for item in probes.probes if item.encoder == name):
            made = [feature(saved.feature).of(frame, GRID) for frame in frames]
            Y, valid = torch.stack([part[0] for part in made]), torch.stack([part[1] for part in made])
            error = (saved.predict(maps, GRID) - Y).square()[valid].double().mean()
            row = evidence.row(name, saved.feature, saved.layer)
            assert float(error) == pytest.approx(row.test_mse, rel=1e-5) and saved.chosen == row.chosen
            assert saved.penalty == pytest.approx(row.penalty)
            checked.add((name, saved.layer))
    assert {("module:net", layer) for layer in ("fine", "coarse", "all", "banded")} <= checked and len(checked) == 8


def test_probes_are_found_by_encoder_feature_and_layer(run: tuple[Evidence, Path, Dataset]) -> None:
    probes = load_probes(run[1])
    assert probes.find().encoder == "module:net" and probes.find().chosen
    assert probes.find("pixels", "luminance").layer == "baseline"
    assert probes.find("module:net", "depth", "coarse").layers[0].shape == (4, 2, 2)
    with pytest.raises(UsageError, match=r"No probe of encoder 'pixel' .*did you mean 'pixels'"):
        probes.find("pixel")
    with pytest.raises(UsageError, match=r"No probe of 'normals' was fitted"):
        probes.find(feature="normals")
    with pytest.raises(UsageError, match=r"no probe at layer 'corse'.*did you mean 'coarse'"):
        probes.find("module:net", layer="corse")


def test_predictions_stay_in_the_range_of_the_training_targets(run: tuple[Evidence, Path, Dataset]) -> None:
    saved = load_probes(run[1]).find("pixels")
    far = {"baseline": torch.full((1, 3, *GRID), 1e6)}
    values = saved.predict(far, GRID)
    assert bool((values >= saved.low.float() - 1e-6).all() and (values <= saved.high.float() + 1e-6).all())


def test_maps_of_another_shape_are_refused(run: tuple[Evidence, Path, Dataset]) -> None:
    saved = load_probes(run[1]).find("module:net", layer="fine")
    with pytest.raises(FathomError, match=r"reads layer 'fine' with shape \(5, 3, 4\).*has shape \(5, 6, 8\)"):
        saved.predict({"fine": torch.zeros(1, 5, 6, 8)}, GRID)
    with pytest.raises(FathomError, match="here it is missing"):
        saved.predict({}, GRID)


def flip(out: Path) -> None:
    content = bytearray((out / "probes.safetensors").read_bytes())
    content[-3] ^= 1
    (out / "probes.safetensors").write_bytes(content)


def swap_version(out: Path) -> None:
    record = json.loads((out / "probes.json").read_text())
    (out / "probes.json").write_text(json.dumps(record | {"schema_version": 99}))


def widen(out: Path) -> None:
    record = json.loads((out / "probes.json").read_text())
    record["probes"][-1]["layers"].append({"name": "x", "shape": [7, 1, 1]})
    (out / "probes.json").write_text(json.dumps(record))
    seal_json(out / "probes.json")


def garble(out: Path) -> None:
    (out / "probes.json").write_text('{"schema_version": "one"}')


def remove(out: Path) -> None:
    (out / "probes.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip, "is torn, altered, or of another run"),
        (swap_version, "has schema_version 99"),
        (widen, "does not fit probes.json"),
        (garble, "has schema_version one"),
        (remove, "does not exist"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(
    run: tuple[Evidence, Path, Dataset], tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    probes = run[0].probes
    assert isinstance(probes, SavedProbes)
    replace(probes, probes=probes.probes[:3]).save(tmp_path)
    assert len(load_probes(tmp_path).probes) == 3
    damage(tmp_path)
    with pytest.raises(DataError, match=words):
        load_probes(tmp_path)
