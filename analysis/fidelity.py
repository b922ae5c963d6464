"""Do the rewrites say what the originals said? Fidelity, form and cheats of all adapted data, by arm, target and seed.

``python -m analysis.fidelity --out tables --view VIEW --manifests ...`` takes the manifests of the evaluated runs and
of everything upstream, and writes ``fidelity.csv`` (tidy), ``fidelity_distances.csv`` (``analysis.mapper_distances``)
and ``fidelity.md``. Arms that are not trained on rewrites (of the stage ``adapt_data``) are skipped.

``analysis.rewrite_measures.MEASURES`` defines every measure in words. Besides, ``cheat_<detector>`` is the share of the
chosen rewrites that trip a detector (``dart.reward.detectors``), ``sampled_<detector>`` that of all samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import costs, files, mapper_distances
from analysis.rewrite_measures import CHEAT, MEASURES, SAMPLED, measure
from analysis.study import Run, View, of_stage, read_runs
from dart.errors import UserError
from dart.records import Record, read_records

NAME = "fidelity"
FIRST = ("dart", "no_penalty")  # with and without the penalty stand one below the other
SAID = ("answer_preserved", "acceptance", "results_deleted", "results_added", "hallucinated", "false_introduced",
        "false_inherited")  # fmt: skip
FORM = tuple(name for name in MEASURES if name not in SAID)
PERCENT = (*(name for name in SAID if name != "results_added"), "copy_ratio", "copy_rate")
ASKED_FIRST = ("answer_preserved", "hallucinated", "length_ratio", "copy_ratio", "perplexity_ratio")
NOTE = (
    "Means over seeds with their range. All but the first two are about the chosen rewrites, those that became "
    "training text. The measures are defined at the end."
)
DISTANCES = (
    "Chosen rewrites of the same demonstrations, compared word by word: edit distance as a share of the longer text, "
    "and the share of equal texts. Mappers for two targets with the same seed; as the yardstick, mappers for the same "
    "target with two seeds. A ratio well above 1 says that mappers write for their target and do not merely differ."
)


@dataclass(frozen=True)
class Served:
    """The run of ``adapt_data`` that made what an arm was trained on, and the run that wrote the originals."""

    arm: str
    target: str
    seed: int
    adapted: Run
    cot: Run

    @property
    def fingerprint(self) -> str:
        """What names the adapted data: several arms may share one."""
        return self.adapted.manifest.fingerprint


def served(runs: Sequence[Run], view: View) -> list[Served]:
    """Return the adapted data behind every evaluated arm of the view, ``FIRST`` first, then in the view's order.

    The way goes by manifests: evaluate -> ``run`` (train_sft) -> ``data`` (adapt_data) -> ``cot``.
    """
    index = costs.by_fingerprint(runs)
    found: dict[tuple[str, str, int], Served] = {}
    for run in of_stage(runs, "evaluate"):
        key = (run.labels["arm"], run.labels["target"], run.labels["seed"])
        trained = costs.trained(run, index) if key[0] in view.arms else None
        if trained is None or trained.stage != "train_sft":
            continue
        adapted = costs.parent(trained, "data", index)
        if adapted.stage == "adapt_data":
            found[key] = Served(*key, adapted, costs.parent(adapted, "cot", index))
    if not found:
        raise UserError("None of the evaluated runs given was trained on adapted data; add those of dart, for example.")
    arms = [*(arm for arm in FIRST if arm in view.arms), *(arm for arm in view.arms if arm not in FIRST)]
    return sorted(found.values(), key=lambda one: (arms.index(one.arm), view.targets.index(one.target), one.seed))


def owners(found: Sequence[Served]) -> dict[str, str]:
    """Return arm -> the first arm that trains on the same data: itself, or the one whose data it shares."""
    first: dict[str, str] = {}
    return {one.arm: first.setdefault(one.fingerprint, one.arm) for one in found}


def rewrites(one: Served) -> pd.DataFrame:
    """Return ``rewrites.parquet`` of adapted data."""
    return pd.read_parquet(one.adapted.folder / "rewrites.parquet")


def originals(folder: Path) -> dict[str, Record]:
    """Return the demonstrations in a folder of ``generate_cot`` by id."""
    return {record.id: record for record in read_records(folder / "demonstrations.jsonl")}


def table(found: Sequence[Served]) -> pd.DataFrame:
    """Return one row a measure of an arm, target and seed: arm, target, seed, measure, value (shares from 0 to 1)."""
    cots: dict[Path, dict[str, Record]] = {}
    known: dict[tuple[str, bool], dict[str, float]] = {}
    rows = []
    for one in found:
        if one.cot.folder not in cots:
            cots[one.cot.folder] = originals(one.cot.folder)
        own = one.adapted.labels["target"] == one.target
        if (one.fingerprint, own) not in known:
            known[one.fingerprint, own] = measure(rewrites(one), cots[one.cot.folder], own)
        labels = {"arm": one.arm, "target": one.target, "seed": one.seed}
        rows += [{**labels, "measure": name, "value": value} for name, value in known[one.fingerprint, own].items()]
    return pd.DataFrame(rows)


def distances(found: Sequence[Served]) -> pd.DataFrame:
    """Return ``mapper_distances.pairs`` of every arm that has data of its own."""
    own = owners(found)
    chosen = {
        (one.arm, one.target, one.seed): mapper_distances.split(rewrites(one))
        for one in found
        if own[one.arm] == one.arm
    }
    return mapper_distances.pairs(chosen)


def render(values: pd.DataFrame, pairs: pd.DataFrame, found: Sequence[Served], view: View) -> str:
    """Return the tables as Markdown: by target what is said, how it is said and the detectors; then distances."""
    own = owners(found)
    arms = [arm for arm in dict.fromkeys(values["arm"]) if own[arm] == arm]
    parts = [f"# Fidelity of the adapted data ({view.scale})\n", NOTE + "\n"]
    for target in view.targets:
        mine = values[values["target"] == target]
        rows = [(arm, mine[mine["arm"] == arm]) for arm in arms if (mine["arm"] == arm).any()]
        parts.append(f"## Target {target}\n")
        for columns in (SAID, FORM):
            lines = [[view.titles[arm], *[cell(row, name) for name in columns]] for arm, row in rows]
            parts.append(files.markdown(["Arm", *map(_spoken, columns)], lines))
        detectors = sorted({name.removeprefix(CHEAT) for name in mine["measure"] if name.startswith(CHEAT)})
        lines = [[view.titles[arm], *[_tripped(row, name) for name in detectors]] for arm, row in rows]
        parts += ["Cheat detectors: % of the chosen rewrites / % of all samples, means over seeds.\n"]
        parts.append(files.markdown(["Arm", *map(_spoken, detectors)], lines))
    parts.append(_distances(mapper_distances.summary(pairs), view))
    shared = [f"`{arm}` ({other})" for arm, other in own.items() if arm != other]
    if shared:
        parts.append(f"Trained on the data of another arm, in brackets: {', '.join(shared)}.\n")
    parts += ["## What the measures mean\n", *[f"- {_spoken(name)}: {words}." for name, words in MEASURES.items()], ""]
    return "\n".join(parts)


def summary(values: pd.DataFrame, found: Sequence[Served], view: View) -> str:
    """Return the measures that a referee asks for first as a table for the terminal."""
    own = owners(found)
    lines = []
    for (target, arm), rows in values.groupby(["target", "arm"], sort=False):
        if own[arm] == arm:
            lines.append([target, arm, *[cell(rows, name) for name in ASKED_FIRST]])
    lines.sort(key=lambda line: view.targets.index(line[0]))
    return files.terminal(["target", "arm", *map(_spoken, ASKED_FIRST)], lines)


def cell(rows: pd.DataFrame, name: str) -> str:
    """Return a measure's mean over seeds with its range as text; ``-`` where it has no value."""
    found = rows[rows["measure"] == name]["value"].dropna() * (100 if name in PERCENT else 1)
    if found.empty:
        return "-"
    places = 1 if name in PERCENT else 2
    spread = f" [{found.min():.{places}f}, {found.max():.{places}f}]" if len(found) > 1 else ""
    return f"{found.mean():.{places}f}{'%' if name in PERCENT else ''}{spread}"


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _tripped(rows: pd.DataFrame, detector: str) -> str:
    means = [100 * rows[rows["measure"] == kind + detector]["value"].mean() for kind in (CHEAT, SAMPLED)]
    return " / ".join(f"{mean:.1f}" if np.isfinite(mean) else "-" for mean in means)


def _distances(found: pd.DataFrame, view: View) -> str:
    header = ["Arm", "Targets", "other target: distance", "equal texts", "other seed: distance", "equal texts", "ratio"]
    lines = []
    for row in found.to_dict("records"):
        shares = [row[name] for name in ("distance_targets", "equal_targets", "distance_seeds", "equal_seeds")]
        told = [f"{100 * value:.1f}%" if np.isfinite(value) else "-" for value in shares]
        ratio = f"{row['ratio']:.2f}" if np.isfinite(row["ratio"]) else "-"
        lines.append([view.titles[row["arm"]], f"{row['target']}, {row['other_target']}", *told, ratio])
    return "\n".join(["## How far apart the mappers lie\n", DISTANCES + "\n", files.markdown(header, lines)])


def main() -> None:
    """Read the command line, write the tables and print the measures that are asked for first."""
    arguments = files.parser(NAME, __doc__).parse_args()
    view = files.read_view(arguments.view)
    found = served(read_runs(arguments.manifests), view)
    values, pairs = table(found), distances(found)
    files.write_table(arguments.out / f"{NAME}.csv", values)
    files.write_table(arguments.out / f"{NAME}_distances.csv", pairs)
    (arguments.out / f"{NAME}.md").write_text(render(values, pairs, found, view), encoding="utf-8")
    print(f"\n{summary(values, found, view)}", flush=True)


if __name__ == "__main__":
    files.command(main, NAME)
