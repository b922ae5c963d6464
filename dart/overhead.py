"""How much of the time that was paid for was spent inside the stages: ``python -m dart.overhead results/nano``.

Snakemake notes in ``run.json`` when it ran and on how many cores; manifests say how long each stage computed. What is
left of wall time x cores is overhead: process starts, imports, scheduling, idle cores. On a cluster nobody knows how
many cores were paid for, and so no overhead is told.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dart.errors import UserError
from dart.manifest import NAME, write_json

RUN = "run.json"
FIGURES = "figures"


@dataclass(frozen=True)
class Overhead:
    """Where wall time x cores went.

    Attributes
    ----------
    wall_seconds, core_seconds : float
        Time that Snakemake ran, over all its sessions; the same times the cores it was given (NaN where not known).
    compute_seconds : dict
        Stage -> core-seconds inside the stage's own compute.
    """

    wall_seconds: float
    core_seconds: float
    compute_seconds: dict[str, float]

    @property
    def known(self) -> bool:
        """Whether all of it ran on cores that were counted."""
        return not math.isnan(self.core_seconds)

    @property
    def share(self) -> float:
        """Share of the core-seconds that no stage computed in."""
        return 1.0 - sum(self.compute_seconds.values()) / self.core_seconds


def record_start(root: Path, cores: int | None) -> None:
    """Append a session to ``run.json`` (``cores`` None: on a cluster).

    One that never ended (a killed Snakemake) is dropped with what it lost.
    """
    root.mkdir(parents=True, exist_ok=True)
    sessions = [session for session in _sessions(root) if session["finished_at"] is not None]
    write_json(root / RUN, [*sessions, {"started_at": time.time(), "finished_at": None, "cores": cores}])


def record_end(root: Path) -> None:
    """Close the last session."""
    sessions = _sessions(root)
    if sessions:
        sessions[-1]["finished_at"] = time.time()
        write_json(root / RUN, sessions)


def measure(sessions: Iterable[dict[str, Any]], manifests: Iterable[dict[str, Any]], now: float) -> Overhead:
    """Add up the sessions (one still open ends ``now``) and the stages that finished within them."""
    spans = [(one["started_at"], one["finished_at"] or now, one["cores"] or math.nan) for one in sessions]
    compute: dict[str, float] = {}
    for manifest in manifests:
        if any(start <= manifest["finished_at"] <= end for start, end, _ in spans):
            inside = min(manifest["seconds"], manifest["finished_at"] - manifest["started_at"])
            compute[manifest["stage"]] = compute.get(manifest["stage"], 0.0) + inside
    wall = sum(end - start for start, end, _ in spans)
    return Overhead(wall, sum((end - start) * cores for start, end, cores in spans), compute)


def read(root: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Sessions and manifests under ``root``; raises :class:`UserError` where Snakemake has not run."""
    sessions = _sessions(root)
    if not sessions:
        raise UserError(f"{root} has no {RUN}; run `snakemake` first, or give the folder of a run.")
    return sessions, [json.loads(path.read_text(encoding="utf-8")) for path in sorted(root.glob(f"**/{NAME}"))]


def _sessions(root: Path) -> list[dict[str, Any]]:
    path = root / RUN
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def main(argv: Sequence[str]) -> int:
    """Print wall time, time to the first figure, and compute by stage."""
    root = Path(argv[0] if argv else "results/nano")
    try:
        sessions, manifests = read(root)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    found = measure(sessions, manifests, time.time())
    cores = f"x cores = {found.core_seconds:.0f} core-seconds" if found.known else "(on a cluster, cores not counted)"
    print(f"wall {found.wall_seconds / 60:.1f} min {cores}")
    drawn = [path.stat().st_mtime for path in (root / FIGURES).glob("*.png")]
    if drawn:
        print(f"first figure after {(min(drawn) - sessions[0]['started_at']) / 60:.1f} min")
    for stage, seconds in sorted(found.compute_seconds.items(), key=lambda item: -item[1]):
        share = f"  {seconds / found.core_seconds:6.1%}" if found.known else ""
        print(f"  {stage:<13} {seconds:8.1f} core-seconds{share}")
    if found.known:
        print(f"overhead (starts, imports, scheduling, idle cores): {found.share:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
