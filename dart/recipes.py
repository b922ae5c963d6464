"""What the arms train on: each data recipe of ``configs/arms.yaml`` as the runs of stages that make it.

A run that several arms need is made once: two runs of one stage with equal specs and inputs are the same run. Ids are
``<target>-s<seed>`` where an arm has the configuration's own knobs, else the arm's name stands between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dart.arms import TARGET, Arm
from dart.config import Config
from dart.errors import UserError
from dart.sections import EngineName, Mapper

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


@dataclass(frozen=True)
class Cell:
    """One training run of an arm: ``own`` is the configuration with the arm's knobs laid over it."""

    own: Config
    name: str
    arm: Arm
    target: str
    seed: int

    @property
    def id(self) -> str:
        """Id of the training run."""
        return f"{self.target}-{self.name}-s{self.seed}"

    @property
    def start(self) -> str:
        """Folder of the model that training starts from."""
        if self.arm.start == TARGET:
            return model_folder(self.target)
        return f"runs/{self.target}-{self.arm.start}-s{self.seed}"

    def spec(self, **values: Any) -> dict[str, Any]:
        """Spec of a run that makes data for this cell: labels, seed, prompts and ``values``."""
        labels = {"target": self.target, "seed": self.seed}
        return {"labels": labels, "seed": self.seed, "prompts": dump(self.own.prompts), **values}


class Recipes:
    """Runs that make data; ``runs`` holds those that arms have asked for, in the order of asking."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.offline = engine(config.engines.offline)
        self.runs: list[Run] = []

    def data(self, cell: Cell) -> tuple[str, str]:
        """Return folder and file of what the cell trains on."""
        match cell.arm.data:
            case "native":
                return DATA, f"native_{cell.target}.jsonl"
            case "original" | "questions":
                folder = COT
            case "adapted":
                folder = self._adapted(cell)
            case "verified" | "learnable":
                folder = self._selected(cell, {"questions": COT, "rollouts": self._rollouts(cell)})
            case "preferred" | "random":
                folder = self._selected(cell, {"data": COT, "scores": self.scores(cell, cell.target)})
            case "bridged" | "critiqued":
                folder = self._reworked(cell)
            case _:
                raise UserError(
                    f"arms.{cell.name}: trainer {cell.arm.trainer} needs data, and data is none; name some."
                )
        return folder, "demonstrations.jsonl"

    def scores(self, cell: Cell, scorer: str) -> str:
        """Token log-probabilities of the original CoT under a model of the zoo, in the target's token ids."""
        spec = {
            "labels": {"target": cell.target, "model": scorer},
            "prompts": dump(cell.own.prompts),
            "scoring_batch": self.config.mapper.scoring_batch,
            **self.offline,
        }
        inputs = {"data": COT, "model": model_folder(scorer), "target": model_folder(cell.target)}
        run_id = f"{cell.target}-{scorer}"
        return self._shared(Run("score_data", run_id, f"scored/{run_id}", spec, inputs))

    def _adapted(self, cell: Cell) -> str:
        target = cell.target if cell.own.mapper.trained_for == "own" else self._next(cell.target)
        cell = Cell(cell.own, cell.name, cell.arm, target, cell.seed)
        mapper = cell.own.mapper.model_copy(update={"trained_for": "own"})
        changed = mapper != self.config.mapper
        source = self._mapper(cell, mapper, self._id(cell, changed))
        scoring = {"reward": dump(mapper.reward), "scoring_batch": mapper.scoring_batch}
        spec = cell.spec(adapt=dump(cell.own.adapt), **scoring, **self.offline)
        run_id = self._id(cell, changed or cell.own.adapt != self.config.adapt)
        inputs = {"cot": COT, "mapper": source, "target": model_folder(target)}
        return self._shared(Run("adapt_data", run_id, f"adapted/{run_id}", spec, inputs))

    def _mapper(self, cell: Cell, mapper: Mapper, run_id: str) -> str:
        start = model_folder(cell.target if mapper.start == TARGET else mapper.start)
        if not mapper.grpo.steps:
            return start
        inputs = {"cot": COT, "mapper": start, "target": model_folder(cell.target)}
        spec = cell.spec(mapper=dump(mapper), **engine(self.config.engines.rl))
        return self._shared(Run("train_mapper", run_id, f"mapper/{run_id}", spec, inputs))

    def _next(self, target: str) -> str:
        targets = self.config.targets
        return targets[(targets.index(target) + 1) % len(targets)]

    def _rollouts(self, cell: Cell) -> str:
        """Rollouts of the model that the cell starts from, named after that model."""
        run_id = cell.start.removeprefix("runs/") if cell.arm.start != TARGET else f"{cell.target}-s{cell.seed}"
        run_id += f"-{cell.name}" if cell.own.pass_rate != self.config.pass_rate else ""
        spec = cell.spec(pass_rate=dump(cell.own.pass_rate), **self.offline)
        inputs = {"model": cell.start, "questions": COT}
        return self._shared(Run("pass_rate", run_id, f"rollouts/{run_id}", spec, inputs))

    def _selected(self, cell: Cell, inputs: dict[str, str]) -> str:
        spec = cell.spec(select=dump(cell.own.select), rule=cell.arm.data)
        del spec["prompts"]
        return self._shared(Run("select_data", cell.id, f"selected/{cell.id}", spec, inputs))

    def _reworked(self, cell: Cell) -> str:
        own = cell.own
        critique = cell.arm.data == "critiqued"
        spec = cell.spec(select=dump(own.select), rework=dump(own.rework), critique=critique, **self.offline)
        inputs = {"data": COT, "rollouts": self._rollouts(cell), "model": model_folder(own.expert)}
        return self._shared(Run("rework_data", cell.id, f"reworked/{cell.id}", spec, inputs))

    def _id(self, cell: Cell, changed: bool) -> str:
        return cell.id if changed else f"{cell.target}-s{cell.seed}"

    def _shared(self, run: Run) -> str:
        for other in self.runs:
            if (other.stage, other.spec, other.inputs) == (run.stage, run.spec, run.inputs):
                return other.folder
        self.runs.append(run)
        return run.folder


def model_folder(name: str) -> str:
    """Folder of a model of the zoo."""
    return f"models/{name}"


def engine(name: EngineName) -> dict[str, str]:
    """The engine's entry in a spec.

    Transformers, the default of every stage, goes unsaid: to name it would make anew what was made before there was a
    choice. Manifests name it.
    """
    return {} if name == "transformers" else {"engine": name}


def dump(knobs: Any, **options: Any) -> dict[str, Any]:
    """Knobs as plain data, for a spec."""
    return knobs.model_dump(mode="json", **options)
