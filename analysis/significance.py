"""Tests of a mean difference over seeds and questions: p-values, equivalence, Holm's correction and power.

*Why not the bootstrap.* Tables show the intervals of the hierarchical bootstrap (``analysis.statistics``), which make
no assumption on distributions. But the tails of a bootstrap over three to five seeds are a handful of combinations,
too coarse for the small levels that a correction for many claims asks for. So p-values come from a components test.

*The test.* Let ``d[s, t, q]`` be the paired difference of seed s on question q of task t, and the estimate its mean
over seeds and questions, averaged over tasks. Seeds and questions are crossed random effects, tasks are fixed. The
estimate's variance is the sum of two parts, each with its degrees of freedom:

- *between seeds* (seed effects and seed x question noise): the variance of the seeds' averages over S, with S - 1;
- *questions*: the mean square between questions less the part of seed x question noise in it, at least 0.

Satterthwaite's degrees of freedom for the sum of the two are estimated from the same few seeds: when these agree by
chance, the standard error is small *and* the degrees of freedom many. In simulations with three seeds and a large seed
variance such a test errs in 7 % of trials at a level of 5 %, and in 2 to 3 % at a level of 0.5 %. So each part has its
own t quantile, and the half widths add up as squares (Banerjee, 1960, Sankhya 22): the level is kept whatever the
seed variance, at the price of some power where seeds differ little: in the same simulations it errs in 2 to 5 % of
trials at a level of 5 %, and in 0.1 to 0.5 % at a level of 0.5 %.
At the level of 5 % the test agrees with the bootstrap's 95 % interval where questions matter most, and is stricter
where few seeds differ much: there that interval covers the truth in some 90 % of trials, this test's in 95 %.
``tests/test_significance.py`` keeps watch over these rates.

With one value a seed (a cost, a share) only the first part is there, and the test is the paired t test over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from analysis.statistics import ROUNDING, Interval, Outcomes

SMALLEST = 1e-12  # p-values are not followed below it
STRATA = 500  # equally likely values of the seeds' mean square over which power is averaged


@dataclass(frozen=True)
class Estimate:
    """A mean, its variance between seeds and by questions (squared unit of the mean), and their degrees of freedom.

    One fixed model has no variance between seeds, one value a seed none by questions; such a part's degrees of freedom
    are infinite.
    """

    mean: float
    seed_variance: float
    seed_df: float
    question_variance: float
    question_df: float

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, in its unit."""
        return float(np.sqrt(self.seed_variance + self.question_variance))

    def half_width(self, level: float, seeds: ArrayLike = 1.0) -> NDArray[np.float64]:
        """Half width of the two-sided ``1 - level`` interval, if the variance between seeds were ``seeds`` times it."""
        by_seed, by_question = (special.stdtrit(df, level / 2) ** 2 for df in (self.seed_df, self.question_df))
        return np.sqrt(by_seed * self.seed_variance * np.asarray(seeds) + by_question * self.question_variance)


def crossed(differences: Outcomes) -> Estimate:
    """Estimate the average over tasks from paired differences, task -> array of shape (seeds, questions).

    The arrays are those of :func:`analysis.statistics.difference`, in any unit; all tasks have the same seeds, and at
    least two questions each. A single seed is a fixed model: only questions vary.
    """
    rows = list(differences.values())
    seeds = {len(rows_SQ) for rows_SQ in rows}
    if len(seeds) != 1 or min(rows_SQ.shape[1] for rows_SQ in rows) < 2:
        raise ValueError("tasks have different numbers of seeds, or fewer than two questions")
    count = seeds.pop()
    averages_S = np.mean([rows_SQ.mean(axis=1) for rows_SQ in rows], axis=0)
    sizes = np.array([rows_SQ.shape[1] for rows_SQ in rows])
    between_T = np.array([rows_SQ.mean(axis=0).var(ddof=1) for rows_SQ in rows]) / sizes / len(rows) ** 2
    between, noise, seed_variance = float(between_T.sum()), 0.0, 0.0
    if count > 1:
        noise = sum(_interaction(rows_SQ) / rows_SQ.shape[1] for rows_SQ in rows) / len(rows) ** 2
        seed_variance = float(averages_S.var(ddof=1)) / count
    return Estimate(
        mean=float(averages_S.mean()),
        seed_variance=seed_variance,
        seed_df=count - 1 if count > 1 else np.inf,
        question_variance=max(between - noise / count, 0.0),
        question_df=between**2 / float((between_T**2 / (sizes - 1)).sum()) if between else np.inf,  # Satterthwaite's
    )


def _interaction(rows_SQ: NDArray[np.float64]) -> float:
    """Mean square of what neither the seed nor the question explains."""
    rest = rows_SQ - rows_SQ.mean(axis=0) - rows_SQ.mean(axis=1, keepdims=True) + rows_SQ.mean()
    return float((rest**2).sum()) / ((rows_SQ.shape[0] - 1) * (rows_SQ.shape[1] - 1))


def over_seeds(values: Sequence[float] | NDArray[np.float64]) -> Estimate:
    """Estimate the mean of one value a seed; at least two, for instance differences of log costs."""
    if len(values) < 2:
        raise ValueError("one seed says nothing of the spread between seeds")
    return Estimate(float(np.mean(values)), float(np.var(values, ddof=1)) / len(values), len(values) - 1, 0.0, np.inf)


def interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval that the test inverts: it excludes what the test rejects at ``1 - confidence``."""
    half = float(estimate.half_width(1.0 - confidence))
    return Interval(estimate.mean, estimate.mean - half, estimate.mean + half)


def p_value(estimate: Estimate, margin: float = 0.0) -> float:
    """Return the two-sided p of the hypothesis that the true mean is ``margin``, at least ``SMALLEST``.

    It is the level whose half width is the distance from the margin. Values without any spread differ from the
    margin or do not: p is then ``SMALLEST`` or 1.
    """
    distance = abs(estimate.mean - margin)
    if distance <= ROUNDING:
        return 1.0
    if estimate.half_width(SMALLEST) <= distance:
        return SMALLEST

    def excess(log_level: float) -> float:
        return float(estimate.half_width(np.exp(log_level))) - distance

    return float(np.exp(optimize.brentq(excess, np.log(SMALLEST), 0.0)))


def equivalence_p_value(estimate: Estimate, margin: float) -> float:
    """Return the p of two one-sided tests (TOST): small where the true mean lies within ``-margin`` to ``margin``.

    Source: Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15.
    """
    above = p_value(estimate, -margin) / 2  # of a mean of -margin or less, where the estimate lies above it
    below = p_value(estimate, margin) / 2
    return max(above if estimate.mean > -margin else 1 - above, below if estimate.mean < margin else 1 - below)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return p-values adjusted for a family by Holm's step-down (1979, Scandinavian Journal of Statistics 6).

    The chance of any false rejection among those with an adjusted p below alpha is at most alpha, however the tests
    depend on each other.
    """
    raw = np.asarray(p_values, dtype=float)
    order = np.argsort(raw, kind="stable")
    steps = raw[order] * np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def power(estimate: Estimate, effect: float, level: float) -> float:
    """Return the chance to reject at ``level`` (two-sided) when the true mean is ``effect`` away from the margin.

    Taken as true are the estimated variances, never the estimated mean. With one value a seed this is the power by
    the noncentral t distribution; in general it is averaged over the chi-squared distribution of the seeds' mean
    square, the questions' part being known well.
    """
    return _averaged(
        estimate,
        level,
        lambda half_K, error: special.ndtr((effect - half_K) / error) + special.ndtr((-effect - half_K) / error),
        certain=float(effect != 0),
    )


def equivalence_power(estimate: Estimate, margin: float, level: float) -> float:
    """Return the chance that TOST at ``level`` shows a mean within the margin when the true mean is 0."""
    return _averaged(
        estimate,
        2 * level,  # each of the two tests is one-sided
        lambda half_K, error: np.maximum(2 * special.ndtr((margin - half_K) / error) - 1, 0.0),
        certain=1.0,
    )


def _averaged(
    estimate: Estimate,
    level: float,
    chance: Callable[[NDArray[np.float64], float], NDArray[np.float64]],
    certain: float,
) -> float:
    """Average ``chance`` over the half widths that may come out; ``certain`` is the answer without any spread."""
    if not estimate.standard_error:
        return certain
    half_K = estimate.half_width(level)
    if np.isfinite(estimate.seed_df):
        middles_K = (np.arange(STRATA) + 0.5) / STRATA
        half_K = estimate.half_width(level, special.chdtri(estimate.seed_df, 1 - middles_K) / estimate.seed_df)
    return float(np.mean(chance(half_K, estimate.standard_error)))


def detectable(estimate: Estimate, level: float, target: float) -> float:
    """Return the smallest difference from the margin that is found at ``level`` with a power of ``target``."""
    if not estimate.standard_error:
        return 0.0
    most = float(estimate.half_width(level))
    while power(estimate, most, level) < target:
        most *= 2
    return float(optimize.brentq(lambda effect: power(estimate, effect, level) - target, 0.0, most))
