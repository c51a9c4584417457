"""``fathom report``, and the report that every probe run writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fathom.cli.main import main
from tests.data.files import pairs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the baselines on a small folder."""
    folder = tmp_path_factory.mktemp("probe")
    data = f"{pairs(folder / 'd', scenes=12, views=1)}?depth-scale=1000"
    assert (
        main(["probe", data, "-o", str(folder / "run"), "--grid", "3x4", "-q", "--baselines", "constant,position"]) == 0
    )
    return folder / "run"


def test_every_run_writes_a_report_that_its_folder_gives_again(run: Path, tmp_path: Path) -> None:
    first = (run / "report.html").read_text(encoding="utf-8")
    assert "<h2>Point clouds</h2>" in first and "data:image/png;base64," in first
    assert main(["report", str(run), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == first


def test_it_writes_beside_the_evidence_unless_told_otherwise(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert main(["report", str(run / "evidence.json")]) == 0
    assert capsys.readouterr().out == f"Written: {run / 'report.html'}\n"
    assert (run / "report.html").read_bytes() == content


def test_without_its_pictures_a_run_still_has_a_report(run: Path, tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_bytes((run / "evidence.json").read_bytes())
    assert main(["report", str(tmp_path)]) == 0
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>Loss of each predictor</h2>" in html and "<h2>Pictures</h2>" not in html


def test_what_cannot_be_read_is_one_sentence(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert main(["report", str(tmp_path)]) == 1
    (tmp_path / "evidence.json").write_bytes((run / "evidence.json").read_bytes())
    (tmp_path / "pictures.npz").write_bytes(b"PK")
    assert main(["report", str(tmp_path)]) == 1
    first, second, third = capsys.readouterr().err.splitlines()
    assert "there is no evidence here" in first and "there is no evidence here" in second
    assert "pictures.npz: is not the pictures of a run" in third
    assert not (tmp_path / "report.html").exists()
