"""After Snakemake was killed while its Slurm jobs went on: ``python profiles/slurm/recover.py [--configfile ...]``.

Run it from the repository's root, with the `--configfile` and `--config` that Snakemake was given. It cancels the jobs
of this folder that are still there, so that no second writer appears beside them; takes Snakemake's lock away; and
tells Snakemake which stages were finished meanwhile, which it would do again otherwise. Then start it again as before.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# Where Snakemake notes, under names that encode the path of an output, what it has not seen the end of.
INCOMPLETE = Path(".snakemake/incomplete")
MANIFEST = "manifest.json"


def main(options: Sequence[str]) -> int:
    """Cancel, unlock, and mark what is finished."""
    jobs = working_here()
    print(f"{len(jobs)} jobs of this folder are still there{': cancelling them' if jobs else ''}.")
    if jobs:
        subprocess.run(["scancel", *jobs], check=True)
    while working_here():
        time.sleep(1)
    snakemake = [sys.executable, "-m", "snakemake"]
    subprocess.run([*snakemake, "--unlock", *options], check=True)
    done = finished()
    print(f"{len(done)} stages were finished meanwhile{': ' if done else ''}{' '.join(done)}")
    if done:
        subprocess.run([*snakemake, "--touch", "--no-hooks", *options, "--", *done], check=True)
    return 0


def working_here() -> list[str]:
    """Ids of this user's jobs that were submitted from this folder."""
    listed = subprocess.run(["squeue", "--me", "-h", "-o", "%i %Z"], check=True, capture_output=True, text=True).stdout
    here = str(Path.cwd())
    return [job for job, _, folder in (line.partition(" ") for line in listed.splitlines()) if folder == here]


def finished() -> list[str]:
    """Manifests whose end Snakemake has not seen: a stage writes its manifest last, and removes an old one first."""
    marks = [path.relative_to(INCOMPLETE) for path in INCOMPLETE.rglob("*") if path.is_file()]
    names = ("".join(part.removeprefix("@") for part in mark.parts) for mark in marks)
    outputs = (Path(base64.urlsafe_b64decode(name).decode()) for name in names)
    return sorted(str(output) for output in outputs if output.name == MANIFEST and output.is_file())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
