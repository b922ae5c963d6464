"""Checkpoints to resume from, and checkpoints exported for evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from dart.errors import UserError
from dart.training.loading import save_model


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete ``checkpoint-N`` in ``folder``, or None.

    A folder torn by a kill during saving is passed over: the trainer writes its state last, so a checkpoint is complete
    when that file parses. (``transformers.trainer_utils.get_last_checkpoint`` would return the torn one.)
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    return next((path for path in found if _complete(path)), None)


def checkpoint_step(checkpoint: Path) -> int:
    """Return how many updates a checkpoint has seen."""
    return int(json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))["global_step"])


def check_processes(checkpoint: Path, world_size: int) -> None:
    """Refuse a checkpoint of another number of processes: each has its own random state, kept in the checkpoint."""
    found = len(list(checkpoint.glob("rng_state*.pth")))
    if found != world_size:
        raise UserError(
            f"{checkpoint} was written by {found} processes and this run has {world_size}; start {found} again (the "
            f"rule's resource gpu), or delete {checkpoint.parent} to train from the start."
        )


def _complete(checkpoint: Path) -> bool:
    try:
        checkpoint_step(checkpoint)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


class ExportCallback(TrainerCallback):
    """Saves ``exports/step-NNNNNN`` in scratch at the given steps; :meth:`move` puts them into the results.

    They wait in scratch because an interrupted job's results are deleted by Snakemake, while its checkpoints are not.
    """

    def __init__(self, scratch: Path, steps: frozenset[int], tokenizer: PreTrainedTokenizerBase) -> None:
        self.folder = scratch / "exports"
        self.steps = steps
        self.tokenizer = tokenizer

    def on_step_end(  # type: ignore[override]  # the trainer passes the model by name
        self, args: Any, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **kwargs: Any
    ) -> None:
        if state.global_step in self.steps:
            save_model(model, self.tokenizer, self.folder / f"step-{state.global_step:06d}")

    def move(self, out: Path) -> None:
        """Move all exported checkpoints to ``out/checkpoints``, replacing what an earlier attempt left there."""
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        if self.folder.is_dir():
            shutil.move(self.folder, out / "checkpoints")
