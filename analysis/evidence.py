"""Claims as they are written in ``configs/claims.yaml``, and what a finished study has to say on each.

A claim compares an arm with a reference, or with a fixed value, in one quantity: accuracy, cost or a measure of
fidelity. What is measured here is decided in ``analysis.verdicts``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import Field, model_validator

from analysis import costs, significance, statistics
from analysis.significance import Estimate
from analysis.statistics import Interval
from analysis.study import FINAL, Run, View, common_seeds, of_stage, paired
from analysis.verdicts import Direction
from dart.errors import UserError
from dart.parsing import Knobs, parse

KEYS = ["arm", "target", "seed", "measure"]
DETAILS = {"accuracy": "tasks", "cost": "cost", "fidelity": "measure"}  # what a claim on each quantity has to name
Open = Annotated[float, Field(gt=0, lt=1)]


class Claim(Knobs):
    """One claim; the fields are explained at the top of ``configs/claims.yaml``."""

    says: str
    source: str
    family: Literal["paper", "alternatives", "parts", "rewrites"]
    quantity: Literal["accuracy", "cost", "fidelity"]
    tasks: Literal["all", "in_domain", "out_of_domain"] | None = None
    cost: Literal["device_seconds", "tokens_generated", "tokens_scored", "tokens_trained", "flops"] | None = None
    measure: str | None = None
    arm: str
    reference: str | None
    direction: Direction
    margin: float

    @model_validator(mode="after")
    def _names_what_its_quantity_needs(self) -> Claim:
        given = {name for name in DETAILS.values() if getattr(self, name) is not None}
        if given != {DETAILS[self.quantity]}:
            raise ValueError(f"a claim on {self.quantity} names {DETAILS[self.quantity]}, and only that")
        if self.reference is None and (self.quantity != "fidelity" or self.direction == "equal"):
            raise ValueError("only a measure of fidelity can be compared with a fixed value, as higher or lower")
        if self.quantity == "cost" and self.margin <= 0:
            raise ValueError("the margin of a cost is a ratio, such as 1")
        if self.direction == "equal" and self.limit <= 0:
            raise ValueError("to be shown equal, a margin has to leave room: above 0, or for costs a ratio above 1")
        return self

    @property
    def limit(self) -> float:
        """The margin in the unit of the test: costs are compared as logarithms."""
        return float(np.log(self.margin)) if self.quantity == "cost" else self.margin


class Claims(Knobs):
    """All claims, with the level, the power and the effect in points for which they are judged."""

    alpha: Open
    power: Open
    effect: Annotated[float, Field(gt=0)]
    claims: dict[str, Claim]


def read_claims(path: Path) -> Claims:
    """Read and check a file of claims."""
    if not path.is_file():
        raise UserError(f"--claims {path} does not exist; give configs/claims.yaml or one like it.")
    return parse(Claims, yaml.safe_load(path.read_text(encoding="utf-8")) or {}, str(path))


def read_fidelity(path: Path | None) -> pd.DataFrame:
    """Read fidelity.csv: columns arm, target, seed, measure, value, one row a cell; empty without a path."""
    if path is None:
        return pd.DataFrame(columns=[*KEYS, "value"])
    if not path.is_file():
        raise UserError(f"--fidelity {path} does not exist; make it first, or leave the option out.")
    table = pd.read_csv(path)
    missing = [name for name in (*KEYS, "value") if name not in table]
    if missing or table.duplicated(KEYS).any():
        what = f"has no column {missing[0]}" if missing else f"has two values of the same {', '.join(KEYS)}"
        raise UserError(f"--fidelity {path} {what}; make it anew.")
    return table.dropna(subset="value")  # a measure that does not apply to the data


@dataclass(frozen=True)
class Study:
    """What claims are decided on: finished runs, their graded answers, measures of fidelity, and the view of them."""

    runs: Sequence[Run]
    answers: pd.DataFrame
    fidelity: pd.DataFrame
    view: View


@dataclass(frozen=True)
class Evidence:
    """What a study says on a claim for a target.

    ``shown`` is in the unit of the claim (points, ratio, unit of the measure), ``estimate`` in that of the test; a
    single seed can be shown but not tested. ``missing`` says why there is nothing to show.
    """

    missing: str = ""
    shown: Interval | None = None
    estimate: Estimate | None = None
    seeds: int = 0
    questions: int = 0
    runs: tuple[Run, ...] = ()


def gather(claim: Claim, target: str, study: Study) -> Evidence:
    """Return the evidence on a claim for a target; an arm that was not run is no error."""
    arms = [claim.arm] if claim.reference is None else [claim.arm, claim.reference]
    seeds = [_seeds(claim, arm, target, study) for arm in arms]
    for arm, found in zip(arms, seeds, strict=True):
        if not found:
            what = "evaluated run" if claim.measure is None else f"measured {claim.measure}"
            return Evidence(missing=f"no {what} of {arm}")
    if len(arms) == 2:
        seeds = list(common_seeds(*seeds))
        if not seeds[0]:
            return Evidence(missing=f"{arms[0]} and {arms[1]} share no seed")
    cells = list(zip(arms, seeds, strict=True))
    runs = tuple(run for arm, mine in cells for run in _evaluated(study.runs, arm, target, mine))
    if claim.quantity == "accuracy":
        return _accuracy(claim, target, study, runs)
    if claim.quantity == "cost":
        values = [np.array([_cost(run, claim, study) for run in runs if run.labels["arm"] == arm]) for arm in arms]
        return _scalar(np.log(values[0] / values[1]), study.view, runs, unit=np.exp)
    table = study.fidelity[(study.fidelity["target"] == target) & (study.fidelity["measure"] == claim.measure)]
    own = [table[table["arm"] == arm].set_index("seed")["value"].loc[mine].to_numpy(float) for arm, mine in cells]
    return _scalar(own[0] if len(own) == 1 else own[0] - own[1], study.view, runs)


def _seeds(claim: Claim, arm: str, target: str, study: Study) -> list[int]:
    """Seeds for which the claim's quantity is known of an arm."""
    if claim.quantity == "fidelity":
        table = study.fidelity[study.fidelity["measure"] == claim.measure]
    else:
        table = study.answers[study.answers["checkpoint"] == FINAL]
    return sorted(set(table[(table["arm"] == arm) & (table["target"] == target)]["seed"]))


def _evaluated(runs: Iterable[Run], arm: str, target: str, seeds: Sequence[int]) -> list[Run]:
    """Evaluations of an arm, by seed; everything else that they rest on is named in their manifests."""
    mine = [run for run in of_stage(runs, "evaluate") if (run.labels["arm"], run.labels["target"]) == (arm, target)]
    return sorted((run for run in mine if run.labels["seed"] in seeds), key=lambda run: run.labels["seed"])


def tasks_of(claim: Claim, view: View) -> tuple[str, ...]:
    """Return the tasks over which a claim on accuracy averages; none where all are of the other kind."""
    kinds: dict[str | None, tuple[str, ...]] = {
        "all": view.tasks,
        "in_domain": tuple(task for task in view.tasks if task in view.in_domain),
        "out_of_domain": tuple(task for task in view.tasks if task not in view.in_domain),
    }
    if claim.tasks != "all" and not view.in_domain:
        raise UserError(f"The view does not tell which tasks are {claim.tasks}; name them (evaluate.in_domain).")
    return kinds[claim.tasks]


def _accuracy(claim: Claim, target: str, study: Study, runs: tuple[Run, ...]) -> Evidence:
    view, tasks = study.view, tasks_of(claim, study.view)
    if not tasks:
        return Evidence(missing=f"no {claim.tasks} benchmark")
    grids = paired(study.answers, claim.arm, claim.reference or "", target, tasks)
    points = {task: 100 * rows_SQ for task, rows_SQ in statistics.difference(*grids).items()}
    shown = statistics.intervals(points, view.bootstrap, view.confidence, view.seed)[statistics.AVERAGE]
    seeds = max(len(rows_SQ) for rows_SQ in points.values())
    estimate = significance.crossed(points) if seeds > 1 else None
    return Evidence("", shown, estimate, seeds, sum(rows_SQ.shape[1] for rows_SQ in points.values()), runs)


def _cost(run: Run, claim: Claim, study: Study) -> float:
    """Cost of an evaluated model from zero, as the cost ledger charges it."""
    index = costs.by_fingerprint(study.runs)
    made = costs.trained(run, index)
    spent = 0.0 if made is None else costs.total([*costs.charged(made, index), made])[str(claim.cost)]
    if spent <= 0:
        raise UserError(f"{run.labels['arm']} has no {claim.cost} to compare with; claim its cost against another arm.")
    return spent


def _scalar(values: np.ndarray, view: View, runs: tuple[Run, ...], unit: np.ufunc = np.positive) -> Evidence:
    """Evidence of one value a seed; ``unit`` turns the test's unit into the claim's."""
    if len(values) < 2:
        mean = float(unit(values[0]))
        return Evidence("", Interval(mean, float("nan"), float("nan")), None, len(values), 0, runs)
    estimate = significance.over_seeds(values)
    span = significance.interval(estimate, view.confidence)
    shown = Interval(*(float(unit(value)) for value in (span.mean, span.low, span.high)))
    return Evidence("", shown, estimate, len(values), 0, runs)
