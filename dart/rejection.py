"""Rejection sampling: a model is asked until its answer verifies. Serves ``generate_cot`` and ``rework_data``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dart import chat
from dart.config import Sampling
from dart.generation import generate
from dart.grading import verify_many
from dart.records import Record
from dart.stage import Context
from dart.training.loading import parameters


def verified_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Record],
    ask: Callable[[Record], chat.Messages],
    attempts: int,
    sampling: Sampling,
    batch_size: int,
    seed: int,
    context: Context,
) -> tuple[list[str | None], int]:
    """Return the first verified text for every record (None after ``attempts`` failures), and the samples drawn.

    An attempt is made only for records still without a text: the same choice as sampling all attempts at once.
    A text that the token limit cut off does not count. Seeds ``seed`` to ``seed + attempts - 1`` are used.
    """
    texts: list[str | None] = [None] * len(records)
    prompts = [chat.prompt_ids(tokenizer, ask(record)) for record in records]
    samples = 0
    for attempt in range(attempts):
        open_ = [i for i, text in enumerate(texts) if text is None]
        if not open_:
            break
        asked = [prompts[i] for i in open_]
        completions = [one for (one,) in generate(model, tokenizer, asked, sampling, 1, seed + attempt, batch_size)]
        verdicts = verify_many([records[i] for i in open_], [completion.text for completion in completions])
        for i, completion, verdict in zip(open_, completions, verdicts, strict=True):
            if verdict.correct and not completion.truncated:
                texts[i] = completion.text.strip()
        samples += len(open_)
        written = sum(len(completion.ids) for completion in completions)
        context.count(parameters(model), generated=written, scored=sum(map(len, asked)))
    return texts, samples
