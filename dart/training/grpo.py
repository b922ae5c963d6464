"""Reinforcement learning with TRL's ``GRPOTrainer``; serves mapper RL (``train_mapper``) and direct RL (``train_rl``).

Reward functions of TRL are replaced by one *judge*, which sees whole groups of completions at once: all of a step's, or
one process's share of them. Its rewards must be finite, because TRL adds up rewards with ``nansum`` and a NaN among
negative rewards would win its group.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from accelerate.utils import set_seed
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOTrainer

from dart import chat, processes
from dart.errors import UserError
from dart.records import Record
from dart.sections import EngineName, Grpo
from dart.stage import Context
from dart.training.arguments import NoFinalCheckpoint, QuietTrainer, train
from dart.training.callbacks import MetricsCallback
from dart.training.checkpoints import ExportCallback
from dart.training.grpo_arguments import rollout_arguments, training_arguments
from dart.training.loading import parameters
from dart.training.mirror import wandb_run
from dart.training.steps import export_steps


@dataclass(frozen=True)
class Judgement:
    """What a judge found in the completions of one step.

    Attributes
    ----------
    rewards : list of float
        One a completion.
    metrics : dict of str to float
        Logged with the step.
    columns : dict of str to list
        One value a completion, kept in ``completions.parquet``.
    """

    rewards: list[float]
    metrics: dict[str, float] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)


Judge = Callable[[list[Record], list[str]], Judgement]


class QuietGRPOTrainer(QuietTrainer, GRPOTrainer):
    """``GRPOTrainer`` that talks to nobody."""


class JudgeReward:
    """The judge as TRL's only reward function; counts tokens and keeps the metrics for the step's row.

    Each of several processes has one for its share of the step; tokens and metrics are those of all.
    """

    __name__ = "reward"  # TRL's column name

    def __init__(
        self, judge: Judge, records: Sequence[Record], prompt_lengths: Sequence[int], policy_size: int, context: Context
    ) -> None:
        self.judge = judge
        self.records = records
        self.prompt_lengths = prompt_lengths
        self.policy_size = policy_size
        self.context = context
        self.metrics: dict[str, float] = {}

    def __call__(
        self,
        prompts: list[chat.Messages],
        completions: list[chat.Messages],
        completion_ids: list[list[int]],
        record: list[int],
        log_extra: Callable[[str, list[Any]], None],
        **_: Any,
    ) -> list[float]:
        """Return one finite reward a completion; completions of one question stand together."""
        records = [self.records[index] for index in record]
        found = self.judge(records, [completion[0]["content"] for completion in completions])
        for one, reward in zip(records, found.rewards, strict=True):
            if not math.isfinite(reward):
                raise UserError(
                    f"The reward of a completion for {one.id} is {reward}; check the weights of the reward."
                )
        sums = processes.totals(list(found.metrics.values()))  # all shares hold as many completions
        for name, value in zip(found.metrics, sums, strict=True):
            self.metrics[name] = value / self.context.world_size
        log_extra("id", [one.id for one in records])
        for name, values in found.columns.items():
            log_extra(name, values)
        lengths = [sum(map(len, completion_ids)), sum(self.prompt_lengths[index] for index in record)]
        generated, read = map(int, processes.totals(lengths))
        self.context.count(self.policy_size, generated=generated, trained=generated + read)
        return found.rewards


def reinforce(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Record],
    ask: Callable[[Record], chat.Messages],
    judge: Judge,
    grpo: Grpo,
    seed: int,
    context: Context,
    engine: EngineName = "transformers",
) -> dict[str, float | int]:
    """Train ``policy`` in place; resume when scratch holds a checkpoint.

    Every step samples ``completions_per_prompt`` completions of ``prompts_per_step`` questions (passes over ``records``
    in orders drawn from ``seed``) and makes one update on them. Writes ``completions.parquet`` and the exported
    checkpoints into ``context.out``.

    Parameters
    ----------
    policy : PreTrainedModel
        Loaded from a folder that is still there: vLLM takes the weights it starts with from ``name_or_path``.
    ask : function
        The chat that puts a record to the policy.
    judge : function
        Rewards the completions of one step; called once a step, by each process for its share.
    engine : str
        What samples the rollouts, see :func:`rollout_arguments`.

    Returns
    -------
    dict
        ``steps`` and the last step's metrics.
    """
    if not records:
        raise UserError(f"{context.name}: there are no questions to train on; look at the file in the data folder.")
    prompts = [ask(record) for record in records]
    lengths = [len(chat.prompt_ids(tokenizer, prompt)) for prompt in prompts]
    chat.completion_ids(tokenizer, prompts[0], "")  # refuses a template whose prompt is no prefix
    reward = JudgeReward(judge, records, lengths, parameters(policy), context)
    order = draw_order(len(records), grpo.steps * grpo.prompts_per_step, seed)
    generation = rollout_arguments(engine, max(lengths) + grpo.sampling.max_new_tokens)
    arguments = training_arguments(grpo, seed, context, generation)
    export = ExportCallback(context.scratch, export_steps(grpo.export_at, grpo.steps), tokenizer)
    with wandb_run(context, grpo.model_dump(mode="json")) as run:
        metrics = MetricsCallback(context, run, reward.metrics)
        trainer = QuietGRPOTrainer(
            model=policy,
            processing_class=tokenizer,
            reward_funcs=reward,  # type: ignore[arg-type]
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [prompts[index] for index in order], "record": order}),
            callbacks=[NoFinalCheckpoint(), export, metrics],
        )
        if engine == "vllm":
            # The engine draws from this process's random state, which TRL has just seeded with the rank alone.
            set_seed(seed, device_specific=True)
        train(trainer, context)
    if context.is_main:
        export.move(context.out)
        gather_completions(context.scratch / "completions", context.out / "completions.parquet")
    return {"steps": trainer.state.global_step, **metrics.last}


def draw_order(records: int, draws: int, seed: int) -> list[int]:
    """Return ``draws`` indices below ``records``: whole passes, each in its own random order.

    The order is laid out in the data set, in one epoch, because TRL's sampler replays its first epoch after a resume.
    """
    rng = random.Random(seed)
    order: list[int] = []
    while len(order) < draws:
        order += rng.sample(range(records), records)
    return order[:draws]


def gather_completions(folder: Path, path: Path) -> None:
    """Write the completions of all steps (one file each in ``folder``) into one parquet file, chats as plain text."""
    tables = []
    for file in sorted(folder.glob("*.parquet")):
        table = pyarrow.parquet.read_table(file)
        for name in ("prompt", "completion"):
            texts = pyarrow.array([chat_[-1]["content"] for chat_ in table[name].to_pylist()], pyarrow.string())
            table = table.set_column(table.schema.get_field_index(name), name, texts)
        tables.append(table.replace_schema_metadata(None))
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables, promote_options="permissive"), path)
