"""Verdicts: the rule case by case, and the engine on simulated studies of known truth."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import significance, statistics, verdicts
from analysis.significance import Estimate
from analysis.verdicts import Hypothesis

ALPHA = 0.05


def tight(mean):
    """An estimate from five seeds with a standard error of 0.3."""
    return Estimate(mean, 0.2**2, 4, 0.05, 800.0)


@pytest.mark.parametrize(
    ("mean", "direction", "margin", "verdict"),
    [
        (3.0, "higher", 0.0, "supported"),
        (3.0, "higher", 2.9, "inconclusive"),
        (3.0, "higher", 6.0, "contradicted"),
        (-3.0, "higher", 0.0, "contradicted"),
        (-3.0, "lower", 0.0, "supported"),
        (3.0, "lower", 6.0, "supported"),
        (3.0, "lower", 0.0, "contradicted"),
        (0.1, "higher", 0.0, "inconclusive"),
        (0.1, "equal", 2.0, "supported"),
        (-0.1, "equal", 2.0, "supported"),
        (0.1, "equal", 0.4, "inconclusive"),
        (2.4, "equal", 2.0, "inconclusive"),
        (5.0, "equal", 2.0, "contradicted"),
        (-5.0, "equal", 2.0, "contradicted"),
    ],
)
def test_each_verdict(mean, direction, margin, verdict):
    assert verdicts.decide([Hypothesis(tight(mean), direction, margin)], ALPHA)[0].verdict == verdict


def test_the_p_value_is_that_of_the_margin_and_of_two_one_sided_tests():
    cases = ((1.0, "higher", 0.5), (0.5, "equal", 1.0), (-2.0, "equal", 1.0))
    family = [Hypothesis(tight(mean), direction, margin) for mean, direction, margin in cases]
    higher, equal, apart = verdicts.decide(family, ALPHA)
    assert higher.p == pytest.approx(significance.p_value(tight(0.5)))
    assert equal.p == pytest.approx(significance.p_value(tight(0.5)) / 2)
    assert apart.p == pytest.approx(significance.p_value(tight(-1.0)))


def test_the_family_makes_a_verdict_harder_but_not_for_the_clearest_rows():
    alone = Hypothesis(tight(0.9), "higher", 0.0)
    assert verdicts.decide([alone], ALPHA)[0].verdict == "supported"
    others = [Hypothesis(tight(0.05), "higher", 0.0)] * 9
    decisions = verdicts.decide([alone, *others, Hypothesis(tight(9.0), "higher", 0.0)], ALPHA)
    assert [one.verdict for one in decisions] == ["inconclusive"] * 10 + ["supported"]
    assert decisions[0].p_adjusted == pytest.approx(10 * decisions[0].p)
    assert verdicts.decide([], ALPHA) == []


@pytest.mark.parametrize(
    ("by_target", "expected"),
    [
        ({"ash": "supported", "birch": "supported"}, "supported"),
        ({"ash": "contradicted", "birch": "supported"}, "supported on birch, contradicted on ash"),
        ({"ash": "supported", "birch": "inconclusive"}, "supported on ash, inconclusive on birch"),
        ({"ash": "contradicted", "birch": "inconclusive"}, "contradicted"),
        ({"ash": "inconclusive", "birch": "not run"}, "inconclusive"),
        ({"ash": "supported", "birch": "not run"}, "supported on ash, not run on birch"),
        ({"ash": "not run", "birch": "not run"}, "not run"),
        (
            {"ash": "supported", "birch": "contradicted", "cedar": "supported"},
            "supported on ash and cedar, contradicted on birch",
        ),
    ],
)
def test_overall_verdict(by_target, expected):
    assert verdicts.overall(by_target) == expected


def study(rng, seeds, chances, seed_sd, tasks=2, questions=40):
    """Graded answers of arms: questions are as hard for every arm, seeds differ by ``seed_sd`` in accuracy."""
    hard = [rng.uniform(0.2, 0.8, (1, questions)) for _ in range(tasks)]
    arms = []
    for chance in chances:
        level = chance + rng.normal(0, seed_sd, (seeds, 1))
        arms.append({
            str(task): (one + rng.normal(0, 0.15, (seeds, questions)) < level).astype(float)
            for task, one in enumerate(hard)
        })  # fmt: skip
    return arms


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.0), (3, 0.1), (5, 0.0), (5, 0.1)])
def test_a_family_without_effects_is_wrongly_called_no_more_often_than_alpha(seeds, seed_sd):
    """Six references share one arm, so the rows depend on each other; half the rows claim higher, half lower."""
    rng = np.random.default_rng(10 * seeds)
    trials, wrong = 600, 0
    for _ in range(trials):
        arm, *references = study(rng, seeds, [0.5] * 7, seed_sd)
        family = [
            Hypothesis(significance.crossed(statistics.difference(arm, other)), direction, 0.0)
            for other, direction in zip(references, ("higher", "lower") * 3, strict=True)
        ]
        wrong += any(one.verdict != "inconclusive" for one in verdicts.decide(family, ALPHA))
    assert wrong / trials <= ALPHA + 2.5 * np.sqrt(ALPHA * (1 - ALPHA) / trials)


def test_arms_that_differ_by_the_margin_are_not_called_equal():
    rng = np.random.default_rng(2)
    trials, wrong = 600, 0
    for _ in range(trials):
        values = [significance.over_seeds(rng.normal(2.0, 0.5, 5)) for _ in range(3)]
        decisions = verdicts.decide([Hypothesis(one, "equal", 2.0) for one in values], ALPHA)
        wrong += any(one.verdict == "supported" for one in decisions)
    assert 0 < wrong / trials <= ALPHA + 2.5 * np.sqrt(ALPHA * (1 - ALPHA) / trials)


@pytest.mark.parametrize(("seeds", "effect"), [(3, 0.25), (5, 0.12)])
def test_a_true_effect_is_found_with_the_power_that_is_stated(seeds, effect):
    """One true effect among null rows; the power is computed from the components that went into the data."""
    rng = np.random.default_rng(seeds)
    seed_sd, question_sd, noise_sd, tasks, questions, rows, trials = 0.02, 0.3, 0.3, 3, 40, 3, 1000
    noise = noise_sd**2 / (tasks * questions)
    truth = Estimate(0.0, (seed_sd**2 + noise) / seeds, seeds - 1, question_sd**2 / (tasks * questions), 100.0)
    stated = verdicts.power(Hypothesis(truth, "higher", 0.0), effect, ALPHA / rows)
    found = 0
    for _ in range(trials):
        family = []
        for mean in (effect, *[0.0] * (rows - 1)):
            shared = mean + rng.normal(0, seed_sd, (seeds, 1))
            grid = {
                str(task): shared
                + rng.normal(0, question_sd, (1, questions))
                + rng.normal(0, noise_sd, (seeds, questions))
                for task in range(tasks)
            }
            family.append(Hypothesis(significance.crossed(grid), "higher", 0.0))
        found += verdicts.decide(family, ALPHA)[0].verdict == "supported"
    assert 0.4 < stated < 0.95
    assert found / trials == pytest.approx(stated, abs=0.06)


def test_the_power_of_an_equal_claim_is_that_of_being_shown_equal():
    rng = np.random.default_rng(4)
    truth = Estimate(0.0, 0.5**2 / 5, 4, 0.0, np.inf)
    stated = verdicts.power(Hypothesis(truth, "equal", 0.8), effect=99.0, level=ALPHA)
    rows = [Hypothesis(significance.over_seeds(rng.normal(0, 0.5, 5)), "equal", 0.8) for _ in range(2000)]
    found = np.mean([verdicts.decide([one], ALPHA)[0].verdict == "supported" for one in rows])
    assert found == pytest.approx(stated, abs=0.03) and 0.3 < stated < 0.97
