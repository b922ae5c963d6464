"""The rule that turns estimates into verdicts: pure functions, simulated in ``tests/test_verdicts.py``.

Every row (a claim for a target) has one p-value, corrected over its family by Holm's step-down:

- *higher*, *lower*: two-sided, of a true value at the margin. The verdict is *supported* where the adjusted p is below
  alpha and the estimate lies beyond the margin in the claimed direction, *contradicted* where it is below alpha and
  the estimate lies on the other side, else *inconclusive*.
- *equal*: where the estimate lies within the margin, p is that of two one-sided tests (TOST) of a difference as large
  as the margin, and a p below alpha makes the claim *supported*; where it lies beyond, p is two-sided, of a true value
  at the nearer end of the margin, and a p below alpha makes the claim *contradicted*; else *inconclusive*.

Power and detectable difference are those at the strictest level of the correction, alpha over the number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from analysis import significance
from analysis.significance import Estimate

Direction = Literal["higher", "lower", "equal"]
SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_RUN = "supported", "contradicted", "inconclusive", "not run"


@dataclass(frozen=True)
class Hypothesis:
    """A claimed direction of an estimate against a margin, both in the unit of the estimate."""

    estimate: Estimate
    direction: Direction
    margin: float


@dataclass(frozen=True)
class Decision:
    """p-values (raw and adjusted for the family) and the verdict they lead to."""

    p: float
    p_adjusted: float
    verdict: str


def decide(family: Sequence[Hypothesis], alpha: float) -> list[Decision]:
    """Decide the hypotheses of a family, in the order given, by the rule above."""
    raw = [_p_value(one) for one in family]
    adjusted = significance.holm(raw)
    return [
        Decision(p, float(corrected), _verdict(one) if corrected < alpha else INCONCLUSIVE)
        for one, p, corrected in zip(family, raw, adjusted, strict=True)
    ]


def _p_value(one: Hypothesis) -> float:
    mean, margin = one.estimate.mean, one.margin
    if one.direction != "equal":
        return significance.p_value(one.estimate, margin)
    if abs(mean) <= margin:
        return significance.equivalence_p_value(one.estimate, margin)
    return significance.p_value(one.estimate, margin if mean > 0 else -margin)


def _verdict(one: Hypothesis) -> str:
    """What a row says whose adjusted p is below alpha."""
    mean, margin = one.estimate.mean, one.margin
    true = {"higher": mean > margin, "lower": mean < margin, "equal": abs(mean) <= margin}[one.direction]
    return SUPPORTED if true else CONTRADICTED


def power(one: Hypothesis, effect: float, level: float) -> float:
    """Return the chance of *supported* at ``level`` if the true value lies ``effect`` beyond the margin.

    For *equal* it is the chance if there is no difference at all. A chance to reject in the wrong direction is counted
    in, which for any power worth having is negligible.
    """
    if one.direction == "equal":
        return significance.equivalence_power(one.estimate, one.margin, level)
    return significance.power(one.estimate, effect, level)


def overall(by_target: Mapping[str, str]) -> str:
    """Return the verdict over targets, from target -> verdict.

    *supported* needs every target; *contradicted* needs one and no *supported* one; where only some targets support
    the claim, all are named: ``supported on birch, contradicted on ash``.
    """
    found = set(by_target.values())
    if len(found) == 1:
        return found.pop()
    if SUPPORTED in found:
        named = {word: [name for name, verdict in by_target.items() if verdict == word] for word in by_target.values()}
        order = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_RUN)
        return ", ".join(f"{word} on {' and '.join(named[word])}" for word in order if word in named)
    return CONTRADICTED if CONTRADICTED in found else INCONCLUSIVE
