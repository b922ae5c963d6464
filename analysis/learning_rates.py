"""The best learning rate of every arm, chosen on validation questions, and the arms compared there and as configured.

``python -m analysis.learning_rates --out tables --view VIEW --manifests scores/*/manifest.json --validation
validation/*/manifest.json`` takes the runs of ``evaluate`` on the benchmarks and those on the validation questions, of
every sweep whose value is to be chosen. Writes ``learning_rates.csv`` (validation accuracy by value),
``learning_rates_comparison.csv`` (differences on the benchmarks) and both as ``learning_rates.md``.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis import files, statistics, sweeps, table1
from analysis.study import UNTRAINED, View, paired, read_runs, samples
from dart.errors import UserError

NAME = "learning_rates"
TASK = "validation"
CONFIGURED, BEST = "configured", "best"
COLUMNS = ("sweep", "target", "arm", "reference", "at", "value", "reference_value", "mean", "low", "high", "seeds",
           "verdict")  # fmt: skip
DIFFERENCES = ("Difference", "as configured", "values", "seeds", "each at its best", "values", "seeds")
LEGEND = (
    "The best value of an arm has the highest accuracy on validation questions, which are neither trained on nor part "
    "of a benchmark; the smaller value among equals. Where a best value is the first or last of its row, a better one "
    "may lie beyond it. Differences are those of the average over the benchmarks, in points, paired over questions and "
    "over the seeds that both arms have at both values."
)


def validated(answers: pd.DataFrame, view: View) -> pd.DataFrame:
    """Return one row a validated point of the sweeps that choose: ``sweeps.COLUMNS`` and ``best``.

    Accuracy on the validation questions in per cent. Refused when the answers are to other questions, when an arm's
    configured value was not validated, or when the view has no sweep that chooses.
    """
    names = [name for name, sweep in view.sweeps.items() if sweep.choose]
    if not names:
        raise UserError("No sweep of the view is to choose a value; set `choose: true` for one in configs/arms.yaml.")
    others = sorted(set(answers["task"]) - {TASK})
    if others:
        raise UserError(f"--validation was given answers to {', '.join(others)}; give the runs on {TASK} alone.")
    table = sweeps.curves(answers, view, [TASK], names)
    for (_, target, arm), rows in table.groupby(["sweep", "target", "arm"], sort=False):
        if not rows["configured"].any():
            raise UserError(f"--validation lacks the configured value of {arm} for target {target}; add those runs.")
    # Accuracies that are equal in truth may differ in the last bits.
    ordered = table.assign(rounded=-table["mean"].round(9)).sort_values(["rounded", "value"])
    best = ordered.drop_duplicates(["sweep", "target", "arm"]).index
    return table.assign(best=table.index.isin(best))


def comparison(answers: pd.DataFrame, chosen: pd.DataFrame, view: View) -> pd.DataFrame:
    """Return the arms' differences on the benchmarks, ``at`` the configured value and at each arm's best.

    Parameters
    ----------
    answers : DataFrame
        Graded answers to the benchmarks.
    chosen : DataFrame
        What :func:`validated` returned.

    Returns
    -------
    DataFrame
        Columns ``COLUMNS``: arm minus reference in points, paired, for the view's comparisons of swept arms with each
        other and with an untrained one, whose ``reference_value`` is NaN.
    """
    untrained = set(answers[answers["seed"] == UNTRAINED]["arm"])
    rows = []
    for (key, target), mine in chosen.groupby(["sweep", "target"], sort=False):
        swept = set(mine["arm"])
        for arm, reference in view.comparisons:
            if arm in swept and reference in swept | untrained:
                labels = {"sweep": key, "target": target, "arm": arm, "reference": reference}
                places = {at: [_place(mine, arm, at), _place(mine, reference, at)] for at in (CONFIGURED, BEST)}
                rows += [{**labels, **row} for row in _side_by_side(answers, places, target, view)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _side_by_side(
    answers: pd.DataFrame, places: dict[str, list[tuple[str, float]]], target: str, view: View
) -> list[dict[str, object]]:
    """Return the differences between two arms at either place, both over the seeds that all four runs have."""
    mine = answers[answers["target"] == target]
    fixed = set(mine[mine["seed"] == UNTRAINED]["arm"])
    names = sorted({name for pair in places.values() for name, _ in pair} - fixed)
    shared = mine[mine["seed"].isin({UNTRAINED, *sweeps.common_seeds(mine, names, target)})]
    rows = []
    for at, ((name, value), (other, other_value)) in places.items():
        gap = statistics.difference(*paired(shared, name, other, target, view.tasks))
        row = {"at": at, "value": value, "reference_value": other_value, "seeds": len(next(iter(gap.values())))}
        rows.append({**row, **_interval(gap, view)})
    return rows


def _place(mine: pd.DataFrame, arm: str, at: str) -> tuple[str, float]:
    """Return name and value of an arm as configured or at its best; one that is not swept has a name only."""
    row = mine[(mine["arm"] == arm) & mine[at]]
    return (arm, float("nan")) if row.empty else (row["name"].iloc[0], float(row["value"].iloc[0]))


def _interval(gap: statistics.Outcomes, view: View) -> dict[str, float | str]:
    found = statistics.intervals(gap, view.bootstrap, view.confidence, view.seed)[statistics.AVERAGE]
    return {"mean": 100 * found.mean, "low": 100 * found.low, "high": 100 * found.high, "verdict": found.verdict}


def render(chosen: pd.DataFrame, gaps: pd.DataFrame, view: View) -> str:
    """Return validation accuracies and comparisons as Markdown, by sweep and target."""
    parts = [f"# Arms at their best values ({view.scale})\n", LEGEND + "\n"]
    for (key, target), mine in chosen.groupby(["sweep", "target"], sort=False):
        parts.append(f"## Target {target}: {view.sweeps[key].title}\n")
        header = ["Arm", view.sweeps[key].title, "validation accuracy (%)", "seeds", "configured", "best"]
        parts.append(files.markdown(header, [_line(row, view) for row in mine.to_dict("records")]))
        ran = set(mine["name"])
        missing = [name for _, _, name in view.sweeps[key].points if name not in ran]
        parts += [f"Not run: {', '.join(missing)}.\n"] if missing else []
        told = gaps[(gaps["sweep"] == key) & (gaps["target"] == target)]
        parts.append(files.markdown(DIFFERENCES, list(map(_pair, _pairs(told)))))
    return "\n".join(parts)


def summary(gaps: pd.DataFrame, view: View) -> str:
    """Return the comparisons of all sweeps and targets as a table for the terminal."""
    lines = [[view.sweeps[rows["sweep"].iloc[0]].title, rows["target"].iloc[0], *_pair(rows)] for rows in _pairs(gaps)]
    return files.terminal(["at the best", "target", *DIFFERENCES], lines)


def _pairs(gaps: pd.DataFrame) -> list[pd.DataFrame]:
    """Split into the rows of one comparison each: as configured, and at the best values."""
    return [rows for _, rows in gaps.groupby(["sweep", "target", "arm", "reference"], sort=False)]


def _pair(rows: pd.DataFrame) -> list[str]:
    """Return the cells of ``DIFFERENCES``."""
    return [f"{rows['arm'].iloc[0]} - {rows['reference'].iloc[0]}", *_both(rows)]


def _line(row: dict, view: View) -> list[str]:
    accuracy = table1.interval(pd.Series(row), "")
    marks = ["yes" if row[name] else "" for name in (CONFIGURED, BEST)]
    return [view.titles[row["arm"]], sweeps.written(row["value"]), accuracy, str(row["seeds"]), *marks]


def _both(rows: pd.DataFrame) -> list[str]:
    cells = []
    for at in (CONFIGURED, BEST):
        row = rows[rows["at"] == at].iloc[0]
        values = [sweeps.written(row[name]) for name in ("value", "reference_value") if pd.notna(row[name])]
        cells += [f"{table1.interval(row, '+')} {row['verdict']}", ", ".join(values), str(row["seeds"])]
    return cells


def main() -> None:
    """Read the command line, write the tables and print the comparisons."""
    parser = files.parser(NAME, __doc__)
    parser.add_argument("--validation", type=Path, nargs="+", required=True, help="manifests of the validation runs")
    arguments = parser.parse_args()
    view = files.read_view(arguments.view)
    chosen = validated(samples(read_runs(arguments.validation)), view)
    gaps = comparison(samples(read_runs(arguments.manifests)), chosen, view)
    files.write_table(arguments.out / f"{NAME}.csv", chosen)
    files.write_table(arguments.out / f"{NAME}_comparison.csv", gaps)
    (arguments.out / f"{NAME}.md").write_text(render(chosen, gaps, view), encoding="utf-8")
    print(f"\n{summary(gaps, view)}", flush=True)


if __name__ == "__main__":
    files.command(main, NAME)
