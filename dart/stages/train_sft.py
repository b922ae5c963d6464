"""SFT: fine-tune the target on demonstrations, loss on the completion only.

    python -m dart.stages.train_sft --config SPEC --model results/nano/models/ash --data results/nano/adapted/ash-s1 \
        --out results/nano/runs/ash-dart-s1 --scratch SCRATCH

Writes ``model/``, ``checkpoints/step-NNNNNN/`` and ``metrics.jsonl``.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
from transformers import PreTrainedTokenizerBase

from dart import chat
from dart.errors import UserError
from dart.records import Record, read_records
from dart.sections import Prompts, Sft
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.guards import check_deepspeed
from dart.training.loading import load_model, load_tokenizer, save_model
from dart.training.steps import export_steps
from dart.training.supervised import Example, Settings, fine_tune, update_steps


class TrainSftSpec(Spec):
    """Values of a run; ``file`` is the name of the demonstrations in the data folder."""

    prompts: Prompts
    sft: Sft
    file: str


def run(spec: TrainSftSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Train, save, and return steps, examples and final loss."""
    check_deepspeed()
    tokenizer = load_tokenizer(inputs["model"] / "model")
    records = chosen(read_records(inputs["data"] / spec.file), spec.sft.examples, spec.seed)
    behaviour = behaviour_logps(inputs["behaviour"]) if spec.sft.loss == "pear" else {}
    examples = ordered_examples(records, spec.prompts, tokenizer, spec.sft.epochs, spec.seed, behaviour)
    steps = update_steps(len(examples), spec.sft.batch_size)
    model = load_model(inputs["model"] / "model")
    exports = export_steps(spec.sft.export_at, steps)
    result = fine_tune(model, tokenizer, examples, settings(spec.sft, steps, spec.seed), context, exports)
    save_model(model, tokenizer, context.out / "model")
    return result


def chosen(records: list[Record], most: int, seed: int) -> list[Record]:
    """Return at most ``most`` records, drawn by ``seed``, in their own order."""
    if len(records) <= most:
        return records
    kept = set(random.Random(seed).sample(range(len(records)), most))
    return [record for index, record in enumerate(records) if index in kept]


def behaviour_logps(folder: Path) -> dict[str, list[float]]:
    """Return record id -> log-probability of every completion token under the policy that wrote it (score_data)."""
    table = pyarrow.parquet.read_table(folder / "scores.parquet", columns=["id", "logps"])
    return dict(zip(table["id"].to_pylist(), table["logps"].to_pylist(), strict=True))


def ordered_examples(
    records: Sequence[Record],
    prompts: Prompts,
    tokenizer: PreTrainedTokenizerBase,
    epochs: int,
    seed: int,
    behaviour: Mapping[str, list[float]],
) -> list[Example]:
    """Return the examples of all epochs, each epoch in its own random order drawn from ``seed``."""
    examples = []
    for record in records:
        messages = chat.solve_messages(prompts, record)
        completion = chat.completion_ids(tokenizer, messages, record.cot)
        logps = behaviour.get(record.id, [])
        if behaviour and len(logps) != len(completion):
            raise UserError(
                f"The behaviour policy's scores of {record.id} hold {len(logps)} tokens, the demonstration has "
                f"{len(completion)}; score the very file that is trained on."
            )
        examples.append(Example(chat.prompt_ids(tokenizer, messages), completion, logps))
    rng = random.Random(seed)
    return [example for _ in range(epochs) for example in rng.sample(examples, len(examples))]


def settings(sft: Sft, steps: int, seed: int) -> Settings:
    """Translate the configuration; ``warmup`` is a share of the steps."""
    return Settings(
        batch_size=sft.batch_size,
        gradient_accumulation=sft.gradient_accumulation,
        learning_rate=sft.learning_rate,
        schedule=sft.schedule,
        warmup_steps=round(sft.warmup * steps),
        weight_decay=sft.weight_decay,
        max_grad_norm=sft.max_grad_norm,
        save_steps=sft.save_steps,
        seed=seed,
        loss=sft.loss,
        pear=sft.pear,
    )


STAGE = Stage(
    name="train_sft",
    version=2,
    spec=TrainSftSpec,
    inputs={
        "model": "folder whose model/ is fine-tuned",
        "data": "folder with the demonstrations",
        "behaviour": "folder of score_data under the policy that wrote them; read by the loss pear only",
    },
    run=run,
    parallel=True,
    optional=frozenset({"behaviour"}),
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
