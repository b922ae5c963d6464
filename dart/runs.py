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
from pathlib import Path
from typing import Any

from dart.arms import Arm
from dart.checks import available, benchmarks, check, seeds_of
from dart.config import Config, load
from dart.errors import UserError
from dart.parsing import merge, parse
from dart.recipes import COT, DATA, Cell, Recipes, Run, dump, engine, model_folder

VALIDATION = "validation"


def table(config: Config) -> tuple[Run, ...]:
    """Every run that the configuration can make, those of arms outside ``main_arms`` included."""
    arms = config.every_arm()
    check(config, arms)
    recipes = Recipes(config)
    chosen = {point.name for name, sweep in config.sweeps.items() if sweep.choose for point in config.points(name)}
    trained: list[Run] = []
    for target in config.targets:
        for name, arm in arms.items():
            if available(config, arm, target):
                trained += _arm_runs(_own_config(config, name, arm), target, name, arm, recipes, name in chosen)
    models = (*_train_zoo(config), *_fetch_models(config))
    return (_make_data(config), *models, _generate_cot(config), *recipes.runs, *trained)


def _own_config(config: Config, name: str, arm: Arm) -> Config:
    """The configuration with the arm's own knobs laid over it."""
    return parse(Config, merge(dump(config), arm.knobs), f"arms.{name}.knobs") if arm.knobs else config


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


def evaluated(
    runs: Iterable[Run], arms: Sequence[str], seeds: Sequence[int] | None = None, split: str = "benchmark"
) -> list[Run]:
    """Evaluations of the arms on a split (``benchmark`` or ``validation``), of these seeds and untrained models."""
    found = select(runs, ["evaluate"], arms)
    known = None if seeds is None else {0, *seeds}
    labels = [run.spec["labels"] for run in found]
    return [
        run
        for run, label in zip(found, labels, strict=True)
        if label.get("split", "benchmark") == split and (known is None or label["seed"] in known)
    ]


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


def _make_data(config: Config) -> Run:
    models = config.zoo.models
    data = dump(config.data)
    wanted = {task: where for task, where in data["benchmarks"].items() if task in benchmarks(config)}
    spec = {
        "labels": {},
        "seed": config.data.seed,
        "data": data | {"benchmarks": wanted},
        "prompts": dump(config.prompts),
        "tokenizer": config.zoo.tokenizer if models else None,
        "vocabulary": config.zoo.vocabulary,
        "expert": config.expert,
        "styles": {name: models[name].style for name in (*config.targets, config.expert) if name in models},
    }
    return Run("make_data", "", DATA, spec)


def _train_zoo(config: Config) -> Iterator[Run]:
    shared = dump(config.zoo, exclude={"models", "tokenizer", "vocabulary"}) | {"prompts": dump(config.prompts)}
    for name, model in config.zoo.models.items():
        own = dump(model, exclude={"start"})
        inputs = {"data": DATA} | ({"start": model_folder(model.start)} if model.start else {})
        yield Run("train_zoo", name, model_folder(name), {"labels": {"model": name}, **shared, **own}, inputs)


def _fetch_models(config: Config) -> Iterator[Run]:
    for name, model in config.models.items():
        spec = {"labels": {"model": name}, **dump(model, exclude={"vocabulary"})}
        yield Run("fetch_model", name, model_folder(name), spec)


def _generate_cot(config: Config) -> Run:
    spec = {"labels": {}, "seed": config.data.seed, "prompts": dump(config.prompts), "cot": dump(config.cot)}
    if config.cot.source == "human":
        return Run("generate_cot", "", COT, spec, {"data": DATA})
    asked = {"data": DATA, "model": model_folder(config.expert)}
    return Run("generate_cot", "", COT, spec | engine(config.engines.offline), asked)


def _arm_runs(own: Config, target: str, name: str, arm: Arm, recipes: Recipes, validated: bool) -> Iterator[Run]:
    """Training and evaluation of an arm, seed by seed; ``validated``: it is a point of a sweep that chooses."""
    for seed in seeds_of(own, arm):
        cell = Cell(own, name, arm, target, seed)
        labels = {"arm": name, "target": target, "seed": seed}
        if arm.trainer == "none":  # nothing is trained, so there is nothing to repeat over seeds
            yield _evaluate(own, f"{target}-{name}", labels, model_folder(target))
            continue
        train = _train(cell, labels, recipes)
        yield train
        yield _evaluate(own, cell.id, labels, train.folder)
        if validated and seed in own.sweep_seeds:  # points are compared over the seeds that all of them have
            yield _validate(own, cell.id, labels, train.folder)


def _train(cell: Cell, labels: dict[str, Any], recipes: Recipes) -> Run:
    own = cell.own
    folder, file = recipes.data(cell)
    spec = {"labels": labels, "seed": cell.seed, "prompts": dump(own.prompts)}
    # A checkpoint that nobody evaluates is not kept: at paper scale they would take a terabyte.
    watched: dict[str, Any] = {} if own.evaluate.checkpoints == "all" else {"export_at": []}
    if cell.arm.trainer == "rl":
        spec |= {"rl": dump(own.rl) | watched, **engine(own.engines.rl)}
        inputs = {"model": cell.start, "questions": folder}
    else:
        spec |= {"sft": dump(own.sft) | watched, "file": file}
        inputs = {"model": cell.start, "data": folder}
        if own.sft.loss == "pear":
            if cell.arm.data != "original":
                raise UserError(
                    f"arms.{cell.name}: the loss pear needs the policy that wrote the data, which is known for data: "
                    f"original only, not for {cell.arm.data}; change one of the two."
                )
            inputs["behaviour"] = recipes.scores(cell, own.expert)
    return Run(f"train_{cell.arm.trainer}", cell.id, f"runs/{cell.id}", spec, inputs, cell.name)


def _evaluate(own: Config, run_id: str, labels: dict[str, Any], folder: str) -> Run:
    values = {"prompts": dump(own.prompts), "evaluate": dump(own.evaluate), **engine(own.engines.offline)}
    spec = {"labels": labels, "seed": own.data.seed, **values}
    return Run("evaluate", run_id, f"scores/{run_id}", spec, {"run": folder, "data": DATA}, labels["arm"])


def _validate(own: Config, run_id: str, labels: dict[str, Any], folder: str) -> Run:
    """The final model on the validation questions, on which learning rates are chosen."""
    changes = {"tasks": (VALIDATION,), "further": (), "in_domain": (), "checkpoints": "final"}
    own = own.model_copy(update={"evaluate": own.evaluate.model_copy(update=changes)})
    return _evaluate(own, f"{run_id}-{VALIDATION}", labels | {"split": VALIDATION}, folder)


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
