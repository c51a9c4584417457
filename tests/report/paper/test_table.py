"""The table, the figures and the paragraph that a paper takes from a run: numbers are the evidence's, decimals are fixed."""

from __future__ import annotations

import csv
import html
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fathom.cli.main import main
from fathom.probing.evidence.evidence import Evidence
from fathom.report.paper.figures import write_figures
from fathom.report.paper.methods import methods
from fathom.report.paper.table import escaped, fixed, paper_table, to_csv, to_latex
from tests.report.material import evidence, row


def several() -> Evidence:
    """A run with two encoders, of which the second is better at one layer, and random copies of the first."""
    rows = (
        row("pixels", 1.6),
        row("a", 1.2, layer="x", role="encoder", abs_rel=0.3, unit="m"),
        row("b_1", 1.0, layer="y", role="encoder", abs_rel=0.35, unit="m"),
        row("b_1", 0.9, layer="z", role="encoder", chosen=False),
        *(row("random:a", loss, layer="x", role="random", of="a", seed=seed) for seed, loss in enumerate((1.5, 1.1))),
    )
    return replace(evidence(), rows=rows, verdicts=(), label_curves=())


def test_a_line_for_each_chosen_probe_baselines_first_and_seeds_together() -> None:
    table = paper_table(several(), "depth")
    assert [(line.name, line.layer, len(line.rows)) for line in table.lines] == [
        ("pixels", "baseline", 1), ("random a ×2", "x", 2), ("a", "x", 1), ("b_1", "y", 1),
    ]  # fmt: skip
    assert table.lines[1].mse == pytest.approx(1.3) and table.lines[1].span == (1.1, 1.5)


def test_the_csv_has_every_number_with_fixed_decimals() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv([paper_table(several(), "depth")]))))
    found = {line["encoder"]: line for line in lines}
    assert (found["b_1"]["mse"], found["b_1"]["mse_low"], found["b_1"]["mse_high"]) == ("1.00", "0.80", "1.30")
    assert found["a"]["abs_rel"] == "0.300" and found["pixels"]["abs_rel"] == ""
    assert found["random:a"]["seeds"] == "2" and found["random:a"]["mse"] == "1.30"


def test_the_best_encoder_of_each_column_is_bold_and_no_baseline_or_control() -> None:
    text = to_latex([paper_table(several(), "depth")])
    bold = re.findall(r"^(\S+).*?\\textbf\{", text, re.MULTILINE)
    assert re.findall(r"\\textbf\{([^}]*)\}", text)[0] == "0.300"  # AbsRel of a, though its loss is the larger
    assert set(bold) == {"a", r"b\_1"} and text.count(r"\textbf{1.00}") == 1
    assert text.count("{") == text.count("}") and r"\begin{tabular}{llrrrrr}" in text
    for line in re.findall(r"^.* & .*$", text, re.MULTILINE):
        assert line.count(" & ") == 6, line


def test_the_caption_says_protocol_scenes_and_what_the_interval_is_over() -> None:
    caption, run = paper_table(several(), "depth").caption, several()
    for words in (
        f"{len(run.test_scenes)} test scenes",
        "95 % over test scenes",
        run.protocol.name,
        "2 sets of random weights",
    ):
        assert words in caption
    assert "bold" not in paper_table(replace(run, rows=run.rows[:2]), "depth").caption


def test_verdicts_are_marked_and_explained() -> None:
    text = to_latex([paper_table(evidence(), "depth")])
    marks = {"implicit": r"$\bullet$", "absent": r"$\circ$", "inconclusive": "?"}
    mark = marks[next(item.verdict for item in evidence().verdicts if item.feature == "depth")]
    assert re.search(rf"& {re.escape(mark)} \\\\$", text, re.MULTILINE) and f"{mark} " in text


def test_text_is_escaped_and_numbers_keep_their_zeros() -> None:
    assert escaped("a_b & 5 % {x}") == r"a\_b \& 5 \% \{x\}"
    assert fixed(0.5, 3) == "0.500" and fixed(None, 3) == ""


def test_methods_say_what_was_done_and_identify_every_encoder() -> None:
    run = evidence(everything=True)
    text = methods(run)
    assert f"{run.data.train.frames} frames of {run.data.train.scenes} scenes" in text
    assert f"{run.settings.folds}-fold cross-validation over training scenes" in text
    assert run.data.test.fingerprint in text
    assert all(item.encoder in text for item in run.encoders if item.role == "encoder")
    assert "{" not in text and "None" not in text


def test_figures_are_written_in_every_format_and_name_each_line(tmp_path: Path) -> None:
    run = evidence(everything=True)
    tables = [paper_table(run, feature) for feature in run.features]
    written = write_figures(run, tables, tmp_path, ("svg", "pdf"))
    assert {path.suffix for path in written} == {".svg", ".pdf"} and all(path.stat().st_size > 1000 for path in written)
    svg = html.unescape((tmp_path / "losses-depth.svg").read_text(encoding="utf-8"))
    assert [line.name for line in tables[0].lines if line.name not in svg] == []
    assert (tmp_path / "losses-depth.pdf").read_bytes().startswith(b"%PDF")


def test_the_command_writes_them_beside_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several().save(tmp_path)
    assert main(["report", str(tmp_path), "--csv", "--latex", "--figures", "svg"]) == 0
    assert {"table.csv", "table.tex", "methods.txt", "losses-depth.svg"} <= {path.name for path in tmp_path.iterdir()}
    assert main(["report", str(tmp_path), "--figures", "gif"]) == 2
    assert "there is no format 'gif'" in capsys.readouterr().err


def test_a_trained_head_has_a_line_and_no_verdict_of_its_own() -> None:
    run = evidence()
    table = paper_table(run, "depth")
    lines = {line.role: line for line in table.lines}
    assert len(lines["head"].rows) == len(lines["encoder"].rows) == 1
    assert table.verdict(lines["encoder"]) == run.verdicts[0].verdict and table.verdict(lines["head"]) == ""


def test_methods_and_caption_say_what_was_done_in_this_run() -> None:
    made = evidence()
    few = replace(made, data=replace(made.data, train=replace(made.data.train, scenes=3)))
    assert "5-fold" in methods(made) and "3-fold" in methods(few) and "banded" not in methods(made)
    caption = paper_table(made, "depth").caption
    assert "24 test scenes of rooms" in caption and "Pixels: mean colour" in caption and "Banded" not in caption
    banded = [replace(row, layer="banded") if row.layer == "all" else row for row in made.rows]
    made = replace(made, rows=tuple(banded))
    assert "a penalty for each" in methods(made) and "Banded: all layers" in paper_table(made, "depth").caption


def test_methods_name_every_baseline_and_read_as_sentences() -> None:
    run = evidence(everything=True)
    text = methods(run)
    assert "constant, pixels and position" in text and "\n- " not in text
    assert all(part.rstrip().endswith(".") for part in text.strip().split("\n\n"))
