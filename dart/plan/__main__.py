"""The command line of ``dart.plan``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dart import plan
from dart.config import load
from dart.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Read the command line and print; a user's error becomes one sentence and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m dart.plan", description=plan.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("configs", nargs="*", help="configuration files, merged left to right")
    parser.add_argument("--device", default=plan.HERE, help="a device of configs/devices.yaml (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="devices that work side by side (default: 1)")
    parser.add_argument("--targets", default="all", help="main, all (default), or arms: dart,rft")
    parser.add_argument("--all", action="store_true", help="print every arm")
    parser.add_argument("--check", type=Path, metavar="RESULTS", help="compare with the manifests of a finished scale")
    parser.add_argument("--fit", action="store_true", help="with --check: print what the device achieved there")
    given = parser.parse_args(argv)
    try:
        if given.check:
            print(plan.check(given.check, given.device, given.fit))
        else:
            print(plan.text(load(given.configs), given.device, given.workers, given.targets, given.all))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
