"""Every arm at a glance: average accuracy with its interval, a row an arm, a column a target, by group.

``python -m analysis.figure_arms --out figures --view VIEW --table tables/arms.csv`` draws what ``analysis.arms`` wrote;
swept arms are left out (``analysis.figure_sweeps`` has them).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import arms, files, style
from analysis.study import View
from dart.errors import UserError

NAME = "figure_arms"
SHOWN = tuple(group for group in arms.GROUPS if group != "sweeps")
REFERENCES = ("base", "sft", "dart")  # their means run through all rows
ROW = 0.23  # inches


def read_table(path: Path, view: View) -> pd.DataFrame:
    """Return the rows of ``arms.csv`` that are drawn: evaluated arms of the view, swept ones left out."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run `snakemake arms` first.")
    table = pd.read_csv(path)
    found = table[table["group"].isin(SHOWN) & table["arm"].isin(view.arms)]
    if found.empty:
        raise UserError(f"{path} has no arm of the view outside the sweeps, so there is nothing to draw.")
    return found


def layout(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the lines from top to bottom: (heading of a group, "") and (group, arm), in the order of the table."""
    lines = []
    for group in SHOWN:
        mine = table[table["group"] == group]["arm"]
        lines += [(group, name) for name in ("", *dict.fromkeys(mine))] if len(mine) else []
    return lines


def draw(table: pd.DataFrame, view: View) -> Figure:
    """Draw one column a target; the arms' names are those of their rules (``snakemake arm_NAME``)."""
    lines = layout(table)
    figure, [axes] = style.new_figure(1, len(view.targets), 1.5 + ROW * len(lines), sharex=True, sharey=True)
    looks = dict(zip(SHOWN, style.LOOKS[2:], strict=False))
    for ax, target in zip(axes, view.targets, strict=True):
        rows = table[table["target"] == target].set_index("arm")
        _references(ax, rows, view)
        for place, (group, arm) in enumerate(lines):
            if arm in rows.index:
                mean, low, high = rows.loc[arm, ["average", "average_low", "average_high"]]
                ax.plot([low, high], [place] * 2, color=looks[group].color, linewidth=2.2, solid_capstyle="butt")
                ax.plot(mean, place, looks[group].marker, color=looks[group].color, markersize=6)
        ax.set_title(f"target {target}")
        ax.set_xlabel("average accuracy (%)")
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    _labels(axes[0], lines)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(REFERENCES), handlelength=2.5)
    return figure


def _references(ax: Axes, rows: pd.DataFrame, view: View) -> None:
    looks = style.looks(view.arms)
    for name in REFERENCES:
        if name in rows.index:
            look = looks[name]
            ax.axvline(rows.loc[name, "average"], color=look.color, linestyle=look.line, linewidth=1.3, zorder=0,
                       label=f"mean of {name}")  # fmt: skip


def _labels(ax: Axes, lines: Sequence[tuple[str, str]]) -> None:
    ax.set_yticks(range(len(lines)), [arm or group.upper() for group, arm in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    for label, (_, arm) in zip(ax.get_yticklabels(), lines, strict=True):
        label.set(fontsize=10, fontweight="normal" if arm else "bold", color=style.INK)


def describe(table: pd.DataFrame, view: View) -> tuple[str, str]:
    """Return caption and text alternative, which tells every arm's average."""
    caption = (
        f"Average accuracy over the benchmarks with {view.confidence:.0%} bootstrap intervals over seeds and "
        "questions; the number of seeds differs between arms and is in the table. The lines run through the means of "
        "the base model, SFT on the original CoT and DART. Intervals are of the arms: differences, which are paired, "
        "are known better."
    )
    told = [f"{row.target} {row.arm} {row.average:.1f} %" for row in table.itertuples()]
    return caption, f"Dot plot of average accuracies: {'; '.join(told)}."


def main() -> None:
    """Read the command line and write figure, numbers and caption."""
    parser = argparse.ArgumentParser(prog=f"python -m analysis.{NAME}", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--view", required=True, help="JSON file, or an inline JSON object: analysis.study.View")
    parser.add_argument("--table", type=Path, required=True, help="arms.csv")
    arguments = parser.parse_args()
    view = files.read_view(arguments.view)
    table = read_table(arguments.table, view)
    style.save(draw(table, view), arguments.out, NAME)
    columns = ["target", "group", "arm", "seeds", "average", "average_low", "average_high"]
    files.write_table(arguments.out / f"{NAME}.csv", table[columns])
    files.write_caption(arguments.out, NAME, "Every arm at a glance", *describe(table, view))


if __name__ == "__main__":
    files.command(main, NAME)
