"""Figure 4: average accuracy against what it cost, by arm: device-seconds on the left, trained tokens on the right.

Costs are cumulative from zero (``analysis.costs`` states what is charged): DART's curve starts where mapper RL,
rewriting and the original CoT have been paid for. ``python -m analysis.figure_efficiency --out figures --view VIEW
--manifests ...`` takes the manifests of the evaluated runs and of everything upstream; it writes the figure, the points
(``figure_efficiency.csv``) and the comparison at equal cost (``figure_efficiency_equal_cost.csv``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from analysis import costs, files, statistics, style
from analysis.study import FINAL, Run, View, cell, checkpoints, of_stage, outcomes, paired, read_runs, samples

NAME = "figure_efficiency"
UPSTREAM = (0, (1, 1.2))
EQUAL_COST = ("target", "arm", "reference", "cost", "spent", "reference_spent", "reference_final")
AXES = (("device_seconds", "device time"), ("tokens_trained", "trained tokens"))


def points(runs: Sequence[Run], answers: pd.DataFrame, view: View) -> pd.DataFrame:
    """Return one row a target, arm and evaluated checkpoint, with cumulative costs averaged over seeds.

    Columns: target, arm, index, final, the costs, upstream_<cost> (spent before the first own step), and mean, low,
    high of the average accuracy in per cent.
    """
    index = costs.by_fingerprint(runs)
    frames = [_spent(run, index) for run in of_stage(runs, "evaluate") if run.labels["arm"] in view.arms]
    keys = ["target", "arm", "index"]
    table = pd.concat(frames).groupby(keys, sort=False).mean(numeric_only=True).reset_index().drop(columns="seed")
    table["final"] = table["final"] > 0.5
    rows = []
    for target, arm, place in table[keys].itertuples(index=False):
        grid = outcomes(cell(answers, arm, target, place), view.tasks)
        average = statistics.intervals(grid, view.bootstrap, view.confidence, view.seed)[statistics.AVERAGE]
        rows.append({name: 100 * getattr(average, name) for name in ("mean", "low", "high")})
    return pd.concat([table, pd.DataFrame(rows)], axis=1)


def _spent(run: Run, index: dict[str, Run]) -> pd.DataFrame:
    made = costs.trained(run, index)
    places = checkpoints(run)
    upstream = costs.total([] if made is None else costs.charged(made, index))
    table = pd.concat([places[["index"]], costs.along(made, places["step"], index)], axis=1)
    labels = {name: run.labels[name] for name in ("target", "arm", "seed")}
    before = {f"upstream_{name}": value for name, value in upstream.items()}
    return table.assign(final=places["checkpoint"] == FINAL, **labels, **before)


def equal_cost(table: pd.DataFrame, answers: pd.DataFrame, view: View) -> pd.DataFrame:
    """Compare each arm's final model with the reference at no higher cost, for every comparison of trained arms.

    The reference is taken at its last evaluated checkpoint that cost no more than the arm's final model did; where even
    its first one cost more, it is skipped. Columns: ``EQUAL_COST``, and arm minus reference, paired, in points: mean,
    low, high, verdict.
    """
    rows = []
    for target in view.targets:
        for (arm, reference), (cost, _) in ((pair, axis) for pair in view.comparisons for axis in AXES):
            mine = table[(table["target"] == target) & (table["arm"] == arm) & table["final"]].iloc[0]
            theirs = table[(table["target"] == target) & (table["arm"] == reference)]
            reached = theirs[(theirs[cost] <= mine[cost]) & (theirs[cost] > 0)].sort_values("index")
            if reached.empty:
                continue
            last = reached.iloc[-1]
            grids = paired(answers, arm, reference, target, view.tasks, mine["index"], last["index"])
            found = statistics.intervals(statistics.difference(*grids), view.bootstrap, view.confidence, view.seed)
            gap = found[statistics.AVERAGE]
            rows.append({
                "target": target, "arm": arm, "reference": reference, "cost": cost, "spent": mine[cost],
                "reference_spent": last[cost], "reference_final": bool(last["final"]), "mean": 100 * gap.mean,
                "low": 100 * gap.low, "high": 100 * gap.high, "verdict": gap.verdict,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=[*EQUAL_COST, "mean", "low", "high", "verdict"])


def draw(table: pd.DataFrame, view: View) -> Figure:
    """Draw one row a target and one column a kind of cost."""
    figure, axes = style.new_figure(len(view.targets), len(AXES), 1.1 + 3.0 * len(view.targets))
    for row, target in enumerate(view.targets):
        for column, (cost, label) in enumerate(AXES):
            ax = axes[row][column]
            _panel(ax, table[table["target"] == target], cost, view)
            if not column:
                ax.set_title(f"target {target}")
                ax.set_ylabel("average accuracy (%)")
            ax.set_xlabel(_axis(ax, table[cost].max(), cost, label))
        style.share_y(axes[row])
    handles, labels = axes[0][0].get_legend_handles_labels()
    handles.append(Line2D([], [], color=style.INK, linestyle=UPSTREAM, linewidth=2.4))
    labels.append("spent before the first update")
    figure.legend(handles, labels, loc="outside upper left", ncols=2, handlelength=3, columnspacing=1.2)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, cost: str, view: View) -> None:
    looks = style.looks(view.arms)
    start = rows[rows[cost] == 0]["mean"].mean()  # the untrained model, from which every arm starts
    for arm in view.arms:
        mine, look = rows[rows["arm"] == arm].sort_values("index"), looks[arm]
        if mine.empty:
            continue
        if (mine[cost] == 0).all():
            level, low, high = mine[["mean", "low", "high"]].iloc[-1]
            ax.axhline(level, color=look.color, linestyle=look.line, linewidth=1.5, label=view.titles[arm])
            ax.axhspan(low, high, color=look.color, alpha=0.12, linewidth=0)
            continue
        before = mine[f"upstream_{cost}"].iloc[0]
        if np.isfinite(start):
            ax.plot([0, before], [start, start], color=look.color, linestyle=UPSTREAM, linewidth=2.4)
            ax.plot([before, mine[cost].iloc[0]], [start, mine["mean"].iloc[0]], color=look.color, linestyle=look.line)
        bars = [mine["mean"] - mine["low"], mine["high"] - mine["mean"]]
        ax.errorbar(mine[cost], mine["mean"], yerr=bars, color=look.color, linestyle=look.line, marker=look.marker,
                    markersize=6.5, elinewidth=1.4, capsize=0, label=view.titles[arm])  # fmt: skip
    ax.set_xlim(0, None)


def _axis(ax: Axes, most: float, cost: str, label: str) -> str:
    """Scale the ticks to a readable unit and return the axis label that names it."""
    units = ((3600.0, "h"), (60.0, "min"), (1.0, "s")) if cost == "device_seconds" else (
        (1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1.0, "count"))  # fmt: skip
    scale, unit = next((one for one in units if most >= 2 * one[0]), units[-1])
    step = scale * _round(most / scale / 5) if most else scale
    ax.xaxis.set_major_locator(MultipleLocator(step))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / scale:g}")
    return f"{label} ({unit})"


def _round(number: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(number))
    return float(power * next(digit for digit in (1, 2, 5, 10) if digit * power >= number))


def describe(table: pd.DataFrame, view: View) -> tuple[str, str]:
    """Return caption and text alternative."""
    ends = []
    for target, rows in table[table["final"]].groupby("target", sort=False):
        told = [
            f"{view.titles[row['arm']]} {row['mean']:.1f} % at {files.duration(row['device_seconds'])}"
            for _, row in rows.iterrows()
        ]
        ends.append(f"{target}: " + ", ".join(told))
    caption = (
        "Average accuracy over the benchmarks against cumulative cost from zero: device time (left; one device is"
        " one CPU thread or one GPU) and trained tokens (right; tokens forwarded and backwarded, prompt included,"
        " those of mapper RL among them; sampled and scored tokens are not trained tokens). Markers are evaluated"
        f" checkpoints and the final model, averaged over seeds; bars are {view.confidence:.0%} bootstrap "
        "intervals over seeds and questions (paired differences, which decide, have narrower ones). A dotted "
        "stretch is what was spent upstream, before the target's first update (original CoT, mapper RL, "
        "rewriting). The horizontal line with its band is the untrained model. " + costs.RULE
    )
    return caption, "Line charts of average accuracy against cost, by target. Final models: " + "; ".join(ends) + "."


def main() -> None:
    """Read the command line and write figure, numbers and caption."""
    arguments = files.parser(NAME, __doc__).parse_args()
    view = files.read_view(arguments.view)
    runs = read_runs(arguments.manifests)
    answers = samples(runs)
    table = points(runs, answers, view)
    style.save(draw(table, view), arguments.out, NAME)
    files.write_table(arguments.out / f"{NAME}.csv", table)
    files.write_table(arguments.out / f"{NAME}_equal_cost.csv", equal_cost(table, answers, view))
    files.write_caption(arguments.out, NAME, "Accuracy against cost", *describe(table, view))


if __name__ == "__main__":
    files.command(main, NAME)
