"""The evidence is typed: its schema is that of the types, a real run fits it, and files of another shape are refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fathom.data.sources import load
from fathom.errors import DataError, MissingExtraError
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.schema import SCHEMA, schema
from fathom.probing.probe import probe
from tests.data.files import pairs
from tests.mutations import seal_json
from tests.report.material import NET, evidence


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path]:
    """A real run with every optional part."""
    root = pairs(tmp_path_factory.mktemp("pairs"), scenes=24, views=1, planted=True)
    train, test = load(f"{root}?depth-scale=1000").split(0.5)
    features = ["depth", "luminance"]
    found = probe(
        "patch:3", features, train, test, baselines=("constant", "pixels"), size=(24, 32), grid=(3, 4), cues=("grey",),
        pictures=1,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("run")
    found.save(out)
    return found, out


def test_the_shipped_schema_is_that_of_the_types() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == schema()


def test_a_real_run_fits_the_schema_and_comes_back_as_it_was(run: tuple[Evidence, Path]) -> None:
    found, out = run
    record = json.loads((out / "evidence.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema()).validate(record)
    assert found.information and found.label_curves and found.cues and found.cue_sentences
    assert Evidence.load(out) == found == Evidence.load(out / "evidence.json")
    wanted = {"encoder", "layer", "feature", "role", "penalty", "cv_mse", "train_mse", "test_mse", "interval"}
    assert all(wanted <= set(row) for row in record["rows"])
    assert all({"encoder", "feature", "verdict"} <= set(verdict) for verdict in evidence().to_json()["verdicts"])


def test_the_schema_refuses_what_the_types_refuse(run: tuple[Evidence, Path]) -> None:
    record = json.loads((run[1] / "evidence.json").read_text(encoding="utf-8"))
    record["rows"][0]["test_mse"] = "much"
    with pytest.raises(jsonschema.ValidationError, match="'much' is not of type 'number'"):
        jsonschema.Draft202012Validator(schema()).validate(record)


def older(record: dict[str, Any]) -> None:
    record["schema_version"] = 1


def unversioned(record: dict[str, Any]) -> None:
    del record["schema_version"]


def wrong_type(record: dict[str, Any]) -> None:
    record["rows"][1]["test_mse"] = "much"


def lost_key(record: dict[str, Any]) -> None:
    del record["data"]["test"]["fingerprint"]


def short_errors(record: dict[str, Any]) -> None:
    record["rows"][0]["errors"] = [1.0]


def bad_settings(record: dict[str, Any]) -> None:
    record["settings"]["folds"] = 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (older, "has schema_version 1, and this Fathom reads 3"),
        (unversioned, "has schema_version None"),
        (wrong_type, r"is not evidence of a probe run \(Expected `float`, got `str` - at `\$\.rows\[1\]\.test_mse`\)"),
        (lost_key, r"missing required field `fingerprint` - at `\$\.data\.test`"),
        (short_errors, "has 1 errors of constant for 12 scenes|has 1 errors of .* for 12 scenes"),
        (bad_settings, r"settings that cannot be \('folds' must be at least 2"),
    ],
)
def test_files_of_another_version_or_shape_are_refused_in_one_sentence(
    run: tuple[Evidence, Path], tmp_path: Path, damage: Callable[[dict[str, Any]], None], words: str
) -> None:
    record = json.loads((run[1] / "evidence.json").read_text(encoding="utf-8"))
    damage(record)
    (tmp_path / "evidence.json").write_text(json.dumps(record))
    seal_json(tmp_path / "evidence.json")
    with pytest.raises(DataError, match=words) as caught:
        Evidence.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"evidence"', b"\xff\xfe", b"null"])
def test_what_is_no_evidence_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_bytes(content)
    with pytest.raises(DataError, match=r"evidence\.json: .*; run the probe again\."):
        Evidence.load(tmp_path)


def test_rows_become_a_data_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    made = evidence()
    frame = made.to_frame()
    assert len(frame) == len(made.rows) and "errors" not in frame
    net = frame[(frame.encoder == NET) & frame.chosen & (frame.feature == "depth") & (frame.role == "encoder")]
    assert net.test_mse.item() == made.row(NET).test_mse and net.low.item() == made.row(NET).interval[0]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"fathom-depth\[frame\]"):
        made.to_frame()


def test_it_prints_as_one_line_and_shows_as_a_table() -> None:
    made = evidence()
    assert len(repr(made)) < 400 and "\n" not in repr(made)
    assert f"depth in {NET}: implicit" in repr(made)
    html = made._repr_html_()
    assert html.startswith("<pre>") and "24 unseen scenes" in html and "implicit: " in html
    made.verdicts = ()
    made.rows = tuple(row for row in made.rows if row.encoder != NET)
    assert "<script" not in made._repr_html_() and "no verdict" in repr(made)
