"""Rejection sampling: a model is asked until its answer verifies. Serves ``generate_cot`` and ``rework_data``."""

from __future__ import annotations

from collections.abc import Sequence

from dart.chat import Asked
from dart.engines import Engine
from dart.grading import verify_many
from dart.sections import Sampling
from dart.stage import Context


def verified_texts(
    engine: Engine, asked: Sequence[Asked], attempts: int, sampling: Sampling, seed: int, context: Context
) -> tuple[list[str | None], int]:
    """Return the first verified text for every record (None after ``attempts`` failures), and the samples drawn.

    An attempt is made only for records still without a text: the same choice as sampling all attempts at once.
    A text that the token limit cut off does not count. Seeds ``seed`` to ``seed + attempts - 1`` are used.
    """
    texts: list[str | None] = [None] * len(asked)
    samples = 0
    for attempt in range(attempts):
        open_ = [i for i, text in enumerate(texts) if text is None]
        if not open_:
            break
        prompts = [asked[i][1] for i in open_]
        completions = [one for (one,) in engine.generate(prompts, sampling, 1, seed + attempt)]
        verdicts = verify_many([asked[i][0] for i in open_], [completion.text for completion in completions])
        for i, completion, verdict in zip(open_, completions, verdicts, strict=True):
            if verdict.correct and not completion.truncated:
                texts[i] = completion.text.strip()
        samples += len(open_)
        written = sum(len(completion.ids) for completion in completions)
        context.count(engine.parameters, generated=written, scored=sum(map(len, prompts)))
    return texts, samples
