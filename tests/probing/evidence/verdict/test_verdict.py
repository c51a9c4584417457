"""The verdict follows its written rule: every baseline, the control task, seeds, Holm, the margin, the least number of scenes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fathom.errors import FathomError
from fathom.probing.evidence.records import VerdictRecord
from fathom.probing.evidence.verdict.cases import PRIOR_SPREAD, PRIOR_WEIGHT, Baseline, Case, Control, moderated
from fathom.probing.evidence.verdict.findings import (
    LEAST_SCENES,
    LEVEL,
    MARGIN,
    reference_baseline,
    reference_weights,
    selectivity_ratio,
    weigh_all,
)
from fathom.probing.evidence.verdict.verdict import decide, verdicts
from fathom.statistics import scene_intervals


def weigh(given: Case, **options: Any) -> VerdictRecord:
    """The tests of one case, as the run makes them of all."""
    return weigh_all([given], **options)[0]


def case(
    gain: float = 0.3,
    scenes: int = 60,
    *,
    selective: bool = True,
    second: float = 0.2,
    seed: int = 0,
    upper_bound: float | None = 0.4,
) -> Case:
    """An encoder that removes `gain` of the position's loss (1 a cell); a constant that is worse by `second`."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(1, 9, scenes) * 100.0
    base = cells * rng.lognormal(-0.08, 0.4, scenes)

    def times(level: float) -> np.ndarray:
        return base * level * rng.lognormal(0, 0.05, scenes)

    position, around = times(1.0), times(1.3)
    errors = times(1 - gain)
    shuffled = base * 1.2 if selective else 1.1 * base * errors / position
    return Case(
        "net",
        "depth",
        cells=cells,
        errors=errors,
        baselines=(
            Baseline("constant", (times(1 + second),), 1.3, shuffled),
            Baseline("position", (position,), 1.1, base * 1.2),
        ),
        control=Control(errors=shuffled, around=around, control_around=base * 1.5),
        upper_bound=None if upper_bound is None else times(upper_bound),
    )


def one(given: Case, **options: float) -> str:
    return verdicts([given], resamples=1000, **options)[0].verdict


def test_each_kind_has_its_world() -> None:
    assert one(case(0.3)) == "implicit"
    assert one(case(0.0)) == "absent"
    assert one(case(-0.5)) == "absent"
    assert one(case(0.06, scenes=16, seed=2)) == "inconclusive"
    assert one(case(0.3, scenes=LEAST_SCENES - 1)) == "too few scenes"
    assert one(case(0.4, scenes=LEAST_SCENES), level=LEVEL) == "implicit"


def test_every_baseline_must_be_beaten_even_one_that_training_thought_weak() -> None:
    good = case(0.3)
    strong = Baseline("patch", (0.5 * good.baselines[1].errors[0],), cv_mse=9.0, control=good.baselines[1].control)
    beaten = replace(good, baselines=(*good.baselines, strong))
    assert reference_baseline(beaten) == 1
    result = verdicts([beaten], resamples=1000)[0]
    assert result.verdict == "inconclusive"
    assert "patch does as well or better" in result.sentence


def test_reference_is_chosen_by_cross_validation_not_by_test_loss() -> None:
    given = case(0.3)
    worse = Baseline("pixels", (2 * given.baselines[1].errors[0],), cv_mse=0.5)
    unknown = Baseline("patch", (0.1 * given.baselines[1].errors[0],))
    assert reference_baseline(replace(given, baselines=(*given.baselines, worse, unknown))) == 2
    assert reference_baseline(replace(given, baselines=(worse, unknown))) == 0
    without = tuple(replace(baseline, cv_mse=None) for baseline in given.baselines)
    assert reference_baseline(replace(given, baselines=without)) == 1


def test_an_encoder_that_does_as_well_on_the_control_task_is_not_implicit() -> None:
    result = verdicts([case(0.3, selective=False)], resamples=1000)[0]
    assert result.verdict == "inconclusive"
    assert "targets of other rooms" in result.sentence
    assert one(replace(case(0.3), control=None)) == "inconclusive"


def test_selectivity_is_the_difference_of_r2() -> None:
    given = case(0.3)
    assert given.control is not None
    found = weigh(given, resamples=1000).selectivity
    assert found is not None
    r2 = 1 - given.errors.sum() / given.control.around.sum()
    control_r2 = 1 - given.control.errors.sum() / given.control.control_around.sum()
    assert found.estimate == pytest.approx(r2 - control_r2)
    assert found.low < found.estimate < found.high


def test_error_of_selectivity_is_that_of_the_jackknife() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.uniform(1, 3, 200) for _ in range(4)]
    found = scene_intervals([selectivity_ratio(*parts)], resamples=500)[0]

    def selectivity(keep: np.ndarray) -> float:
        e, v, e_c, v_c = (item[keep].sum() for item in parts)
        return float(e_c / v_c - e / v)

    left_out = np.array([selectivity(np.arange(200) != s) for s in range(200)])
    assert found.estimate == pytest.approx(selectivity(np.ones(200, dtype=bool)))
    assert found.se == pytest.approx(np.sqrt(199 / 200 * ((left_out - left_out.mean()) ** 2).sum()), rel=0.02)


def test_an_encoder_within_the_spread_of_random_seeds_is_one_more_draw() -> None:
    given = case(0.3)
    seeds = tuple(given.errors * level for level in (0.8, 0.95, 1.1, 1.25, 1.4))
    baseline = Baseline("random:net", seeds, 1.05, given.baselines[1].control)
    losses = np.array([item.sum() for item in seeds]) / given.cells.sum()
    variance, df = baseline.draw_variance(given.cells)
    assert variance == pytest.approx(losses.var(ddof=1) * 1.2)
    assert df == 4
    result = verdicts([replace(given, baselines=(*given.baselines, baseline))], resamples=1000)[0]
    assert result.verdict == "inconclusive"
    assert "one more draw of random:net" in result.sentence
    assert result.seeds_limit and result.seeds_needed is None
    narrow = replace(baseline, errors=tuple(given.errors * level for level in (1.20, 1.21, 1.22, 1.23, 1.24)))
    assert one(replace(given, baselines=(*given.baselines, narrow))) == "implicit"


def test_against_identical_scenes_the_draw_is_a_t_test_with_the_prediction_variance() -> None:
    cells = np.full(20, 10.0)
    levels = np.array([1.0, 1.1, 0.9, 1.05, 0.95])
    seeds = Baseline("random", tuple(cells * level for level in levels), 1.0)
    gain = weigh(Case("net", "depth", cells, 0.8 * cells, (seeds,)), resamples=200).gains[0]
    pooled = (PRIOR_WEIGHT * PRIOR_SPREAD**2 + 4 * np.log(levels).var(ddof=1)) / (PRIOR_WEIGHT + 4)
    t = (np.log(levels.mean()) - np.log(0.8)) / np.sqrt(1.2 * pooled)
    assert gain.p_above == pytest.approx(stats.t.sf(t, PRIOR_WEIGHT + 4))


def test_many_seeds_outweigh_the_assumed_spread() -> None:
    for spread in (0.01, 0.2):
        variance, df = moderated(spread**2, 1000)
        assert df == 999 + PRIOR_WEIGHT
        assert variance == pytest.approx(spread**2, rel=0.05)
    two, _ = moderated(0.0, 2)
    assert two == pytest.approx(1.5 * PRIOR_SPREAD**2 * PRIOR_WEIGHT / (PRIOR_WEIGHT + 1))


def test_share_of_the_gap_and_of_the_loss() -> None:
    found = weigh(case(0.3), resamples=1000)
    assert found.gap_closed is not None
    assert found.gap_closed.low < 0.5 < found.gap_closed.high
    assert found.relative_gain.low < 0.3 < found.relative_gain.high
    assert found.baseline == "position"
    assert weigh(case(0.3, upper_bound=None), resamples=1000).gap_closed is None
    assert weigh(case(0.3, upper_bound=1.5), resamples=1000).gap_closed is None


def test_a_gain_is_the_fraction_of_its_baseline_and_never_above_one() -> None:
    given = case(0.3, scenes=12)
    wild = tuple(given.errors * level for level in (1.0, 30.0, 2.0))
    copies = Baseline("random:net", wild, 1.0, given.baselines[1].control)
    found = weigh(replace(given, baselines=(*given.baselines, copies)), resamples=500)
    for gain in found.gains:
        loss = next(item for item in (*given.baselines, copies) if item.name == gain.baseline).mean.sum()
        assert gain.estimate == pytest.approx(1 - given.errors.sum() / loss)
        assert gain.low < gain.estimate < gain.high < 1
    perfect = weigh(replace(given, errors=np.zeros(12)), resamples=500)
    assert {(gain.estimate, gain.low, gain.high, gain.p_above) for gain in perfect.gains} == {(1, 1, 1, 0)}


@pytest.mark.parametrize("scenes", [10, 30, 60])
def test_a_gain_and_its_interval_never_disagree(scenes: int) -> None:
    for seed in range(20):
        for gain in weigh(case(0.05, scenes, seed=seed), resamples=4000).gains:
            assert (gain.low > 0) == (gain.p_above < 0.025) or gain.p_above == pytest.approx(0.025, rel=0.2)
            assert (gain.high < MARGIN) == (gain.p_margin < 0.025) or gain.p_margin == pytest.approx(0.025, rel=0.2)


def test_absent_needs_the_gain_to_be_below_the_margin() -> None:
    just = case(0.03, scenes=300)
    assert one(replace(just, control=None)) == "absent"
    assert one(replace(just, control=None), margin=0.01) == "inconclusive"


def test_a_real_but_small_gain_is_implicit_and_said_to_be_small() -> None:
    result = verdicts([case(0.03, scenes=300)], resamples=1000)[0]
    assert result.verdict == "implicit"
    assert result.p_absent <= LEVEL
    assert f"under {100 * MARGIN:g} %" in result.sentence


def test_holm_makes_company_costly() -> None:
    alone = case(0.08, scenes=16, seed=5, second=1.0)
    p = weigh(alone, resamples=2000).p_implicit
    assert 0.005 < p < LEVEL
    assert one(alone, level=LEVEL) == "implicit"
    company = [alone] + [case(0.0, scenes=30, seed=seed) for seed in range(10, 11 + int(LEVEL / p))]
    decided = verdicts(company, resamples=2000, level=LEVEL)
    assert decided[0].verdict != "implicit"
    assert decided[0].p_implicit == pytest.approx(min(1.0, p * len(company)))


def test_the_rule_on_corrected_values() -> None:
    found = weigh(case(0.3), resamples=500)

    def kind(p_implicit: float, p_absent: float, **options: float) -> str:
        return decide(replace(found, p_implicit=p_implicit, p_absent=p_absent), **options).verdict

    assert kind(LEVEL, 1.0) == "implicit"
    assert kind(LEVEL + 0.001, LEVEL) == "absent"
    assert kind(LEVEL + 0.001, LEVEL + 0.001) == "inconclusive"
    assert kind(0.02, 1.0, level=0.01) == "inconclusive"


def test_records_have_the_weakest_gain_first() -> None:
    record = verdicts([case(0.3)], resamples=500)[0]
    assert record.verdict == "implicit"
    assert [gain.baseline for gain in record.gains] == ["position", "constant"]
    assert record.gap_closed is not None and record.gap_closed.low < record.gap_closed.estimate < record.gap_closed.high
    assert sum(gain.weight for gain in record.gains) == pytest.approx(1)


def test_scenes_without_a_valid_cell_do_not_count_towards_the_least() -> None:
    given = case(0.3, scenes=LEAST_SCENES)
    empty = np.arange(LEAST_SCENES) == 0

    def drop(values: np.ndarray) -> np.ndarray:
        return np.where(empty, 0.0, values)

    assert given.control is not None
    fewer = replace(
        given,
        cells=drop(given.cells),
        errors=drop(given.errors),
        baselines=tuple(replace(baseline, errors=(drop(baseline.errors[0]),)) for baseline in given.baselines),
        upper_bound=None,
    )
    result = verdicts([fewer], resamples=500)[0]
    assert result.verdict == "too few scenes"
    assert f"{LEAST_SCENES - 1} test scenes" in result.sentence


def test_no_baseline_is_refused() -> None:
    with pytest.raises(FathomError, match="no baseline"):
        weigh(replace(case(), baselines=()))


def test_a_further_baseline_never_makes_implicit_easier() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        given = case(rng.uniform(0, 0.3), scenes=20, seed=seed)
        noise = rng.lognormal(0, 0.3, 20)
        extra = Baseline("more", (given.baselines[1].errors[0] * noise,), 0.5, given.baselines[1].control * noise)
        p = weigh(replace(given, baselines=(*given.baselines, extra)), resamples=300).p_implicit
        assert p >= weigh(given, resamples=300).p_implicit


def test_absent_does_not_turn_on_which_of_two_near_baselines_is_ahead() -> None:
    given = case(0.0, scenes=40, seed=3)
    position = given.baselines[1]
    twin = Baseline(
        "pixels", (position.errors[0] * np.random.default_rng(1).lognormal(0, 0.15, 40),), 1.1, position.control
    )
    p_values = []
    for ahead in (0.98, 0.99, 1.0, 1.01, 1.02):  # what other folds make of the same two baselines
        both = (given.baselines[0], position, replace(twin, cv_mse=1.1 * ahead))
        p_values.append(weigh(replace(given, baselines=both), resamples=1000).p_absent)
    assert max(p_values) < 2 * min(p_values)


def test_weights_come_from_cross_validated_losses() -> None:
    given = case()
    weights = reference_weights(given)
    assert sum(weights) == pytest.approx(1)
    assert weights[0] / weights[1] == pytest.approx(np.exp(-(1.3 / 1.1 - 1) / MARGIN))
    unknown = Baseline("patch", (given.baselines[0].errors[0],))
    assert reference_weights(replace(given, baselines=(*given.baselines, unknown)))[2] == 0
    assert reference_weights(replace(given, baselines=(unknown, unknown))) == [0.5, 0.5]


def test_absent_is_the_weighted_bonferroni_p_value() -> None:
    found = weigh(case(0.02, scenes=40), resamples=500)
    assert found.p_absent == pytest.approx(min(1, min(gain.p_margin / gain.weight for gain in found.gains)))


def test_selectivity_is_tested_against_every_baseline() -> None:
    given = case(0.3)
    assert weigh(given, resamples=500).p_selectivity < 0.01
    # A baseline that the control task leaves as far behind as the feature does: nothing is selective compared with it.
    place = replace(
        given.baselines[1],
        name="finer place",
        control=given.control.errors * given.baselines[1].errors[0] / given.errors,
    )
    found = weigh(replace(given, baselines=(*given.baselines, place)), resamples=500)
    assert found.p_selectivity > 0.2
    assert found.p_implicit == found.p_selectivity


def test_seeds_that_limit_the_verdict_are_counted() -> None:
    given = case(0.3, scenes=200)
    mean = given.baselines[1].errors[0] * 0.85

    def with_seeds(count: int) -> Case:
        z = stats.norm.ppf((np.arange(count) + 0.5) / count)
        seeds = tuple(mean * (1 + 0.1 * z_i / z.std(ddof=1)) for z_i in z)
        return replace(
            given, baselines=(*given.baselines, Baseline("random:net", seeds, 1.0, given.baselines[1].control))
        )

    few = weigh(with_seeds(3), resamples=1000)
    assert few.p_implicit > LEVEL and few.seeds_needed is not None and 3 < few.seeds_needed < 30
    enough = int(few.seeds_needed)
    assert f"--controls {enough}" in verdicts([with_seeds(3)], resamples=1000)[0].sentence
    assert weigh(with_seeds(enough + 1), resamples=1000).p_implicit <= LEVEL
    assert weigh(given, resamples=500).seeds_needed is None


def test_an_encoder_that_is_its_own_random_copy_is_noticed() -> None:
    given = case(0.3)
    other = given.baselines[1].errors[0]
    copies = Baseline(
        "random:net", (1.01 * other, given.errors * (1 + 1e-6), 0.99 * other), 1.1, given.baselines[1].control
    )
    result = verdicts([replace(given, baselines=(*given.baselines, copies))], resamples=500)[0]
    assert result.verdict != "implicit"
    assert "exactly those of random:net" in result.sentence
    assert result.same_as == "random:net"
    assert one(given) == "implicit"


def test_a_withheld_verdict_says_why_and_keeps_the_numbers() -> None:
    result = verdicts([case(0.3)], resamples=500, withheld="Frames were taken for scenes.")[0]
    assert (result.verdict, result.sentence) == ("withheld", "Frames were taken for scenes.")
    assert result.p_implicit < LEVEL


def test_cases_are_weighed_alike_alone_and_together() -> None:
    several = [case(0.3), case(0.1, scenes=20, seed=1), case(0.0, scenes=60, seed=2)]
    for together, alone in zip(weigh_all(several, resamples=500), several, strict=True):
        found = weigh(alone, resamples=500)
        assert together.p_implicit == pytest.approx(found.p_implicit, rel=1e-9)
        assert together.p_absent == pytest.approx(found.p_absent, rel=1e-9)


def test_sentences_count_in_english() -> None:
    empty = replace(case(0.3), cells=np.r_[1.0, np.zeros(59)])
    assert "1 test scene is too few" in verdicts([empty], resamples=50)[0].sentence
    assert "9 test scenes are too few" in verdicts([case(0.3, scenes=9)], resamples=50)[0].sentence
