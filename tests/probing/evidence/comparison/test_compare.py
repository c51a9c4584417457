"""Runs are compared in pairs: known differences, the same run, refusals that name what differs, Holm over what is tested."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fathom.errors import UsageError
from fathom.probing.evidence.comparison.compare import Comparison, compare
from fathom.probing.evidence.comparison.differences import differences
from fathom.probing.evidence.comparison.pairs import Pair
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.verdict.cases import moderated
from fathom.probing.evidence.verdict.findings import LEVEL
from fathom.statistics import holm, tail_share
from tests.report.material import NET, SCENES, evidence


def run(**changes: float) -> Evidence:
    """A run; `changes` add a constant to the net's or the upper bound's loss in every scene."""
    made = evidence(verdict=False, drawn=False)
    rows = []
    for item in made.rows:
        extra = {"encoder": changes.get("net", 0.0), "upper_bound": changes.get("upper_bound", 0.0)}.get(item.role, 0.0)
        if extra:
            errors = tuple(e + extra * n for e, n in zip(item.errors, item.cells, strict=True))
            item = replace(item, errors=errors, test_mse=item.test_mse + extra)
        rows.append(item)
    return replace(made, rows=tuple(rows))


def with_settings(**changes: Any) -> Evidence:
    """The run at other settings."""
    return replace(run(), settings=replace(run().settings, **changes))


def pair(found: Comparison, encoder: str, number: int, feature: str = "depth", same: bool = False) -> Pair:
    pairs = found.same_name if same else found.to_reference
    return next(p for p in pairs if (p.measurement.name, p.measurement.run, p.feature) == (encoder, number, feature))


def test_a_known_difference_is_found_exactly() -> None:
    found = compare([run(), run(net=0.25)], ["a", "b"])
    assert found.references["depth"].encoder == NET and found.references["depth"].run == 1
    one = pair(found, NET, 2)
    assert one.difference == pytest.approx(0.25)
    assert one.relative.estimate == pytest.approx(0.25 / 0.9)
    assert one.relative.low < 0.25 / 0.9 < one.relative.high
    assert one.finding == "more loss"
    assert pair(compare([run(net=0.25), run()], ["a", "b"]), NET, 2).finding == "less loss"


def test_the_difference_is_the_paired_one_by_an_independent_computation() -> None:
    found = compare([run()], ["a"])
    one = pair(found, "checkpoint:runs/upper bound", 1)
    made = run()
    net, upper_bound = made.row(NET), made.row("checkpoint:runs/upper bound")
    cells = np.asarray(net.cells)
    theirs, ours = np.asarray(upper_bound.errors), np.asarray(net.errors)
    assert one.difference == pytest.approx((theirs.sum() - ours.sum()) / cells.sum())
    # Delete-one-scene jackknife of the log ratio and Student's t: the interval holds at least that, and not much more.
    value = np.log(theirs.sum() / ours.sum())
    without = np.log((theirs.sum() - theirs) / (ours.sum() - ours))
    scenes = len(ours)
    se = np.sqrt((scenes - 1) / scenes * ((without - value) ** 2).sum())
    half = stats.t.ppf(1 - 0.025 * tail_share(scenes), scenes - 1) * se
    low, high = np.log1p([one.relative.low, one.relative.high])
    assert np.expm1(value) == pytest.approx(one.relative.estimate)
    assert low <= value - 0.98 * half and high >= value + 0.98 * half
    assert high - low < 4 * half


def test_the_same_run_twice_has_no_difference() -> None:
    found = compare([run(), run()], ["a", "a"])
    pairs = [*found.same_name, *(item for item in found.to_reference if item.measurement.name == NET)]
    assert {item.measurement.role for item in found.same_name} == {
        "baseline",
        "encoder",
        "head",
        "random",
        "upper_bound",
    }
    for item in pairs:
        assert (item.difference, item.relative.low, item.relative.high) == (0, 0, 0)
        assert (item.finding, item.p, item.p_holm) == ("the same", None, None)


def test_rounding_is_no_difference() -> None:
    rows = [
        replace(r, errors=tuple(e * (1 + 2e-5 * (i % 2)) for i, e in enumerate(r.errors))) if r.role == "encoder" else r
        for r in run().rows
    ]
    assert pair(compare([run(), replace(run(), rows=tuple(rows))], ["a", "b"]), NET, 2).finding == "the same"
    assert pair(compare([run(), run(net=0.001)], ["a", "b"]), NET, 2).finding == "more loss"


def test_scenes_in_another_order_are_put_in_order() -> None:
    made = run(net=0.1)
    order = np.random.default_rng(0).permutation(len(SCENES))
    rows = [
        replace(item, errors=tuple(np.asarray(item.errors)[order]), cells=tuple(np.asarray(item.cells)[order]))
        for item in made.rows
    ]
    shuffled = replace(made, rows=tuple(rows), test_scenes=tuple(SCENES[i] for i in order))
    assert compare([run(), shuffled], ["a", "b"]).to_json() == compare([run(), made], ["a", "b"]).to_json()


def with_test(made: Evidence, fingerprint: str) -> Evidence:
    return replace(made, data=replace(made.data, test=replace(made.data.test, fingerprint=fingerprint)))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (with_test(run(), "cccc"), "test frames (fingerprints bbbb and cccc)"),
        (replace(run(), test_scenes=(*SCENES[:-1], "attic")), "24 and 24, 23 in both; 'attic' is in the second alone"),
        (with_settings(grid=(30, 40)), "grid (3x4 and 30x40)"),
        (
            replace(run(), rows=tuple(replace(r, feature="edges") for r in run().rows if r.feature == "depth")),
            "feature (depth, normals and edges)",
        ),
        (
            replace(
                with_settings(size=(48, 64)), rows=tuple(replace(r, cells=(7.0, 8.0, *r.cells[2:])) for r in run().rows)
            ),
            "valid cells of depth (2 scenes differ; input sizes 24x32 and 48x64)",
        ),
    ],
)
def test_runs_on_other_test_data_are_refused_by_what_differs(other: Evidence, said: str) -> None:
    with pytest.raises(UsageError, match="runs/a and runs/c cannot be paired") as caught:
        compare([run(), run(), other], ["runs/a", "runs/b", "runs/c"])
    assert said in str(caught.value)
    assert differences(run(), run()) == []


def test_everything_that_differs_is_named() -> None:
    other = with_test(replace(with_settings(grid=(1, 1)), test_scenes=SCENES[::2]), "dddd")
    assert len(differences(run(), other)) == 3


def test_only_encoders_and_upper_bounds_are_tested_and_holm_counts_each_pair_once() -> None:
    found = compare([run(), run(net=0.0001, upper_bound=0.6)], ["a", "b"])
    tested = {
        (p.feature, p.measurement.run, p.measurement.name, p.against.run, p.against.name): p
        for p in (*found.to_reference, *found.same_name)
        if p.p is not None
    }
    # Of each feature: the net of run 2, both heads and both upper bounds against the net of run 1, and the upper bounds in pair; the
    # heads are the same in both runs.
    assert len(tested) == 12
    expected = dict(zip(tested, holm([p.p or 0.0 for p in tested.values()]), strict=True))
    assert {key: p.p_holm for key, p in tested.items()} == expected
    for item in (*found.to_reference, *found.same_name):
        if item.measurement.role in ("baseline", "random"):
            assert item.p is None and item.p_holm is None and item.finding in ("", "the same")
        elif item.p_holm is not None:
            assert (item.finding == "no difference shown") == (item.p_holm > LEVEL)


def test_noise_alone_is_called_no_difference() -> None:
    made = run()
    noise = np.random.default_rng(1).normal(0, 0.05, len(SCENES))
    noise -= noise.mean()
    rows = [
        replace(r, errors=tuple(e + n * c for e, n, c in zip(r.errors, noise, r.cells, strict=True)))
        if r.role == "encoder"
        else r
        for r in made.rows
    ]
    assert pair(compare([made, replace(made, rows=tuple(rows))], ["a", "b"]), NET, 2).finding == "no difference shown"


def test_with_few_scenes_nothing_is_tested() -> None:
    few = [
        replace(
            item,
            test_scenes=SCENES[:9],
            rows=tuple(replace(r, errors=r.errors[:9], cells=r.cells[:9]) for r in item.rows),
        )
        for item in (run(), run(net=0.3))
    ]
    found = compare(few, ["a", "b"])
    assert pair(found, NET, 2).p is None and pair(found, NET, 2).finding == ""
    assert any("there are 9 test scenes" in note for note in found.notes)


def test_seeds_of_a_control_stand_together_and_widen_the_interval() -> None:
    one = pair(compare([run()], ["a"]), f"random:{NET}", 1)
    assert len(one.measurement.seeds) == 3
    assert one.difference == pytest.approx(1.22 - 0.9)
    made = run()
    single = replace(made, rows=tuple(r for r in made.rows if r.role != "random" or "seed=1" in r.encoder))
    alone = pair(compare([single], ["a"]), f"random:{NET}&seed=1", 1)
    variance, df = moderated(float(np.var(np.log([1.2, 1.22, 1.24]), ddof=1)), 3)
    spread = stats.t.ppf(0.975, df) * np.sqrt(variance)

    def below(found: Pair) -> float:
        return float(np.log1p(found.relative.estimate) - np.log1p(found.relative.low))

    assert below(one) == pytest.approx(np.hypot(below(alone), spread), rel=0.05)


def test_a_name_that_two_encoders_share_is_refused_as_reference() -> None:
    made, other = run(), "module:others/small.py:net?width=8"
    twin = [replace(r, encoder=other) for r in made.rows if r.encoder == NET and r.role == "encoder"]
    made = replace(made, rows=(*made.rows, *twin))
    with pytest.raises(UsageError, match=r"'net' means .*others/small.py:net.*; give one of them whole"):
        compare([made], ["a"], against="net")
    assert compare([made], ["a"], against=other).references["depth"].encoder == other
    assert compare([made], ["a"], against="others/small.py/net?width=8").references["depth"].encoder == other


def test_the_reference_can_be_named_and_is_never_chosen_by_test_loss() -> None:
    assert compare([run()], ["a"], against="position").references["depth"].encoder == "position"
    with pytest.raises(UsageError, match=r"No run has an encoder 'postion' \(did you mean 'position'\?\)"):
        compare([run()], ["a"], against="postion")
    made = run()
    baselines = tuple(
        replace(r, cv_mse=9.0 if r.encoder == "position" else 1.0) for r in made.rows if r.role == "baseline"
    )
    assert compare([replace(made, rows=baselines)], ["a"]).references["depth"].encoder == "constant"
    with pytest.raises(UsageError, match="nothing to compare"):
        compare([replace(made, rows=baselines[:1])], ["a"])


def test_what_runs_differ_in_is_said() -> None:
    data, made = run().data, run()
    settings = replace(made.settings, size=(48, 64), penalties=(0.5,), workers=4)
    encoders = tuple(replace(item, weights="ffff") if item.role == "encoder" else item for item in made.encoders)
    other = replace(
        made,
        settings=settings,
        encoders=encoders,
        versions=made.versions | {"torch": "3"},
        data=replace(data, train=replace(data.train, fingerprint="eeee")),
    )
    assert compare([run(), other], ["a", "b"]).notes == (
        "Run 2 has other training frames (48 of data/rooms and 48 of data/rooms).",
        "Run 2 has other settings: size 48x64 instead of 24x32.",
        "Run 2 has other settings: penalties 0.5 instead of 0.1, 1.0.",
        f"Run 2 has other weights of {NET}.",
        "Run 2 has another version of torch (2 and 3).",
    )
    assert compare([run(), run()], ["a", "b"]).notes == ()
