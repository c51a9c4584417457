"""The page: it stands by itself, escapes what it was given, shows what the evidence has and leaves out what it has not."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from fathom.data.camera import assumed
from fathom.media.colour import DEPTH_MAP, UNKNOWN
from fathom.media.pointcloud import unproject
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.records import Estimate, Information, ProtocolRecord
from fathom.probing.evidence.verdict.power import detectable_gain
from fathom.report.probe.cloud import MOST_POINTS, assumption, cloud
from fathom.report.probe.page import page
from fathom.report.probe.predictors import columns, display_names
from fathom.report.probe.wording import conclusions, headline, power, warnings
from fathom.report.thumbnails import LEVELS, album
from tests.report.material import CUES, CURVES, NET, cue, evidence, pictures, row

NAN = float("nan")
EVIL = '</script><img src=x onerror="alert(1)">&\'"<b>'


class Parsed(HTMLParser):
    """Tags with their attributes, the text of headings, and the content of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.blocks: dict[str, Any] = {}
        self._inside = self._block = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        self._block = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._block = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "h2":
            self.headings.append(data)
        if self._block:
            self.blocks[self._block] = json.loads(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def everything() -> Evidence:
    return evidence(everything=True)


def test_the_page_needs_nothing_from_anywhere() -> None:
    html = page(everything())
    parsed = Parsed(html)
    for tag, attributes in parsed.tags:
        assert not {"href", "srcset", "data", "action", "poster"} & set(attributes), tag
        assert (attributes.get("src") or "data:image/").startswith("data:image/"), tag
    assert len(parsed.named("img")) == 2 * (2 + 2 * 3)  # photograph, truth, three predictions with errors; no constant
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    (policy,) = [item["content"] for item in parsed.named("meta") if "http-equiv" in item]
    assert policy is not None and policy.startswith("default-src 'none'") and "http" not in policy
    assert html.count("plotly.js v") == 1


def test_every_name_that_was_given_is_escaped() -> None:
    made = everything()
    spec = f"module:{EVIL}"
    made.rows = tuple(
        replace(item, encoder=spec, layer=EVIL + item.layer) if item.encoder == NET else item for item in made.rows
    )
    made.rows = tuple(replace(item, feature=EVIL) if item.feature == "normals" else item for item in made.rows)
    made.verdicts = tuple(replace(item, encoder=spec, sentence=EVIL, baseline=EVIL) for item in made.verdicts)
    made.notes, made.command, made.test_scenes = (EVIL,), EVIL, (EVIL, *made.test_scenes[1:])
    made.data = replace(made.data, test=replace(made.data.test, location=EVIL, facts={EVIL: EVIL}))
    made.settings = replace(made.settings, baselines=(EVIL,), cache=EVIL)
    made.versions, made.protocol, made.interval_method = {EVIL: EVIL}, ProtocolRecord(EVIL, EVIL), EVIL
    made.pictures = [
        replace(item, id=EVIL, scene=EVIL, predictions={spec: item.predictions[NET]}) for item in pictures()
    ]
    made.cues = tuple(replace(item, encoder=spec, words=EVIL) for item in made.cues)
    made.cue_sentences = {spec: EVIL, EVIL: EVIL}
    made.label_curves = tuple(replace(item, encoder=spec) for item in made.label_curves[:1]) + made.label_curves[1:]
    made.information = tuple(replace(item, encoder=spec, layer=EVIL, baseline=EVIL) for item in made.information)
    plain, given = Parsed(page(everything())), Parsed(page(made))
    assert "alert(1)" in page(made)
    assert len(given.named("script")) == len(plain.named("script"))
    assert not [attributes for _, attributes in given.tags if "onerror" in attributes]
    assert all((item["src"] or "").startswith("data:image/") for item in given.named("img"))
    # Plotly reads labels as HTML: what was given must be escaped inside the JSON as well.
    shown = json.dumps(given.blocks["figures"])
    assert "alert(1)" in shown and "<img" not in shown and "</script" not in shown


def test_sections_are_there_when_their_material_is() -> None:
    bare = Parsed(page(evidence(verdict=False, drawn=False))).headings
    full = Parsed(page(everything())).headings
    optional = ["Gain over each baseline", "Cues", "Number of labelled scenes", "Bits", "Pictures", "Point clouds"]
    assert [name for name in full if name not in bare] == optional
    assert bare == [
        "Loss of each predictor", "Layers", "What you may conclude", "What you may not conclude", "All numbers", "How it was measured"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {
            "cues": (
                cue(
                    encoder="gone",
                    alteration="grey",
                    words="grey",
                    group="colour",
                    mse=1.0,
                    change=0.1,
                    low=None,
                    high=None,
                ),
            )
        },
        {"cues": (replace(CUES[0], base_mse=0.0),)},
        {"label_curves": (replace(CURVES[0], encoder="gone", mse=(None, None, None)),)},
        {"label_curves": (replace(CURVES[0], low=(None, None, None), high=(None, None, None)),)},
        {
            "information": (
                Information(NET, "depth", "all"),
                Information("gone", "depth", "all", r2=Estimate(None, None, None)),
            )
        },
    ],
)
def test_what_is_not_known_in_an_optional_part_is_left_out(changes: dict[str, Any]) -> None:
    parsed = Parsed(page(replace(evidence(), **changes)))
    assert "Loss of each predictor" in parsed.headings
    assert all(figure["layout"]["height"] for figure in parsed.blocks["figures"].values())


def test_every_chart_has_its_place_and_every_row_its_line() -> None:
    made = everything()
    html = page(made)
    parsed = Parsed(html)
    places = {item["id"] for item in parsed.named("div") if item.get("id")}
    assert set(parsed.blocks["figures"]) <= places and len(parsed.blocks["figures"]) == 9
    assert html.count('<tr class="baseline">') == 6
    assert html.count('<tr class="random">') == 18
    for number in ("aaaa", "bbbb", "0.457", "0.424", "all valid pixels", "fathom probe data/rooms -e net"):
        assert number in html


def test_a_run_read_back_from_its_json_gives_the_same_page(tmp_path: Any) -> None:
    made = everything()
    made.save(tmp_path)
    found = Evidence.load(tmp_path)
    found.pictures = made.pictures
    assert page(found) == page(made)


def test_the_headline_is_one_sentence_whatever_the_verdicts() -> None:
    made = evidence()
    names = display_names(made)
    assert headline(made, names) == f"Depth is implicit in {names[NET]}; normals is implicit in {names[NET]}."
    one = replace(made, verdicts=made.verdicts[:1])
    assert headline(one, names).startswith(f"Depth is implicit in {names[NET]}: a linear probe")
    assert NET not in headline(one, names)
    gains = tuple(
        replace(gain, p_margin=0.001 if gain.baseline == "pixels" else 0.5, weight=0.3)
        for gain in made.verdicts[0].gains
    )
    absent = replace(made.verdicts[0], verdict="absent", baseline="position", gains=gains)
    said = headline(replace(made, verdicts=(absent,)), names)
    assert said == f"No linear gain over pixels: depth is absent in {names[NET]}."  # the baseline that decided
    for kind in ("inconclusive", "too few scenes", "withheld"):
        said = headline(replace(made, verdicts=(replace(absent, verdict=kind),)), names)
        assert said.endswith(".") and names[NET] in said and "{" not in said
    both = [
        replace(made.verdicts[0], verdict=kind, encoder=name) for kind, name in (("absent", "a"), ("implicit", "b"))
    ]
    third = replace(made.verdicts[0], feature="normals", encoder="c", verdict="too few scenes")
    several = replace(made, verdicts=(*both, third))
    assert headline(several, {}) == (
        "Depth is implicit in b, absent in a; normals is undecided for c, with too few scenes."
    )
    assert "no verdict" in headline(replace(made, verdicts=()), names)
    baselines = replace(made, verdicts=(), rows=tuple(item for item in made.rows if item.role == "baseline"))
    assert "add an encoder" in headline(baselines, names)


def test_what_a_reader_must_know_first_stands_in_warnings() -> None:
    made = evidence()
    assert [text.partition(":")[0] for text in warnings(made)] == ["24 test scenes are few"]
    many = tuple(f"room {index}" for index in range(60))
    assert warnings(replace(made, test_scenes=many)) == []
    alone = replace(made.data, test=replace(made.data.test, frames=24, scenes=24))
    assert "counts as a scene of its own" in warnings(replace(made, data=alone))[0]
    clipped = "3.0 % of the predictions of depth from net lie outside the range of the training targets and are clipped to it."
    noted = replace(made, notes=(clipped, "No label curve of net."))
    assert warnings(noted)[1:] == [clipped]
    html = page(noted)
    assert html.index(clipped) < html.index("Loss of each predictor") and html.count(clipped) == 1
    assert html.count("No label curve of net.") == 1


def test_the_page_says_what_gain_a_run_of_this_size_finds() -> None:
    made = evidence()
    gain = detectable_gain(made.verdicts[0])
    assert gain is not None and f"a true gain of {100 * gain:.0f} %" in page(made)
    assert power(replace(made.verdicts[0], gains=()), {}) == ""


def test_every_encoder_is_identified_by_its_weights_and_code() -> None:
    made = evidence()
    made.encoders = tuple(replace(item, weights="ab" * 32, code="cd" * 32) for item in made.encoders)
    html = page(made)
    assert html.count("ab" * 32) == html.count("cd" * 32) == 2  # the encoder and the upper bound, not their controls


def test_every_encoder_is_pictured_beside_its_untrained_copy() -> None:
    nets = [f"net{index}" for index in range(6)]
    made = evidence(drawn=False)
    rows = [row(name, 1 + 0.01 * index, role="encoder", layer="x", abs_rel=0.1) for index, name in enumerate(nets)]
    rows += [row(f"random:{name}", 1.5, role="random", layer="x", of=name, seed=0) for name in nets]
    rows += [row(name, 0.5) for name in ("position", "pixels")]
    made.rows = tuple(rows)
    made.pictures = pictures(1, [item.encoder for item in rows])
    assert set(columns(made)) == {*nets, *(f"random:{name}" for name in nets)}
    made.rows = tuple(item for item in rows if item.encoder in ("net0", "random:net0", "position", "pixels"))
    assert columns(made) == ["random:net0", "position", "pixels", "net0"]  # then the best of the others; encoders last


def test_what_may_be_concluded_follows_the_verdicts() -> None:
    def words(kind: str, *roles: str) -> tuple[str, str]:
        made = evidence()
        made.verdicts = (replace(made.verdicts[0], verdict=kind),)
        made.rows = tuple(item for item in made.rows if item.role in roles)
        may, not_ = conclusions(made)
        return " ".join(may), " ".join(not_)

    may, not_ = words("implicit", "encoder", "baseline")
    assert "Implicit: a linear map" in may and "uses the feature" in not_ and "no untrained copy" in not_
    assert "no untrained copy" not in words("implicit", "encoder", "random")[1]
    assert "This is a finding" in words("absent", "encoder")[0] and "This is a finding" not in may
    assert (
        "the test scenes do not decide" in words("inconclusive", "encoder")[1]
        and "the test scenes do not decide" not in not_
    )
    assert "fewer than 10 test scenes" in words("too few scenes", "encoder")[1]


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_truth_and_predictions_share_one_scale_and_what_is_unknown_is_grey() -> None:
    made = pictures(2, ("net",))
    for picture in made:
        picture.predictions["net"] = torch.full((3, 4), 2.5)
        picture.depth[0, 20] = 2.5
    drawn = album(made, ["net"])
    low, high = drawn.depth
    index = round((2.5 - low) / (high - low) * (LEVELS - 1))
    expected = np.round(np.asarray(colormaps[DEPTH_MAP](np.linspace(0, 1, LEVELS))[index, :3]) * 255)
    for frame in drawn.frames:
        truth, prediction = decoded(frame.truth), decoded(frame.shown[0].prediction)
        assert truth.shape == (24, 32, 3)
        np.testing.assert_allclose(truth[20, 7], expected, atol=1)
        np.testing.assert_allclose(prediction, np.broadcast_to(expected, prediction.shape), atol=1)
    assert decoded(drawn.frames[0].truth)[0, 0].tolist() == [round(255 * float(UNKNOWN))] * 3
    gap = 2.5 - made[1].depth[0].numpy()
    assert drawn.frames[1].shown[0].rmse == pytest.approx(np.sqrt((gap**2).mean()), rel=1e-5)


def test_the_cloud_is_the_truth_unprojected() -> None:
    made = pictures(2)
    packed = cloud(made, [NET, "position"], {NET: "net"})
    assert packed["encoders"] == ["net", "position"]
    for picture, frame in zip(made, packed["frames"], strict=True):
        rays = np.frombuffer(base64.b64decode(frame["rays"]), "<f4").reshape(-1, 3)
        truth = np.frombuffer(base64.b64decode(frame["truth"]), "<f4")
        colours = np.frombuffer(base64.b64decode(frame["colours"]), "u1").reshape(-1, 3)
        guesses = np.frombuffer(base64.b64decode(frame["predictions"]), "<f4").reshape(2, -1)
        depth = np.where(picture.valid[0].numpy(), picture.depth[0].numpy(), np.float32(np.nan))
        expected, known = unproject(depth, picture.intrinsics or assumed((24, 32)))
        assert frame["n"] == len(rays) == 24 * 32 <= MOST_POINTS
        np.testing.assert_allclose((rays * truth[:, None])[np.isfinite(truth)], expected, rtol=1e-5)
        assert np.isfinite(truth).sum() == known.sum()
        np.testing.assert_array_equal(
            colours.reshape(24, 32, 3).transpose(2, 0, 1), (picture.image * 255).round().byte()
        )
        corner = guesses[0].reshape(24, 32)[0, 0]
        assert corner == pytest.approx(float(picture.predictions[NET][0, 0]))
    assert "60 degrees" in assumption(made) and assumption(made[:1]) == ""


def test_a_large_frame_gives_no_more_points_than_a_phone_can_turn() -> None:
    (small,) = pictures(1)
    large = replace(
        small,
        image=torch.zeros(3, 480, 640),
        depth=torch.ones(1, 480, 640),
        valid=torch.ones(1, 480, 640, dtype=torch.bool),
    )
    assert 0.5 * MOST_POINTS < cloud([large], [NET], {})["frames"][0]["n"] <= MOST_POINTS
