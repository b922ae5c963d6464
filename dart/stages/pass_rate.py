"""Pass rates: a model answers every training question several times, and each answer is graded.

    python -m dart.stages.pass_rate --config SPEC --model results/nano/models/ash --questions results/nano/cot \
        --out results/nano/rollouts/ash-s1 --scratch SCRATCH

Writes ``rollouts.parquet``, one row a rollout: id, sample, text, correct, truncated. One artefact serves rejection
sampling (``verified``), splits by difficulty (``bridged``, ``critiqued``) and the choice of RL questions
(``learnable``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow
import pyarrow.parquet

from dart import chat, engines
from dart.grading import verify_many
from dart.journal import in_blocks
from dart.records import read_records
from dart.sections import EngineName, PassRate, Prompts
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.loading import load_tokenizer

BLOCK_BATCHES = 8  # rollouts sampled between two entries of the journal, in batches
FILE = "rollouts.parquet"
Row = dict[str, Any]


class PassRateSpec(Spec):
    """Values of a run: the ``solve`` prompt, and how rollouts are sampled."""

    engine: EngineName = "transformers"
    prompts: Prompts
    pass_rate: PassRate


def run(spec: PassRateSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Sample and grade block by block; returns the mean pass rate and the shares of never and always solved ones."""
    records = read_records(inputs["questions"] / "demonstrations.jsonl")
    folder, knobs = inputs["model"] / "model", spec.pass_rate
    tokenizer = load_tokenizer(folder)
    asked = [(record, chat.prompt_ids(tokenizer, chat.solve_messages(spec.prompts, record))) for record in records]

    def work(number: int, block: Sequence[chat.Asked]) -> tuple[list[Row], dict[str, Any]]:
        rows = _rollouts(engine, block, knobs, spec.seed * 1_000_003 + number, context)
        return rows, {"questions": len(block), "pass_rate": fmean(row["correct"] for row in rows)}

    length = engines.longest([ids for _, ids in asked], knobs.sampling.max_new_tokens)
    size = max(1, BLOCK_BATCHES * knobs.batch_size // knobs.samples)
    with engines.start(spec.engine, folder, tokenizer, length, knobs.batch_size) as engine:
        rows = [row for block in in_blocks(context, asked, size, work, "question") for row in block]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), context.out / FILE)
    rates = pass_rates(rows).values()
    return {
        "questions": len(records),
        "pass_rate": fmean(rates),
        "never": fmean(rate == 0 for rate in rates),
        "always": fmean(rate == 1 for rate in rates),
    }


def _rollouts(
    engine: engines.Engine, asked: Sequence[chat.Asked], knobs: PassRate, seed: int, context: Context
) -> list[Row]:
    """Graded rows of ``rollouts.parquet`` for a block of questions, ``samples`` for each."""
    prompts = [prompt for _, prompt in asked]
    drawn = engine.generate(prompts, knobs.sampling, knobs.samples, seed)
    completions = [completion for group in drawn for completion in group]
    written = sum(len(completion.ids) for completion in completions)
    context.count(engine.parameters, generated=written, scored=sum(map(len, prompts)))
    repeated = [record for record, _ in asked for _ in range(knobs.samples)]
    verdicts = verify_many(repeated, [completion.text for completion in completions])
    return [
        {
            "id": record.id,
            "sample": i % knobs.samples,
            "text": completions[i].text.strip(),
            "correct": bool(verdicts[i].correct) and not completions[i].truncated,
            "truncated": completions[i].truncated,
        }
        for i, record in enumerate(repeated)
    ]


def read_rollouts(folder: Path) -> list[Row]:
    """Read the rollouts of a finished run."""
    return pyarrow.parquet.read_table(folder / FILE).to_pylist()


def pass_rates(rollouts: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return question id -> share of its rollouts that are correct."""
    correct: dict[str, list[bool]] = {}
    for row in rollouts:
        correct.setdefault(row["id"], []).append(row["correct"])
    return {name: fmean(outcomes) for name, outcomes in correct.items()}


STAGE = Stage(
    name="pass_rate",
    version=2,
    spec=PassRateSpec,
    inputs={"model": "folder whose model/ answers", "questions": "folder with the demonstrations (CoT not used)"},
    run=run,
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
