"""A fitted probe is a depth model: it gives the numbers of its run's evidence, from a folder and from the hub's form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fathom
from fathom.cli.main import main
from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.depth_models.opening import is_model, open_depth_model
from fathom.errors import DataError, UsageError
from fathom.files.limits import VARIABLE
from fathom.metrics.depth import metrics_of_rows
from fathom.metrics.protocols import PROTOCOLS
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.probe import probe
from fathom.probing.saved.hub import push_probes, save_pretrained
from fathom.probing.saved.probes import load_probes
from tests.data.files import pairs

GRID, SIZE = (3, 4), (24, 32)
FEATURES = ["depth", "log_depth", "relative_depth", "luminance"]


NET = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 5, 8, 8))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path, Dataset]:
    root = pairs(tmp_path_factory.mktemp("pairs"), scenes=12, views=2, planted=True)
    train, test = load(f"{root}?depth-scale=1000").split(0.4)
    (root / "net.py").write_text(NET)
    encoders = ["patch", f"mine=module:{root / 'net.py'}:make"]
    evidence = probe(encoders, FEATURES, train, test, size=SIZE, grid=GRID, pictures=0, controls=1, label_curve=False)
    out = tmp_path_factory.mktemp("run")
    evidence.save(out)
    return evidence, out, test


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run names Python code, which these tests trust."""
    monkeypatch.setenv(VARIABLE, "code-files=1")


def test_code_that_a_run_names_is_run_only_where_it_is_trusted(
    run: tuple[Evidence, Path, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = run
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(DataError, match=r"probes.json: names 1 Python files or modules .* --limit code-files=1"):
        open_depth_model(f"probe:{out}?encoder=mine")
    assert open_depth_model(f"probe:{out}?encoder=patch", device="cpu")


@pytest.mark.parametrize("feature", ["depth", "log_depth"])
def test_the_model_gives_the_numbers_of_the_evidence(feature: str, run: tuple[Evidence, Path, Dataset]) -> None:
    evidence, out, test = run
    row = next(row for row in evidence.rows if row.encoder == "patch" and row.feature == feature and row.chosen)
    model = open_depth_model(f"probe:{out}?encoder=patch&feature={feature}", device="cpu")
    assert model.kind == "metric" and model.train_scenes and not set(model.train_scenes) & set(evidence.test_scenes)
    protocol, scores = PROTOCOLS[evidence.protocol.name], []
    for sample in test:
        maps = model.predict(sample.image[None], size=sample.depth_size)
        region = protocol.apply(maps.values[0], sample)
        found = metrics_of_rows(region.predictions, region.target, region.valid)
        scores.append([float(found[name][0]) for name in ("rmse", "abs_rel", "delta1")])
    expected = [row.rmse, row.abs_rel, row.delta1]
    np.testing.assert_allclose(np.mean(scores, axis=0), expected, rtol=1e-5)


def test_an_encoder_that_was_named_is_opened_by_its_spec_which_the_probes_hold(
    run: tuple[Evidence, Path, Dataset], tmp_path: Path
) -> None:
    _, out, test = run
    model = open_depth_model(f"probe:{out}", device="cpu")
    assert model.facts()["encoder"] == "mine"
    assert np.isfinite(model.predict(test[0].image[None]).values).all()
    probes = load_probes(out)
    unnamed = tuple(replace(item, spec=None) for item in probes.probes)
    replace(probes, probes=unnamed).save(tmp_path)
    with pytest.raises(UsageError, match="encoder 'mine' of this probe cannot be opened by its name"):
        open_depth_model(f"probe:{tmp_path}")


def test_a_run_folder_predicts_from_the_command_line(
    run: tuple[Evidence, Path, Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    _, out, _ = run
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    assert is_model(str(out))
    assert main(["predict", f"probe:{out}", str(tmp_path / "photo.png"), "--out", str(tmp_path / "o"), "--npy"]) == 0
    metres = np.load(tmp_path / "o" / "photo_depth.npy", allow_pickle=False)
    expected = fathom.predict(str(out), pixels, device="cpu")
    np.testing.assert_array_equal(metres, expected.depth)
    assert expected.record()["model"]["model"] == "linear probe" and expected.input_size == SIZE


def test_a_relative_feature_has_no_metres_and_other_features_are_no_depth(run: tuple[Evidence, Path, Dataset]) -> None:
    _, out, _ = run
    relative = fathom.predict(f"probe:{out}?feature=relative_depth", np.zeros((24, 32, 3), np.uint8), device="cpu")
    assert relative.kind == "affine-depth"
    with pytest.raises(UsageError, match="no unit"):
        _ = relative.depth
    with pytest.raises(UsageError, match="'luminance' gives no depth"):
        open_depth_model(f"probe:{out}?feature=luminance")
    with pytest.raises(UsageError, match="size of its run, 24x32"):
        open_depth_model(f"probe:{out}", input_size=(48, 64))
    with pytest.raises(UsageError, match="No probe of encoder 'patsh'"):
        open_depth_model(f"probe:{out}?encoder=patsh")
    with pytest.raises(UsageError, match="no option 'enkoder'"):
        open_depth_model(f"probe:{out}?enkoder=patch")


def test_what_is_pushed_to_the_hub_reads_back(
    run: tuple[Evidence, Path, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is a folder here: what is uploaded lands in it, and what is fetched comes from it."""
    import huggingface_hub

    _, out, _ = run
    hub = tmp_path / "hub"

    class Api:
        def __init__(self, token: str | None = None) -> None:
            assert token == "secret"

        def create_repo(self, name: str, exist_ok: bool, **_: Any) -> None:
            (hub / name).mkdir(parents=True)

        def upload_folder(self, repo_id: str, folder_path: Path) -> str:
            for file in folder_path.iterdir():
                (hub / repo_id / file.name).write_bytes(file.read_bytes())
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: hub / name)
    assert push_probes(out, "me/probes", token="secret") == "https://hub/me/probes"
    assert sorted(file.name for file in (hub / "me/probes").iterdir()) == [
        "README.md",
        "probes.json",
        "probes.safetensors",
    ]
    image = np.full((24, 32, 3), 90, np.uint8)
    np.testing.assert_array_equal(
        fathom.predict("probe:me/probes", image, device="cpu").depth,
        fathom.predict(str(out), image, device="cpu").depth,
    )
    text = (hub / "me/probes" / "README.md").read_text()
    assert "| `patch` |" in text and "24x32" in text


def test_an_upload_without_a_network_and_a_run_without_probes_are_one_sentence(
    run: tuple[Evidence, Path, Dataset], tmp_path: Path
) -> None:
    _, out, _ = run
    with pytest.raises(DataError, match="could not be uploaded to 'me/probes'"):
        push_probes(out, "me/probes")
    with pytest.raises(DataError, match="does not exist"):
        save_pretrained(tmp_path, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
