"""Run model-written programs against tests, isolated from the machine (Linux, no root needed).

A batch goes to one child process (``dart/grading/sandbox_server.py``) that forks once a program: some 3 ms each instead
of 20 ms for a fresh interpreter. A forked child has limits on processor time, memory, file size and open files, and a
seccomp filter that allows computing only: no process, thread, signal, socket, ptrace, or writable file. Landlock leaves
it Python's standard library to read; on kernels without Landlock it can open no file at all, so that only the modules
that the server has preloaded can be imported. A pass requires a nonce written after the last test, so leaving early
does not pass; a program that searches the interpreter's frames for the nonce could still cheat.

Where seccomp is missing (macOS), running is refused unless ``DART_ALLOW_UNSANDBOXED=1``; limits then still apply.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dart.errors import UserError

SERVER = Path(__file__).with_name("sandbox_server.py")
ALLOW = "DART_ALLOW_UNSANDBOXED"
START_SECONDS = 60.0


@dataclass(frozen=True)
class Program:
    """Python source and the tests that are run after it in the same module."""

    source: str
    tests: str


@dataclass(frozen=True)
class Limits:
    """Bounds of one program.

    ``cpu_seconds`` decides on a busy machine as on an idle one; ``wall_seconds`` is for programs that sleep.
    """

    cpu_seconds: int = 3
    wall_seconds: float = 12.0
    memory_bytes: int = 512 << 20
    open_files: int = 32


@dataclass(frozen=True)
class Outcome:
    """Whether all tests passed, and what happened otherwise."""

    passed: bool
    reason: str


def run_programs(programs: Sequence[Program], limits: Limits | None = None) -> list[Outcome]:
    """Run every program, one after the other; returns their outcomes in order.

    Raises
    ------
    UserError
        When this machine cannot isolate programs and ``DART_ALLOW_UNSANDBOXED`` is not 1.
    """
    if not programs:
        return []
    limits = limits or Limits()
    allowed = os.environ.get(ALLOW) == "1"
    request = {
        "programs": [[program.source, program.tests] for program in programs],
        "limits": asdict(limits),
        "unisolated": allowed,
    }
    answer = _ask(request, START_SECONDS + len(programs) * (limits.wall_seconds + 1.0))
    if answer["isolation"] == "none" and not allowed:
        raise UserError(
            f"This machine cannot isolate model-written programs ({answer['why']}); evaluate code tasks on Linux with "
            f"seccomp, or set {ALLOW}=1 to run them with your rights."
        )
    return [Outcome(reason == "passed", reason) for reason in answer["reasons"]]


def isolation() -> str:
    """What isolates programs here: ``seccomp and landlock``, ``seccomp, no files`` or ``none``."""
    return _ask({"programs": [], "limits": asdict(Limits()), "unisolated": False}, START_SECONDS)["isolation"]


def _ask(request: dict, seconds: float) -> dict:
    # As isolated as `python -I -S`; -I would ignore the hash seed, and the order of a set must not decide a test.
    command = [sys.executable, "-s", "-S", "-P", "-X", "utf8", str(SERVER)]
    with (
        tempfile.TemporaryDirectory() as empty,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=empty,
            env={"PYTHONHASHSEED": "0"},
            start_new_session=True,
        ) as server,
    ):
        try:
            out, error = server.communicate(json.dumps(request).encode(), timeout=seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
    if server.returncode != 0:
        said = error.decode(errors="replace")[-2000:]
        raise RuntimeError(f"The sandbox ended with status {server.returncode}: {said}")
    return json.loads(out)
