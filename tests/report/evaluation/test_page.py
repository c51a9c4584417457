"""The page of an evaluation: everything in it, nothing that a name could break out of."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from fathom.data.dataset import Dataset
from fathom.evaluation.evaluate import evaluate
from fathom.report.evaluation.page import headline, page
from fathom.report.evaluation.tables import short_names, tables
from tests.evaluation.test_evaluate import Painted, Walls

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def found():  # type: ignore[no-untyped-def]
    models = [Painted(name="first"), Painted(scale=20.0, name=EVIL)]
    return evaluate(models, Dataset.whole(Walls(location="here/walls")), metrics=["boundaries"], pictures=2)


def figures(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', html)[1])


def test_it_holds_every_section_number_and_chart(found) -> None:  # type: ignore[no-untyped-def]
    html = page(found)
    for words in ("Scores", "Paired differences", "Error against depth", "Every frame", "best 1: wall", "worst 1: wall", "mean map", "δ1 ↑", "boundary F1 ↑", "aligned by"):  # fmt: skip
        assert words in html, words
    drawn = figures(html)
    assert len(drawn) == 4
    assert len(re.findall(r'<div class="chart" id="(chart-\d)"', html)) == 4
    table = found.record.tables[0]
    scores, differences, by_depth, every = (drawn[f"chart-{i}"]["choices"] for i in range(4))
    assert len(scores) == len(every) == len(table.metrics) and len(differences) == 3 and len(by_depth) == 3
    assert html.count("<option>") == len(scores) + len(differences) + len(by_depth) + len(every)
    dots = {x for trace in scores[0]["data"] for x in trace["x"]}
    assert dots == {result.scores["abs_rel"].mean for result in table.results}
    assert len(every[0]["data"][0]["x"]) == table.frames
    html = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert html.count('src="data:image/png') == 4 * (1 + 2 * 2) and html.count('src="data:image/jpeg') == 4


def test_names_are_escaped_everywhere(found) -> None:  # type: ignore[no-untyped-def]
    html = page(found)
    assert EVIL not in html and "<img src=x" not in html
    assert "script&gt;&lt;img" in html
    assert "http" not in re.sub(r"<script>.*?</script>", "", html, flags=re.S).replace("http-equiv", "")


def test_the_headline_compares_the_first_model_with_the_mean_map(found) -> None:  # type: ignore[no-untyped-def]
    table = found.record.tables[0]
    item = next(d for d in table.differences if (d.metric, d.first, d.second) == ("rmse", "first", "mean map"))
    said = headline(table)
    assert (
        said.startswith("first: RMSE ")
        and f"{abs(item.estimate):#.3g} m {'less' if item.estimate < 0 else 'more'}" in said
    )
    assert ("no difference is shown" in said) == (item.better == "")
    assert headline(replace(table, differences=())).count(".") >= 1
    clear = replace(item, interval=(-0.5, -0.1), better="")
    assert "after Holm’s correction no difference is shown" in headline(replace(table, differences=(clear,)))
    open_ = replace(item, interval=(-0.5, 0.1), better="")
    assert "; no difference is shown" in headline(replace(table, differences=(open_,)))


def test_terminal_tables_have_every_line(found) -> None:  # type: ignore[no-untyped-def]
    first, second = tables(found.record.tables[0])
    assert first.row_count == 4 and second.row_count == len(found.record.tables[0].differences)


def test_names_lose_their_folders_where_that_is_clear() -> None:
    assert short_names(["runs/a", "hf:org/net", "mean map"]) == {
        "runs/a": "a",
        "hf:org/net": "net",
        "mean map": "mean map",
    }
    assert short_names(["runs/a/best", "runs/b/best"]) == {"runs/a/best": "a/best", "runs/b/best": "b/best"}
    for names, short in (
        (["module:my/x.py:net?weights=/w/a.safetensors", "probe:runs/p"], ["x.py:net", "probe:p"]),
        (["module:x.py:net?w=w/1", "module:x.py:net?w=w/2"], ["x.py:net?w=w/1", "x.py:net?w=w/2"]),
        (["runs/p", "probe:runs/p", "runs/p (2)"], ["p", "probe:p", "p (2)"]),
        (["hf:a/net", "hf:a/net/"], ["hf:a/net", "hf:a/net/"]),
    ):
        assert short_names(names) == dict(zip(names, short, strict=True))
