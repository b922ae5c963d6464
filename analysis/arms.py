"""All arms in one table, by group: accuracy in and out of domain, distance to SFT and to DART, and what they cost.

``python -m analysis.arms --out tables --view VIEW --manifests ...`` takes the manifests of the evaluated runs and of
everything upstream; it writes ``arms.csv`` (one row a target and arm) and ``arms.md``. Arms of the view that were not
evaluated are listed as not run.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis import costs, files, statistics, table1
from analysis.study import Run, View, cell, of_stage, outcomes, paired, read_runs, samples

NAME = "arms"
GROUPS = ("main", "baselines", "ablations", "controls", "sweeps")
REFERENCES = ("sft", "dart")
VALUES = ("", "_low", "_high")  # of a mean and its interval: average, average_low, average_high
OWN = "own_tokens_trained"
COSTS = (*costs.COSTS, OWN)
HEADER = ("device time", "generated", "scored", "trained", "FLOPs", "own trained")
LEGEND = (
    "In-domain are the benchmarks of the training questions' kind, out-of-domain the others. Costs (device time; "
    "tokens generated, scored and trained; estimated FLOPs) are means over seeds, upstream stages included; own "
    "trained tokens are those of the arm's last training run alone."
)


def scopes(view: View) -> dict[str, tuple[str, ...]]:
    """Return average, in_domain and out_of_domain -> its tasks; one without a task is left out."""
    inside = tuple(task for task in view.tasks if task in view.in_domain)
    outside = tuple(task for task in view.tasks if task not in view.in_domain)
    found = {"average": view.tasks, "in_domain": inside, "out_of_domain": outside}
    return {name: tasks for name, tasks in found.items() if tasks}


def evaluated(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of ``evaluate`` on the benchmarks: those on the validation questions have a ``split``."""
    return [run for run in of_stage(runs, "evaluate") if "split" not in run.labels]


def table(runs: Sequence[Run], view: View) -> pd.DataFrame:
    """Return one row a target and evaluated arm, by group and then in the view's order.

    Columns: target, group, arm, seeds; average, in_domain and out_of_domain in per cent; minus_sft and minus_dart, the
    difference of averages in points over common seeds; each with ``_low`` and ``_high``; ``COSTS``. What cannot be
    computed is NaN.
    """
    answers, spent = samples(evaluated(runs)), costs_by_arm(runs)
    ran = set(zip(answers["target"], answers["arm"], strict=True))
    rows = []
    for target in view.targets:
        for arm in sorted(view.arms, key=lambda name: GROUPS.index(group(name, view))):
            if (target, arm) in ran:
                labels = {"target": target, "group": group(arm, view), "arm": arm}
                rows.append({**labels, **accuracies(answers, arm, target, view), **spent.loc[(target, arm)]})
    columns = [f"{name}{end}" for name in (*scopes(view), *(f"minus_{one}" for one in REFERENCES)) for end in VALUES]
    return pd.DataFrame(rows, columns=["target", "group", "arm", "seeds", *columns, *COSTS])


def group(arm: str, view: View) -> str:
    """Return the group of an arm."""
    return view.groups.get(arm, GROUPS[0])


def accuracies(answers: pd.DataFrame, arm: str, target: str, view: View) -> dict[str, float]:
    """Return seeds, averages by scope and differences to the references, for one arm and target."""
    grid = outcomes(cell(answers, arm, target), view.tasks)
    found: dict[str, float] = {"seeds": len(grid[view.tasks[0]])}
    for name, tasks in scopes(view).items():
        found |= _interval(name, {task: grid[task] for task in tasks}, view)
    known = set(answers[answers["target"] == target]["arm"])
    for reference in REFERENCES:
        if reference in known and reference != arm:
            gap = statistics.difference(*paired(answers, arm, reference, target, view.tasks))
            found |= _interval(f"minus_{reference}", gap, view)
    return found


def _interval(name: str, grid: statistics.Outcomes, view: View) -> dict[str, float]:
    found = statistics.intervals(grid, view.bootstrap, view.confidence, view.seed)[statistics.AVERAGE]
    values = (found.mean, found.low, found.high)
    return {f"{name}{end}": 100 * value for end, value in zip(VALUES, values, strict=True)}


def costs_by_arm(runs: Sequence[Run]) -> pd.DataFrame:
    """Return ``COSTS`` by target and arm (the index), means over seeds; zero for an arm that trains nothing."""
    index = costs.by_fingerprint(runs)
    rows = []
    for run in evaluated(runs):
        made = costs.trained(run, index)
        paid = costs.total([] if made is None else [*costs.charged(made, index), made])
        labels = {name: run.labels[name] for name in ("target", "arm")}
        rows.append({**labels, **paid, OWN: 0.0 if made is None else made.manifest.tokens_trained})
    return pd.DataFrame(rows).groupby(["target", "arm"])[list(COSTS)].mean()


def render(found: pd.DataFrame, view: View) -> str:
    """Return accuracies by target and group and costs by target as Markdown; arms that were not run at the end.

    The costs of swept arms are in the CSV alone.
    """
    names = [*scopes(view), *(f"minus_{one}" for one in REFERENCES)]
    header = ["Arm", "seeds", *(name.replace("_", " ") for name in names)]
    parts = [f"# All arms ({view.scale})\n", table1.note(view) + "\n", LEGEND + " " + costs.RULE + "\n"]
    for target in view.targets:
        parts.append(f"## Target {target}\n")
        mine = found[found["target"] == target]
        for kind in GROUPS:
            lines = [_line(row, names, view) for row in mine[mine["group"] == kind].to_dict("records")]
            parts += [f"### {kind.capitalize()}\n", files.markdown(header, lines)] if lines else []
        lines = [_spent(row, view) for row in mine[mine["group"] != "sweeps"].to_dict("records")]
        parts += ["### Costs\n", files.markdown(["Arm", *HEADER], lines)]
    parts.append(_not_run(found, view))
    return "\n".join(parts)


def _line(row: dict, names: Sequence[str], view: View) -> list[str]:
    cells = []
    for name in names:
        values = pd.Series([row[f"{name}{end}"] for end in VALUES], index=table1.VALUES)
        cells.append(table1.interval(values, "+" if name.startswith("minus_") else "") if values.notna().all() else "")
    return [view.titles[row["arm"]], str(row["seeds"]), *cells]


def _spent(row: dict, view: View) -> list[str]:
    tokens = [files.count(row[name]) for name in ("tokens_generated", "tokens_scored", "tokens_trained")]
    spent = [files.duration(row["device_seconds"]), *tokens, f"{row['flops']:.1e}", files.count(row[OWN])]
    return [view.titles[row["arm"]], *spent]


def _not_run(found: pd.DataFrame, view: View) -> str:
    """Return the arms without an evaluated run, with the targets for which they lack one."""
    ran = set(zip(found["target"], found["arm"], strict=True))
    lines = []
    for arm in view.arms:
        missing = [target for target in view.targets if (target, arm) not in ran]
        lines += [f"- `{arm}`: {view.titles[arm]} ({', '.join(missing)})"] if missing else []
    return "\n".join(["## Not run\n", *lines, ""]) if lines else ""


def main() -> None:
    """Read the command line and write the table."""
    arguments = files.parser(NAME, __doc__).parse_args()
    view = files.read_view(arguments.view)
    found = table(read_runs(arguments.manifests), view)
    files.write_table(arguments.out / f"{NAME}.csv", found)
    (arguments.out / f"{NAME}.md").write_text(render(found, view), encoding="utf-8")


if __name__ == "__main__":
    files.command(main, NAME)
