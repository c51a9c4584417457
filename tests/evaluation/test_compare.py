"""Evaluations paired across runs: the same numbers as one evaluation of both, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fathom.cli.main import main
from fathom.data.dataset import Dataset
from fathom.errors import UsageError
from fathom.evaluation.compare import compare
from fathom.evaluation.evaluate import evaluate
from tests.evaluation.test_evaluate import Painted, Walls

A, B = Painted(scale=6.0, name="a"), Painted(scale=5.0, name="b")


def data(scenes: int = 7) -> Dataset:
    return Dataset.whole(Walls(scenes=scenes))


def test_two_runs_give_the_differences_of_one_run_with_both_models() -> None:
    both = evaluate([A, B], data(), pictures=0).record.tables[0]
    found = compare([evaluate(m, data(), pictures=0) for m in (A, B)], ["one", "two"]).tables[0]
    assert found.reference == "a" and [line.name for line in found.lines] == ["a", "mean map", "constant", "b"]
    expected = {d.metric: d for d in both.differences if (d.first, d.second) == ("b", "a")}
    ours = {d.metric: d for d in found.differences if d.first == "b"}
    assert set(ours) == {"abs_rel", "rmse", "delta1"}
    for name, item in ours.items():
        assert item.second == "a"
        assert item.estimate == pytest.approx(expected[name].estimate, rel=1e-4)
        assert item.interval == pytest.approx(expected[name].interval, rel=1e-4)
        assert item.p == pytest.approx(expected[name].p, abs=1e-3)
        assert item.p_holm >= item.p


def test_the_same_name_in_two_runs_and_another_reference() -> None:
    runs = [evaluate(m, data(), pictures=0) for m in (A, replace_name(B, "a"))]
    found = compare(runs, ["one", "two"], against="a (run 2)").tables[0]
    assert found.reference == "a (run 2)"
    assert {d.first for d in found.differences} == {"a", "mean map", "constant"}
    with pytest.raises(UsageError, match="No run has a result 'c'"):
        compare(runs, ["one", "two"], against="c")


def replace_name(model: Painted, name: str) -> Painted:
    return Painted(scale=model.scale, name=name)


def test_runs_on_other_frames_or_protocols_are_refused_and_say_why() -> None:
    one = evaluate(A, data(), pictures=0)
    for other, words in (
        (evaluate(B, data(8), pictures=0), "one and two cannot be paired on walls: other frames"),
        (evaluate(B, data(), protocol="nyu-full", pictures=0), r"other protocols \(native and nyu-full\)"),
    ):
        with pytest.raises(UsageError, match=words):
            compare([one, other], ["one", "two"])
    fewer = replace(one.record.tables[0], frames=13)
    with pytest.raises(UsageError, match="14 and 13 frames were measured"):
        compare([one, replace(one, record=replace(one.record, tables=(fewer,)))], ["one", "two"])


def test_an_alignment_is_never_compared_with_none() -> None:
    runs = [evaluate(A, data(), pictures=0), evaluate(A, data(), align="scale", pictures=0)]
    found = compare(runs, ["one", "two"])
    assert "a (run 2)" not in {d.first for d in found.tables[0].differences}
    assert any("a (run 2) is aligned by scale and a by none: not paired" in note for note in found.notes)


def test_the_command_takes_folders_of_evaluations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in (A, B):
        evaluate(model, data(), pictures=0).save(tmp_path / model.name)
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["compare", *folders, "--json", str(tmp_path / "c.json")]) == 0
    said = capsys.readouterr().out
    for words in (f"run 2: {folders[1]}", "differences from a", "AbsRel", "δ1"):
        assert words in said, words
    record = json.loads((tmp_path / "c.json").read_text())
    assert record["runs"] == folders and record["tables"][0]["reference"] == "a"
    (tmp_path / "probe").mkdir()
    assert main(["compare", folders[0], str(tmp_path / "probe")]) == 2
    error = capsys.readouterr().err
    assert "is an evaluation and" in error and error.count("\n") == 1
