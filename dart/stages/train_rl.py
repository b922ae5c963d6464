"""Direct RL: GRPO of the target itself, rewarded by whether the answer verifies.

    python -m dart.stages.train_rl --config SPEC --model results/nano/models/ash --questions results/nano/cot \
        --out results/nano/runs/ash-rl-s1 --scratch SCRATCH

Writes ``model/``, ``checkpoints/step-NNNNNN/``, ``metrics.jsonl`` and ``completions.parquet``. The questions are those
of the demonstrations that the other arms see; their CoT is not used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from dart import chat, grading
from dart.records import Record, read_records
from dart.sections import EngineName, Grpo, Prompts
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.grpo import Judgement, reinforce
from dart.training.guards import check_deepspeed
from dart.training.loading import load_model, load_tokenizer, save_model


class TrainRlSpec(Spec):
    """Values of a run."""

    engine: EngineName = "transformers"
    prompts: Prompts
    rl: Grpo


def run(spec: TrainRlSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Train, save, and return the steps and the last step's metrics."""
    check_deepspeed()
    records = read_records(inputs["questions"] / "demonstrations.jsonl")
    tokenizer = load_tokenizer(inputs["model"] / "model")
    policy = load_model(inputs["model"] / "model")

    def ask(record: Record) -> chat.Messages:
        return chat.solve_messages(spec.prompts, record)

    result = reinforce(policy, tokenizer, records, ask, judge, spec.rl, spec.seed, context, spec.engine)
    save_model(policy, tokenizer, context.out / "model")
    return result


def judge(records: list[Record], texts: list[str]) -> Judgement:
    """Reward 1 for a completion whose answer verifies (or whose program passes), else 0."""
    correct = [float(verdict.correct) for verdict in grading.verify_many(records, texts)]
    return Judgement(correct, {"correct": fmean(correct)})


STAGE = Stage(
    name="train_rl",
    version=2,
    spec=TrainRlSpec,
    inputs={"model": "folder whose model/ is trained", "questions": "folder with the demonstrations (CoT not used)"},
    run=run,
    parallel=True,
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
