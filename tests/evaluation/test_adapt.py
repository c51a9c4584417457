"""Adaptation: known corrections are found in closed form, chosen by cross-validation, and survive their folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fathom.depth_models.adapted import Adapted, Correction, open_adapted, predict_with_features
from fathom.depth_models.calibration import FILE as CALIBRATION
from fathom.depth_models.calibration import read_calibration
from fathom.depth_models.network import NetworkModel
from fathom.depth_models.opening import open_depth_model
from fathom.errors import CheckpointError, DataError, UsageError
from fathom.evaluation.adapt import (
    Candidate,
    Pixels,
    adapt,
    choose,
    compared,
    fit,
    fitted,
    group_pixels,
    grouped,
)
from fathom.files.atomic import write_json
from fathom.models import build
from tests.evaluation.captures import Painter, capture


def found_for(model: Painter, **options: object) -> object:
    data = capture(**options)
    groups, by = grouped(data)
    return fitted(model, group_pixels(model, data, groups), by, "painted", 0.8)


def test_a_wrong_scale_is_found_and_the_error_falls() -> None:
    found = found_for(Painter(scale=1.7), noise=0.05)
    assert found.correction.method in ("scale", "scale-shift")
    assert compared(found, "abs_rel")["after"] < 0.15 < compared(found, "abs_rel")["before"]
    assert compared(found, "abs_rel")["high"] < 0


def test_a_right_model_is_left_as_it_is() -> None:
    generator = np.random.default_rng(0)
    pixels = {}
    for name in "abcdef":
        true = generator.uniform(1, 5, 4000)
        pixels[name] = Pixels(true * np.exp(generator.normal(scale=0.1, size=4000)), true, None, np.ones(4000))
    chosen, errors = choose(pixels, "metric")
    assert errors["none"] == pytest.approx(errors["scale"], rel=0.01)
    assert chosen.method == "none" or errors[chosen.method] < 0.999 * errors["none"]


@pytest.mark.parametrize("kind", ["affine-depth", "affine-disparity"])
def test_a_relative_model_gets_metres_by_scale_and_shift(kind: str) -> None:
    model = Painter(kind, scale=0.3, shift=-0.2)
    data = capture(noise=0.0)
    groups, _ = grouped(data)
    pixels = list(group_pixels(model, data, groups).values())
    exact = [
        Pixels(0.3 * (1 / p.true if kind == "affine-disparity" else p.true) - 0.2, p.true, None, p.spread)
        for p in pixels
    ]
    correction = fit(Candidate("scale-shift"), exact, kind)
    np.testing.assert_allclose(correction.coefficients, (1 / 0.3, 0.2 / 0.3), rtol=1e-5)
    np.testing.assert_allclose(correction.metres(exact[0].values, kind), exact[0].true, rtol=1e-5)


def test_the_head_is_weighted_ridge_regression() -> None:
    generator = np.random.default_rng(1)
    inputs = np.concatenate([np.ones((1, 500)), generator.normal(size=(3, 500))])
    weights = np.array([0.2, -0.5, 0.1, 0.3])
    values = generator.uniform(1, 5, 500)
    group = Pixels(values, values * np.exp(weights @ inputs), inputs, np.ones(500))
    correction = fit(Candidate("head", 1e-9), [group], "metric")
    np.testing.assert_allclose(correction.coefficients, weights, atol=1e-4)
    shrunk = fit(Candidate("head", 1e6), [group], "metric")
    assert np.abs(shrunk.coefficients[1:]).max() < 1e-4


def test_a_capture_of_one_scene_is_divided_into_blocks_of_time() -> None:
    groups, by = grouped(capture(scenes=1, views=23))
    assert by == "time" and groups == sorted(groups) and len(set(groups)) == 10
    assert grouped(capture(scenes=3))[1] == "scene"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scenes": 1, "views": 2}, "holds 2 frames"), ({"blind": True}, "has valid depth in 0 of 12 groups")],
)
def test_data_that_cannot_adapt_are_refused(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        adapt(Painter(), capture(**options), tmp_path / "out")


def test_intervals_of_the_adapted_model_cover_groups_that_were_left_out() -> None:
    found = found_for(Painter(scale=1.7), scenes=30)
    assert 0.7 < found.coverage["after"] < 0.95
    assert found.coverage["before"] is None
    assert found.calibration.scenes == 30


def test_an_adapted_network_is_a_depth_model_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tiny = {"encoder": "efficientnet_lite0", "widths": [8, 8, 8, 8], "context": 8}
    network = NetworkModel(build("pretrained_unet", tiny).eval(), "tiny", input_size=(32, 32))
    monkeypatch.setattr("fathom.evaluation.adapt.open_depth_model", lambda *_, **__: network)
    found = adapt("tiny", capture(scenes=1, views=12), tmp_path / "out")
    assert {"none", "scale", "scale-shift", "head 1"} <= set(found.errors)
    assert read_calibration(tmp_path / "out" / CALIBRATION) == found.calibration
    image = torch.rand(1, 3, 12, 16)
    direct = Adapted(network, found.correction, "out").predict(image).values
    monkeypatch.setattr("fathom.depth_models.adapted.open_depth_model", lambda *_, **__: network)
    opened = open_adapted(tmp_path / "out", "out")
    torch.testing.assert_close(opened.predict(image).values, direct)
    assert opened.kind == "metric" and opened.facts()["path"] == str(tmp_path / "out")


def test_features_are_what_the_last_layer_reads() -> None:
    torch.manual_seed(0)
    net = build("pretrained_unet", {"encoder": "efficientnet_lite0", "widths": [8, 8, 8, 8], "context": 8}).eval()
    model = NetworkModel(net, "tiny", input_size=(32, 64))
    maps, features = predict_with_features(model, torch.rand(1, 3, 32, 64), None, size=(16, 32))
    assert features is not None and features.shape == (1, 8, 16, 32)
    logarithm = net.output(features).squeeze()  # at the network's own grid the features give the prediction back
    ratio = maps.values[0].log() - logarithm
    assert float(ratio.detach().std()) < 1e-4


def test_a_folder_that_holds_no_adaptation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapt.json").write_text('{"schema_version": 1}')
    with pytest.raises(CheckpointError, match="does not carry its checksum"):
        open_depth_model(str(tmp_path))
    write_json(tmp_path / "adapt.json", {"schema_version": 1}, checksum=True)
    with pytest.raises(CheckpointError, match="does not hold an adaptation"):
        open_depth_model(str(tmp_path))


def test_a_model_in_memory_cannot_be_named_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="by its name, path or SPEC"):
        adapt(Painter(), capture(), tmp_path / "out")


def test_corrected_depth_stays_near_the_range_it_was_fitted_on() -> None:
    correction = Correction("scale", (10.0,), 0.5, 4.0)
    np.testing.assert_allclose(correction.metres(np.array([1e-9, 1.0]), "metric"), [0.5, 4.0])
