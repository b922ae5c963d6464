"""What a study will cost, before anything runs: jobs, device-hours, wall time, disk and memory, by stage and by arm.

    python -m dart.plan configs/base.yaml configs/arms.yaml configs/nano.yaml --device cpu-core --workers 2
    python -m dart.plan --device cpu-core --check results/nano

``snakemake plan`` prints the same for the configuration that Snakemake is given. The model behind the numbers, and how
far off it has been: docs/planning.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dart import cost_model, plan_table, planning, runs
from dart.config import Config, load
from dart.errors import UserError

HERE = "cpu-core"  # a plan for the machine at hand


def text(config: Config, device: str, workers: int, targets: str = "all", every: bool = False) -> str:
    """Return the printed plan of a configuration."""
    on, table = cost_model.device(device), runs.table(config)
    found = planning.costs(planning.chosen(config, table, targets), table, on)
    return plan_table.render(f"{config.scale} ({targets})", found, device, on, workers, every)


def check(root: Path, device: str, fit: bool) -> str:
    """Return how far the model is off a finished study, and with ``fit`` what the device achieved there."""
    from dart import plan_check  # needs scipy

    on, finished = cost_model.device(device), plan_check.read(root)
    if not fit:
        return plan_check.render(root, finished, on)
    achieved = plan_check.fit(finished, on)
    lines = [f"    {name}: {value:.2g}" for name, value in achieved.items()]
    return "\n".join([*lines, "", plan_check.render(root, finished, on.model_copy(update=achieved))])


def main(argv: Sequence[str]) -> int:
    """Read the command line and print; a user's error becomes one sentence and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m dart.plan", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("configs", nargs="*", help="configuration files, merged left to right")
    parser.add_argument("--device", default=HERE, help="a device of configs/devices.yaml (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="devices that work side by side (default: 1)")
    parser.add_argument("--targets", default="all", help="main, all (default), or arms: dart,rft")
    parser.add_argument("--all", action="store_true", help="print every arm")
    parser.add_argument("--check", type=Path, metavar="RESULTS", help="compare with the manifests of a finished scale")
    parser.add_argument("--fit", action="store_true", help="with --check: print what the device achieved there")
    given = parser.parse_args(argv)
    try:
        if given.check:
            print(check(given.check, given.device, given.fit))
        else:
            print(text(load(given.configs), given.device, given.workers, given.targets, given.all))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
