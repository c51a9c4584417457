"""``fathom compare`` as a user types it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fathom.cli.main import main
from tests.mutations import seal_json
from tests.report.material import NET, evidence


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """Two runs on the same test scenes; in the second the net's loss is larger by 0.25 everywhere."""
    first = evidence(drawn=False)
    rows = [
        replace(
            r, test_mse=r.test_mse + 0.25, errors=tuple(e + 0.25 * n for e, n in zip(r.errors, r.cells, strict=True))
        )
        if r.role == "encoder"
        else r
        for r in first.rows
    ]
    first.save(tmp_path / "a")
    replace(first, rows=tuple(rows)).save(tmp_path / "b")
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_it_prints_the_table_and_writes_json(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *runs, "--json", str(tmp_path / "c.json")]) == 0
    said = capsys.readouterr().out
    for words in (f"run 1: {runs[0]}", f"run 2: {runs[1]}", "depth, 24 test scenes", "normals", "+0.25", "more loss"):
        assert words in said, words
    assert said.count("pixels") == 2  # of two features; those of run 2 are the same
    record = json.loads((tmp_path / "c.json").read_text())
    assert (record["schema_version"], record["runs"]) == (2, list(runs))
    assert record["references"]["depth"] == {"run": 1, "encoder": NET, "layer": "all", "mse": pytest.approx(0.9)}
    found = [p for p in record["to_reference"] if (p["encoder"], p["run"], p["feature"]) == (NET, 2, "depth")]
    net, head = sorted(found, key=lambda p: p["role"])
    assert (net["role"], head["role"], head["layer"]) == ("encoder", "head", "mlp:all")
    assert net["difference"] == pytest.approx(0.25) and net["interval"][0] < 0.25 / 0.9 < net["interval"][1]
    assert net["finding"] == "more loss" and net["p_holm"] < 0.01
    assert {(p["encoder"], p["finding"]) for p in record["same_encoder"] if p["feature"] == "depth"} >= {
        ("position", "the same"),
        (NET, "more loss"),
    }


def test_another_reference_and_one_run(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", runs[0], "--against", "position"]) == 0
    assert "difference from position at baseline (run 1), MSE 1.4" in capsys.readouterr().out


def test_runs_that_differ_are_one_sentence(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(runs[1]) / "evidence.json"
    path.write_text(path.read_text().replace('"bbbb"', '"cccc"'))
    seal_json(path)
    assert main(["compare", *runs, "--json", str(tmp_path / "c.json")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {runs[0]} and {runs[1]} cannot be paired") and said.err.count("\n") == 1
    assert "test frames (fingerprints bbbb and cccc)" in said.err
    assert said.out == "" and not (tmp_path / "c.json").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is no evidence here"), ("{", "is not evidence of a probe run"), ("{}", "has schema_version None")],
)
def test_a_folder_that_is_no_run_is_one_sentence(
    content: str | None, sentence: str, runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    if content is not None:
        (folder / "evidence.json").write_text(content)
    assert main(["compare", runs[0], str(folder)]) == 1
    said = capsys.readouterr().err
    assert sentence in said and "other" in said and said.count("\n") == 1
