"""The study as tidy frames: finished runs by their labels, metrics over time, graded answers.

Runs are found by the manifests that are handed in; what they are is read in their labels, never in a path. Files that
a stage leaves beside its manifest (``metrics.jsonl``, ``samples.parquet``, ...) are read from the manifest's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from dart.config import Config
from dart.errors import UserError
from dart.manifest import Manifest
from dart.parsing import Count, Knobs

FINAL = "model"  # name of the final model among the evaluated checkpoints
UNTRAINED = 0  # the seed in the labels of an arm that trains nothing, the same model for every seed of the others
Open = Annotated[float, Field(gt=0, lt=1)]


class SweepView(Knobs):
    """A sweep: ``points`` are (arm, value of ``knob``, name of the arm there); ``choose`` as in ``dart.arms``."""

    title: str
    knob: str
    choose: bool
    points: tuple[tuple[str, float, str], ...]


class View(Knobs):
    """What the analysis needs to know of the configuration: order, titles, comparisons and resampling.

    ``comparisons`` are pairs (arm, reference): differences are arm minus reference. Averages are over ``tasks``;
    ``further`` ones stand beside them in Table 1. ``in_domain`` are the tasks of the training questions' kind;
    ``groups`` says of every arm whether it is a main one, a baseline, an ablation, ...
    """

    scale: str
    arms: tuple[str, ...]
    titles: dict[str, str]
    targets: tuple[str, ...]
    tasks: tuple[str, ...]
    further: tuple[str, ...] = ()
    in_domain: tuple[str, ...] = ()
    groups: dict[str, str] = {}
    sweeps: dict[str, SweepView] = {}
    comparisons: tuple[tuple[str, str], ...]
    bootstrap: Count
    confidence: Open
    seed: int


def view_of(config: Config, arms: Sequence[str] | None = None) -> View:
    """Return the view of a configuration for ``arms`` (default: the main ones).

    Compared are: every arm on adapted data with every other arm, then every other trained arm with the untrained one.
    """
    names = tuple(arms or config.main_arms)
    known = config.every_arm()
    adapted = [name for name in names if known[name].data == "adapted"]
    untrained = [name for name in names if known[name].trainer == "none"]
    others = [name for name in names if name not in adapted and name not in untrained]
    pairs = [(arm, reference) for arm in adapted for reference in (*others, *untrained)]
    pairs += [(arm, reference) for arm in others for reference in untrained]
    return View(
        scale=config.scale,
        arms=names,
        titles={name: known[name].title for name in names},
        targets=config.targets,
        tasks=config.evaluate.tasks,
        further=config.evaluate.further,
        in_domain=config.evaluate.in_domain,
        groups={name: known[name].group for name in names},
        sweeps={
            name: SweepView(
                title=sweep.title,
                knob=sweep.knob,
                choose=sweep.choose,
                points=tuple((point.arm, point.value, point.name) for point in config.points(name)),
            )
            for name, sweep in config.sweeps.items()
        },
        comparisons=tuple(pairs),
        **config.analysis.model_dump(),
    )


@dataclass(frozen=True)
class Run:
    """A finished run of a stage: its manifest and the folder the manifest lies in."""

    manifest: Manifest
    folder: Path

    @property
    def labels(self) -> dict[str, Any]:
        """Which cell of the study this is: arm, target, seed, model, ... as far as they apply."""
        return self.manifest.spec["labels"]

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.manifest.stage


def read_runs(paths: Iterable[Path | str]) -> list[Run]:
    """Read manifest files; a file given twice counts once. A missing or foreign file is a :class:`UserError`."""
    found: dict[str, Run] = {}
    for path in map(Path, paths):
        try:
            manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise UserError(f"{path} does not exist, so its stage has not finished; run that stage first.") from None
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is not a manifest ({error}); delete it and run its stage again.") from None
        found.setdefault(manifest.fingerprint, Run(manifest, path.parent))
    return list(found.values())


def of_stage(runs: Iterable[Run], *stages: str) -> list[Run]:
    """Runs of these stages, in the order given."""
    return [run for run in runs if run.stage in stages]


def metrics(run: Run) -> pd.DataFrame:
    """Rows of the run's ``metrics.jsonl`` with its labels as columns, sorted by ``step``."""
    path = run.folder / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{path} does not exist, but its manifest does; run that stage again.")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return pd.DataFrame(rows).sort_values("step", ignore_index=True).assign(**run.labels)


def checkpoints(run: Run) -> pd.DataFrame:
    """Evaluated checkpoints of an ``evaluate`` run: columns ``checkpoint``, ``step`` (NaN: final), ``index``.

    ``index`` counts 0, 1, ... in the order of training; it, not the step, is what runs of other seeds share, because
    data sets of different sizes have different steps at the same share of training.
    """
    path = run.folder / "scores.json"
    if not path.is_file():
        raise UserError(f"{path} does not exist, but its manifest does; run that stage again.")
    rows = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))[["checkpoint", "step"]].drop_duplicates()
    rows["step"] = pd.to_numeric(rows["step"])
    rows = rows.sort_values("step", na_position="last", ignore_index=True)
    return rows.assign(index=np.arange(len(rows)))


def samples(runs: Iterable[Run]) -> pd.DataFrame:
    """Graded answers of ``evaluate`` runs, one row each.

    Columns: arm, target, seed, checkpoint, step, index, task, id, doc_hash, correct. Refused when two runs answered
    different versions of a question.
    """
    frames = []
    for run in of_stage(runs, "evaluate"):
        columns = ["checkpoint", "task", "id", "doc_hash", "correct"]
        frame = pd.read_parquet(run.folder / "samples.parquet", columns=columns)
        frame = frame.merge(checkpoints(run), on="checkpoint", validate="many_to_one")
        frames.append(frame.assign(**{name: run.labels[name] for name in ("arm", "target", "seed")}))
    if not frames:
        raise UserError("No manifest of the stage evaluate was given; add those of the runs to be compared.")
    table = pd.concat(frames, ignore_index=True)
    versions = table.groupby(["task", "id"])["doc_hash"].nunique()
    if (versions > 1).any():
        task, question = versions[versions > 1].index[0]
        raise UserError(f"Runs answered different versions of {question} of {task}; evaluate all on one data set.")
    return table


def outcomes(answers: pd.DataFrame, tasks: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return task -> 0/1 outcomes of shape (seeds, questions) for the answers of one arm, target and checkpoint.

    Rows follow the seeds and columns the question ids, both sorted, so that the arrays of two arms can be paired.
    """
    found = {}
    for task in tasks:
        rows = answers[answers["task"] == task]
        grid = rows.pivot(index="seed", columns="id", values="correct").astype(float)
        if grid.empty or grid.isna().to_numpy().any():
            cell = " ".join(map(str, answers[["arm", "target"]].iloc[0]))
            raise UserError(f"The seeds of {cell} answered different questions of {task}; evaluate them anew.")
        found[task] = grid.to_numpy()  # pivot sorts rows and columns
    return found


def cell(answers: pd.DataFrame, arm: str, target: str, index: int | None = None) -> pd.DataFrame:
    """Answers of an arm for a target at the ``index``-th checkpoint (default: of the final model)."""
    rows = answers[(answers["arm"] == arm) & (answers["target"] == target)]
    rows = rows[rows["checkpoint"] == FINAL] if index is None else rows[rows["index"] == index]
    if rows.empty:
        raise UserError(f"No evaluated run of arm {arm} for target {target} was given; add its evaluate manifest.")
    return rows


def common_seeds(first: Iterable[int], second: Iterable[int]) -> tuple[list[int], list[int]]:
    """Return the seeds of two arms that are compared: those that both have, sorted.

    An arm that trains nothing has the one seed ``UNTRAINED`` and is compared with every seed of the other. Without a
    common seed both lists are empty.
    """
    ours, theirs = set(first), set(second)
    if {UNTRAINED} in (ours, theirs):
        return sorted(ours), sorted(theirs)
    both = sorted(ours & theirs)
    return both, both


def paired(
    answers: pd.DataFrame,
    arm: str,
    reference: str,
    target: str,
    tasks: Sequence[str],
    index: int | None = None,
    reference_index: int | None = None,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Return the outcomes of an arm and of its reference on the seeds that they share (:func:`common_seeds`).

    ``index`` and ``reference_index`` are checkpoints as in :func:`cell` (default: the final models).
    """
    rows = [cell(answers, arm, target, index), cell(answers, reference, target, reference_index)]
    shared = common_seeds(*(one["seed"] for one in rows))
    if not shared[0]:
        ours, theirs = (" ".join(map(str, sorted(set(one["seed"])))) for one in rows)
        raise UserError(
            f"Arms {arm} (seeds {ours}) and {reference} (seeds {theirs}) have no seed in common for target {target}; "
            "train one of them with the seeds of the other."
        )
    first, second = (outcomes(one[one["seed"].isin(seeds)], tasks) for one, seeds in zip(rows, shared, strict=True))
    return first, second
