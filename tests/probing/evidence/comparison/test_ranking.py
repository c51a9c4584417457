"""Encoders are ranked by loss, every pair is tested, and letters say which pairs do not differ."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fathom.probing.evidence.comparison.ranking import letters_of, rank
from fathom.probing.evidence.evidence import Evidence
from fathom.report.probe.page import page
from fathom.report.probe.predictors import display_names
from tests.report.material import NET, evidence

NAMES = ["a", "b", "c", "d", "e", "f"]


@given(st.sets(st.sampled_from(list(combinations(NAMES, 2)))))
def test_two_names_share_a_letter_exactly_where_they_are_not_apart(chosen: set[tuple[str, str]]) -> None:
    letters = letters_of(NAMES, {frozenset(pair) for pair in chosen})
    for pair in combinations(NAMES, 2):
        assert bool(set(letters[pair[0]]) & set(letters[pair[1]])) == (pair not in chosen)


def test_a_group_inside_another_gets_no_letter() -> None:
    assert letters_of(["a", "b", "c"], {frozenset("ac")}) == {"a": "a", "b": "ab", "c": "b"}
    assert letters_of(["a", "b"], set()) == {"a": "a", "b": "a"}


def several() -> Evidence:
    """A run with the net, its twin with a little noise by scene, and a far worse one."""
    made = evidence()
    noise = np.random.default_rng(3).normal(0, 0.05, len(made.test_scenes))
    twin = {"encoder": "twin", "of": None}
    rows = []
    for row in made.rows:
        if row.role == "encoder":
            cells = np.asarray(row.cells)
            near = np.asarray(row.errors) * (1 + noise)
            far = np.asarray(row.errors) + 0.8 * cells
            rows.append(replace(row, **twin, errors=tuple(near.tolist()), test_mse=float(near.sum() / cells.sum())))
            loss = float(far.sum() / cells.sum())
            rows.append(replace(row, encoder="worse", errors=tuple(far.tolist()), test_mse=loss))
    return replace(made, rows=(*made.rows, *rows))


def test_encoders_that_differ_by_chance_share_a_group_and_a_worse_one_has_its_own() -> None:
    made = several()
    found = rank(made, "depth")
    assert found is not None
    assert {item.encoder for item in found.places[:2]} == {NET, "twin"} and found.places[2].encoder == "worse"
    assert found.letters == ("a", "a", "b") and len(found.pairs) == 3
    worst = next(pair for pair in found.pairs if pair.measurement.encoder == "worse" and pair.against.encoder == NET)
    assert worst.difference > 0.79 and worst.p_holm is not None and worst.p_holm < 0.01
    text = str([str(cell) for column in found.table().columns for cell in column.cells])
    assert "worse" in text and "< 0.001" in text


def test_the_report_has_the_ranking_where_there_are_several_encoders() -> None:
    html = page(several())
    assert "<h2>Ranking</h2>" in html and f">{display_names(several())['worse']}<" in html
    alone = evidence()
    assert rank(alone, "depth") is None and "<h2>Ranking</h2>" not in page(alone)
