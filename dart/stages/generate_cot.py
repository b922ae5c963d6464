"""Original chains of thought: written by the expert and kept when they verify, or the data's human rationales.

    python -m dart.stages.generate_cot --config SPEC --data results/nano/data --model results/nano/models/expert \
        --out results/nano/cot --scratch SCRATCH

Writes ``demonstrations.jsonl``: the questions of ``train.jsonl`` whose answer verified, each with a chain of thought
that ends in its final answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dart import chat, engines
from dart.errors import UserError
from dart.grading import verify_many
from dart.journal import in_blocks
from dart.records import Record, read_records, write_records
from dart.rejection import verified_texts
from dart.sections import Cot, EngineName, Prompts
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.loading import load_tokenizer

BLOCK_BATCHES = 8  # questions asked between two entries of the journal, in batches


class GenerateCotSpec(Spec):
    """Values of a run: the ``solve`` prompt, and how the chains of thought come about."""

    engine: EngineName = "transformers"
    prompts: Prompts
    cot: Cot


def run(spec: GenerateCotSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Write the demonstrations; returns how many were asked and kept."""
    records = read_records(inputs["data"] / "train.jsonl")
    if spec.cot.source == "human":
        kept, samples = _human(records), len(records)
    else:
        kept, samples = _sampled(spec, records, inputs, context)
    if not kept:
        raise UserError(
            f"None of the {len(records)} questions got a chain of thought with the right answer (cot.source "
            f"{spec.cot.source}); raise cot.attempts or cot.sampling.max_new_tokens, or take a better expert."
        )
    write_records(context.out / "demonstrations.jsonl", kept)
    return {
        "source": spec.cot.source,
        "asked": len(records),
        "kept": len(kept),
        "acceptance": len(kept) / len(records),
        "samples": samples,
    }


def _human(records: list[Record]) -> list[Record]:
    """The records whose own chain of thought verifies."""
    told = [record for record in records if record.cot]
    verdicts = verify_many(told, [record.cot for record in told])
    return [record for record, verdict in zip(told, verdicts, strict=True) if verdict.correct]


def _sampled(
    spec: GenerateCotSpec, records: list[Record], inputs: dict[str, Path], context: Context
) -> tuple[list[Record], int]:
    """Ask the expert block by block; returns the kept demonstrations and the number of samples drawn."""
    if "model" not in inputs:
        raise UserError("cot.source is expert, but no --model is given; name the expert's folder, or set it to human.")
    folder = inputs["model"] / "model"
    tokenizer, knobs = load_tokenizer(folder), spec.cot
    asked = [(record, chat.prompt_ids(tokenizer, chat.solve_messages(spec.prompts, record))) for record in records]

    def work(number: int, block: Sequence[chat.Asked]) -> tuple[dict[str, Any], dict[str, Any]]:
        seed = spec.seed * 1_000_003 + number * knobs.attempts
        texts, samples = verified_texts(engine, block, knobs.attempts, knobs.sampling, seed, context)
        kept = len(block) - texts.count(None)
        return {"texts": texts, "samples": samples}, {"asked": len(block), "kept": kept, "samples": samples}

    length = engines.longest([ids for _, ids in asked], knobs.sampling.max_new_tokens)
    with engines.start(spec.engine, folder, tokenizer, length, knobs.batch_size) as engine:
        blocks = in_blocks(context, asked, BLOCK_BATCHES * knobs.batch_size, work, "question")
    texts = [text for block in blocks for text in block["texts"]]
    kept = [replace(record, cot=text) for record, text in zip(records, texts, strict=True) if text is not None]
    return kept, sum(block["samples"] for block in blocks)


STAGE = Stage(
    name="generate_cot",
    version=1,
    spec=GenerateCotSpec,
    inputs={"data": "folder of make_data", "model": "folder of the expert (train_zoo); left out for human rationales"},
    run=run,
    optional=frozenset({"model"}),
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
