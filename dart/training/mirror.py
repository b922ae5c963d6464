"""A mirror of ``metrics.jsonl`` in wandb: offline unless the user sets ``WANDB_MODE``, and never read back.

``WANDB_PROJECT``, ``WANDB_DIR`` and the other variables of wandb work as usual; files go into the run's results.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import wandb

from dart.stage import Context


@contextmanager
def wandb_run(context: Context, config: Mapping[str, Any]) -> Iterator[wandb.Run]:
    """Open a wandb run (of the main process; others get one that does nothing) named after the stage and its labels.

    Statistics, console capture and copies of the code are off: they took most of the start-up time, which a study of
    many short trainings pays each time, and the manifest records what they would.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # reports about wandb itself, sent even when offline
    name = "-".join([context.name, *map(str, context.labels.values())])
    with wandb.init(
        project=os.environ.get("WANDB_PROJECT", "dart"),
        name=name,
        group=context.name,
        dir=os.environ.get("WANDB_DIR", str(context.out)),
        mode=os.environ.get("WANDB_MODE", "offline") if context.is_main else "disabled",  # type: ignore[arg-type]
        config={"labels": context.labels, **config},
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        ),
    ) as run:
        yield run
