"""The code of docs/extending.md, run as it stands there: each file, and its one line in the registry."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import fathom
from fathom.data.sources import SOURCES, Kind, _any, load
from fathom.depth_models.opening import DEPTH_MODELS
from fathom.encoders import ENCODERS, open_encoder
from fathom.errors import DataError, UsageError
from fathom.features import FEATURES, Feature
from fathom.metrics.groups import GROUPS, Compared, Group, Metric, measured
from fathom.metrics.protocols import PROTOCOLS, Protocol
from fathom.models import MODELS, build
from fathom.report.images.training import draw_examples
from fathom.report.probe.page import CHARTS, page
from fathom.training.losses import LOSSES, WeightedSum
from fathom.training.recipe.recipe import from_table
from fathom.training.scoring.targets import TARGETS, Predicted, target_of
from fathom.training.train import train
from tests.data.files import pairs
from tests.report.material import NET, evidence

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = dict(re.findall(r"```python\n# (in \w+|\S+)[^\n]*\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
"""Code by what its first line names: a file, or ``in REGISTRY``."""


def module(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's file as a module of its name."""
    name = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
    made = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(BLOCKS[path], path, "exec", dont_inherit=True), made.__dict__)
    return made


def entry(registry: str, **names: Any) -> Any:
    """The page's line for a registry: a dict of one entry, or the value itself."""
    line = BLOCKS[f"in {registry}"].strip().rstrip(",")
    return eval(f"{{{line}}}" if line.startswith('"') else line, names)


def test_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module("src/fathom/data/npz.py", monkeypatch)
    for name, kind in entry("SOURCES", Kind=Kind, _any=_any).items():
        monkeypatch.setitem(SOURCES, name, kind)
    for scene in ("a", "b"):
        (tmp_path / scene).mkdir()
        for frame in range(4):
            image = np.full((6, 8, 3), 10 * frame, np.uint8)
            np.savez(tmp_path / scene / f"{frame}.npz", image=image, depth=np.full((6, 8), 1 + frame, np.float32))
    data = load(tmp_path)
    assert data.source.kind == "npz" and data.scenes == ("a", "b") and len(data) == 8
    assert float(data[2].depth.mean()) == 3 and int(data[2].image.max()) == 20
    assert len(load(f"npz:{tmp_path}?every=2")) == 4
    (tmp_path / "a" / "1.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a/1\.npz: is no frame"):
        data[1]


def test_depth_model(monkeypatch: pytest.MonkeyPatch) -> None:
    module("src/fathom/depth_models/brightness.py", monkeypatch)
    for name, opener in entry("DEPTH_MODELS").items():
        monkeypatch.setitem(DEPTH_MODELS, name, opener)
    found = fathom.predict("brightness:2", np.full((6, 8, 3), 51, np.uint8), device="cpu")
    assert found.kind == "affine-disparity" and found.values.shape == (6, 8)
    np.testing.assert_allclose(found.values, 0.4, rtol=1e-6)


def test_encoder_and_feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module("src/fathom/encoders/edges.py", monkeypatch)
    for name, opener in entry("ENCODERS").items():
        monkeypatch.setitem(ENCODERS, name, opener)
    saturation = module("src/fathom/features/saturation.py", monkeypatch).saturation
    feature = entry("FEATURES", Feature=Feature, saturation=saturation)
    monkeypatch.setitem(FEATURES, feature.name, feature)
    maps = open_encoder("edges:8").encode(torch.rand(2, 3, 24, 32))
    assert {name: tuple(values.shape) for name, values in maps.items()} == {
        "fine": (2, 6, 6, 8),
        "coarse": (2, 6, 3, 4),
    }
    data = load(f"{pairs(tmp_path, planted=True)}?depth-scale=1000")
    values, valid = feature.target(data[0], (3, 4))
    image = data[0].float_image()
    expected = (image.amax(0) - image.amin(0)).reshape(3, 8, 4, 8).mean((1, 3))
    assert torch.allclose(values[0], expected, atol=1e-5) and valid.all()
    train, test = data.split(0.5)
    found = fathom.probe(encoder="edges:8", feature="saturation", train=train, test=test, size=(24, 32))
    assert "edges:8" in {row.encoder for row in found.rows} and {row.feature for row in found.rows} == {"saturation"}


def test_network_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    shallow = module("src/fathom/models/shallow.py", monkeypatch).Shallow
    for name, model in entry("MODELS", Shallow=shallow).items():
        monkeypatch.setitem(MODELS, name, model)
    charbonnier = module("src/fathom/training/losses/charbonnier.py", monkeypatch).charbonnier
    for name, loss in entry("LOSSES", charbonnier=charbonnier).items():
        monkeypatch.setitem(LOSSES, name, loss)
    network = build("shallow", {"width": 8})
    prediction = network(torch.rand(2, 3, 25, 32))
    assert prediction.shape == (2, 1, 13, 16) and network.output_size((25, 32)) == (13, 16)
    # Five pixels of two convolutions, one more for the pooling.
    assert network.receptive_field == 6
    target, valid = torch.full_like(prediction, torch.nan), torch.zeros_like(prediction, dtype=torch.bool)
    target[:, :, :5], valid[:, :, :5] = 2.0, True
    total, terms = WeightedSum({"charbonnier": 1.0})(prediction, target, valid)
    expected = ((prediction[:, :, :5] - 2) ** 2 + 1e-4).sqrt().mean()
    assert torch.allclose(total, expected) and torch.allclose(terms["charbonnier"], expected)
    total.backward()
    assert all(bool(p.grad is not None and p.grad.isfinite().all()) for p in network.parameters())


def test_what_a_network_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disparity = module("src/fathom/training/scoring/disparity.py", monkeypatch).disparity
    for name, truth in entry("TARGETS", disparity=disparity, Predicted=Predicted).items():
        assert name not in TARGETS
        monkeypatch.setitem(TARGETS, name, truth)
    shallow = module("src/fathom/models/shallow.py", monkeypatch).Shallow
    inverse = type("Inverse", (shallow,), {"predicts": "disparity", "__annotations__": {}})
    network = inverse()
    depth = torch.tensor([[2.0, 4.0, 5.0, 5.0], [0.0, 4.0, 5.0, 5.0]])[None, None]
    values, known = target_of(network, torch.zeros(1, 3, 2, 4), depth, depth > 0)
    assert torch.allclose(values[0, 0], torch.tensor([[(0.5 + 0.25 + 0.25) / 3, 0.2]])) and bool(known.all())
    monkeypatch.setitem(MODELS, "inverse", inverse)
    recipe = {
        "model": {"name": "inverse"}, "data": {"size": [24, 32]}, "train": {"steps": 2, "batch": 2}, "validation": {"pictures": 1},
    }  # fmt: skip
    data = load(f"{pairs(tmp_path / 'd', 4, 1)}?depth-scale=1000")
    trained = train(from_table(recipe), data, out=tmp_path / "run", device="cpu")
    summary = trained.summary()
    assert summary["target"] == "disparity" and summary["unit"] == "1/m"
    assert 0 < summary["scores"]["unseen"]["mean_map"]["mse"] < 1
    drawn = draw_examples(trained)
    assert drawn is not None and drawn.is_file()
    assert open_encoder(f"checkpoint:{tmp_path / 'run'}@body").training().depth
    with pytest.raises(UsageError, match=r"predicts 'disparit', which has no entry in .* 'disparity'"):
        target_of(
            type("Odd", (shallow,), {"predicts": "disparit", "__annotations__": {}})(),
            *(torch.zeros(1, c, 2, 4) for c in (3, 1)),
            depth > 0,
        )


def test_protocol(tmp_path: Path) -> None:
    protocol = entry("PROTOCOLS", Protocol=Protocol)
    assert protocol.name not in PROTOCOLS
    sample = load(f"{pairs(tmp_path, 1)}?depth-scale=1000")[0]
    region = protocol.apply(torch.full((24, 32), 9.0), sample)
    assert torch.equal(region.valid, sample.valid[0] & (sample.depth[0] < 3)) and float(region.predictions.max()) == 3


def test_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, group in entry("GROUPS", Group=Group, Metric=Metric).items():
        assert name not in GROUPS
        monkeypatch.setitem(GROUPS, name, group)
    target, valid = torch.full((3, 4), 2.0), torch.ones(3, 4, dtype=torch.bool)
    prediction = target.clone()
    prediction[0, 0], prediction[1, 1], valid[0, 0] = 9.0, 1.5, False
    assert measured(Compared(prediction, target, valid), ("worst",)) == {"worst": 0.5}


def test_chart_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    chart = module("src/fathom/report/probe/training_losses.py", monkeypatch).training_losses
    for heading, draw in entry("CHARTS", training_losses=chart).items():
        monkeypatch.setitem(CHARTS, heading, draw)
    made = evidence()
    html = page(made)
    assert html.count("<h2>Memorised scenes?</h2>") == 1
    row = made.row(NET)
    assert f"{row.train_mse / row.test_mse:.3g}" in html
    assert "Memorised" not in page(replace(made, rows=tuple(row for row in made.rows if row.role == "baseline")))
