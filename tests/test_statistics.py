"""The bootstrap against known answers: analytic standard errors, pairing, coverage."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import statistics
from dart.errors import UserError

DRAWS = 4000


def spread(outcomes, task=statistics.AVERAGE):
    return statistics.resample(outcomes, DRAWS, 1)[task].std()


def test_constant_outcomes_have_no_width():
    found = statistics.intervals({"a": np.full((3, 20), 0.5)}, 200, 0.95, 0)["a"]
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_fixed_model_has_the_binomial_standard_error():
    outcomes = {"a": np.array([[1.0] * 30 + [0.0] * 70])}
    assert spread(outcomes) == pytest.approx(np.sqrt(0.3 * 0.7 / 100), rel=0.05)
    found = statistics.intervals(outcomes, DRAWS, 0.95, 1)["a"]
    half = 1.96 * np.sqrt(0.3 * 0.7 / 100)
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.015)


@pytest.mark.parametrize("values", [(0.4, 0.5, 0.6), (0.2, 0.3, 0.5, 0.6, 0.9)])
def test_seeds_alone_give_the_unbiased_standard_error_of_their_mean(values):
    outcomes = {"a": np.repeat(np.array(values)[:, None], 50, axis=1)}
    assert spread(outcomes) == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)), rel=0.05)


def test_more_seeds_that_agree_do_not_hide_the_uncertainty_of_the_questions():
    row = (np.arange(80) % 3 == 0).astype(float)
    one, four = ({"a": np.tile(row, (seeds, 1))} for seeds in (1, 4))
    assert spread(four) == pytest.approx(spread(one), rel=0.02)


def test_a_seed_is_one_model_for_all_tasks():
    """Seed effects that cancel between tasks leave the average certain; drawn task by task they would not."""
    up, down = (np.repeat(np.array(values)[:, None], 40, axis=1) for values in ((0.2, 0.5, 0.8), (0.8, 0.5, 0.2)))
    assert spread({"a": up, "b": down}) == pytest.approx(0.0, abs=1e-9)


def test_average_weighs_tasks_not_questions():
    found = statistics.intervals({"a": np.ones((2, 10)), "b": np.zeros((2, 90))}, 100, 0.9, 0)
    assert found[statistics.AVERAGE].mean == pytest.approx(0.5)


def test_same_seed_same_draws_whatever_the_order_of_tasks():
    rng = np.random.default_rng(0)
    tasks = {name: rng.integers(0, 2, (3, 30)).astype(float) for name in "abc"}
    backwards = dict(reversed(tasks.items()))
    assert statistics.intervals(tasks, 300, 0.95, 7) == statistics.intervals(tasks, 300, 0.95, 7)
    ours, theirs = (statistics.resample(one, 300, 7) for one in (tasks, backwards))
    assert all(np.allclose(ours[name], theirs[name]) for name in ours)
    assert not np.allclose(ours["a"], statistics.resample(tasks, 300, 8)["a"])
    twins = statistics.resample({"a": tasks["a"], "b": tasks["a"]}, 300, 7)
    assert not np.allclose(twins["a"], twins["b"])  # questions of different tasks are drawn independently


def test_pairing_removes_what_both_arms_share():
    rng = np.random.default_rng(0)
    hard = rng.uniform(size=(1, 200))
    worse, better = ({"a": (hard < chance).repeat(3, axis=0).astype(float)} for chance in (0.5, 0.6))
    paired = spread(statistics.difference(better, worse))
    apart = np.hypot(spread(better), spread(worse))
    assert paired < 0.6 * apart
    assert statistics.intervals(statistics.difference(better, better), 100, 0.95, 0)["a"].high == 0.0


def test_difference_compares_a_fixed_model_with_every_seed_and_refuses_strangers():
    three, one = {"a": np.ones((3, 4))}, {"a": np.array([[1.0, 0.0, 0.0, 0.0]])}
    assert statistics.difference(three, one)["a"].mean(axis=0).tolist() == [0.0, 1.0, 1.0, 1.0]
    with pytest.raises(UserError, match="same seeds"):
        statistics.difference(three, {"a": np.ones((2, 4))})
    with pytest.raises(UserError, match="same questions"):
        statistics.difference(three, {"a": np.ones((3, 5))})
    with pytest.raises(ValueError, match="different numbers of seeds"):
        statistics.resample({"a": np.ones((3, 4)), "b": np.ones((2, 4))}, 10, 0)


def test_verdict_needs_an_interval_without_zero():
    assert statistics.Interval(1.0, 0.1, 2.0).verdict == "higher"
    assert statistics.Interval(-1.0, -2.0, -0.1).verdict == "lower"
    assert statistics.Interval(1.0, -0.1, 2.0).verdict == "unclear"
    assert statistics.Interval(1.0, 1e-16, 2.0).verdict == "unclear"  # rounding is not evidence


@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_intervals_cover_the_truth_as_often_as_they_say(effect):
    rng = np.random.default_rng(3)
    trials, covered, wide = 200, 0, []
    for trial in range(trials):
        seeds = rng.normal(effect, 0.02, (3, 1))
        outcomes = {
            task: seeds + rng.normal(0, 0.35, (1, 60)) + rng.normal(0, 0.3, (3, 60)) for task in ("a", "b", "c")
        }
        found = statistics.intervals(outcomes, 400, 0.95, trial)[statistics.AVERAGE]
        covered += found.low <= effect <= found.high
        wide.append(found.high - found.low)
    assert covered / trials >= 0.92
    true_error = np.sqrt(0.02**2 / 3 + 0.35**2 / 180 + 0.3**2 / 540)
    assert np.mean(wide) < 1.5 * 2 * 1.96 * true_error  # and are not wide for nothing
