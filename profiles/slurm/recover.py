"""After Snakemake was killed while its Slurm jobs went on: ``python profiles/slurm/recover.py [--configfile ...]``.

Run it from the repository's root, with the `--configfile` and `--config` that Snakemake was given. It cancels the jobs
of this folder that are still there, so that no second writer appears beside them, and takes Snakemake's lock away. Then
start Snakemake again as before: what was finished meanwhile is kept, the rest goes on from its checkpoints.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main(options: Sequence[str]) -> int:
    """Cancel, wait, unlock."""
    jobs = working_here()
    print(f"{len(jobs)} jobs of this folder are still there{': cancelling them' if jobs else ''}.", flush=True)
    if jobs:
        subprocess.run(["scancel", *jobs], check=True)
    while working_here():
        time.sleep(1)
    return subprocess.run([sys.executable, "-m", "snakemake", "--unlock", *options]).returncode


def working_here() -> list[str]:
    """Ids of this user's jobs that were submitted from this folder."""
    listed = subprocess.run(["squeue", "--me", "-h", "-o", "%i %Z"], check=True, capture_output=True, text=True).stdout
    here = str(Path.cwd())
    return [job for job, _, folder in (line.partition(" ") for line in listed.splitlines()) if folder == here]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
