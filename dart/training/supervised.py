"""Supervised fine-tuning on token ids with TRL's ``SFTTrainer``; serves ``train_sft`` and ``train_zoo``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from dart.config import Pear
from dart.errors import UserError
from dart.stage import Context
from dart.training.arguments import NoFinalCheckpoint, QuietTrainer, shared_arguments, train
from dart.training.callbacks import MetricsCallback
from dart.training.checkpoints import ExportCallback
from dart.training.loading import parameters
from dart.training.mirror import wandb_run
from dart.training.pear import BEHAVIOUR, PearCollator, PearLoss

IGNORED = -100  # label of a token that is not trained on


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt (not trained on) and of its completion (turn end included).

    ``behaviour`` are the completion's log-probabilities under the policy that wrote it, for the loss ``pear``.
    """

    prompt: list[int]
    completion: list[int]
    behaviour: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class Settings:
    """How to train; ``batch_size`` examples make one update, in ``gradient_accumulation`` equal parts."""

    batch_size: int
    gradient_accumulation: int
    learning_rate: float
    schedule: Literal["constant", "linear", "cosine", "warmup_stable_decay"]
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    save_steps: int
    seed: int
    decay_steps: int = 0  # read by warmup_stable_decay only
    adam_beta2: float = 0.999
    loss: Literal["nll", "dft", "pear"] = "nll"
    pear: Pear | None = None  # read by the loss pear only


class CountingSFTTrainer(QuietTrainer, SFTTrainer):
    """Counts the tokens it trains on."""

    context: Context
    parameters: int

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        self.context.count(self.parameters, trained=int(inputs["attention_mask"].sum()))
        return super().training_step(model, inputs, *args, **kwargs)


class PearTrainer(PearLoss, CountingSFTTrainer):
    """``CountingSFTTrainer`` with PEAR's loss."""


def update_steps(examples: int, batch_size: int) -> int:
    """Return the number of updates over ``examples``; the last batch may be smaller."""
    return math.ceil(examples / batch_size)


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: Settings,
    context: Context,
    exports: frozenset[int] = frozenset(),
) -> dict[str, float | int]:
    """Train ``model`` in place on ``examples`` in their order, once; resume when scratch holds a checkpoint.

    The loss is the mean over the completion tokens of the whole batch, however it is split. Checkpoints after the
    updates in ``exports`` go to ``context.out / "checkpoints"``. With the loss ``pear`` every example needs its
    ``behaviour``.

    Returns
    -------
    dict
        ``steps``, ``examples``, ``final_loss`` (of the last update, in nats a token).
    """
    if not examples:
        raise UserError(f"{context.name}: there is nothing to train on; look at the file the spec names.")
    export = ExportCallback(context.scratch, exports, tokenizer)
    with wandb_run(context, asdict(settings)) as run:
        metrics = MetricsCallback(context, run, {})
        kind = PearTrainer if settings.loss == "pear" else CountingSFTTrainer
        trainer = kind(
            model=model,
            processing_class=tokenizer,
            args=_arguments(len(examples), settings, context),
            data_collator=PearCollator(tokenizer.pad_token_id) if settings.loss == "pear" else None,
            train_dataset=_dataset(examples, settings.batch_size),
            callbacks=[NoFinalCheckpoint(), export, metrics],
        )
        if isinstance(trainer, PearTrainer):
            trainer.pear, trainer.extra = settings.pear, metrics.extra
        trainer.context, trainer.parameters = context, parameters(model)
        train(trainer, context)
    export.move(context.out)
    return {"steps": trainer.state.global_step, "examples": len(examples), "final_loss": metrics.last["loss"]}


def _arguments(examples: int, settings: Settings, context: Context) -> SFTConfig:
    part, rest = divmod(settings.batch_size, settings.gradient_accumulation)
    if rest:
        raise UserError(
            f"{context.name}: gradient_accumulation {settings.gradient_accumulation} does not divide batch_size "
            f"{settings.batch_size}; choose one that does."
        )
    values = asdict(settings)
    for name in ("batch_size", "gradient_accumulation", "loss", "pear"):
        del values[name]
    return SFTConfig(
        **shared_arguments(context, steps=update_steps(examples, settings.batch_size), **values),
        per_device_train_batch_size=part,
        gradient_accumulation_steps=settings.gradient_accumulation,
        train_sampling_strategy="sequential",  # the caller's order; also what makes a resumed run exact
        loss_type="dft" if settings.loss == "dft" else "nll",  # PEAR's trainer computes its own
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,  # PEAR's column is no argument of the model
    )


def _dataset(examples: Sequence[Example], batch_size: int) -> Dataset:
    rows = list(_by_length(examples, batch_size))
    columns = {
        "input_ids": [row.prompt + row.completion for row in rows],
        "labels": [[IGNORED] * len(row.prompt) + row.completion for row in rows],
    }
    if rows[0].behaviour:
        columns[BEHAVIOUR] = [[0.0] * len(row.prompt) + row.behaviour for row in rows]
    return Dataset.from_dict(columns)


def _by_length(examples: Sequence[Example], batch_size: int) -> Iterator[Example]:
    """Sort inside each batch, so that its parts hold rows of like length and little padding.

    The batches stay as they are: unlike grouping over the whole data set, this changes no update.
    """
    for start in range(0, len(examples), batch_size):
        yield from sorted(examples[start : start + batch_size], key=len)
