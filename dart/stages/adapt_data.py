"""Adapted data: the mapper rewrites every demonstration for one target, and the best valid rewrite is kept.

    python -m dart.stages.adapt_data --config SPEC --cot results/nano/cot --mapper results/nano/mapper/ash-s1 \
        --target results/nano/models/ash --out results/nano/adapted/ash-s1 --scratch SCRATCH

Writes ``demonstrations.jsonl`` and ``rewrites.parquet`` (one row a sample). Valid is a rewrite that ended by itself and
whose answer verifies; the best has the highest reward. The target scores with transformers in float32, whatever engine
the mapper writes with, as it does in the mapper's training.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow
import pyarrow.parquet

from dart import chat, engines
from dart.journal import in_blocks
from dart.records import Record, read_records, write_records
from dart.reward.detectors import DETECTORS
from dart.reward.reward import RewardModel
from dart.sections import Adapt, EngineName, Prompts, Reward
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.loading import load_model, load_tokenizer, parameters

BLOCK_BATCHES = 8  # rewrites sampled between two entries of the journal, in batches
Row = dict[str, Any]


class AdaptDataSpec(Spec):
    """Values of a run: prompts, how rewrites are sampled, and the reward that ranks them."""

    engine: EngineName = "transformers"
    prompts: Prompts
    adapt: Adapt
    reward: Reward
    scoring_batch: int


def run(spec: AdaptDataSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Sample and choose rewrites block by block; returns acceptance and how the data changed."""
    demonstrations = read_records(inputs["cot"] / "demonstrations.jsonl")
    (mapper, target), knobs = (inputs[name] / "model" for name in ("mapper", "target")), spec.adapt
    tokenizer = load_tokenizer(mapper)
    asked = [(one, chat.prompt_ids(tokenizer, chat.rewrite_messages(spec.prompts, one))) for one in demonstrations]

    def work(number: int, block: Sequence[chat.Asked]) -> tuple[list[Row], dict[str, Any]]:
        rows = _rewrite(block, engine, knobs, reward, spec.seed * 1_000_003 + number, context)
        return rows, {"demonstrations": len(block), "kept": sum(row["chosen"] for row in rows)}

    length = engines.longest([ids for _, ids in asked], knobs.sampling.max_new_tokens)
    size = max(1, BLOCK_BATCHES * knobs.batch_size // knobs.samples)
    with engines.start(spec.engine, mapper, tokenizer, length, knobs.batch_size) as engine:
        scorer, its_tokenizer = load_model(target), load_tokenizer(target)
        reward = RewardModel(scorer, its_tokenizer, spec.prompts, spec.reward, spec.scoring_batch)
        rows = [row for block in in_blocks(context, asked, size, work, "demonstration") for row in block]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), context.out / "rewrites.parquet")
    adapted = _adapted(spec.adapt, demonstrations, rows)
    write_records(context.out / "demonstrations.jsonl", adapted)
    return summary(demonstrations, adapted, rows)


def _rewrite(
    asked: Sequence[chat.Asked],
    mapper: engines.Engine,
    adapt: Adapt,
    reward: RewardModel,
    seed: int,
    context: Context,
) -> list[Row]:
    """Rows of ``rewrites.parquet`` for a block of demonstrations, ``samples`` for each, the best valid one marked."""
    samples = adapt.samples
    records, prompts = [record for record, _ in asked], [prompt for _, prompt in asked]
    drawn = mapper.generate(prompts, adapt.sampling, samples, seed)
    completions = [completion for group in drawn for completion in group]
    context.count(
        mapper.parameters,
        generated=sum(len(completion.ids) for completion in completions),
        scored=sum(map(len, prompts)),  # a prompt is read once for all its samples
    )
    repeated = [record for record in records for _ in range(samples)]
    texts = [completion.text.strip() for completion in completions]
    before = reward.scorer.tokens_scored
    scores = reward(repeated, texts, group_size=samples)
    originals = reward.scorer(records, [record.cot for record in records])
    context.count(parameters(reward.scorer.target), scored=reward.scorer.tokens_scored - before)
    rows = [
        {
            "id": record.id,
            "sample": i % samples,
            "text": texts[i],
            "correct": bool(scores.correct[i]),
            "truncated": completions[i].truncated,
            "align": scores.align[i],
            "reward": scores.total[i],
            **{f"cheat_{name}": scores.cheats[name][i] for name in DETECTORS},
            "chosen": False,
            "tokens": scores.tokens[i],
            "tokens_original": originals[i // samples].tokens,
            "length_ratio": scores.length_ratio[i],
            "copy_ratio": scores.copy_ratio[i],
            "logprob_original": originals[i // samples].mean_logprob,
            "logprob_rewrite": scores.logprob[i],
        }
        for i, record in enumerate(repeated)
    ]
    for start in range(0, len(rows), samples):
        _choose(rows[start : start + samples], adapt.on_invalid == "keep_invalid")
    return rows


def _choose(group: list[Row], keep_invalid: bool) -> None:
    """Mark the valid rewrite of the highest reward, the first of equals; without one, an invalid one if wanted."""
    valid = [row for row in group if _valid(row)]
    candidates = valid or (group if keep_invalid else [])
    if candidates:
        max(candidates, key=lambda row: row["reward"])["chosen"] = True


def _valid(row: Row) -> bool:
    return row["correct"] and not row["truncated"]


def _adapted(adapt: Adapt, demonstrations: list[Record], rows: list[Row]) -> list[Record]:
    """The demonstrations with their chosen rewrites; those without one kept as they were, or dropped."""
    chosen = {row["id"]: row["text"] for row in rows if row["chosen"]}
    keep = adapt.on_invalid == "keep_original"
    return [
        replace(record, cot=chosen.get(record.id, record.cot), meta={**record.meta, "adapted": record.id in chosen})
        for record in demonstrations
        if keep or record.id in chosen
    ]


def summary(demonstrations: list[Record], adapted: list[Record], rows: list[Row]) -> dict[str, Any]:
    """Figures of the manifest.

    ``acceptance_rate``: demonstrations with a valid rewrite; ``kept_original``: output left as it was; both as shares.
    ``answer_preserved``: share of all samples whose answer verifies. ``length_ratio``, ``copy_ratio`` (share of n-grams
    taken from the original), ``copy_rate`` (rewrites equal to the original): means over the chosen rewrites, None
    without one.
    ``target_perplexity_before/after``: of the output's demonstrations, exp of the mean over all their tokens.
    ``cheats``: share of the chosen rewrites that trip each detector, ``cheats_sampled``: of all samples.
    """
    chosen = [row for row in rows if row["chosen"]]
    original = {record.id: record.cot for record in demonstrations}
    first = {row["id"]: row for row in reversed(rows)} | {row["id"]: row for row in chosen}
    used = [first[record.id] for record in adapted]
    before = [(row["tokens_original"], row["logprob_original"]) for row in used]
    after = [
        (row["tokens"], row["logprob_rewrite"]) if row["chosen"] else (row["tokens_original"], row["logprob_original"])
        for row in used
    ]
    return {
        "demonstrations": len(adapted),
        "asked": len(demonstrations),
        "samples": len(rows),
        "acceptance_rate": len({row["id"] for row in rows if row["correct"] and not row["truncated"]})
        / len(demonstrations),
        "kept_original": sum(not row["chosen"] for row in used) / max(1, len(used)),
        "answer_preserved": fmean(row["correct"] for row in rows),
        "length_ratio": _mean([row["length_ratio"] for row in chosen]),
        "copy_ratio": _mean([row["copy_ratio"] for row in chosen]),
        "copy_rate": _mean([row["text"].split() == original[row["id"]].split() for row in chosen]),
        "reward": _mean([row["reward"] for row in chosen]),
        "target_perplexity_before": _perplexity(before),
        "target_perplexity_after": _perplexity(after),
        "cheats": {name: _mean([row[f"cheat_{name}"] > 0 for row in chosen]) for name in DETECTORS},
        "cheats_sampled": {name: _mean([row[f"cheat_{name}"] > 0 for row in rows]) for name in DETECTORS},
    }


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _perplexity(scored: list[tuple[int, float]]) -> float | None:
    """exp(-mean log-probability) over all tokens of (tokens, mean log-probability) pairs."""
    tokens = sum(count for count, _ in scored)
    return math.exp(-sum(count * logprob for count, logprob in scored) / tokens) if tokens else None


STAGE = Stage(
    name="adapt_data",
    version=2,
    spec=AdaptDataSpec,
    inputs={
        "cot": "folder of generate_cot",
        "mapper": "folder of train_mapper",
        "target": "folder of the target (train_zoo)",
    },
    run=run,
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
