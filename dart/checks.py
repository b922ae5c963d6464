"""Which arms a configuration can make, and what is wrong with it, each in one sentence before any compute.

``dart.runs.table`` calls :func:`check`; nothing here looks at files or at the network.
"""

from __future__ import annotations

from collections.abc import Mapping

from dart.arms import TARGET, Arm
from dart.config import Config
from dart.errors import UserError


def available(config: Config, arm: Arm, target: str) -> bool:
    """Whether the scale can make the arm for the target.

    Native data are known in the world only, another target needs two, and PEAR compares the target's policy with the
    expert's token by token; an arm that goes on from another needs that one.
    """
    crossed = arm.knobs.get("mapper", {}).get("trained_for") == "next"
    if (arm.data == "native" and config.data.source != "world") or (crossed and len(config.targets) == 1):
        return False
    if arm.knobs.get("sft", {}).get("loss") == "pear" and _vocabulary(config, target) != _vocabulary(
        config, config.expert
    ):
        return False
    start = config.arms.get(arm.start)
    return start is None or available(config, start, target)


def _vocabulary(config: Config, model: str) -> str:
    """Models of one vocabulary have the same token ids; those trained by the DAG share theirs."""
    return config.models[model].vocabulary if model in config.models else ""


def seeds_of(config: Config, arm: Arm) -> tuple[int, ...]:
    """Seeds that the arm is trained with; an untrained one has the seed 0."""
    if arm.trainer == "none":
        return (0,)
    if arm.group == "sweeps":
        return config.sweep_seeds
    return tuple(sorted({*config.seeds, *config.main_seeds})) if arm.group == "main" else config.seeds


def check(config: Config, arms: Mapping[str, Arm]) -> None:
    """Raise :class:`UserError` for the first name, data set or arm that cannot be as the configuration says."""
    _check_models(config)
    _check_data(config)
    for name, arm in arms.items():
        _check_start(config, arms, name, arm)
    for name in config.main_arms:
        if name not in config.arms:
            raise UserError(f"main_arms names the arm {name!r}, which arms lacks; it has {', '.join(config.arms)}.")
        lacking = [target for target in config.targets if not available(config, config.arms[name], target)]
        if lacking:
            raise UserError(
                f"main_arms names the arm {name!r}, for which {lacking[0]} lacks native data, another target or the "
                "expert's vocabulary; drop it."
            )


def _check_models(config: Config) -> None:
    """Every model that is named is declared, once."""
    models = config.zoo.models
    for name, model in models.items():
        if name in config.models:
            raise UserError(f"The model {name!r} is in zoo.models and in models; rename one of the two.")
        if model.start is not None and model.start not in models:
            raise UserError(
                f"zoo.models.{name}.start names {model.start!r}, which zoo.models lacks; it has {', '.join(models)}."
            )
    named = {f"targets: {name}": name for name in config.targets}
    named |= {"expert": config.expert}
    named |= {"mapper.start": config.mapper.start} if config.mapper.start != TARGET else {}
    known = (*models, *config.models)
    for place, name in named.items():
        if name not in known:
            raise UserError(
                f"{place} names the model {name!r}, which zoo.models and models lack; they have {', '.join(known)}."
            )


def _check_data(config: Config) -> None:
    """The world's size is said; real questions have a data set for every benchmark."""
    data = config.data
    if data.source == "world":
        if data.train_size is None:
            raise UserError("data.source is world, but data.train_size is not set; say how many questions.")
        return
    for task in benchmarks(config):
        if task not in data.benchmarks:
            raise UserError(
                f"evaluate names the task {task!r}, for which data.benchmarks has no data set; it has "
                f"{', '.join(data.benchmarks)}."
            )


def benchmarks(config: Config) -> tuple[str, ...]:
    """Tasks that every model is evaluated on."""
    return (*config.evaluate.tasks, *config.evaluate.further)


def _check_start(config: Config, arms: Mapping[str, Arm], name: str, arm: Arm) -> None:
    """An arm goes on from a trained one, which has every seed that it needs, and not from itself."""
    passed = [name]
    while arm.start != TARGET:
        before = arms.get(arm.start)
        if before is None or before.trainer == "none":
            raise UserError(f"arms.{passed[-1]}.start names {arm.start!r}, no trained arm; name one, or target.")
        if arm.start in passed:
            raise UserError(f"arms.{name} starts from itself ({' <- '.join([*passed, arm.start])}); break the circle.")
        missing = {*seeds_of(config, arm)} - {*seeds_of(config, before)}
        if missing:
            raise UserError(f"arms.{passed[-1]} has the seeds {sorted(missing)}, {arm.start} has not; add them to it.")
        passed.append(arm.start)
        arm = before
