"""One arm beside the main ones: ``python -m analysis.compare --out tables/arms --view VIEW --manifests ...``.

The view's last arm is the one in question. Writes ``<arm>.csv`` (accuracies), ``<arm>_differences.csv`` and
``<arm>.md``, as Table 1 does (``analysis.table1``), and prints averages and differences.
"""

from __future__ import annotations

import pandas as pd

from analysis import files, statistics, table1
from analysis.study import View, read_runs, samples

NAME = "compare"


def summary(table: pd.DataFrame, gaps: pd.DataFrame, view: View) -> str:
    """Return a Markdown table: every arm's average by target, and how far the arm in question lies above it."""
    arm = view.arms[-1]
    means = table[table["task"] == statistics.AVERAGE].set_index(["target", "arm"])
    gains = gaps[(gaps["task"] == statistics.AVERAGE) & (gaps["arm"] == arm)].set_index(["target", "reference"])
    lines = [["target", "arm", "average accuracy (%)", f"{view.titles[arm]}: points above"]]
    for target in view.targets:
        for name in view.arms:
            gain = "" if name == arm else table1.interval(gains.loc[(target, name)], "+")
            lines.append([target, view.titles[name], table1.interval(means.loc[(target, name)], ""), gain])
    return files.terminal(lines[0], lines[1:])


def main() -> None:
    """Read the command line, write the tables and print the summary."""
    arguments = files.parser(NAME, __doc__).parse_args()
    view = files.read_view(arguments.view)
    answers = samples(read_runs(arguments.manifests))
    table, gaps = table1.accuracies(answers, view), table1.differences(answers, view)
    name = view.arms[-1]
    files.write_table(arguments.out / f"{name}.csv", table)
    files.write_table(arguments.out / f"{name}_differences.csv", gaps)
    words = summary(table, gaps, view)
    text = table1.render(table, gaps, view, f"Arm {name}: {view.titles[name]}")
    (arguments.out / f"{name}.md").write_text(f"{text}\n{words}", encoding="utf-8")
    print(f"\n{words}", flush=True)


if __name__ == "__main__":
    files.command(main, NAME)
