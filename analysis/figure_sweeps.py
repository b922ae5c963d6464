"""The sweeps: average accuracy against the knob's value, one row a sweep and one column a target.

``python -m analysis.figure_sweeps --out figures --view VIEW --manifests scores/*/manifest.json`` takes the evaluated
runs of the points of all sweeps and of ``base``; points that were not run are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import files, statistics, style, sweeps, table1
from analysis.study import View, cell, outcomes, read_runs, samples
from dart.errors import UserError

NAME = "figure_sweeps"
BASE = "base"
SWEPT = "sweeps"  # the group of arms that sweeps make; other points are arms of their own
TICKS = 0.13  # ticks lie at least so far apart, as a share of the axis
RING: Any = {
    "marker": "o",
    "markersize": 13,
    "markerfacecolor": "none",
    "markeredgecolor": style.INK,
    "linestyle": "none",
}


def points(answers: pd.DataFrame, view: View) -> pd.DataFrame:
    """Return ``sweeps.curves`` of all sweeps on the benchmarks; refused when no swept arm was run."""
    table = sweeps.curves(answers, view, view.tasks, list(view.sweeps))
    if table["configured"].all():
        raise UserError("No swept arm was evaluated, so there is nothing to draw; make some with `snakemake sweeps`.")
    return table


def untrained(answers: pd.DataFrame, view: View) -> dict[str, statistics.Interval]:
    """Return target -> average accuracy of the untrained model, where it was evaluated."""
    found = {}
    for target in view.targets:
        if ((answers["arm"] == BASE) & (answers["target"] == target)).any():
            grid = outcomes(cell(answers, BASE, target), view.tasks)
            found[target] = statistics.intervals(grid, view.bootstrap, view.confidence, view.seed)[statistics.AVERAGE]
    return found


def draw(table: pd.DataFrame, levels: dict[str, statistics.Interval], view: View) -> Figure:
    """Draw one row a sweep with a point that was run, one column a target."""
    rows = [key for key in view.sweeps if not table[table["sweep"] == key]["configured"].all()]
    figure, axes = style.new_figure(len(rows), len(view.targets), 1.2 + 2.6 * len(rows))
    for line, key in zip(axes, rows, strict=True):
        mine = table[table["sweep"] == key]
        for ax, target in zip(line, view.targets, strict=True):
            _panel(ax, mine[mine["target"] == target], levels.get(target), view)
            _axis(ax, np.unique(mine["value"]))  # those of both targets, so that their panels agree
            ax.set_xlabel(view.sweeps[key].title)
        line[0].set_ylabel("average accuracy (%)")
        style.share_y(line)
    for ax, target in zip(axes[0], view.targets, strict=True):
        ax.set_title(f"target {target}")
    handles = {label: handle for line in axes for ax in line for handle, label in _legend(ax)}
    handles["value of the configuration"] = Line2D([], [], **RING)
    labels = [label for label in (*map(view.titles.get, view.arms), *handles) if label in handles]
    labels = list(dict.fromkeys(labels))
    figure.legend(
        [handles[label] for label in labels],
        labels,
        loc="outside upper left",
        ncols=2,
        handlelength=3,
        columnspacing=1.2,
    )
    return figure


def _legend(ax: Axes) -> list[tuple[Artist, str]]:
    return list(zip(*ax.get_legend_handles_labels(), strict=True))


def _panel(ax: Axes, rows: pd.DataFrame, level: statistics.Interval | None, view: View) -> None:
    looks = style.looks(view.arms)
    if level is not None:
        look = looks[BASE]
        ax.axhline(100 * level.mean, color=look.color, linestyle=look.line, linewidth=1.5, label=view.titles[BASE])
        ax.axhspan(100 * level.low, 100 * level.high, color=look.color, alpha=0.12, linewidth=0)
    for arm, mine in rows.groupby("arm", sort=False):
        look, bars = looks[arm], [mine["mean"] - mine["low"], mine["high"] - mine["mean"]]
        ax.errorbar(mine["value"], mine["mean"], yerr=bars, color=look.color, linestyle=look.line, marker=look.marker,
                    markersize=6.5, elinewidth=1.4, capsize=0, label=view.titles[arm])  # fmt: skip
        own = mine[mine["configured"]]
        ax.plot(own["value"], own["mean"], **RING)


def _axis(ax: Axes, values: np.ndarray) -> None:
    """Scale by doublings, zero one doubling below the smallest value; ticks at values, the crowded ones left out."""
    smallest = values[values > 0].min()
    doublings = np.log2(np.maximum(values, smallest / 2) / smallest)
    if values[0] == 0:
        ax.set_xscale("symlog", base=2, linthresh=smallest, linscale=0.5)
    else:
        ax.set_xscale("log", base=2)
    shown: list[int] = []
    for i in range(len(values)):
        if not shown or doublings[i] - doublings[shown[-1]] >= TICKS * (doublings[-1] - doublings[0]):
            shown.append(i)
    ax.set_xticks([values[i] for i in shown], [sweeps.written(values[i]) for i in shown])
    ax.set_xticks([], minor=True)
    ax.margins(x=0.09)


def describe(table: pd.DataFrame, view: View) -> tuple[str, str]:
    """Return caption and text alternative, which tells every curve."""
    caption = (
        "Average accuracy over the benchmarks against one knob at a time, all others as configured. Every curve is "
        "averaged over the seeds that all its points have; bars are "
        f"{view.confidence:.0%} bootstrap intervals over seeds and questions. Rings mark the value of the "
        "configuration; the horizontal line with its band is the untrained model. "
    )
    others = table[~table["configured"] & (table["name"].map(view.groups) != SWEPT)]
    for (key, value, name), _ in others.groupby(["sweep", "value", "name"], sort=False):
        caption += f"At {sweeps.written(value)} {view.sweeps[key].title}: {view.titles[name]}. "
    told = []
    for (key, target, arm), rows in table.groupby(["sweep", "target", "arm"], sort=False):
        places = ", ".join(f"{row['mean']:.1f} % at {sweeps.written(row['value'])}" for _, row in rows.iterrows())
        told.append(f"{view.sweeps[key].title}, {target}, {view.titles[arm]}: {places}")
    return caption.strip(), "Line charts of average accuracy by sweep and target. " + "; ".join(told) + "."


def summary(table: pd.DataFrame, view: View) -> str:
    """Return average accuracies as a table for the terminal: a row a point, a column a target."""
    lines = []
    for (key, arm, value), rows in table.groupby(["sweep", "arm", "value"], sort=False):
        told = {row["target"]: table1.interval(row, "") for _, row in rows.iterrows()}
        seeds = ", ".join(sorted({str(count) for count in rows["seeds"]}))
        cells = [view.sweeps[key].title, sweeps.written(value), view.titles[arm], seeds]
        lines.append([*cells, *[told.get(target, "") for target in view.targets]])
    return files.terminal(["knob", "value", "arm", "seeds", *(f"{t}: accuracy (%)" for t in view.targets)], lines)


def main() -> None:
    """Read the command line, write figure, numbers and caption, and print the averages."""
    arguments = files.parser(NAME, __doc__).parse_args()
    view = files.read_view(arguments.view)
    answers = samples(read_runs(arguments.manifests))
    table = points(answers, view)
    style.save(draw(table, untrained(answers, view), view), arguments.out, NAME)
    files.write_table(arguments.out / f"{NAME}.csv", table)
    files.write_caption(arguments.out, NAME, "Sweeps over one knob at a time", *describe(table, view))
    print(f"\n{summary(table, view)}", flush=True)


if __name__ == "__main__":
    files.command(main, NAME)
