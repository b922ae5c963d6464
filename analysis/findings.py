"""Findings in plain language, made from the numbers: whatever their sign, and nothing that the numbers do not say."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.statistics import AVERAGE
from analysis.study import View

COSTS = {"device_seconds": "device time", "tokens_trained": "trained tokens"}
SIGNS = {"higher": "\N{BLACK UP-POINTING TRIANGLE}", "lower": "\N{BLACK DOWN-POINTING TRIANGLE}", "unclear": "="}


@dataclass(frozen=True)
class Finding:
    """A sentence, what it is about, and its verdict: ``higher``, ``lower`` or ``unclear``."""

    target: str
    verdict: str
    text: str

    @property
    def sign(self) -> str:
        """A symbol for the verdict, so that it does not rest on colour."""
        return SIGNS[self.verdict]


def comparisons(gaps: pd.DataFrame, view: View) -> list[Finding]:
    """Return a finding for every compared pair and target: the average, and the benchmarks where it shows."""
    found = []
    for target in view.targets:
        for arm, reference in view.comparisons:
            rows = gaps[(gaps["target"] == target) & (gaps["arm"] == arm) & (gaps["reference"] == reference)]
            average = rows[rows["task"] == AVERAGE].iloc[0]
            text = f"{_relation(average, view)}. {_benchmarks(rows[rows['task'] != AVERAGE])}."
            found.append(Finding(target, average["verdict"], text))
    return found


def _relation(row: pd.Series, view: View) -> str:
    """Direction, size and interval of a difference of averages; no direction when the interval holds 0."""
    arm, reference = view.titles[row["arm"]], view.titles[row["reference"]]
    span = f"{view.confidence:.0%} interval {points(row['low'])} to {points(row['high'])}"
    if row["verdict"] == "unclear":
        return f"{arm} and {reference} do not differ clearly ({points(row['mean'])} points, {span})"
    where = "above" if row["verdict"] == "higher" else "below"
    return f"{arm} averages {abs(row['mean']):.1f} points {where} {reference} ({span})"


def _benchmarks(rows: pd.DataFrame) -> str:
    parts = []
    for verdict in ("higher", "lower"):
        mine = rows[rows["verdict"] == verdict]
        if len(mine):
            told = ", ".join(f"{row['task']} {points(row['mean'])}" for _, row in mine.iterrows())
            parts.append(f"clearly {verdict} on {len(mine)} of {len(rows)} benchmarks ({told})")
    text = "; ".join(parts) or f"none of the {len(rows)} benchmarks differs clearly"
    return text[0].upper() + text[1:]


def equal_cost(rows: pd.DataFrame, view: View) -> list[Finding]:
    """Return a finding for every row of ``analysis.figure_efficiency.equal_cost``: who is ahead for the same money.

    Where the reference's final model is the cheaper one, that is said, since the arm had more to spend.
    """
    found = []
    for _, row in rows.iterrows():
        text = f"At no more {COSTS[row['cost']]}, {_relation(row, view)}"
        reference = "final model" if row["reference_final"] else "last checkpoint within it"
        text += f"; the reference's {reference} took {row['reference_spent'] / row['spent']:.0%} of that cost."
        found.append(Finding(row["target"], row["verdict"], text))
    return found


def points(number: float) -> str:
    """Return a signed number with one decimal, a true minus sign, and no negative zero."""
    return f"{round(number, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")
