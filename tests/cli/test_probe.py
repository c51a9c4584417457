"""`fathom probe` as a user calls it."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from fathom.cli.main import main
from fathom.files.limits import VARIABLE
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.settings import ProbeSettings
from tests.data.files import pairs
from tests.processes import Command

FACTORY = """
from torch import nn


def factory():
    return nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1))
"""

QUICK = ["--grid", "3x4", "--baselines", "constant,pixels", "--no-label-curve", "--pictures", "0", "-q"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"{pairs(tmp_path_factory.mktemp('data'), scenes=12, views=2)}?depth-scale=1000"


def test_writes_table_evidence_split_and_picture(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    spec = f"module:{tmp_path / 'net.py'}:factory@0,2"
    out = tmp_path / "out"
    code = main(["probe", data, "-e", spec, "-e", f"random:{spec}", "-f", "depth", "-f", "luminance", "-o", str(out),
                 "--grid", "3x4", "--controls", "1", "--json", str(tmp_path / "e.json"), "--layers", "-q"])  # fmt: skip
    said = capsys.readouterr().out
    assert code == 0
    assert "pixels+position" in said and "95 % interval" in said and "luminance" in said
    record = json.loads((out / "evidence.json").read_text())
    assert {row["encoder"] for row in record["rows"]} >= {"constant", "position", "pixels", spec, f"random:{spec}"}
    assert {row["layer"] for row in record["rows"] if row["encoder"] == spec} == {"0", "2", "all", "banded"}
    assert record["command"].startswith("fathom") and record["data"]["train"]["fingerprint"]
    assert json.loads((tmp_path / "e.json").read_text())["rows"] == record["rows"]
    assert set(json.loads((out / "split.json").read_text())["parts"]) == {"train", "test"}
    with Image.open(out / "predictions.png") as picture:
        assert picture.width > 600 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 100


def test_saved_split_gives_the_same_numbers(data: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert main(["probe", data, "-o", str(first), *QUICK, "--fraction", "0.4", "--seed", "3"]) == 0
    assert main(["probe", data, "-o", str(second), *QUICK, "--split", str(first / "split.json")]) == 0
    rows = [json.loads((out / "evidence.json").read_text())["rows"] for out in (first, second)]
    assert [row["test_mse"] for row in rows[0] if row["encoder"] == "pixels"] == [
        row["test_mse"] for row in rows[1] if row["encoder"] == "pixels"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nowhere"], 1, "nowhere: does not exist"),
        (["rooms", "-e", "resnet"], 2, "resnet"),
        (["rooms", "-f", "dept"], 2, "did you mean 'depth'"),
        (["rooms", "--size", "240"], 2, "'240' is not a size; write height x width, such as 240x320"),
        (["rooms", "--protocol", "nyu"], 2, "no protocol 'nyu'"),
        (["rooms", "-e", "module:missing.py:f"], 1, "missing.py"),
        (["rooms", "--split", "absent.json"], 1, "absent.json"),
        (["rooms", "--head", "mpl"], 2, "did you mean 'mlp'"),
        (["rooms", "--device", "gpu"], 2, "There is no device 'gpu'; use cpu"),
        (["rooms", "--grid", "1000x1000"], 2, "finer than the input of 96x128"),
        (["rooms", "--size", "4x4"], 2, "smaller than one cell of 8x8 pixels"),
        (["rooms", "--upper-bound", "absent"], 1, "absent: does not exist"),
    ],
)
def test_bad_arguments_get_one_sentence_and_leave_nothing(
    arguments: list[str], code: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["probe", *arguments, "-o", str(out), "-q"]) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ") and sentence in said and said.count("\n") == 1
    assert not out.exists()


def test_broken_frame_stops_the_run_unless_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / "d", scenes=12, views=2)
    (root / "rgb" / "scene3" / "1.png").write_bytes(b"x")
    arguments = ["probe", f"{root}?depth-scale=1000", "-o", str(tmp_path / "out"), *QUICK]
    assert main(arguments) == 1
    assert "scene3/1.png: is not an image" in capsys.readouterr().err
    assert main([*arguments, "--skip-bad"]) == 0
    assert "Left out, since they could not be read: 1 frame:" in capsys.readouterr().out


def test_millimetres_read_as_metres_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / "d", scenes=12, views=1)
    assert main(["probe", f"{root}?depth-scale=1.0001", "-o", str(tmp_path / "out"), *QUICK]) == 0
    said = capsys.readouterr().err
    assert "warning: " in said and "give 'PATH?depth-scale=1000'" in said and said.count("warning") == 3


def test_interrupt_leaves_no_half_written_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = Command(["probe", "rooms", "-f", "depth", "-f", "normals", "-o", str(out)], tmp_path / "said")
    while "probing" not in process.said:
        assert process.running, process.said
        time.sleep(0.01)
    time.sleep(0.5)
    process.send(signal.SIGINT)
    assert process.wait(60) == 130
    said = process.said
    assert ("interrupted" in said or "Stopped by SIGINT after" in said) and "Traceback" not in said
    assert not out.exists() or not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_describe_prints_every_setting_and_runs_nothing(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    out = tmp_path / "out"
    arguments = ["probe", data, "-e", f"mine=module:{tmp_path / 'net.py'}:factory@0,2", "--grid", "3x4", "-o", str(out)]
    assert main([*arguments, "--penalties", "0.5,2", "--controls", "2", "--describe", "-q"]) == 0
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert not out.exists()
    assert {item.name for item in fields(ProbeSettings)} <= set(said)
    assert said["penalties"] == "(0.5, 2.0)" and said["grid"] == "(3, 4)" and said["size"] == "(24, 32)"
    assert said["encoder"] == "mine; layers (channels): 0 (4), 2 (6), all (10)"
    assert said["random, seed 1"].startswith("random:mine") and "18 frames of 9 scenes" in said["training data"]


def test_a_run_is_repeated_like_another(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    first, again, other = tmp_path / "first", tmp_path / "again", tmp_path / "other"
    arguments = ["probe", data, "-e", f"mine=module:{tmp_path / 'net.py'}:factory@0,2", "-f", "log_depth", *QUICK]
    assert main([*arguments, "--controls", "1", "--fraction", "0.5", "--seed", "3", "-o", str(first)]) == 0
    capsys.readouterr()
    assert main(["probe", data, "--like", str(first), "-q", "-o", str(again)]) == 1
    assert "--limit code-files=1" in capsys.readouterr().err.replace("\n", " ") and not again.exists()
    monkeypatch.setenv(VARIABLE, "code-files=1")
    assert main(["probe", data, "--like", str(first), "-q", "-o", str(again)]) == 0
    one, two = Evidence.load(first), Evidence.load(again)
    assert any(
        f"repeats {first}: data, settings, weights, code" in text and "losses are the same" in text
        for text in two.notes
    )
    assert [row.test_mse for row in one.rows] == [row.test_mse for row in two.rows]
    assert one.settings == two.settings and two.features == ("log_depth",) and two.notes[:-1] == one.notes
    capsys.readouterr()
    assert main(["probe", data, "--like", str(first), "--penalties", "0.5", "-q", "-o", str(other)]) == 0
    assert {row.penalty for row in Evidence.load(other).rows if row.layer == "0"} == {0.5}
    assert f"Unlike {first}, this run has other settings: penalties" in capsys.readouterr().out.replace("\n", " ")


def test_a_repeated_run_reads_depth_in_the_unit_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(pairs(tmp_path / "d", scenes=12, views=1))
    few = [*QUICK, "-f", "log_depth"]
    first = ["probe", root, "--depth-scale", "1000", *few, "-o", str(tmp_path / "first")]
    monkeypatch.setattr(sys, "argv", ["fathom", *first])
    assert main(first) == 0
    again = ["probe", root, "--like", str(tmp_path / "first"), "-q", "-o", str(tmp_path / "again")]
    assert main(again) == 0
    losses = [[row.test_mse for row in Evidence.load(tmp_path / name).rows] for name in ("first", "again")]
    assert losses[0] == losses[1]
    capsys.readouterr()
    # Without a unit nothing can be read, and the reason is given.
    (tmp_path / "mine.py").write_text("def height(sample):\n    return sample.depth\n")
    assert main(["probe", root, *few, "-f", f"module:{tmp_path / 'mine.py'}:height", "-o", str(tmp_path / "none")]) != 0
    assert "depth-scale" in capsys.readouterr().err


def test_a_run_is_not_replaced_unless_asked(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["probe", data, *QUICK, "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    before = (tmp_path / "out" / "evidence.json").read_bytes()
    assert main(arguments) == 2
    assert "holds a run already; choose another --out, or add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "evidence.json").read_bytes() == before
    assert main([*arguments, "--overwrite", "--seed", "2"]) == 0
    assert (tmp_path / "out" / "evidence.json").read_bytes() != before


def test_a_folder_that_cannot_be_written_is_said_before_the_work(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("fathom.probing.probe.training_pass", lambda *given: pytest.fail("work was done"))
    assert main(["probe", data, "--grid", "3x4", "-q", "-o", str(tmp_path / "file" / "out")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_too_few_test_scenes_are_said_before_the_work(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", data, *QUICK[:-1], "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert "Too few test scenes for a verdict: 3 scenes" in said[1] and "probing" in said[0]
    assert "Few training scenes: 9 scenes" in said[2]
