"""The claims of the paper and the questions of its referee, each decided by a test on the finished runs.

``python -m analysis.claims --out tables --view VIEW --claims configs/claims.yaml --fidelity tables/fidelity.csv
--manifests ...`` takes the manifests of the evaluated runs and of everything upstream; ``--fidelity`` may be left out.
It prints the verdicts and writes ``claims.csv`` (one row a claim and target), ``claims.md`` and ``claims.json`` (the
same by claim, for a report). Claims on arms that were not run say so, and count in nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import files, significance, verdicts
from analysis.evidence import Claim, Claims, Evidence, Study, gather, read_claims, read_fidelity
from analysis.study import Run, read_runs, samples
from dart.manifest import write_json

NAME = "claims"
TITLES = {
    "paper": "Claims of the paper",
    "alternatives": "A referee asks: is it the mapper's RL, or would something simpler do?",
    "parts": "A referee asks: which parts of DART matter?",
    "rewrites": "A referee asks: are the rewrites faithful?",
}
UNITS = {"accuracy": "points", "cost": "ratio", "fidelity": ""}
ABSENT = "\N{EN DASH}"
Row = dict[str, Any]


def table(claims: Claims, study: Study) -> tuple[pd.DataFrame, list[Run]]:
    """Return one row a claim and target, in the order of the file, and the evaluated runs that the rows rest on.

    Columns: claim, says, source, family, target, quantity, of (tasks, cost or measure), arm, reference, direction,
    margin, estimate, low, high (points, ratio, or unit of the measure), p, p_adjusted, verdict, overall, missing (why
    it was not run), seeds, questions, power (to find ``effect``; accuracy alone), detectable (distance from the
    margin in points or unit of the measure, for costs a factor), runs.
    """
    keys = [(name, target) for name in claims.claims for target in study.view.targets]
    found = {(name, target): gather(claims.claims[name], target, study) for name, target in keys}
    judged: dict[tuple[str, str], Row] = {}
    for family in TITLES:
        mine = {key: found[key] for key in keys if claims.claims[key[0]].family == family}
        judged |= _judged(claims, mine)
    rows = []
    for key in keys:
        claim, one = claims.claims[key[0]], found[key]
        untested = {"verdict": verdicts.INCONCLUSIVE if one.shown else verdicts.NOT_RUN}
        rows.append({"claim": key[0], "target": key[1], **_told(claim, one), **judged.get(key, untested)})
    for row in rows:
        row["overall"] = verdicts.overall({r["target"]: r["verdict"] for r in rows if r["claim"] == row["claim"]})
    unique = {run.manifest.fingerprint: run for one in found.values() for run in one.runs}
    columns = ["claim", "says", "source", "family", "target", "quantity", "of", "arm", "reference", "direction",
               "margin", "estimate", "low", "high", "p", "p_adjusted", "verdict", "overall", "missing", "seeds",
               "questions", "power", "detectable", "runs"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns), list(unique.values())


def _judged(claims: Claims, evidence: dict[tuple[str, str], Evidence]) -> dict[tuple[str, str], Row]:
    """Decide the testable rows of one family together."""
    family = {
        key: verdicts.Hypothesis(one.estimate, claims.claims[key[0]].direction, claims.claims[key[0]].limit)
        for key, one in evidence.items()
        if one.estimate is not None
    }
    rows: dict[tuple[str, str], Row] = {}
    for key, decision in zip(family, verdicts.decide(list(family.values()), claims.alpha), strict=True):
        one, claim, level = family[key], claims.claims[key[0]], claims.alpha / len(family)
        smallest = significance.detectable(one.estimate, level, claims.power)
        rows[key] = {
            "p": decision.p,
            "p_adjusted": decision.p_adjusted,
            "verdict": decision.verdict,
            "power": verdicts.power(one, claims.effect, level) if claim.quantity == "accuracy" else np.nan,
            "detectable": np.exp(smallest) if claim.quantity == "cost" else smallest,
        }
    return rows


def _told(claim: Claim, one: Evidence) -> Row:
    """What a row says before any test."""
    row: Row = {name: getattr(claim, name) for name in ("says", "source", "family", "quantity", "arm", "reference")}
    row |= {"of": claim.tasks or claim.cost or claim.measure, "direction": claim.direction, "margin": claim.margin}
    if one.shown:
        row |= {"estimate": one.shown.mean, "low": one.shown.low, "high": one.shown.high}
    runs = "; ".join(f"{run.manifest.fingerprint[:8]} {run.folder}" for run in one.runs)
    return {**row, "missing": one.missing, "seeds": one.seeds, "questions": one.questions, "runs": runs}


def note(claims: Claims, confidence: float) -> str:
    """Return the rule of decision in words, for readers of the table."""
    return (
        "A claim that one value is higher or lower is *supported* for a target where the estimate lies beyond its "
        f"margin in the claimed direction and the adjusted p is below {claims.alpha:g}, *contradicted* where it lies "
        "on the other side of the margin and the adjusted p is below that, else *inconclusive*. A claim that two arms "
        "are equal is *supported* where two one-sided tests (TOST) show that the difference is smaller than the "
        "margin, *contradicted* where it is shown to be larger, else *inconclusive*. p-values are corrected for all "
        "tested rows of a family (Holm). Over the targets a claim is *supported* where it is on all, *contradicted* "
        "where it is on one and supported on none; where only some support it, they are named.\n\n"
        "Accuracy: arm minus reference in percentage points, paired over questions and common seeds, every benchmark "
        f"with the same weight; {confidence:.0%} intervals by hierarchical bootstrap, p by a test of crossed seeds and "
        "questions (`analysis/significance.py`), which allows more for few seeds than the bootstrap does. Costs: "
        "geometric mean over seeds of arm over reference, from zero. Costs and measures of the rewrites: t tests and "
        f"t intervals over seeds. Intervals are not corrected. *Power* is the chance to find a true {claims.effect:g} "
        "points beyond the margin (for *equal*: no difference), *detectable* the smallest distance from the margin "
        f"found with {claims.power:.0%} power (for costs a factor), both at the strictest level of the correction. "
        "A single seed is shown but not tested."
    )


def estimate(row: pd.Series) -> str:
    """Return estimate, interval and unit of a row as text."""
    if np.isnan(row["estimate"]):
        return ABSENT
    small = row["quantity"] == "fidelity" and abs(row["estimate"]) < 0.01
    form = {"accuracy": "+.1f", "cost": ".2f", "fidelity": ".4f" if small else ".3f"}[row["quantity"]]
    mean, low, high = (format(round(row[name], 6) + 0.0, form) for name in ("estimate", "low", "high"))
    span = "" if np.isnan(row["low"]) else f" [{low}, {high}]"
    return f"{mean}{span} {UNITS[row['quantity']]}".strip()


def detectable(row: pd.Series) -> str:
    """Return the detectable difference as text, points to a tenth."""
    if np.isnan(row["detectable"]):
        return ABSENT
    if row["quantity"] != "accuracy":
        return f"{row['detectable']:.3g}"
    return "< 0.1" if row["detectable"] < 0.1 else f"{row['detectable']:.1f}"


def chance(p: float) -> str:
    """Return a p-value as people read it."""
    if np.isnan(p):
        return ABSENT
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def compared(row: pd.Series) -> str:
    """Return what is compared: arms, quantity and margin."""
    against = "" if pd.isna(row["reference"]) else {"cost": " / "}.get(row["quantity"], " - ") + row["reference"]
    relation = {"higher": "above", "lower": "below", "equal": "within"}[row["direction"]]
    return f"{row['arm']}{against}, {row['of']}, {relation} {row['margin']:g}"


def render(rows: pd.DataFrame, runs: Sequence[Run], claims: Claims, study: Study) -> str:
    """Return the claims as Markdown: a table a family, the rule, and the runs they rest on."""
    header = ["claim", "source", "target", "compared", "estimate", "adjusted p", "verdict", "seeds", "questions"]
    overall = rows.drop_duplicates("claim")["overall"].value_counts()
    told = ", ".join(f"{verdict} {count}" for verdict, count in overall.items())
    parts = [f"# Claims ({study.view.scale})\n", f"Verdicts over the targets: {told}. The rule is below the tables.\n"]
    for family, title in TITLES.items():
        lines = []
        for _, row in rows[rows["family"] == family].iterrows():
            verdict = f"{row['verdict']}: {row['missing']}" if row["missing"] else row["verdict"]
            first = row["target"] == study.view.targets[0]
            says = [f"{row['says']} **{row['overall']}**", row["source"]] if first else ["", ""]
            sizes = [str(row[name] or ABSENT) for name in ("seeds", "questions")]
            power = ABSENT if np.isnan(row["power"]) else f"{row['power']:.0%}"
            lines.append([*says, row["target"], compared(row), estimate(row), chance(row["p_adjusted"]), verdict,
                          *sizes, power, detectable(row)])  # fmt: skip
        parts += [f"## {title}\n", files.markdown([*header, "power", "detectable"], lines)]
    lines = [[run.manifest.fingerprint[:8], *(str(run.labels[name]) for name in ("arm", "target", "seed")),
              str(run.folder)] for run in runs]  # fmt: skip
    parts += ["## How they are decided\n", note(claims, study.view.confidence) + "\n"]
    parts += ["## Evaluated runs behind them\n", files.markdown(["run", "arm", "target", "seed", "folder"], lines)]
    return "\n".join(parts)


def summary(rows: pd.DataFrame) -> str:
    """Return the verdicts for the terminal: a claim a paragraph, a target a line; what was not run is only counted."""
    lines = []
    for family, title in TITLES.items():
        mine = rows[rows["family"] == family]
        lines.append(f"\n{title}")
        for _, group in mine[mine["overall"] != verdicts.NOT_RUN].groupby("claim", sort=False):
            lines.append(f"  {group['overall'].iloc[0].upper()}: {group['says'].iloc[0]}")
            for _, row in group.iterrows():
                told = f"{estimate(row)}, adjusted p {chance(row['p_adjusted'])}, seeds {row['seeds']}"
                lines.append(f"    {row['target']}: {row['missing'] or told} ({row['verdict']})")
        absent = mine[mine["overall"] == verdicts.NOT_RUN]["claim"].nunique()
        if absent:
            lines.append(f"  NOT RUN: {absent} more; {NAME}.md says what they lack")
    return "\n".join(lines)


def by_claim(rows: pd.DataFrame, claims: Claims, confidence: float) -> Row:
    """Return the rows grouped by claim, as JSON holds them."""
    shared = ["claim", "says", "source", "family", "overall"]
    found = []
    for values, group in rows.groupby(shared, sort=False):
        mine = json.loads(group.drop(columns=shared).to_json(orient="records"))
        found.append({**dict(zip(shared, values, strict=True)), "rows": mine})
    settings = {"alpha": claims.alpha, "power": claims.power, "effect": claims.effect, "confidence": confidence}
    return {**settings, "note": note(claims, confidence), "claims": found}


def main() -> None:
    """Read the command line, write the claims and print the verdicts."""
    parser = files.parser(NAME, __doc__)
    parser.add_argument("--claims", type=Path, required=True, help="YAML file of claims, such as configs/claims.yaml")
    parser.add_argument("--fidelity", type=Path, help="fidelity.csv: measures of the rewrites")
    arguments = parser.parse_args()
    claims, view = read_claims(arguments.claims), files.read_view(arguments.view)
    runs = read_runs(arguments.manifests)
    study = Study(runs, samples(runs), read_fidelity(arguments.fidelity), view)
    rows, used = table(claims, study)
    files.write_table(arguments.out / f"{NAME}.csv", rows)
    (arguments.out / f"{NAME}.md").write_text(render(rows, used, claims, study), encoding="utf-8")
    write_json(arguments.out / f"{NAME}.json", by_claim(rows, claims, view.confidence))
    print(summary(rows), flush=True)


if __name__ == "__main__":
    files.command(main, NAME)
