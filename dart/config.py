"""The validated configuration of a scale: sections (``dart.sections``), arms, what stages are given.

``load(paths)`` merges YAML files left to right and validates the result; an unknown key is refused with the
nearest known one. ``python -m dart.config`` writes ``configs/schemas/config.schema.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field

from dart.arms import Arm, Point, Sweep, points
from dart.errors import UserError
from dart.parsing import Count, Knobs, merge, parse
from dart.sections import (
    Adapt,
    Analysis,
    Cot,
    Engines,
    Evaluate,
    Grpo,
    Mapper,
    PassRate,
    Prompts,
    Rework,
    Select,
    Sft,
    Zoo,
)
from dart.sources import Data, HubModel


class Needs(Knobs):
    """What a run of a stage is given, on a cluster above all: GPUs, memory, CPUs, and minutes before it is ended."""

    gpu: Annotated[int, Field(ge=0)]
    mem_mb: Count
    cpus_per_task: Count
    runtime: Count


class Config(Knobs):
    """The whole configuration of one scale.

    Every arm is trained with ``seeds``; ``snakemake all`` also trains the main arms with ``main_seeds``. Sweeps are
    trained with ``sweep_seeds`` alone. ``extends``: the file that this one is an overlay on (the base and the arms
    always are). ``models`` come from the hub, ``zoo.models`` are trained by the DAG.
    """

    scale: str
    extends: str | None = None
    results: str
    environment: Literal["dart", "gpu"]
    resources: dict[str, Needs]
    targets: tuple[str, ...]
    expert: str
    seeds: tuple[int, ...]
    main_seeds: tuple[int, ...]
    sweep_seeds: tuple[int, ...]
    main_arms: tuple[str, ...]
    engines: Engines
    prompts: Prompts
    data: Data
    models: dict[str, HubModel] = {}
    zoo: Zoo
    cot: Cot
    mapper: Mapper
    adapt: Adapt
    pass_rate: PassRate
    select: Select
    rework: Rework
    sft: Sft
    rl: Grpo
    evaluate: Evaluate
    analysis: Analysis
    arms: dict[str, Arm]
    sweeps: dict[str, Sweep]

    def points(self, sweep: str) -> list[Point]:
        """Return every point of a sweep."""
        return points(sweep, self.sweeps[sweep], self.arms, self.model_dump(mode="json"))

    def every_arm(self) -> dict[str, Arm]:
        """Return the arms and those that the sweeps make: the main table's first, then group by group.

        Overlays may name an arm first, so that the order of the keys alone means nothing.
        """
        swept = {point.name: point.made for sweep in self.sweeps for point in self.points(sweep)}
        every = swept | self.arms
        first = {name: place for place, name in enumerate(self.main_arms)}
        groups = get_args(Arm.model_fields["group"].annotation)
        order = sorted(every, key=lambda name: (first.get(name, len(first)), groups.index(every[name].group)))
        return {name: every[name] for name in order}


def load(paths: Sequence[Path | str]) -> Config:
    """Merge YAML files left to right and validate; raises :class:`UserError` in one sentence."""
    merged: dict[str, Any] = {}
    for path in paths:
        overlay = _read(path)
        if "extends" in overlay:
            merged = merge(merged, _read(overlay["extends"]))
        merged = merge(merged, overlay)
    return parse(Config, merged, " + ".join(map(str, paths)))


def _read(path: Path | str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise UserError(f"The configuration file {path} does not exist; `ls configs` shows those that do.")
    return yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}


def main() -> int:
    """Write the JSON schema next to the configurations (a test keeps it in step)."""
    path = Path("configs/schemas/config.schema.json")
    path.write_text(json.dumps(Config.model_json_schema(), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
