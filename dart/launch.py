"""Run a stage on GPUs, one process each: ``python -m dart.launch COUNT dart.stages.NAME ...``.

The rules start a stage so when their resource ``gpu`` is not 0. Fewer visible GPUs than COUNT are refused at once. With
COUNT 1 the stage runs in this very process. More processes are started by torchrun's machinery
(``torch.distributed.launcher``); what is added to it: the main process alone talks to the terminal, a failure ends with
the one sentence of the process that found it, and no process outlives this one. ``--cpu`` starts processes without
GPUs, for tests.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from dart import warm_server
from dart.errors import UserError

USER_ERROR = 2  # a stage's exit status for a sentence that the user is meant to read


def main(argv: Sequence[str]) -> int:
    """Run ``argv`` and return the exit status: that of the process that failed, or 0."""
    parser = argparse.ArgumentParser(prog="python -m dart.launch", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="processes without GPUs")
    parser.add_argument("count", type=int, help="GPUs, and processes")
    parser.add_argument("module", help="dart.stages.NAME")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args(argv)
    command = [given.module, *given.arguments]
    try:
        if given.cpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
            os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"  # else "cpu:0", to which torch loads no optimizer state
        else:
            check_gpus(given.count, given.module)
    except UserError as error:
        print(f"{given.module.rpartition('.')[2]}: {error}", file=sys.stderr)
        return USER_ERROR
    return warm_server.run_module(command) if given.count == 1 else launch(given.count, command)


def check_gpus(count: int, module: str) -> None:
    """Refuse to start where PyTorch sees fewer than ``count`` GPUs."""
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen < count:
        stage = module.rpartition(".")[2]
        raise UserError(
            f"the rule {stage} has the resource gpu={count}, but PyTorch {torch.__version__} sees {seen} GPUs here; "
            f"run it where there are {count}, or give --set-resources {stage}:gpu={seen} (a CPU build of PyTorch sees "
            "none: see `.venv` in the Makefile)."
        )


def launch(count: int, command: Sequence[str]) -> int:
    """Run ``count`` processes and return 0, or the exit status of the one that failed, told in its own words."""
    logging.disable()  # torchrun's own account of a failure would bury the stage's
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="dart-launch-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=str(uuid.uuid4()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",  # a free port
            max_restarts=0,  # Snakemake restarts jobs
            logs_specs=DefaultLogsSpecs(folder, redirects=dict.fromkeys(range(1, count), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "dart.launch", "--rank", str(os.getpid()), *command)
        except ChildFailedError as error:
            rank, status = first_failure({rank: failure.exitcode for rank, failure in error.failures.items()})
            for file in Path(folder).glob(f"*/attempt_0/{rank}/stderr.log"):
                sys.stderr.write(file.read_text(encoding="utf-8", errors="replace"))
            return status if status > 0 else 128 - status
        except SignalException as stop:
            return 128 + stop.sigval
    return 0


def first_failure(statuses: Mapping[int, int]) -> tuple[int, int]:
    """Return rank and exit status of the process that failed for a reason of its own.

    The others lose their connection to it a moment later, with a traceback that says nothing.
    """
    return min(statuses.items(), key=lambda item: (item[1] != USER_ERROR, item[0]))


def run_rank(launcher: int, command: list[str]) -> NoReturn:
    """Run the module as one of several processes, which the kernel kills when their launcher is gone.

    The process leaves without taking its process group apart: gloo's waits for a thread that may need the interpreter
    (seen as a hang at the end of a finished run).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != launcher:
            sys.exit(warm_server.LOST)
    warm_server.leave(warm_server.run_module(command))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        run_rank(int(sys.argv[2]), sys.argv[3:])
    sys.exit(main(sys.argv[1:]))
