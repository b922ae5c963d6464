"""Train one model of the zoo from scratch, or from another one, on procedurally generated texts.

``python -m dart.stages.train_zoo --config SPEC --data DIR [--start DIR] --out DIR --scratch DIR``

With ``steps: 0`` the model stays as it was initialised (rehearsals on real data need no skill).
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from dart import chat
from dart.parsing import NonNegative, Share
from dart.sections import Architecture, Prompts
from dart.stage import Context, Spec, Stage, stage_main
from dart.training.loading import load_model, load_tokenizer, parameters, save_model
from dart.training.supervised import Example, Settings, fine_tune
from dart.world import texts
from dart.zoo_model import build_model


class TrainZooSpec(Spec):
    """See ``dart.sections.Zoo`` and ``ZooModel`` for the fields."""

    prompts: Prompts
    architecture: Architecture
    batch_size: int
    gradient_accumulation: int
    warmup: Share
    decay: Share
    adam_beta2: Share
    weight_decay: NonNegative
    max_grad_norm: float
    style: str
    others: Share
    mixture: dict[str, NonNegative]
    steps: int
    learning_rate: float


def run(spec: TrainZooSpec, inputs: dict[str, Path], context: Context) -> dict[str, Any]:
    """Write ``model/``: a Hugging Face folder with its tokenizer."""
    tokenizer = load_tokenizer(inputs["data"] / "tokenizer")
    start = inputs.get("start")
    model = load_model(start / "model") if start else build_model(spec.architecture, tokenizer, spec.seed)
    result: dict[str, Any] = {"parameters": parameters(model)}
    if spec.steps:
        settings = Settings(
            batch_size=spec.batch_size,
            gradient_accumulation=spec.gradient_accumulation,
            learning_rate=spec.learning_rate,
            schedule="warmup_stable_decay",
            warmup_steps=round(spec.warmup * spec.steps),
            decay_steps=round(spec.decay * spec.steps),
            weight_decay=spec.weight_decay,
            max_grad_norm=spec.max_grad_norm,
            save_steps=max(1, spec.steps // 4),
            seed=spec.seed,
            adam_beta2=spec.adam_beta2,
        )
        result |= fine_tune(model, tokenizer, list(_examples(spec, tokenizer)), settings, context)
    save_model(model, tokenizer, context.out / "model")
    return result


def _examples(spec: TrainZooSpec, tokenizer: PreTrainedTokenizerBase) -> Iterator[Example]:
    """Draw ``steps`` x ``batch_size`` texts of the mixture."""
    rng = random.Random(f"zoo {spec.seed}")
    kinds, weights = zip(*sorted(spec.mixture.items()), strict=True)  # the order of keys must not matter
    for _ in range(spec.steps * spec.batch_size):
        pair = texts.sample(rng.choices(kinds, weights)[0], spec.style, spec.others, spec.prompts, rng)
        yield Example(*_ids(tokenizer, pair.prompt, pair.completion))


def _ids(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    messages = [{"role": "user", "content": prompt}]
    return chat.prompt_ids(tokenizer, messages), chat.completion_ids(tokenizer, messages, completion)


STAGE = Stage(
    "train_zoo",
    1,
    TrainZooSpec,
    {"data": "folder of make_data", "start": "folder of the model to start from (default: untrained)"},
    run,
    optional=frozenset({"start"}),
)

if __name__ == "__main__":
    sys.exit(stage_main(STAGE))
