"""The charts show the numbers of the evidence, each by its role, and Plotly accepts them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from fathom.encoders.spec import short_names
from fathom.probing.evidence.records import GainRecord
from fathom.report import plotly
from fathom.report.probe import charts
from fathom.report.probe.predictors import display_names, predictors
from tests.report.material import CUES, NET, evidence, row


def all_figures() -> Iterator[plotly.Figure]:
    made = evidence(everything=True)
    yield charts.losses_chart(made, "depth")
    yield from (found for item in made.verdicts if (found := charts.gains_chart(item, display_names(made))))
    yield from (figure for _, figure in charts.layer_charts(made, "depth"))
    yield from (found for found in [charts.heat_map(made, NET), charts.label_chart(made, "depth")] if found)
    yield from (figure for *_, figure in charts.cue_charts(made))


def test_plotly_knows_every_key() -> None:
    figures = list(all_figures())
    assert len(figures) == 7
    for figure in figures:
        go.Figure(figure)  # raises on a key or value that Plotly does not know


def by_name(figure: plotly.Figure, name: str) -> dict[str, Any]:
    return next(trace for trace in figure["data"] if trace["name"] == name)


def test_the_chart_of_losses_has_a_line_for_each_row_in_the_colour_of_its_role() -> None:
    figure = charts.losses_chart(evidence(), "depth")
    baselines, encoder = by_name(figure, "baseline"), by_name(figure, "encoder")
    assert baselines["x"] == [1.7, 1.6, 1.4]  # the worst at the top
    assert baselines["y"] == [0, 1, 2]
    assert encoder["x"] == [0.9]
    assert encoder["error_x"]["arrayminus"] == pytest.approx([0.9 * 0.2])
    assert encoder["error_x"]["array"] == pytest.approx([0.9 * 0.3])
    assert by_name(figure, "supervised upper bound")["x"] == [0.4]
    colours = {trace["name"]: trace["marker"]["color"] for trace in figure["data"] if trace["name"] != "single seeds"}
    assert len(set(colours.values())) == 5
    assert figure["layout"]["xaxis"]["type"] == "linear"


def test_losses_that_span_decades_get_a_logarithmic_axis() -> None:
    made = evidence(verdict=False)
    made.rows = (*made.rows, row("patch", 1e-9))
    assert charts.losses_chart(made, "depth")["layout"]["xaxis"]["type"] == "log"


def test_seeds_of_a_control_are_one_line_whose_interval_takes_in_their_spread() -> None:
    line = next(item for item in predictors(evidence(), "depth") if item.role == "random")
    assert line.losses == pytest.approx((1.2, 1.22, 1.24))
    assert line.mse == pytest.approx(1.22)
    assert line.name.endswith(" ×3")
    alone = replace(evidence(), rows=tuple(item for item in evidence().rows if "seed=1" in item.encoder))
    single = next(item for item in predictors(alone, "depth") if item.role == "random")
    assert line.interval is not None and single.interval is not None and len(single.losses) == 1
    apart = [item for item in evidence().rows if item.role == "random" and item.chosen and item.feature == "depth"]
    wide = [replace(item, errors=tuple(np.asarray(item.errors) * (0.6 + 0.4 * i))) for i, item in enumerate(apart)]
    other = replace(evidence(), rows=tuple(wide))
    spread = next(iter(predictors(other, "depth"))).interval
    assert spread is not None
    assert spread[1] - spread[0] > 2 * (line.interval[1] - line.interval[0])


def test_a_head_stands_by_itself_and_not_among_the_seeds_or_layers_of_its_encoder() -> None:
    made = evidence()
    lines = {item.role: item for item in predictors(made, "depth")}
    assert (lines["head"].mse, lines["encoder"].mse) == (0.7, 0.9)
    assert lines["head"].name == f"{lines['encoder'].name}, mlp"
    assert len(lines["encoder"].losses) == 1


def test_two_encoders_never_share_a_name() -> None:
    specs = [NET, NET.replace("8", "16"), "hf:a/vit", "hf:b/vit", "position"]
    names = short_names(specs)
    assert len(set(names.values())) == len(specs)
    assert names["position"] == "position"


def test_layers_of_an_encoder_stand_beside_those_of_its_controls() -> None:
    ((encoder, figure),) = charts.layer_charts(evidence(), "depth")
    assert encoder == NET
    assert figure["layout"]["xaxis"]["ticktext"] == ["conv1", "conv2", "all"]
    assert by_name(figure, "encoder")["y"] == [1.3, 1.0, 0.9]
    assert by_name(figure, "same architecture, random weights")["y"] == pytest.approx([1.62, 1.32, 1.22])
    chosen = by_name(figure, "chosen by cross-validation")
    assert (chosen["x"], chosen["y"]) == ([2], [0.9])


def test_a_control_whose_encoder_is_not_there_has_its_own_chart() -> None:
    made = evidence(verdict=False)
    made.rows = tuple(item for item in made.rows if item.role != "encoder" and "seed=0" in item.encoder)
    ((encoder, figure),) = charts.layer_charts(made, "depth")
    assert encoder == f"random:{NET}&seed=0"
    assert by_name(figure, "chosen by cross-validation")["x"] == [2]


def test_the_heat_map_has_layers_across_and_features_down() -> None:
    figure = charts.heat_map(evidence(), NET)
    assert figure is not None
    (trace,) = figure["data"]
    np.testing.assert_allclose(trace["z"], [[1 - s * loss / 1.7 for loss in (1.3, 1.0, 0.9)] for s in (1.0, 0.3)])
    assert figure["layout"]["yaxis"]["ticktext"] == ["depth", "normals"]
    assert charts.heat_map(evidence(), "position") is None


def test_gains_are_split_by_whether_their_interval_is_above_nothing() -> None:
    def gain(baseline: str, seeds: int, estimate: float | None, low: float | None, high: float | None) -> GainRecord:
        return GainRecord(baseline, seeds, estimate, low, high, None, 0.5, 0.5, None, 0.5, 0.5)

    gains = (
        gain("position", 1, 0.1, -0.1, 0.3),
        gain("random:" + NET, 5, 0.5, 0.2, 0.8),
        gain("patch", 1, None, None, None),
    )
    verdict = replace(evidence().verdicts[0], baseline="position", baseline_mse=2.0, margin=0.05, gains=gains)
    figure = charts.gains_chart(verdict, {})
    assert figure is not None
    assert by_name(figure, "interval holds 0 or lies below")["x"] == [10]
    assert by_name(figure, "95 % interval above 0")["x"] == [50]
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [0, pytest.approx(5)]
    assert charts.gains_chart(replace(verdict, gains=()), {}) is None


def test_cues_are_in_percent_of_the_loss_and_marked_where_they_decide_nothing() -> None:
    ((encoder, feature, figure),) = charts.cue_charts(replace(evidence(), cues=CUES))
    assert (encoder, feature) == (NET, "depth")
    colour, place = by_name(figure, "colour"), by_name(figure, "position")
    assert colour["x"] == pytest.approx([20])
    assert colour["error_x"]["arrayminus"] == pytest.approx([10])
    assert place["x"] == pytest.approx([200])
    assert place["error_x"]["array"] == [0]  # no interval
    labels = [note["text"] for note in figure["layout"]["annotations"] if note["x"] == 0]
    assert labels == ["without colour", "upside down *"]
    numbers = [note["text"] for note in figure["layout"]["annotations"] if note["x"] == 1]
    assert numbers == ["20.0 (10.0 to 40.0)", "200.0"]
    of_baseline = tuple(replace(cue, encoder="position") for cue in CUES)
    charted = charts.cue_charts(replace(evidence(), cues=of_baseline + CUES))
    assert [name for name, *_ in charted] == [NET, "position"]


def test_numbers_have_a_true_minus_and_nothing_no_sign() -> None:
    assert plotly.with_interval(-0.5, (-1.25e-7, 2.0)) == "−0.500 (−1.25e−07 to 2.00)"
    assert plotly.with_interval(-0.04, None, ".1f") == "0.0"


def test_label_curves_keep_points_whose_interval_is_unknown() -> None:
    figure = charts.label_chart(evidence(everything=True), "depth")
    assert figure is not None
    trace = figure["data"][0]
    assert trace["x"] == [3, 6, 12]
    assert trace["error_y"]["array"] == pytest.approx([0.6, 0.4, 0])
    assert trace["line"]["dash"] == "solid" and figure["data"][1]["line"]["dash"] == "dot"  # encoder, baseline
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert charts.label_chart(evidence(everything=True), "normals") is None


def test_label_curves_tell_baselines_apart() -> None:
    made = evidence(everything=True)
    curve = replace(made.label_curves[0], role="baseline")
    others = tuple(replace(curve, encoder=name) for name in ("patch", "pixels", "constant"))
    figure = charts.label_chart(replace(made, label_curves=(*made.label_curves, *others)), curve.feature)
    marks = [trace["marker"]["symbol"] for trace in figure["data"] if trace["name"] in ("patch", "pixels", "constant")]
    assert len(marks) >= 3 and len(set(marks)) == len(marks)


def test_numbers_of_a_chart_have_the_same_decimals_and_keep_their_zeros() -> None:
    assert [plotly.decimals(values) for values in ([1.8, 0.944], [2.0, 1.0], [250.0], [0.0], [])] == [
        ".3f", ".2f", ".0f", ".2f", ".2f",
    ]  # fmt: skip
    figure = charts.losses_chart(evidence(), "depth")
    numbers = [note["text"].partition(" ")[0] for note in figure["layout"]["annotations"] if note["x"] == 1]
    assert numbers[0] == "1.700" and {len(text) for text in numbers} == {5}


def test_only_what_a_run_is_about_has_bars_in_the_label_chart() -> None:
    figure = charts.label_chart(evidence(everything=True), "depth")
    assert figure is not None
    shown = {trace["name"]: trace["error_y"]["visible"] for trace in figure["data"]}
    assert shown["position"] is False and shown["net"] is True
