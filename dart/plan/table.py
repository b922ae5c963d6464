"""A plan as text, for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dart.plan.cost_model import Device
from dart.plan.costs import ArmCost, Cost, by_arm, wall
from dart.units import count, duration

WIDTH = 100
FIRST = 12  # arms printed one by one; the others are summed


def render(title: str, found: Mapping[str, Cost], device: str, on: Device, workers: int, every: bool) -> str:
    """Return head, stages, arms (the dearest ``FIRST``, or ``every`` one) and what to know."""
    costs = [*found.values()]
    head = _head(title, found, f"{device} ({on.title}; shares of peak {on.status})", workers)
    return "\n".join([*head, *_stages(costs), *_arms(by_arm(found), every), *_notes(costs, on)])


def _head(title: str, found: Mapping[str, Cost], device: str, workers: int) -> list[str]:
    costs = [*found.values()]
    # Checkpoints to resume from are gone when a run ends: as many as can run at once.
    transient = sum(sorted((cost.scratch for cost in costs), reverse=True)[:workers])
    facts = [
        f"{len(costs)} jobs",
        f"device time {duration(sum(cost.seconds for cost in costs))}",
        f"wall time {duration(wall(found, workers))} on {workers} worker{'s' * (workers > 1)}",
        f"disk {size(sum(cost.disk for cost in costs) + transient)}",
        f"memory {size(max(cost.memory for cost in costs))}",
    ]
    return [f"{title} on {device}", " · ".join(facts), ""]


def _stages(costs: Sequence[Cost]) -> list[str]:
    """A line a stage, in the order of the table of runs, and the sum."""
    stages: dict[str, list[Cost]] = {}
    for cost in costs:
        stages.setdefault(cost.run.stage, []).append(cost)
    header = ("generated", "scored", "trained", "FLOPs", "time", "share", "memory", "disk")
    lines = [f"{'stage':<14}{'jobs':>6}" + "".join(f"{name:>10}" for name in header), "─" * WIDTH]
    whole = sum(cost.seconds for cost in costs)
    lines += [_stage(name, mine, whole) for name, mine in stages.items()]
    return [*lines, "─" * WIDTH, _stage("all", costs, whole), ""]


def _stage(name: str, costs: Sequence[Cost], whole: float) -> str:
    spent = sum(cost.seconds for cost in costs)
    tokens = [sum(cost.load.tokens(kind) for cost in costs) for kind in ("generate", "score", "train")]
    flops = sum(cost.load.flops for cost in costs)
    cells = [*(count(number) if number else "-" for number in tokens), f"{flops:.1e}" if flops else "-"]
    cells += [duration(spent), f"{spent / whole:.0%}"]
    cells += [size(max(cost.memory for cost in costs)), size(sum(cost.disk for cost in costs))]
    return f"{name:<14}{len(costs):>6}" + "".join(f"{cell:>10}" for cell in cells)


def _arms(arms: Sequence[ArmCost], every: bool) -> list[str]:
    """A line an arm; those that are not printed are summed."""
    shown = arms if every else arms[:FIRST]
    rest = arms[len(shown) :]
    rows = [*shown, *([_summed(rest)] if rest else [])]
    left = max(len(row.name) for row in rows)
    header = ("upstream", "training", "evaluation", "together", "only its own")
    lines = [f"{'arm':<{left}}{'models':>8}" + "".join(f"{name:>13}" for name in header)]
    lines.append("─" * len(lines[0]))
    for row in rows:
        cells = (row.upstream, row.training, row.evaluation, row.total, row.saved)
        lines.append(f"{row.name:<{left}}{row.models or '-':>8}" + "".join(f"{_time(cell):>13}" for cell in cells))
    return [*lines, ""]


def _summed(arms: Sequence[ArmCost]) -> ArmCost:
    sums = [sum(getattr(arm, name) for arm in arms) for name in ("upstream", "training", "evaluation", "saved")]
    return ArmCost(f"{len(arms)} more (--all)", sum(arm.models for arm in arms), *sums)


def _time(seconds: float) -> str:
    return duration(seconds) if seconds else "-"


def _notes(costs: Sequence[Cost], on: Device) -> list[str]:
    notes = [
        "An arm's upstream runs are charged to it in full, as if it were made alone, so that arms which share",
        "them add up to more than all jobs take; only its own: what leaving the arm out would save. Questions",
        "and first models are charged to none. Not planned for: tables and figures (seconds each), queueing.",
        "What the plan rests on, and how far off it has been: docs/planning.md.",
    ]
    big: dict[str, float] = {}
    for cost in costs:
        if cost.memory > on.memory_gb * 1e9:
            big[cost.run.stage] = max(cost.memory, big.get(cost.run.stage, 0.0))
    for stage, memory in big.items():
        notes.append(
            f"! {stage} needs up to {size(memory)}, but the device has {on.memory_gb:g} GB; split its batches."
        )
    return notes


def size(number: float) -> str:
    """Return bytes as people say them: ``310 MB``, ``1.25 GB``, ``2.1 TB``."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB")):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number / 1e6:.0f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"
