"""Arms and sweeps as the configuration states them (``configs/arms.yaml``); a sweep is a row of arms made by a knob."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from dart.errors import UserError
from dart.parsing import Knobs, merge

TARGET = "target"
Recipe = Literal[
    "none", "questions", "learnable", "original", "native", "adapted", "verified", "preferred", "random", "bridged",
    "critiqued",
]  # fmt: skip
Overlay = dict[
    Literal["mapper", "adapt", "pass_rate", "select", "rework", "sft", "rl", "evaluate"],
    dict[str, Any],
]


class Arm(Knobs):
    """A row of the tables: how a trained model is made out of a target.

    ``start`` is ``target`` or the arm whose trained model this one goes on from. ``data`` names a recipe of
    ``dart.recipes``. ``knobs`` is an overlay on the configuration for this arm alone: an ablation is an arm like
    another with knobs changed. ``group`` is the named target that makes it (``snakemake ablations``).
    """

    title: str
    group: Literal["main", "baselines", "ablations", "controls", "sweeps"]
    start: str = TARGET
    trainer: Literal["none", "sft", "rl"]
    data: Recipe
    knobs: Overlay = {}


class Sweep(Knobs):
    """Arms repeated with one knob multiplied by ``factors``.

    ``knob`` is a path such as ``mapper.grpo.steps``; ``{trainer}`` in it stands for the arm's. ``choose``: the arms are
    also evaluated on the validation questions, and the best value of each arm is chosen there.
    """

    title: str
    knob: str
    arms: tuple[str, ...]
    factors: tuple[float, ...] = Field(min_length=1)
    choose: bool


@dataclass(frozen=True)
class Point:
    """``arm`` with the sweep's knob at ``value``; its ``name`` is the arm's own where the factor is 1."""

    arm: str
    value: float
    name: str
    made: Arm


def points(key: str, sweep: Sweep, arms: Mapping[str, Arm], config: Mapping[str, Any]) -> list[Point]:
    """Return the points of the sweep ``key``, sorted by value within an arm.

    The swept arms themselves are among them, and other arms that differ from a swept one in the knob alone (best of n
    is DART with no step of mapper RL). ``config`` is the configuration as plain data.
    """
    found: list[Point] = []
    for name in sweep.arms:
        if name not in arms:
            raise UserError(f"sweeps.{key} names the arm {name!r}, which arms lacks; it has {', '.join(arms)}.")
        path = sweep.knob.format(trainer=arms[name].trainer).split(".")
        own = _lookup(merge(config, arms[name].knobs), path)
        if not isinstance(own, int | float):
            raise UserError(f"sweeps.{key}.knob is {sweep.knob!r}, which is no number of the configuration; name one.")
        made: dict[float, Point] = {}
        for factor in {1.0, *sweep.factors}:
            value = type(own)(round(own * factor, 12))
            called = name if factor == 1 else f"{name}_{key}_x{factor:g}"
            made[value] = Point(name, value, called, _with(arms[name], path, value, sweep.title))
        found += [one for _, one in sorted((_alike(name, arms, config, path) | made).items())]
    return found


def _alike(name: str, arms: Mapping[str, Arm], config: Mapping[str, Any], path: list[str]) -> dict[float, Point]:
    """Value -> arm that is ``name`` with another value of the knob, whatever checkpoints of it are evaluated."""
    blind = _overlay(path, None) | {"evaluate": None}
    whole = {other: merge(config, arm.knobs) for other, arm in arms.items()}
    rest = {other: (arm.start, arm.trainer, arm.data, merge(whole[other], blind)) for other, arm in arms.items()}
    same = [(other, _lookup(whole[other], path)) for other in arms if rest[other] == rest[name]]
    return {value: Point(name, value, other, arms[other]) for other, value in same}


def _with(arm: Arm, path: list[str], value: float, what: str) -> Arm:
    # Checkpoints on the way are evaluated for the main arms only.
    knobs = merge(merge(arm.knobs, _overlay(path, value)), {"evaluate": {"checkpoints": "final"}})
    return arm.model_copy(update={"title": f"{arm.title}, {what} {value:g}", "group": "sweeps", "knobs": knobs})


def _overlay(path: list[str], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value


def _lookup(node: Any, path: list[str]) -> Any:
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
