"""What a study will cost, before anything runs: jobs, device-hours, wall time, disk and memory, by stage and by arm.

    python -m dart.plan configs/base.yaml configs/arms.yaml configs/nano.yaml --device cpu-core --workers 2
    python -m dart.plan --device cpu-core --check results/nano

``snakemake plan`` prints the same for the configuration that Snakemake is given. The model behind the numbers, and how
far off it has been: docs/planning.md.
"""

from __future__ import annotations

from pathlib import Path

from dart import runs
from dart.config import Config
from dart.plan import cost_model, costs, table

HERE = "cpu-core"  # a plan for the machine at hand


def text(config: Config, device: str, workers: int, targets: str = "all", every: bool = False) -> str:
    """Return the printed plan of a configuration."""
    on, every_run = cost_model.device(device), runs.table(config)
    found = costs.costs(costs.chosen(config, every_run, targets), every_run, on)
    return table.render(f"{config.scale} ({targets})", found, device, on, workers, every)


def check(root: Path, device: str, fit: bool) -> str:
    """Return how far the model is off a finished study, and with ``fit`` what the device achieved there."""
    from dart.plan import forecast_error  # needs scipy

    on, finished = cost_model.device(device), forecast_error.read(root)
    if not fit:
        return forecast_error.render(root, finished, on)
    achieved = forecast_error.fit(finished, on)
    lines = [f"    {name}: {value:.2g}" for name, value in achieved.items()]
    return "\n".join([*lines, "", forecast_error.render(root, finished, on.model_copy(update=achieved))])
