"""Metrics of a trainer: one row a step in ``metrics.jsonl``, the same row in wandb, progress lines and alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import wandb
from transformers import TrainerCallback, TrainerControl, TrainerState

from dart.errors import UserError
from dart.stage import Context

# The trainers' names -> ours; what is absent is not recorded.
NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "epoch": "epoch",
    "entropy": "entropy",
    "mean_token_accuracy": "token_accuracy",
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "frac_reward_zero_std",
    "completions/clipped_ratio": "clipped_ratio",
    "completions/mean_length": "completion_length",
    "kl": "kl",
}
# Above these a run learns little or nothing, without any error (measured and reported for GRPO).
ALARMS = {
    "clipped_ratio": (0.3, "of completions hit max_new_tokens before they ended; raise it"),
    "frac_reward_zero_std": (0.5, "of questions gave all their completions one reward, hence no gradient"),
}


class MetricsCallback(TrainerCallback):
    """Writes each logged step; a loss or gradient that is not finite stops the run before anything is saved.

    Parameters
    ----------
    context : Context
        Where rows and progress lines go.
    run : wandb.Run
        The mirror.
    extra : dict
        The stage's own metrics of the step in progress (reward components), emptied when written.
    """

    def __init__(self, context: Context, run: wandb.Run, extra: dict[str, float]) -> None:
        self.context = context
        self.run = run
        self.extra = extra
        self.last: dict[str, float] = {}
        self.alarmed: set[str] = set()

    def on_log(  # type: ignore[override]  # the trainer passes logs by name
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Mapping[str, float], **kwargs: Any
    ) -> None:
        if "loss" not in logs:  # the trainer's summary at the end
            return
        values = {ours: float(logs[theirs]) for theirs, ours in NAMES.items() if theirs in logs} | self.extra
        self.extra.clear()
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values.get(name, 0.0)):
                raise UserError(
                    f"{self.context.name}: {name} is {values[name]} at step {state.global_step}; "
                    "lower learning_rate, or look for a broken row in the data."
                )
        self._alarm(state.global_step, values)
        self.last = values
        self.context.log(state.global_step, values)
        self.run.log(values, step=state.global_step)
        self.context.progress(state.global_step, state.max_steps)

    def _alarm(self, step: int, values: Mapping[str, float]) -> None:
        """Warn once a run for each alarm."""
        for name, (limit, meaning) in ALARMS.items():
            if values.get(name, 0.0) > limit and name not in self.alarmed:
                self.alarmed.add(name)
                if not self.context.is_main:
                    continue
                print(f"{self.context.name}: warning: step {step}: {name} {values[name]:.2f}: {meaning}.", flush=True)
