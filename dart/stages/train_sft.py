"""SFT: fine-tune the target on demonstrations, loss on the completion only.

    python -m dart.stages.train_sft --config SPEC --model results/nano/models/ash --data results/nano/adapted/ash-s1 \
        --out results/nano/runs/ash-dart-s1 --scratch SCRATCH

Writes ``model/``, ``checkpoints/step-NNNNNN/`` and ``metrics.jsonl``.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from dart import chat
from dart.config import Prompts, Sft
from dart.records import Record, read_records
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.checkpoints import export_steps
from dart.training.loading import load_model, load_tokenizer, save_model
from dart.training.supervised import Example, Settings, fine_tune, update_steps


class TrainSftSpec(Spec):
    """Values of a run; ``file`` is the name of the demonstrations in the data folder."""

    prompts: Prompts
    sft: Sft
    file: str


def run(spec: TrainSftSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Train, save, and return steps, examples and final loss."""
    tokenizer = load_tokenizer(inputs["model"] / "model")
    records = read_records(inputs["data"] / spec.file)
    examples = ordered_examples(records, spec.prompts, tokenizer, spec.sft.epochs, spec.seed)
    steps = update_steps(len(examples), spec.sft.batch_size)
    model = load_model(inputs["model"] / "model")
    exports = export_steps(spec.sft.export_at, steps)
    result = fine_tune(model, tokenizer, examples, settings(spec.sft, steps, spec.seed), context, exports)
    save_model(model, tokenizer, context.out / "model")
    return result


def ordered_examples(
    records: Sequence[Record], prompts: Prompts, tokenizer: PreTrainedTokenizerBase, epochs: int, seed: int
) -> list[Example]:
    """Return the examples of all epochs, each epoch in its own random order drawn from ``seed``."""
    examples = []
    for record in records:
        messages = chat.solve_messages(prompts, record)
        prompt = chat.prompt_ids(tokenizer, messages)
        examples.append(Example(prompt, chat.completion_ids(tokenizer, messages, record.cot)))
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
    )


STAGE = Stage(
    name="train_sft",
    version=1,
    spec=TrainSftSpec,
    inputs={"model": "folder whose model/ is fine-tuned", "data": "folder with the demonstrations"},
    run=run,
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
