"""Accuracy along a sweep: one curve an arm and target, over the values of the knob that were run.

Pure functions for ``analysis.figure_sweeps`` and ``analysis.learning_rates``. All points of a curve are averaged over
the same seeds, those that every one of them has: else a point would move because its seeds are others.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis import statistics
from analysis.study import SweepView, View, cell, outcomes
from dart.errors import UserError

COLUMNS = ("sweep", "target", "arm", "value", "name", "configured", "mean", "low", "high", "seeds")


def arms(sweep: SweepView) -> list[str]:
    """Return the arms of a sweep, in its order."""
    return list(dict.fromkeys(arm for arm, _, _ in sweep.points))


def curves(answers: pd.DataFrame, view: View, tasks: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """Return one row a point that was run of the sweeps ``names``, columns ``COLUMNS``.

    ``configured`` marks the value of the configuration; mean, low and high are of the average over ``tasks``, in per
    cent.
    """
    rows = []
    for key in names:
        for target in view.targets:
            for arm in arms(view.sweeps[key]):
                labels = {"sweep": key, "target": target, "arm": arm}
                places = [(value, name) for swept, value, name in view.sweeps[key].points if swept == arm]
                points = curve(answers, places, target, tasks, view)
                rows += [{**labels, **point, "configured": point["name"] == arm} for point in points]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def curve(
    answers: pd.DataFrame, found: Sequence[tuple[float, str]], target: str, tasks: Sequence[str], view: View
) -> list[dict[str, object]]:
    """Return value, name, mean, low, high and seeds of the points that were run, over their common seeds."""
    mine = answers[answers["target"] == target]
    known = set(mine["arm"])
    ran = [(value, name) for value, name in found if name in known]
    if not ran:
        return []
    seeds = common_seeds(mine, [name for _, name in ran], target)
    mine = mine[mine["seed"].isin(seeds)]
    rows = []
    for value, name in ran:
        grid = outcomes(cell(mine, name, target), tasks)
        one = statistics.intervals(grid, view.bootstrap, view.confidence, view.seed)[statistics.AVERAGE]
        means = {"mean": 100 * one.mean, "low": 100 * one.low, "high": 100 * one.high}
        rows.append({"value": value, "name": name, **means, "seeds": len(seeds)})
    return rows


def common_seeds(answers: pd.DataFrame, names: Sequence[str], target: str) -> set[int]:
    """Return the seeds that all these arms have for a target; none is refused."""
    common = set.intersection(*(set(cell(answers, name, target)["seed"]) for name in names))
    if not common:
        raise UserError(
            f"The arms {', '.join(names)} have no seed in common for target {target}; train all with the same seeds."
        )
    return common


def written(value: float) -> str:
    """Return a value of a knob as people write it: ``60``, ``0.5``, ``2e-4``."""
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:g}"
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
