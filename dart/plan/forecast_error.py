"""How wrong a plan is: what it would have said of a finished study, against what the study's manifests say.

``python -m dart.plan --check results/nano`` prints the ratios; with ``--fit`` also how much of its peak the device
achieved in that study, as values for ``configs/devices.yaml``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import nnls

from dart.errors import UserError
from dart.manifest import NAME
from dart.plan import cost_model, workload
from dart.plan.cost_model import FLOPS_PER_TOKEN, Device, Load
from dart.plan.expected import Expected
from dart.recipes import Run

MEASURES = ("tokens", "FLOPs", "seconds", "memory", "disk")
SCRATCH = "scratch"


@dataclass(frozen=True)
class Finished:
    """A finished run: what a plan is given, what a plan makes of it, and what was measured."""

    run: Run
    load: Load
    manifest: dict[str, Any]
    disk: int

    def measured(self) -> dict[str, float]:
        """Measured values, in the order of ``MEASURES``."""
        found = self.manifest
        tokens = sum(found[f"tokens_{kind}"] for kind in ("generated", "scored", "trained"))
        return dict(
            zip(
                MEASURES, (tokens, found["flops"], found["seconds"], found["peak_memory_bytes"], self.disk), strict=True
            )
        )

    def predicted(self, on: Device) -> dict[str, float]:
        """What the model says of the same."""
        tokens = sum(map(self.load.tokens, FLOPS_PER_TOKEN))
        costs = (cost_model.seconds(self.load, on), cost_model.memory(self.load, on), cost_model.disk(self.load))
        return dict(zip(MEASURES, (tokens, self.load.flops, *costs), strict=True))


def read(root: Path) -> list[Finished]:
    """Read all finished runs below ``root``; raises :class:`UserError` where there is none."""
    paths = [path for path in sorted(root.glob(f"**/{NAME}")) if SCRATCH not in path.relative_to(root).parts]
    manifests = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    if not any(manifest["stage"] == "make_data" for manifest in manifests.values()):
        raise UserError(f"--check {root} holds no finished study; name the folder of a scale, such as results/nano.")
    folders = {found["fingerprint"]: str(path.relative_to(root)) for path, found in manifests.items()}
    runs = {path: _run(str(path.relative_to(root)), found, folders) for path, found in manifests.items()}
    expected = Expected([run for run in runs.values() if run is not None])
    return [
        Finished(run, workload.load(run, expected), manifests[path], _bytes(path))
        for path, run in runs.items()
        if run is not None
    ]


def _run(folder: str, found: dict[str, Any], folders: dict[str, str]) -> Run | None:
    """The row of the table of runs that a manifest was made from; None when its inputs have been made anew since."""
    prints = {name: given["fingerprint"] for name, given in found["inputs"].items()}
    if not set(prints.values()) <= set(folders):
        return None
    inputs = {name: folders[one] for name, one in prints.items()}
    return Run(found["stage"], folder, folder, found["spec"], inputs)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def ratios(finished: Iterable[Finished], on: Device) -> dict[str, dict[str, list[float]]]:
    """Return stage -> measure -> predicted over measured, one value a run; measures of zero are left out."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in finished:
        stage = found.setdefault(one.run.stage, {name: [] for name in MEASURES})
        predicted = one.predicted(on)
        for name, value in one.measured().items():
            if value:
                stage[name].append(predicted[name] / value)
    return found


def totals(finished: Sequence[Finished], on: Device) -> dict[str, float]:
    """Predicted over measured sum of each measure; the ratio of the largest for memory."""
    pairs = [(one.predicted(on), one.measured()) for one in finished]
    return {
        name: (max if name == "memory" else sum)(predicted[name] for predicted, _ in pairs)
        / (max if name == "memory" else sum)(measured[name] for _, measured in pairs)
        for name in MEASURES
    }


def render(root: Path, finished: Sequence[Finished], on: Device) -> str:
    """Return the table of ratios: the median of a stage's runs, and the worst."""
    lines = [
        f"Predicted over measured: {len(finished)} runs of {root}. Median over a stage's runs (the worst of them).",
        "",
        f"{'stage':<14}{'runs':>5}" + "".join(f"{name:>15}" for name in MEASURES),
    ]
    for stage, found in ratios(finished, on).items():
        runs = sum(one.run.stage == stage for one in finished)
        lines.append(f"{stage:<14}{runs:>5}" + "".join(f"{_cell(found[name]):>15}" for name in MEASURES))
    whole = "".join(f"{value:>8.2f}{'':>7}" for value in totals(finished, on).values())
    return "\n".join([*lines, f"{'whole study':<14}{len(finished):>5}{whole}".rstrip()])


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-       "
    worst = max(values, key=lambda value: abs(np.log(max(value, 1e-9))))
    return f"{median(values):.2f} ({worst:.2f})"


def fit(finished: Sequence[Finished], on: Device) -> dict[str, float]:
    """Return the values of ``configs/devices.yaml`` that come nearest to the measured seconds of runs that use a model.

    Least squares of relative errors, every stage weighing alike, no value below zero. ``layer_seconds`` is taken as it
    stands (time a pass over a single token), as large and small passes do not differ enough within a study to tell it
    from the rest; passes with and without a backward pass get one share, as many stages do both.
    """
    finished = [one for one in finished if one.load.work]
    runs = Counter(one.run.stage for one in finished)
    rows = []
    for one in finished:
        parts, seconds = cost_model.basis(one.load, on), one.manifest["seconds"]
        values = [1.0, one.load.texts, parts["generate"], parts["score"] + parts["train"]]
        left = seconds - on.layer_seconds * parts["layers"]
        rows.append([value / seconds / runs[one.run.stage] ** 0.5 for value in [*values, left]])
    matrix = np.array(rows)
    load_seconds, text_seconds, generate, passes = nnls(matrix[:, :-1], matrix[:, -1])[0].tolist()
    shares = {"generate": generate, "score": passes, "train": passes}
    found = {"load_seconds": load_seconds, "text_seconds": text_seconds}
    return found | {name: 1 / max(value, 1.0) for name, value in shares.items()}
