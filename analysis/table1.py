"""Table 1: accuracy of every arm on every benchmark, per target, with intervals; and the differences between arms.

``python -m analysis.table1 --out tables --view VIEW --manifests scores/*/manifest.json`` writes ``table1.csv``,
``table1_differences.csv`` (both tidy, in per cent and points) and ``table1.md``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis import files, statistics
from analysis.study import View, cell, outcomes, paired, read_runs, samples

NAME = "table1"
VALUES = ("mean", "low", "high")


def accuracies(answers: pd.DataFrame, view: View) -> pd.DataFrame:
    """Return one row a target, arm and task (``average`` included).

    Columns: target, arm, task, mean, low, high (per cent), seeds, questions.
    """
    rows = []
    for target in view.targets:
        for arm in view.arms:
            mine = cell(answers, arm, target)
            grids = (outcomes(mine, view.tasks), outcomes(mine, view.further))
            rows += [{"target": target, "arm": arm, **row} for row in _rows(*grids, view)]
    return pd.DataFrame(rows)


def differences(answers: pd.DataFrame, view: View) -> pd.DataFrame:
    """Return one row a target, compared pair and task: arm minus reference in points, paired over questions and seeds.

    Columns: target, arm, reference, task, mean, low, high, seeds, questions, verdict.
    """
    rows = []
    for target in view.targets:
        for arm, reference in view.comparisons:
            grid, further = (
                statistics.difference(*paired(answers, arm, reference, target, tasks))
                for tasks in (view.tasks, view.further)
            )
            labels = {"target": target, "arm": arm, "reference": reference}
            rows += [{**labels, **row} for row in _rows(grid, further, view)]
    columns = ["target", "arm", "reference", "task", *VALUES, "seeds", "questions"]
    table = pd.DataFrame(rows, columns=columns)
    verdicts = [statistics.Interval(*row).verdict for row in table[list(VALUES)].itertuples(index=False)]
    return table.assign(verdict=verdicts)


def _rows(grid: statistics.Outcomes, further: statistics.Outcomes, view: View) -> list[dict[str, object]]:
    """One row a task, the average of ``grid`` among them; ``further`` tasks count in no average."""
    found = statistics.intervals(grid, view.bootstrap, view.confidence, view.seed)
    if further:
        beside = statistics.intervals(further, view.bootstrap, view.confidence, view.seed)
        found |= {task: beside[task] for task in further}
    size = {task: array.shape[1] for task, array in {**grid, **further}.items()}
    size[statistics.AVERAGE] = sum(size[task] for task in grid)
    seeds = len(next(iter(grid.values())))
    return [
        {"task": task, **{name: 100 * getattr(one, name) for name in VALUES}, "seeds": seeds, "questions": size[task]}
        for task, one in found.items()
    ]


def note(view: View) -> str:
    """Return the sentence that says what the numbers and intervals are."""
    return (
        f"Accuracy in per cent, each with the {view.confidence:.0%} interval of a hierarchical bootstrap over "
        f"seeds and questions ({view.bootstrap:,} replicates). The average gives every benchmark the same weight. "
        "Differences are in percentage points and paired: the same questions, and the seeds that both arms have. "
        "An arm with one seed is a fixed model, whose interval is over questions only. Intervals "
        "are not corrected for the number of comparisons."
    )


def render(table: pd.DataFrame, gaps: pd.DataFrame, view: View, title: str = "Table 1: accuracy by benchmark") -> str:
    """Return both tables as Markdown, target by target."""
    tasks = [*view.tasks, statistics.AVERAGE, *view.further]
    parts = [f"# {title} ({view.scale})\n", note(view) + "\n"]
    for target in view.targets:
        parts.append(f"## Target {target}\n")
        mine = table[table["target"] == target].set_index(["arm", "task"])
        lines = [[view.titles[arm], *[interval(mine.loc[(arm, task)], "") for task in tasks]] for arm in view.arms]
        parts.append(files.markdown(["Arm", *tasks], lines))
        if view.comparisons:
            mine = gaps[gaps["target"] == target].set_index(["arm", "reference", "task"])
            lines = [
                [f"{arm} - {other}", *[interval(mine.loc[(arm, other, task)], "+") for task in tasks]]
                for arm, other in view.comparisons
            ]
            parts.append(files.markdown(["Difference", *tasks], lines))
    return "\n".join(parts)


def interval(row: pd.Series, sign: str) -> str:
    """Return mean, low and high of a row as text; ``sign`` is ``+`` for differences, else empty."""
    mean, low, high = (np.round(row[name], 1) + 0.0 for name in VALUES)  # + 0.0 turns -0.0 into 0.0
    return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def main() -> None:
    """Read the command line and write the tables."""
    arguments = files.parser(NAME, __doc__).parse_args()
    view = files.read_view(arguments.view)
    answers = samples(read_runs(arguments.manifests))
    table, gaps = accuracies(answers, view), differences(answers, view)
    files.write_table(arguments.out / f"{NAME}.csv", table)
    files.write_table(arguments.out / f"{NAME}_differences.csv", gaps)
    (arguments.out / f"{NAME}.md").write_text(render(table, gaps, view), encoding="utf-8")


if __name__ == "__main__":
    files.command(main, NAME)
