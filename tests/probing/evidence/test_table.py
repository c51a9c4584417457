"""The tables of the terminal: names tell encoders apart, and numbers keep their zeros."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fathom.probing.evidence.records import Row
from fathom.probing.evidence.rows import clip_notes
from fathom.probing.evidence.table import ladder_table
from fathom.progress import significant
from tests.report.material import NET, evidence, row


def column(head: str, *extra: Row) -> list[str]:
    made = evidence(verdict=False, drawn=False)
    table = ladder_table(replace(made, rows=(*made.rows, *extra)), "depth", False)
    return next(list(map(str, found.cells)) for found in table.columns if found.header == head)


def test_two_encoders_of_one_name_are_told_apart() -> None:
    assert "net" in column("encoder")
    own = [row for row in evidence(verdict=False).rows if row.encoder == NET and row.role == "encoder" and row.chosen]
    shown = column("encoder", replace(own[0], encoder="module:others/small.py:net?width=8"))
    assert "net" not in shown
    assert len({name for name in shown if "small.py" in name and "random" not in name}) == 2


def test_an_interval_without_ends_is_not_put_down_to_the_scenes() -> None:
    odd = replace(evidence(verdict=False).rows[0], encoder="odd", interval=None)
    assert "unbounded" in column("95 % interval", odd)
    few = replace(odd, cells=odd.cells[:3], errors=odd.errors[:3])
    assert "too few scenes" in column("95 % interval", few) and "unbounded" not in column("95 % interval", few)


def test_clipped_predictions_of_a_feature_are_one_note() -> None:
    pixels, encoder, copy = row("pixels", 1.6), row(NET, 0.9, role="encoder"), row("random", 1.2, role="random", seed=3)
    rows = [
        replace(item, clipped=share)
        for item, share in ((pixels, 0.009), (encoder, 0.031), (copy, 0.02), (pixels, None))
    ]
    (note,) = clip_notes([*rows, replace(rows[1], feature="labels"), replace(rows[1], chosen=False)], {"labels"})
    assert note.startswith("Predictions of depth outside") and note.endswith(
        f": 3.1 % from {NET}, 2.0 % from random (seed 3)."
    )


@pytest.mark.parametrize(
    ("value", "shown"), [(1.7, "1.700"), (0.25, "0.2500"), (1234.0, "1234"), (12.3456, "12.35"), (1e-5, "1.000e-05")]
)
def test_four_digits_whatever_they_are(value: float, shown: str) -> None:
    assert significant(value) == shown
    assert significant(value, "+") == f"+{shown}"
    assert "1.700" in column("MSE") and "0.9000" in column("MSE")
