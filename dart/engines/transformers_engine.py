"""The engine on Hugging Face transformers: ``dart.generation`` and ``dart.scoring`` behind the interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from dart.engines import Completion, Engine
from dart.generation import generate
from dart.scoring import score
from dart.sections import Sampling
from dart.training.loading import load_model, parameters


class TransformersEngine(Engine):
    """Float32 on the first GPU or the CPU; samples depend on seed and ``batch_size``."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.model = load_model(folder)
        self.parameters = parameters(self.model)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        samples: int,
        seed: int,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> list[list[Completion]]:
        """See :class:`Engine`."""
        return generate(self.model, self.tokenizer, prompts, sampling, samples, seed, self.batch_size, on_batch)

    def score(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """See :class:`Engine`."""
        return score(self.model, self.tokenizer.pad_token_id, prompts, completions, self.batch_size)

    def close(self) -> None:
        """See :class:`Engine`."""
        del self.model
        torch.cuda.empty_cache()  # does nothing without a GPU
