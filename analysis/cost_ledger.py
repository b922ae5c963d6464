"""The cost ledger: what every stage and every arm cost, upstream stages included by a stated rule.

``python -m analysis.cost_ledger --out tables --view VIEW --manifests ...`` takes the manifests of the evaluated runs
and of everything upstream; it writes ``cost_ledger.csv`` (by target, arm and stage, mean over seeds),
``cost_ledger_stages.csv`` (sums over all runs) and both as ``cost_ledger.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from analysis import costs, files
from analysis.study import Run, View, of_stage, read_runs
from dart import overhead
from dart.errors import UserError

NAME = "cost_ledger"
TOTAL = "total"
PEAK = "peak_memory_bytes"
HEADER = ("device time", "generated tokens", "scored tokens", "trained tokens", "FLOPs", "peak memory")


def by_stage(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row a stage, upstream first, and their ``total``.

    Columns: stage, shared (charged to no arm), runs, the costs summed over runs, and the largest peak memory of one.
    """
    index = costs.by_fingerprint(runs)
    depths: dict[str, int] = {}
    for run in runs:
        depths[run.stage] = max(costs.depth(run, index), depths.get(run.stage, 0))
    rows = []
    for stage in sorted(depths, key=lambda name: (depths[name], name)):
        mine = of_stage(runs, stage)
        rows.append({"stage": stage, "shared": stage in costs.SHARED, **_sum(mine), "runs": len(mine)})
    rows.append({"stage": TOTAL, "shared": False, **_sum(runs), "runs": len(runs)})
    return pd.DataFrame(rows)[["stage", "shared", "runs", *costs.COSTS, PEAK]]


def by_arm(runs: Sequence[Run], view: View) -> pd.DataFrame:
    """Return one row a target, arm and charged stage, and the arm's ``total``; an untrained arm has only the latter.

    Columns: target, arm, stage, seeds, the costs as means over seeds, and the largest peak memory.
    """
    index = costs.by_fingerprint(runs)
    rows = []
    for run in of_stage(runs, "evaluate"):
        made = costs.trained(run, index)
        paid = [] if made is None else [*costs.charged(made, index), made]
        labels = {name: run.labels[name] for name in ("target", "arm", "seed")}
        rows += [{**labels, "stage": one.stage, **_sum([one])} for one in paid]
        rows.append({**labels, "stage": TOTAL, **_sum(paid)})
    table = pd.DataFrame(rows)
    keys = ["target", "arm", "stage"]
    # A stage that one arm went through twice (two rounds of SFT) counts twice for a seed.
    seeds = table.groupby([*keys, "seed"]).agg({**dict.fromkeys(costs.COSTS, "sum"), PEAK: "max"}).reset_index()
    means = seeds.groupby(keys).agg({"seed": "nunique", **dict.fromkeys(costs.COSTS, "mean"), PEAK: "max"})
    means = means.rename(columns={"seed": "seeds"}).reset_index()
    stages = [*by_stage(runs)["stage"]]
    order = pd.DataFrame(
        [(t, a, s) for t in view.targets for a in view.arms for s in stages], columns=keys
    )  # fmt: skip
    return order.merge(means, on=keys)


def _sum(runs: Sequence[Run]) -> dict[str, float]:
    return {**costs.total(runs), PEAK: max((run.manifest.peak_memory_bytes for run in runs), default=0)}


def spent_outside(
    runs: Sequence[Run],
    sessions: Sequence[dict[str, Any]],
    now: float,
    others: Sequence[dict[str, Any]] = (),
) -> overhead.Overhead:
    """Compare the time that was paid for with the time that stages computed, in the sessions that made ``runs``.

    ``others`` are manifests of all that those sessions may have made besides: their compute is no overhead. Without
    sessions (the stages were run by hand) wall time goes from the first start to the last end of a stage, on
    as many cores as the machine has.
    """
    manifests = [asdict(run.manifest) for run in runs]
    if not sessions:
        start, end = min(one["started_at"] for one in manifests), max(one["finished_at"] for one in manifests)
        cores = max(int(one["hardware"]["cores"]) for one in manifests)
        sessions = [{"started_at": start, "finished_at": end, "cores": cores}]
    ends = [one["finished_at"] for one in manifests]
    mine = [one for one in sessions if any(one["started_at"] <= end <= (one["finished_at"] or now) for end in ends)]
    found = overhead.measure(mine, others or manifests, now)
    if not found.compute_seconds:
        raise UserError(
            "No stage that was given finished within a session of run.json; give the run.json of these runs."
        )
    return found


def cells(row: pd.Series) -> list[str]:
    """Return a row's costs as people read them, in the order of ``HEADER``."""
    tokens = [files.count(row[name]) for name in ("tokens_generated", "tokens_scored", "tokens_trained")]
    memory = f"{row[PEAK] / 1e9:.2f} GB" if row[PEAK] else "0"
    return [files.duration(row["device_seconds"]), *tokens, f"{row['flops']:.1e}" if row["flops"] else "0", memory]


def render(stages: pd.DataFrame, arms: pd.DataFrame, view: View) -> str:
    """Return the ledger as Markdown."""
    parts = [f"# Cost ledger ({view.scale})\n", costs.RULE + "\n", "## By arm: mean over seeds, from zero\n"]
    for target in view.targets:
        mine = arms[arms["target"] == target]
        lines = [[f"{view.titles[row['arm']]}: {row['stage']}", *cells(row)] for _, row in mine.iterrows()]
        parts.append(files.markdown([f"{target}: arm and stage", *HEADER], lines))
    parts.append("## By stage: sum over all runs\n")
    lines = []
    for _, row in stages.iterrows():
        name = row["stage"] + (" (shared)" if row["shared"] else "")
        lines.append([name, str(row["runs"]), *cells(row)])
    parts.append(files.markdown(["stage", "runs", *HEADER], lines))
    return "\n".join(parts)


def main() -> None:
    """Read the command line and write the ledger."""
    arguments = files.parser(NAME, __doc__).parse_args()
    view, runs = files.read_view(arguments.view), read_runs(arguments.manifests)
    stages, arms = by_stage(runs), by_arm(runs, view)
    files.write_table(arguments.out / f"{NAME}.csv", arms)
    files.write_table(arguments.out / f"{NAME}_stages.csv", stages)
    (arguments.out / f"{NAME}.md").write_text(render(stages, arms, view), encoding="utf-8")


if __name__ == "__main__":
    files.command(main, NAME)
