"""Stage-specific data (2606.04466): demonstrations by difficulty, hard ones reworked by the expert.

    python -m dart.stages.rework_data --config SPEC --data results/nano/cot --rollouts results/nano/rollouts/ash-s1 \
        --model results/nano/models/expert --out results/nano/reworked/ash-stage_specific_sft-s1 --scratch SCRATCH

By the pass rate of the model to be trained, simple questions are left out, medium ones keep their original CoT, and
hard ones get a *bridge*: the expert's rewrite for a smaller model. With ``critique``, questions that were never solved
become critique data instead: a failed attempt with the expert's diagnosis, repair and new solution in one text. A
rework counts when its final answer verifies; without one the original CoT stays. Writes ``demonstrations.jsonl``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from dart import chat, engines
from dart.errors import UserError
from dart.journal import in_blocks
from dart.records import Record, read_records, write_records
from dart.rejection import verified_texts
from dart.sections import EngineName, Prompts, Rework, Select
from dart.stage import Context, Spec, Stage, stage_main
from dart.stages.pass_rate import pass_rates, read_rollouts
from dart.training.loading import load_tokenizer

BLOCK_BATCHES = 8  # texts asked for between two entries of the journal, in batches


class ReworkDataSpec(Spec):
    """Values of a run."""

    engine: EngineName = "transformers"
    prompts: Prompts
    select: Select
    rework: Rework
    critique: bool


def run(spec: ReworkDataSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Split, rework, write; returns how many were of each kind, and how many reworks verified."""
    records = read_records(inputs["data"] / "demonstrations.jsonl")
    rollouts = read_rollouts(inputs["rollouts"])
    rates = pass_rates(rollouts)
    failed = {row["id"]: row["text"] for row in reversed(rollouts) if not row["correct"]}
    wanted = [record for record in records if difficulty(rates[record.id], spec.select) != "simple"]
    hard = [
        replace(record, attempt=failed[record.id] if spec.critique and not rates[record.id] else "")
        for record in wanted
        if difficulty(rates[record.id], spec.select) == "hard"
    ]
    reworked = _reworked(spec, hard, inputs["model"] / "model", context)
    kept = [reworked.get(record.id, record) for record in wanted]
    if not kept and spec.select.on_empty == "refuse":
        raise UserError(
            f"All {len(records)} questions are simple for the model (select.simple_from {spec.select.simple_from:g}); "
            "raise select.simple_from, or set select.on_empty to keep_all."
        )
    write_records(context.out / "demonstrations.jsonl", kept or records)
    sizes = Counter(difficulty(rate, spec.select) for rate in rates.values())
    return {
        **{name: sizes[name] for name in ("simple", "medium", "hard")},
        "asked": len(hard),
        "critiques": sum(bool(record.attempt) for record in kept),
        "bridges": sum(not record.attempt for record in reworked.values()),
        "kept": len(kept or records),
        "empty": not kept,
    }


def difficulty(rate: float, select: Select) -> Literal["simple", "medium", "hard"]:
    """Name the half-open bucket of a pass rate: hard [0, hard_below), medium [.., simple_from), simple [.., 1]."""
    if rate < select.hard_below:
        return "hard"
    return "medium" if rate < select.simple_from else "simple"


def _reworked(spec: ReworkDataSpec, hard: list[Record], folder: Path, context: Context) -> dict[str, Record]:
    """Id -> the record with the expert's verified bridge or critique as its CoT."""
    tokenizer, knobs = load_tokenizer(folder), spec.rework
    asked = [(record, chat.prompt_ids(tokenizer, _messages(spec.prompts, record))) for record in hard]

    def work(number: int, block: Sequence[chat.Asked]) -> tuple[list[str | None], dict[str, Any]]:
        seed = spec.seed * 1_000_003 + number * knobs.attempts
        texts, samples = verified_texts(engine, block, knobs.attempts, knobs.sampling, seed, context)
        return texts, {"asked": len(block), "kept": len(block) - texts.count(None), "samples": samples}

    length = engines.longest([ids for _, ids in asked], knobs.sampling.max_new_tokens)
    with engines.start(spec.engine, folder, tokenizer, length, knobs.batch_size) as engine:
        blocks = in_blocks(context, asked, BLOCK_BATCHES * knobs.batch_size, work, "demonstration")
    texts = [text for block in blocks for text in block]
    return {r.id: replace(r, cot=text) for r, text in zip(hard, texts, strict=True) if text is not None}


def _messages(prompts: Prompts, record: Record) -> chat.Messages:
    return (chat.solve_messages if record.attempt else chat.bridge_messages)(prompts, record)


STAGE = Stage(
    name="rework_data",
    version=1,
    spec=ReworkDataSpec,
    inputs={
        "data": "folder with the original demonstrations",
        "rollouts": "folder of pass_rate",
        "model": "folder of the expert",
    },
    run=run,
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
