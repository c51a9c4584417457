"""A run from Python leaves what the command line leaves; the verdict on a layer is that of a run with this layer alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fathom.data.sources import load
from fathom.encoders.base import Encoder
from fathom.errors import UsageError
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.probe import probe
from tests.data.files import pairs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"{pairs(tmp_path_factory.mktemp('pairs'), scenes=24, views=1)}?depth-scale=1000"


def net(*layers: str) -> Encoder:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    return Encoder.from_module(module, layers=layers, name="net")


def run(data: str, encoder: Encoder, **more: object) -> Evidence:
    train, test = load(data).split(0.5, seed=1)
    settings = {"size": (24, 32), "grid": (3, 4), "baselines": ("constant", "pixels"), "controls": 1, "pictures": 1}
    return probe(encoder, "depth", train, test, label_curve=False, **settings, **more)  # type: ignore[arg-type]


def test_a_run_from_python_saves_the_whole_folder(data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    evidence = run(data, net("0"), out=out)
    assert {path.name for path in out.iterdir()} == {
        "evidence.json", "probes.json", "probes.safetensors", "split.json", "report.html", "methods.txt", "predictions.png",
        "pictures.npz",
    }  # fmt: skip
    loaded = Evidence.load(out)
    assert loaded.command == evidence.command
    assert loaded.command.startswith("fathom.probe([<net>], ['depth'], ") and "controls=1" in loaded.command
    with pytest.raises(UsageError, match="holds a run already"):
        run(data, net("0"), out=out)


def test_the_verdict_on_a_layer_is_that_of_the_encoder_with_this_layer_alone(data: str) -> None:
    both = run(data, net("1", "3"), each_layer=True, banded=False)
    assert [item.layer for item in both.layer_verdicts] == ["1", "3", "all"]
    for item in both.layer_verdicts[:2]:
        alone = run(data, net(str(item.layer)))
        expected = alone.verdicts[0]
        assert item.encoder == expected.encoder == "net"
        assert item.encoder_mse == pytest.approx(expected.encoder_mse, rel=1e-5)
        assert item.p_implicit_alone == pytest.approx(expected.p_implicit_alone, rel=1e-3, abs=1e-6)
        assert [gain.baseline for gain in item.gains] == [gain.baseline for gain in expected.gains]


def test_a_run_that_is_interrupted_while_it_writes_has_no_evidence_yet(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fathom.report.probe.draw.draw_predictions", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(data, net("0"), out=tmp_path / "run")
    assert not (tmp_path / "run" / "evidence.json").exists()
    run(data, net("0"), out=tmp_path / "run")
    assert (tmp_path / "run" / "evidence.json").exists() and (tmp_path / "run" / "pictures.npz").exists()
