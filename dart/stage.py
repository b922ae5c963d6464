"""What every stage shares: its command line, scratch folder, metrics, cost and manifest.

A stage module defines ``STAGE = Stage(...)`` and runs as ``python -m dart.stages.NAME --config SPEC --out DIR
--scratch DIR [--INPUT DIR ...]``. SPEC is a JSON/YAML file or an inline JSON object with that run's result-affecting
values. Stages know nothing of Snakemake.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dart import manifest, processes
from dart.errors import UserError
from dart.parsing import Knobs, parse

PROGRESS_SECONDS = 5.0
FREE_BYTES = 100_000_000  # less than the smallest results of a stage would make it fail after its compute


class Spec(Knobs):
    """What one run of a stage is given; ``labels`` (arm, target, seed, model ...) travel into the manifest."""

    labels: dict[str, str | int] = {}
    seed: int = 0


@dataclass(frozen=True)
class Stage:
    """A stage: ``run(spec, inputs, context)`` writes into ``context.out`` and returns the manifest's ``result``.

    ``inputs`` maps each input's name to its help text; all inputs are folders with a manifest, and those named in
    ``optional`` may be left out. ``version`` is raised by hand whenever the stage's results change, and is part of the
    fingerprint. ``parallel``: several processes may run it together (``dart.processes``); other stages refuse that.
    """

    name: str
    version: int
    spec: type[Spec]
    inputs: Mapping[str, str]
    run: Callable[[Any, dict[str, Path], Context], dict[str, Any]]
    optional: frozenset[str] = frozenset()
    parallel: bool = False


@dataclass
class Context:
    """What a running stage may use: folders, the metrics file, cost counters and progress lines.

    Attributes
    ----------
    out : Path
        Where results go; empty of any manifest until the stage has finished.
    scratch : Path
        This run's own folder, named by its fingerprint; survives a crash; removed at the end.
    labels : dict
        The spec's labels.
    world_size, rank : int
        Processes that run the stage together, and which of them this is. Only the main one (rank 0) writes metrics,
        results and the manifest, so that its counters have to hold the cost of all.
    """

    name: str
    out: Path
    scratch: Path
    labels: dict[str, str | int]
    world_size: int = 1
    rank: int = 0
    resumed: int = 0
    tokens_generated: int = 0
    tokens_scored: int = 0
    tokens_trained: int = 0
    flops: float = 0.0
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    last_line: float = 0.0

    COUNTERS = ("tokens_generated", "tokens_scored", "tokens_trained", "flops")

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def seconds(self) -> float:
        """Wall seconds of the stage's own compute so far, earlier parts of a resumed run included."""
        return self.seconds_before + time.monotonic() - self.started

    def count(self, parameters: int, generated: int = 0, scored: int = 0, trained: int = 0) -> None:
        """Add tokens to the cost: 2 x ``parameters`` FLOPs per generated or scored token, 6 x per trained one."""
        self.tokens_generated += generated
        self.tokens_scored += scored
        self.tokens_trained += trained
        self.flops += parameters * (2.0 * (generated + scored) + 6.0 * trained)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one row to ``metrics.jsonl``: step, the cost so far, and ``values``."""
        if not self.is_main:
            return
        cost = {name: getattr(self, name) for name in self.COUNTERS}
        row = {"step": step, "device_seconds": self.seconds() * self.world_size, **cost, **values}
        with (self.scratch / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def resume(self, step: int) -> None:
        """Continue after ``step``: drop later metric rows and carry the cost of the earlier ones."""
        if not self.is_main:
            return
        path = self.scratch / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        rows = [row for line in lines if (row := _row(line)) is not None and row["step"] <= step]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.resumed += 1
        if rows:
            self.seconds_before = rows[-1]["device_seconds"] / self.world_size
            for name in self.COUNTERS:
                setattr(self, name, rows[-1][name])

    def progress(self, done: float, total: float, unit: str = "step") -> None:
        """Print a progress line (stage, labels, done, speed, time left), at most one every few seconds."""
        now = time.monotonic()
        if not self.is_main or (now - self.last_line < PROGRESS_SECONDS and done < total):
            return
        self.last_line = now
        speed = done / max(now - self.started, 1e-9)
        left = (total - done) / speed if speed else 0.0
        who = " ".join(str(value) for value in self.labels.values())
        text = f"{self.name:<13} {who:<18} {unit} {done:g}/{total:g}  {speed:.3g} {unit}/s  {left:.0f} s left"
        print(text, flush=True)


def _row(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # the last line of a killed run may be torn
        return None


def stage_main(stage: Stage, argv: Sequence[str] | None = None) -> int:
    """Run a stage from its command line; returns the exit status (2 for a user's error, told in one sentence)."""
    # One thread a process, several processes side by side: on CPUs two threads that share a busy core are several
    # times slower than one. Must be set before torch is imported; a user's own setting wins.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        run_stage(stage, argv)
    except UserError as error:
        print(f"{stage.name}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not _disk_is_full(error):
            raise
        print(f"{stage.name}: The disk is full; free space and run again, checkpoints are kept.", file=sys.stderr)
        return 2
    return 0


def _disk_is_full(error: Exception) -> bool:
    """Whether writing failed for want of space; safetensors tells it in words only."""
    return getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)


def _check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise UserError(
            f"{folder} is on a disk with {free / 1e6:.0f} MB free; free space, or put results elsewhere "
            "(--config results=...)."
        )


def run_stage(stage: Stage, argv: Sequence[str] | None = None) -> None:
    """Parse, fingerprint, run, and write the manifest last."""
    world_size = _world_size(stage)
    arguments = _parser(stage).parse_args(argv)
    spec = parse(stage.spec, _read_spec(arguments.config), f"the spec of {stage.name}")
    given = {name: getattr(arguments, name) for name in stage.inputs}
    inputs = {name: Path(path) for name, path in given.items() if path is not None}
    prints = {name: manifest.read_manifest(path).fingerprint for name, path in inputs.items()}
    values = spec.model_dump(mode="json")
    fingerprint = manifest.fingerprint(stage.name, stage.version, values, prints)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    _check_disk(out)
    (out / manifest.NAME).unlink(missing_ok=True)
    scratch = _claim_scratch(Path(arguments.scratch), stage.name, fingerprint)
    context = Context(stage.name, out, scratch, spec.labels, world_size, processes.rank())
    started_at = time.time()
    result = stage.run(spec, inputs, context)
    if not context.is_main:
        return
    if (scratch / "metrics.jsonl").is_file():
        shutil.move(scratch / "metrics.jsonl", out / "metrics.jsonl")
    manifest.write_manifest(
        out,
        manifest.Manifest(
            stage=stage.name,
            stage_version=stage.version,
            fingerprint=fingerprint,
            spec=values,
            inputs={name: {"path": str(inputs[name]), "fingerprint": prints[name]} for name in inputs},
            result=result,
            started_at=started_at,
            finished_at=time.time(),
            seconds=context.seconds(),
            device_seconds=context.seconds() * context.world_size,
            world_size=context.world_size,
            resumed=context.resumed,
            **{name: getattr(context, name) for name in Context.COUNTERS},
            peak_memory_bytes=manifest.peak_memory_bytes(),
            hardware=manifest.hardware(),
            versions=manifest.library_versions(),
            git=manifest.git_state(),
        ),
    )
    shutil.rmtree(scratch)


def _world_size(stage: Stage) -> int:
    size = processes.world_size()
    if size > 1 and not stage.parallel:
        raise UserError(
            f"{stage.name} runs as one process, but {size} were started; set the resource gpu of its rule to 0 or 1."
        )
    return size


def _parser(stage: Stage) -> argparse.ArgumentParser:
    module = sys.modules[stage.run.__module__]
    parser = argparse.ArgumentParser(prog=f"python -m dart.stages.{stage.name}", description=module.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", required=True, help="JSON/YAML file, or an inline JSON object, with the run's spec")
    parser.add_argument("--out", required=True, help="folder for results; manifest.json is written last")
    parser.add_argument("--scratch", required=True, help="folder under which this run's checkpoints live until it ends")
    for name, text in stage.inputs.items():
        parser.add_argument(f"--{name}", required=name not in stage.optional, help=text)
    return parser


def _read_spec(argument: str) -> dict[str, Any]:
    if argument.lstrip().startswith("{"):
        return json.loads(argument)
    if not Path(argument).is_file():
        raise UserError(f"--config {argument} is neither a file nor a JSON object; give one of the two.")
    return yaml.safe_load(Path(argument).read_text(encoding="utf-8"))


def _claim_scratch(root: Path, name: str, fingerprint: str) -> Path:
    """Return this run's scratch folder; one left by a run with another fingerprint is refused."""
    folder = root / f"{name}-{fingerprint[:16]}"
    if processes.rank():  # the main process claims it for all
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / "fingerprint"
    if owner.is_file() and owner.read_text(encoding="utf-8") != fingerprint:
        raise UserError(f"{folder} holds checkpoints of another run; delete that folder, or give another --scratch.")
    owner.write_text(fingerprint, encoding="utf-8")
    return folder
