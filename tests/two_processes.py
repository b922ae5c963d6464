"""Runs stages one after another, in one process or more: ``python -m dart.launch --cpu 2 tests.two_processes JOBS``.

JOBS is a JSON file of [stage, its command line, whether completions and reward are made up]. Sampled completions depend
on how many processes share the work; made-up ones do not, so that the arithmetic of runs can be compared.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from unittest import mock

from dart.stage import run_stage
from dart.stages import train_rl
from dart.training.grpo import Judgement, QuietGRPOTrainer

LENGTH = 12


def made_up(trainer, prompt_ids, *_):
    """Stands in for ``_generate_single_turn``: texts drawn from the step, the prompt and the number of the copy."""
    rows = []
    for index, prompt in enumerate(prompt_ids):
        rng = random.Random(f"{trainer.state.global_step} {list(prompt)} {index % trainer.num_generations}")
        length = rng.randint(2, LENGTH)
        words = [rng.randrange(10, len(trainer.processing_class)) for _ in range(length)]
        rows.append(words if length == LENGTH else [*words, trainer.processing_class.eos_token_id])
    return rows, None


def vowels(records, texts):
    """A reward that differs between texts; its mean is a metric."""
    shares = [sum(text.count(vowel) for vowel in "aeiou") / (len(text) + 1) for text in texts]
    return Judgement(shares, {"vowels": sum(shares) / len(shares)})


def run(name: str, argv: list[str], pretend: bool) -> None:
    """Run one stage."""
    with ExitStack() as stack:
        if pretend:
            stack.enter_context(mock.patch.object(QuietGRPOTrainer, "_generate_single_turn", made_up))
            stack.enter_context(mock.patch.object(train_rl, "judge", vowels))
        run_stage(import_module(f"dart.stages.{name}").STAGE, argv)


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text()):
        run(*job)
