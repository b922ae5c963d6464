"""Trainer settings that SFT and RL share: optimiser, schedule, precision, logging, checkpoints, resume."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState

from dart.stage import Context
from dart.training.checkpoints import checkpoint_step, latest_checkpoint

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
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",  # MetricsCallback mirrors what it writes
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_total_limit": 1,
    }


class QuietTrainer:
    """Mixin: no usage statistics sent to the trainer's authors, no model card with every checkpoint."""

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        pass


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
        # Rows of an attempt that died before its first checkpoint.
        (context.scratch / "metrics.jsonl").unlink(missing_ok=True)
        trainer.train()
    else:
        context.resume(checkpoint_step(checkpoint))
        trainer.train(resume_from_checkpoint=str(checkpoint))
