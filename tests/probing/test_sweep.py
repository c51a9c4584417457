"""A file of runs: each made once, a failed one does not stop the others, one page ranks the encoders of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fathom.errors import DataError, UsageError
from fathom.probing import sweep as module
from fathom.probing.sweep import load_runs, sweep
from tests.data.files import pairs

NET = """
import torch
from torch import nn

def net(seed=0, stride=8):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, stride, stride))
"""

FILE = """
data = "{root}?depth-scale=1000"
fraction = 0.5
settings = {{ size = [24, 32], grid = [3, 4], baselines = ["constant"], controls = 0, pictures = 0, folds = 3, label_curve = false }}

[[run]]
name = "first"
encoders = ["one=module:{root}/net.py:net"]

[[run]]
name = "second"
encoders = ["two=module:{root}/net.py:net?seed=1"]
features = ["depth", "luminance"]
settings = {{ folds = 2 }}

[[run]]
name = "broken"
encoders = ["module:{root}/none.py:net"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    root = pairs(tmp_path / "pairs", scenes=24, views=1)
    (root / "net.py").write_text(NET)
    path = tmp_path / "runs.toml"
    path.write_text(FILE.format(root=root))
    return path


def test_runs_are_made_once_and_ranked_on_one_page(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    found = sweep(file, out)
    assert list(found.runs) == ["first", "second"] and "none.py" in found.failed["broken"]
    assert [found.runs[name].settings.folds for name in found.runs] == [3, 2]
    assert [(group, ranking.feature) for group, ranking in found.rankings] == [(("first", "second"), "depth")]
    assert {place.encoder for place in found.rankings[0][1].places} == {"one", "two"}
    page = (out / "index.html").read_text()
    assert 'href="first/report.html"' in page and "The run broken failed" in page and "Holm" in page
    made: list[str] = []
    real = module.probe

    def noted(encoders, *given, **more):  # type: ignore[no-untyped-def]
        made.extend(encoders)
        return real(encoders, *given, **more)

    monkeypatch.setattr(module, "probe", noted)
    file.write_text(file.read_text().replace("folds = 2", "folds = 4"))
    again = sweep(file, out, changes={"workers": 0})
    assert [name.partition("=")[0] for name in made] == ["two", f"module:{tmp_path}/pairs/none.py:net"]
    assert again.runs["second"].settings.folds == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("fraction", "fractoin", "fractoin"),
        ("folds = 2", "fold = 2", "no setting 'fold' (did you mean 'folds'?)"),
        ("folds = 2", 'folds = "two"', "run 'second'"),
        ('name = "second"', 'name = "first"', "two runs are called 'first'"),
        ('name = "second"', 'name = "../x"', "cannot name its folder"),
        ("[[run]]", "[[run", "is not a TOML file"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_in_one_sentence(file: Path, old: str, new: str, said: str) -> None:
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises((UsageError, DataError)) as error:
        load_runs(file, {})
    assert said in str(error.value) and str(file) in str(error.value)
