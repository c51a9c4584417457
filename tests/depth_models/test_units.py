"""No unit without a scale: whatever a command prints or writes of a relative model, metres are not in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fathom
from fathom.cli.main import main
from fathom.data.camera import assumed
from fathom.depth_models.model import KINDS, DepthMaps, Kind, known_cameras
from fathom.depth_models.prediction import Prediction
from fathom.depth_models.scale import Known
from fathom.errors import UsageError
from fathom.evaluation.result import Evaluation
from fathom.report.evaluation.page import headline
from tests.data.files import pairs

MODULE = """
import torch

class Bright(torch.nn.Module):
    def forward(self, x):
        return 1 + 3 * x.mean(1)

def make():
    return Bright()
"""

METRES = re.compile(r"\b[mc]?m\b|\bmet(?:re|er)s?\b|\bmm\b", re.IGNORECASE)
"""A unit of length, alone as a word."""

RELATIVE = [kind for kind in KINDS if kind != "metric"]


def metres_in(*texts: str) -> list[str]:
    return [found for text in texts for found in METRES.findall(text)]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    ramp = np.linspace(0, 255, 40, dtype=np.uint8)[None, :, None].repeat(30, 0).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "bright.py").write_text(MODULE)
    return f"module:{tmp_path / 'bright.py'}:make?kind="


@pytest.fixture
def legends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the scales of colour maps say."""
    from matplotlib.colorbar import Colorbar

    said: list[str] = []
    monkeypatch.setattr(Colorbar, "set_label", lambda _, label, **__: label and said.append(label))
    return said


def predict(model: str, photo: Path, out: Path, *more: str) -> tuple[int, list[str], str]:
    """Exit code, names of the files and all text in them."""
    code = main(
        ["predict", model, str(photo), "--out", str(out), "--json", str(out / "all.json"), "--device", "cpu", *more]
    )
    files = sorted(out.iterdir()) if out.is_dir() else []
    return code, [file.name for file in files], "\n".join(file.read_text() for file in files if file.suffix == ".json")


@pytest.mark.parametrize("kind", KINDS)
def test_predict_prints_and_writes_metres_of_metric_depth_alone(
    kind: Kind, model: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], legends: list[str]
) -> None:
    code, names, written = predict(model + kind, photo, tmp_path / "out")
    printed = "".join(capsys.readouterr())
    assert code == 0 and len(legends) == 1
    # A path or a model's name is no unit.
    for text in (str(tmp_path), model + kind):
        printed, written = printed.replace(text, ""), written.replace(text, "")
    found = metres_in(printed, written, *legends)
    assert "photo_colour.png" in names
    record = json.loads((tmp_path / "out" / "photo_depth.json").read_text())
    if kind == "metric":
        assert record["unit"] == "m" and "photo_depth.png" in names and "metres" in found
    else:
        assert found == [] and record["unit"] is None
        assert not [name for name in names if name.endswith(("_depth.png", ".ply", ".exr", ".glb"))]


@pytest.mark.parametrize("kind", RELATIVE)
@pytest.mark.parametrize("wanted", [["--pointcloud", "ply"], ["--near", "1"], ["--far", "2"], ["--interval", "0.9"]])
def test_what_needs_metres_is_refused_before_anything_is_written(
    kind: Kind, wanted: list[str], model: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, names, _ = predict(model + kind, photo, tmp_path / "out", *wanted)
    error = capsys.readouterr().err
    assert code == 2 and names == [] and "Traceback" not in error
    assert kind in error and "no unit" in error


@pytest.mark.parametrize("kind", RELATIVE)
def test_known_distances_give_the_unit_and_say_so(
    kind: Kind, model: str, photo: Path, tmp_path: Path, legends: list[str]
) -> None:
    near, far = ("30,5=1", "2,5=3") if kind == "affine-disparity" else ("2,5=1", "30,5=3")
    code, names, _ = predict(model + kind, photo, tmp_path / "out", "--known", near, "--known", far)
    record = json.loads((tmp_path / "out" / "photo_depth.json").read_text())
    assert code == 0 and record["unit"] == "m" and "photo_depth.png" in names and "metres" in legends[0]
    assert "from (" in record["scale_operations"][0] and record["scale_operations"][0].count("=") >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_of_relative_depth_says_what_gave_its_metres(
    kind: Kind, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = f"{pairs(tmp_path / 'data', 3, 2)}?depth-scale=1000"
    assert main(["evaluate", model + kind, data, "--out", str(tmp_path / "out"), "--device", "cpu", "-q"]) == 0
    printed, page = capsys.readouterr().out, (tmp_path / "out" / "report.html").read_text()
    (table,) = Evaluation.load(tmp_path / "out").record.tables
    fitted = table.results[0].alignment
    said = f"{fitted} fitted to the truth of each frame; its errors are not those of metres"
    assert (fitted == "none") == (kind == "metric")
    for text in (" ".join(printed.split()), page):
        assert (said in text) == (kind != "metric")
    assert (f"({fitted} fitted to the truth of each frame)" in headline(table)) == (kind != "metric")
    assert table.results[0].kind == kind
    code = main(
        ["evaluate", model + kind, data, "--out", str(tmp_path / "no"), "--align", "none", "--device", "cpu", "-q"]
    )
    assert (code == 0) == (kind == "metric")


@settings(deadline=None, max_examples=50)
@given(
    kind=st.sampled_from(KINDS),
    values=st.lists(st.floats(0.0625, 1e4, width=32), min_size=12, max_size=12),
    metres=st.lists(st.floats(0.1, 100), min_size=2, max_size=2, unique=True),
)
def test_a_prediction_has_a_unit_exactly_where_it_is_metric(
    kind: Kind, values: list[float], metres: list[float]
) -> None:
    array = np.array(values, np.float32).reshape(3, 4)
    one = Prediction(np.zeros((3, 4, 3), np.uint8), array, kind, assumed((3, 4)))
    assert (
        one.unit == one.record()["unit"] == "m" if kind == "metric" else (one.unit, one.record()["unit"]) == ("", None)
    )
    if kind != "metric":
        assert not metres_in(json.dumps(one.record()), repr(one.camera))
        for attempt in (
            lambda: one.depth,
            one.beyond_png,
            lambda: one.save_png16("x.png"),
            lambda: one.pointcloud("x.ply"),
        ):
            with pytest.raises(UsageError, match="no unit"):
                attempt()
    try:
        scaled = one.scaled(Known(0.0, 0.0, metres[0]), Known(3.0, 2.0, metres[1]))
    except UsageError:
        return  # the points contradict the values, or have the same one
    assert scaled.unit == "m" and scaled.record()["scale_operations"]


@pytest.mark.parametrize("kind", KINDS)
def test_maps_and_models_take_their_unit_from_their_kind(kind: Kind) -> None:
    images = torch.zeros(1, 3, 4, 5)
    maps = DepthMaps(torch.ones(1, 4, 5), kind, known_cameras(images, None))
    assert maps.unit == ("m" if kind == "metric" else "")
    found = fathom.predict(torch.nn.Conv2d(3, 1, 1), np.zeros((4, 5, 3), np.uint8), kind=kind, device="cpu")
    assert found.kind == kind and found.unit == maps.unit
