"""Trainer settings that SFT and RL share: optimiser, schedule, precision, logging, checkpoints, resume."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from dart.errors import UserError
from dart.stage import Context
from dart.training.checkpoints import check_processes, checkpoint_step, latest_checkpoint

Arguments = TypeVar("Arguments", bound=TrainingArguments)
SCHEDULES = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
    "warmup_stable_decay": "warmup_stable_decay",
}


def shared_arguments(
    context: Context,
    *,
    steps: int,
    seed: int,
    learning_rate: float,
    schedule: str,
    warmup_steps: int,
    decay_steps: int,
    weight_decay: float,
    max_grad_norm: float,
    save_steps: int,
    adam_beta2: float = 0.999,
) -> dict[str, Any]:
    """Return keyword arguments of ``transformers.TrainingArguments``.

    Every default that affects results is written out, because defaults move between releases. On a GPU the forward pass
    is in bfloat16 (autocast) while weights and optimiser stay float32; on the CPU all is float32.
    """
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(context.scratch),
        "max_steps": steps,
        "seed": seed,
        "data_seed": seed,
        "learning_rate": learning_rate,
        "lr_scheduler_type": SCHEDULES[schedule],
        "lr_scheduler_kwargs": {"num_decay_steps": decay_steps} if schedule == "warmup_stable_decay" else None,
        "warmup_steps": warmup_steps,
        "optim": "adamw_torch_fused",
        "adam_beta1": 0.9,
        "adam_beta2": adam_beta2,
        "adam_epsilon": 1e-8,
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
        "bf16": gpu,
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
        "gradient_checkpointing": False,  # costs 16-26 % of a step
        "average_tokens_across_devices": True,  # a loss over the tokens of all processes, as one process has it
        "ddp_find_unused_parameters": False,  # every step uses every parameter
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",  # MetricsCallback mirrors what it writes
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_total_limit": 1,
    }


def rows_per_device(context: Context, rows: int, what: str, accumulation: int) -> int:
    """Return how many of an update's ``rows`` a process takes at a time: an update is the same for any number of them.

    ``what`` names the rows in the :class:`UserError` about numbers that do not divide.
    """
    part, rest = divmod(rows, accumulation * context.world_size)
    if rest:
        parts = f"gradient_accumulation {accumulation} does"
        if context.world_size > 1:
            parts = f"gradient_accumulation {accumulation} x {context.world_size} processes (the rule's gpu) do"
        raise UserError(f"{parts} not divide {what}; choose one that does.")
    return part


def one_device(arguments: Arguments) -> Arguments:
    """Keep a process to one GPU.

    A single process that sees several would spread every batch over them (``DataParallel``) and take as many times the
    rows; here several GPUs are several processes.
    """
    if arguments.n_gpu > 1:  # asking detects the devices, once
        arguments._n_gpu = 1
    return arguments


class QuietTrainer:
    """Mixin: no usage statistics sent to the trainer's authors, no model card; checkpoints that are whole when done."""

    accelerator: Any

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _save_rng_state(self, output_dir: str) -> None:
        """Wait for the other processes' random states: the trainer's state, written next, says that all is there."""
        super()._save_rng_state(output_dir)  # type: ignore[misc]  # the Trainer's
        self.accelerator.wait_for_everyone()


class NoFinalCheckpoint(TrainerCallback):
    """Skips the checkpoint after the last step: the finished model is saved right after it."""

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False


def train(trainer: Trainer, context: Context) -> None:
    """Train from the newest complete checkpoint in scratch, or from the start."""
    trainer.remove_callback(PrinterCallback)
    checkpoint = latest_checkpoint(context.scratch)
    if checkpoint is None:
        if context.is_main:  # rows of an attempt that died before its first checkpoint
            (context.scratch / "metrics.jsonl").unlink(missing_ok=True)
        trainer.train()
    else:
        check_processes(checkpoint, context.world_size)
        context.resume(checkpoint_step(checkpoint))
        trainer.train(resume_from_checkpoint=str(checkpoint))
