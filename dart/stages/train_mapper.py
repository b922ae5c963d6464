"""Mapper RL: train a mapper to rewrite demonstrations into what one frozen target would write, without cheating.

    python -m dart.stages.train_mapper --config SPEC --cot results/nano/cot --mapper results/nano/models/mapper \
        --target results/nano/models/ash --out results/nano/mapper/ash-s1 --scratch SCRATCH

Writes ``model/``, ``metrics.jsonl`` (the reward and each of its components) and ``completions.parquet``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from dart import chat, processes
from dart.records import Record, read_records
from dart.reward.reward import RewardModel, Scores
from dart.sections import EngineName, Mapper, Prompts
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.grpo import Judgement, reinforce
from dart.training.guards import check_deepspeed
from dart.training.loading import load_model, load_tokenizer, parameters, save_model


class TrainMapperSpec(Spec):
    """Values of a run."""

    engine: EngineName = "transformers"
    prompts: Prompts
    mapper: Mapper


def run(spec: TrainMapperSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Train, save, and return the steps and the last step's metrics."""
    check_deepspeed()
    records = read_records(inputs["cot"] / "demonstrations.jsonl")
    policy = load_model(inputs["mapper"] / "model")
    tokenizer = load_tokenizer(inputs["mapper"] / "model")
    target = load_model(inputs["target"] / "model").requires_grad_(False)
    target_tokenizer = load_tokenizer(inputs["target"] / "model")
    reward = RewardModel(target, target_tokenizer, spec.prompts, spec.mapper.reward, spec.mapper.scoring_batch)
    target_size = parameters(target)

    def judge(records: list[Record], texts: list[str]) -> Judgement:
        scores = reward(records, texts, spec.mapper.grpo.completions_per_prompt)
        [scored] = processes.totals([scores.tokens_scored])
        context.count(target_size, scored=int(scored))
        return judgement(scores)

    def ask(record: Record) -> chat.Messages:
        return chat.rewrite_messages(spec.prompts, record)

    result = reinforce(policy, tokenizer, records, ask, judge, spec.mapper.grpo, spec.seed, context, spec.engine)
    save_model(policy, tokenizer, context.out / "model")
    return result


def judgement(scores: Scores) -> Judgement:
    """Return the rewards with every component: means for the step's row, values for the table of completions."""
    columns = {
        "align": scores.align,
        "correct": scores.correct,
        "penalty": scores.penalty,
        "mean_prob": scores.mean_prob,
        "length_ratio": scores.length_ratio,
        "copy_ratio": scores.copy_ratio,
        **{f"cheat_{name}": values for name, values in scores.cheats.items()},
    }
    return Judgement(scores.total, {name: fmean(values) for name, values in columns.items()}, columns)


STAGE = Stage(
    name="train_mapper",
    version=1,
    spec=TrainMapperSpec,
    inputs={
        "cot": "folder with the original demonstrations",
        "mapper": "folder whose model/ is the initial policy",
        "target": "folder whose model/ is the frozen target",
    },
    run=run,
    parallel=True,
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
