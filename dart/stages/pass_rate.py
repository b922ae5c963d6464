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

from dart import chat
from dart.config import PassRate, Prompts
from dart.generation import generate
from dart.grading import verify_many
from dart.journal import in_blocks
from dart.records import Record, read_records
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.loading import load_model, load_tokenizer, parameters

BLOCK_BATCHES = 8  # rollouts sampled between two entries of the journal, in batches
FILE = "rollouts.parquet"
Row = dict[str, Any]


class PassRateSpec(Spec):
    """Values of a run: the ``solve`` prompt, and how rollouts are sampled."""

    prompts: Prompts
    pass_rate: PassRate


def run(spec: PassRateSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Sample and grade block by block; returns the mean pass rate and the shares of never and always solved ones."""
    records = read_records(inputs["questions"] / "demonstrations.jsonl")
    model, tokenizer = load_model(inputs["model"] / "model"), load_tokenizer(inputs["model"] / "model")
    knobs = spec.pass_rate

    def work(number: int, block: Sequence[Record]) -> tuple[list[Row], dict[str, Any]]:
        prompts = [chat.prompt_ids(tokenizer, chat.solve_messages(spec.prompts, record)) for record in block]
        seed = spec.seed * 1_000_003 + number
        drawn = generate(model, tokenizer, prompts, knobs.sampling, knobs.samples, seed, knobs.batch_size)
        completions = [completion for group in drawn for completion in group]
        written = sum(len(completion.ids) for completion in completions)
        context.count(parameters(model), generated=written, scored=knobs.samples * sum(map(len, prompts)))
        repeated = [record for record in block for _ in range(knobs.samples)]
        verdicts = verify_many(repeated, [completion.text for completion in completions])
        rows = [
            {
                "id": record.id,
                "sample": i % knobs.samples,
                "text": completions[i].text.strip(),
                "correct": bool(verdicts[i].correct) and not completions[i].truncated,
                "truncated": completions[i].truncated,
            }
            for i, record in enumerate(repeated)
        ]
        return rows, {"questions": len(block), "pass_rate": fmean(row["correct"] for row in rows)}

    size = max(1, BLOCK_BATCHES * knobs.batch_size // knobs.samples)
    rows = [row for block in in_blocks(context, records, size, work, "question") for row in block]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), context.out / FILE)
    rates = pass_rates(rows).values()
    return {
        "questions": len(records),
        "pass_rate": fmean(rates),
        "never": fmean(rate == 0 for rate in rates),
        "always": fmean(rate == 1 for rate in rates),
    }


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
    version=1,
    spec=PassRateSpec,
    inputs={"model": "folder whose model/ answers", "questions": "folder with the demonstrations (CoT not used)"},
    run=run,
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
