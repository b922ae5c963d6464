"""Score demonstrations: the log-probability of every token of their CoT under a frozen model, computed once.

    python -m dart.stages.score_data --config SPEC --data results/nano/cot --model results/nano/models/expert \
        --target results/nano/models/ash --out results/nano/scored/ash-expert --scratch SCRATCH

Writes ``scores.parquet``: id, tokens, mean_logprob, logps. The model sees the student's prompt in the target's chat
format and token ids, as PEAR's ratio of policies needs them and as ``filter_ppl`` ranks by.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow
import pyarrow.parquet
from transformers import PreTrainedTokenizerBase

from dart import chat, engines
from dart.errors import UserError
from dart.records import read_records
from dart.sections import EngineName, Prompts
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.loading import load_tokenizer


class ScoreDataSpec(Spec):
    """Values of a run."""

    engine: EngineName = "transformers"
    prompts: Prompts
    scoring_batch: int


def run(spec: ScoreDataSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Score every demonstration; returns their number and the mean log-probability of a token."""
    records = read_records(inputs["data"] / "demonstrations.jsonl")
    tokenizer = load_tokenizer(inputs["target"] / "model")
    check_vocabulary(load_tokenizer(inputs["model"] / "model"), tokenizer)
    prompts, completions = [], []
    for record in records:
        messages = chat.solve_messages(spec.prompts, record)
        prompts.append(chat.prompt_ids(tokenizer, messages))
        completions.append(chat.completion_ids(tokenizer, messages, record.cot))
    texts = [[*prompt, *ids] for prompt, ids in zip(prompts, completions, strict=True)]
    length = engines.longest(texts, 1)
    with engines.start(spec.engine, inputs["model"] / "model", tokenizer, length, spec.scoring_batch) as engine:
        scores = engine.score(prompts, completions)
        context.count(engine.parameters, scored=sum(map(len, texts)))
    rows = [logps_T.tolist() for logps_T in scores]
    columns = {
        "id": [record.id for record in records],
        "tokens": [len(logps_T) for logps_T in scores],
        "mean_logprob": [logps_T.mean().item() for logps_T in scores],
        "logps": rows,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), context.out / "scores.parquet")
    return {"demonstrations": len(records), "mean_logprob": fmean(logp for row in rows for logp in row)}


def check_vocabulary(scorer: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> None:
    """Refuse a scorer whose token ids mean something else than the target's."""
    if scorer.get_vocab() != target.get_vocab():
        raise UserError(
            "The scoring model and the target have different vocabularies, so that token ids cannot be compared; PEAR "
            "and filter_ppl need an expert with the target's tokenizer: choose such an expert, or leave out these arms."
        )


STAGE = Stage(
    name="score_data",
    version=1,
    spec=ScoreDataSpec,
    inputs={
        "data": "folder with the demonstrations",
        "model": "folder whose model/ scores them",
        "target": "folder of the target, whose token ids are scored",
    },
    run=run,
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
