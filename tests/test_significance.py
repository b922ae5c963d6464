"""The tests of differences against known answers: hand-computed cases, textbook examples, simulated error rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis import significance, statistics
from analysis.significance import Estimate


def estimate(mean, seed_error=0.0, question_error=0.0, seeds=3, question_df=500.0):
    return Estimate(mean, seed_error**2, seeds - 1, question_error**2, question_df)


def grid(rng, seeds, questions, seed_sd=0.0, question_sd=0.0, noise_sd=0.0, tasks=3, effect=0.0):
    shared = rng.normal(effect, seed_sd, (seeds, 1))
    return {
        str(task): shared + rng.normal(0, question_sd, (1, questions)) + rng.normal(0, noise_sd, (seeds, questions))
        for task in range(tasks)
    }


def test_a_two_by_two_design_by_hand():
    """Seeds average 2 and 4, questions 1 and 5; no interaction: the rows are 0, 4 and 2, 6."""
    found = significance.crossed({"a": np.array([[0.0, 4.0], [2.0, 6.0]])})
    assert (found.mean, found.seed_df, found.question_df) == (3.0, 1, 1.0)
    assert found.seed_variance == pytest.approx(2.0 / 2)  # variance of 2 and 4, over two seeds
    assert found.question_variance == pytest.approx(8.0 / 2)  # variance of 1 and 5, over two questions


def test_seed_by_question_noise_is_taken_out_of_the_questions_but_never_below_zero():
    """Means of questions are 2 and 4 (variance 2, over 2: 1); the interaction's mean square is 4, over 2 x 2: 1."""
    found = significance.crossed({"a": np.array([[1.0, 5.0], [3.0, 3.0]])})
    assert found.question_variance == pytest.approx(0.0)
    more = significance.crossed({"a": np.array([[0.0, 5.0], [3.0, 2.0]])})
    assert more.question_variance == 0.0


def test_components_of_several_tasks_are_those_that_were_put_in():
    rng = np.random.default_rng(0)
    found = [significance.crossed(grid(rng, 4, 30, 0.2, 0.5, 0.8, tasks=2)) for _ in range(400)]
    noise = 0.8**2 / (2 * 30)
    assert np.mean([one.seed_variance for one in found]) == pytest.approx((0.2**2 + noise) / 4, rel=0.1)
    assert np.mean([one.question_variance for one in found]) == pytest.approx(0.5**2 / (2 * 30), rel=0.1)
    spread = np.var([one.mean for one in found])
    assert np.mean([one.standard_error**2 for one in found]) == pytest.approx(spread, rel=0.25)


def test_one_seed_is_the_t_test_over_questions():
    rows = np.random.default_rng(0).normal(0.3, 1.0, (1, 25))
    expected = stats.ttest_1samp(rows[0], 0.1)
    assert significance.p_value(significance.crossed({"a": rows}), 0.1) == pytest.approx(expected.pvalue)


def test_one_value_a_seed_is_the_paired_t_test():
    first, second = [0.2, 0.6, 0.9, 0.3], [0.1, 0.2, 0.4, 0.4]
    found = significance.over_seeds(np.subtract(first, second))
    assert significance.p_value(found) == pytest.approx(stats.ttest_rel(first, second).pvalue)
    span = stats.ttest_rel(first, second).confidence_interval(0.9)
    ours = significance.interval(found, 0.9)
    assert (ours.low, ours.high) == pytest.approx((span.low, span.high))
    with pytest.raises(ValueError, match="one seed"):
        significance.over_seeds([0.3])


def test_each_part_has_its_own_quantile():
    """Half width at 5 %: t of 2 degrees of freedom, 4.303, and of 10, 2.228; sqrt((4.303 x 3)^2 + (2.228 x 4)^2)."""
    found = estimate(15.70, 3.0, 4.0, seeds=3, question_df=10)
    assert found.half_width(0.05) == pytest.approx(15.69, abs=0.01)
    assert significance.p_value(found) == pytest.approx(0.05, abs=1e-4)
    assert significance.p_value(estimate(-15.70 + 2, 3.0, 4.0, 3, 10), 2.0) == pytest.approx(0.05, abs=1e-4)


def test_p_values_without_spread_and_without_difference():
    assert significance.p_value(estimate(0.5)) == significance.SMALLEST
    assert significance.p_value(estimate(0.5), 0.5) == 1.0
    assert significance.p_value(estimate(0.5, 1e-9)) == significance.SMALLEST
    assert significance.p_value(estimate(0.1 + 0.2, 1e-17), 0.3) == 1.0  # rounding is not evidence


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    values = np.array([0.3, -0.2, 0.4, 0.1])
    found = significance.over_seeds(values)
    one_sided = [
        stats.ttest_1samp(values, -1, alternative="greater").pvalue,
        stats.ttest_1samp(values, 1, alternative="less").pvalue,
    ]
    assert significance.equivalence_p_value(found, 1.0) == pytest.approx(max(one_sided))
    mirrored = significance.over_seeds(-values)
    assert significance.equivalence_p_value(mirrored, 1.0) == pytest.approx(max(one_sided))
    outside = significance.over_seeds(values + 2)
    expected = stats.ttest_1samp(values + 2, 1, alternative="less").pvalue
    assert significance.equivalence_p_value(outside, 1.0) == pytest.approx(expected) and expected > 0.5


def test_holm_on_a_worked_example():
    """Sorted: 4 x 0.005 = 0.02, 3 x 0.01 = 0.03, 2 x 0.03 = 0.06, 1 x 0.04 = 0.04, which the step before lifts."""
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(significance.holm([])) == 0


@pytest.mark.parametrize(("effect", "level"), [(0.5, 0.05), (2.5, 0.05), (2.5, 0.005)])
def test_power_over_seeds_is_that_of_the_noncentral_t(effect, level):
    found = estimate(0.0, 0.5, 0.0, seeds=5)
    limit, shift = stats.t.isf(level / 2, 4), effect / 0.5
    expected = stats.nct.sf(limit, 4, shift) + stats.nct.cdf(-limit, 4, shift)
    assert significance.power(found, effect, level) == pytest.approx(expected, abs=0.002)
    assert significance.power(found, 0.0, level) == pytest.approx(level, rel=0.05)


def test_power_of_the_crossed_design_is_the_simulated_one():
    rng = np.random.default_rng(1)
    truth = estimate(0.0, 0.02, 0.03, seeds=5, question_df=np.inf)
    trials = 20_000
    means = rng.normal(0.1, truth.standard_error, trials)
    halves = truth.half_width(0.02, rng.chisquare(4, trials) / 4)
    assert significance.power(truth, 0.1, 0.02) == pytest.approx(np.mean(np.abs(means) > halves), abs=0.01)
    found = np.mean(np.abs(means - 0.1) < 0.15 - truth.half_width(0.04, rng.chisquare(4, trials) / 4))
    assert significance.equivalence_power(truth, 0.15, 0.02) == pytest.approx(found, abs=0.01)


def test_the_detectable_difference_has_the_power_asked_for():
    found = estimate(7.0, 0.4, 0.9)
    smallest = significance.detectable(found, 0.005, 0.8)
    assert significance.power(found, smallest, 0.005) == pytest.approx(0.8)
    assert significance.detectable(estimate(0.0, 0.4, 0.9, seeds=5), 0.005, 0.8) < smallest  # more seeds, finer
    fixed = Estimate(0.0, 0.0, np.inf, 1.0, np.inf)
    expected = stats.norm.isf(0.025) + stats.norm.isf(0.2)  # the classic 2.8 standard errors
    assert significance.detectable(fixed, 0.05, 0.8) == pytest.approx(expected, abs=1e-3)
    assert significance.detectable(estimate(0.0), 0.05, 0.8) == 0.0
    assert (significance.power(estimate(0.0), 1.0, 0.05), significance.power(estimate(0.0), 0.0, 0.05)) == (1.0, 0.0)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 3.0])  # standard errors: between seeds over by questions
def test_false_positives_are_no_more_than_the_level(seeds, ratio):
    rng = np.random.default_rng(seeds)
    questions, trials = 20, 4000
    seed_sd = ratio * np.sqrt(seeds * (0.3**2 + 0.4**2 / seeds) / (2 * questions))
    false = np.zeros(2)
    for _ in range(trials):
        found = significance.crossed(grid(rng, seeds, questions, seed_sd, 0.3, 0.4, tasks=2))
        false += [abs(found.mean) > found.half_width(level) for level in (0.05, 0.005)]
    rates, errors = false / trials, np.sqrt(np.array([0.05, 0.005]) * [0.95, 0.995] / trials)
    assert (rates <= [0.05, 0.005] + 2.5 * errors).all()
    assert rates[0] > 0.01  # and it is no test that never rejects


@pytest.mark.parametrize("seed_sd", [0.0, 0.01])
def test_at_five_per_cent_the_test_agrees_with_the_bootstrap(seed_sd):
    """Five seeds, outcomes of 0 and 1 questions wide: both exclude 0 in nearly the same trials."""
    rng = np.random.default_rng(5)
    ours, theirs = [], []
    for trial in range(200):
        outcomes = grid(rng, 5, 60, seed_sd, 0.35, 0.3, effect=0.06)
        span = statistics.intervals(outcomes, 400, 0.95, trial)[statistics.AVERAGE]
        ours.append(significance.p_value(significance.crossed(outcomes)) < 0.05)
        theirs.append(not span.low <= 0 <= span.high)
    assert np.mean(np.equal(ours, theirs)) > 0.9
    assert 0.3 < np.mean(theirs) < 0.95  # neither always nor never
