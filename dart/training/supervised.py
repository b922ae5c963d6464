"""Supervised fine-tuning on token ids with TRL's ``SFTTrainer``; serves ``train_sft`` and ``train_zoo``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from dart import processes
from dart.errors import UserError
from dart.sections import Pear
from dart.stage import Context
from dart.training.arguments import (
    NoFinalCheckpoint,
    QuietTrainer,
    one_device,
    rows_per_device,
    shared_arguments,
    train,
)
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
    """How to train; ``batch_size`` examples make one update, in ``gradient_accumulation`` equal parts a process."""

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
    """Counts the tokens that all processes train on."""

    context: Context
    parameters: int

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        filled_B = (inputs["labels"] != IGNORED).any(dim=1)  # rows that only fill up a batch teach nothing
        [tokens] = processes.totals([int(inputs["attention_mask"][filled_B].sum())])
        self.context.count(self.parameters, trained=int(tokens))
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
    arguments = _arguments(len(examples), settings, context)
    export = ExportCallback(context.scratch, exports, tokenizer)
    with wandb_run(context, asdict(settings)) as run:
        metrics = MetricsCallback(context, run, {})
        kind = PearTrainer if settings.loss == "pear" else CountingSFTTrainer
        trainer = kind(
            model=model,
            processing_class=tokenizer,
            args=arguments,
            data_collator=PearCollator(tokenizer.pad_token_id) if settings.loss == "pear" else None,
            train_dataset=_dataset(laid_out(examples, settings, context.world_size), tokenizer.pad_token_id),
            callbacks=[NoFinalCheckpoint(), export, metrics],
        )
        if isinstance(trainer, PearTrainer):
            assert settings.pear is not None
            trainer.pear, trainer.extra = settings.pear, metrics.extra
        trainer.context, trainer.parameters = context, parameters(model)
        train(trainer, context)
    if context.is_main:
        export.move(context.out)
    return {"steps": trainer.state.global_step, "examples": len(examples), "final_loss": metrics.last["loss"]}


def _arguments(examples: int, settings: Settings, context: Context) -> SFTConfig:
    rows = settings.batch_size
    part = rows_per_device(context, rows, f"batch_size {rows}", settings.gradient_accumulation)
    values = asdict(settings)
    for name in ("batch_size", "gradient_accumulation", "loss", "pear"):
        del values[name]
    arguments = SFTConfig(
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
    return one_device(arguments)


def _dataset(rows: Sequence[Example], pad_id: int) -> Dataset:
    """Return the trainer's columns; an empty example, which only fills up a batch, becomes one untrained token."""
    columns: dict[str, list[Any]] = {
        "input_ids": [row.prompt + row.completion or [pad_id] for row in rows],
        "labels": [[IGNORED] * len(row.prompt) + row.completion or [IGNORED] for row in rows],
    }
    if rows[0].behaviour:
        columns[BEHAVIOUR] = [[0.0] * len(row.prompt) + row.behaviour or [0.0] for row in rows]
    return Dataset.from_dict(columns)


def laid_out(examples: Sequence[Example], settings: Settings, world_size: int) -> list[Example]:
    """Return the rows in the order in which they are dealt out: a part of a batch to each process in turn.

    Each batch is sorted by length, so that its parts hold rows of like length and little padding; unlike grouping over
    the whole data set, this changes no update. Among several processes a last, smaller batch is shared evenly and its
    parts are filled up with empty examples: the data loader would take rows from the start of the data.
    """
    rows: list[Example] = []
    for start in range(0, len(examples), settings.batch_size):
        batch = sorted(examples[start : start + settings.batch_size], key=len)
        whole = world_size == 1 or len(batch) == settings.batch_size
        rows += batch if whole else _filled_up(batch, settings, world_size)
    return rows


def _filled_up(batch: Sequence[Example], settings: Settings, world_size: int) -> Iterator[Example]:
    parts = settings.gradient_accumulation * world_size
    size = settings.batch_size // parts
    share, more = divmod(len(batch), parts)
    rows = iter(batch)
    for part in range(parts):
        here = share + (part < more)
        yield from islice(rows, here)
        yield from [Example([], [])] * (size - here)
