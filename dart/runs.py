"""The table of runs: a pure function from the configuration to every stage run, its spec and its inputs.

``table(config)`` is all that ``rules/`` know of the study. Folders are relative to ``<results>/<scale>``. Ids such as
``ash-dart-s1`` are opaque: they are made here and looked up here, and nobody parses them. ``python -m dart.runs
configs/base.yaml configs/arms.yaml configs/nano.yaml`` prints the table.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dart.config import Config, load
from dart.errors import UserError
from dart.parsing import merge, parse

DATA = "data"
COT = "cot"


@dataclass(frozen=True)
class Run:
    """One run of one stage.

    Attributes
    ----------
    stage : str
        Module in ``dart.stages`` and rule of the same name.
    id : str
        Unique among the runs of its stage; empty for a stage that runs once.
    folder : str
        Where its manifest goes.
    spec : dict
        The stage's result-affecting values, with ``labels`` and ``seed``.
    inputs : dict
        Input name -> folder of the run that makes it.
    arm : str
        The arm this run serves alone; empty when arms share it.
    """

    stage: str
    id: str
    folder: str
    spec: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    arm: str = ""


def table(config: Config) -> tuple[Run, ...]:
    """Every run that the configuration can make, those of arms outside ``main_arms`` included."""
    _check(config)
    runs: list[Run] = [_make_data(config), *_train_zoo(config), _generate_cot(config)]
    own = {arm: _own_config(config, arm) for arm in config.arms}
    for target in config.targets:
        adapted = _Adapted(config, target)
        trained = [run for arm in config.arms for run in _arm_runs(own[arm], target, arm, adapted)]
        runs += [*adapted.runs, *trained]
    return tuple(runs)


def _own_config(config: Config, arm: str) -> Config:
    """The configuration with the arm's own knobs laid over it."""
    knobs = config.arms[arm].knobs
    return parse(Config, merge(_dump(config), knobs), f"arms.{arm}.knobs") if knobs else config


class _Adapted:
    """Mapper RL and rewriting for one target: made when an arm first asks, shared by all arms of equal knobs.

    Runs with the configuration's own knobs are named after target and seed; others after the arm that asks first, too.
    """

    def __init__(self, config: Config, target: str) -> None:
        self.config = config
        self.target = target
        self.runs: list[Run] = []

    def folder(self, own: Config, arm: str, seed: int) -> str:
        """Return the folder of the adapted demonstrations of an arm."""
        name = {False: f"{self.target}-s{seed}", True: f"{self.target}-{arm}-s{seed}"}
        mapper = self._shared(_train_mapper(own, self.target, seed, name[own.mapper != self.config.mapper]))
        changed = (own.mapper, own.adapt) != (self.config.mapper, self.config.adapt)
        return self._shared(_adapt_data(own, self.target, seed, name[changed], mapper)).folder

    def _shared(self, run: Run) -> Run:
        for other in self.runs:
            if (other.stage, other.spec, other.inputs) == (run.stage, run.spec, run.inputs):
                return other
        self.runs.append(run)
        return run


def find(runs: Iterable[Run], stage: str, run_id: str = "") -> Run:
    """Return the run of ``stage`` with this id; an unknown one is a :class:`UserError` naming the nearest."""
    known = {run.id: run for run in runs if run.stage == stage}
    if run_id not in known:
        raise UserError(f"{stage} has no run {run_id!r}; {_nearest(run_id, known)}.")
    return known[run_id]


def check_targets(runs: Sequence[Run], root: str, words: Iterable[str]) -> None:
    """Raise :class:`UserError` for a word (of a command line) that is a file of a run that does not exist."""
    shelves = {run.folder.partition("/")[0] for run in runs if "/" in run.folder}
    folders = {f"{root}/{run.folder}" for run in runs}
    for word in words:
        shelf, _, rest = word.removeprefix(f"{root}/").partition("/")
        folder = f"{root}/{shelf}/{rest.partition('/')[0]}"
        if word.startswith(f"{root}/") and shelf in shelves and folder not in folders:
            raise UserError(f"There is no run {folder}; {_nearest(folder, folders)}.")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    listing = "`python -m dart.runs configs/base.yaml configs/arms.yaml configs/nano.yaml` lists the runs"
    return f"the nearest is {near[0]} ({listing})" if near else listing


def select(runs: Iterable[Run], stages: Sequence[str], arms: Sequence[str] = ()) -> list[Run]:
    """Runs of the stages, of these arms or shared by arms, in table order."""
    return [run for run in runs if run.stage in stages and run.arm in ("", *arms)]


def stage_version(stage: str) -> int:
    """``version`` of the stage, read in its source: importing it may import torch, which Snakemake need not have."""
    path = Path(__file__).parent / "stages" / f"{stage}.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Stage":
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            return int(ast.literal_eval(named["version"] if "version" in named else node.args[1]))
    raise ValueError(f"{path} defines no Stage")


def with_inputs(runs: Sequence[Run], wanted: Iterable[Run]) -> list[Run]:
    """``wanted`` and all that they are made from, in table order."""
    by_folder = {run.folder: run for run in runs if run.stage != "evaluate"}
    needed: dict[str, Run] = {}
    waiting = list(wanted)
    while waiting:
        run = waiting.pop()
        if run.folder not in needed:
            needed[run.folder] = run
            waiting += [by_folder[folder] for folder in run.inputs.values()]
    return [run for run in runs if run.folder in needed]


def _check(config: Config) -> None:
    models = config.zoo.models
    named = {f"targets: {name}": name for name in config.targets}
    named |= {"expert": config.expert, "mapper.start": config.mapper.start}
    named |= {f"zoo.models.{name}.start": model.start for name, model in models.items() if model.start is not None}
    for place, name in named.items():
        if name not in models:
            raise UserError(f"{place} names the model {name!r}, which zoo.models lacks; it has {', '.join(models)}.")
    for arm in config.main_arms:
        if arm not in config.arms:
            raise UserError(f"main_arms names the arm {arm!r}, which arms lacks; it has {', '.join(config.arms)}.")
        if config.arms[arm].data == "native" and config.data.source != "world":
            raise UserError(f"main_arms names the arm {arm!r}, whose native data only data.source: world has; drop it.")


def _dump(knobs: Any, **options: Any) -> dict[str, Any]:
    return knobs.model_dump(mode="json", **options)


def _model(name: str) -> str:
    return f"models/{name}"


def _make_data(config: Config) -> Run:
    models = config.zoo.models
    spec = {
        "labels": {},
        "seed": config.data.seed,
        "data": _dump(config.data),
        "prompts": _dump(config.prompts),
        "tokenizer": config.zoo.tokenizer,
        "vocabulary": config.zoo.vocabulary,
        "expert": config.expert,
        "styles": {name: models[name].style for name in (*config.targets, config.expert)},
    }
    return Run("make_data", "", DATA, spec)


def _train_zoo(config: Config) -> Iterator[Run]:
    shared = _dump(config.zoo, exclude={"models", "tokenizer", "vocabulary"}) | {"prompts": _dump(config.prompts)}
    for name, model in config.zoo.models.items():
        own = _dump(model, exclude={"start"})
        inputs = {"data": DATA} | ({"start": _model(model.start)} if model.start else {})
        yield Run("train_zoo", name, _model(name), {"labels": {"model": name}, **shared, **own}, inputs)


def _generate_cot(config: Config) -> Run:
    spec = {"labels": {}, "seed": config.data.seed, "prompts": _dump(config.prompts), "cot": _dump(config.cot)}
    asked = {"model": _model(config.expert)} if config.cot.source == "expert" else {}
    return Run("generate_cot", "", COT, spec, {"data": DATA} | asked)


def _train_mapper(config: Config, target: str, seed: int, run_id: str) -> Run:
    labels = {"target": target, "seed": seed}
    spec = {"labels": labels, "seed": seed, "prompts": _dump(config.prompts), "mapper": _dump(config.mapper)}
    inputs = {"cot": COT, "mapper": _model(config.mapper.start), "target": _model(target)}
    return Run("train_mapper", run_id, f"mapper/{run_id}", spec, inputs)


def _adapt_data(config: Config, target: str, seed: int, run_id: str, mapper: Run) -> Run:
    spec = {
        "labels": {"target": target, "seed": seed},
        "seed": seed,
        "prompts": _dump(config.prompts),
        "adapt": _dump(config.adapt),
        "reward": _dump(config.mapper.reward),
        "scoring_batch": config.mapper.scoring_batch,
    }
    inputs = {"cot": COT, "mapper": mapper.folder, "target": _model(target)}
    return Run("adapt_data", run_id, f"adapted/{run_id}", spec, inputs)


def _arm_runs(config: Config, target: str, name: str, adapted: _Adapted) -> Iterator[Run]:
    arm = config.arms[name]
    if arm.data == "native" and config.data.source != "world":
        return  # only the world knows how a target would have put it
    if arm.trainer == "none":  # nothing is trained, so there is nothing to repeat over seeds
        yield _evaluate(config, f"{target}-{name}", {"arm": name, "target": target, "seed": 0}, _model(target))
        return
    for seed in config.seeds:
        run_id = f"{target}-{name}-s{seed}"
        labels = {"arm": name, "target": target, "seed": seed}
        folder, file = COT, "demonstrations.jsonl"
        if arm.data == "adapted":
            folder = adapted.folder(config, name, seed)
        elif arm.data == "native":
            folder, file = DATA, f"native_{target}.jsonl"
        spec = {"labels": labels, "seed": seed, "prompts": _dump(config.prompts)}
        spec |= {"sft": _dump(config.sft), "file": file} if arm.trainer == "sft" else {"rl": _dump(config.rl)}
        inputs = {"model": _model(target), "data": folder}
        yield Run(f"train_{arm.trainer}", run_id, f"runs/{run_id}", spec, inputs, name)
        yield _evaluate(config, run_id, labels, f"runs/{run_id}")


def _evaluate(config: Config, run_id: str, labels: dict[str, Any], folder: str) -> Run:
    values = {"prompts": _dump(config.prompts), "evaluate": _dump(config.evaluate)}
    spec = {"labels": labels, "seed": config.data.seed, **values}
    return Run("evaluate", run_id, f"scores/{run_id}", spec, {"run": folder, "data": DATA}, labels["arm"])


def main(argv: Sequence[str]) -> int:
    """Print stage, folder and inputs of every run of the configuration files in ``argv``."""
    try:
        for run in table(load(argv)):
            print(f"{run.stage:<13} {run.folder:<28} <- {', '.join(run.inputs.values())}")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
