"""Costs of the runs that make a study, summed by arm; pure functions of the table of runs and a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dart import runs
from dart.config import Config
from dart.errors import UserError
from dart.plan import cost_model, workload
from dart.plan.cost_model import Device, Load
from dart.plan.expected import Expected
from dart.recipes import Run

SHARED = ("make_data", "train_zoo", "fetch_model")  # charged to no arm, as in analysis.costs


@dataclass(frozen=True)
class Cost:
    """One run's cost on the device; ``seconds`` include the start of its process."""

    run: Run
    load: Load
    seconds: float
    memory: float
    disk: float
    scratch: float


@dataclass(frozen=True)
class ArmCost:
    """Seconds of an arm: made alone (what it shares charged in full), and what leaving it out would save.

    ``models`` are those trained.
    """

    name: str
    models: int
    upstream: float
    training: float
    evaluation: float
    saved: float

    @property
    def total(self) -> float:
        """Seconds of everything that the arm needs, shared stages apart."""
        return self.upstream + self.training + self.evaluation


def costs(wanted: Iterable[Run], table: Sequence[Run], on: Device) -> dict[str, Cost]:
    """Return folder -> cost of the wanted runs of a table."""
    expected = Expected(table)
    found = {}
    for run in wanted:
        work = workload.load(run, expected)
        taken = on.start_seconds + cost_model.seconds(work, on)
        needed, kept = cost_model.memory(work, on), cost_model.disk(work)
        found[run.folder] = Cost(run, work, taken, needed, kept, cost_model.scratch(work))
    return found


def chosen(config: Config, table: Sequence[Run], targets: str) -> list[Run]:
    """Runs behind ``main`` (what ``snakemake`` makes), ``all``, or a list of arms by name."""
    if targets == "main":
        wanted = runs.evaluated(table, config.main_arms, config.seeds)
    elif targets == "all":
        wanted = runs.select(table, ["evaluate"], [*config.every_arm()])
    else:
        names = targets.split(",")
        for name in names:
            if not runs.evaluated(table, [name]):
                raise UserError(f"--targets names {name!r}; it takes main, all, or arms: {', '.join(config.arms)}.")
        wanted = runs.evaluated(table, names)
    return runs.with_inputs(table, wanted)


def wall(found: Mapping[str, Cost], workers: int) -> float:
    """Seconds on ``workers`` devices: the critical path, or all work evenly shared, whichever is longer."""
    ends: dict[str, float] = {}

    def end(folder: str) -> float:
        if folder not in ends:
            cost = found[folder]
            ends[folder] = cost.seconds + max(map(end, cost.run.inputs.values()), default=0.0)
        return ends[folder]

    return max(max(map(end, found)), sum(cost.seconds for cost in found.values()) / workers)


def charged(run: Run, found: Mapping[str, Cost]) -> dict[str, Cost]:
    """Runs upstream of ``run`` that its arm pays for (the rule of analysis.costs), by folder."""
    paid: dict[str, Cost] = {}
    waiting = [run]
    while waiting:
        for name, folder in waiting.pop().inputs.items():
            above = found[folder].run
            if name == "questions" and above.stage == "generate_cot":  # whoever reads the questions alone
                continue
            if above.stage not in SHARED and folder not in paid:
                paid[folder] = found[folder]
                waiting.append(above)
    return paid


def by_arm(found: Mapping[str, Cost]) -> list[ArmCost]:
    """Return the arms' costs, the dearest first."""
    evaluations: dict[str, list[Cost]] = {}
    for cost in found.values():
        if cost.run.stage == "evaluate":
            evaluations.setdefault(cost.run.arm, []).append(cost)
    needs = {arm: _needs(made, found) for arm, made in evaluations.items()}
    rows = []
    for arm, needed in needs.items():
        others = {folder for other, folders in needs.items() if other != arm for folder in folders}
        trained = {one.run.inputs["run"] for one in evaluations[arm]} & {*needed}
        measured = {one.run.folder for one in evaluations[arm]}
        rows.append(
            ArmCost(
                arm,
                len(trained),
                _sum(found, {*needed} - trained - measured),
                _sum(found, trained),
                _sum(found, measured),
                _sum(found, {*needed} - others),
            )
        )
    return sorted(rows, key=lambda row: -row.total)


def _needs(evaluations: Sequence[Cost], found: Mapping[str, Cost]) -> set[str]:
    """Folders that an arm pays for, its evaluations among them."""
    needed = {one.run.folder for one in evaluations}
    for one in evaluations:
        trained = found[one.run.inputs["run"]].run
        if trained.stage not in SHARED:
            needed |= {trained.folder, *charged(trained, found)}
    return needed


def _sum(found: Mapping[str, Cost], folders: Iterable[str]) -> float:
    return sum(found[folder].seconds for folder in folders)
